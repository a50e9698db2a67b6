"""A model as a server's clients see it.

In the words of the inference protocol that KServe, Triton and OpenVINO Model Server share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy.typing as npt

from exporter.pack.packable import Release
from exporter.prove.outputs import parts_of
from exporter.runtime.inputs import by_name
from exporter.runtime.outputs import Output

_TYPES: Final[Mapping[str, str]] = {"float32": "FP32", "float16": "FP16", "uint8": "UINT8"}


@dataclass(frozen=True)
class ServedInput:
    """One input as clients see it."""

    name: str
    samples: npt.NDArray[Any]
    """Golden inputs as requests carry them, (N, ...)."""

    @property
    def datatype(self) -> str:
        """In the words of the inference protocol."""
        return _TYPES[self.samples.dtype.name]


@dataclass(frozen=True)
class Served:
    """A model as clients see it."""

    inputs: tuple[ServedInput, ...]
    outputs: tuple[Output, ...]
    scores: int | None
    """Which of them has the classes that labels.txt names; None: none."""
    fixed: int | None
    """The one batch size that the engine takes; None: any. Triton has no such batches: it is told
    of none (`max_batch_size: 0`), and the dimension becomes part of every shape."""

    def shape_of_input(self, given: ServedInput) -> list[int]:
        """Of one request without its batch, where batches vary; else of the whole."""
        return self._whole([*given.samples.shape[1:]])

    def shape_of(self, output: Output) -> list[int]:
        """Of an answer, as `shape_of_input`."""
        return self._whole([*output.shape])

    def _whole(self, sizes: list[int]) -> list[int]:
        return sizes if self.fixed is None else [self.fixed, *sizes]


def served_model(release: Release, *, by_runtime: bool) -> Served:
    """The model behind a server: of images where `exporter.runtime` prepares them, else of tensors.

    `exporter.runtime` also takes any batch, whatever the engine's is.
    """
    model, goldens = release.manifest.model, release.goldens
    inputs = by_name(goldens.inputs, model.input.name)
    if by_runtime and goldens.images is not None:
        inputs = {"images": goldens.images}
    served = tuple(ServedInput(name, samples) for name, samples in inputs.items())
    declared = model.input.shape[0]
    fixed = declared if isinstance(declared, int) and not by_runtime else None
    outputs = parts_of(model) or (Output(model.output.name, (len(release.labels),)),)
    return Served(served, outputs, model.scores, fixed)
