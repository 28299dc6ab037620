"""docs/configuration.md mentions every key there is, and its examples work."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from leeroy import config, pipelines
from leeroy.toml import Section
from tests.servers import ROOT

TEXT = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```toml\n(.*?)```", TEXT, flags=re.S)
EVERY = """
[[test]]
[[build]]
[[deploy]]
[[notify]]
"""


def asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> set[str]:
    """The keys that the code looks for, as it reads a file with one of each table."""
    keys: set[str] = set()
    for name in ("get", "text", "texts", "strings", "measured", "choice", "sections"):
        real = getattr(Section, name)

        def noted(self: Section, key: str, *rest: Any, _real: Any = real, **more: Any) -> Any:
            keys.add(key)
            return _real(self, key, *rest, **more)

        monkeypatch.setattr(Section, name, noted)
    pipelines.read(EVERY, name="shop", file="shop.toml")
    file = tmp_path / "leeroy.toml"
    file.write_text('[executors.x]\nwrap = ["y"]\n')
    config.load(str(file), {})
    return keys


def test_every_key_is_mentioned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A key that nobody can read of is a key that nobody uses."""
    keys = asked_for(monkeypatch, tmp_path)
    assert {"slots", "grace", "verify_within", "wrap", "to", "artifacts", "forks"} <= keys
    assert [] == sorted(key for key in keys if not re.search(rf"\b{key}\b", TEXT))


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_every_example_works(number: int, tmp_path: Path) -> None:
    """What stands in the manual can be copied."""
    text = EXAMPLES[number]
    if "[[test]]" in text:
        assert [] == pipelines.read(text, name="shop", file="shop.toml")[1]
    else:
        file = tmp_path / "leeroy.toml"
        file.write_text(text)
        assert () == config.load(str(file), {}).warnings


def test_there_are_examples() -> None:
    """Of the settings, a pipeline, and an executor."""
    assert len(EXAMPLES) >= 3
