"""A file is there whole, or what was there before is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from exporter.disk.writing import whole_file, write_whole


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, ValueError])
@pytest.mark.parametrize("before", ["old", None])
def test_an_interrupted_file_leaves_the_old_one(
    tmp_path: Path, error: type[BaseException], before: str | None
) -> None:
    path = tmp_path / "manifest.json"
    if before is not None:
        path.write_text(before)
    with pytest.raises(error), whole_file(path) as file:
        file.write_text("half")
        assert (path.read_text() if path.exists() else None) == before
        raise error
    assert (path.read_text() if path.exists() else None) == before
    assert len(list(tmp_path.iterdir())) == (before is not None)


def test_the_name_to_write_to_keeps_its_suffix(tmp_path: Path) -> None:
    """Libraries go by it: savez appends one of its own, OpenVINO refuses others than .xml."""
    with whole_file(tmp_path / "model.xml") as file:
        assert file.suffix == ".xml"
        assert file.parent == tmp_path
        file.touch()


def test_a_file_is_as_open_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_whole(tmp_path / "whole", b"")
    assert (tmp_path / "whole").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_text_is_written_as_it_is(tmp_path: Path) -> None:
    write_whole(tmp_path / "text", "a\r\nb\nüñ")
    assert (tmp_path / "text").read_bytes() == b"a\r\nb\n" + "üñ".encode()


def test_what_a_killed_process_of_the_same_number_left_is_in_nobodys_way(tmp_path: Path) -> None:
    """In a container every process has the same number."""
    path = tmp_path / "graph.onnx"
    path.with_name(f".{path.name}.{os.getpid()}").write_text("left behind")
    write_whole(path, b"whole")
    assert path.read_bytes() == b"whole"


def test_two_at_once_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "ranges.json"
    with whole_file(path) as first, whole_file(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]
