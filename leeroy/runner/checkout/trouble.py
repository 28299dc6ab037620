"""
Why git failed, in a sentence: what is, why, and what to do.

git runs with LC_ALL=C, so its messages are the ones matched here.  What no
pattern knows is quoted, last complaint first, without control characters.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .address import Address
    from .environment import Credentials


class Trouble(Exception):
    """
    git could not do it; the text is a sentence for a person.

    `kind` says what may help: "transient" (ask again), "absent" (the server
    has no such ref or commit), "conflict" (a ref that is gone by now is in the
    way of another), "damage" (the mirror is broken), "room" (this disk takes
    nothing more), "program" (one is not installed here) or "final".
    """

    def __init__(self, text: str, kind: str = "final") -> None:
        super().__init__(text)
        self.kind = kind


DAMAGE = re.compile(
    r"not a git repository|bad object|corrupt|unable to (?:read|parse|find)|failed to read|"
    r"could not parse|could not read [0-9a-f]{40}|missing (?:blob|tree|commit|tag|object)|"
    r"is empty|inflate:|garbage|hash mismatch|valid object|broken ref|bad ref|bad config|"
    r"index-pack died|did not send all necessary|unresolved deltas|"
    r"invalid (?:object|sha1 pointer)|unrecognized header|unexpected line in|has a null OID",
    re.I,
)
QUIET_DAMAGE = re.compile(r"^error: (?:packfile|object file|inflate)", re.M)
"""What git says of a broken pack even where it finds its way around it."""

_DISK = re.compile(r"No space left on device|Disk quota exceeded|Read-only file system", re.I)


def printable(text: str, limit: int = 300) -> str:
    """*text* on one line, without control characters, cut at *limit*."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


_ECHO = re.compile(
    r"early EOF|index-pack failed|hung up|Could not read from remote|expected flush|"
    r"unpack-objects|remote end|terminal prompts disabled",
    re.I,
)


def complaint(stderr: str) -> str:
    """What says most: git's last fatal error, before an error, before mere echoes of these."""
    lines = [line for line in re.split(r"[\r\n]+", stderr) if line.strip()]
    first = [line for line in lines if not _ECHO.search(line)]
    for start in ("fatal: ", "error: "):
        for line in reversed(first):
            if line.startswith(start):
                return printable(line[len(start) :])
    if not lines:
        return "it said nothing"
    return printable((first or lines)[-1].removeprefix("fatal: ").removeprefix("error: "))


def local(stderr: str, doing: str) -> Trouble:
    """Why a command on the mirror or the workspace failed."""
    if full := _DISK.search(stderr):
        return Trouble(f"{doing} failed: {full[0]}; make room on this disk", "room")
    kind = "damage" if DAMAGE.search(stderr) or QUIET_DAMAGE.search(stderr) else "final"
    return Trouble(f"{doing} failed: {complaint(stderr)}", kind)


def remote(stderr: str, address: Address, credentials: Credentials) -> Trouble:
    """Why a command that asked the repository's server failed."""
    case = _Case(stderr, address, credentials)
    for look in (_here, _reach, _trust, _login, _repository, _passing):
        if found := look(case):
            return found
    words = complaint(stderr)
    if case.git_said(DAMAGE.pattern):
        return Trouble(f"fetching {case.url} failed: {words}", "damage")
    return Trouble(f"git could not fetch {case.url}: {words}")


class _Case:
    """What was said, by whom, about which repository."""

    def __init__(self, stderr: str, address: Address, credentials: Credentials) -> None:
        self.address = address
        self.url = address.url
        self.host = address.place
        self.server = f"{self.host}:{address.port}" if address.port else self.host
        self.token = bool(credentials.token)
        self.ssh_key = bool(credentials.ssh_key)
        self.words = complaint(stderr)
        self.raw = stderr
        # a repository may be called "certificates" or "not-found"
        text = stderr.replace(self.url, "URL")
        self._text = text.replace(address.path, "PATH") if len(address.path) > 1 else text
        # what the server wrote cannot make us do anything, only choose a sentence
        lines = re.split(r"[\r\n]+", self._text)
        self._git = "\n".join(line for line in lines if not line.startswith("remote: "))

    def said(self, pattern: str) -> re.Match[str] | None:
        """Whether git, ssh or the server said *pattern*."""
        return re.search(pattern, self._text, re.I | re.M)

    def git_said(self, pattern: str) -> re.Match[str] | None:
        """Whether it stands in anything but the server's own messages."""
        return re.search(pattern, self._git, re.I | re.M)


def _here(case: _Case) -> Trouble | None:
    """This machine's own troubles, and refs the server does not have."""
    if full := case.git_said(_DISK.pattern):
        return Trouble(f"fetching {case.url} failed: {full[0]}; make room on this disk", "room")
    if missing := case.git_said(r"cannot run ([^:\n]*): No such file|sh: \d+: (\S+): not found$"):
        return Trouble(
            f"{missing[1] or missing[2]} is not installed on this machine, so {case.url} "
            "cannot be reached; install it",
            "program",
        )
    if case.git_said(r"cannot lock ref|could not be updated|cannot create|Directory not empty"):
        return Trouble(f"fetching {case.url} failed: {case.words}", "conflict")
    if case.git_said(r"could(?:n't| not) find remote ref|not our ref|unadvertised object"):
        return Trouble(f"{case.url} has no such ref: {case.words}", "absent")
    return None


def _reach(case: _Case) -> Trouble | None:
    """Names that are not known, and ways that lead elsewhere."""
    if case.said(r"could not resolve (?:host|hostname|proxy)|unable to look up"):
        return Trouble(
            f"the name {case.host} is not known here, so {case.url} cannot be reached; "
            "is it spelled right, and does this machine's DNS work?",
            "transient",
        )
    if case.said(
        r"redirect|transport '[a-z+]+' not allowed|protocol .* not supported|Protocol .* disabled"
    ):
        return Trouble(
            f"{case.url} leads to another address or protocol, which Leeroy does not follow "
            f"({case.words}); write the new address as repository"
        )
    return None


def _trust(case: _Case) -> Trouble | None:
    """Whether the server is the one it should be."""
    if case.address.protocol == "https" and case.said(
        r"certificate|SSL:|gnutls_handshake|TLS connect|unable to get local issuer"
    ):
        return Trouble(
            f"the certificate of {case.server} is not trusted here ({case.words}); if your own "
            "authority signed it, set GIT_SSL_CAINFO to its file under [env] in leeroy.toml"
        )
    if case.said(r"REMOTE HOST IDENTIFICATION HAS CHANGED"):
        return Trouble(
            f"{case.server} shows another ssh host key than before, so it may be somebody else; "
            "if the change is announced, remove the old line from known_hosts in Leeroy's data"
        )
    if case.said(r"Host key verification failed"):
        return Trouble(
            f"{case.server} shows none of the ssh host keys known for it, so it may be somebody "
            "else; if the forge announced a new key, add it to known_hosts in Leeroy's data"
        )
    return None


def _login(case: _Case) -> Trouble | None:
    """Whether the server lets us in."""
    server, url = case.server, case.url
    if case.said(r"Load key .*: |error in libcrypto|invalid format|incorrect passphrase"):
        return Trouble(
            f"the ssh_key for {server} cannot be read; "
            "it must be the whole private key, without a passphrase"
        )
    if case.said(r"Permission denied \("):
        if case.ssh_key:
            return Trouble(
                f"{server} refuses the ssh_key; is its public half a deploy key of the repository?"
            )
        return Trouble(
            f"{server} asks for a key, and the pipeline has none; set ssh_key to a private key "
            "whose public half is a deploy key of the repository"
        )
    asked = re.search(r"could not read (?:Username|Password) for '([^']*)'", case.raw)
    if asked and case.token:
        asker = re.sub(r"//[^@/]*@", "//", asked[1])
        if not url.startswith(asker.rstrip("/") + "/"):
            return Trouble(
                f"{url} leads to {printable(asker)}, which asks for a login; the token is only "
                f"for {server}, so write the new address as repository"
            )
    if asked or case.said(
        r"Authentication failed|Invalid username or (?:token|password)|error: 401|HTTP 401|"
        r"HTTP Basic: Access denied"
    ):
        if case.token:
            return Trouble(
                f"{server} refuses the token for {url}; "
                "has it expired, and may it read this repository?"
            )
        return Trouble(f"{server} asks for a login, and the pipeline has none; set token")
    if case.said(r"error: 403|HTTP 403"):
        who = "this token" if case.token else "us"
        remedy = "give the token read access to the repository" if case.token else "set token"
        return Trouble(f"{server} does not let {who} read {url}; {remedy}")
    return None


def _repository(case: _Case) -> Trouble | None:
    """Whether there is such a repository, for us."""
    if case.said(r"dubious ownership"):
        return Trouble(f"git does not trust the owner of {case.url} ({case.words}); change it")
    if not case.said(
        r"not found|error: 404|no such (?:file|repo)|does not appear to be a git repository|"
        r"does not exist|not exported|could not find repository|project you were looking for"
    ):
        return None
    address = case.address
    if address.protocol == "file":
        return Trouble(
            f"there is no git repository at {address.path} on this machine; is the path right?"
        )
    if address.protocol == "ssh":
        whom = "this ssh_key" if case.ssh_key else "us"
        remedy = "is the address right, and the key added there?"
    elif case.token:
        whom, remedy = "this token", "is the address right, and may the token read it?"
    else:
        whom = "us without a token"
        remedy = "is the address right? If it is private, set token"
    return Trouble(
        f"{case.host} has no repository {case.url}, or does not show it to {whom}; {remedy}"
    )


def _passing(case: _Case) -> Trouble | None:
    """What may be over in a moment, where there is a network in between."""
    if case.address.protocol != "file" and case.said(
        r"connect(?:ion)? (?:to|refused|reset|timed out|closed)|failed to connect|timed? ?out|"
        r"no route to host|network is unreachable|error: (?:429|5\d\d)|HTTP 5\d\d|early EOF|"
        r"hung up|unexpected disconnect|too slow|RPC failed|empty reply|recv failure|broken pipe|"
        r"connection was reset|unable to connect"
    ):
        return Trouble(
            f"{case.server} did not answer as it should ({case.words}); "
            "is it up, and may this machine reach it?",
            "transient",
        )
    return None
