"""What `leeroy serve` does around the server itself."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest

import leeroy.serve
from leeroy.cli import upkeep


def test_garbage_is_collected_as_soon_as_all_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server may wait for its disk for days before it is ready: its memory must not grow."""
    seen: list[bool] = []

    def serves(*_: Any) -> int:
        seen.append(gc.isenabled())
        return 0

    (tmp_path / "leeroy.toml").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(leeroy.serve, "serve", serves)
    monkeypatch.setattr(leeroy.serve, "set_up_log", lambda verbose: None)
    try:
        assert 0 == upkeep.serve()
    finally:
        gc.enable()
        gc.unfreeze()
    assert [True] == seen
