"""Settings: where they come from, what is refused, and how secrets are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from leeroy import config
from leeroy.errors import ConfigError


def write(folder: Path, text: str, name: str = "leeroy.toml", mode: int = 0o600) -> Path:
    """A file with that text."""
    file = folder / name
    file.write_text(text)
    file.chmod(mode)
    return file


def test_without_a_file_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder is enough, and everything lies in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "SYSTEM", tmp_path / "none")
    found = config.load(environ={})
    assert found.file is None
    assert f"sqlite:///{tmp_path}/var/leeroy.db" == found.database
    assert tmp_path / "pipelines" == found.pipelines
    assert ("127.0.0.1", 8082, 3600, 64_000_000, 10**9) == (
        found.host, found.port, found.stale_after_s, found.max_log, found.max_artifacts
    )  # fmt: skip


def test_the_environment_wins_and_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    """LEEROY_<KEY> is above the file; a path means the same from every working folder."""
    file = write(tmp_path, 'data = "d"\nslots = 3\nlisten = "[::1]:0"\n')
    found = config.load(
        str(file),
        {
            "LEEROY_SLOTS": "5",
            "LEEROY_MAX_ARTIFACTS": "2MB",
            "LEEROY_STEP": "x",
            "LEEROY_ARTIFACTS": "/x",
            "LEEROY_URLL": "y",
        },
    )
    assert 2_000_000 == found.max_artifacts
    assert (tmp_path / "d", 5, "::1", 0) == (found.data, found.slots, found.host, found.port)
    assert ["LEEROY_URLL is no setting of Leeroy's, and is ignored"] == [
        mistake.text for mistake in found.warnings
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("slots = 0", "leeroy.toml:1: slots: must be 1 or more"),
        ('\nlisten = "8082"', "leeroy.toml:2: listen: '8082' is no address and port"),
        ('url = "leeroy"', "leeroy.toml:1: url: 'leeroy' is no address"),
        ('database = "mysql://root:pw@x/y"', 'must be "sqlite:///var/leeroy.db"'),
        ('max_artifacts = "0B"', "leeroy.toml:1: max_artifacts: must be more than nothing"),
        ('keep = "3w"', "leeroy.toml:1: keep: '3w' is no length of time"),
        ('data = ""', "leeroy.toml:1: data: is empty; write a value, or remove the line"),
        ('pipelines = " "', "leeroy.toml:1: pipelines: is empty"),
        ('env_file = ""', "leeroy.toml:1: env_file: is empty"),
        ('mail = ""', "leeroy.toml:1: mail: is empty"),
        ('database = "sqlite:///"', 'database: must be "sqlite:///var/leeroy.db"'),
        ('trusted_proxies = ["x"]', "trusted_proxies: 'x' is no address and no network; write"),
        ('trusted_proxies = ["10.0.0.1/8"]', "trusted_proxies: '10.0.0.1/8' is no address"),
        ('url = "http://a b"', "leeroy.toml:1: url: 'http://a b' is no address"),
        ('url = "http://a:x"', "leeroy.toml:1: url: 'http://a:x' is no address"),
        ('url = "http://a/?b"', "leeroy.toml:1: url: 'http://a/?b' is no address"),
        ('listen = "999.1.1.1:80"', "listen: '999.1.1.1:80' is no address and port"),
        ('listen = "[1:2]:80"', "listen: '[1:2]:80' is no address and port"),
        ('listen = "a/b:80"', "listen: 'a/b:80' is no address and port"),
        ('keep = "999999999d"', "keep: '999999999d' is longer than a hundred years"),
        ('stale_after = "-1h"', "stale_after: '-1h' is no length of time"),
        ('min_free = "-1GB"', "min_free: '-1GB' is no size"),
        ('max_log = "999999999TB"', "max_log: '999999999TB' is more than any disk holds"),
        ("[executors.box]\nwrp = 1", "did you mean 'wrap'?"),
        ('pipeline = "x"', "did you mean 'pipelines'?"),
        ('[env]\nGIT_DIR = "x"', "leeroy.toml:2: env.GIT_DIR: GIT_DIR may not be set"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, said: str) -> None:
    """With file, line, key and remedy; a password in an address is not repeated."""
    with pytest.raises(ConfigError) as caught:
        config.load(str(write(tmp_path, text)), {})
    assert said in str(caught.value)
    assert "pw" not in str(caught.value)


def test_whose_forwarded_headers_count(tmp_path: Path) -> None:
    """Addresses, networks, and everybody; what a server listens on may be a name."""
    text = 'trusted_proxies = ["127.0.0.1", "fd00::/8", "*"]\nlisten = "localhost:80"'
    found = config.load(str(write(tmp_path, text)), {})
    assert ("127.0.0.1", "fd00::/8", "*") == found.trusted_proxies
    assert "localhost" == found.host


def test_a_named_file_that_is_not_there(tmp_path: Path) -> None:
    """Whoever names a file means it: the defaults do not take its place."""
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        config.load(str(tmp_path / "x.toml"), {})


def test_secrets(tmp_path: Path) -> None:
    """The process's environment first, then the env_file; files relative to leeroy.toml."""
    write(tmp_path, "# mine\nA=one\nexport B='two words'\n", "secrets.env")
    write(tmp_path, "three\n", "key")
    file = write(tmp_path, 'env_file = "secrets.env"')
    secrets = config.Secrets(config.load(str(file), {}), {"A": "first"})
    assert ["first", "two words", "three"] == [
        secrets.get(r) for r in ("env:A", "env:B", "file:key")
    ]
    with pytest.raises(ConfigError, match="env:C is not set; set C, or write it into"):
        secrets.get("env:C")
    with pytest.raises(ConfigError, match="file:none cannot be read"):
        secrets.get("file:none")


def test_an_env_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    """The remedy is named, the secret is not."""
    write(tmp_path, "A=hunter2", "secrets.env", mode=0o644)
    file = write(tmp_path, 'env_file = "secrets.env"')
    with pytest.raises(ConfigError, match="chmod 600") as caught:
        config.Secrets(config.load(str(file), {}), {}).get("env:A")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["GIT_SSL_CAINFO", "GIT_SSL_CAPATH"])
def test_an_authority_of_ones_own(name: str, tmp_path: Path) -> None:
    """What docs/checkout.md tells those with their own certificates to write is taken."""
    (tmp_path / "leeroy.toml").write_text(f'[env]\n{name} = "/etc/ssl/our.pem"\n')
    assert "/etc/ssl/our.pem" == config.load(tmp_path / "leeroy.toml").env[name]
