"""An option that nothing of a request uses is refused by name; one that something uses is taken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import attrs
import pytest

from exporter.artifact import CalibrationMethod, Precision, TensorSpec
from exporter.builds.benchmark_request import BenchmarkRequest
from exporter.builds.option import declarations
from exporter.builds.request import Concern, ExportRequest
from exporter.builds.unused import (
    refuse_batches,
    refuse_unused,
    refuse_unused_by_model,
    refuse_unused_in_benchmark,
)
from exporter.errors import UsageError
from exporter.plan import plan
from exporter.quantize.method import Correction
from exporter.targets import Target
from exporter.targets.ort.cpu import OrtCpu
from exporter.targets.ort.cuda import OrtCuda
from exporter.targets.tensorrt.full import TensorRt
from exporter.targets.tensorrt.rtx import TensorRtRtx
from tests import manifests

# Every option that is about something, off its default.
GIVEN: dict[str, Any] = {
    "calibration_samples": 64,
    "batches": (1, 8),
    "rounds": 50,
    "keep": ("fc",),
    "calibration_method": CalibrationMethod.MINMAX,
    "correction": Correction.NONE,
    "reduce_range": True,
    "between": Precision.FP16,
    "profile": "1:8:32",
    "allow_fallback": True,
}
BUDGETS: dict[str, Any] = {"max_drop": "1%", "min_sqnr": 30.0, "min_agreement": "99%"}
"""Each asks for an engine in `mixed`, which is its use, where a target has one."""
LEAST = ExportRequest(targets=("ort-cpu",), precisions=(Precision.FP32,), measure=False)
"""Nothing is quantized, has a profile, runs on a GPU or is measured."""


def target(kind: type[Target]) -> Target:
    """What a target says of itself, on a machine that has its library or not."""
    return OrtCpu() if kind is OrtCpu else object.__new__(kind)


def test_every_option_that_is_about_something_is_tried() -> None:
    about = [one.name for one in declarations(ExportRequest) if one.option.concerns is not None]
    assert sorted([*GIVEN, *BUDGETS]) == sorted(about)


@pytest.mark.parametrize("name", GIVEN)
def test_an_option_without_a_use_is_refused(name: str) -> None:
    plan(LEAST)
    flag = f"--{name.replace('_', '-')}"
    with pytest.raises(UsageError, match=rf"{flag} concerns .+; .+, or leave out {flag}$"):
        plan(attrs.evolve(LEAST, **{name: GIVEN[name]}))


@pytest.mark.parametrize("name", BUDGETS)
def test_a_budget_needs_a_target_that_has_mixed_engines(name: str) -> None:
    request = attrs.evolve(LEAST, **{name: BUDGETS[name]})
    assert [precision for _, precision in plan(request).pairs] == [FP32, MIXED]
    flag = f"--{name.replace('_', '-')}"
    with pytest.raises(UsageError, match=f"{flag} concerns mixed precision, .*add ort-cpu or"):
        refuse_unused(request, [(target(TensorRtRtx), FP16)])


def test_what_is_malformed_and_unused_is_unused() -> None:
    with pytest.raises(UsageError, match="--profile concerns targets with optimization profiles"):
        plan(attrs.evolve(LEAST, profile="nonsense"))


FP32, FP16, INT8 = Precision.FP32, Precision.FP16, Precision.INT8
MIXED = Precision.MIXED


@pytest.mark.parametrize(
    ("name", "kind", "precision"),
    [
        ("batches", TensorRtRtx, FP16),  # whose cost is predicted at them
        ("keep", OrtCpu, FP16),
        ("calibration_samples", OrtCpu, INT8),
        ("calibration_method", OrtCpu, INT8),
        ("correction", OrtCpu, INT8),
        ("reduce_range", OrtCpu, INT8),
        ("keep", OrtCpu, INT8),
        ("between", TensorRt, INT8),
        ("profile", TensorRtRtx, FP32),
        ("allow_fallback", OrtCuda, FP32),
    ],
)
def test_an_option_with_a_use_is_taken(name: str, kind: type[Target], precision: Precision) -> None:
    request = attrs.evolve(LEAST, **{name: GIVEN[name]})
    refuse_unused(request, [(target(OrtCpu), FP32), (target(kind), precision)])


def test_measuring_uses_batches_and_rounds() -> None:
    plan(attrs.evolve(LEAST, measure=True, rounds=50, batches=(1, 8)))


def test_between_needs_int8_of_a_target_that_leaves_something() -> None:
    request = attrs.evolve(LEAST, between=Precision.FP16)
    for pairs in ([(target(OrtCpu), INT8)], [(target(TensorRtRtx), FP16)]):
        with pytest.raises(UsageError, match="--between concerns INT8"):
            refuse_unused(request, pairs)


def test_a_profile_that_a_setting_gives_already_is_refused() -> None:
    request = attrs.evolve(LEAST, profile="1:8:32", settings={"tensorrt-rtx": {"profile": "1:1:1"}})
    with pytest.raises(UsageError, match=r"--profile concerns .+ that no --setting gives"):
        refuse_unused(request, [(target(TensorRtRtx), FP16)])
    refuse_unused(request, [(target(TensorRtRtx), FP16), (target(TensorRt), FP16)])


def test_every_concern_is_about_an_option() -> None:
    options = (*declarations(ExportRequest), *declarations(BenchmarkRequest))
    assert {one.option.concerns for one in options} == {None, *Concern}


@pytest.mark.parametrize("options", [{"cores": 2}, {"max_p99": 20.0}, {"throughput_batches": (2,)}])
def test_what_is_about_throughput_is_refused_where_that_is_not_measured(
    options: dict[str, Any],
) -> None:
    with pytest.raises(UsageError, match="add --throughput"):
        refuse_unused_in_benchmark(BenchmarkRequest(Path("build"), **options))
    refuse_unused_in_benchmark(BenchmarkRequest(Path("build"), throughput=True, **options))


def test_batch_sizes_are_for_models_that_take_them() -> None:
    dynamic = manifests.resnet50(drift=False).model
    fixed = replace(dynamic, input=TensorSpec("input", "float32", (4, 3, 224, 224)))
    for batches in ((1,), (4,)):  # the default, which the model's own size takes the place of
        refuse_batches(batches, fixed)
    refuse_batches((1, 8), dynamic)
    refuse_unused_by_model(ExportRequest(profile="1:8:32"), dynamic)
    with pytest.raises(UsageError, match="--batches concerns models that take any batch size"):
        refuse_batches((1, 4), fixed)
    settings = {"tensorrt-rtx": {"profile": "1:1:1"}}
    for request in (ExportRequest(profile="1:8:32"), ExportRequest(settings=settings)):
        with pytest.raises(UsageError, match=r"--profile concerns .+ takes 4 alone"):
            refuse_unused_by_model(request, fixed)
