"""
Real git servers for tests: over https with a login, over ssh with a key, git://, and plain paths.

Each is a context manager that listens on a free port of the loopback and ends
its own processes.  A `Repo` is an ordinary clone to commit in and a bare
repository that servers show.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import socket
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.parts import missing, need
from tests.waiting import until

WHO = {
    "GIT_AUTHOR_NAME": "Ada Lovelace",
    "GIT_AUTHOR_EMAIL": "ada@example.com",
    "GIT_COMMITTER_NAME": "Ada Lovelace",
    "GIT_COMMITTER_EMAIL": "ada@example.com",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
}


def git(folder: Path | str, *args: str, stdin: str | None = None, **env: str) -> str:
    """What git printed in *folder*; nothing of the machine's own git configuration counts."""
    done = subprocess.run(
        ["git", *args],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **WHO, **env},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, f"git {' '.join(args)}: {done.stderr}"
    return done.stdout.strip()


@dataclass(frozen=True)
class Repo:
    """A bare repository at `bare`, and a clone of it at `work` to commit in."""

    bare: Path
    work: Path

    def commit(self, message: str = "a change", branch: str | None = None, **files: str) -> str:
        """Commit and push *files* (name=text), or nothing; gives the commit's name."""
        if branch is not None:
            self.git("checkout", "-q", "-B", branch)
        for name, text in files.items():
            path = self.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        self.git("push", "-q", "--force", "origin", "HEAD")
        return self.git("rev-parse", "HEAD")

    def git(self, *args: str, stdin: str | None = None) -> str:
        """What git printed in the clone."""
        return git(self.work, *args, stdin=stdin)


def a_repo(folder: Path, name: str = "shop", *options: str, commits: bool = True) -> Repo:
    """A repository `<folder>/<name>.git` whose default branch is main, with one commit."""
    bare, work = folder / f"{name}.git", folder / f"{name}-work"
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "-q", "--bare", "-b", "main", *options, str(bare))
    # not a clone: git 2.39 forgets the hash when it clones an empty repository
    git(folder, "init", "-q", "-b", "main", *options, str(work))
    git(work, "remote", "add", "origin", str(bare))
    repo = Repo(bare, work)
    if commits:
        repo.commit("Open the shop", **{"README": "a shop\n", "src/shop.py": "print('shop')\n"})
    return repo


@dataclass(frozen=True)
class HttpsGit:
    """
    A server over https.

    `/public/NAME.git` and, with a login, `/private/NAME.git` show the same
    repositories; `/moved/…` redirects to /private on this server and
    `/elsewhere/…` to the same place by another host's name.  As bitbucket.org
    (see `tunnel`) it shows `/acme/…` with the login, and `/mallory/…` without.
    """

    url: str
    ca: Path
    log: Path
    host: str = "localhost"
    user: str = "x-access-token"
    token: str = "canary-token-5up3r"

    def public(self, name: str = "shop") -> str:
        """The address that needs no login."""
        return f"{self.url}/public/{name}.git"

    def private(self, name: str = "shop") -> str:
        """The address that needs the token."""
        return f"{self.url}/private/{name}.git"


@contextlib.contextmanager
def https_git(
    repos: Path, folder: Path, user: str = HttpsGit.user, token: str = HttpsGit.token
) -> Iterator[HttpsGit]:
    """nginx, fcgiwrap and git-http-backend showing the repositories in *repos*."""
    nginx, fcgiwrap = need("nginx"), need("fcgiwrap")
    backend = Path(git("/", "--exec-path")) / "git-http-backend"
    if not backend.exists():
        missing("git-http-backend")
    folder.mkdir(parents=True, exist_ok=True)
    ca = _certificates(folder)
    port, other = free_port(), free_port()
    server = HttpsGit(
        f"https://localhost:{port}", ca, folder / "access.log", user=user, token=token
    )
    (folder / "htpasswd").write_text(f"{server.user}:{{PLAIN}}{server.token}\n")
    (folder / "nginx.conf").write_text(
        _NGINX.format(
            user=f"user {_me()};" if os.getuid() == 0 else "",
            folder=folder,
            repos=repos,
            port=port,
            other=other,
            backend=backend,
        )
    )
    with (
        process([fcgiwrap, "-c", "2", "-s", f"unix:{folder}/fcgi.sock"], folder / "fcgiwrap.log"),
        process([nginx, "-p", str(folder), "-c", str(folder / "nginx.conf")], folder / "nginx.log"),
    ):
        until(lambda: listens(port), what=f"nginx on {port}; see {folder}")
        yield server


_NGINX = """
{user}
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log {folder}/access.log; client_max_body_size 0;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  fastcgi_param SCRIPT_FILENAME {backend};
  fastcgi_param GIT_PROJECT_ROOT {repos}; fastcgi_param GIT_HTTP_EXPORT_ALL 1;
  fastcgi_param PATH_INFO $1; fastcgi_param REMOTE_USER $remote_user;
  fastcgi_param QUERY_STRING $query_string; fastcgi_param REQUEST_METHOD $request_method;
  fastcgi_param CONTENT_TYPE $content_type; fastcgi_param CONTENT_LENGTH $content_length;
  server {{
    listen 127.0.0.1:{port} ssl; listen 127.0.0.1:{other} ssl;
    ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.pem;
    location ~ ^/public(/.*)$ {{ fastcgi_pass unix:{folder}/fcgi.sock; }}
    location ~ ^/private(/.*)$ {{
      auth_basic git; auth_basic_user_file {folder}/htpasswd; fastcgi_pass unix:{folder}/fcgi.sock;
    }}
    location ~ ^(/acme/.*)$ {{
      auth_basic git; auth_basic_user_file {folder}/htpasswd; fastcgi_pass unix:{folder}/fcgi.sock;
    }}
    location ~ ^(/mallory/.*)$ {{ fastcgi_pass unix:{folder}/fcgi.sock; }}
    location ~ ^/moved(/.*)$ {{ return 301 /private$1$is_args$args; }}
    location ~ ^/elsewhere(/.*)$ {{ return 301 https://127.0.0.1:{other}/private$1$is_args$args; }}
    location ~ ^/to-file(/.*)$ {{ return 301 file://{repos}$1; }}
    location ~ ^/to-ext/ {{ return 301 "ext::sh -c touch% {folder}/PWNED"; }}
    location ~ ^/broken/ {{ return 503; }}
  }}
}}
"""


@dataclass(frozen=True)
class SshGit:
    """A server over ssh that lets `key` (the private one, as text) in."""

    port: int
    user: str
    key: str
    log: Path

    def address(self, repo: Repo) -> str:
        """The address of *repo* on this server."""
        return f"ssh://{self.user}@127.0.0.1:{self.port}{repo.bare}"


@contextlib.contextmanager
def ssh_git(folder: Path, port: int | None = None, kind: str = "ed25519") -> Iterator[SshGit]:
    """A real sshd with a host key of this *kind*, which is made anew for each *folder*."""
    sshd, keygen = need("sshd"), need("ssh-keygen")
    folder.mkdir(parents=True, exist_ok=True)
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    for name, key in (("host", kind), ("client", "ed25519")):
        subprocess.run(
            [keygen, "-q", "-t", key, "-N", "", "-C", "", "-f", str(folder / name)], check=True
        )
    port = port or free_port()
    (folder / "authorized").write_text((folder / "client.pub").read_text())
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nPermitRootLogin yes\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\n"
    )
    with process([sshd, "-D", "-e", "-f", str(folder / "sshd_config")], folder / "sshd.log"):
        until(lambda: listens(port), what=f"sshd on {port}; see {folder}/sshd.log")
        yield SshGit(port, _me(), (folder / "client").read_text(), folder / "sshd.log")


@contextlib.contextmanager
def git_daemon(repos: Path, folder: Path) -> Iterator[str]:
    """`git daemon`; gives the address its repositories' names are appended to."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        "git",
        "daemon",
        "--export-all",
        "--listen=127.0.0.1",
        f"--port={port}",
        "--reuseaddr",
    ]
    with process([*command, f"--base-path={repos}", str(repos)], folder / "daemon.log"):
        until(lambda: listens(port), what=f"git daemon on {port}")
        yield f"git://127.0.0.1:{port}"


@contextlib.contextmanager
def tunnel(port: int) -> Iterator[tuple[str, list[str]]]:
    """A proxy whose every CONNECT leads to *port* here: its address, and the hosts asked for."""
    asked: list[str] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            words = self.rfile.readline().split()
            while self.rfile.readline().strip():
                pass  # its headers say nothing that matters
            asked.append(words[1].decode())
            with socket.create_connection(("127.0.0.1", port)) as inner:
                self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=_pipe, args=(inner, self.connection), daemon=True)
                back.start()
                _pipe(self.connection, inner)
                back.join(10)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join(5)


def _pipe(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def silent_server() -> Iterator[int]:
    """A port that accepts connections and reads, but never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        held: list[socket.socket] = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    held.append(listener.accept()[0])

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            for connection in held:
                connection.close()


@contextlib.contextmanager
def process(argv: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """*argv* running in a session of its own, all of which ends with the block."""
    with log.open("wb") as output:
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        try:
            yield child
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait(10)


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Whether somebody accepts connections on *port*."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _certificates(folder: Path) -> Path:
    try:
        import trustme
    except ImportError:
        missing("trustme")
    ca = trustme.CA()
    names = ("localhost", "127.0.0.1", "bitbucket.org")
    ca.issue_cert(*names).private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    return folder / "ca.pem"


def _me() -> str:
    return pwd.getpwuid(os.getuid()).pw_name
