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
    way of another), "damage" (the mirror is broken) or "final".
    """

    def __init__(self, text: str, kind: str = "final") -> None:
        super().__init__(text)
        self.kind = kind


DAMAGE = re.compile(
    r"not a git repository|bad object|corrupt|unable to read|failed to read|could not parse|"
    r"missing (?:blob|tree|commit|tag|object)|is empty|inflate:|garbage|hash mismatch|"
    r"not a valid object|valid object|broken ref|bad ref|unable to parse|unable to find|"
    r"index-pack died|did not send all necessary|unresolved deltas|bad config|"
    r"invalid (?:object|sha1 pointer)|unrecognized header|could not read|unexpected line in",
    re.I,
)
_DISK = re.compile(r"No space left on device|Disk quota exceeded|Read-only file system", re.I)


def printable(text: str, limit: int = 300) -> str:
    """*text* on one line, without control characters, cut at *limit*."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def complaint(stderr: str) -> str:
    """What git said last, a fatal error before an error before anything else."""
    lines = [line for line in re.split(r"[\r\n]+", stderr) if line.strip()]
    for start in ("fatal: ", "error: "):
        for line in reversed(lines):
            if line.startswith(start):
                return printable(line[len(start) :])
    return printable(lines[-1]) if lines else "it said nothing"


def local(stderr: str, doing: str) -> Trouble:
    """Why a command on the mirror or the workspace failed."""
    if _DISK.search(stderr):
        return Trouble(f"{doing} failed: {complaint(stderr)}; make room on this disk")
    kind = "damage" if DAMAGE.search(stderr) else "final"
    return Trouble(f"{doing} failed: {complaint(stderr)}", kind)


def remote(stderr: str, address: Address, credentials: Credentials) -> Trouble:
    """Why a command that asked the repository's server failed."""
    host, url = address.place, address.url
    token, ssh_key = bool(credentials.token), bool(credentials.ssh_key)
    server = f"{host}:{address.port}" if address.port else host

    def said(pattern: str) -> re.Match[str] | None:
        return re.search(pattern, stderr, re.I)

    if _DISK.search(stderr):
        return Trouble(f"cloning {url} failed: {complaint(stderr)}; make room on this disk")
    if missing := said(r"cannot run ([^:\n]*): No such file|'?([\w./-]+)'?: not found$"):
        program = missing[1] or missing[2]
        return Trouble(
            f"{program} is not installed on this machine, so {url} cannot be reached; install it"
        )
    if said(r"cannot lock ref|could not be updated|cannot create|Directory not empty"):
        return Trouble(f"fetching {url} failed: {complaint(stderr)}", "conflict")
    if said(r"could(?:n't| not) find remote ref|not our ref|unadvertised object"):
        return Trouble(f"{url} has no such ref: {complaint(stderr)}", "absent")
    if said(r"could not resolve (?:host|hostname|proxy)|unable to look up"):
        return Trouble(
            f"the name {host} is not known here, so {url} cannot be reached; "
            "is it spelled right, and does this machine's DNS work?",
            "transient",
        )
    if address.protocol == "https" and said(
        r"certificate|SSL:|gnutls_handshake|TLS connect|unable to get local issuer"
    ):
        return Trouble(
            f"the certificate of {server} is not trusted here ({complaint(stderr)}); if your own "
            "authority signed it, set GIT_SSL_CAINFO to its file under [env] in leeroy.toml"
        )
    if said(r"REMOTE HOST IDENTIFICATION HAS CHANGED"):
        return Trouble(
            f"{server} shows another ssh host key than before, so it may be somebody else; "
            "if the change is announced, remove the old line from known_hosts in Leeroy's data"
        )
    if said(r"Host key verification failed"):
        return Trouble(
            f"{server} shows none of the ssh host keys known for it, so it may be somebody else; "
            "if the forge announced a new key, add it to known_hosts in Leeroy's data"
        )
    if said(r"Load key .*: |error in libcrypto|invalid format|incorrect passphrase"):
        return Trouble(
            f"the ssh_key for {server} cannot be read; "
            "it must be the whole private key, without a passphrase"
        )
    if said(r"Permission denied \("):
        remedy = (
            "is its public half a deploy key of the repository?"
            if ssh_key
            else "set ssh_key to a private key whose public half the repository has as deploy key"
        )
        key = "the ssh_key" if ssh_key else "us without an ssh_key"
        return Trouble(f"{server} refuses {key}; {remedy}")
    if said(
        r"redirect|transport '[a-z+]+' not allowed|protocol .* not supported|Protocol .* disabled"
    ):
        return Trouble(
            f"{url} leads to another address or protocol, which Leeroy does not follow "
            f"({complaint(stderr)}); write the new address as repository"
        )
    if asked := said(r"could not read (?:Username|Password) for '([^']*)'|unable to read askpass"):
        asker = re.sub(r"//[^@/]*@", "//", asked[1] or "")
        if token and asker and not address.url.startswith(asker.rstrip("/")):
            return Trouble(
                f"{url} leads to {printable(asker)}, which asks for a login; the token is only for "
                f"{server}, so write the new address as repository"
            )
        if not token:
            return _no_token(server)
    if said(
        r"Authentication failed|Invalid username or (?:token|password)|HTTP Basic: Access denied"
    ):
        return _bad_token(server, url) if token else _no_token(server)
    if said(r"error: 401|HTTP 401"):
        return _bad_token(server, url) if token else _no_token(server)
    if said(r"error: 403|HTTP 403|access denied"):
        return Trouble(
            f"{server} does not let {'this token' if token else 'us'} read {url}; "
            f"{'give the token read access to the repository' if token else 'set token'}"
        )
    if said(
        r"repository .* (?:not found|does not exist)|error: 404|not found|no such (?:file|repo)|"
        r"does not appear to be a git repository|does not exist|not exported|"
        r"could not find repository|project you were looking for"
    ):
        return _no_repository(address, token=token, ssh_key=ssh_key)
    if said(r"dubious ownership"):
        return Trouble(
            f"git does not trust the owner of {url} ({complaint(stderr)}); change its owner"
        )
    if said(
        r"connect(?:ion)? (?:to|refused|reset|timed out|closed)|failed to connect|timed? ?out|"
        r"no route to host|network is unreachable|error: 5\d\d|HTTP 5\d\d|early EOF|hung up|"
        r"unexpected disconnect|too slow|RPC failed|empty reply|recv failure|broken pipe|"
        r"connection was reset|unable to connect|error: 429"
    ):
        return Trouble(
            f"{server} did not answer as it should ({complaint(stderr)}); "
            "is it up, and may this machine reach it?",
            "transient",
        )
    if DAMAGE.search(stderr):
        return Trouble(f"fetching {url} failed: {complaint(stderr)}", "damage")
    return Trouble(f"git could not fetch {url}: {complaint(stderr)}")


def _no_token(server: str) -> Trouble:
    return Trouble(f"{server} asks for a login, and the pipeline has none; set token")


def _bad_token(server: str, url: str) -> Trouble:
    return Trouble(
        f"{server} refuses the token for {url}; has it expired, and may it read this repository?"
    )


def _no_repository(address: Address, *, token: bool, ssh_key: bool) -> Trouble:
    if address.protocol == "file":
        return Trouble(
            f"there is no git repository at {address.path} on this machine; is the path right?"
        )
    if address.protocol == "ssh":
        return Trouble(
            f"{address.host} has no repository {address.url}, or does not show it to "
            f"{'this ssh_key' if ssh_key else 'us'}; is the address right, and the key added there?"
        )
    return Trouble(
        f"{address.host} has no repository {address.url}, or does not show it to "
        f"{'this token' if token else 'us without a token'}; is the address right"
        f"{', and may the token read it?' if token else '? If it is private, set token'}"
    )
