"""How a tensor moves through a network: shapes, strides, parameters, MACs, from forward hooks."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from exporter.artifact import Model
from exporter.errors import UsageError
from exporter.models.describe import macs_of

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """One call of one leaf module; a module that is called twice has two rows."""

    path: str
    kind: str
    kernel: Shape | None
    stride: Shape | None
    padding: Shape | None
    input: Shape
    """Without the batch dimension: (C, H, W)."""
    output: Shape
    parameters: int
    macs: int


@dataclass(frozen=True)
class Stage:
    """What one top-level part does to the tensor."""

    name: str
    blocks: int
    planes_in: int
    planes_out: int
    size_in: Shape
    """(H, W)."""
    size_out: Shape
    change: str
    """In words: what doubled, what halved."""
    parameters: int
    macs: int


@dataclass(frozen=True)
class Trace:
    """The whole way, module by module and stage by stage."""

    model: str
    input: Shape
    rows: tuple[Row, ...]
    stages: tuple[Stage, ...]
    parameters: int
    macs: int

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)


def trace(model: Model) -> Trace:
    """Runs one image of zeros through the module and notes every leaf module's call.

    Leaves that don't take a tensor to a tensor are not rows: they have no shapes to tell.

    Raises:
        UsageError: the model is an ONNX file, which has no modules.
    """
    if model.module is None:
        raise UsageError(
            f"{model.spec.source} is an ONNX file and has no modules to trace; "
            "trace works on built-in names, timm models and modules of your own"
        )
    rows: list[Row] = []

    def note(path: str) -> Any:
        def hook(part: nn.Module, inputs: tuple[object, ...], output: object) -> None:
            given = inputs[0] if inputs else None
            if isinstance(given, torch.Tensor) and isinstance(output, torch.Tensor):
                rows.append(_row(path, part, given, output))

        return hook

    leaves = [(path, part) for path, part in model.module.named_modules() if _is_leaf(part)]
    hooks = [part.register_forward_hook(note(path)) for path, part in leaves]
    try:
        with torch.inference_mode():
            model.module(*(torch.zeros(1, *given.sample) for given in model.spec.inputs))
    finally:
        for handle in hooks:
            handle.remove()
    return Trace(
        model=model.spec.name,
        input=model.spec.image_shape,
        rows=tuple(rows),
        stages=_stages(rows),
        parameters=model.spec.parameters,
        macs=model.spec.macs,
    )


def _is_leaf(part: nn.Module) -> bool:
    return not any(True for _ in part.children()) and not isinstance(part, nn.Identity)


def _row(path: str, part: nn.Module, given: torch.Tensor, output: torch.Tensor) -> Row:
    return Row(
        path=path,
        kind=type(part).__name__,
        kernel=_pair(getattr(part, "kernel_size", None)),
        stride=_pair(getattr(part, "stride", None)),
        padding=_pair(getattr(part, "padding", None)),
        input=tuple(given.shape[1:]),
        output=tuple(output.shape[1:]),
        parameters=sum(parameter.numel() for parameter in part.parameters()),
        macs=macs_of(part, output),
    )


def _pair(value: object) -> Shape | None:
    if isinstance(value, int):
        return (value, value)
    return tuple(value) if isinstance(value, tuple) else None


def _stages(rows: list[Row]) -> tuple[Stage, ...]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        # The stem's four modules are one stage, as are the pooling and the classifier at the end.
        top = row.path.partition(".")[0]
        name = top if "." in row.path else ("head" if any("." in n for n in groups) else "stem")
        key = f"{name}." if "." in row.path else name
        groups.setdefault(key, []).append(row)
    stages = []
    for key, members in groups.items():
        # A projection runs beside the main branch: the stage ends where its last main module does.
        main = [row for row in members if ".downsample." not in row.path] or members
        first, last = main[0].input, main[-1].output
        blocks = {row.path.split(".")[1] for row in members if row.path.count(".") >= 1}
        stages.append(
            Stage(
                name=key.rstrip("."),
                blocks=len(blocks),
                planes_in=first[0],
                planes_out=last[0],
                size_in=first[1:],
                size_out=last[1:],
                change=_change(first, last),
                parameters=sum(row.parameters for row in members),
                macs=sum(row.macs for row in members),
            )
        )
    return tuple(stages)


def _change(first: Shape, last: Shape) -> str:
    words = []
    if last[0] != first[0]:
        words.append(f"planes {_factor(last[0], first[0])}")
    if len(last) == len(first) == 3 and last[1:] != first[1:]:
        words.append(f"HxW {_factor(last[1], first[1])}")
    elif len(last) == 1 and len(first) == 3:
        words.append("HxW averaged away")
    return ", ".join(words) or "unchanged"


def _factor(after: int, before: int) -> str:
    if after == 2 * before:
        return "doubled"
    if 2 * after == before:
        return "halved"
    if after > before and after % before == 0:
        return f"x {after // before}"
    if before > after and before % after == 0:
        return f"/ {before // after}"
    return f"{before} to {after}"
