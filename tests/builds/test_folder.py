"""A build is whole or not there, and never replaces what is not its own."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from exporter.artifact import Precision
from exporter.builds.folder import BuildFolder, check_destination, find_build, sha256_of, staged
from exporter.errors import InputError, UsageError


def fill(folder: BuildFolder, text: str) -> None:
    folder.portable_path(Precision.FP32).parent.mkdir()
    folder.portable_path(Precision.FP32).write_text(text)
    (folder.root / "manifest.json").write_text(
        json.dumps({"schema": 1, "model": {"name": folder.model}})
    )


def test_a_build_appears_whole_and_replaces_its_predecessor(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "resnet18"
    for text in ("first", "second"):
        with staged(out, "resnet18") as folder:
            fill(folder, text)
            assert not out.exists() or text == "second"
        assert (out / "onnx" / "resnet18.fp32.onnx").read_text() == text
    assert [entry.name for entry in out.parent.iterdir()] == ["resnet18"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, UsageError, OSError])
def test_an_interrupted_build_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    out = tmp_path / "resnet18"
    with staged(out, "resnet18") as folder:
        fill(folder, "kept")
    with pytest.raises(error), staged(out, "resnet18") as folder:
        fill(folder, "lost")
        raise error
    assert (out / "onnx" / "resnet18.fp32.onnx").read_text() == "kept"
    assert [entry.name for entry in tmp_path.iterdir()] == ["resnet18"]


def test_files_of_others_in_a_build_folder_survive(tmp_path: Path) -> None:
    out = tmp_path / "resnet18"
    with staged(out, "resnet18") as folder:
        fill(folder, "first")
    (out / "notes.txt").write_text("mine")
    with staged(out, "resnet18") as folder:
        fill(folder, "second")
    assert (out / "notes.txt").read_text() == "mine"


def test_a_destination_of_another_model_is_refused(tmp_path: Path) -> None:
    with staged(tmp_path / "out", "resnet18") as folder:
        fill(folder, "x")
    with pytest.raises(UsageError, match="holds a build of resnet18, not resnet50"):
        check_destination(tmp_path / "out", "resnet50")


def test_a_destination_that_is_no_build_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="holds no build"):
        check_destination(tmp_path, "resnet18")
    with pytest.raises(UsageError, match="is a file"):
        check_destination(tmp_path / "thesis.tex", "resnet18")


def test_what_a_killed_export_left_in_a_folder_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / ".out.x1.partial").mkdir()
    with staged(tmp_path, "resnet18") as folder:
        fill(folder, "whole")
    assert (tmp_path / "onnx" / "resnet18.fp32.onnx").read_text() == "whole"


def test_an_unwritable_destination_is_one_line(tmp_path: Path) -> None:
    blocker = tmp_path / "blocker"
    blocker.write_text("")
    with pytest.raises(InputError, match="cannot write to"), staged(blocker / "out", "resnet18"):
        pytest.fail("the body must not run")


def test_hashes_and_rejected_names(tmp_path: Path) -> None:
    folder = BuildFolder(tmp_path, "resnet18")
    engine = folder.engine("tensorrt-rtx:sm89", Precision.FP16).with_suffix(".plan")
    assert engine.relative_to(tmp_path).as_posix() == "engines/tensorrt-rtx-sm89/fp16.plan"
    engine.parent.mkdir(parents=True)
    engine.write_bytes(b"plan")
    entry = folder.entry(engine)
    assert entry.sha256 == hashlib.sha256(b"plan").hexdigest() == sha256_of(engine)
    rejected = folder.reject(entry)
    assert rejected.path == "engines/tensorrt-rtx-sm89/fp16.plan.rejected"
    assert sha256_of(tmp_path / rejected.path) == rejected.sha256 == entry.sha256
    assert not engine.exists()


def test_a_portable_graph_survives_the_rejection_of_its_engine(tmp_path: Path) -> None:
    folder = BuildFolder(tmp_path, "resnet18")
    graph = folder.portable_path(Precision.FP16)
    graph.parent.mkdir()
    graph.write_bytes(b"onnx")
    rejected = folder.reject(folder.entry(graph))
    assert graph.read_bytes() == (tmp_path / rejected.path).read_bytes() == b"onnx"
    assert rejected.path.endswith(".rejected")


@pytest.mark.parametrize(
    ("source", "folder"),
    [
        ("resnet50", "build/resnet50"),
        ("timm:resnet10t.c3_in1k", "build/resnet10t.c3_in1k"),
        ("nets.thin:Thin", "build/Thin"),
        ("models/thin v2.onnx", "build/thin_v2"),
        ("some/where", "some/where"),
    ],
)
def test_a_build_is_found_by_its_folder_or_by_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, folder: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(folder).mkdir(parents=True)
    assert find_build(source) == find_build(Path(source)) == Path(folder)


def test_a_build_that_is_not_there_names_the_folder_and_what_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    expected = r"in build/Thin; run: exporter export nets:Thin"
    with pytest.raises(InputError, match=expected):
        find_build("nets:Thin")
    with pytest.raises(InputError, match=r"in build/a_b; run: exporter export 'x/a b.onnx'"):
        find_build("x/a b.onnx")
    with pytest.raises(InputError, match=r"^build/resnet5 is no folder; give one"):
        find_build("build/resnet5")
