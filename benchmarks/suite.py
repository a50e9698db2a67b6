"""What is measured: models x engines x batch sizes, as tables.

An engine of a peer is what a user of that runtime gets with its own defaults, apart from the number
of threads. INT8 peers are quantized by their own tool, on the images that our engines saw.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from exporter.errors import UsageError, unknown_name
from exporter.targets import MachineKind


class Role(StrEnum):
    """Why an engine is in the table."""

    BASELINE = "baseline"
    OURS = "ours"
    PEER = "peer"
    TRAP = "trap"
    """A thing that looks right and is slow."""
    AGAIN = "again"
    """The same engine in a second process: its ratio to the first must be 1."""
    CEILING = "ceiling"
    """A kernel that is nothing but arithmetic or a copy."""


@dataclass(frozen=True)
class Entry:
    """One engine of the suite."""

    name: str
    role: Role
    precision: str
    """Of its arithmetic: "fp32", "bf16", "fp16" or "int8"; peers are compared within one."""
    artifact: str
    """The file that it loads: a key of `artifacts.BUILDERS`."""
    kind: str
    """The loader: a key of `exporter.measure.worker.LOADERS`, or module:function."""
    options: Mapping[str, str | bool] = field(default_factory=dict)
    """Passed to the loader."""
    quick: bool = True
    """Part of the quick suite too."""
    device: MachineKind = MachineKind.CPU


BASELINES: Final[Mapping[MachineKind, str]] = {
    MachineKind.CPU: "torch-eager",
    MachineKind.GPU: "torch-eager-cuda",
}
BASELINE: Final = BASELINES[MachineKind.CPU]
_OPENVINO: Final = "benchmarks.peers:load_openvino"
_COMPILED: Final = "benchmarks.peers:load_compiled"
_LITERT: Final = "benchmarks.litert_xnnpack:load"

CPU_ENTRIES: Final = (
    Entry(BASELINE, Role.BASELINE, "fp32", "eager", "module"),
    Entry("torch-channels-last", Role.PEER, "fp32", "eager", "benchmarks.peers:load_channels_last"),
    Entry("torch-compile", Role.PEER, "fp32", "eager", _COMPILED, {"mode": "default"}),
    Entry("torch-compile-max-autotune", Role.PEER, "fp32", "eager", _COMPILED,
          {"mode": "max-autotune"}, quick=False),
    Entry("zentorch", Role.PEER, "fp32", "zentorch", "benchmarks.peers:load_zentorch", quick=False),
    Entry("torch-compile-bf16", Role.PEER, "bf16", "eager-bf16", _COMPILED,
          {"mode": "default", "bf16": True}),
    Entry("executorch-xnnpack", Role.PEER, "fp32", "executorch",
          "benchmarks.executorch_xnnpack:load", quick=False),
    Entry("litert-xnnpack", Role.PEER, "fp32", "litert", _LITERT, quick=False),
    Entry("ncnn", Role.PEER, "fp32", "ncnn", "benchmarks.ncnn_runtime:load", quick=False),
    Entry("onnxruntime", Role.PEER, "fp32", "plain", "onnx"),
    Entry("openvino", Role.PEER, "fp32", "plain", _OPENVINO, {"hint": "f32"}),
    Entry("openvino-bf16", Role.PEER, "bf16", "plain-bf16", _OPENVINO, {"hint": "default"}),
    Entry("onnxruntime-quantized", Role.PEER, "int8", "ort-quantized", "onnx"),
    Entry("openvino-nncf", Role.PEER, "int8", "nncf", _OPENVINO, {"hint": "default"}),
    Entry("torchao-inductor", Role.PEER, "int8", "torchao", "benchmarks.torchao_int8:load"),
    Entry("litert-quantized", Role.PEER, "int8", "litert-int8", _LITERT, quick=False),
    Entry("modelopt-on-onnxruntime", Role.PEER, "int8", "modelopt", "onnx", quick=False),
    Entry("s8-symmetric-on-onnxruntime", Role.TRAP, "int8", "s8-symmetric", "onnx"),
    Entry("ours/ort-cpu.fp32", Role.OURS, "fp32", "ort-cpu.fp32", "engine", {"target": "ort-cpu"}),
    Entry("ours/openvino.fp32", Role.OURS, "fp32", "openvino.fp32", "engine",
          {"target": "openvino"}),
    Entry("ours/openvino.bf16", Role.OURS, "bf16", "openvino.bf16", "engine",
          {"target": "openvino"}),
    Entry("ours/ort-cpu.int8", Role.OURS, "int8", "ort-cpu.int8", "engine", {"target": "ort-cpu"}),
    Entry("ours/ort-cpu:amx.int8", Role.OURS, "int8", "ort-cpu:amx.int8", "engine",
          {"target": "ort-cpu:amx"}),
    Entry("ours/openvino.int8", Role.OURS, "int8", "openvino.int8", "engine",
          {"target": "openvino"}),
)  # fmt: skip

_GPU: Final = MachineKind.GPU
_GRAPH: Final = {"cuda_graph": True}

GPU_ENTRIES: Final = (
    Entry(BASELINES[_GPU], Role.BASELINE, "fp32", "eager-cuda", "module", device=_GPU),
    Entry("torch-cuda-graph", Role.PEER, "fp32", "eager-cuda", "module", _GRAPH, device=_GPU),
    Entry("torch-cuda-channels-last", Role.PEER, "fp32", "eager-cuda",
          "benchmarks.gpu_peers:load_channels_last", device=_GPU),
    Entry("torch-cuda-tf32", Role.PEER, "tf32", "eager-cuda", "benchmarks.gpu_peers:load_tf32",
          device=_GPU),
    Entry("torch-cuda-autocast", Role.PEER, "fp16", "eager-cuda",
          "benchmarks.gpu_peers:load_autocast", device=_GPU),
    Entry("torch-cuda-compile", Role.PEER, "fp32", "eager-cuda",
          "benchmarks.gpu_peers:load_compiled", {"half": False}, device=_GPU),
    Entry("torch-cuda-compile-half", Role.PEER, "fp16", "eager-cuda",
          "benchmarks.gpu_peers:load_compiled", {"half": True}, device=_GPU),
    Entry("torch-tensorrt", Role.PEER, "fp16", "torch-tensorrt",
          "benchmarks.gpu_peers:load_torch_tensorrt", device=_GPU),
    Entry("onnxruntime-cuda", Role.PEER, "fp32", "plain-cuda", "onnx", device=_GPU),
    *(
        Entry(f"ours/{target}.{precision}", Role.OURS, precision, f"{target}.{precision}",
              "engine", {"target": target}, device=_GPU)
        for target, precisions in (
            ("tensorrt", ("fp32", "fp16", "int8")),
            ("ort-cuda", ("fp32", "fp16")),
            ("ort-tensorrt", ("fp16", "int8")),
        )
        for precision in precisions
    ),
)  # fmt: skip

ENTRIES: Final = (*CPU_ENTRIES, *GPU_ENTRIES)

_SAME_RUNTIME: Final[Mapping[str, tuple[str, ...]]] = {
    "torch-compile": ("torch-compile-bf16", "torchao-inductor"),
    "onnxruntime": (
        "onnxruntime-quantized", "modelopt-on-onnxruntime", "s8-symmetric-on-onnxruntime",
    ),
    "litert-xnnpack": ("litert-quantized",),
    "openvino": ("openvino-bf16", "openvino-nncf"),
    "torch-cuda-compile": ("torch-cuda-compile-half",),
}  # fmt: skip
FP32_OF: Final[Mapping[str, str]] = {
    **{name: own for own, names in _SAME_RUNTIME.items() for name in names},
    "ours/ort-cpu:amx.int8": "ours/ort-cpu.fp32",
    **{
        entry.name: f"{entry.name.rpartition('.')[0]}.fp32"
        for entry in ENTRIES
        if entry.role is Role.OURS and ":" not in entry.name and entry.precision != "fp32"
    },
}
"""The FP32 engine of the same runtime, for each engine of another precision that has one: what the
precision alone gains, where the speedup over eager has the runtime's fusion in it, too."""

AGAIN: Final = (*BASELINES.values(), "ours/ort-cpu.int8", "ours/tensorrt.fp16")
"""Each is started a second time in every run: the A/A pairs."""


@dataclass(frozen=True)
class Suite:
    """One run's worth of work, on one device, with that device's baseline.

    Raises:
        UsageError: entries of two devices, or not just one baseline.
    """

    name: str
    models: tuple[str, ...]
    batches: tuple[int, ...]
    entries: tuple[Entry, ...]
    rounds: int
    lives: int
    """How often every process is started anew: where its memory lies moves its speed, too."""
    image_size: int | None = None
    ceiling_rounds: int = 10

    def __post_init__(self) -> None:
        baselines = [entry for entry in self.entries if entry.role is Role.BASELINE]
        if len({entry.device for entry in self.entries}) > 1 or len(baselines) != 1:
            raise UsageError(
                f"suite {self.name}: its engines are compared on one device, with its one baseline"
            )

    @property
    def device(self) -> MachineKind:
        return self.entries[0].device


QUICK: Final = Suite(
    name="quick",
    models=("resnet18", "resnet50"),
    batches=(1,),
    entries=tuple(entry for entry in CPU_ENTRIES if entry.quick),
    rounds=40,
    lives=4,
)
FULL: Final = Suite(
    name="full",
    models=("resnet18", "resnet34", "resnet50", "resnet101", "resnext50_32x4d"),
    batches=(1, 8),
    entries=CPU_ENTRIES,
    rounds=32,
    lives=4,
)
ON_GPU: Final = Suite(
    name="gpu",
    models=("resnet50",),
    batches=(1, 8, 32),
    entries=GPU_ENTRIES,
    rounds=20,
    lives=2,
)


def choose(entries: tuple[Entry, ...], names: tuple[str, ...]) -> tuple[Entry, ...]:
    """The named entries in the table's order, the baseline always among them; no names: all.

    Raises:
        UsageError: a name that the table has not.
    """
    known = [entry.name for entry in entries]
    for name in names:
        if name not in known:
            raise unknown_name("engine", name, known)
    if not names:
        return entries
    return tuple(entry for entry in entries if entry.role is Role.BASELINE or entry.name in names)
