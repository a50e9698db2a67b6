"""Networks as strangers have them, through every precision on both runtimes of a CPU.

Each is right in numbers that are not ours (`tests/independent.py`), or there is one true line.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

import exporter
from exporter.commands.build import Build
from exporter.models.sources import define
from exporter.progress import Silent
from tests.independent import RIGHT, Answers, Array, check_line, judged, of_file, of_module
from tests.zoo.cases import FILES, MODULES, TIMM, Case
from tests.zoo.torchvision_guard import why_no_timm

pytestmark = [
    pytest.mark.zoo,
    pytest.mark.timeout(1200),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

SAMPLES = 8
CASES = {
    **{f"module: {name}": case for name, case in MODULES.items()},
    **{f"file: {name}": case for name, case in FILES.items()},
    **TIMM,
}


@pytest.mark.parametrize("name", CASES)
def test_a_network_is_right_or_there_is_one_true_line(
    name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    case = CASES[name]
    if name in TIMM and (why := why_no_timm()):
        pytest.skip(f"timm cannot be imported: {why}")
    record_property("network", name)
    torch.manual_seed(0)
    model = case.make()
    given = None
    if isinstance(model, onnx.ModelProto):
        given = tmp_path / "net.onnx"
        given.write_bytes(model.SerializeToString())
    answers = answers_of(model, case)
    try:
        build = built(given or model, case, tmp_path / "build")
    except exporter.ExporterError as error:
        message = str(error).replace(str(given), "net.onnx")
        record_property("refused", message)
        check_line(message)
        assert case.refused, message
        assert re.search(case.refused, message)
        assert list(tmp_path.iterdir()) == ([given] if given else [])
        return
    assert not case.refused, "it was to be refused"
    found = judged(build, answers)
    for engine, outcome in found.items():
        record_property(engine, outcome)
    for engine, outcome in found.items():
        expected = next((why for part, why in case.failing.items() if part in engine), RIGHT)
        assert expected in outcome, engine


def built(model: nn.Module | Path | str, case: Case, out: Path) -> Build:
    is_module = isinstance(model, nn.Module)
    shapes = case.inputs or {"x": case.shape}
    return exporter.export(
        model,
        example={n: torch.zeros(1, *shape) for n, shape in shapes.items()} if is_module else None,
        image_size=case.shape[-1] if isinstance(model, str) else None,
        weights="random" if isinstance(model, str) else "auto",
        targets=["ort-cpu", "openvino"],
        precisions=["fp32", "fp16", "int8"],
        samples=SAMPLES,
        calibration_samples=SAMPLES,
        correction="biases" if isinstance(model, str) else "all",
        measure=False,
        threads=1,
        out=out,
    )


def answers_of(model: nn.Module | onnx.ModelProto | str, case: Case) -> Callable[[Array], Answers]:
    if isinstance(model, onnx.ModelProto):
        return of_file(model)
    if isinstance(model, str):
        module = define(model, "random", image_size=case.shape[-1], progress=Silent()).module
        assert module is not None
        return of_module(module)
    return of_module(copy.deepcopy(model))
