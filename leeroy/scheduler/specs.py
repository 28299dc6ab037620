"""A step's row made a script: its environment, its secrets, its folders."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from leeroy import onward, pipelines
from leeroy.context import Context
from leeroy.errors import ConfigError, Mistake
from leeroy.model import Build, Step
from leeroy.pipelines import Pipeline, Script
from leeroy.runner import checkout
from leeroy.runner.runner import Spec
from leeroy.scheduler.acts import Launch
from leeroy.terms import Stage

CHECKOUT_TIMEOUT_S = 1800.0
STATUS_TIMEOUT_S = 600.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_UNTIL = 'until "$@"; do sleep 1; done'
"""Tries again until it exits 0; the step's timeout is the end of it."""


@dataclass(frozen=True)
class Folders:
    """
    Where a step works.

    `workspace` is made anew before the first step of a build or deploy.
    `artifacts` is where builds leave files for deploys; None: there is no build
    or deploy to do so.
    """

    workspace: Path
    home: Path | None
    tmp: Path
    artifacts: Path | None


def workspace_name(build: Build, environment: str | None) -> str:
    """The name of a build's (or deploy's) workspace; no two attempts share one at a time."""
    return str(build.id) if environment is None else f"{build.id}-{environment}"


def fork_home(build: Build) -> str:
    """The name of the home of a fork's build, thrown away after it; no pipeline has such a name."""
    return f".fork-{build.id}"


def folders(context: Context, launch: Launch) -> Folders:
    """The folders of a step."""
    build, step = launch.build, launch.step
    data = context.config.data
    name = workspace_name(build, step.environment)
    home: Path | None = None
    if step.environment is None:
        home = data / "homes" / (fork_home(build) if build.fork else build.pipeline)
    pipeline = onward.pipeline_of(build)
    kept: Path | None = None
    if pipeline.builds or pipeline.deploys:
        kept = data / "artifacts" / str(launch.artifacts_of or build.id)
    return Folders(
        workspace=data / "workspaces" / name,
        home=home,
        tmp=data / "tmp" / name,
        artifacts=kept,
    )


def spec(context: Context, launch: Launch) -> Spec:
    """
    What the runner needs to run a step.

    Raises:
        ConfigError: A secret is not to be had, or the executor is not known.
    """
    build, step = launch.build, launch.step
    pipeline = onward.pipeline_of(build)
    where = folders(context, launch)
    assert step.run_id is not None
    if step.stage is Stage.checkout:
        return _checkout(context, pipeline, build, step, where)
    script, wrap, timeout_s = _script(pipeline, step)
    env = _environment(context, pipeline, build, step, where) | dict(script.env)
    masked: list[str] = []
    if not build.fork:
        for name, reference in script.secrets.items():
            env[name] = context.secrets.get(reference)
            masked.append(env[name])
    fill = {"workspace": str(where.workspace), "build": str(build.id)}
    prefix = _executor(context, script.executor, fill)
    return Spec(
        run_id=step.run_id,
        script=script.run,
        argv=(build.repository or "", build.branch or "", str(build.slot or 0)),
        wrap=(*wrap, *prefix),
        cwd=str(where.workspace),
        env=env,
        secrets=tuple(masked),
        timeout_s=timeout_s,
        max_log=context.config.max_log,
        durable=step.stage is Stage.deploy,
    )


def given(context: Context, build: Build, step: Step) -> str:
    """What a step's script is, for the record: its hash, and names but no values (JSON)."""
    pipeline = onward.pipeline_of(build)
    if step.stage is Stage.checkout:
        named = {"token": pipeline.token and not build.fork, "ssh_key": pipeline.ssh_key}
        told: dict[str, object] = {
            "script": None,
            "variables": sorted({"PATH", *context.config.env, *pipeline.env}),
            "secrets": [name for name, used in named.items() if used],
            "executor": pipelines.LOCAL,
            "timeout_s": int(CHECKOUT_TIMEOUT_S),
        }
        return json.dumps(told)
    script, _, timeout_s = _script(pipeline, step)
    where = folders(context, Launch(build, step))
    variables = _environment(context, pipeline, build, step, where).keys() | script.env.keys()
    variables |= {"LEEROY_RUN", "LEEROY_RUN_DIR"}  # the supervisor adds them
    return json.dumps(
        {
            "script": hashlib.sha256(script.run.encode()).hexdigest(),
            "variables": sorted(variables),
            "secrets": [] if build.fork else sorted(script.secrets),
            "executor": script.executor,
            "timeout_s": int(timeout_s),
        }
    )


def _script(pipeline: Pipeline, step: Step) -> tuple[Script, tuple[str, ...], float]:
    """The script, what stands before it, and how long it may take."""
    if step.stage in (Stage.test, Stage.build):
        listed = pipeline.tests if step.stage is Stage.test else pipeline.builds
        script = next(s for s in listed if s.name == step.name)
        return script, (), script.timeout_s
    deploy = next(d for d in pipeline.deploys if d.environment == step.environment)
    if step.stage is Stage.deploy:
        return deploy.script, (), deploy.script.timeout_s
    if step.stage is Stage.status:
        return _instead(deploy, deploy.status or "exit 2"), (), STATUS_TIMEOUT_S
    tried = ("/bin/sh", "-c", _UNTIL, "verify") if deploy.verify_within_s > 0 else ()
    within_s = deploy.verify_within_s or deploy.script.timeout_s
    return _instead(deploy, deploy.verify or "true"), tried, within_s


def _instead(deploy: pipelines.Deploy, run: str) -> Script:
    return Script(**{**deploy.script.__dict__, "run": run})


def _executor(context: Context, name: str, fill: Mapping[str, str]) -> tuple[str, ...]:
    if name == pipelines.LOCAL:
        return ()
    wrap = context.config.executors.get(name)
    if wrap is None:
        known = ", ".join(context.config.executors) or "none"
        text = f"there is no executor {name!r} in leeroy.toml; there are: {known}"
        raise ConfigError(Mistake(str(context.config.file or "leeroy.toml"), 0, "", text))
    filled = []
    for word in wrap:
        for key, value in fill.items():
            word = word.replace("{" + key + "}", value)
        filled.append(word)
    return tuple(filled)


def _environment(
    context: Context, pipeline: Pipeline, build: Build, step: Step, where: Folders
) -> dict[str, str]:
    config = context.config
    deploy = "" if step.environment is None else build.deploy_key(step.environment)
    home = context.environ.get("HOME", "/") if where.home is None else str(where.home)
    return {
        "PATH": context.environ.get("PATH", _PATH),
        "LANG": context.environ.get("LANG", "C.UTF-8"),
        "HOME": home,
        "TMPDIR": str(where.tmp),
        **config.env,
        **pipeline.env,
        "CI": "true",
        "LEEROY": "true",
        "LEEROY_BUILD": str(build.id),
        "LEEROY_PIPELINE": build.pipeline,
        "LEEROY_REPOSITORY": build.repository or "",
        "LEEROY_BRANCH": build.branch or "",
        "LEEROY_TAG": build.tag or "",
        "LEEROY_COMMIT": build.commit or "",
        "LEEROY_PULL_REQUEST": str(build.pull_request or ""),
        "LEEROY_STAGE": str(step.stage),
        "LEEROY_STEP": step.name,
        "LEEROY_ATTEMPT": str(step.attempt),
        "LEEROY_ENVIRONMENT": step.environment or "",
        "LEEROY_DEPLOY": deploy,
        "LEEROY_BUILD_URL": f"{config.url}/builds/{build.id}",
        "LEEROY_SLOT": str(build.slot or 0),
        "LEEROY_WORKSPACE": str(where.workspace),
        "LEEROY_ARTIFACTS": str(where.artifacts or ""),
    }


def _checkout(
    context: Context, pipeline: Pipeline, build: Build, step: Step, where: Folders
) -> Spec:
    assert build.repository is not None and step.run_id is not None
    # The checkout runs nothing of what it fetches, so a fork's commit may come out of a private
    # repository: with the credentials for just that one, never shown to another.
    repository, token, key = build.repository, None, None
    if build.fork and build.pull_request_ref is None and build.head_repository is not None:
        repository = build.head_repository
    else:
        token = None if pipeline.token is None else context.secrets.get(pipeline.token)
        key = None if pipeline.ssh_key is None else context.secrets.get(pipeline.ssh_key)
    argv, secret_files = checkout.spec_parts(
        data=context.config.data,
        repository=repository,
        workspace=where.workspace,
        branch=build.branch,
        tag=build.tag,
        commit=build.commit,
        pull_request_ref=build.pull_request_ref,
        token=token,
        ssh_key=key,
        from_mirror=step.environment is not None,
    )
    env = {"PATH": context.environ.get("PATH", _PATH), **context.config.env, **pipeline.env}
    return Spec(
        run_id=step.run_id,
        script=None,
        argv=argv,
        cwd=str(context.config.data),
        env=env,
        secrets=tuple(secret for secret in (token, key) if secret),
        timeout_s=CHECKOUT_TIMEOUT_S,
        max_log=context.config.max_log,
        durable=False,
        secret_files=secret_files,
    )


def checked_out(text: bytes | None) -> dict[str, str | None] | None:
    """What a checkout wrote down, as far as it is well-formed."""
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    return {str(k): v for k, v in found.items() if v is None or isinstance(v, str)}
