"""What a newcomer has after `leeroy init --example`: mistakes only where something is to be filled in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from leeroy import check, init
from leeroy.errors import Invalid, Mistake, NotFound

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


def test_an_example_that_is_not_there_leaves_nothing_behind(tmp_path: Path) -> None:
    """The folder is made only when there is something to put into it."""
    where = tmp_path / "there"
    with pytest.raises(NotFound, match=r"there are: binaries-s3, .*"):
        init.folder(where, None, "bogus")
    assert not where.exists()
    with pytest.raises(Invalid):
        init.folder(where, 'a"b', None)
    assert not where.exists()


@pytest.mark.parametrize(
    ("said", "meant"), [("s3", "binaries-s3"), ("django-herokku", "django-heroku")]
)
def test_a_near_name_is_offered(tmp_path: Path, said: str, meant: str) -> None:
    """A part of a name, or a slip in it."""
    with pytest.raises(NotFound, match=f"did you mean {meant}"):
        init.folder(tmp_path, None, said)
