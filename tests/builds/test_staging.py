"""What takes the place of something else: whole, or the old content is there as it was."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from exporter.builds.staging import check_writable, staged_file, staged_folder
from exporter.errors import InputError

ROOT = Path(__file__).parents[2]
OURS = ("engines", "golden.npz", "manifest.json")
MOVES = 2 * len(OURS)
"""Renames that exchange a folder of `write`: each entry out, each entry in."""


def write(folder: Path, text: str) -> None:
    (folder / "engines").mkdir()
    for name in ("engines/fp32.onnx", "golden.npz", "manifest.json"):
        (folder / name).write_text(text)


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder that is there already, with a file in it that is not ours."""
    folder = tmp_path / "out"
    folder.mkdir()
    write(folder, "old")
    (folder / "notes.txt").write_text("mine")
    return folder


@contextmanager
def stopped(
    monkeypatch: pytest.MonkeyPatch, at: int, error: BaseException, *, after: bool, last: int = 0
) -> Iterator[None]:
    """Has the `at`-th rename of the exchange raise, before or after it happens.

    With `last`, all up to that one; those that undo others count as well.
    """
    rename: Callable[[Path, Path], Path] = Path.replace
    count = 0

    def replace(self: Path, target: Path) -> Path:
        nonlocal count
        if {"old", "new"} & {self.name, self.parent.name, target.parent.name}:
            count += 1
            stop = at <= count <= max(at, last)
            if stop and not after:
                raise error
            result = rename(self, target)
            if stop:
                raise error
            return result
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        yield


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, MOVES + 1))
@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(143), OSError(5, "Input/output error")]
)
def test_an_interrupted_exchange_leaves_the_old_content(
    old: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, at: int, after: bool
) -> None:
    before, itself = contents(old), old.stat().st_ino
    expected = InputError if isinstance(error, OSError) else type(error)
    with (
        pytest.raises(expected),
        stopped(monkeypatch, at, error, after=after),
        staged_folder(old, OURS) as new,
    ):
        write(new, "new")
    assert contents(old) == before
    assert old.stat().st_ino == itself
    assert list(old.parent.iterdir()) == [old]


def test_what_cannot_be_put_back_is_kept_and_the_error_says_where(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = OSError(30, "Read-only file system")
    with (
        pytest.raises(
            InputError, match=r"Read-only file system; what was there is now in \S+"
        ) as e,
        stopped(monkeypatch, MOVES, dead, after=False, last=1000),
        staged_folder(old, OURS) as new,
    ):
        write(new, "new")
    assert contents(Path(str(e.value).rpartition(" ")[2])) == dict.fromkeys(
        ("engines/fp32.onnx", "golden.npz", "manifest.json"), "old"
    )


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_new_folder_appears_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    out = tmp_path / "out"
    with (
        pytest.raises(KeyboardInterrupt),
        stopped(monkeypatch, 1, KeyboardInterrupt(), after=after),
        staged_folder(out) as new,
    ):
        write(new, "new")
    assert [path.name for path in tmp_path.iterdir()] == (["out"] if after else [])
    assert len(contents(tmp_path)) == (3 if after else 0)


def test_names_that_are_not_ours_stay(old: Path) -> None:
    with staged_folder(old, OURS) as new:
        (new / "manifest.json").write_text("new")
    assert contents(old) == {"manifest.json": "new", "notes.txt": "mine"}


def test_a_working_directory_stays_one(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(old)
    with staged_folder(Path()) as new:
        write(new, "new")
    assert Path("manifest.json").read_text() == "new"
    assert not Path("notes.txt").exists()


def test_a_link_is_followed(old: Path) -> None:
    link = old.with_name("latest")
    link.symlink_to(old.name)
    with staged_folder(link, OURS) as new:
        write(new, "new")
    assert link.is_symlink()
    assert (old / "manifest.json").read_text() == "new"


@pytest.mark.parametrize("name", ["old", "new", "old.tar.zst"])
def test_any_name_will_do(tmp_path: Path, name: str) -> None:
    for text in ("first", "second"):
        with staged_folder(tmp_path / "folders" / name) as new:
            write(new, text)
        with staged_file(tmp_path / "files" / name) as file:
            file.write_text(text)
            file.with_name("beside").mkdir()
    assert set(contents(tmp_path).values()) == {"second"}
    assert len(contents(tmp_path)) == 4
    assert len(list(tmp_path.glob("*/*"))) == 2


def test_a_file_is_replaced_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "bundle.tar.zst"
    out.write_text("old")
    with (
        pytest.raises(KeyboardInterrupt),
        stopped(monkeypatch, 1, KeyboardInterrupt(), after=False),
        staged_file(out) as new,
    ):
        new.write_text("new")
    assert contents(tmp_path) == {"bundle.tar.zst": "old"}


EXPORT = """
import sys
from pathlib import Path
from exporter.builds.staging import staged_folder
out, text, times = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for _ in range(times):
    with staged_folder(out, "abcdef") as new:
        for name in "abcdef":
            (new / name).write_text(text)
"""


def start(*arguments: str | Path, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*before, sys.executable, "-c", EXPORT, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_of_two_that_finish_together_one_is_left_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    processes = [start(out, text, "50") for text in "xy"]
    ends = [process.communicate(timeout=120)[1] for process in processes]
    assert ends == ["", ""]
    assert len(contents(out)) == 6
    assert len(set(contents(out).values())) == 1
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.skipif(shutil.which("unshare") is None, reason="Linux's unshare makes the mount")
@pytest.mark.parametrize("kind", ["another file system", "the same file system"])
def test_a_mount_point_is_filled(tmp_path: Path, kind: str) -> None:
    """Nothing can be renamed into it from outside: the volume of a container."""
    out, inside = tmp_path / "out", tmp_path / "volume"
    out.mkdir()
    inside.mkdir()
    mount = f"mount --bind {inside} {out}"
    if kind == "another file system":
        mount = f"mount -t tmpfs tmpfs {inside} && {mount}"
    unshare = ("unshare", "--mount", "--map-root-user", "sh", "-c")
    if subprocess.run([*unshare, mount], check=False, capture_output=True).returncode:
        pytest.skip("this system lets nobody mount")
    script = f'{mount} && "$@" && "$@" && ls -A {out} && cat {out}/*'
    done = subprocess.run(
        [*unshare, script, "sh", sys.executable, "-c", EXPORT, out, "x", "1"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [*"abcdef", "x" * 6]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "volume"]


def test_a_place_is_tried_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "here").mkdir()
    for good in ("here", "new", "new/deeper", "here/new"):
        check_writable(tmp_path / good)
    for bad in (tmp_path / "file" / "out", Path("/proc/out"), Path("/proc")):
        with pytest.raises(InputError, match=f"cannot write to {bad}: .* --out"):
            check_writable(bad)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "here"]
