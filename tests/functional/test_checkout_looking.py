"""What the checkout program says of branches and tags: data, within limits, by a deadline."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from leeroy.runner import checkout
from tests.gitservers import a_repo, silent_server


def look(folder: Path, repository: object, mode: str, **wish: Any) -> tuple[int, Any, str]:
    """Exit code, answer (None without one), and what was said."""
    folder.mkdir(exist_ok=True)
    request = folder / checkout.REQUEST
    text = checkout.request(
        repository=str(repository), workspace=folder / "w", mirror=folder / "mirrors" / "m", **wish
    )
    request.write_text(text)
    done = subprocess.run(
        checkout.argv(request, mode=mode),
        env={"PATH": os.environ["PATH"], "LEEROY_RUN_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not (folder / "checkout-private").exists()
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


def test_branches_and_peeled_tags(tmp_path: Path) -> None:
    """Nothing but branches and tags, each with its commit; annotated tags are peeled."""
    repo = a_repo(tmp_path / "srv")
    first = repo.git("rev-parse", "HEAD")
    repo.git("tag", "-a", "-m", "annotated", "v1")
    repo.git("tag", "light")
    repo.git("push", "-q", "origin", "v1", "light", "HEAD:refs/pull/7/head")
    odd = repo.commit("odd", branch='$(touch$IFS"PWNED");--upload-pack=x', a="1")
    code, answer, _ = look(tmp_path / "run", repo.bare, "refs")
    assert 0 == code
    assert {
        "refs/heads/main": first,
        "refs/tags/v1": first,
        "refs/tags/light": first,
        'refs/heads/$(touch$IFS"PWNED");--upload-pack=x': odd,
    } == answer["refs"]


def test_names_that_are_no_text_are_left_out(tmp_path: Path) -> None:
    repo = a_repo(tmp_path / "srv")
    head = repo.git("rev-parse", "HEAD")
    line = head.encode() + b" refs/heads/caf\xe9\n"
    with (repo.bare / "packed-refs").open("ab") as file:
        file.write(b"# pack-refs with: peeled fully-peeled sorted\n" + line)
    code, answer, said = look(tmp_path / "run", repo.bare, "refs")
    assert 0 == code, said
    assert ["refs/heads/main"] == list(answer["refs"])


def test_too_many_are_refused(tmp_path: Path) -> None:
    """Nobody can look at more than fifty thousand; the sentence says so."""
    repo = a_repo(tmp_path / "srv")
    head = repo.git("rev-parse", "HEAD")
    with (repo.bare / "packed-refs").open("w") as file:
        file.write("# pack-refs with: peeled fully-peeled sorted\n")
        file.writelines(f"{head} refs/heads/b{number:06}\n" for number in range(50_001))
    code, answer, said = look(tmp_path / "run", repo.bare, "refs")
    assert (1, None) == (code, answer)
    assert "at most 50000" in said


def test_an_answer_without_end_is_refused(tmp_path: Path) -> None:
    """16 MiB of it are read, no more."""

    repo = a_repo(tmp_path / "srv")
    head = repo.git("rev-parse", "HEAD")
    name = "x" * 200
    with (repo.bare / "packed-refs").open("w") as file:
        file.write("# pack-refs with: peeled fully-peeled sorted\n")
        file.writelines(f"{head} refs/heads/{n:06}{name}\n" for n in range(75_000))
    code, answer, said = look(tmp_path / "run", repo.bare, "refs")
    assert (1, None) == (code, answer)
    assert "more than 16 MiB" in said


def test_heads_with_what_they_passed_over(tmp_path: Path) -> None:
    """The commit's own words, and the commits between the last look and this one."""
    repo = a_repo(tmp_path / "srv")
    first = repo.git("rev-parse", "HEAD")
    second = repo.commit("second", a="2")
    third = repo.commit("third\n\n[skip ci]", a="3")
    repo.git("tag", "-a", "-m", "a tree", "odd", "HEAD^{tree}")
    repo.git("push", "-q", "origin", "odd")
    tree = repo.git("rev-parse", "HEAD^{tree}")
    code, answer, said = look(
        tmp_path / "run",
        repo.bare,
        "heads",
        heads=[
            ("refs/heads/main", third, [first, "e" * 40]),
            ("refs/heads/gone", "d" * 40, []),
            ("refs/tags/odd", tree, []),
        ],
    )
    assert 0 == code, said
    main = answer["heads"]["refs/heads/main"]
    assert (third, "third\n\n[skip ci]", "Ada Lovelace", "ada@example.com", [second]) == (
        main["commit"], main["message"], main["author"], main["author_email"], main["passed_over"]
    )  # fmt: skip
    assert abs(main["at"] - time.time()) < 600
    assert answer["heads"]["refs/heads/gone"] is None
    assert {"commit": None} == answer["heads"]["refs/tags/odd"]


def test_hostile_heads_are_refused(tmp_path: Path) -> None:
    """What the server of this program would never ask for."""
    repo = a_repo(tmp_path / "srv")
    for head in (("--upload-pack=x", "a" * 40, []), ("refs/heads/x", "--all", [])):
        code, answer, _ = look(tmp_path / "run", repo.bare, "heads", heads=[head])
        assert (1, None) == (code, answer)


def test_a_silent_server_ends_by_the_deadline(tmp_path: Path) -> None:
    """Also when whoever asked is gone, and nobody is there to kill it."""
    with silent_server() as port:
        began = time.monotonic()
        url = f"http://127.0.0.1:{port}/shop.git"
        code, answer, said = look(tmp_path / "run", url, "refs", deadline_s=1.0)
        assert (checkout.TOO_LATE, None) == (code, answer)
        assert "deadline" in said
        assert 20 > time.monotonic() - began
