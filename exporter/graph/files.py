"""Graphs to and from ONNX files, and whether a graph is valid ONNX."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_ir.passes import common

from exporter.disk.writing import write_whole
from exporter.errors import BuildError, InputError
from exporter.models.onnx_format import LARGEST_BYTES
from exporter.runtime.errors import reason_of

if TYPE_CHECKING:
    import onnx_ir as ir


def save(graph: ir.Model, path: Path) -> str:
    """Writes one ONNX file, weights inside; returns its SHA-256 in hexadecimal.

    The same graph gives the same bytes. The file appears whole or not at all.

    Raises:
        BuildError: it would be larger than the 2 GiB that one file can hold, or cannot be written.
    """
    content = serialize(graph)
    try:
        write_whole(path, content)
    except OSError as error:
        raise BuildError(
            f"{path} ({len(content):,} bytes) cannot be written: {error.strerror or error}; "
            "free some space or give another folder"
        ) from error
    return hashlib.sha256(content).hexdigest()


def serialize(graph: ir.Model) -> bytes:
    """The bytes of the ONNX file: a function of the graph alone."""
    import onnx_ir as ir

    weights = sum(v.const_value.nbytes for v in graph.graph.initializers.values() if v.const_value)
    if weights > LARGEST_BYTES:
        raise BuildError(
            f"the weights take {weights / 2**30:.2f} GiB, an ONNX file holds 2 GiB; "
            "choose a smaller variant"
        )
    proto = ir.to_proto(graph)
    # torch.onnx adds defaults in the order of onnx's hash tables, the C++ library's own affair.
    for node in proto.graph.node:
        node.attribute.sort(key=lambda attribute: attribute.name)
    proto.opset_import.sort(key=lambda opset: opset.domain)
    return bytes(proto.SerializeToString(deterministic=True))


def load(path: Path) -> ir.Model:
    """Reads an ONNX file that `save` wrote.

    Raises:
        InputError: the file is missing or is not ONNX.
    """
    import onnx
    import onnx_ir as ir
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        content = path.read_bytes()
        return ir.from_proto(onnx.load_model_from_string(content))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except DecodeError as error:
        raise InputError(f"{path} is not an ONNX file; export the model again") from error


def check(graph: ir.Model) -> None:
    """onnx.checker with full shape inference.

    Raises:
        BuildError: naming the first thing that is wrong.
    """
    try:
        common.CheckerPass(full_check=True)(graph)
    except Exception as error:
        cause = error.__cause__ or error
        reason = reason_of(cause)
        raise BuildError(f"the optimized graph is not valid ONNX: {reason}") from error
