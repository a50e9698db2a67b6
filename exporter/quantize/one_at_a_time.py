"""The samples one at a time, as a graph takes them: how calibration and correction run data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from exporter.errors import InputError
from exporter.passes.values import dims

if TYPE_CHECKING:
    from exporter.images.samples import Samples
    from exporter.targets import Array

_READ_AHEAD: Final = 16
"""How many samples are made at a time; what comes out does not depend on it."""


def images_for(graph: ir.Model, samples: Samples) -> Iterator[Array]:
    """The samples one at a time, in the shape and type of the graph's input."""
    wanted = graph.graph.inputs[0]
    dtype = (wanted.dtype or ir.DataType.FLOAT).numpy()
    return images(samples, dims(wanted) or (), dtype)


def images(
    samples: Samples,
    shape: tuple[int | str | None, ...],
    dtype: npt.DTypeLike = np.float32,
) -> Iterator[Array]:
    """The samples one at a time, (N, ...) with N = 1, or the graph's own N of the same image.

    Raises:
        InputError: a sample has another shape or type, or is not finite.
    """
    copies = shape[0] if isinstance(shape[0], int) else 1
    index = 0
    for batch in samples.batches(_READ_AHEAD):
        for image in batch:
            if not _fits(image.shape, shape[1:]):
                raise _unfit(samples, index, f"has shape {image.shape}, not {shape[1:]}")
            if image.dtype != dtype:
                raise _unfit(samples, index, f"is of type {image.dtype}, not {np.dtype(dtype)}")
            if not np.isfinite(image).all():
                raise _unfit(samples, index, "holds NaN or infinity")
            yield np.repeat(image[None], copies, axis=0)
            index += 1
    if index == 0:
        raise InputError(f"{samples.source} holds no samples; give some to calibrate with")


def _fits(given: tuple[int, ...], wanted: Sequence[int | str | None]) -> bool:
    return len(given) == len(wanted) and all(
        size == want or not isinstance(want, int) for size, want in zip(given, wanted, strict=True)
    )


def _unfit(samples: Samples, index: int, what: str) -> InputError:
    return InputError(
        f"sample {index} of {samples.source} {what}; prepare the calibration data as the model's "
        "input"
    )
