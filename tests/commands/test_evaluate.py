"""`exporter evaluate` on the real digits: the counts, the same in every form and by any workers."""

from __future__ import annotations

import functools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter import open_build
from exporter.artifact import Skipped
from exporter.builds.dataset_request import EvaluateRequest
from exporter.builds.gate_request import GateRequest
from exporter.cli import main
from exporter.commands import gate as gating
from exporter.commands.evaluate import EvaluateJob, Evaluation, evaluate
from exporter.commands.gated_engines import opened_subject
from exporter.errors import InputError, UsageError
from exporter.progress import Silent
from tests.commands.test_gate import pictures
from tests.images.sources.stores import ALL, folder, parquet, tar, write
from tests.packed import digits_build, digits_bundle, edited_build, on_a_gpu

INT8 = ("ort-cpu.int8",)


def asked(build: Path, data: object, **options: Any) -> Evaluation:
    return evaluate(EvaluateRequest(build, data=str(data), engines=INT8, **options), Silent())


def test_the_counts_are_those_of_the_gate(tmp_path: Path) -> None:
    build = Path(shutil.copytree(digits_build(), tmp_path / "build"))
    data = pictures(build.parent / "data", 120)
    found = asked(build, data)
    gated = gating.gate(GateRequest(build, data=data, engines=INT8), Silent())
    (engine,), (judged,) = found.engines, gated.gate.engines
    assert (found.images, found.labelled, found.failures, found.unreadable) == (120, 120, (), ())
    assert (engine.flips, engine.judged, engine.near_ties) == (
        judged.flips, judged.judged, judged.near_ties,
    )  # fmt: skip
    assert (engine.lost, engine.gained, engine.top1) == (judged.lost, judged.gained, judged.top1)
    assert found.top1_reference == judged.top1_reference
    assert isinstance(engine.top5, float)
    assert engine.top5 >= 0.99


def test_every_form_and_any_workers_give_the_same_result(tmp_path: Path) -> None:
    alone = asked(digits_build(), folder(f"{tmp_path}/p"), workers=1)
    three = asked(digits_build(), f"{tmp_path}/p", workers=3)
    assert three == alone
    for uri in (
        parquet(f"{tmp_path}/all.parquet"),
        tar(f"{tmp_path}/all.tar"),
        folder("memory://evaluate/p"),
    ):
        assert replace(asked(digits_build(), uri), data="") == replace(alone, data="")


def test_a_machine_that_would_ask_something_else_is_refused(tmp_path: Path) -> None:
    """A node of a cluster that has other libraries or another GPU than the rest."""
    with opened_subject(digits_build(), INT8, 1) as subject:
        reference = subject.reference
    job = EvaluateJob(digits_build(), INT8, 1, True, None, reference)
    with job.opened(1):
        pass
    other = replace(job, reference="ort-cuda.fp32 of the bundle")
    with pytest.raises(UsageError, match=r"the reference, ort-cuda.fp32 .* \(here it is the flo"):
        other.opened(1).__enter__()
    nowhere = functools.partial(on_a_gpu, target="ort-cuda:none")
    lacking = replace(job, build=edited_build(tmp_path, nowhere))
    with pytest.raises(
        UsageError, match=r"asked here: ort-cpu.int8 \(target ort-cuda .*give an --engine"
    ):
        lacking.opened(1).__enter__()


def test_a_bundle_is_asked_against_its_float_engine(tmp_path: Path) -> None:
    data = folder(str(tmp_path / "p"))
    bundle = asked(digits_bundle(), data)
    assert bundle.reference == "ort-cpu.fp32 of the bundle"
    assert [one.id for one in bundle.engines] == list(INT8)


def test_what_cannot_be_decoded_is_named_and_counted(tmp_path: Path) -> None:
    data = folder(str(tmp_path / "p"))
    write(f"{data}/3/torn.png", b"no picture")
    write(f"{data}/4/empty.png", b"")
    found = asked(digits_build(), data)
    assert found.images == 40
    assert [one.split()[0] for one in found.unreadable] == ["3/torn.png", "4/empty.png"]
    assert found.unreadable[0].startswith("3/torn.png cannot be read as a picture (none of JPEG")
    assert found.failures[0].startswith("2 images cannot be read; --skip-unreadable goes on")
    assert asked(digits_build(), data, skip_unreadable=True).failures == ()


def test_without_labels_and_without_a_reference(tmp_path: Path) -> None:
    data = folder(str(tmp_path / "p"), classes=False)
    found = asked(digits_build(), data)
    assert found.labelled == 0
    assert isinstance(found.engines[0].top1, Skipped)
    assert found.engines[0].agreement == 1.0
    alone = asked(digits_build(), data, reference=False).engines[0]
    assert isinstance(alone.agreement, Skipped)
    assert isinstance(alone.flips, Skipped)


def test_strange_labels_are_refused_and_a_wrong_order_is_said(tmp_path: Path) -> None:
    names = (*(f"{number}x" for number in range(9)), "9")
    with pytest.raises(InputError, match=r"9 of 10 labels are none of the model's"):
        asked(digits_build(), pictures(tmp_path / "strange", 40, names))
    turned = ("1", "2", "0", *"3456789")
    found = asked(digits_build(), pictures(tmp_path / "turned", 60, turned))
    assert any("in another order than the model's classes" in note for note in found.notes)
    write(f"{tmp_path}/x.tar", Path(tar(f"{tmp_path}/y.tar", ALL[:3])).read_bytes())
    uri = parquet(f"{tmp_path}/n.parquet", ALL[:2], kind=["0", "cat"])
    with pytest.raises(InputError, match="cat"):
        asked(digits_build(), uri, label_column="kind")


def test_nothing_that_can_be_decoded_is_an_error(tmp_path: Path) -> None:
    write(f"{tmp_path}/p/torn.png", b"no picture")
    with pytest.raises(InputError, match=r"no image can be decoded: torn.png cannot be read"):
        asked(digits_build(), tmp_path / "p")
    with pytest.raises(UsageError, match="unknown engine"):
        evaluate(EvaluateRequest(digits_build(), data="x", engines=("ort-cpu.int9",)), Silent())


def test_the_command_line_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = folder(str(tmp_path / "p"))
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(digits_build()), "--data", data, "--json", "-q"])
    assert ended.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == 40
    assert [one["id"] for one in found["engines"]] == list(open_build(digits_build()))
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(digits_build()), "--data", str(tmp_path / "none"), "-q"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "nothing there" in said


def test_a_program_gets_the_evaluation(tmp_path: Path) -> None:
    found = open_build(digits_build()).evaluate(data=folder(str(tmp_path / "p")), engines=INT8)
    assert np.isclose(found.engines[0].top1, found.top1_reference, atol=0.05)  # type: ignore[arg-type]
