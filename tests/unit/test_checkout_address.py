"""Which addresses and names reach git at all, and the ssh host keys Leeroy ships."""

from __future__ import annotations

import base64
import hashlib
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leeroy.runner.checkout import address, hosts
from leeroy.runner.checkout.address import Refused


@pytest.mark.parametrize(
    ("text", "protocol", "host", "url"),
    [
        ("https://GitHub.com/acme/shop.git", "https", "github.com", None),
        ("https://git.example.com:8443/a/b/c.git", "https", "git.example.com", None),
        ("http://[::1]:3000/acme/shop", "http", "[::1]", None),
        (
            "https://ada@example.com/shop.git",
            "https",
            "example.com",
            "https://example.com/shop.git",
        ),
        ("git@github.com:acme/shop.git", "ssh", "github.com", None),
        ("github.com:acme/shop.git", "ssh", "github.com", None),
        ("ssh://git@example.com:2222/srv/shop.git", "ssh", "example.com", None),
        ("git://example.com/shop.git", "git", "example.com", None),
        ("/srv/git/my shop.git", "file", "", None),
        ("file:///srv/git/shop.git", "file", "", None),
        ("file://localhost/srv/git/shop.git", "file", "", "file:///srv/git/shop.git"),
        ("  /srv/git/shop.git\n", "file", "", "/srv/git/shop.git"),
    ],
)
def test_addresses_are_taken_apart(text: str, protocol: str, host: str, url: str | None) -> None:
    """What people write as repository is understood, and no user of a URL reaches git."""
    got = address.parse(text)

    assert (protocol, host, url or text) == (got.protocol, got.host, got.url)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the pipeline names no repository"),
        ("ext::sh -c touch% /tmp/PWNED", "ext:: is a transport that runs commands"),
        ("ext::sh", "ext:: is a transport that runs commands"),
        ("fd::17", "fd:: is a transport that runs commands"),
        ("https::https://example.com/x", "https:: is a transport that runs commands"),
        ("--upload-pack=touch PWNED", "begins with a dash"),
        ("-oProxyCommand=touch PWNED:x", "begins with a dash"),
        ("ssh://-oProxyCommand=touch/x", "'-oProxyCommand=touch' is no host's name"),
        ("ssh://git@-oProxyCommand=touch/x", "'-oProxyCommand=touch' is no host's name"),
        ("ssh://-oProxyCommand=x@host/x", "'-oProxyCommand=x' is no user for ssh"),
        ("-x@host:x", "begins with a dash"),
        ("git@-oProxyCommand=x:path", "'-oProxyCommand=x' is no host's name"),
        ("git@host:-x", "names no repository on host"),
        ("host:", "names no repository on host"),
        ("ftp://example.com/x", "ftp:// is not a transport Leeroy clones over"),
        ("git+ssh://example.com/x", "git+ssh:// is not a transport Leeroy clones over"),
        ("https://ada:s3cret@example.com/x", "holds a password"),
        ("https://example.com/x?private_token=s3cret", "has a ? or # in it"),
        ("https://example.com", "names a host but no repository"),
        ("https:///x", "'' is no host's name"),
        ("https://exa$(id)mple.com/x", "is no host's name"),
        ("https://example.com:$(id)/x", "is no host's name"),
        ("https://example.com/a b", "has a space inside"),
        ("/srv/a\nb", "has a control character inside"),
        ("file://host/srv/x", "a file:// address needs an absolute path"),
        ("shop", "is neither a URL nor user@host:path nor an absolute path"),
        ("../shop", "is neither a URL nor user@host:path nor an absolute path"),
    ],
)
def test_what_git_could_misread_is_refused(text: str, sentence: str) -> None:
    """S11: an address that is an option, a command or another transport never reaches git."""
    with pytest.raises(Refused) as refused:
        address.parse(text)

    assert sentence in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_names_that_look_like_options_are_refused() -> None:
    """S10: a branch that begins with a dash is refused, though git might take it as a full ref."""
    for name in (
        "--upload-pack=touch${IFS}PWNED;git-upload-pack",
        "-x",
        "",
        "a..b",
        "a b",
        "a.lock",
    ):
        with pytest.raises(Refused):
            address.ref("heads", name)
    for name in ("$(id)", 'x;touch$IFS"P"', "feature/ünï", "a&b|c", "release/1.0"):
        assert f"refs/heads/{name}" == address.ref("heads", name)
    for name in ("refs/heads/main", "pull/7/head", "refs/pull/../x", "-refs/pull/7/head"):
        with pytest.raises(Refused):
            address.pull_request_ref(name)


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from("ab/.@{}[]~^:?*\\ -\x7f\x01lock"), min_size=1, max_size=12))
def test_git_agrees_on_names(name: str) -> None:
    """Leeroy's rule for names is `git check-ref-format`'s."""
    ref = f"refs/heads/{name}"

    ours = address.is_ref(ref)

    git = subprocess.run(["git", "check-ref-format", ref], check=False).returncode
    assert (0 == git) == ours


def test_a_commit_is_hexadecimal() -> None:
    """Only digits reach git where a commit is meant."""
    assert "abcdef0" == address.sha("ABCDEF0")
    for text in ("abc", "HEAD", "main", "abcdef0^{tree}", "-abcdef0", "abcdef0\n", "g" * 40):
        with pytest.raises(Refused):
            address.sha(text)


def test_the_forges_host_keys_are_the_published_ones() -> None:
    """The fingerprints of the shipped keys are those each forge shows on its own pages."""
    published = {
        "github.com": {
            "ssh-ed25519": "+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU",
            "ecdsa-sha2-nistp256": "p2QAMXNIC1TJYWeIOttrVc98/R1BUFWu3/LiyKgUfQM",
        },
        "gitlab.com": {
            "ssh-ed25519": "eUXGGm1YGsMAS7vkcx6JOJdOGHPem5gQp4taiCfCLB8",
            "ecdsa-sha2-nistp256": "HbW3g8zUjNSksFbqTiUWPWg2Bq1x8xdGUrliXFzSnUw",
        },
        "bitbucket.org": {
            "ssh-ed25519": "ybgmFkzwOSotHTHLJgHO0QN8L0xErw6vd0VhFA9m3SM",
            "ecdsa-sha2-nistp256": "FC73VB6C4OQLSCrjEayhMp9UMxS97caD/Yyi2bhW/J0",
        },
        "codeberg.org": {
            "ssh-ed25519": "mIlxA9k46MmM6qdJOdMnAQpzGxF4WIVVL+fj+wZbw0g",
            "ecdsa-sha2-nistp256": "T9FYDEHELhVkulEKKwge5aVhVTbqCW0MIRwAfpARs/E",
        },
    }

    def fingerprint(key: str) -> str:
        digest = hashlib.sha256(base64.b64decode(key)).digest()
        return base64.b64encode(digest).decode().rstrip("=")

    assert published == {
        host: {kind: fingerprint(key) for kind, key in keys} for host, keys in hosts.KEYS.items()
    }
    assert hosts.known("github.com", "443") is None
