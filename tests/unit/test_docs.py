"""The docs say what the code does: generated pages are fresh, links lead somewhere, examples work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.generate import FOLDER, PAGES
from leeroy import init, pipelines
from leeroy.refs import FORGES
from leeroy.web.app import DOORS

ROOT = FOLDER.parent
PAPERS = sorted(
    [
        *ROOT.glob("*.md"),
        *FOLDER.glob("*.md"),
        *FOLDER.glob("recipes/*.md"),
        *FOLDER.glob("forges/*.md"),
        ROOT / "pipelines" / "README.md",
    ]
)


@pytest.mark.parametrize("page", PAGES)
def test_a_generated_page_is_fresh(page: str) -> None:
    """`python -m docs.generate` would change nothing."""
    assert PAGES[page]() == (FOLDER / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("paper", PAPERS, ids=lambda p: p.name)
def test_every_link_leads_to_a_file(paper: Path) -> None:
    """No page sends its reader nowhere."""
    text = paper.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)\)|src=\"([^\"]+)\"", text):
        link = target[0] or target[1]
        if "://" not in link:
            assert (paper.parent / link).exists(), link


@pytest.mark.parametrize("paper", PAPERS, ids=lambda p: p.name)
def test_every_command_that_is_named_exists(paper: Path) -> None:
    """A reader who types what stands there is not told that there is no such command."""
    known = (FOLDER / "commands.md").read_text(encoding="utf-8")
    words = set(re.findall(r"^## leeroy ([a-z]+)", known, flags=re.M))
    for block in re.findall(r"`([^`\n]*leeroy [a-z][^`\n]*)`", paper.read_text(encoding="utf-8")):
        for word in re.findall(r"(?:^|\s)leeroy ([a-z]+)", block):
            assert word in words, block


def test_every_door_is_documented() -> None:
    """Each address of the API stands in docs/api.md."""
    text = (FOLDER / "api.md").read_text(encoding="utf-8")
    for door in DOORS:
        if door.path.startswith(("/static", "/login")) or door.path in ("/", "/environments"):
            continue
        if door.path == "/builds/{id:int}":
            continue
        path = door.path.replace(":int", "").replace(":path", "")
        assert path.rpartition("/")[2] in text or path in text, door.path


@pytest.mark.parametrize("name", init.examples())
def test_every_example_is_a_pipeline_without_a_mistake(name: str) -> None:
    """`leeroy init --example` gives something that works."""
    file = init.examples()[name]
    text = file.read_text(encoding="utf-8")
    pipeline, mistakes = pipelines.read(text, name=name, file=str(file))
    assert [] == mistakes
    assert pipeline is not None
    assert pipeline.tests
    assert pipeline.deploys


@pytest.mark.parametrize("name", init.examples())
def test_every_example_has_a_page(name: str) -> None:
    """It says how to begin, and shows the page of a build."""
    text = (FOLDER / "recipes" / f"{name}.md").read_text(encoding="utf-8")
    assert f"leeroy init --example {name} " in text
    assert f"](../pictures/recipe-{name}.png)" in text
    assert (FOLDER / "pictures" / f"recipe-{name}.png").is_file()


@pytest.mark.parametrize("forge", FORGES)
def test_every_forge_has_a_page_from_zero_to_the_first_deploy(forge: str) -> None:
    """Its steps in order, its pipeline without a mistake, its door, and commands that exist."""
    text = (FOLDER / "forges" / f"{forge}.md").read_text(encoding="utf-8")
    steps = re.findall(r"^## ([0-9])\.", text, flags=re.M)
    assert ["1", "2", "3", "4", "5"] == steps
    assert f"/hooks/{forge}`" in text
    block = re.search(r"```toml\n(repository.*?)```", text, flags=re.S)
    assert block is not None
    pipeline, mistakes = pipelines.read(block[1], name="shop", file="shop.toml")
    assert [] == mistakes
    assert pipeline is not None and pipeline.forge == forge and pipeline.deploys
    named = (FOLDER / "commands.md").read_text(encoding="utf-8")
    for command in re.findall(r"leeroy ((?:hook )?[a-z]+)(?: |`)", text):
        assert f"## leeroy {command}" in named, command


def test_every_trigger_is_told_of() -> None:
    """The API's page has every word that `trigger` may be."""
    found = {"poll"}
    for file in (ROOT / "leeroy").rglob("*.py"):
        found |= set(re.findall(r'\btrigger="([a-z_]+)"', file.read_text(encoding="utf-8")))
    assert {"push", "poll", "pull_request", "schedule", "manual", "retry", "deploy"} == found
    text = (FOLDER / "api.md").read_text(encoding="utf-8").partition("`trigger` says")[2]
    for word in found:
        assert f"`{word}`" in text


def test_the_readme_names_the_two_commands() -> None:
    """They are in the Makefile, and the README's first pipeline is one."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in ("demo", "test"):
        assert f"make {command}" in readme
        assert re.search(rf"^{command}:", makefile, flags=re.M)
    block = re.search(r"```toml\n(repository.*?)```", readme, flags=re.S)
    assert block is not None
    _, mistakes = pipelines.read(block[1], name="yours", file="yours.toml")
    assert [] == mistakes
