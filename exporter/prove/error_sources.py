"""Where the error of an 8-bit engine comes from: each residual block, stem and head (`units.py`).

Each unit of the lowered graph is fed with the FP32 network's exact values and compared with it,
ONNX Runtime's optimizations off: once as it is, and once with weights, activations or biases alone
quantized. A tensor's rounding is counted in the unit that writes it, so that a bad range is not
charged to the unit behind as well (the drift of `validate --blocks` charges both); that of the
network's input in the unit that reads it.

What is odd is told of each tensor that a unit writes: values beyond its range, a range that the
values hardly use, channels far wider than the others; and of each weight, that it is not the
network's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnx_ir as ir

from exporter.artifact import ModelSpec
from exporter.graph.files import load, save
from exporter.passes.blocks import find_residual_blocks
from exporter.passes.expose_tensors import isolate
from exporter.passes.strip_quantization import dequantized_weight
from exporter.passes.switch_quantization import Part, bypass_pair, leave_only
from exporter.passes.units import Ends, ends_of, units_of
from exporter.passes.values import constant, is_op
from exporter.prove.distance import relative_l2, sqnr_db
from exporter.prove.drift import Exact, Place, exact_values
from exporter.runtime.inputs import by_name
from exporter.targets import Array
from exporter.targets.ort.session import open_graph

CHANNELS_NAMED: Final = 4
"""How many channels are named that carry the error."""
_WIDE: Final = 8.0
"""A channel so many times as wide as half of the others is an outlier."""
_CLIPPED: Final = 10.0
"""Clipping that makes so many times the noise of rounding is for no good reason: in a range of
least squared error the two are about as large."""
_UNUSED: Final = 4.0
"""A range so many times as wide as what is seen was made for something else."""
_NOT_ROUNDING: Final = 0.25
"""Weights so far from the network's, relatively, are others: rounding to 8 bits moves them 1 %."""


@dataclass(frozen=True)
class Carrier:
    """A channel of a unit's output, and its share of the squared error."""

    channel: int
    share: float


@dataclass(frozen=True)
class BlockError:
    """The error that one block adds, or another unit, and where from."""

    name: str
    """The block's, "stem", "head" or a layer's."""
    own_rel_l2: float
    own_sqnr_db: float
    parts: Mapping[Part, float]
    """The same with one of the three quantized alone, weights with the biases that correct them;
    none where preprocessing is baked into the weights, which then are not the network's."""
    channels: tuple[Carrier, ...]
    """Those that carry the most of it."""
    oddities: tuple[str, ...]
    """What is odd about its ranges and weights, in words."""
    mend: str
    """What would mend it, in words."""
    keep: tuple[str, ...] = ()
    """Its nodes, or the module that they are, as for `--keep`."""


def error_sources(spec: ModelSpec, lowered_path: Path, place: Place) -> tuple[BlockError, ...]:
    """Every unit of a lowered graph, that with the largest error of its own first.

    Raises:
        BuildError: the FP32 graph of the build no longer answers as it did, or a graph does not
            load.
    """
    portable = load(place.folder / "onnx" / f"{spec.name}.fp32.onnx")
    lowered = load(lowered_path)
    parts = _parts_of(portable)
    baked = _baked(lowered, portable, parts)
    ranges = _ranges_of(lowered, portable, parts)
    ends = [tensor for part in parts for tensor in (*part.ends.inputs, *part.ends.outputs)]
    inside = [one.tensor for every in ranges.values() for one in every]
    given, exact = exact_values(portable, sorted({*ends, *inside}), spec, place)
    as_it_is = _outputs(lowered, parts, given, exact, place)
    alone = {}
    for part_of in Part:
        copy = lowered.clone()
        leave_only(copy, portable, part_of, spared=baked)
        alone[part_of] = _outputs(copy, parts, given, exact, place)
    weights = _changed_weights(lowered, portable, parts, baked)
    found = []
    for part in parts:
        truth = _together([exact[output] for output in part.ends.outputs])
        error = as_it_is[part.name] - truth
        oddities = [*weights.get(part.name, ())]
        oddities += [odd for one in ranges[part.name] for odd in _oddities(one, part, exact)]
        found.append(
            BlockError(
                name=part.name,
                own_rel_l2=relative_l2(error, truth),
                own_sqnr_db=sqnr_db(error, truth),
                parts={}
                if not baked.isdisjoint(part.nodes)
                else {p: relative_l2(alone[p][part.name] - truth, truth) for p in Part},
                channels=_carriers(error) if len(part.ends.outputs) == 1 else (),
                oddities=tuple(oddity.what for oddity in oddities),
                mend=oddities[0].mend if oddities else part.kept,
                keep=part.keep,
            )
        )
    return tuple(sorted(found, key=lambda one: -one.own_rel_l2))


@dataclass(frozen=True)
class _Part:
    """A unit, its nodes, and where it is cut out."""

    name: str
    keep: tuple[str, ...]
    ends: Ends
    nodes: tuple[str, ...]

    @property
    def kept(self) -> str:
        return f"keep it in float: --keep {','.join(self.keep)}"


def _parts_of(portable: ir.Model) -> tuple[_Part, ...]:
    """The units in graph order; every block, and what is outside of blocks."""
    blocks = find_residual_blocks(portable)
    inside = {block.name: block.nodes for block in blocks}
    return tuple(
        _Part(
            unit.name,
            unit.keep,
            ends_of(portable, unit, blocks),
            inside.get(unit.name, unit.keep),
        )
        for unit in units_of(portable, blocks)
    )


def _baked(lowered: ir.Model, portable: ir.Model, parts: Sequence[_Part]) -> frozenset[str]:
    """The nodes of what reads images where the FP32 network reads numbers (`passes/bake/`)."""
    given, exact = lowered.graph.inputs[0], portable.graph.inputs[0]
    if given.dtype is exact.dtype:
        return frozenset()
    readers = {str(node.name) for node in exact.consumers()}
    return frozenset(
        name for part in parts if not readers.isdisjoint(part.nodes) for name in part.nodes
    )


def _owners(parts: Sequence[_Part]) -> dict[str, str]:
    """Node -> the smallest part that it is in."""
    owner: dict[str, str] = {}
    for part in sorted(parts, key=lambda part: -len(part.nodes)):
        owner.update(dict.fromkeys(part.nodes, part.name))
    return owner


@dataclass(frozen=True)
class _Oddity:
    what: str
    mend: str


@dataclass(frozen=True)
class _Range:
    """What a quantized tensor can hold."""

    tensor: str
    low: float
    high: float


def _outputs(
    graph: ir.Model, parts: Sequence[_Part], given: Array, exact: Exact, place: Place
) -> dict[str, Array]:
    """Each part's outputs when it is fed with exact values that nothing has rounded.

    The network's input is as the engine takes it: there is nobody else to round it.
    """
    copy = graph.clone()
    own = {str(value.name) for value in copy.graph.inputs}
    first = str(copy.graph.inputs[0].name)
    inputs = tuple(dict.fromkeys(name for part in parts for name in part.ends.inputs))
    outputs = tuple(dict.fromkeys(name for part in parts for name in part.ends.outputs))
    isolate(copy, inputs, outputs)
    for value in copy.graph.inputs:
        for reader in tuple(value.consumers()) if value.name not in own else ():
            if is_op(reader, "QuantizeLinear"):
                bypass_pair(reader)
    made = [str(value.name) for value in copy.graph.outputs]
    read = {str(value.name) for value in copy.graph.inputs}
    path = place.scratch / "alone.onnx"
    save(copy, path)
    feeds = {f"exact.{name}": exact[name] for name in inputs}
    feeds.update({name: one for name, one in by_name(given, first).items() if name in read})
    with open_graph(path, place.threads) as session:
        answers = place.run(session, feeds)
    answer = {name: answers[own_name] for name, own_name in zip(outputs, made, strict=True)}
    return {part.name: _together([answer[name] for name in part.ends.outputs]) for part in parts}


def _together(arrays: Sequence[Array]) -> Array:
    """Outputs of one part as one array of float64, (N, C, ...), or (N, values) of several."""
    if len(arrays) == 1:
        return arrays[0].astype(np.float64)
    return np.concatenate([one.reshape(len(one), -1).astype(np.float64) for one in arrays], axis=1)


def _ranges_of(
    lowered: ir.Model, portable: ir.Model, parts: Sequence[_Part]
) -> dict[str, list[_Range]]:
    """The ranges of the tensors that each part writes; of the network's input where it is read."""
    owner = _owners(parts)
    writer = {str(v.name): str(node.name) for node in portable.graph for v in node.outputs}
    for value in portable.graph.inputs:
        writer.update((str(value.name), str(node.name)) for node in value.consumers())
    found: dict[str, list[_Range]] = {part.name: [] for part in parts}
    for node in lowered.graph:
        if not is_op(node, "QuantizeLinear") or node.inputs[0] is None:
            continue
        tensor = str(node.inputs[0].name).removesuffix(".float")
        part = owner.get(writer.get(tensor, ""))
        scale, zero = constant(node.inputs[1]), constant(node.inputs[2])
        if part is None or scale is None or zero is None or zero.dtype.kind not in "iu":
            continue
        codes = np.iinfo(zero.dtype)
        low, high = ((code - int(zero)) * float(scale) for code in (codes.min, codes.max))
        found[part].append(_Range(tensor, low, high))
    return found


def _oddities(range_: _Range, part: _Part, exact: Exact) -> Iterator[_Oddity]:
    values = exact[range_.tensor]
    seen = float(np.abs(values).max())
    end = max(-range_.low, range_.high)
    beyond = values - np.clip(values, range_.low, range_.high)
    rounding = ((range_.high - range_.low) / 255) ** 2 / 12
    again = "calibrate on images like those that are served (--data)"
    wide = _outlier(values)
    if wide is not None:
        channel, times = wide
        yield _Oddity(
            f"channel {channel} of {range_.tensor} reaches {times:.0f} times as far as half of the "
            "channels do, and one scale serves them all",
            part.kept,
        )
    if float(np.square(beyond, dtype=np.float64).mean()) > _CLIPPED * rounding:
        yield _Oddity(
            f"{np.mean(beyond != 0):.1%} of the values of {range_.tensor} are clipped: they reach "
            f"{seen:.3g}, its range ends at {end:.3g}",
            again,
        )
    elif end > _UNUSED * seen > 0:
        yield _Oddity(
            f"{range_.tensor} has a range to {end:.3g} and reaches {seen:.3g}: most codes are "
            "never used",
            again,
        )


def _outlier(values: Array) -> tuple[int, float] | None:
    """The widest channel of (N, C, ...) where it is an outlier, and how wide it is."""
    if values.ndim < 2 or values.shape[1] < 2:
        return None
    widths = np.abs(values).max(axis=tuple(a for a in range(values.ndim) if a != 1))
    half = float(np.median(widths))
    channel = int(widths.argmax())
    return (channel, float(widths[channel]) / half) if widths[channel] > _WIDE * half > 0 else None


def _changed_weights(
    lowered: ir.Model, portable: ir.Model, parts: Sequence[_Part], baked: Collection[str]
) -> dict[str, list[_Oddity]]:
    """Part -> weights that are not the network's, which rounding or baking does not explain."""
    owner = _owners(parts)
    layers = {node.name: node for node in portable.graph if is_op(node, "Conv", "Gemm")}
    found: dict[str, list[_Oddity]] = {}
    for node in lowered.graph:
        exact = constant(layers[node.name].inputs[1]) if node.name in layers else None
        rounded = dequantized_weight(node.inputs[1]) if exact is not None else None
        part = owner.get(str(node.name))
        if exact is None or rounded is None or part is None or node.name in baked:
            continue
        apart = relative_l2(rounded.astype(np.float64) - exact, exact)
        if apart > _NOT_ROUNDING:
            found.setdefault(part, []).append(
                _Oddity(
                    f"the weights of {node.name} are {apart:.0%} away from the network's, which no "
                    "rounding explains",
                    "they were changed after calibration: export the network that is meant again",
                )
            )
    return found


def _carriers(error: Array) -> tuple[Carrier, ...]:
    """The channels of (N, C, ...) that carry the most of the squared error."""
    if error.ndim < 2:
        return ()
    energy = np.square(error).sum(axis=tuple(a for a in range(error.ndim) if a != 1))
    total = float(energy.sum()) or 1.0
    most = np.argsort(-energy, kind="stable")[:CHANNELS_NAMED]
    return tuple(Carrier(int(channel), float(energy[channel]) / total) for channel in most)
