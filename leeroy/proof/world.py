"""The WORLD log: the lines that scripts under test append to one file, and how they are read."""

from __future__ import annotations

import time
from pathlib import Path

from leeroy.proof.history import Mark
from leeroy.terms import Stage

SCRIPT = """
mark() {
    read -r up idle < /proc/uptime
    echo "$up $1 $LEEROY_BUILD $LEEROY_STAGE $LEEROY_STEP ${LEEROY_ENVIRONMENT:--} \
$LEEROY_ATTEMPT $LEEROY_RUN $LEEROY_WORKSPACE ${2:--} ${3:--} ${4:--}" >> '@WORLD@'
}
said="build $LEEROY_BUILD, attempt $LEEROY_ATTEMPT of $LEEROY_STAGE $LEEROY_STEP"
mark start "$(git rev-parse HEAD 2>/dev/null || true)"
echo "$said"
for beat in @BEATS@; do sleep @PAUSE@; mark beat; done
mark end - @CODE@ "$(echo "$said" | sha256sum | cut -d' ' -f1)"
exit @CODE@
"""
"""
A script that tells what it does: one append (so: one atomic write) for each line.

`/proc/uptime` counts from the boot; no clock change moves it.
"""


def script(world: Path, *, code: int = 0, beats: int = 2, pause_s: float = 0.05) -> str:
    """A script that marks its start, *beats* signs of life and its end, and exits with *code*."""
    values = {
        "WORLD": str(world),
        "BEATS": " ".join(str(n) for n in range(beats)),
        "PAUSE": str(pause_s),
        "CODE": str(code),
    }
    text = SCRIPT
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def now() -> float:
    """Seconds since the boot, by the clock the scripts read."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def read(world: Path) -> list[Mark]:
    """Every mark; a log that does not exist yet has none."""
    if not world.exists():
        return []
    return [_mark(line) for line in world.read_text(encoding="utf-8").splitlines()]


def _mark(line: str) -> Mark:
    at, what, build, stage, name, where, attempt, run, workspace, commit, code, digest = (
        None if word == "-" else word for word in line.split(" ")
    )
    assert at and what and build and stage and name and attempt and run and workspace, line
    return Mark(
        at=float(at),
        what=what,
        build=int(build),
        stage=Stage(stage),
        name=name,
        environment=where,
        attempt=int(attempt),
        run=run,
        workspace=workspace,
        commit=commit,
        code=None if code is None else int(code),
        sha256=digest,
    )
