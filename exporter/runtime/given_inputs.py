"""What a caller gives an engine, held against what it takes: each input by name or by its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from exporter.runtime.description import Description
from exporter.runtime.errors import InputError, NoEngineError
from exporter.runtime.sessions import InputSpec, Session

Array = npt.NDArray[Any]


def inputs_of(description: Description, session: Session) -> dict[str, InputSpec]:
    """What an engine takes, by the names and in the order of the network's inputs.

    Raises:
        NoEngineError: it takes something else.
    """
    names = description.inputs
    if len(session.inputs) != len(names):
        raise NoEngineError(
            f"it takes {len(session.inputs)} inputs, the network {len(names)}; pack the build again"
        )
    if len(names) == 1:
        return {names[0]: session.inputs[0]}
    found = {}
    for name in names:
        places = [one for one in session.inputs if name in one.names]
        if not places:
            raise NoEngineError(f"it has no input {name!r}; pack the build again")
        found[name] = places[0]
    if len({one.shape[0] for one in found.values()}) > 1:
        raise NoEngineError("its inputs have different batches; pack the build again")
    return found


def ordered(
    inputs: Mapping[str, InputSpec], first: object, others: Sequence[object], engine: str
) -> tuple[Any, ...]:
    """What was given, in the order of the inputs.

    Raises:
        InputError: names or a number of inputs that the engine has not.
    """
    names = ", ".join(inputs)
    if isinstance(first, Mapping):
        if others or set(first) != set(inputs):
            given = ", ".join(map(str, first)) or "none"
            more = f" and {len(others)} more" if others else ""
            raise InputError(f"the inputs are {given}{more}; {engine} takes {names}, each once")
        return tuple(first[name] for name in inputs)
    if len(others) + 1 != len(inputs):
        raise InputError(
            f"{len(others) + 1} given; {engine} takes {len(inputs)} ({names}): one after the "
            "other, or a dict of them by name"
        )
    return (first, *others)


def check_tensor(value: object, wanted: InputSpec, name: str, engine: str) -> None:
    """Refuses a tensor of another type or shape; `name` is that of one of several inputs, else "".

    Raises:
        InputError: it is one.
    """
    of = f" for {name}" if name else ""
    if not is_array(value) or value.dtype != wanted.dtype:
        raise InputError(
            f"{f'{name} is' if name else 'inputs are'} {kind_of(value)}; {engine} takes a "
            f"{wanted.dtype} array of shape {shown(wanted.shape)}{of}"
        )
    sizes = zip(value.shape[1:], wanted.shape[1:], strict=False)
    if value.ndim != len(wanted.shape) or any(b not in (None, a) for a, b in sizes):
        raise InputError(
            f"{f'{name} has' if name else 'inputs have'} shape {value.shape}; {engine} takes "
            f"{shown(wanted.shape)}{of}"
        )
    if name and value.dtype.kind == "f" and not np.isfinite(value).all():
        raise InputError(f"{name} holds NaN or infinity; {engine} takes finite values{of}")


def check_lengths(inputs: Mapping[str, InputSpec], given: Sequence[Array], engine: str) -> None:
    """Refuses inputs of different numbers of samples.

    Raises:
        InputError: they are.
    """
    if len({len(one) for one in given}) > 1:
        counts = ", ".join(f"{name} {len(one)}" for name, one in zip(inputs, given, strict=True))
        raise InputError(
            f"the inputs have different lengths ({counts}); {engine} takes one of each a sample"
        )


def is_array(value: object) -> TypeGuard[Array]:
    """Whether it is an array that holds nothing but its values: no mask over some of them."""
    return isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray)


def kind_of(value: object) -> str:
    """What was given instead, in words."""
    if is_array(value):
        return f"of type {value.dtype}"
    return f"a {type(value).__name__}, not an array"


def shown(shape: tuple[int | None, ...]) -> str:
    """A shape, in words."""
    return f"({', '.join('N' if size is None else str(size) for size in shape)})"
