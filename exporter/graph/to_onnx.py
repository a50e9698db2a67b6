"""From a PyTorch module to ONNX, and graphs to and from files."""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.artifact import Model, ModelSpec
from exporter.errors import BuildError, InputError
from exporter.graph.optimize import check
from exporter.passes.name_tensors import name_tensors
from exporter.passes.remove_export_noise import remove_export_noise
from exporter.passes.strip_provenance import strip_provenance

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch

IR_VERSION = 10
"""Older runtimes load it; opset 20 needs no newer one."""
LARGEST_FILE_BYTES = 2**31 - 1
"""protobuf's limit for one message."""
_EXAMPLE_BATCH = 2  # an example of one image would freeze the dimension (pytorch#157621)


def export(model: Model) -> ir.Model:
    """The model in FP32 as PyTorch wrote it, named by module path; BatchNormalization in place.

    For an ONNX file: the graph as it was loaded.

    Raises:
        BuildError: PyTorch cannot export the module.
    """
    if model.module is None:
        assert model.graph is not None
        return model.graph.clone()
    graph = _torch_export(model.module, model.spec)
    remove_export_noise(graph)
    name_tensors(graph)
    strip_provenance(graph)
    check(graph)
    return graph


def _torch_export(module: torch.nn.Module, spec: ModelSpec) -> ir.Model:
    import onnx_ir as ir
    import torch

    example = torch.zeros(_EXAMPLE_BATCH, *spec.image_shape)
    try:
        with quiet_exporter():
            program = torch.onnx.export(
                module.eval(),
                (example,),
                dynamo=True,
                optimize=False,
                verbose=False,
                opset_version=spec.opset,
                input_names=[spec.input.name],
                output_names=[spec.output.name],
                dynamic_shapes=({0: torch.export.Dim(str(spec.input.shape[0]))},),
            )
    except torch.onnx.OnnxExporterError as error:
        cause = error.__cause__ or error
        reason = " ".join(str(cause).split())[:500]
        raise BuildError(f"PyTorch cannot export {spec.source}: {reason}") from error
    assert program is not None
    graph = program.model
    graph.ir_version = IR_VERSION
    # The weights are still the module's memory; converting the module would change the graph.
    for value in graph.graph.initializers.values():
        if value.const_value is not None:
            value.const_value = ir.tensor(value.const_value.numpy().copy(), name=value.name)
    return graph


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Keeps back what torch.onnx says on every good run; anything else still comes through."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")

    def not_about_torchvision(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("torchvision is not installed")

    registration.addFilter(not_about_torchvision)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning
            )
            yield
    finally:
        registration.removeFilter(not_about_torchvision)


def save(graph: ir.Model, path: Path) -> str:
    """Writes one ONNX file, weights inside; returns its SHA-256 in hexadecimal.

    The same graph gives the same bytes. The file appears whole or not at all.

    Raises:
        BuildError: it would be larger than the 2 GiB that one file can hold, or cannot be written.
    """
    content = serialize(graph)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            with temporary.open("xb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
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
    if weights > LARGEST_FILE_BYTES:
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
