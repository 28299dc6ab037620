"""
What leeroy.toml says, and the secrets that references name.

    config.load(path)             settings: the file, then LEEROY_<KEY> over it
    config.Secrets(config).get()  the value behind "env:NAME" or "file:PATH"

No database here, and no pipelines.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar
from urllib.parse import urlsplit

from leeroy import durations
from leeroy.errors import ConfigError, Mistake
from leeroy.pipelines import Target, environment, targets
from leeroy.toml import File, Section

T = TypeVar("T")

FILE = "leeroy.toml"
SYSTEM = Path("/etc/leeroy/leeroy.toml")
ANY_PORT_URL = "http://127.0.0.1:0"
"""The url while `listen` asks for any free port; serve puts the found one into it."""
_NO_SETTINGS = frozenset({"LEEROY_CONFIG", "LEEROY_SERVER", "LEEROY_TOKEN"})
_OF_SCRIPTS = re.compile(
    "LEEROY_(BUILD|PIPELINE|REPOSITORY|BRANCH|TAG|COMMIT|PULL_REQUEST|STAGE|STEP|ATTEMPT"
    "|ENVIRONMENT|DEPLOY|BUILD_URL|SLOT|WORKSPACE|ARTIFACTS|RUN|RUN_DIR)"
)
"""What a script of Leeroy's own sees, should it start a Leeroy."""
_TEXTS = re.compile(
    "url|listen|data|database|pipelines|env_file|mail|keep|max_log|max_artifacts|min_free|stale_after"
)


@dataclass(frozen=True, kw_only=True)
class Config:
    """
    The settings in force; every path is absolute, every length in seconds or bytes.

    `file` is where they were read, None without a file.  `warnings` are
    doubtful things that stop nothing.
    """

    file: Path | None
    url: str
    host: str
    port: int
    data: Path
    database: str
    pipelines: Path
    slots: int
    env_file: Path | None
    mail: str | None
    keep_s: float
    max_log: int
    max_artifacts: int
    min_free: int
    stale_after_s: float
    trusted_proxies: tuple[str, ...]
    env: Mapping[str, str]
    executors: Mapping[str, tuple[str, ...]]
    notify: tuple[Target, ...]
    warnings: tuple[Mistake, ...]


def load(path: str | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """
    The settings: from *path*, $LEEROY_CONFIG, ./leeroy.toml or /etc/leeroy/leeroy.toml.

    LEEROY_<KEY> in *environ* wins.  Without a file the defaults hold, and
    relative paths are relative to the working folder.

    Raises:
        ConfigError: With every mistake found, or because the named file is not there.
    """
    file = _find(path, environ)
    text = ""
    if file is not None:
        text = _read(file)
    source = File(text, str(file or "the environment"))
    if source.mistakes:
        raise ConfigError(*source.mistakes)
    source.data |= _overrides(source, environ)
    config = _config(source.root, file)
    wrong = [mistake for mistake in source.mistakes if not mistake.warning]
    if wrong:
        raise ConfigError(*wrong)
    return config


def _find(path: str | None, environ: Mapping[str, str]) -> Path | None:
    named = path or environ.get("LEEROY_CONFIG")
    if named:
        return Path(named).absolute()
    return next((f for f in (Path(FILE).absolute(), SYSTEM) if f.is_file()), None)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as exc:
        raise ConfigError(Mistake(str(file), 0, "", "is not UTF-8; save it as UTF-8")) from exc
    except OSError as exc:
        why = f"cannot be read: {exc.strerror}; `leeroy init` makes a first one"
        raise ConfigError(Mistake(str(file), 0, "", why)) from exc


def _overrides(source: File, environ: Mapping[str, str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in sorted(environ.items()):
        if not name.startswith("LEEROY_") or name in _NO_SETTINGS or _OF_SCRIPTS.fullmatch(name):
            continue
        key = name.removeprefix("LEEROY_").lower()
        if _TEXTS.fullmatch(key):
            found[key] = value
        elif key == "slots":
            if value.isascii() and value.isdigit():
                found[key] = int(value)
            else:
                source.wrong((), f"{name} must be a whole number, and is {value!r}")
        elif key == "trusted_proxies":
            found[key] = value.replace(",", " ").split()
        elif not key.startswith("test_") and key != "torture":
            source.wrong((), f"{name} is no setting of Leeroy's, and is ignored", warning=True)
    return found


def _config(root: Section, file: Path | None) -> Config:
    base = file.parent if file is not None else Path.cwd()

    def folder(key: str, default: str) -> Path:
        return base / (_filled(root, key) or default)

    data = folder("data", "var")
    host, port = _listen(root)
    slots = root.get("slots", int, len(os.sched_getaffinity(0)))
    if slots < 1:
        root.wrong("slots", "must be 1 or more; without one nothing would ever run")
    env_file = _filled(root, "env_file")
    url = (root.text("url", f"http://127.0.0.1:{port}") or "").rstrip("/")
    if not _is_address(url):
        root.wrong("url", f'{url!r} is no address; write "https://leeroy.example.com"')
    config = Config(
        file=file,
        url=url,
        host=host,
        port=port,
        data=data,
        database=_database(root, base, data),
        pipelines=folder("pipelines", "pipelines"),
        slots=slots,
        env_file=None if env_file is None else base / env_file,
        mail=_filled(root, "mail"),
        keep_s=_positive(root, "keep", durations.seconds, 90 * 86_400.0),
        max_log=_positive(root, "max_log", durations.size, 64_000_000),
        max_artifacts=_positive(root, "max_artifacts", durations.size, 1_000_000_000),
        min_free=root.measured("min_free", durations.size, 1_000_000_000),
        stale_after_s=_positive(root, "stale_after", durations.seconds, 3600.0),
        trusted_proxies=_proxies(root),
        env=environment(root, "env"),
        executors=_executors(root),
        notify=targets(root),
        warnings=(),
    )
    root.finish()
    warnings = tuple(mistake for mistake in root.file.mistakes if mistake.warning)
    return Config(**{**config.__dict__, "warnings": warnings})


def _filled(root: Section, key: str) -> str | None:
    """A text that is not empty; None where the key is not there."""
    text = root.text(key)
    if text is not None and not text.strip():
        root.wrong(key, "is empty; write a value, or remove the line for the default")
        return None
    return text


def _is_address(url: str) -> bool:
    if not re.fullmatch(r"https?://[^/\s?#]+(/[^\s?#]*)?", url):
        return False
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and (parts.port is None or parts.port >= 0)
    except ValueError:  # a port that is none, or half an IPv6 address
        return False


def _proxies(root: Section) -> tuple[str, ...]:
    found = root.texts("trusted_proxies") or ()
    for proxy in found:
        try:
            if proxy != "*":
                ip_network(proxy)
        except ValueError:
            root.wrong(
                "trusted_proxies",
                f'{proxy!r} is no address and no network; write "127.0.0.1" or "10.0.0.0/8"',
            )
    return found


def _positive(root: Section, key: str, measure: Callable[[str], T], default: T) -> T:
    value = root.measured(key, measure, default)
    if not value:
        root.wrong(key, "must be more than nothing")
    return value


def _listen(root: Section) -> tuple[str, int]:
    text = root.text("listen", "127.0.0.1:8082") or ""
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\s]+):([0-9]{1,5})", text)
    if found is None or int(found[2]) > 65_535 or not _is_host(found[1]):
        root.wrong("listen", f'{text!r} is no address and port; write "127.0.0.1:8082"')
        return "127.0.0.1", 8082
    return found[1].strip("[]"), int(found[2])


def _is_host(text: str) -> bool:
    """Whether it is an address of IPv6 (in brackets) or IPv4, or may be a name."""
    if not re.fullmatch(r"\[.*\]|[0-9.]+", text):
        return re.fullmatch(r"[A-Za-z0-9_.-]+", text) is not None
    try:
        return ip_address(text.strip("[]")).version == (6 if text.startswith("[") else 4)
    except ValueError:
        return False


def _database(root: Section, base: Path, data: Path) -> str:
    text = root.text("database")
    if text is None:
        return f"sqlite:///{data / 'leeroy.db'}"
    if text.startswith("sqlite:///") and text.removeprefix("sqlite:///").strip("./"):
        return f"sqlite:///{base / text.removeprefix('sqlite:///')}"
    if text.startswith(("postgresql://", "postgres://")):
        return "postgresql+psycopg://" + text.partition("://")[2]
    if not text.startswith("postgresql+psycopg://"):
        # the address is not repeated: it may hold a password
        root.wrong(
            "database",
            'must be "sqlite:///var/leeroy.db" or "postgresql+psycopg://user@host/name"',
        )
    return text


def _executors(root: Section) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for name, data in root.get("executors", dict, {}).items():
        section = Section(root.file, ("executors", name), data if isinstance(data, dict) else {})
        wrap = section.texts("wrap")
        section.finish()
        if not wrap:
            section.wrong("wrap", 'is missing; write the prefix as a list, wrap = ["podman", …]')
        if name == "local":
            section.wrong("", "the name local is taken: it means without a prefix")
        found[name] = wrap or ()
    return MappingProxyType(found)


class Secrets:
    """The values behind references; read anew each time, so that a rotation needs no restart."""

    def __init__(self, config: Config, environ: Mapping[str, str] = os.environ) -> None:
        self._config = config
        self._environ = environ

    def get(self, reference: str) -> str:
        """
        The secret, without the line's end of a file.

        Raises:
            ConfigError: It is not there, or others may read it; its value is never named.
        """
        kind, _, name = reference.partition(":")
        if kind == "env":
            return self._variable(reference, name)
        if kind == "file":
            return self._file(reference, name)
        raise self._wrong("", 'a secret is named as "env:NAME" or "file:PATH"')

    def _variable(self, reference: str, name: str) -> str:
        value = self._environ.get(name)
        if value is None and self._config.env_file is not None:
            value = env_lines(self._config.env_file).get(name)
        if not value:
            where = self._config.env_file or "an env_file"
            raise self._wrong(reference, f"is not set; set {name}, or write it into {where}")
        return value

    def _file(self, reference: str, name: str) -> str:
        base = self._config.file.parent if self._config.file is not None else Path.cwd()
        try:
            value = (base / name).read_text(encoding="utf-8").removesuffix("\n")
        except (OSError, UnicodeDecodeError) as exc:
            why = getattr(exc, "strerror", None) or "it is no UTF-8 text"
            raise self._wrong(reference, f"cannot be read: {why}") from exc
        if not value:
            raise self._wrong(reference, "is empty; write the secret into it")
        return value

    def _wrong(self, reference: str, text: str) -> ConfigError:
        where = str(self._config.file or FILE)
        return ConfigError(Mistake(where, 0, "", f"{reference} {text}".strip()))


def env_lines(file: Path) -> dict[str, str]:
    """
    The NAME=value lines of a file that only its owner may read.

    Blank lines and those that start with # are skipped; a value may stand in
    quotes.  Raises ConfigError with the line, never the value.
    """
    try:
        mode = file.stat().st_mode
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        why = getattr(exc, "strerror", None) or "it is no UTF-8 text"
        raise ConfigError(Mistake(str(file), 0, "", f"cannot be read: {why}")) from exc
    if stat.S_IMODE(mode) & 0o077:
        why = f"others may read it (mode {stat.S_IMODE(mode):04o}); run `chmod 600 {file}`"
        raise ConfigError(Mistake(str(file), 0, "", why))
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip()
        if not bare or bare.startswith("#"):
            continue
        name, equals, value = bare.removeprefix("export ").partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name.strip()):
            raise ConfigError(Mistake(str(file), number, "", "is no NAME=value line"))
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        found[name.strip()] = value
    return found
