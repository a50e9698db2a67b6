"""Graphs in the form that one runtime computes fastest, with the same numbers.

Which passes bring a graph there, each target's tuple says; `rewritten` runs them on a lowered file,
and those that promise equal numbers prove it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import onnx
import onnx_ir as ir

from exporter.artifact import PassReport
from exporter.graph.equality import random_images
from exporter.graph.rewrite import prove_equal
from exporter.passes.forms.hoist_strides import hoist_strides
from exporter.passes.forms.merge_groups import merge_groups, merge_groups_for_amx
from exporter.passes.forms.offset_weights import offset_weights
from exporter.passes.forms.own_biases import own_biases
from exporter.passes.forms.pick_codes import pick_codes
from exporter.passes.forms.signed_input import signed_input
from exporter.passes.forms.space_to_depth_stem import space_to_depth_stem
from exporter.passes.widen_bf16 import widen_bf16

Form = Callable[[ir.Model], PassReport]

ORT_CPU: Final[tuple[Form, ...]] = (hoist_strides, space_to_depth_stem, merge_groups)
ORT_CPU_AMX: Final[tuple[Form, ...]] = (
    hoist_strides,
    space_to_depth_stem,
    merge_groups_for_amx,
    offset_weights,
)
ORT_CPU_FLOAT: Final[tuple[Form, ...]] = (hoist_strides,)
OPENVINO: Final[tuple[Form, ...]] = (hoist_strides, pick_codes, signed_input)
OPENVINO_FLOAT: Final[tuple[Form, ...]] = (own_biases,)


_COARSER: Final = (signed_input,)
"""Forms that trade precision for speed, within a bound of their own."""
_CODES_APART: Final = 3e-2
"""How far the answer of an equal form may be where the graph is computed in float32: a value that
lies between two codes is rounded to either when sums are in another order."""


def rewritten(content: bytes, forms: Sequence[Form]) -> bytes:
    """A serialized ONNX graph after the passes; the same bytes where none fires.

    Raises:
        BuildError: a pass that promises equal numbers changed them.
    """
    given = ir.from_proto(onnx.load_model_from_string(content))
    model = given.clone()
    equal = [form for form in forms if form not in _COARSER]
    fired = sum(rewrite(model).fired for rewrite in equal)
    if fired:
        before, after = given, model.clone()
        for one in (before, after):
            widen_bf16(one)  # what compares them has no BF16 convolution
        prove_equal(before, after, equal, random_images(before, batch=1), _CODES_APART)
    fired += sum(rewrite(model).fired for rewrite in forms if rewrite in _COARSER)
    if not fired:
        return content
    serialized: bytes = ir.to_proto(model).SerializeToString(deterministic=True)
    return serialized
