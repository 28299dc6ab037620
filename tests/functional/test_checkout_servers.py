"""Checkouts from real servers: https with and without a login, ssh, git://; and their refusals."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from leeroy.runner import checkout
from leeroy.runner.checkout import address, environment, git
from leeroy.runner.checkout.trouble import Trouble
from tests.checkouts import Host
from tests.gitservers import (
    HttpsGit,
    Repo,
    SshGit,
    a_repo,
    free_port,
    git_daemon,
    https_git,
    silent_server,
    ssh_git,
)
from tests.parts import need
from tests.waiting import until

CANARY = "canary-t0ken"
WRONG = "wr0ng-canary"


@pytest.fixture(scope="module")
def srv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("srv")


@pytest.fixture(scope="module")
def shop(srv: Path) -> Repo:
    return a_repo(srv)


@pytest.fixture(scope="module")
def https(srv: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpsGit]:
    with https_git(srv, tmp_path_factory.mktemp("nginx")) as server:
        yield server


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshGit]:
    with ssh_git(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def host(tmp_path: Path, https: HttpsGit) -> Host:
    return Host(tmp_path / "data", {"GIT_SSL_CAINFO": str(https.ca)})


def everything_in(*folders: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file below *folders*, and what is in it."""
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                yield path, path.read_bytes()


def test_https_without_a_login(host: Host, https: HttpsGit, shop: Repo) -> None:
    """A public repository needs no token, first and again."""
    assert shop.git("rev-parse", "main") == host.checkout(https.public()).head
    commit = shop.commit("more")
    assert commit == host.checkout(https.public(), commit=commit, branch="main").head


def test_https_with_a_token(host: Host, https: HttpsGit, shop: Repo) -> None:
    """A private repository opens with the token, which stays in no file of mirror or workspace."""
    outcome = host.checkout(https.private(), token=https.token + "\n")
    commit = shop.commit("private")
    again = host.checkout(https.private(), token=https.token, commit=commit, branch="main")

    assert 0 == outcome.code
    assert commit == again.head
    token = https.token.encode()
    assert [] == [
        path
        for path, content in everything_in(host.data)
        if token in content and path.name != checkout.REQUEST
    ]
    assert https.token not in outcome.log + outcome.error + again.log
    assert sorted(path.name for path in again.run_dir.iterdir()) == [
        checkout.REQUEST,
        checkout.RESULT,
    ]


def test_the_user_of_the_address_is_the_tokens_user(
    host: Host, https: HttpsGit, shop: Repo
) -> None:
    """Deploy tokens have users of their own, which the address names; only the login hears it."""
    address = https.private().replace("//", f"//{https.user}@")
    wrong = https.private().replace("//", "//somebody@")

    outcome = host.checkout(address, token=https.token)

    assert 0 == outcome.code
    assert f"{https.user}@" not in (outcome.workspace / ".git/config").read_text()
    assert 1 == host.checkout(wrong, token=https.token).code


def test_a_wrong_token_is_said_to_be_one(host: Host, https: HttpsGit, shop: Repo) -> None:
    """The sentence names host and repository, and never the token."""
    outcome = host.checkout(https.private(), token=WRONG)

    assert 1 == outcome.code
    server = https.url.removeprefix("https://")
    assert (
        f"{server} refuses the token for {https.private()}; "
        "has it expired, and may it read this repository?\n"
    ) == outcome.error


def test_a_missing_token_is_asked_for(host: Host, https: HttpsGit, shop: Repo) -> None:
    """Nothing prompts; the sentence says which key to set."""
    outcome = host.checkout(https.private())

    server = https.url.removeprefix("https://")
    assert (
        1,
        f"{server} asks for a login, and the pipeline has none; set token\n",
    ) == (outcome.code, outcome.error)


def test_the_service_users_own_logins_do_not_count(
    host: Host, https: HttpsGit, shop: Repo, tmp_path: Path
) -> None:
    """A ~/.netrc or credential store of the service user opens nothing: the pipeline says what."""
    (tmp_path / ".netrc").write_text(
        f"machine localhost login {https.user} password {https.token}\n"
    )
    (tmp_path / ".git-credentials").write_text(
        https.url.replace("//", f"//{https.user}:{https.token}@") + "\n"
    )
    (tmp_path / ".gitconfig").write_text("[credential]\n\thelper = store\n")
    host = Host(host.data, {**host.env, "HOME": str(tmp_path)})

    outcome = host.checkout(https.private())

    assert "asks for a login, and the pipeline has none; set token\n" in outcome.error


def test_a_missing_repository_is_named(host: Host, https: HttpsGit, shop: Repo) -> None:
    """A wrong path on a right server is told apart from a refused login."""
    public = host.checkout(https.public("nowhere"))
    private = host.checkout(https.private("nowhere"), token=https.token)

    assert 1 == public.code == private.code
    assert (
        f"localhost has no repository {https.public('nowhere')}, or does not show it "
        "to us without a token; is the address right? If it is private, set token\n"
    ) == public.error
    assert (
        f"localhost has no repository {https.private('nowhere')}, or does not show it "
        "to this token; is the address right, and may the token read it?\n"
    ) == private.error


def test_an_unknown_authority_is_named(tmp_path: Path, https: HttpsGit, shop: Repo) -> None:
    """Certificates are checked, and the sentence says where one's own authority goes."""
    outcome = Host(tmp_path).checkout(https.public())

    assert 1 == outcome.code
    assert (
        f"the certificate of {https.url.removeprefix('https://')} is not trusted" in outcome.error
    )
    assert "set GIT_SSL_CAINFO to its file under [env] in leeroy.toml\n" in outcome.error


def test_ssl_cert_file_is_honoured(tmp_path: Path, https: HttpsGit, shop: Repo) -> None:
    """The variable every other tool reads works for the checkout as well."""
    host = Host(tmp_path, {"SSL_CERT_FILE": str(https.ca), "GIT_SSL_NO_VERIFY": "1"})

    assert 0 == host.checkout(https.public()).code


def test_no_other_git_variable_counts(tmp_path: Path, https: HttpsGit, shop: Repo) -> None:
    """GIT_SSL_NO_VERIFY and the like in the environment change nothing."""
    host = Host(tmp_path, {"GIT_SSL_NO_VERIFY": "1", "GIT_TRACE": "2", "GIT_DIR": "/nowhere"})

    outcome = host.checkout(https.public())

    assert 1 == outcome.code
    assert "is not trusted" in outcome.error
    assert "trace" not in outcome.error
    assert 0 == host.checkout(shop.bare).code


def test_a_renamed_repository_is_followed(host: Host, https: HttpsGit, shop: Repo) -> None:
    """A redirect on the same host (a renamed repository) works, token included."""
    assert 0 == host.checkout(f"{https.url}/moved/shop.git", token=https.token).code


def test_a_token_does_not_follow_to_another_host(host: Host, https: HttpsGit, shop: Repo) -> None:
    """S14: another host we are redirected to is not given the token."""
    outcome = host.checkout(f"{https.url}/elsewhere/shop.git", token=https.token)

    assert 1 == outcome.code
    assert f"{https.url}/elsewhere/shop.git leads to https://127.0.0.1:" in outcome.error
    assert "the token is only for localhost" in outcome.error
    assert https.user not in https.log.read_text().splitlines()[-1]


@pytest.mark.parametrize("where", ["to-file", "to-ext"])
def test_no_redirect_leaves_the_protocol(
    host: Host, https: HttpsGit, shop: Repo, where: str
) -> None:
    """S11: a server cannot send git to file:// or ext::, only the configured one is allowed."""
    outcome = host.checkout(f"{https.url}/{where}/shop.git")

    assert 1 == outcome.code
    assert f"{https.url}/{where}/shop.git" in outcome.error
    assert not (https.log.parent / "PWNED").exists()


def test_ssh_with_a_key(host: Host, ssh: SshGit, shop: Repo) -> None:
    """A deploy key opens the repository; the host is remembered, the key is not."""
    commit = shop.commit("by ssh")

    outcome = host.checkout(ssh.address(shop), ssh_key=ssh.key)

    assert commit == outcome.head
    assert f"[127.0.0.1]:{ssh.port} " in (host.data / "known_hosts").read_text()
    secret = ssh.key.splitlines()[2].encode()
    assert [] == [
        path
        for path, content in everything_in(host.data)
        if secret in content and path.name != checkout.REQUEST
    ]


@pytest.mark.parametrize("spoil", [str.strip, lambda key: key.replace("\n", "\r\n")])
def test_keys_may_be_copied_badly(host: Host, ssh: SshGit, shop: Repo, spoil: object) -> None:
    """A lost last newline or Windows line ends do not break a key."""
    assert callable(spoil)
    assert 0 == host.checkout(ssh.address(shop), ssh_key=spoil(ssh.key)).code


def test_ssh_refusals_are_told_apart(host: Host, ssh: SshGit, shop: Repo, tmp_path: Path) -> None:
    """A wrong key, half a key and a missing repository have sentences of their own."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True
    )
    wrong = host.checkout(ssh.address(shop), ssh_key=(tmp_path / "other").read_text())
    half = host.checkout(ssh.address(shop), ssh_key=ssh.key[:100])
    missing = host.checkout(ssh.address(shop) + "x", ssh_key=ssh.key)

    assert [1, 1, 1] == [wrong.code, half.code, missing.code]
    assert (
        f"127.0.0.1:{ssh.port} refuses the ssh_key; "
        "is its public half a deploy key of the repository?\n"
    ) == wrong.error
    assert (
        f"the ssh_key for 127.0.0.1:{ssh.port} cannot be read; "
        "it must be the whole private key, without a passphrase\n"
    ) == half.error
    assert f"127.0.0.1 has no repository {ssh.address(shop)}x, or does not" in missing.error


def test_a_changed_host_key_is_refused(host: Host, shop: Repo, tmp_path: Path) -> None:
    """Whoever answers at a known host's address with another key gets nothing."""
    port = free_port()
    with ssh_git(tmp_path / "first", port) as server:
        assert 0 == host.checkout(server.address(shop), ssh_key=server.key).code
    shop.commit("new")
    with ssh_git(tmp_path / "second", port) as server:
        outcome = host.checkout(server.address(shop), ssh_key=server.key, branch="main")

    assert 1 == outcome.code
    assert (
        f"127.0.0.1:{port} shows another ssh host key than before, so it may be somebody else; "
        "if the change is announced, remove the old line from known_hosts in Leeroy's data\n"
    ) == outcome.error


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_a_forges_host_key_is_known_beforehand(host: Host, tmp_path: Path, kind: str) -> None:
    """Who pretends to be github.com is refused at the first contact, whatever key he shows."""
    with ssh_git(tmp_path / "sshd", kind=kind) as server:
        # an ssh that goes to our server, whatever host it is told
        fake = tmp_path / "bin" / "ssh"
        fake.parent.mkdir()
        fake.write_text(
            f"#!/bin/sh\nexec {need('ssh')} -oHostName=127.0.0.1 -oPort={server.port} "
            '-oHostKeyAlias=github.com "$@"\n'
        )
        fake.chmod(0o755)
        host = Host(host.data, {"PATH": f"{fake.parent}:{os.environ['PATH']}"})

        outcome = host.checkout("git@github.com:acme/shop.git", ssh_key=server.key)

    assert 1 == outcome.code
    assert "github.com shows " in outcome.error
    assert "it may be somebody else" in outcome.error
    assert not (host.data / "known_hosts").exists()


def test_git_daemon(host: Host, srv: Path, shop: Repo, tmp_path: Path) -> None:
    """git:// works too, for what it is worth."""
    with git_daemon(srv, tmp_path / "daemon") as url:
        assert 0 == host.checkout(f"{url}/shop.git").code
        outcome = host.checkout(f"{url}/nowhere.git")

    assert 1 == outcome.code
    assert f"127.0.0.1 has no repository {url}/nowhere.git" in outcome.error


def test_passing_trouble_is_asked_again(host: Host, https: HttpsGit) -> None:
    """No server, no such name, a 503: asked three times, then named as what it is."""
    port = free_port()
    addresses = [
        f"{https.url}/broken/shop.git",
        f"https://localhost:{port}/shop.git",
        "http://nowhere.invalid/shop.git",
    ]

    runs = [host.start(url, token=CANARY) for url in addresses]
    outcomes = [run.wait() for run in runs]

    assert [1, 1, 1] == [outcome.code for outcome in outcomes]
    assert [2, 2, 2] == [outcome.log.count("asking again in ") for outcome in outcomes]
    broken, dead, unknown = (outcome.error for outcome in outcomes)
    assert f"{https.url.removeprefix('https://')} did not answer as it should (" in broken
    assert "503" in broken
    assert f"localhost:{port} did not answer as it should (" in dead
    assert "the name nowhere.invalid is not known here" in unknown
    warned = ["nowhere.invalid gets the token unencrypted" in o.log for o in outcomes]
    assert [False, False, True] == warned


def test_a_silent_server_does_not_hold_a_slot_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that takes the connection and says nothing is given up (here after 0.2 s)."""
    monkeypatch.setattr(git, "SILENCE_S", 0.2)
    monkeypatch.setattr(git, "PAUSES_S", ())
    with silent_server() as port:
        where = address.parse(f"git://127.0.0.1:{port}/shop.git")
        nothing = environment.Credentials(where, None, None)
        ours = git.Git(where, nothing, {"PATH": os.environ["PATH"]}, str(tmp_path))

        with pytest.raises(Trouble) as trouble:
            ours.remote("ls-remote", where.url)

    assert f"127.0.0.1:{port} did not answer as it should (timed out" in str(trouble.value)


def test_credentials_are_for_their_owner_only(host: Host, shop: Repo) -> None:
    """
    S14: no argv and no environment holds the token while git works.

    Its files are 0600 in a folder of 0700, and a polite end removes them.
    """
    with silent_server() as port:
        run = host.start(f"http://127.0.0.1:{port}/shop.git", token=CANARY)
        private = run.run_dir / "checkout-private"
        # between fork and exec a child still shows its parent's environment
        until(lambda: gits(run.process.pid), what="git to run")

        pids = [run.process.pid, *children(run.process.pid)]
        seen = {
            (pid, kind): (Path("/proc") / str(pid) / kind).read_bytes()
            for pid in pids
            for kind in ("cmdline", "environ")
        }
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in private.iterdir()}
        mode = stat.S_IMODE(private.stat().st_mode)
        run.process.terminate()
        run.process.communicate(timeout=10)

    assert len(seen) >= 4
    assert all(
        b"GIT_ALLOW_PROTOCOL=http\0" in text
        for (pid, kind), text in seen.items()
        if kind == "environ" and pid != run.process.pid
    )
    assert [] == [key for key, text in seen.items() if b"canary" in text]
    assert {"askpass": 0o700, "config": 0o600, "token": 0o600, "user": 0o600} == modes
    assert 0o700 == mode
    assert not private.exists()


def gits(pid: int) -> bool:
    """Whether there are children, and all of them are executing git."""
    found = [(Path("/proc") / str(child) / "cmdline") for child in children(pid)]
    return bool(found) and all(b"git" in file.read_bytes().partition(b"\0")[0] for file in found)


def children(pid: int) -> list[int]:
    """Every process below *pid*."""
    found = []
    for task in (Path("/proc") / str(pid) / "task").glob("*/children"):
        for child in task.read_text().split():
            found += [int(child), *children(int(child))]
    return found


def test_the_online_check_changes_nothing(host: Host, https: HttpsGit, shop: Repo) -> None:
    """`leeroy check --online` asks with the same credentials, and leaves nothing behind."""
    run_dir = host.data / "runs" / "check"
    run_dir.mkdir(parents=True)
    text = checkout.request(
        repository=https.private(),
        workspace=host.data / "w",
        mirror=checkout.mirror_of(host.data, https.private()),
        token=https.token,
    )
    (run_dir / checkout.REQUEST).write_text(text)

    done = subprocess.run(
        checkout.argv(online_check=True),
        env={"PATH": os.environ["PATH"], "LEEROY_RUN_DIR": str(run_dir), **host.env},
        capture_output=True,
        text=True,
        check=False,
    )

    assert f"{https.private()} answers; its default branch is main\n" == done.stdout
    assert 0 == done.returncode
    assert [run_dir / checkout.REQUEST] == list(run_dir.iterdir())
    assert not (host.data / "mirrors").exists()
    assert not (host.data / "w").exists()
