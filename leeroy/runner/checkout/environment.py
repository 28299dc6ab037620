# ruff: noqa: PTH103, PTH106, PTH108, PTH118, PTH123
# importing pathlib would take 3 ms of every checkout
"""
The environment git runs in, made from scratch: its settings, its credentials, and nothing else.

Credentials live in 0600 files of a folder that is removed at the end.  git
learns of the token through an askpass program that answers for the configured
host only, and of the ssh key through ssh's command line, which names its file.
"""

from __future__ import annotations

import os
import shlex
from contextlib import suppress

from . import hosts
from .address import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .address import Address

PASSED_ON = (
    *("PATH", "TMPDIR", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"),
)
"""What of the step's environment reaches git; no other GIT_* ever does."""

CONFIG = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.askPass": "",
    "core.logAllRefUpdates": "false",
    "submodule.recurse": "false",
    "fetch.recurseSubmodules": "false",
    # a fetch is one pack that is there whole or not at all, also after a kill -9:
    # so a commit that is in the mirror has its files there too
    "fetch.unpackLimit": "1",
    "fetch.writeCommitGraph": "false",
    # a workspace borrows the mirror's objects, so nothing may ever throw one away
    "gc.auto": "0",
    "maintenance.auto": "false",
    "gc.pruneExpire": "never",
    "protocol.ext.allow": "never",
    "http.followRedirects": "initial",
    "http.lowSpeedLimit": "1",
    "http.lowSpeedTime": "60",
    "transfer.bundleURI": "false",
    "advice.detachedHead": "false",
    "init.defaultBranch": "main",
    "i18n.logOutputEncoding": "UTF-8",
    "log.showSignature": "false",
}

USERS = {"bitbucket.org": "x-token-auth"}
"""The user a host wants beside a token; everywhere else any name does."""
PERSON = "x-bitbucket-api-token-auth"
"""The user beside an API token of a person at Bitbucket, which is written as EMAIL:TOKEN."""


class Private:
    """
    A folder that only its owner can look into, and the files written there.

    Closing it removes them.  A kill -9 leaves them in the run directory, which
    is as private and is removed with the run.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._files: list[str] = []
        os.makedirs(folder, 0o700, exist_ok=True)

    def write(self, name: str, text: str, mode: int = 0o600) -> str:
        path = os.path.join(self.folder, name)
        self._files.append(path)
        with suppress(OSError):
            os.unlink(path)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with open(fd, "wb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))
        return path

    def close(self) -> None:
        """Remove every file written here, and the folder."""
        for path in self._files:
            with suppress(OSError):
                os.unlink(path)
        with suppress(OSError):
            os.rmdir(self.folder)


class Credentials:
    """What the pipeline gives for its repository, as far as its protocol has use for it."""

    def __init__(self, address: Address, token: str | None, ssh_key: str | None) -> None:
        self.token = token.strip() if token and address.protocol in ("http", "https") else ""
        self.ssh_key = ssh_key.strip() if ssh_key and address.protocol == "ssh" else ""
        if not self.token.isprintable():
            raise Refused(
                "the token has a line break or another such character inside; set it anew"
            )


def make(
    address: Address,
    credentials: Credentials,
    private: Private,
    *,
    known_hosts: str,
    safe: Iterable[str],
    environ: Mapping[str, str],
) -> dict[str, str]:
    """
    The whole environment of git for *address*.

    Args:
        known_hosts: The file that remembers ssh hosts beside the shipped ones.
        safe: Repositories on this machine that may belong to another user.
        environ: The step's environment; only PASSED_ON is taken from it.
    """
    env = {name: environ[name] for name in PASSED_ON if environ.get(name)}
    env.setdefault("PATH", os.defpath)
    # Debian's libcurl does not know these two by itself
    if "SSL_CERT_FILE" in env:
        env.setdefault("GIT_SSL_CAINFO", env["SSL_CERT_FILE"])
    if "SSL_CERT_DIR" in env:
        env.setdefault("GIT_SSL_CAPATH", env["SSL_CERT_DIR"])
    env |= {
        # no ~/.netrc, no ~/.config/git
        "HOME": private.folder,
        "LC_ALL": "C",
        "GIT_ALLOW_PROTOCOL": address.protocol,
        "GIT_ATTR_NOSYSTEM": "1",
        # in a file, for upload-pack on a local path gets this one but not GIT_CONFIG_COUNT
        "GIT_CONFIG_GLOBAL": private.write("config", _config(safe)),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_TERMINAL_PROMPT": "0",
    }
    if credentials.token:
        env["GIT_ASKPASS"] = _askpass(address, credentials.token, private)
    if address.protocol == "ssh":
        env["GIT_SSH_COMMAND"] = _ssh(address, credentials.ssh_key, private, known_hosts)
        env["GIT_SSH_VARIANT"] = "ssh"
    return env


def _askpass(address: Address, token: str, private: Private) -> str:
    """
    A program that answers git's questions for this very host, and nobody else's.

    So a server that redirects somewhere else cannot get the token there.
    """
    user, password = _login(address, token)
    server = address.url.split("://", 1)[1].split("/", 1)[0]
    ask_user = f"Username for '{address.protocol}://{server}': "
    # git shows the user as it is, newer ones with % for what is special
    spellings = [user, *(_percent(user, digits) for digits in ("02x", "02X"))]
    ask_token = [f"Password for '{address.protocol}://{name}@{server}': " for name in spellings]
    return private.write(
        "askpass",
        "#!/bin/sh\n"
        'case "$1" in\n'
        f"{shlex.quote(ask_user)})\n"
        f"  exec cat {shlex.quote(private.write('user', user))};;\n"
        f"{'|'.join(map(shlex.quote, ask_token))})\n"
        f"  exec cat {shlex.quote(private.write('token', password))};;\n"
        "esac\n"
        "exit 1\n",
        0o700,
    )


def _login(address: Address, token: str) -> tuple[str, str]:
    """The user and the password beside which a server knows the token."""
    mail, colon, rest = token.partition(":")
    if address.host == "bitbucket.org" and colon and "@" in mail:
        return address.user or PERSON, rest
    return address.user or USERS.get(address.host, "x-access-token"), token


def _percent(text: str, digits: str) -> str:
    return "".join(
        chr(byte)
        if chr(byte).isascii() and (chr(byte).isalnum() or chr(byte) in "-._~")
        else f"%{byte:{digits}}"
        for byte in text.encode("utf-8", "surrogateescape")
    )


def _ssh(address: Address, key: str, private: Private, known_hosts: str) -> str:
    """The ssh that reads no configuration, asks nothing, and trusts known hosts only."""
    shipped = hosts.known(address.host, address.port)
    files = [known_hosts]
    if shipped:
        files.insert(0, private.write("forge_hosts", shipped))
    options = {
        "BatchMode": "yes",
        "CheckHostIP": "no",
        "ClearAllForwardings": "yes",
        "ConnectTimeout": "20",
        "ControlPath": "none",
        "ForwardAgent": "no",
        "GlobalKnownHostsFile": "/dev/null",
        "HashKnownHosts": "no",
        "IdentitiesOnly": "yes",
        "PermitLocalCommand": "no",
        "PreferredAuthentications": "publickey",
        "ServerAliveCountMax": "4",
        "ServerAliveInterval": "15",
        # the big forges' keys are known; any other host's is remembered from the first time
        "StrictHostKeyChecking": "yes" if shipped else "accept-new",
        "UpdateHostKeys": "no",
        "UserKnownHostsFile": " ".join(map(_ssh_path, files)),
    }
    if key:
        text = key.replace("\r\n", "\n") + "\n"
        options["IdentityFile"] = _ssh_path(private.write("key", text))
        options["IdentityAgent"] = "none"
    words = [f"-o{name}={value}" for name, value in options.items()]
    return shlex.join(["ssh", "-F", "/dev/null", *words])


def _ssh_path(path: str) -> str:
    return '"' + path.replace("%", "%%") + '"'


def _config(safe: Iterable[str]) -> str:
    lines = []
    for key, value in CONFIG.items():
        section, _, name = key.rpartition(".")
        head, dot, rest = section.partition(".")
        header = f'{head} "{rest}"' if dot else head
        lines.append(f"[{header}]\n\t{name} = {value}\n")
    for path in safe:
        quoted = path.replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'[safe]\n\tdirectory = "{quoted}"\n')
    return "".join(lines)
