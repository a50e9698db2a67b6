"""INT8 graphs in the form that one runtime computes fastest, its numbers bit for bit the same.

Which passes bring a graph there, each target's tuple says; `rewritten` runs them on a lowered file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import onnx
import onnx_ir as ir

from exporter.artifact import PassReport
from exporter.passes.forms.merge_groups import merge_groups
from exporter.passes.forms.offset_weights import offset_weights
from exporter.passes.forms.signed_input import signed_input
from exporter.passes.forms.space_to_depth_stem import space_to_depth_stem

Form = Callable[[ir.Model], PassReport]

ORT_CPU: Final[tuple[Form, ...]] = (space_to_depth_stem, merge_groups)
ORT_CPU_AMX: Final[tuple[Form, ...]] = (*ORT_CPU, offset_weights)
OPENVINO: Final[tuple[Form, ...]] = (signed_input,)


def rewritten(content: bytes, forms: Sequence[Form]) -> bytes:
    """A serialized ONNX graph after the passes; the same bytes where none fires."""
    model = ir.from_proto(onnx.load_model_from_string(content))
    if not sum(rewrite(model).fired for rewrite in forms):
        return content
    serialized: bytes = ir.to_proto(model).SerializeToString(deterministic=True)
    return serialized
