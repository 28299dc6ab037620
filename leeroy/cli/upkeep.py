"""The commands that start a Leeroy and keep it well."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from leeroy import showing
from leeroy.cli import asking, judging
from leeroy.cli.app import Config, Json, ServerUrl
from leeroy.errors import Invalid, NotFound, Unavailable

_added: set[int] = set()


def add(app: typer.Typer) -> None:
    """Put the commands of this module behind those of every day."""
    if id(app) in _added:
        return
    _added.add(id(app))
    app.command()(serve)
    app.command()(demo)
    app.command()(init)
    app.command()(check)
    app.command()(doctor)
    app.command()(judging.verdict)
    app.command()(judging.replay)
    hook = _group(app, "hook", "What a forge's webhook settings need.")
    hook.command("show")(hook_show)
    hook.command("add")(hook_add)
    notify = _group(app, "notify", "Whether people can be told.")
    notify.command("test")(notify_test)
    token = _group(app, "token", "Who may ask this server.")
    token.command("add")(token_add)
    token.command("list")(token_list)
    token.command("remove")(token_remove)
    for seldom in (migrate, states, backup, crashtest):
        app.command()(seldom)


def _group(app: typer.Typer, name: str, text: str) -> typer.Typer:
    group = typer.Typer(help=text, no_args_is_help=True, rich_markup_mode=None)
    app.add_typer(group, name=name)
    return group


def serve(json: Json = False, config: Config = None) -> int:
    """Serve: web, hooks, scheduler, runner and notices."""
    # What is imported is there to stay: to look for garbage in it takes a tenth of the start,
    # and again and again a moment of the hours after it.  Not longer: a start may wait for a disk.
    gc.disable()
    from leeroy import serve as server
    from leeroy.config import load

    gc.freeze()
    gc.enable()
    server.set_up_log(verbose=False)
    found = load(config)
    for warning in found.warnings:
        showing.say(f"warning: {warning}")

    def ready(address: str) -> None:
        if json:
            showing.as_json({"address": address})
        else:
            showing.out(f"leeroy serves {address}")
        sys.stdout.flush()

    return server.serve(found, asking.clock(), ready)


def demo(
    once: Annotated[bool, typer.Option("--once", help="tell the story once, and leave")] = False,
    json: Json = False,
) -> int:
    """The whole story on a throw-away repository: push, tests, a stop, a deploy."""
    from leeroy import demo as story

    return story.run(once=once, json=json)


def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]")] = Path(),
    repo: Annotated[str | None, typer.Option("--repo", metavar="URL")] = None,
    system: Annotated[bool, typer.Option("--system", help="user, /etc/leeroy, systemd")] = False,
    example: Annotated[str | None, typer.Option("--example", metavar="NAME")] = None,
    json: Json = False,
) -> int:
    """Make a leeroy.toml, a first pipeline and a secret."""
    from leeroy import init as first

    made = first.system(repo, example) if system else first.folder(folder, repo, example)
    if json:
        showing.as_json({"done": made})
    else:
        for line in made:
            showing.out(line)
    return 0


def check(
    files: Annotated[list[Path] | None, typer.Argument(metavar="[FILE…]")] = None,
    online: Annotated[
        bool, typer.Option("--online", help="also ask each repository and target")
    ] = False,
    json: Json = False,
    config: Config = None,
) -> int:
    """Name file, line, key and remedy of every mistake; exit code 1 if there is one."""
    from leeroy import check as checks

    mistakes = checks.everything(config, files or [], os.environ, online=online)
    wrong = [m for m in mistakes if not m.warning]
    if json:
        showing.as_json(
            [
                {
                    "file": m.file,
                    "line": m.line or None,
                    "key": m.key or None,
                    "text": m.text,
                    "warning": m.warning,
                }
                for m in mistakes
            ]
        )
    else:
        for mistake in mistakes:
            showing.out(f"warning: {mistake}" if mistake.warning else str(mistake))
        if not wrong:
            showing.out("no mistakes found")
    return 1 if wrong else 0


def doctor(json: Json = False, config: Config = None) -> int:
    """How this Leeroy is, and what to do about what is not well."""
    from leeroy import doctor as health

    found = health.examine(config, os.environ, asking.clock())
    if json:
        showing.as_json([{"well": line.well, "text": line.text} for line in found])
    else:
        for line in found:
            showing.out(f"{'well ' if line.well else 'LOOK '} {line.text}")
    return 0 if all(line.well for line in found) else 1


def hook_show(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE")],
    secret: Annotated[bool, typer.Option("--secret", help="show the secret itself")] = False,
    json: Json = False,
    config: Config = None,
) -> int:
    """What to enter in the forge's webhook settings."""
    from leeroy import hooks, webhooks
    from leeroy.config import Secrets, load
    from leeroy.pipelines import parse

    found = load(config)
    file = found.pipelines / f"{pipeline}.toml"
    if not file.is_file():
        raise NotFound(f"there is no pipeline {pipeline!r}: {file} does not exist")
    text = file.read_text(encoding="utf-8")
    read = parse(text, name=pipeline, file=str(file))
    if not read.secrets:
        raise Invalid(f'{file}: has no secret, so no hook is accepted; write secret = "env:NAME"')
    secrets = Secrets(found)
    chosen = hooks.chosen(read.secrets, read.forge, secrets.get)
    value = secrets.get(chosen.reference) if secret else None
    forms = webhooks.forms(read, found.url, chosen, value)
    if json:
        first = forms[0]
        shown = {
            "pipeline": pipeline,
            "repository": read.repository,
            "url": first.url,
            "content_type": "application/json",
            "events": list(first.events),
            "secret": chosen.reference,
            "forges": [
                {"forge": one.forge, "url": one.url, "events": list(one.events)} for one in forms
            ],
        }
        if secret:
            shown["secret_value"] = value
        showing.as_json(shown)
        return 0
    for number, form in enumerate(forms):
        showing.out(f"{chr(10) if number else ''}{form.title}: {form.where}")
        for label, text in form.lines:
            showing.out(f"  {label:<22}{text}")
    if chosen.signs:
        showing.say(f"{chosen.reference} is a signing token: no other secret counts beside it")
    elif len(forms) > 1:
        showing.say('`forge = "…"` in the pipeline shows only one of them')
    return 0


def hook_add(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE")],
    json: Json = False,
    config: Config = None,
) -> int:
    """Register the webhook on the forge, with the pipeline's token; again brings it up to date."""
    from leeroy import registering
    from leeroy.config import Secrets, load
    from leeroy.pipelines import parse

    found = load(config)
    file = found.pipelines / f"{pipeline}.toml"
    if not file.is_file():
        raise NotFound(f"there is no pipeline {pipeline!r}: {file} does not exist")
    read = parse(file.read_text(encoding="utf-8"), name=pipeline, file=str(file))
    added = registering.add(read, found, Secrets(found), asking.clock().now)
    if json:
        showing.as_json(
            {
                "pipeline": pipeline,
                "forge": added.forge,
                "repository": added.repository,
                "url": added.url,
                "id": added.hook.id,
                "new": added.hook.new,
            }
        )
        return 0
    what = "has the webhook now" if added.hook.new else "had the webhook; it is up to date"
    showing.out(f"{added.repository} on {added.forge} {what}: {added.url}")
    if added.secret.signs:
        showing.say(f"{added.secret.reference} is its signing token: no other secret counts now")
    return 0


def notify_test(json: Json = False, config: Config = None) -> int:
    """Send a message to every target, now."""
    from leeroy import doctor as health

    found = health.tell_everybody(config, os.environ)
    if json:
        showing.as_json([{"target": name, "error": error} for name, error in found])
    else:
        for name, error in found:
            showing.out(f"{name}: {error or 'accepted'}")
        if not found:
            showing.say("nobody is told of anything: there is no [[notify]]")
    return 1 if any(error for _, error in found) else 0


def token_add(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    role: Annotated[str, typer.Option("--role", metavar="viewer|operator|admin")],
    json: Json = False,
    config: Config = None,
    server: ServerUrl = None,
) -> int:
    """Make a token; it is shown this once."""
    with asking.leeroy(server, config) as leeroy:
        made = leeroy.call("token_add", name=name, role=role)
    if json:
        showing.as_json(made)
    else:
        showing.out(made["token"])
        showing.say(f"keep it: it is not shown again ({made['name']}, {made['role']})")
    return 0


def token_list(json: Json = False, config: Config = None, server: ServerUrl = None) -> int:
    """The tokens' names and roles."""
    with asking.leeroy(server, config) as leeroy:
        found = leeroy.call("token_list")
    if json:
        showing.as_json(found)
        return 0
    for token in found:
        showing.out(f"{token['name']:<24}{token['role']:<10}{showing.when(token['created_at'])}")
    return 0


def token_remove(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    json: Json = False,
    config: Config = None,
    server: ServerUrl = None,
) -> int:
    """Make a token useless."""
    with asking.leeroy(server, config) as leeroy:
        gone = leeroy.call("token_remove", name=name)
    if json:
        showing.as_json(gone)
    else:
        showing.out(gone["message"])
    return 0


def migrate(json: Json = False, config: Config = None) -> int:
    """Bring the database to this version's schema."""
    from leeroy.config import load
    from leeroy.db import schema

    found = load(config)
    if found.database.startswith("sqlite"):
        found.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    changed = schema.ensure(found.database, migrate=True)
    if json:
        showing.as_json({"changed": changed, "schema": schema.HEAD})
    else:
        word = "has now" if changed else "has already"
        showing.out(f"the database {word} the schema {schema.HEAD}")
    return 0


def states(
    mermaid: Annotated[bool, typer.Option("--mermaid", help="a diagram")] = False,
    json: Json = False,
) -> int:
    """The states and moves of a build."""
    from leeroy import machine

    if mermaid:
        showing.out(machine.mermaid())
    elif json:
        showing.as_json(
            [{"move": str(m), "from": str(a), "to": str(b)} for m, a, b in machine.legal()]
        )
    else:
        for edge in machine.TABLE:
            sources = ", ".join(edge.sources)
            showing.out(f"{edge.move:<15} {sources} → {edge.dest}: {edge.when}")
    return 0


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE")],
    json: Json = False,
    config: Config = None,
) -> int:
    """Copy the SQLite database, also while a server runs."""
    from leeroy.config import load
    from leeroy.db import copying, leftover
    from leeroy.db.engines import label

    found = load(config)
    if not found.database.startswith("sqlite:///"):
        from sqlalchemy import make_url

        named = make_url(found.database).set(drivername="postgresql")
        raise Invalid(
            f"this database is PostgreSQL, which copies itself: `pg_dump --format=custom "
            f"--file={file} '{label(named)}'`, also while a server runs; a dump that is loaded "
            "comes up frozen until `leeroy thaw --all`"
        )
    source = Path(found.database.removeprefix("sqlite:///"))
    if not source.is_file():
        raise NotFound(f"there is no database {source}")
    if file.exists():
        raise Invalid(f"{file} is there already; name another file")
    why = leftover.sort_out(source)
    if why is not None:
        raise Unavailable(why)
    copying.copy(source, file)
    if json:
        showing.as_json({"file": str(file), "source": str(source)})
    else:
        showing.out(f"{file} is a copy of {source}")
    return 0


def crashtest(
    kills: Annotated[int, typer.Option("--kills", metavar="N", min=1)] = 20,
    json: Json = False,
) -> int:
    """Kill a throw-away Leeroy again and again, and check that it keeps every promise."""
    from leeroy.proof import crashtest as storm

    def progress(text: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()

    found = storm.run(kills=kills, progress=progress)
    progress("")
    if json:
        showing.as_json(found.json())
    else:
        shown = found.json()
        for name in ("builds", "kills", "deploys", "interrupted", "withdrawn", "requeued"):
            showing.out(f"{name:<12}{shown[name]}")
        showing.out(f"{'violations':<12}{len(found.violations)}  (in {found.seconds:.0f} s)")
        for violation in found.violations:
            showing.out(f"  {violation}")
    return 1 if found.violations else 0
