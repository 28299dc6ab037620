"""The commands people use every day."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from leeroy import __version__, showing
from leeroy.cli import asking, following, groups
from leeroy.errors import Invalid, LeeroyError

app = typer.Typer(
    name="leeroy",
    cls=groups.Everyday,
    help="Runs a project's tests, builds and deploys, with a grace period before each deploy.",
    epilog="Start with: leeroy init && leeroy check && leeroy serve",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Config = Annotated[str | None, typer.Option("--config", help="leeroy.toml", metavar="FILE")]
ServerUrl = Annotated[
    str | None, typer.Option("--server", help="ask this server (LEEROY_SERVER)", metavar="URL")
]
Json = Annotated[bool, typer.Option("--json", help="one JSON object or array on stdout")]
Id = Annotated[
    int,
    typer.Argument(metavar="ID", parser=groups.build_id, help="the build's number, or its page"),
]
Environment = Annotated[str | None, typer.Option("--environment", "-e", metavar="E")]
Reason = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="for the record")]
Wait = Annotated[bool, typer.Option("--wait", help="until it is over; exit code 1 if it failed")]


def _version(wanted: bool) -> None:
    if wanted:
        showing.out(f"leeroy {__version__}")
        raise typer.Exit


@app.callback()
def leeroy(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="which Leeroy this is"),
    ] = False,
) -> None:
    """Runs a project's tests, builds and deploys, with a grace period before each deploy."""


def _answer(found: Any, json: bool) -> None:
    if json:
        showing.as_json(_bare(found))
    else:
        showing.out(found.get("answer") or showing.whole(found))


def _bare(build: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in build.items() if key != "answer"}


def _waited(leeroy: asking.Leeroy, build: dict[str, Any], json: bool, confirm: bool) -> int:
    build = following.until_over(leeroy, build, confirm=confirm)
    if json:
        showing.as_json(build)
    else:
        showing.out(showing.whole(build))
    return 0 if build["state"] in ("done", "superseded") else 1


@app.command()
def trigger(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE")],
    branch: Annotated[str | None, typer.Option("--branch", "-b", metavar="B")] = None,
    commit: Annotated[str | None, typer.Option("--commit", metavar="SHA")] = None,
    no_deploy: Annotated[bool, typer.Option("--no-deploy", help="test and build only")] = False,
    wait: Wait = False,
    json: Json = False,
    config: Config = None,
    server: ServerUrl = None,
) -> int:
    """Build a pipeline: its repository's HEAD, a branch, or a commit (then tested only)."""
    with asking.leeroy(server, config) as leeroy:
        build = leeroy.call(
            "trigger",
            name=pipeline,
            branch=branch,
            commit=commit,
            deploys=False if no_deploy else None,
        )
        return _begun(leeroy, build, wait, json)


def _begun(leeroy: asking.Leeroy, build: dict[str, Any], wait: bool, json: bool) -> int:
    if wait:
        return _waited(leeroy, build, json, confirm=True)
    if json:
        showing.as_json(build)
    else:
        showing.out(f"build {build['id']} of {build['pipeline']} is queued")
    return 0


@app.command("list")
def list_(
    pipeline: Annotated[str | None, typer.Option("--pipeline", "-p", metavar="P")] = None,
    branch: Annotated[str | None, typer.Option("--branch", "-b", metavar="B")] = None,
    state: Annotated[str | None, typer.Option("--state", metavar="S")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N")] = 20,
    json: Json = False,
    config: Config = None,
    server: ServerUrl = None,
) -> int:
    """The newest builds."""
    with asking.leeroy(server, config) as leeroy:
        found = leeroy.call("list", pipeline=pipeline, branch=branch, state=state, limit=limit)
    if json:
        showing.as_json(found)
        return 0
    for build in found:
        showing.out(showing.short(build))
    if not found:
        showing.say("no build yet; a push makes one, or `leeroy trigger PIPELINE`")
    return 0


@app.command()
def show(id: Id, json: Json = False, config: Config = None, server: ServerUrl = None) -> int:
    """One build: where it is, and its steps."""
    with asking.leeroy(server, config) as leeroy:
        _answer(leeroy.call("show", id=id), json)
    return 0


@app.command()
def events(id: Id, json: Json = False, config: Config = None, server: ServerUrl = None) -> int:
    """Every move of a build: when, who, why."""
    with asking.leeroy(server, config) as leeroy:
        found = leeroy.call("events", id=id)
    if json:
        showing.as_json(found)
        return 0
    for line in found:
        showing.out(showing.event(line))
    return 0


@app.command()
def log(
    id: Id,
    step: Annotated[str | None, typer.Option("--step", metavar="NAME")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="until it is over")] = False,
    json: Json = False,
    config: Config = None,
    server: ServerUrl = None,
) -> int:
    """What a build's scripts wrote, secrets masked."""
    with asking.leeroy(server, config) as leeroy:
        if not json:
            following.log(leeroy, id, step, follow=follow)
            return 0
        parts, cursor = [], ""
        while True:
            data, cursor, _ = leeroy.log(id, step, cursor)
            if not data:
                break
            parts.append(data)
        text = b"".join(parts).decode("utf-8", "replace")
        showing.as_json({"id": id, "step": step, "log": text})
    return 0


@app.command()
def why(id: Id, json: Json = False, config: Config = None, server: ServerUrl = None) -> int:
    """Why a build waits."""
    with asking.leeroy(server, config) as leeroy:
        found = leeroy.call("why", id=id)
    if json:
        showing.as_json(found)
    else:
        showing.out(f"build {id} ({found['state']}): {found['why']}")
    return 0


@app.command()
def cancel(
    id: Id,
    reason: Reason = None,
    force: Annotated[bool, typer.Option("--force", help="also end a deploy that runs")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="until nothing of it runs")] = False,
    json: Json = False,
    config: Config = None,
    server: ServerUrl = None,
) -> int:
    """Stop a build or the deploy it waits for; exit code 3 when it is too late."""
    with asking.leeroy(server, config) as leeroy:
        found = leeroy.call("cancel", id=id, reason=reason, force=force or None)
        if wait and found["state"] != "cancelled":
            showing.say(found["answer"])
            found = following.until_over(leeroy, found, confirm=False)
            _answer(found, json)
            return 0 if found["state"] == "cancelled" else 1
        _answer(found, json)
    return 0


@app.command()
def hold(
    id: Id,
    reason: Reason = None,
    json: Json = False,
    config: Config = None,
    server: ServerUrl = None,
) -> int:
    """Keep a deploy that waits until a person approves it."""
    with asking.leeroy(server, config) as leeroy:
        _answer(leeroy.call("hold", id=id, reason=reason), json)
    return 0


@app.command()
def approve(
    id: Id,
    environment: Environment = None,
    json: Json = False,
    config: Config = None,
    server: ServerUrl = None,
) -> int:
    """Let a deploy go on now, or a fork's tests start; lifts no freeze."""
    with asking.leeroy(server, config) as leeroy:
        _answer(leeroy.call("approve", id=id, environment=environment), json)
    return 0


@app.command()
def retry(
    id: Id, wait: Wait = False, json: Json = False, config: Config = None, server: ServerUrl = None
) -> int:
    """Run a finished build again: same commit and place, today's pipeline."""
    with asking.leeroy(server, config) as leeroy:
        return _begun(leeroy, leeroy.call("retry", id=id), wait, json)


@app.command()
def deploy(
    id: Id,
    to: Annotated[str, typer.Option("--to", metavar="ENVIRONMENT")],
    now: Annotated[bool, typer.Option("--now", help="without a grace period")] = False,
    wait: Wait = False,
    json: Json = False,
    config: Config = None,
    server: ServerUrl = None,
) -> int:
    """Deploy a build that passed before: a rollback. Freezes the environment until `thaw`."""
    with asking.leeroy(server, config) as leeroy:
        return _begun(leeroy, leeroy.call("deploy", id=id, to=to, now=now or None), wait, json)


@app.command()
def resolve(
    id: Id,
    outcome: Annotated[str, typer.Argument(metavar="done|failed|again")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="how you know")],
    environment: Environment = None,
    json: Json = False,
    config: Config = None,
    server: ServerUrl = None,
) -> int:
    """Say how an interrupted deploy ended, or that it is to be run again."""
    with asking.leeroy(server, config) as leeroy:
        found = leeroy.call(
            "resolve", id=id, outcome=outcome, reason=reason, environment=environment
        )
        _answer(found, json)
    return 0


All = Annotated[bool, typer.Option("--all", help="every environment, also those to come")]
Which = Annotated[str | None, typer.Argument(metavar="[PIPELINE/]ENVIRONMENT")]


def _which(which: str | None, every: bool) -> str:
    if (which is None) == (not every):
        raise Invalid("name one environment, or --all of them")
    return which or "*"


def _environments(found: Any, json: bool) -> int:
    if json:
        showing.as_json(found)
        return 0
    for line in found:
        showing.out(showing.environment(line))
    if not found:
        showing.say("no environment yet: a pipeline with a [[deploy]] makes one")
    return 0


@app.command()
def freeze(
    which: Which = None,
    every: All = False,
    reason: Reason = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="2h, 18:30")] = None,
    json: Json = False,
    config: Config = None,
    server: ServerUrl = None,
) -> int:
    """Let no deploy start in an environment, until `thaw`."""
    with asking.leeroy(server, config) as leeroy:
        found = leeroy.call("freeze", which=_which(which, every), reason=reason, until=until)
    return _environments(found["environments"], json)


@app.command()
def thaw(
    which: Which = None,
    every: All = False,
    json: Json = False,
    config: Config = None,
    server: ServerUrl = None,
) -> int:
    """
    Let deploys go on; those that wait are announced again.

    Exit code 3 when nothing of it is frozen. --all ends every freeze, also those of single
    environments.
    """
    with asking.leeroy(server, config) as leeroy:
        found = leeroy.call("thaw", which=_which(which, every))
    showing.say(found["answer"])
    return _environments(found["environments"], json)


@app.command()
def environments(json: Json = False, config: Config = None, server: ServerUrl = None) -> int:
    """What runs where, and what is frozen."""
    with asking.leeroy(server, config) as leeroy:
        return _environments(leeroy.call("environments"), json)


def run(arguments: list[str] | None = None) -> int:
    """Run a command; returns its exit code, errors said on stderr."""
    from leeroy.cli import upkeep

    upkeep.add(app)
    try:
        code = app(args=arguments, standalone_mode=False)
    except LeeroyError as exc:
        showing.say(f"leeroy: {exc}")
        return exc.exit_code
    except typer.Abort:
        return 130
    except KeyboardInterrupt:
        return 130
    except Exception as exc:
        shown = getattr(exc, "show", None)
        if shown is None or not hasattr(exc, "exit_code"):
            raise
        shown(file=sys.stderr)
        return int(exc.exit_code)
    return code if isinstance(code, int) else 0
