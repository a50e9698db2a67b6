"""The inputs of a network of several: one structured array, in which each has a field by its name.

A batch of a network of one input is that input's array (N, ...). A batch of several is an array
(N,) of records, a record holding all that belongs to one sample, so that whatever takes samples
apart, stacks, counts or hashes them does so without knowing how many inputs a network has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def record_type(inputs: Iterable[tuple[str, str, Sequence[int]]]) -> np.dtype[Any]:
    """The type of a record: (name, numpy's name of the type, shape of one sample) an input."""
    return np.dtype([(name, kind, tuple(shape)) for name, kind, shape in inputs])


def joined(tensors: Mapping[str, Array]) -> Array:
    """Each input's (N, ...), N being the same for all -> one batch (N,) of records."""
    kind = record_type((name, str(one.dtype), one.shape[1:]) for name, one in tensors.items())
    batch = np.empty(len(next(iter(tensors.values()))), kind)
    for name, one in tensors.items():
        batch[name] = one
    return batch


def by_name(batch: Array, only: str) -> dict[str, Array]:
    """A batch -> each input's own array (N, ...) by name; `only` is the name of a single input."""
    names = batch.dtype.names
    if names is None:
        return {only: batch}
    # One record is contiguous whatever its place: a field in it may lie at an odd address.
    return {name: np.require(batch[name], requirements=["C", "A"]) for name in names}
