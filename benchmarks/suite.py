"""What is measured: models x engines x batch sizes, as tables.

An engine of a peer is what a user of that runtime gets with its own defaults, apart from the number
of threads. INT8 peers are quantized by their own tool, on the images that our engines saw.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from exporter.errors import unknown_name


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
    options: Mapping[str, str] = field(default_factory=dict)
    """Passed to the loader."""
    quick: bool = True
    """Part of the quick suite too."""


BASELINE: Final = "torch-eager"
_OPENVINO: Final = "benchmarks.peers:load_openvino"
_COMPILED: Final = "benchmarks.peers:load_compiled"

ENTRIES: Final = (
    Entry(BASELINE, Role.BASELINE, "fp32", "eager", "module"),
    Entry("torch-channels-last", Role.PEER, "fp32", "eager", "benchmarks.peers:load_channels_last"),
    Entry("torch-compile", Role.PEER, "fp32", "eager", _COMPILED, {"mode": "default"}),
    Entry("torch-compile-max-autotune", Role.PEER, "fp32", "eager", _COMPILED,
          {"mode": "max-autotune"}, quick=False),
    Entry("onnxruntime", Role.PEER, "fp32", "plain", "onnx"),
    Entry("openvino", Role.PEER, "fp32", "plain", _OPENVINO, {"hint": "f32"}),
    Entry("openvino-bf16", Role.PEER, "bf16", "plain-bf16", _OPENVINO, {"hint": "default"}),
    Entry("onnxruntime-quantized", Role.PEER, "int8", "ort-quantized", "onnx"),
    Entry("openvino-nncf", Role.PEER, "int8", "nncf", _OPENVINO, {"hint": "default"}),
    Entry("modelopt-on-onnxruntime", Role.PEER, "int8", "modelopt", "onnx", quick=False),
    Entry("s8-symmetric-on-onnxruntime", Role.TRAP, "int8", "s8-symmetric", "onnx"),
    Entry("ours/ort-cpu.fp32", Role.OURS, "fp32", "ort-cpu.fp32", "engine", {"target": "ort-cpu"}),
    Entry("ours/openvino.fp32", Role.OURS, "fp32", "openvino.fp32", "engine",
          {"target": "openvino"}),
    Entry("ours/ort-cpu.int8", Role.OURS, "int8", "ort-cpu.int8", "engine", {"target": "ort-cpu"}),
    Entry("ours/ort-cpu:amx.int8", Role.OURS, "int8", "ort-cpu:amx.int8", "engine",
          {"target": "ort-cpu:amx"}),
    Entry("ours/openvino.int8", Role.OURS, "int8", "openvino.int8", "engine",
          {"target": "openvino"}),
)  # fmt: skip

AGAIN: Final = (BASELINE, "ours/ort-cpu.int8")
"""Each is started a second time in every run: the A/A pairs."""


@dataclass(frozen=True)
class Suite:
    """One run's worth of work."""

    name: str
    models: tuple[str, ...]
    batches: tuple[int, ...]
    entries: tuple[Entry, ...]
    rounds: int
    lives: int
    """How often every process is started anew: where its memory lies moves its speed, too."""
    image_size: int | None = None
    ceiling_rounds: int = 10


QUICK: Final = Suite(
    name="quick",
    models=("resnet18", "resnet50"),
    batches=(1,),
    entries=tuple(entry for entry in ENTRIES if entry.quick),
    rounds=40,
    lives=4,
)
FULL: Final = Suite(
    name="full",
    models=("resnet18", "resnet50", "resnet101", "resnext50_32x4d"),
    batches=(1, 8),
    entries=ENTRIES,
    rounds=32,
    lives=4,
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
    return tuple(entry for entry in entries if entry.name in (BASELINE, *names))
