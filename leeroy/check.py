"""
What `leeroy check` finds: every mistake in the settings and the pipelines, with its remedy.

Reads files and secrets and changes nothing; online it also asks each
repository and each target's server whether it answers.
"""

from __future__ import annotations

import socket
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from leeroy import pipelines, shelf
from leeroy.catchup.asking import environment
from leeroy.config import Config, Secrets, env_lines, load
from leeroy.errors import ConfigError, LeeroyError, Mistake
from leeroy.notify import targets
from leeroy.notify.compose import is_loopback
from leeroy.pipelines import Deploy, Pipeline, Target
from leeroy.runner import checkout
from leeroy.terms import State
from leeroy.toml import File

_ONLINE_S = 30.0


def everything(
    path: str | None, files: Sequence[Path], environ: Mapping[str, str], *, online: bool = False
) -> list[Mistake]:
    """Every mistake and every warning; *files* are the pipelines, those in force without any."""
    try:
        config = load(path, environ)
    except ConfigError as exc:
        return list(exc.mistakes)
    secrets = Secrets(config, environ)
    found = list(config.warnings)
    if config.env_file is not None:
        try:
            env_lines(config.env_file)
        except ConfigError as exc:
            found += exc.mistakes
    found += _house(config, secrets)
    chosen = list(files) or shelf.files(config.pipelines)
    if not chosen:
        text = "holds no pipeline yet; `leeroy init` makes a first one"
        found.append(Mistake(str(config.pipelines), 0, "", text, warning=True))
    for file in chosen:
        found += _file(config, secrets, file, environ, online=online)
    if online:
        found += _ask_targets(config, secrets, config.notify, str(config.file or "leeroy.toml"))
    return list(dict.fromkeys(found))


def _house(config: Config, secrets: Secrets) -> list[Mistake]:
    source = _source(config.file)
    for index, target in enumerate(config.notify):
        _target(source, ("notify", index, "to"), target, config, secrets)
    if config.mail is not None:
        _address(source, ("mail",), config.mail, secrets)
    return source.mistakes


def _source(file: Path | None) -> File:
    text = file.read_text(encoding="utf-8") if file is not None else ""
    return File(text, str(file or "leeroy.toml"))


def _file(
    config: Config, secrets: Secrets, file: Path, environ: Mapping[str, str], *, online: bool
) -> Iterator[Mistake]:
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        yield Mistake(str(file), 0, "", "is not UTF-8; save it as UTF-8")
        return
    except OSError as exc:
        yield Mistake(str(file), 0, "", f"cannot be read: {exc.strerror}")
        return
    pipeline, mistakes = pipelines.read(text, name=file.stem, file=str(file))
    yield from mistakes
    if pipeline is None:
        return
    source = File(text, str(file))
    _references(source, pipeline, secrets)
    _executors(source, pipeline, config)
    for index, target in enumerate(pipeline.notify):
        _target(source, ("notify", index, "to"), target, config, secrets)
    _listeners(source, pipeline, config)
    yield from source.mistakes
    if online:
        if pipeline.repository is not None:
            yield from _ask_repository(str(file), pipeline, config, secrets, environ)
        yield from _ask_targets(config, secrets, pipeline.notify, str(file))


def _references(source: File, pipeline: Pipeline, secrets: Secrets) -> None:
    named: list[tuple[tuple[str | int, ...], str]] = []
    named += [(("secret",), reference) for reference in pipeline.secrets]
    for key in ("token", "ssh_key"):
        reference = getattr(pipeline, key)
        if reference is not None:
            named.append(((key,), reference))
    for stage, scripts in (
        ("test", pipeline.tests),
        ("build", pipeline.builds),
        ("deploy", [deploy.script for deploy in pipeline.deploys]),
    ):
        for index, script in enumerate(scripts):
            for name, reference in script.secrets.items():
                named.append(((stage, index, "secrets", name), reference))
    for place, reference in named:
        try:
            secrets.get(reference)
        except ConfigError as exc:
            source.wrong(place, exc.mistakes[0].text)


def _executors(source: File, pipeline: Pipeline, config: Config) -> None:
    known = [pipelines.LOCAL, *config.executors]
    for stage, scripts in (
        ("test", pipeline.tests),
        ("build", pipeline.builds),
        ("deploy", [deploy.script for deploy in pipeline.deploys]),
    ):
        for index, script in enumerate(scripts):
            if script.executor not in known:
                text = f"{script.executor!r} is not in leeroy.toml; there are: {', '.join(known)}"
                source.wrong((stage, index, "executor"), text)


def _target(
    source: File,
    place: tuple[str | int, ...],
    target: Target,
    config: Config,
    secrets: Secrets,
) -> None:
    if target.to == "author":
        if config.mail is None:
            text = 'needs mail in leeroy.toml, the address that sends: mail = "env:MAIL_URL"'
            source.wrong(place, text)
        return
    _address(source, place, target.to, secrets)
    if is_loopback(config.url) and not _inside(target.to, secrets):
        text = (
            f"people elsewhere cannot open links to {config.url}; "
            "set url in leeroy.toml to the address they reach this server at"
        )
        source.wrong(place, text, warning=True)


def _address(source: File, place: tuple[str | int, ...], to: str, secrets: Secrets) -> None:
    try:
        wrong = targets.mistake(_value(to, secrets))
    except ConfigError as exc:
        wrong = exc.mistakes[0].text
    if wrong is not None:
        source.wrong(place, wrong)


def _value(to: str, secrets: Secrets) -> str:
    return secrets.get(to) if to.startswith(("env:", "file:")) else to


def _inside(to: str, secrets: Secrets) -> bool:
    """Whether a target is a service on this machine, whose reader is here too."""
    try:
        url = _value(to, secrets)
    except ConfigError:
        return True  # said already
    rest = url.partition("://")[2].partition("/")[0].rpartition("@")[2]
    return is_loopback(f"http://{rest}")


def _listeners(source: File, pipeline: Pipeline, config: Config) -> None:
    told = [t for t in (*pipeline.notify, *config.notify) if t.hears(State.deploy_pending)]
    if told:
        return
    for index, deploy in enumerate(pipeline.deploys):
        if _has_grace(deploy):
            text = (
                "nobody is told of a pending deploy, so its grace period is over at once; "
                'add a [[notify]] that hears "deploy_pending", here or in leeroy.toml'
            )
            source.wrong(("deploy", index, "environment"), text, warning=True)


def _has_grace(deploy: Deploy) -> bool:
    return deploy.grace_s > 0 and not deploy.approve


# --- online


def _ask_repository(
    file: str,
    pipeline: Pipeline,
    config: Config,
    secrets: Secrets,
    environ: Mapping[str, str],
) -> Iterator[Mistake]:
    assert pipeline.repository is not None
    with tempfile.TemporaryDirectory(prefix="leeroy-check-") as folder:
        request = Path(folder, checkout.REQUEST)
        try:
            text = checkout.request(
                repository=pipeline.repository,
                workspace=Path(folder, "workspace"),
                mirror=Path(folder, "mirror"),
                token=secrets.get(pipeline.token) if pipeline.token else None,
                ssh_key=secrets.get(pipeline.ssh_key) if pipeline.ssh_key else None,
            )
        except ConfigError:
            return  # said already
        request.touch(mode=0o600)
        request.write_text(text, encoding="utf-8")
        try:
            done = subprocess.run(
                checkout.argv(request, online_check=True),
                env=environment(config, environ, pipeline, Path(folder)),
                cwd=folder,
                capture_output=True,
                timeout=_ONLINE_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            said = f"does not answer within {_ONLINE_S:.0f} s"
        else:
            if done.returncode == 0:
                return
            words = (done.stdout + done.stderr).decode("utf-8", "replace").strip().splitlines()
            said = words[-1] if words else f"git exited {done.returncode}"
    yield Mistake(file, 0, "repository", said)


def _ask_targets(
    config: Config, secrets: Secrets, listed: Iterable[Target], file: str
) -> Iterator[Mistake]:
    import apprise

    for target in listed:
        if target.to == "author":
            continue
        try:
            url = _value(target.to, secrets)
            recipients = targets.split(url)
        except LeeroyError:
            continue  # said already
        plugin = apprise.Apprise.instantiate(recipients[0].url, suppress_exceptions=True)
        name = targets.label(url)
        if plugin is None:
            yield Mistake(file, 0, "notify", f"{name}: Apprise does not understand this address")
            continue
        host = getattr(plugin, "smtp_host", None) or getattr(plugin, "host", None)
        port = getattr(plugin, "port", None)
        if not host or not port:
            continue
        try:
            socket.create_connection((host, port), timeout=5).close()
        except OSError as exc:
            yield Mistake(file, 0, "notify", f"{name}: {host}:{port} does not answer: {exc}")
