"""Ready tensors in an `.npz` (by the inputs' names) or, of one input, an `.npy` file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from exporter.artifact import ModelSpec, Skipped, TensorSpec
from exporter.errors import InputError
from exporter.runtime.errors import reason_of
from exporter.runtime.inputs import joined

Array = npt.NDArray[Any]
LABELS: Final = "labels"
"""Of an .npz, the array with the number of each sample's class: the release gate reads it."""


def read_tensors(spec: ModelSpec, path: Path) -> tuple[Array, tuple[str, ...]]:
    """The samples of a file, (N, ...) or records (N,) of several inputs, and what is to be said.

    Raises:
        InputError: it cannot be read, or is not what the model takes.
    """
    loaded = _load(spec, path)
    notes: list[str] = []
    tensors: dict[str, Array] = {}
    for given in spec.inputs:
        # Of several inputs a message says which one it is about.
        which = f": {given.name}" if spec.other_inputs else ""
        place = f"{path}{which}"
        tensor = loaded[given.name]
        _check_shape(spec, given, place, tensor)
        notes += _check_range(spec, given, tensor, place, f"{path.name}{which}")
        tensors[given.name] = tensor.astype(given.dtype)
    counts = {name: len(tensor) for name, tensor in tensors.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise InputError(f"{path} holds different numbers of samples: {listed}")
    batch = joined(tensors) if spec.other_inputs else tensors[spec.input.name]
    return batch, tuple(notes)


def _load(spec: ModelSpec, path: Path) -> dict[str, Array]:
    """The arrays that the model takes, by its inputs' names."""
    wanted = [one.name for one in spec.inputs]
    try:
        with path.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            archive = isinstance(loaded, np.lib.npyio.NpzFile)
            found = loaded.files if archive else wanted[:1]
            tensors = {
                name: loaded[name] if archive else loaded for name in wanted if name in found
            }
    except Exception as error:  # damaged archives raise zipfile's, zlib's and NumPy's own errors
        text = reason_of(error)
        raise InputError(f"{path} cannot be read as NumPy arrays ({text})") from None
    listed = ", ".join(repr(key[:40]) for key in found[:5]) or "nothing"
    if len(wanted) == 1 and not tensors:
        raise InputError(f"{path} has no array {wanted[0]!r} (the input), it has {listed}")
    if len(wanted) > 1 and not archive:
        raise InputError(
            f"{path} holds one array, {spec.name} takes {', '.join(wanted)}; give an .npz of them"
        )
    if len(wanted) > 1 and set(found) - {LABELS} != set(wanted) - {LABELS}:
        raise InputError(
            f"{path} holds {listed}, {spec.name} takes {', '.join(map(repr, wanted))}; give an "
            "array of each, and no other"
        )
    return tensors


def _check_shape(spec: ModelSpec, given: TensorSpec, place: str, tensor: Array) -> None:
    if not len(tensor.shape) or not len(tensor):
        raise InputError(f"{place} holds no samples")
    if tensor.dtype.kind not in "fiu":
        raise InputError(f"{place} holds {tensor.dtype}, expected numbers")
    if tensor.shape[1:] != given.sample:
        expected = ", ".join(map(str, given.sample))
        raise InputError(f"{place} has shape {tensor.shape}, {spec.name} takes (N, {expected})")
    if not np.isfinite(tensor).all():
        bad = int((~np.isfinite(tensor)).any(axis=tuple(range(1, tensor.ndim))).argmax())
        raise InputError(f"{place} holds a value that is not finite, first in sample {bad}")


def _check_range(
    spec: ModelSpec, given: TensorSpec, tensor: Array, place: str, name: str
) -> tuple[str, ...]:
    """Refuses 0..255 where the input is known to be normalised; tells the range where it is not."""
    low, high = float(tensor.min()), float(tensor.max())
    if given.dtype == "uint8":
        if low < 0 or high > 255:
            raise InputError(f"{place}: values from {low:.4g} to {high:.4g}, the input is 0..255")
        if tensor.dtype.kind == "f" and (tensor % 1).any():
            raise InputError(f"{place} holds fractions, {spec.name} takes whole pixels (uint8)")
        return ()
    contract = spec.preprocessing
    if isinstance(contract, Skipped):
        return (f"{name}: values from {low:.4g} to {high:.4g}, taken as the model's own range",)
    most = max((1 - m) / s for m, s in zip(contract.mean, contract.std, strict=True))
    least = min(-m / s for m, s in zip(contract.mean, contract.std, strict=True))
    if high > 4 * most or low < 4 * least:
        raise InputError(
            f"{place}: values from {low:.4g} to {high:.4g}, but {spec.name} takes normalised "
            f"pixels ({least:.2f} to {most:.2f}): apply (pixel / 255 - mean) / std first"
        )
    return ()
