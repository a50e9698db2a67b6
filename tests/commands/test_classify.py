"""`exporter classify` on the real digits: one row a picture, resumable, whole files only."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

import exporter
from exporter.builds.dataset_request import ClassifyRequest
from exporter.cli import main
from exporter.commands import classify as classifying
from exporter.commands.classify import Classification, ClassifyJob, label
from exporter.errors import InputError, UsageError
from exporter.images.sources import files
from exporter.images.sources.source import Encoded
from exporter.progress import Silent
from tests.images.sources.stores import folder, parquet, png, rotated_jpeg, write
from tests.packed import digits_bundle


def asked(data: object, out: Path, **options: Any) -> Classification:
    return label(ClassifyRequest(digits_bundle(), data=str(data), out=out, **options), Silent())


def rows(out: Path) -> list[dict[str, Any]]:
    return [
        row for file in sorted(out.glob("*.parquet")) for row in pq.read_table(file).to_pylist()
    ]


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight pictures a part, two parts a file: forty pictures are in three."""
    monkeypatch.setattr(files, "PART", 8)
    monkeypatch.setattr(classifying, "SHARD", 2)


def test_a_row_a_picture_as_the_engine_predicts(tmp_path: Path) -> None:
    data = folder(str(tmp_path / "p"))
    found = asked(data, tmp_path / "out.parquet", top=3)
    assert (found.images, found.files, found.failures) == (40, 1, ())
    (file,) = (tmp_path / "out.parquet").glob("part-*.parquet")
    paths = sorted(Path(data).rglob("*.png"))
    with exporter.load(digits_bundle(), engine=json.loads(
        (tmp_path / "out.parquet" / "_job.json").read_text())["engine"], threads=1
    ) as engine:  # fmt: skip
        expected = [
            best for at in range(0, 40, 8) for best in engine.predict(paths[at : at + 8], 3)
        ]
    kept = pq.read_table(file).to_pylist()
    assert [row["path"] for row in kept] == [path.relative_to(data).as_posix() for path in paths]
    assert [row["index"] for row in kept] == [best[0].index for best in expected]
    assert [row["probability"] for row in kept] == [best[0].probability for best in expected]
    assert [row["margin"] for row in kept] == [
        best[0].probability - best[1].probability for best in expected
    ]
    assert [row["top_labels"] for row in kept] == [[one.label for one in best] for best in expected]
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 40


@pytest.mark.parametrize(("on_gpu", "loads"), [(False, 3), (True, 1)])
def test_workers_have_an_engine_each_but_share_a_gpus(
    monkeypatch: pytest.MonkeyPatch, on_gpu: bool, loads: int
) -> None:
    """That of a GPU is one of a CPU here: this is about who loads it and how often."""
    loaded: list[exporter.runtime.Engine] = []

    def load(*given: Any, **options: Any) -> exporter.runtime.Engine:
        loaded.append(exporter.load(*given, **options))
        return loaded[-1]

    monkeypatch.setattr(classifying, "load", load)
    batch = tuple(Encoded(str(n), png(n)) for n in range(8))
    job = ClassifyJob(digits_bundle(), "ort-cpu.int8", 1, 1, on_gpu)
    with job.opened(3) as work, ThreadPoolExecutor(3) as pool:
        first, *others = pool.map(work, [batch] * 12)
    assert len(loaded) == loads
    assert all(other == first for other in others)


@pytest.mark.usefixtures("small_files")
def test_a_second_run_does_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, out = folder(str(tmp_path / "p")), tmp_path / "out"
    whole = asked(data, tmp_path / "whole")
    assert (whole.files, whole.images) == (3, 40)
    real, written = classifying._write, list[str]()

    def dies(file: Path, *args: Any) -> None:
        if len(written) == 1:
            raise KeyboardInterrupt
        written.append(file.name)
        real(file, *args)

    monkeypatch.setattr(classifying, "_write", dies)
    with pytest.raises(KeyboardInterrupt):
        asked(data, out)
    assert sorted(one.name for one in out.iterdir()) == ["_job.json", "part-00000.parquet"]
    kept = (out / "part-00000.parquet").stat().st_mtime_ns
    monkeypatch.setattr(classifying, "_write", real)
    again = asked(data, out)
    assert (again.files, again.done_before, again.images) == (3, 1, 40)
    assert (out / "part-00000.parquet").stat().st_mtime_ns == kept
    for file in (tmp_path / "whole").iterdir():
        assert (out / file.name).read_bytes() == file.read_bytes()
    assert asked(data, out).done_before == 3


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    data, out = folder(str(tmp_path / "p")), tmp_path / "out"
    asked(data, out)
    with pytest.raises(UsageError, match=r"holds the predictions of another run \(other top\)"):
        asked(data, out, top=2)
    with pytest.raises(UsageError, match=r"other data, pictures"):
        asked(parquet(f"{tmp_path}/x.parquet"), out)
    with pytest.raises(UsageError, match="is not empty and no folder of predictions"):
        asked(data, tmp_path / "p")
    with pytest.raises(UsageError, match="is a file"):
        asked(data, tmp_path / "x.parquet")


def test_what_cannot_be_read_has_a_row_and_a_name(tmp_path: Path) -> None:
    data = folder(str(tmp_path / "p"), (0, 1))
    write(f"{data}/3/torn.png", b"no picture")
    found = asked(data, tmp_path / "out")
    assert found.images == 3
    assert found.unreadable[0].startswith("3/torn.png cannot be read as a picture (")
    assert "1 images cannot be read" in found.failures[0]
    torn = next(row for row in rows(tmp_path / "out") if row["error"] is not None)
    assert (torn["path"], torn["label"], torn["probability"]) == ("3/torn.png", None, None)
    assert asked(data, tmp_path / "out", skip_unreadable=True).failures == ()


def test_exif_is_followed(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    upright = rotated_jpeg(tmp_path / "p" / "a.jpg")
    Image.fromarray(upright).save(tmp_path / "p" / "b.png")
    asked(tmp_path / "p", tmp_path / "out")
    turned, plain = rows(tmp_path / "out")
    assert turned["probability"] == pytest.approx(plain["probability"], abs=0.02)
    assert turned["index"] == plain["index"]


def test_a_bundle_that_is_none_or_has_no_such_engine(tmp_path: Path) -> None:
    data = folder(str(tmp_path / "p"), (0,))
    with pytest.raises(InputError, match=r"none does not exist; give a bundle"):
        label(ClassifyRequest(tmp_path / "none", data=data, out=tmp_path / "o"), Silent())
    with pytest.raises(InputError, match="int9"):
        asked(data, tmp_path / "o", engine="ort-cpu.int9")
    assert not (tmp_path / "o").exists()


def test_the_command_line_and_a_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, bundle = folder(str(tmp_path / "p")), str(digits_bundle())
    with pytest.raises(SystemExit) as ended:
        main(["classify", bundle, "--data", data, "--out", str(tmp_path / "a"), "-q"])
    assert ended.value.code == 0
    assert "40 images in 1 files" in capsys.readouterr().out
    assert exporter.classify(bundle, data=data, out=tmp_path / "b").images == 40
    assert rows(tmp_path / "a") == rows(tmp_path / "b")
