"""The samples one at a time, as a graph takes them: how calibration and correction run data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter.errors import InputError
from exporter.passes.values import dims
from exporter.runtime.inputs import by_name

if TYPE_CHECKING:
    from exporter.images.samples import Samples
    from exporter.targets import Array

_READ_AHEAD: Final = 16
"""How many samples are made at a time; what comes out does not depend on it."""


@dataclass(frozen=True)
class Wanted:
    """What a graph takes as one input."""

    shape: tuple[int | str | None, ...]
    """With the batch in front."""
    dtype: np.dtype[Any]


def images_for(graph: ir.Model, samples: Samples) -> Iterator[Array]:
    """The samples one at a time, as the graph takes them; of several inputs, as records."""
    wanted = {
        str(value.name): Wanted(dims(value) or (), (value.dtype or ir.DataType.FLOAT).numpy())
        for value in graph.graph.inputs
    }
    return _images(samples, wanted)


def images(
    samples: Samples,
    shape: tuple[int | str | None, ...],
    dtype: npt.DTypeLike = np.float32,
) -> Iterator[Array]:
    """The samples of one input one at a time, (N, ...) with N = 1, or the graph's own N of it.

    Raises:
        InputError: a sample has another shape or type, or is not finite.
    """
    return _images(samples, {"": Wanted(shape, np.dtype(dtype))})


def _images(samples: Samples, wanted: Mapping[str, Wanted]) -> Iterator[Array]:
    only, first = next(iter(wanted.items()))
    copies = first.shape[0] if isinstance(first.shape[0], int) else 1
    index = 0
    for batch in samples.batches(_READ_AHEAD):
        for image in batch:
            one = image[None]
            tensors = by_name(one, only)
            if tensors.keys() != wanted.keys():
                raise _unfit(samples, index, f"has {', '.join(tensors)}, not {', '.join(wanted)}")
            for name, tensor in tensors.items():
                why = _why_unfit(tensor, wanted[name])
                if why:
                    of = f"{name} of " if len(wanted) > 1 else ""
                    raise _unfit(samples, index, why, of)
            yield np.repeat(one, copies, axis=0)
            index += 1
    if index == 0:
        raise InputError(f"{samples.source} holds no samples; give some to calibrate with")


def _why_unfit(tensor: Array, wanted: Wanted) -> str | None:
    """What is wrong with an input (1, ...) of a sample."""
    if not _fits(tensor.shape[1:], wanted.shape[1:]):
        return f"has shape {tensor.shape[1:]}, not {wanted.shape[1:]}"
    if tensor.dtype != wanted.dtype:
        return f"is of type {tensor.dtype}, not {wanted.dtype}"
    return None if np.isfinite(tensor).all() else "holds NaN or infinity"


def _fits(given: tuple[int, ...], wanted: Sequence[int | str | None]) -> bool:
    return len(given) == len(wanted) and all(
        size == want or not isinstance(want, int) for size, want in zip(given, wanted, strict=True)
    )


def _unfit(samples: Samples, index: int, what: str, of: str = "") -> InputError:
    return InputError(
        f"{of}sample {index} of {samples.source} {what}; prepare the calibration data as the "
        "model's input"
    )
