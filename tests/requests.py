"""Requests of any content, drawn from their declarations: an option with bounds is named here."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from hypothesis import strategies as st

from exporter.builds.option import REQUIRED, Declaration, declarations

Request = TypeVar("Request")

# What a shell, a list or a setting could trip over is among them.
WORDS = st.text("abz059._+ '\"$&*;|=:-/é", min_size=1, max_size=12).filter(
    lambda text: text == text.strip() and not text.startswith("-")
)
NAMES = st.text("abz059_-", min_size=1, max_size=8)
BOUNDED: Mapping[str, st.SearchStrategy[Any]] = {
    "max_drop": st.integers(1, 49).map(lambda percent: f"{percent}%"),
    "min_agreement": st.integers(51, 99).map(lambda percent: f"{percent}%"),
    "min_sqnr": st.integers(1, 120).map(float),
}


def values(declared: Declaration) -> st.SearchStrategy[Any]:
    """What an option may hold."""
    if declared.name in BOUNDED:
        return BOUNDED[declared.name]
    if declared.item is not None:
        return st.lists(_of(declared.item, 1), unique=True, max_size=3).map(tuple)
    if declared.is_nested:
        return st.dictionaries(NAMES, st.dictionaries(NAMES, WORDS, min_size=1, max_size=2))
    if declared.may_be_pair:
        side = st.integers(1, 10_000)
        return st.one_of(side, st.tuples(side, side).filter(lambda pair: pair[0] != pair[1]))
    kinds = [kind for kind in _alternatives(declared.kind) if kind is not type(None)]
    return st.one_of(*(_of(kind, declared.option.minimum) for kind in kinds))


def others(declared: Declaration) -> st.SearchStrategy[Any]:
    """What it may hold beside its default, as far as the command line can say it."""
    return values(declared).filter(lambda value: value != declared.default and value != ())


def requests(kind: type[Request]) -> st.SearchStrategy[Request]:
    """Requests with some options at their default and the others anywhere."""
    return st.builds(
        kind,
        **{
            one.name: others(one)
            if one.default is REQUIRED
            else st.one_of(st.just(one.default), others(one))
            for one in declarations(kind)
        },
    )


def _alternatives(kind: Any) -> tuple[Any, ...]:
    is_single = isinstance(kind, type) or get_origin(kind) in (Literal, Mapping)
    return (kind,) if is_single else get_args(kind)


def _of(kind: Any, minimum: int | None) -> st.SearchStrategy[Any]:
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return st.sampled_from(list(kind))
    if kind is bool:
        return st.booleans()
    if kind is int:
        return st.integers(minimum or 0, 10_000)
    if kind is float:
        return st.floats(0.001, 1e6)
    words = WORDS.filter(lambda word: word != ".")
    return words.map(Path) if kind is Path else words
