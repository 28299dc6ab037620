"""What a newcomer has after `leeroy init --example`: mistakes only where something is to be filled in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from leeroy import check, init
from leeroy.errors import Mistake

REPOSITORY = "https://github.com/you/yours.git"


def mistakes(folder: Path) -> list[Mistake]:
    found = check.everything(str(folder / "leeroy.toml"), [], {})
    return [one for one in found if not one.warning]


@pytest.mark.parametrize("name", list(init.examples()))
def test_check_names_only_what_is_to_be_filled_in(tmp_path: Path, name: str) -> None:
    """The secrets that secrets.env leaves open; once they are there, nothing."""
    init.folder(tmp_path, REPOSITORY, name)
    secrets = tmp_path / "secrets.env"
    open_ = set(re.findall(r"^# (\w+)=…$", secrets.read_text(), flags=re.M))
    assert open_ == {found[1] for one in mistakes(tmp_path)
                     if (found := re.match(r"env:(\w+) is not set", one.text))}  # fmt: skip
    assert all("is not set" in one.text for one in mistakes(tmp_path))
    secrets.write_text(re.sub(r"^# (\w+)=…$", r"\1=filled-in", secrets.read_text(), flags=re.M))
    assert [] == mistakes(tmp_path)


@pytest.mark.parametrize("name", list(init.examples()))
def test_each_has_its_page_with_a_picture(name: str) -> None:
    """And the page names the command that writes it."""
    docs = Path(__file__).parents[2] / "docs"
    page = (docs / "recipes" / f"{name}.md").read_text(encoding="utf-8")
    assert f"leeroy init --example {name} --repo" in page
    assert f"(../pictures/recipe-{name}.png)" in page
    assert (docs / "pictures" / f"recipe-{name}.png").read_bytes().startswith(b"\x89PNG")
