"""An INT8 graph in the form that one runtime computes fastest."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx
import onnx_ir as ir

from exporter.artifact import PassReport

Form = Callable[[ir.Model], PassReport]


def in_fast_form(content: bytes, forms: Sequence[Form]) -> bytes:
    """A serialized ONNX graph after the passes; the same bytes where none fires."""
    model = ir.from_proto(onnx.load_model_from_string(content))
    if not sum(rewrite(model).fired for rewrite in forms):
        return content
    rewritten: bytes = ir.to_proto(model).SerializeToString(deterministic=True)
    return rewritten
