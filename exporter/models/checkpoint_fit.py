"""Which tensors of a checkpoint are a network's weights: decided by fit, not by a list of names.

A file is taken as one flat list of names, those of nested mappings joined by dots, so that the key
that a training script kept the weights under and the prefix that a wrapper gave them (`module.`,
`model.`, `_orig_mod.`, `backbone.`, several of these) are one thing: what stands before the
network's own names. The network's own names may have one as well, which the file lacks.

Chosen is the prefix with the most tensors that agree in name and shape, then the one with the
fewest others. Where several fit alike, a teacher's or an average's comes after the trained
weights, and a note says which others there are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from torch import Tensor

from exporter.errors import InputError
from exporter.models.checkpoint_file import SEPARATOR

State = dict[str, Tensor]

KEYS_IN_A_MESSAGE: Final = 3
"""How many of the keys that do not fit a message names."""
DEEPEST: Final = 6
"""How deeply mappings may be nested in a file; weights lie in the first three."""
COUNTERS: Final = frozenset(
    ("num_batches_tracked", "n_averaged", "num_updates", "decay", "total_ops", "total_params")
)
"""Single numbers that BatchNorm, averages of weights and profilers count in; no answer depends on
one."""
_SECOND: Final = re.compile(r"ema|averag|swa|teacher|momentum|target|encoder_k", re.IGNORECASE)
"""What the weights' name has that are not the trained ones themselves, but a copy of them."""


@dataclass(frozen=True)
class Fit:
    """A network's weights, under the network's own names, and where they were found."""

    state: State
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Named:
    """A tensor of a file."""

    name: str
    """"state_dict.module.conv1.weight"."""
    mapping: str
    """What of the name leads to the mapping that it lies in: "state_dict."."""
    tensor: Tensor


@dataclass(frozen=True)
class _Candidate:
    prefix: str
    state: State
    """What is under the prefix, by the network's names, in the mappings where anything agrees."""
    beside: tuple[str, ...]
    """The names in these mappings that do not begin with the prefix."""
    agreeing: int
    """How many tensors agree in name and shape."""
    named: int
    """How many agree in name."""

    @property
    def rank(self) -> tuple[int, int, int, bool]:
        others = len(self.state) - self.named
        return self.agreeing, self.named, -others, not _SECOND.search(self.prefix)

    @property
    def place(self) -> str:
        """As it may be given after `SEPARATOR`."""
        return self.prefix.rstrip(".") or "the top"


def find_weights(
    content: Mapping[str, object], own: Mapping[str, Tensor], source: str, place: str = ""
) -> Fit:
    """The tensors of a checkpoint that fit a network best; `load_state` says where they do not.

    `own` is the network's state dict, of which names and shapes alone matter (it may be on the
    meta device). `place` narrows the search, as in "state_dict_ema".

    Raises:
        InputError: no tensors by name, or nothing at `place`; the message has what there is.
    """
    everything = list(_flat(content))
    if not everything:
        raise InputError(
            f"{source} holds no tensors by name; save it with torch.save(model.state_dict(), path)"
        )
    tensors = [one for one in everything if not place or one.name.startswith(f"{place}.")]
    if not tensors:
        places = Counter(one.mapping.rstrip(".") or "the top" for one in everything)
        has = [f"{name} ({count} tensors)" for name, count in places.most_common()]
        raise InputError(f"{source} has no weights at {place!r}; it has {some_of(has)}")
    candidates: list[_Candidate] = []
    for shared in _shared_prefixes(own):
        # `max` takes the first of those alike: the shortest prefix, the first place in the file.
        tried = list(_candidates(tensors, own, shared))
        candidates = max(candidates, tried, key=lambda c: max((o.rank[:3] for o in c), default=()))
    best = max(candidates, key=lambda one: one.rank)
    counters = [k for k in best.state if k not in own and _is_counter(k, best.state[k])]
    state = {k: v for k, v in best.state.items() if k not in counters}
    return Fit(state, tuple(_notes(source, best, candidates, counters)))


def some_of(keys: list[str]) -> str:
    """The first few names, fit to be printed."""
    # A file's keys may hold anything: line breaks, a terminal's control codes, a megabyte.
    shown = ", ".join(key if key.isprintable() else repr(key) for key in keys[:KEYS_IN_A_MESSAGE])
    shown = shown if len(shown) <= 400 else shown[:397] + "..."
    more = len(keys) - KEYS_IN_A_MESSAGE
    return f"{shown} and {more} more" if more > 0 else shown


def _flat(content: Mapping[str, object], mapping: str = "", depth: int = 1) -> Iterator[_Named]:
    for key, value in content.items():
        if isinstance(value, Tensor):
            yield _Named(f"{mapping}{key}", mapping, value)
        elif isinstance(value, Mapping) and depth < DEEPEST:
            yield from _flat(value, f"{mapping}{key}.", depth + 1)


def _shared_prefixes(own: Iterable[str]) -> list[str]:
    """What all of a network's names begin with, from nothing to the longest: "", "module."."""
    prefixes = [""]
    for parts in zip(*(name.split(".")[:-1] for name in own), strict=False):
        if len(set(parts)) > 1:
            break
        prefixes.append(f"{prefixes[-1]}{parts[0]}.")
    return prefixes


def _candidates(
    tensors: list[_Named], own: Mapping[str, Tensor], shared: str
) -> Iterator[_Candidate]:
    """What stands before the network's names, without their `shared` prefix, in the file."""
    wanted = {name.removeprefix(shared): tensor for name, tensor in own.items()}
    found = Counter(head for one in tensors for head, rest in _splits(one.name) if rest in wanted)
    most = max(found.values(), default=0)
    # Parts of a network have names like the whole's ("bn1.weight"), but few of them.
    for prefix in [p for p, count in found.items() if 2 * count >= most] or [""]:
        under = {
            one.name.removeprefix(prefix): one for one in tensors if one.name.startswith(prefix)
        }
        named = [k for k in under if k in wanted]
        mappings = {under[k].mapping for k in named or under}
        yield _Candidate(
            prefix,
            {shared + k: one.tensor for k, one in under.items() if one.mapping in mappings},
            tuple(
                one.name
                for one in tensors
                if one.mapping in mappings and not one.name.startswith(prefix)
            ),
            agreeing=sum(under[k].tensor.shape == wanted[k].shape for k in named),
            named=len(named),
        )


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """("", "a.b.c"), ("a.", "b.c"), ("a.b.", "c")."""
    yield "", name
    for index, letter in enumerate(name, 1):
        if letter == ".":
            yield name[:index], name[index:]


def _is_counter(name: str, tensor: Tensor) -> bool:
    return name.rpartition(".")[2] in COUNTERS and tensor.numel() == 1


def _notes(
    source: str, best: _Candidate, candidates: list[_Candidate], counters: list[str]
) -> Iterator[str]:
    alike = [one.place for one in candidates if one is not best and one.rank[:2] == best.rank[:2]]
    if alike:
        yield (
            f"{source} has weights of this network at {best.place} and at {some_of(alike)}; those "
            f"at {best.place} are taken; for others give --weights FILE{SEPARATOR}{alike[0]}"
        )
    counters = counters + [k for k in best.beside if k.rpartition(".")[2] in COUNTERS]
    beside = [k for k in best.beside if k not in counters]
    if beside and not alike:
        yield (
            f"{source}: the weights at {best.place} are taken, {len(beside)} tensors beside them "
            f"are not: {some_of(beside)}"
        )
    if counters:
        yield f"{source}: {len(counters)} counters are left out: {some_of(counters)}"
