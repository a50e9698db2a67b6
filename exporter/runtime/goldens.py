"""Golden inputs: what was validated once is asked again before an engine serves."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from exporter.runtime.description import EngineEntry
from exporter.runtime.engine import Answer, Engine
from exporter.runtime.errors import BundleError, GoldenError, InputError, ServingError, reason_of
from exporter.runtime.inputs import by_name, joined
from exporter.runtime.outputs import Output, columns, side_by_side

Array = npt.NDArray[Any]
ANSWERS: Final = "answers:"
"""Prefix of the arrays in golden.npz that hold an engine's own answers."""
INPUTS: Final = "inputs:"
"""Prefix of the arrays that hold the inputs of a network of several, by name."""
MAX_UNPACKED_BYTES: Final = 1 << 30
"""Of all arrays together: a few inputs and answers, also where the batch is fixed and large."""
_SAME_INPUT: Final = 1e-5
"""How far our normalisation may be from the recorded input, relative to the input's range."""


@dataclass(frozen=True)
class Goldens:
    """A few inputs and what the reference answered to them."""

    inputs: Array
    """(N, ...) as the model takes them; records (N,), where it takes several."""
    outputs: Array
    """(N, values) of the reference: a row an input, several outputs side by side."""
    images: npt.NDArray[np.uint8] | None
    """(N, H, W, 3): the same inputs before normalisation; None where they come from no images."""
    answers: Mapping[str, Array]
    """(N, values) of each engine when it was packed; an engine that could not run has none."""

    def expected(self, engine: str, against: str) -> Array:
        """(N, values) that an engine must answer: its own when packed, or the reference's.

        Raises:
            BundleError: the engine's answers are not there.
        """
        if against == "reference":
            return self.outputs
        if engine not in self.answers:
            raise BundleError(f"golden.npz lacks the answers of {engine}; pack the build again")
        return self.answers[engine]


def read_goldens(contents: bytes) -> Goldens:
    """Parses a bundle's `golden.npz`.

    Raises:
        BundleError: not an npz file, or arrays are missing or do not belong together.
    """
    try:
        return goldens_in(io.BytesIO(contents))
    except ValueError as error:
        raise BundleError(f"golden.npz cannot be used ({error}); pack the build again") from None


def goldens_in(file: Path | IO[bytes]) -> Goldens:
    """The goldens of a build or a bundle.

    Raises:
        ValueError: not an npz file, or arrays are missing or do not belong together.
    """
    arrays = with_inputs_joined(read_arrays(file))
    for name in ("inputs", "outputs"):
        if name not in arrays:
            raise ValueError(f"it holds no {name}")
    if len({len(array) for array in arrays.values()}) > 1 or not arrays["inputs"].size:
        raise ValueError("it holds arrays of different lengths, or none")
    return Goldens(
        inputs=arrays["inputs"],
        outputs=arrays["outputs"].reshape(len(arrays["outputs"]), -1),
        images=arrays.get("images"),
        answers={
            name.removeprefix(ANSWERS): array
            for name, array in arrays.items()
            if name.startswith(ANSWERS)
        },
    )


def golden_inputs(batch: Array) -> dict[str, Array]:
    """The arrays of golden.npz that hold inputs: one, or one for each of several."""
    if batch.dtype.names is None:
        return {"inputs": batch}
    return {f"{INPUTS}{name}": one for name, one in by_name(batch, "").items()}


def with_inputs_joined(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays of golden.npz with several inputs as the records of one array.

    Raises:
        ValueError: inputs of different lengths.
    """
    given = {name: one for name, one in arrays.items() if name.startswith(INPUTS)}
    others = {name: one for name, one in arrays.items() if name not in given}
    if not given:
        return others
    if len({len(one) for one in given.values()}) > 1:
        raise ValueError("it holds inputs of different lengths")
    return {
        "inputs": joined({name.removeprefix(INPUTS): one for name, one in given.items()}),
        **others,
    }


def read_arrays(file: Path | IO[bytes]) -> dict[str, Array]:
    """The arrays in an `.npz` file, none of them unpickled.

    Raises:
        ValueError: it is damaged, unpacks to more than MAX_UNPACKED_BYTES, or holds something else
            than numbers in rows.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            unpacked = sum(member.file_size for member in members)
            if unpacked > MAX_UNPACKED_BYTES:
                raise ValueError(
                    f"it unpacks to {unpacked:,} bytes, at most {MAX_UNPACKED_BYTES:,}"
                )
            arrays = {
                member.filename.removesuffix(".npy"): _read_array(archive, member)
                for member in members
            }
    except Exception as error:  # zipfile's, zlib's, struct's and NumPy's own errors, and OSError
        raise ValueError(reason_of(error)) from None
    for name, array in arrays.items():
        if array.ndim == 0 or array.dtype.kind not in "fiu":
            raise ValueError(f"{name!r} holds no rows of numbers")
    return arrays


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    """An array that has the size which its header announces: NumPy makes room for that at once.

    zipfile reads no more than `file_size`, whatever is packed.
    """
    with archive.open(member) as stream:
        is_first = np.lib.format.read_magic(stream) == (1, 0)
        read = (
            np.lib.format.read_array_header_1_0 if is_first else np.lib.format.read_array_header_2_0
        )
        shape, _, kind = read(stream)
        announced, present = math.prod(shape) * kind.itemsize, member.file_size - stream.tell()
    if announced != present and not kind.hasobject:
        raise ValueError(f"{member.filename} announces {announced:,} bytes and has {present:,}")
    with archive.open(member) as stream:
        array: Array = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def answers_to(engine: Engine, goldens: Goldens) -> Array:
    """(N, values): the engine's answers, from images where the engine or the goldens allow it.

    Raises:
        BundleError: the engine takes pixels and the goldens are none.
        GoldenError: the images do not normalise to the recorded inputs.
    """
    if goldens.images is not None:
        if engine.input_dtype != np.uint8:
            _check_normalisation(engine, goldens)
        return _row_each(engine(goldens.images))
    if engine.input_dtype == np.uint8 and goldens.inputs.dtype != np.uint8:
        raise BundleError(f"golden.npz has no images, and {engine.id} takes images; pack it again")
    given = by_name(goldens.inputs, next(iter(engine.inputs)))
    return _row_each(
        engine.run(
            {
                name: one.astype(engine.inputs[name].dtype, copy=False)
                if name in engine.inputs
                else one
                for name, one in given.items()
            }
        )
    )


def _row_each(answer: Answer) -> Array:
    return side_by_side(list(answer.values()) if isinstance(answer, dict) else [answer])


def worst_error(answers: Array, expected: Array, outputs: Sequence[Output] = ()) -> float:
    """The largest relative L2 error of any row; infinite where a shape or a value is wrong.

    With `outputs` side by side in a row, the largest that any of them has.
    """
    if answers.shape != expected.shape or not np.isfinite(answers).all():
        return float("inf")
    worst = 0.0
    for place in columns(outputs) if outputs else [slice(None)]:
        exact = expected[:, place].astype(np.float64)
        error = np.linalg.norm(answers[:, place] - exact, axis=1)
        relative = error / np.maximum(np.linalg.norm(exact, axis=1), 1e-30)
        worst = max(worst, float(relative.max()))
    return worst


def replay(engine: Engine, goldens: Goldens, entry: EngineEntry) -> float:
    """Asks the golden inputs; returns the worst relative distance from what is expected.

    Raises:
        GoldenError: it is larger than the engine's tolerance, or the engine fails on them.
        BundleError: the goldens are not this engine's.
    """
    expected = goldens.expected(entry.id, entry.against)
    try:
        answers = answers_to(engine, goldens)
    except InputError as error:
        raise BundleError(f"golden.npz: {error}; pack the build again") from None
    except ServingError:
        raise
    except Exception as error:  # the runtime library's own share no narrower base
        reason = reason_of(error)
        raise GoldenError(f"engine {entry.id} fails on the golden inputs: {reason}") from None
    distance = worst_error(answers, expected, engine.outputs)
    if not distance <= entry.tolerance:
        raise GoldenError(
            f"engine {entry.id} does not answer the golden inputs as it was validated: "
            f"relative error {distance:.3g}, at most {entry.tolerance:.3g} was allowed"
        )
    return distance


def _check_normalisation(engine: Engine, goldens: Goldens) -> None:
    assert goldens.images is not None
    prepared = engine.prepare(goldens.images)
    scale = float(np.abs(goldens.inputs).max()) or 1.0
    error = float(np.abs(prepared - goldens.inputs).max()) / scale
    if not error <= _SAME_INPUT:
        raise GoldenError(
            f"the golden images do not normalise to the golden inputs (off by {error:.3g} of their "
            "range): mean, std or the channels' order in manifest.json is wrong"
        )
