"""Artifacts are copied whole or not at all, and put into a deploy as they were left or not at all."""

from __future__ import annotations

import hashlib
import itertools
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from leeroy import files
from leeroy.db.artifacts import Artifact
from leeroy.durations import sized
from leeroy.scheduler import artifacts
from leeroy.scheduler.artifacts import ArtifactError

GB = 10**9


class Bench:
    """A workspace with files, and the folder they are kept in."""

    def __init__(self, folder: Path) -> None:
        self.workspace = folder / "workspaces" / "7"
        self.kept = folder / "artifacts" / "7"
        self.deploy = folder / "workspaces" / "7-production"
        for made in (self.workspace, self.deploy):
            made.mkdir(parents=True)
        self.write("dist/shop.whl", "wheel")
        self.write("dist/deep/er/x.txt", "x")
        self.write("readme", "not kept")

    def write(self, path: str, text: str) -> Path:
        file = self.workspace / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def collect(
        self, *patterns: str, earlier: tuple[Artifact, ...] = (), limit: int = GB
    ) -> tuple[Artifact, ...]:
        return artifacts.collect(self.workspace, patterns, self.kept, earlier, limit)

    def there(self) -> list[str]:
        return sorted(self._files(self.kept.parent))

    def deployed(self) -> dict[str, str]:
        return {path: (self.deploy / path).read_text() for path in self._files(self.deploy)}

    @staticmethod
    def _files(folder: Path) -> list[str]:
        if not folder.exists():
            return []
        return [str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("dist/*", ["dist/deep/er/x.txt", "dist/shop.whl"]),
        ("dist/*.whl", ["dist/shop.whl"]),
        ("./dist/", ["dist/deep/er/x.txt", "dist/shop.whl"]),
        ("**/*.txt", ["dist/deep/er/x.txt"]),
        ("dist/**", ["dist/deep/er/x.txt", "dist/shop.whl"]),
        ("dist/**.whl", ["dist/shop.whl"]),
        ("**/**/er", ["dist/deep/er/x.txt"]),
        (".", ["dist/deep/er/x.txt", "dist/shop.whl", "readme"]),
        ("d[i]st/shop.???", ["dist/shop.whl"]),
    ],
)
def test_what_a_pattern_names(bench: Bench, pattern: str, paths: list[str]) -> None:
    """Files, and folders with all that is in them; noted with what is in each."""
    kept = bench.collect(pattern)
    assert paths == [artifact.path for artifact in kept]
    assert [f"7/{path}" for path in paths] == bench.there()
    for artifact in kept:
        data = (bench.workspace / artifact.path).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (artifact.size, artifact.sha256)


def _pipe(bench: Bench) -> None:
    os.mkfifo(bench.workspace / "dist/pipe")


def _socket(bench: Bench) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(bench.workspace / "dist/s"))


def _link(bench: Bench) -> None:
    (bench.workspace / "dist/zz").symlink_to("/etc/passwd")


def _link_in_between(bench: Bench) -> None:
    (bench.workspace / "dist").rename(bench.workspace / "other")
    (bench.workspace / "dist").symlink_to("other")


def _the_workspace_itself(bench: Bench) -> None:
    other = bench.workspace.with_name("other")
    bench.workspace.rename(other)
    bench.workspace.symlink_to(other)


def _bytes(bench: Bench) -> None:
    (bench.workspace / os.fsdecode(b"dist/b\xffd")).write_text("x")


def _long(bench: Bench) -> None:
    bench.write("/".join(["dist", *["x" * 250] * 4]), "x")


def _nothing(bench: Bench) -> None:
    (bench.workspace / "dist").rename(bench.workspace / "other")


def _empty(bench: Bench) -> None:
    _nothing(bench)
    (bench.workspace / "dist/inner").mkdir(parents=True)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_pipe, "dist/pipe is no plain file"),
        (_socket, "dist/s is no plain file"),
        (_link, "dist/zz is a link"),
        (_link_in_between, "dist is a link"),
        (_the_workspace_itself, "the workspace is a link"),
        (_bytes, "no UTF-8"),
        (_long, "bytes, more than 1000"),
        (_nothing, r"nothing in the workspace matches 'dist/\*'"),
        (_empty, "names only empty folders"),
    ],
)
def test_what_is_refused(bench: Bench, spoil: Callable[[Bench], None], sentence: str) -> None:
    """With a sentence, and nothing is kept of it."""
    spoil(bench)
    with pytest.raises(ArtifactError, match=sentence):
        bench.collect("dist/*")
    assert [] == bench.there()


def test_links_on_the_way_of_a_wildcard_are_not_followed(bench: Bench) -> None:
    """A loop of links beside the files is no reason to fail, nor one to go round for ever."""
    (bench.workspace / "dist/loop").symlink_to(".")
    assert ["dist/shop.whl"] == [a.path for a in bench.collect("**/*.whl", "*/*.whl")]


def test_too_much_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes and files count for the whole build; the sentence says how many and what to do."""
    (wheel,) = bench.collect("dist/*.whl", limit=5)
    with pytest.raises(ArtifactError, match=r"6 B \(6 bytes\).*max_artifacts is 5 B.*leeroy.toml"):
        bench.collect("dist/deep", earlier=(wheel,), limit=5)
    assert ["7/dist/shop.whl"] == bench.there()
    bench.write("dist/shop.whl", "WHEEL")
    assert bench.collect("dist/*.whl", earlier=(wheel,), limit=5), "the same path counts once"
    monkeypatch.setattr(artifacts, "MOST_FILES", 1)
    with pytest.raises(ArtifactError, match=r"more than 1 files.*pack them"):
        bench.collect("dist/deep", earlier=(wheel,))
    with pytest.raises(ArtifactError, match="more than 1 files"):
        bench.collect("dist")
    assert ["7/dist/shop.whl"] == bench.there()


def test_a_sparse_giant_is_refused_before_it_is_read(bench: Bench) -> None:
    """A file's size is asked first."""
    with (bench.workspace / "dist/giant").open("wb") as giant:
        giant.truncate(8 * 10**12)
    with pytest.raises(ArtifactError, match=r"8.0 TB"):
        bench.collect("dist/*")
    assert [] == bench.there()


def test_what_a_lost_attempt_left_goes(bench: Bench, tmp_path: Path) -> None:
    """Only what this attempt's steps left stays, whatever a crash or a script put there."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/x").write_text("mine")
    (wheel,) = bench.collect("dist/*.whl")
    bench.kept.joinpath("old/er").mkdir(parents=True)
    bench.kept.joinpath("old/er/file").write_text("old")
    bench.kept.joinpath("dist/deep").symlink_to(tmp_path / "outside")
    bench.kept.with_name(".new-7").mkdir()
    bench.kept.with_name(".new-7").joinpath("half").write_text("half")
    (deep,) = bench.collect("dist/deep", earlier=(wheel,))
    assert ["7/dist/deep/er/x.txt", "7/dist/shop.whl"] == bench.there()
    assert not (bench.kept / "old").exists()
    assert (tmp_path / "outside/x").exists()
    artifacts.unpack(bench.kept, (wheel, deep), bench.deploy)
    assert {"dist/shop.whl": "wheel", "dist/deep/er/x.txt": "x"} == bench.deployed()


def _die_at(number: int) -> None:
    """From now on: die like `kill -9` at the so-manieth touch of the disk."""
    touches = itertools.count(1)

    def hook(event: str, _: object) -> None:
        if event.startswith(("open", "os.")) and next(touches) == number:
            os._exit(9)

    sys.addaudithook(hook)


def test_a_crash_at_any_moment(bench: Bench) -> None:
    """Whenever the copying dies: what is done again is whole, and nothing else is left."""
    (wheel,) = bench.collect("dist/*.whl")
    for number in itertools.count(1):
        bench.kept.joinpath("old").touch()
        bench.kept.joinpath("dist/deep").mkdir(exist_ok=True)
        child = os.fork()
        if child == 0:
            try:
                _die_at(number)
                bench.collect("dist/deep", "readme", earlier=(wheel,))
                os._exit(0)
            finally:
                os._exit(1)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, 9)
        assert "wheel" == (bench.kept / "dist/shop.whl").read_text(), "what was whole stays whole"
        kept = bench.collect("dist/deep", "readme", earlier=(wheel,))
        assert ["7/dist/deep/er/x.txt", "7/dist/shop.whl", "7/readme"] == bench.there()
        artifacts.unpack(bench.kept, (wheel, *kept), bench.deploy)
        if code == 0:
            break
    assert number > 20


def test_a_file_of_one_step_where_another_has_a_folder(bench: Bench) -> None:
    """That cannot be unpacked, so it is said at once."""
    (wheel,) = bench.collect("dist/*.whl")
    (bench.workspace / "dist").rename(bench.workspace / "other")
    bench.write("dist", "a file")
    with pytest.raises(ArtifactError, match="dist is a file of one step and a folder of another"):
        bench.collect("dist", earlier=(wheel,))
    assert ["7/dist/shop.whl"] == bench.there()


def _gone(kept: Path) -> None:
    (kept / "dist/shop.whl").unlink()


def _all_gone(kept: Path) -> None:
    kept.rename(kept.with_name("elsewhere"))


def _changed(kept: Path) -> None:
    (kept / "dist/shop.whl").write_text("WHEEL")


def _longer(kept: Path) -> None:
    (kept / "dist/shop.whl").write_text("wheel and more")


def _added(kept: Path) -> None:
    (kept / "dist/more").write_text("")


def _made_a_link(kept: Path) -> None:
    (kept / "dist/shop.whl").rename(kept.parent / "shop.whl")
    (kept / "dist/shop.whl").symlink_to(kept.parent / "shop.whl")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_gone, "dist/shop.whl is gone from"),
        (_all_gone, "is gone from"),
        (_changed, "dist/shop.whl in .* has changed since"),
        (_longer, "dist/shop.whl in .* has changed since"),
        (_added, "dist/more is in .*, and the build did not leave it"),
        (_made_a_link, "dist/shop.whl is a link"),
    ],
)
def test_what_is_not_as_it_was_left(
    bench: Bench, spoil: Callable[[Path], None], sentence: str
) -> None:
    """Is not deployed."""
    kept = bench.collect("dist/*")
    spoil(bench.kept)
    with pytest.raises(ArtifactError, match=sentence):
        artifacts.unpack(bench.kept, kept, bench.deploy)


def test_nothing_is_unpacked_through_a_link_of_the_checkout(bench: Bench, tmp_path: Path) -> None:
    """A commit with a link where artifacts go does not lead them out of the workspace."""
    kept = bench.collect("dist/*")
    (bench.deploy / "dist").symlink_to(tmp_path)
    with pytest.raises(ArtifactError, match="dist of the checkout is a link"):
        artifacts.unpack(bench.kept, kept, bench.deploy)
    assert not (tmp_path / "shop.whl").exists()


def test_builds_of_before_there_were_lists(bench: Bench) -> None:
    """What they left is taken as it is; nothing is not what they left."""
    bench.collect("dist/*.whl")
    artifacts.unpack(bench.kept, None, bench.deploy)
    assert {"dist/shop.whl": "wheel"} == bench.deployed()
    _gone(bench.kept)
    with pytest.raises(ArtifactError, match="nothing is left of them"):
        artifacts.unpack(bench.kept, None, bench.deploy)
    artifacts.unpack(bench.kept, (), bench.deploy)


@pytest.mark.parametrize("path", ["../x", "dist/../../x", "/etc/passwd", "dist//x", ".", "", "a/."])
def test_no_path_leads_out(bench: Bench, path: str) -> None:
    """Also not one that names a file that is there."""
    (bench.workspace.parent / "x").write_text("x")
    with pytest.raises(files.NotPlain, match="leads elsewhere"):
        files.open_(bench.workspace, path)


def test_a_folder_or_a_device_is_no_file(bench: Bench) -> None:
    """Only plain files are opened."""
    for base, path in ((bench.workspace, "dist"), (Path("/dev"), "null")):
        with pytest.raises(files.NotPlain, match="no plain file"):
            files.open_(base, path)


def test_sizes_for_people() -> None:
    """In the units of the settings."""
    assert ["999 B", "1.0 kB", "1.2 GB", "2000.0 TB"] == [
        sized(n) for n in (999, 1000, 1_234_567_890, 2 * 10**15)
    ]
