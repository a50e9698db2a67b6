"""What a program may give, and what a request then holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.artifact import CalibrationMethod, Precision
from exporter.builds.option import refuse_unusable
from exporter.builds.request import ExportRequest
from exporter.errors import UsageError
from exporter.pack.request import PackRequest
from exporter.quantize.method import Correction


@pytest.mark.parametrize(
    ("name", "given", "held"),
    [
        ("targets", ["ort-cpu", "openvino", "ort-cpu"], ("ort-cpu", "openvino")),
        ("targets", "ort-cpu, openvino", ("ort-cpu", "openvino")),
        ("keep", iter(["fc"]), ("fc",)),
        ("precisions", ["fp32", Precision.INT8], (Precision.FP32, Precision.INT8)),
        ("precisions", "int8", (Precision.INT8,)),
        ("precisions", "FP32,Int8", (Precision.FP32, Precision.INT8)),
        ("calibration_method", "MSE", CalibrationMethod.MSE),
        ("batches", [8, 1, 8], (8, 1)),
        ("batches", np.array([1, 8]), (1, 8)),
        ("batches", "1,8", (1, 8)),
        ("max_drop", 0.005, "0.5%"),
        ("min_sqnr", 30, 30.0),
        ("min_agreement", "0.99", "99%"),
        ("data", "images", Path("images")),
        ("out", Path("out"), Path("out")),
        ("calibration_method", "minmax", CalibrationMethod.MINMAX),
        ("correction", "none", Correction.NONE),
        ("between", "fp16", Precision.FP16),
        ("settings", {"tensorrt": {"memory_mb": 4096}}, {"tensorrt": {"memory_mb": "4096"}}),
    ],
)
def test_what_is_given_becomes_what_is_held(name: str, given: Any, held: Any) -> None:
    value = getattr(ExportRequest(**{name: given}), name)
    assert value == held
    items = value if isinstance(value, tuple) else (value,)
    assert [type(item) for item in items] == [
        type(item) for item in (held if isinstance(held, tuple) else (held,))
    ]


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("precisions", ["fp33"], "unknown precision 'fp33'; did you mean fp32"),
        ("precisions", [8], "8 in .8.: give texts"),
        ("calibration_method", "MES", "unknown calibration method 'MES'; did you mean mse"),
        ("between", "int8", "'int8' is not one of 'fp32', 'fp16'"),
        ("between", "bf16", "'bf16' is not one of 'fp32', 'fp16'"),
        ("batches", 8, "batches 8: give positive numbers, as in 1,8,32"),
        ("batches", [0], "batches .0.: give positive numbers"),
        ("batches", [1.5], "batches .1.5.: give positive numbers"),
        ("batches", "1,x", "batches '1,x': give positive numbers"),
        ("max_drop", "0%", "--max-drop '0%' is no budget: give a share above 0 and below 50 %"),
        ("max_drop", "50%", "'50%' is no budget"),
        ("max_drop", "much", "'much' is no budget"),
        ("min_sqnr", 0, "--min-sqnr 0 is no budget: give decibels above 0 and at most 120"),
        ("min_sqnr", 120.5, "--min-sqnr 120.5 is no budget"),
        ("min_sqnr", float("nan"), "--min-sqnr nan is no budget"),
        ("min_sqnr", True, "--min-sqnr True is no budget"),
        ("min_agreement", "50%", "--min-agreement '50%' is no budget: give a share above 50 %"),
        ("min_agreement", 1.0, "--min-agreement 1.0 is no budget"),
        ("data", 5, "5 is a int: give the path"),
        ("settings", {"tensorrt": 5}, "give settings by target and key"),
    ],
)
def test_what_cannot_be_taken_is_named(name: str, given: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ExportRequest(**{name: given})


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (ExportRequest(rounds=4), "rounds is 4: give a whole number of at least 5"),
        (ExportRequest(seed="0"), "seed is '0': give a whole number of at least 0"),  # type: ignore[arg-type]
        (ExportRequest(threads=True), "threads is True: give a whole number of at least 1"),
        (ExportRequest(samples=7), "samples is 7"),
        (ExportRequest(measure=1), "measure is 1: give True or False"),  # type: ignore[arg-type]
        (ExportRequest(weights=Path("w.pth")), "weights is .+: give a text"),  # type: ignore[arg-type]
        (PackRequest("b", slo_ms="5"), "slo_ms is '5': give a number"),  # type: ignore[arg-type]
    ],
)
def test_what_the_command_line_would_refuse_is_refused(request_: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        refuse_unusable(request_)


def test_what_the_command_line_would_take_is_taken() -> None:
    refuse_unusable(ExportRequest())
    refuse_unusable(ExportRequest(rounds=5, threads=1, samples=8, weights="random", measure=False))
    refuse_unusable(PackRequest("b", slo_ms=5, backend="onnxruntime"))
