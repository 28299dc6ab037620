"""
A first leeroy.toml, pipeline and secret; nothing that is there is touched.

With `system`: a user, /etc/leeroy, /var/lib/leeroy and a systemd unit.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from difflib import get_close_matches
from pathlib import Path
from secrets import token_urlsafe

from leeroy.errors import Invalid, NotFound, Unavailable

_HERE = Path(__file__).resolve().parent
_USER = "leeroy"
_UNIT = Path("/etc/systemd/system/leeroy.service")

_TOML = """\
# What Leeroy's own machine needs; every key has a default.  `leeroy check` finds mistakes.
# url = "https://leeroy.example.com"    # where people reach this server; every link starts so
listen = "127.0.0.1:8082"
{data}env_file = "secrets.env"

# Who is told.  Put OPS_MAIL=mailtos://user:password@mail.example.com/?to=ops@example.com
# (or any other Apprise address) into secrets.env, then take the # away.
# [[notify]]
# to = "env:OPS_MAIL"
# on = ["deploy_pending", "done", "failed", "deploy_failed", "interrupted", "cancelled"]
"""

_BY_HAND = """\
# Started by hand: `leeroy trigger {name}`.  With repository = "…" a push starts it.
[[test]]
name = "hello"
run = "echo 'the tests of {name} go here'"

[[deploy]]
environment = "production"
run = "echo 'and the way to production here'"
grace = "30s"
"""

_PUSHED = """\
# A push to the default branch is tested, then deployed; `leeroy hook show {name}` says what to
# enter in the forge.  Every key: docs/configuration.md
repository = "{repository}"
secret = "env:{secret}"

[[test]]
name = "unit"
run = "make test"

[[deploy]]
environment = "production"
run = "make deploy"
"""


def folder(where: Path, repository: str | None, example: str | None) -> list[str]:
    """Fill a folder; returns what to tell.  Raises Invalid when there is a leeroy.toml already."""
    if (where / "leeroy.toml").exists():
        raise Invalid(f"{where / 'leeroy.toml'} is there already; nothing was changed")
    made = _fill(where, repository, example, data="")
    start = "leeroy check && leeroy serve"
    if where.resolve() != Path.cwd():
        start = f"cd {where} && {start}"
    return [*(f"made {path}" for path in made), f"next: {start}"]


def system(repository: str | None, example: str | None) -> list[str]:
    """Set up this host: user, /etc/leeroy, /var/lib/leeroy, the unit.  Needs root."""
    if os.geteuid() != 0:
        raise Invalid("`leeroy init --system` makes a user and a service, and so needs root")
    where, data = Path("/etc/leeroy"), Path("/var/lib/leeroy")
    if (where / "leeroy.toml").exists():
        raise Invalid(f"{where / 'leeroy.toml'} is there already; nothing was changed")
    told = []
    if subprocess.run(["id", _USER], capture_output=True, check=False).returncode != 0:
        made = subprocess.run(
            ["useradd", "--system", "--home-dir", str(data), "--shell", "/usr/sbin/nologin", _USER],
            capture_output=True,
            check=False,
        )
        if made.returncode != 0:
            raise Unavailable(f"useradd failed: {made.stderr.decode(errors='replace').strip()}")
        told.append(f"made the user {_USER}")
    where.mkdir(mode=0o755, exist_ok=True)
    data.mkdir(mode=0o700, exist_ok=True)
    shutil.chown(data, _USER, _USER)
    files = _fill(where, repository, example, data=f'data = "{data}"\n')
    shutil.chown(where / "secrets.env", _USER, _USER)
    program = Path(sys.argv[0]).resolve()
    if not program.is_file() or not os.access(program, os.X_OK):
        program = Path(sys.executable).with_name("leeroy")
    unit = (_HERE / "leeroy.service").read_text(encoding="utf-8")
    _UNIT.write_text(unit.replace("/usr/local/bin/leeroy", str(program)), encoding="utf-8")
    told += [f"made {path}" for path in (*files, data, _UNIT)]
    return [*told, "next: leeroy check && systemctl enable --now leeroy"]


def _fill(where: Path, repository: str | None, example: str | None, data: str) -> list[Path]:
    name = _name(repository, where)
    secret = re.sub(r"[^A-Z0-9]", "_", name.upper()) + "_HOOK_SECRET"
    if re.match(r"[0-9]", secret):
        secret = f"_{secret}"
    text = _pipeline(name, repository, secret, example)
    pipelines = where / "pipelines"
    pipelines.mkdir(parents=True, exist_ok=True)
    file = pipelines / f"{name}.toml"
    if file.exists():
        raise Invalid(f"{file} is there already; nothing was changed")
    secrets = where / "secrets.env"
    if not secrets.exists():
        named = sorted(set(re.findall(r'"env:([A-Za-z0-9_]+)"', text)) | {secret})
        lines = [f"{one}={token_urlsafe(24)}" if one == secret else f"# {one}=…" for one in named]
        fd = os.open(secrets, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as stream:
            stream.write("# Secrets; readable for their owner only.\n" + "\n".join(lines) + "\n")
    file.write_text(text, encoding="utf-8")
    settings = where / "leeroy.toml"
    settings.write_text(_TOML.format(data=data), encoding="utf-8")
    return [settings, file, secrets]


def _name(repository: str | None, where: Path) -> str:
    if repository is None:
        return "hello"
    last = re.split(r"[/:]", repository.rstrip("/"))[-1].removesuffix(".git")
    return re.sub(r"[^A-Za-z0-9_.-]", "-", last).lstrip(".-") or where.resolve().name or "shop"


def _pipeline(name: str, repository: str | None, secret: str, example: str | None) -> str:
    if repository is not None and ('"' in repository or "\\" in repository or "\n" in repository):
        raise Invalid("the repository's address holds a quote or a backslash")
    if example is None:
        if repository is None:
            return _BY_HAND.format(name=name)
        return _PUSHED.format(name=name, repository=repository, secret=secret)
    known = examples()
    if example not in known:
        near = [name for name in known if example.lower() in name]
        near = near or get_close_matches(example.lower(), known, n=2)
        meant = f"; did you mean {' or '.join(near)}?" if near else ""
        listed = ", ".join(known)
        raise NotFound(f"there is no example {example!r}{meant}; there are: {listed}")
    text = known[example].read_text(encoding="utf-8")
    text = re.sub(r'^secret = ".*?"', f'secret = "env:{secret}"', text, count=1, flags=re.M)
    if repository is not None:
        text = re.sub(
            r'^repository = ".*?"', f'repository = "{repository}"', text, count=1, flags=re.M
        )
    return text


def examples() -> dict[str, Path]:
    """The example pipelines, by name."""
    shipped = _HERE / "_pipelines"
    base = shipped if shipped.is_dir() else _HERE.parent / "pipelines"
    return {path.stem: path for path in sorted(base.glob("*.toml"))}
