// Pages work without this; it only counts down, and follows what happens.
"use strict";

for (const line of document.querySelectorAll("[data-left]")) {
  const end = performance.now() + Number(line.dataset.left) * 1000;
  const shown = line.querySelector(".seconds");
  const tick = () => {
    const left = Math.max(0, Math.ceil((end - performance.now()) / 1000));
    if (shown) shown.textContent = `${left} s`;
    if (left > 0) setTimeout(tick, 200);
    else setTimeout(() => location.replace(location.pathname), 1500);
  };
  tick();
}

const build = document.getElementById("build");
const log = document.getElementById("log");
if (build && log && build.dataset.over !== "true") {
  const base = `/api/v1/builds/${build.dataset.build}`;
  const controls = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u206f]/g;
  const follow = async () => {
    try {
      const piece = await fetch(`${base}/log?cursor=${encodeURIComponent(log.dataset.cursor)}`);
      if (piece.ok) {
        const text = await piece.text();
        const below = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
        log.append(text.replace(/\u001b(\][^\u0007\u001b]*(\u0007|\u001b\\)?|\[[0-?]*[ -/]*[@-~]?|.)?/g, "").replace(controls, ""));
        log.dataset.cursor = piece.headers.get("X-Leeroy-Cursor");
        if (below) log.scrollTop = log.scrollHeight;
      }
      const now = await (await fetch(base)).json();
      if (String(now.version) !== build.dataset.version) return location.replace(location.pathname);
    } catch { /* the server restarts: look again */ }
    setTimeout(follow, 1000);
  };
  log.scrollTop = log.scrollHeight;
  setTimeout(follow, 500);
}
