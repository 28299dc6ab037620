"""
What a pipeline's file says: its scripts, its deploys, and who is told.

Pure: text in, frozen values or every mistake out.  No file is opened here
and no secret is read; a secret is a reference until a script needs it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from leeroy import durations, hours, refs, scripts
from leeroy.errors import ConfigError, Mistake
from leeroy.forges import place
from leeroy.refs import matches
from leeroy.schedules import Schedule
from leeroy.terms import Stage, State
from leeroy.toml import File, Section, close
from leeroy.windows import Window

__all__ = [
    "Deploy",
    "Pipeline",
    "Script",
    "Target",
    "deploys_for",
    "matches",
    "parse",
    "read",
]

_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
LOCAL = "local"


@dataclass(frozen=True, kw_only=True)
class Script:
    """
    One script of a pipeline.

    `secrets` maps environment names to references ("env:X", "file:P").
    `executor` is "local" or the name of one in leeroy.toml.
    """

    stage: Stage
    name: str
    run: str
    timeout_s: float
    env: Mapping[str, str]
    secrets: Mapping[str, str]
    executor: str
    artifacts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Deploy:
    """
    One environment of a pipeline and how it is deployed to; `lock` is never empty.

    `windows` are when a deploy may start there; none: always.
    """

    environment: str
    branches: tuple[str, ...] | None
    tags: tuple[str, ...] | None
    script: Script
    verify: str | None
    verify_within_s: float
    status: str | None
    interrupted: str
    approve: bool
    unheard: str
    grace_s: float
    windows: tuple[Window, ...]
    lock: str


@dataclass(frozen=True, kw_only=True)
class Target:
    """Somebody who is told: `to` as written; `on` None means every transition."""

    to: str
    on: frozenset[State] | None

    def hears(self, state: State) -> bool:
        """Whether this target is told of a build that arrives in *state*."""
        return self.on is None or state in self.on


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """
    A pipeline's file, understood; `secrets` are the references of its webhook secrets.

    `forge` is the one its repository is on: the one named, else the one its
    host is known for, else None.  `api` is the address of that forge's API,
    None where it follows from the repository's.  `close_failing`: a pull
    request whose tests failed is closed.
    """

    name: str
    text: str
    repository: str | None
    branches: tuple[str, ...]
    secrets: tuple[str, ...]
    token: str | None
    ssh_key: str | None
    executor: str
    env: Mapping[str, str]
    only_newest: bool
    at_once: int
    untested: bool
    forks: str
    forge: str | None
    api: str | None
    close_failing: bool
    poll_s: float | None
    schedules: tuple[Schedule, ...]
    tests: tuple[Script, ...]
    builds: tuple[Script, ...]
    deploys: tuple[Deploy, ...]
    notify: tuple[Target, ...]


@lru_cache(maxsize=512)
def parse(text: str, *, name: str, file: str) -> Pipeline:
    """
    The pipeline that *text* describes.

    Raises:
        ConfigError: With every mistake found: file, line, key and remedy.
    """
    pipeline, mistakes = read(text, name=name, file=file)
    wrong = [mistake for mistake in mistakes if not mistake.warning]
    if pipeline is None:
        raise ConfigError(*wrong)
    return pipeline


def read(text: str, *, name: str, file: str) -> tuple[Pipeline | None, list[Mistake]]:
    """The pipeline, unless there is a mistake, and all mistakes with the warnings among them."""
    source = File(text, file)
    if source.mistakes:
        return None, source.mistakes
    if not _SAFE.fullmatch(name):
        source.wrong((), f"{name!r} is no name of a pipeline; use letters, digits and . _ -")
    pipeline = _pipeline(source.root, name, text)
    if any(not mistake.warning for mistake in source.mistakes):
        return None, source.mistakes
    return pipeline, source.mistakes


def deploys_for(
    pipeline: Pipeline, *, branch: str | None, tag: str | None, default_branch: str | None
) -> tuple[Deploy, ...]:
    """
    The deploys of a push to that branch or tag, in file order.

    One with neither `branches` nor `tags` is for the default branch alone.
    """

    def meant(deploy: Deploy) -> bool:
        if tag is not None:
            return deploy.tags is not None and matches(deploy.tags, tag)
        if branch is None:
            return False
        if deploy.branches is not None:
            return matches(deploy.branches, branch)
        return deploy.tags is None and branch == default_branch

    return tuple(deploy for deploy in pipeline.deploys if meant(deploy))


def _pipeline(root: Section, name: str, text: str) -> Pipeline:
    repository = root.text("repository")
    if repository is not None and (not repository.strip() or repository.startswith("-")):
        root.wrong("repository", "must be the address that git clones from")
    executor = root.text("executor", LOCAL) or LOCAL
    env = environment(root, "env")
    poll = root.text("poll", "off")
    poll_s = None if poll == "off" else root.measured("poll", durations.seconds, 60.0)
    at_once = root.get("at_once", int, 0)
    if at_once < 0:
        root.wrong("at_once", "must be 0 (no limit) or more")
    pipeline = Pipeline(
        name=name,
        text=text,
        repository=repository,
        branches=_patterns(root, "branches") or ("*",),
        secrets=_hook_secrets(root),
        token=_reference(root, "token"),
        ssh_key=_reference(root, "ssh_key"),
        executor=executor,
        env=env,
        only_newest=root.get("only_newest", bool, False),
        at_once=at_once,
        untested=root.get("untested", bool, False),
        forks=root.choice("forks", ("approve", "test", "never"), "approve"),
        forge=root.choice("forge", refs.FORGES, "") or refs.forge(repository or ""),
        api=_api(root),
        close_failing=root.get("close_failing", bool, False),
        poll_s=poll_s,
        schedules=hours.schedules_of(root),
        tests=_scripts(root, Stage.test, executor),
        builds=_scripts(root, Stage.build, executor),
        deploys=_deploys(root, name, executor),
        notify=targets(root),
    )
    if pipeline.deploys and not pipeline.tests and not pipeline.untested:
        root.wrong(
            "deploy",
            "would deploy what nothing has tested; add a [[test]], or say untested = true",
        )
    stages = (*pipeline.tests, *pipeline.builds)
    if pipeline.forks == "test" and LOCAL in (executor, *(one.executor for one in stages)):
        root.wrong(
            "forks",
            "\"test\" runs strangers' code as Leeroy's own user; name an executor that "
            'shuts it in, or use "approve"',
        )
    if repository is not None and not pipeline.secrets:
        root.wrong("secret", "is missing, so no webhook is accepted; name one", warning=True)
    if pipeline.close_failing and pipeline.token is None:
        root.wrong("close_failing", "needs a token that may close pull requests; set token")
    _warn_unheard(root, pipeline)
    root.finish()
    return pipeline


def _api(root: Section) -> str | None:
    api = root.text("api")
    if api is not None and (mistake := place.api_mistake(api)) is not None:
        root.wrong("api", mistake)
    return None if api is None else api.rstrip("/")


def _warn_unheard(root: Section, pipeline: Pipeline) -> None:
    for index, deploy in enumerate(pipeline.deploys):
        if deploy.grace_s <= 0 and not deploy.approve:
            root.file.wrong(
                ("deploy", index, "grace"),
                "no grace period: nobody can stop this deploy in time",
                warning=True,
            )


def _scripts(root: Section, stage: Stage, executor: str) -> tuple[Script, ...]:
    found: list[Script] = []
    for section in root.sections(str(stage)):
        script = _script(section, stage, _named(section, "name"), executor)
        if any(script.name == other.name for other in found):
            section.wrong("name", f"{script.name!r} is there twice; each step needs its own")
        found.append(script)
        section.finish()
    return tuple(found)


def _script(section: Section, stage: Stage, name: str, executor: str) -> Script:
    run = section.text("run")
    if run is None:
        if "run" not in section.data:
            section.wrong("run", "is missing; write the commands to run")
        run = "false"
    elif (mistake := scripts.script_mistake(run)) is not None:
        section.wrong("run", mistake)
    timeout_s = section.measured("timeout", durations.seconds, 3600.0)
    if timeout_s <= 0:
        section.wrong("timeout", "must be longer than nothing")
    secrets = section.strings("secrets")
    env = environment(section, "env")
    for variable, reference in secrets.items():
        mistake = scripts.name_mistake(variable) or scripts.reference_mistake(reference)
        if mistake is not None:
            section.file.wrong((*section.path, "secrets", variable), mistake)
        elif variable in env:
            section.file.wrong(
                (*section.path, "secrets", variable), "is in env as well; keep one of them"
            )
    artifacts = () if stage is not Stage.build else section.texts("artifacts") or ()
    for pattern in artifacts:
        if pattern.startswith("/") or ".." in pattern.split("/"):
            section.wrong("artifacts", f"{pattern!r} leads out of the workspace; name files in it")
    return Script(
        stage=stage,
        name=name,
        run=run,
        timeout_s=timeout_s,
        env=env,
        secrets=MappingProxyType(secrets),
        executor=section.text("executor", executor) or executor,
        artifacts=artifacts,
    )


def _deploys(root: Section, pipeline: str, executor: str) -> tuple[Deploy, ...]:
    found: list[Deploy] = []
    for section in root.sections("deploy"):
        name = _named(section, "environment")
        verify, status = section.text("verify"), section.text("status")
        for key, script in (("verify", verify), ("status", status)):
            if script is not None and (mistake := scripts.script_mistake(script)) is not None:
                section.wrong(key, mistake)
        lock = section.text("lock", f"{pipeline}/{name}")
        if not lock:
            section.wrong("lock", "must be a name, or be left out")
        if any(name == other.environment for other in found):
            section.wrong("environment", f"{name!r} is there twice; each [[deploy]] is one")
        found.append(
            Deploy(
                environment=name,
                branches=_patterns(section, "branches"),
                tags=_patterns(section, "tags"),
                script=_script(section, Stage.deploy, name, executor),
                verify=verify,
                verify_within_s=section.measured("verify_within", durations.seconds, 60.0),
                status=status,
                interrupted=section.choice("interrupted", ("hold", "fail", "again"), "hold"),
                approve=section.get("approve", bool, False),
                unheard=section.choice("unheard", ("hold", "deploy"), "hold"),
                grace_s=section.measured("grace", durations.seconds, 30.0),
                windows=hours.windows_of(section),
                lock=lock or name,
            )
        )
        section.finish()
    return tuple(found)


def targets(root: Section) -> tuple[Target, ...]:
    """Every `[[notify]]` of a file."""
    found: list[Target] = []
    for section in root.sections("notify"):
        to = section.text("to")
        if not to:
            section.wrong("to", 'is missing; name an Apprise URL as "env:NAME", or "author"')
        words = section.texts("on")
        states: set[State] = set()
        for word in words or ():
            if word in {str(state) for state in State}:
                states.add(State(word))
            else:
                near = close(word, [str(state) for state in State])
                hint = f"did you mean {near[0]!r}?" if near else "`leeroy states` lists them"
                section.wrong("on", f"{word!r} is no state of a build; {hint}")
        if to and "://" in to and "@" in to.partition("://")[2]:
            section.wrong(
                "to", 'may hold a password; put it into a secret, "env:NAME"', warning=True
            )
        found.append(Target(to=to or "", on=None if words is None else frozenset(states)))
        section.finish()
    return tuple(found)


def environment(section: Section, key: str) -> Mapping[str, str]:
    """A table of environment variables for scripts."""
    found = section.strings(key)
    for name in found:
        if (mistake := scripts.name_mistake(name)) is not None:
            section.file.wrong((*section.path, key, name), mistake)
    return MappingProxyType(found)


def _named(section: Section, key: str) -> str:
    name = section.text(key)
    if name is None:
        if key not in section.data:
            section.wrong(key, "is missing; give it a name")
        return "unnamed"
    if not _SAFE.fullmatch(name):
        section.wrong(key, f"{name!r} is no name; use letters, digits and . _ -")
    return name


def _patterns(section: Section, key: str) -> tuple[str, ...] | None:
    found = section.texts(key)
    if found is not None and not found:
        section.wrong(key, "is empty, and so means nothing; name some or leave it out")
    return found


def _reference(section: Section, key: str) -> str | None:
    reference = section.text(key)
    if reference is not None and (mistake := scripts.reference_mistake(reference)) is not None:
        section.wrong(key, mistake)
    return reference


def _hook_secrets(root: Section) -> tuple[str, ...]:
    if isinstance(root.data.get("secret"), list):
        found = root.texts("secret") or ()
        if not 1 <= len(found) <= 2:
            root.wrong("secret", "is one, or a list of two during a rotation")
    else:
        one = root.text("secret")
        found = () if one is None else (one,)
    for reference in found:
        if (mistake := scripts.reference_mistake(reference)) is not None:
            root.wrong("secret", mistake)
    return found
