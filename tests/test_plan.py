"""What a request means on each kind of machine: literal lists, and what is said of the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import attrs
import pytest

from exporter import host
from exporter.artifact import Precision
from exporter.builds.request import ExportRequest
from exporter.errors import MissingDependencyError, UsageError
from exporter.plan import plan

FP16, INT8 = Precision.FP16, Precision.INT8
REQUIRED = (
    "exporter.targets.ort.cpu.require",
    "exporter.targets.ort.gpu.require_provider",
    "exporter.targets.openvino.cpu.require",
    "exporter.targets.tensorrt.rtx.require_installed",
    "exporter.targets.tensorrt.full.require_installed",
)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with every library, no GPU and no AMX; `absent` takes one away again."""
    here = replace(host.describe_host(), gpu=None, driver=None, compute_capability=None)
    monkeypatch.setattr(host, "describe_host", lambda: here)
    monkeypatch.setattr(host, "cpu_flags", lambda: frozenset({"avx2"}))
    for name in REQUIRED:
        monkeypatch.setattr(name, lambda *_: None)
    return monkeypatch


def with_gpu(machine: pytest.MonkeyPatch, capability: str = "8.9") -> None:
    here = replace(host.describe_host(), gpu="NVIDIA L4", compute_capability=capability)
    machine.setattr(host, "describe_host", lambda: here)


def absent(machine: pytest.MonkeyPatch, *names: str) -> None:
    def refuse(target: str, *_: Any) -> None:
        if target.partition(":")[0] in names:
            raise MissingDependencyError(f"target {target} needs a library; run: pip install it")

    for name in REQUIRED:
        if name.endswith("require_provider"):
            machine.setattr(name, lambda _provider, target: refuse(target))
        else:
            machine.setattr(name, refuse)


def names(request: ExportRequest) -> list[str]:
    return [f"{target.name}.{precision}" for target, precision in plan(request).pairs]


CPU_DEFAULT = [
    "ort-cpu.fp32",
    "ort-cpu.fp16",
    "ort-cpu.int8",
    "openvino.fp32",
    "openvino.int8",
    "tensorrt-rtx.fp16",
]


def test_the_default_of_a_cpu_machine(machine: pytest.MonkeyPatch) -> None:
    assert names(ExportRequest()) == CPU_DEFAULT
    assert plan(ExportRequest()).notes == ()


def test_the_default_of_a_cpu_machine_with_amx(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(host, "cpu_flags", lambda: frozenset({"avx2", "amx_int8"}))
    assert names(ExportRequest()) == [*CPU_DEFAULT[:3], "ort-cpu:amx.int8", *CPU_DEFAULT[3:]]


def test_the_default_of_a_cpu_machine_with_bf16(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(host, "cpu_flags", lambda: frozenset({"avx2", "avx512_bf16"}))
    assert names(ExportRequest()) == [*CPU_DEFAULT[:4], "openvino.bf16", *CPU_DEFAULT[4:]]
    assert names(ExportRequest(precisions=(Precision.BF16,))) == ["openvino.bf16"]


@pytest.mark.parametrize("precisions", [(Precision.BF16,), (Precision.FP32, Precision.BF16)])
def test_bf16_that_was_asked_for_is_refused_on_other_cpus(
    machine: pytest.MonkeyPatch, precisions: tuple[Precision, ...]
) -> None:
    with pytest.raises(UsageError) as refused:
        plan(ExportRequest(precisions=precisions))
    assert str(refused.value) == (
        "openvino.bf16 needs a CPU with avx512_bf16, which this one has not; leave out bf16"
    )


def test_a_precision_that_no_default_engine_has_is_refused(machine: pytest.MonkeyPatch) -> None:
    with_gpu(machine)
    with pytest.raises(UsageError, match="built by default on a machine like this is in bf16"):
        plan(ExportRequest(precisions=(FP16, Precision.BF16)))
    assert names(ExportRequest(targets=("tensorrt",), precisions=(Precision.BF16,))) == [
        "tensorrt.bf16"
    ]
    with_gpu(machine, "7.5")
    with pytest.raises(UsageError, match=r"this GPU \(compute capability 7.5\) has no BF16"):
        plan(ExportRequest(targets=("tensorrt",), precisions=(Precision.BF16,)))


def test_the_default_of_a_gpu_machine(machine: pytest.MonkeyPatch) -> None:
    with_gpu(machine)
    assert names(ExportRequest()) == [
        "tensorrt.fp32",
        "tensorrt.fp16",
        "tensorrt.int8",
        "ort-cuda.fp32",
        "ort-cuda.fp16",
        "ort-tensorrt.fp16",
    ]


def test_precisions_choose_from_the_default(machine: pytest.MonkeyPatch) -> None:
    assert names(ExportRequest(precisions=(INT8,))) == ["ort-cpu.int8", "openvino.int8"]


@pytest.mark.parametrize("name", ["ort-cpu", "openvino", "tensorrt-rtx"])
def test_a_default_target_without_its_library_is_left_out_with_a_note(
    machine: pytest.MonkeyPatch, name: str
) -> None:
    absent(machine, name)
    planned = plan(ExportRequest())
    left = [engine for engine in CPU_DEFAULT if not engine.startswith(f"{name}.")]
    assert [f"{target.name}.{precision}" for target, precision in planned.pairs] == left
    (note,) = planned.notes
    assert note.startswith(f"{name} is left out: target {name}")
    assert note.endswith("needs a library; run: pip install it")


def test_the_same_target_asked_for_by_name_has_failed_and_the_others_go_on(
    machine: pytest.MonkeyPatch,
) -> None:
    absent(machine, "openvino")
    asked = ExportRequest(targets=("ort-cpu", "openvino"), precisions=(FP16, INT8))
    planned = plan(asked)
    assert [target.name for target, _ in planned.pairs] == ["ort-cpu"] * 2
    assert [engine.id for engine in planned.failed] == ["openvino.fp16", "openvino.int8"]
    assert {engine.reason for engine in planned.failed} == {
        "target openvino needs a library; run: pip install it"
    }


def test_targets_of_which_none_is_here_are_an_error(machine: pytest.MonkeyPatch) -> None:
    absent(machine, "openvino", "ort-cpu")
    with pytest.raises(MissingDependencyError, match=r"target openvino.*; target ort-cpu needs"):
        plan(ExportRequest(targets=("openvino", "ort-cpu")))


def test_an_option_for_what_is_not_here_is_answered_with_that(machine: pytest.MonkeyPatch) -> None:
    absent(machine, "tensorrt")
    asked = ExportRequest(targets=("ort-cpu", "tensorrt"), profile="1:8:32")
    with pytest.raises(MissingDependencyError, match="target tensorrt needs a library"):
        plan(asked)
    with pytest.raises(UsageError, match="--profile concerns"):
        plan(attrs.evolve(asked, targets=("ort-cpu",)))


def test_nothing_left_is_an_error_with_every_reason(machine: pytest.MonkeyPatch) -> None:
    absent(machine, "ort-cpu", "openvino", "tensorrt-rtx")
    with pytest.raises(MissingDependencyError, match=r"nothing can be built.*ort-cpu.*openvino"):
        plan(ExportRequest())


def test_what_onnx_runtime_calibrates_or_proves_is_left_out_without_it(
    machine: pytest.MonkeyPatch,
) -> None:
    absent(machine, "ort-cpu")
    machine.setattr("exporter.plan.import_problem", lambda _: "is not installed")
    planned = plan(ExportRequest())
    assert [f"{target.name}.{precision}" for target, precision in planned.pairs] == [
        "openvino.fp32"
    ]
    left_out = [note.partition(" is left out: ")[0] for note in planned.notes]
    assert left_out == ["ort-cpu", "openvino.int8", "tensorrt-rtx.fp16"]
    (failed,) = plan(ExportRequest(targets=("openvino",))).failed
    assert failed.reason.startswith("openvino.int8 needs ONNX Runtime, which calibrates INT8")
    with pytest.raises(MissingDependencyError, match=r"openvino\.int8 needs ONNX Runtime, which"):
        plan(ExportRequest(targets=("openvino",), precisions=(INT8,)))


def test_targets_by_name_come_in_every_precision_that_they_have(
    machine: pytest.MonkeyPatch,
) -> None:
    asked = ExportRequest(targets=("tensorrt-rtx:sm75", "ort-cpu:amx", "openvino", "openvino"))
    assert names(asked) == [
        "tensorrt-rtx:sm75.fp16",
        "ort-cpu:amx.int8",
        "openvino.fp32",
        "openvino.fp16",
        "openvino.int8",
    ]
    with pytest.raises(UsageError, match="for int8 alone; use ort-cpu for fp16"):
        plan(attrs.evolve(asked, precisions=(FP16,)))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"targets": ("ort-cpuu",)}, "unknown target 'ort-cpuu'; did you mean ort-cpu"),
        ({"targets": ("openvino:gpu",)}, "has no variant 'gpu'"),
        (
            {"targets": ("ort-cpu",), "precisions": (Precision.BF16,)},
            "ONNX Runtime's CPU provider has no BF16 convolution",
        ),
        ({"targets": ("openvino",), "precisions": (Precision.FP8,)}, "no CPU computes in FP8"),
        ({"targets": ("ort-cpu",), "precisions": (Precision.FP8,)}, "no CPU computes in FP8"),
        ({"precisions": (Precision.FP8,)}, "built by default on a machine like this is in fp8"),
        (
            {"targets": ("ort-cpu",), "settings": {"tensorrt-rtx": {"tf32": "on"}}},
            "--setting names tensorrt-rtx, which is not built",
        ),
        (
            {"targets": ("ort-cpu", "openvino"), "settings": {"openvino": {"streams": "2"}}},
            "target openvino has no setting 'streams'",
        ),
        ({"settings": {"ort-cpu": {"profile": "1:2:3"}}}, "ort-cpu has no setting 'profile'"),
        (
            {"settings": {"tensorrt-rtx": {"tf23": "on"}}},
            "unknown setting of target tensorrt-rtx 'tf23'; did you mean tf32",
        ),
        ({"settings": {"tensorrt-rtx": {"tf32": "yes"}}}, "--setting tf32=yes: give on or off"),
        ({"profile": "nonsense"}, "profile 'nonsense': give batch sizes MIN:OPT:MAX"),
        ({"profile": "8:1:2"}, "profile '8:1:2': give batch sizes MIN:OPT:MAX"),
        ({"between": FP16}, "--between concerns INT8 in the form that leaves tensors unquantized"),
    ],
)
def test_what_cannot_be_carried_out_is_said_before_anything_is_done(
    machine: pytest.MonkeyPatch, asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        plan(ExportRequest(**asked))
    assert message in str(caught.value)


def test_a_profile_is_for_the_targets_that_have_them(machine: pytest.MonkeyPatch) -> None:
    assert names(ExportRequest(profile="1:4:16")) == CPU_DEFAULT
    absent(machine, "tensorrt-rtx")
    with pytest.raises(UsageError, match="--profile concerns targets with optimization profiles"):
        plan(ExportRequest(profile="1:4:16"))


def test_a_budget_adds_mixed_to_each_target_that_has_it(machine: pytest.MonkeyPatch) -> None:
    assert names(ExportRequest(min_sqnr=30)) == [
        *[name for name in CPU_DEFAULT if name.startswith("ort-cpu")],
        "ort-cpu.mixed",
        *[name for name in CPU_DEFAULT if name.startswith("openvino")],
        "openvino.mixed",
        *[name for name in CPU_DEFAULT if name.startswith("tensorrt")],
    ]
    only = ExportRequest(precisions=("mixed",), max_drop="1%")
    assert names(only) == ["ort-cpu.mixed", "openvino.mixed"]
    assert names(attrs.evolve(only, targets=("openvino",))) == ["openvino.mixed"]
    with pytest.raises(UsageError, match="--min-sqnr concerns mixed precision"):  # not timed here
        plan(ExportRequest(targets=("ort-cpu:amx",), min_sqnr=30))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"precisions": ("mixed",)}, "the precision mixed needs a budget; give --max-drop"),
        ({"max_drop": "1%", "min_sqnr": 30}, "--max-drop and --min-sqnr are a budget each"),
        (
            {"targets": ("tensorrt-rtx:sm75",), "precisions": ("mixed",), "min_sqnr": 30},
            "target tensorrt-rtx:sm75 has no engines in mixed; use --target ort-cpu or openvino",
        ),
        (
            {"targets": ("ort-cpu:amx",), "precisions": ("mixed",), "min_sqnr": 30},
            "ort-cpu:amx.mixed cannot be made here, for its blocks are timed",
        ),
    ],
)
def test_a_budget_that_cannot_be_searched_for_is_refused(
    machine: pytest.MonkeyPatch, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        plan(ExportRequest(**given))
