"""What a script may look like: its first line, its environment, its secrets."""

from __future__ import annotations

import re

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHELLS = frozenset({"sh", "bash", "dash", "ash", "ksh", "zsh"})
_OURS = frozenset({"CI", "LEEROY", "HOME", "TMPDIR"})
_DANGEROUS = re.compile(
    # but not the certificates of an authority of one's own, which docs/checkout.md tells of
    r"LD_.*|GIT_(?!SSL_CA(?:INFO|PATH)\Z).*|LEEROY_.*|BASH_ENV|ENV|IFS|SHELLOPTS|BASHOPTS|PS4"
)
_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:.+", re.DOTALL)


def name_mistake(name: str) -> str | None:
    """Why *name* cannot be set for a script; None when it can."""
    if not _NAME.fullmatch(name):
        return f"{name!r} is no name of an environment variable; use letters, digits and _"
    if name in _OURS or _DANGEROUS.fullmatch(name):
        return f"{name} may not be set here: it is Leeroy's, or changes what programs are run"
    return None


def reference_mistake(reference: str) -> str | None:
    """Why a text does not name a secret; None when it does.  The text itself is never repeated."""
    if _REFERENCE.fullmatch(reference):
        return None
    return 'must name a secret as "env:NAME" or "file:PATH"; a secret itself never stands here'


def script_mistake(script: str) -> str | None:
    """Why a script would be run wrongly; None when it is fine."""
    if not script.strip():
        return "is empty; write the commands to run"
    first, _, rest = script.partition("\n")
    if not first.startswith("#!"):
        return None
    words = first[2:].split()
    if not words:
        return "its first line is #! without a program"
    if words[0].rpartition("/")[2] == "env":
        words = [word for word in words[1:] if word != "-S"] or ["env"]
    shell = words[0].rpartition("/")[2]
    if shell not in _SHELLS:
        return None
    flags = [word for word in words[1:] if word.startswith("-") and not word.startswith("--")]
    if any("e" in flag for flag in flags):
        return None
    code = [line.strip() for line in rest.splitlines()]
    code = [line for line in code if line and not line.startswith("#")]
    if code and re.match(r"set\s+(-[a-zA-Z]*e|-o\s+errexit)", code[0]):
        return None
    return (
        f"a {shell} script without -e goes on after a failed command, and would deploy what "
        f"is broken; write `set -e` as its first command, or leave out the #! line"
    )
