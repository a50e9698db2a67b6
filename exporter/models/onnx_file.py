"""A model that somebody else wrote as ONNX: any opset from 9, NCHW or NHWC, BN folded or not.

The file is checked before use (`onnx_checks.py`, `onnx_weights.py`), converted to our opset, its
shapes inferred anew. Names of input and output, the layout and the batch, dynamic or of fixed size,
are kept.
"""

from __future__ import annotations

import hashlib
import math
import stat
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx_ir.passes import common

from exporter.artifact import Model, ModelKind, ModelSpec, Skipped, TensorSpec, WeightsInfo
from exporter.errors import InputError
from exporter.models import onnx_checks as checks
from exporter.models.computed_type import why_not_float32
from exporter.models.names import model_name
from exporter.models.onnx_format import LARGEST_BYTES, OPSET
from exporter.models.onnx_opset import (
    drop_unread_outputs,
    format_version,
    in_our_opset,
    why_not_converted,
)
from exporter.models.onnx_trial import try_out
from exporter.models.onnx_weights import check_tensors, inline_external_data
from exporter.models.outputs import scores_of
from exporter.passes.clip_pools import clip_pools
from exporter.passes.values import constant, dims, is_op

BATCH = "batch"
"""The name of a dynamic batch dimension that has none."""


def load_onnx(path: Path) -> Model:
    """The model in an ONNX file.

    Raises:
        InputError: one line that says what is wrong with the file.
    """
    name = str(path)
    given = read_file(path, name)
    model = parse(given, name)
    checks.check_text(model, name)
    checks.check_structure(model, name)
    inlined = inline_external_data(model, path.parent, name)
    check_tensors(model, name)
    checks.sort_nodes(model.graph, name)
    interface = checks.check_interface(model.graph, name)
    batch_was_named = name_batch(interface, name)
    if not batch_was_named or inlined:
        given = model.SerializeToString(deterministic=True)
    graph = ir.from_proto(_convert(model, interface, name))
    graph.ir_version = format_version(graph.opset_imports[""])
    common.RemoveInitializersFromInputsPass()(graph)
    wrong_type = why_not_float32(graph)
    if wrong_type:
        raise InputError(
            f"{name}: {wrong_type}; give the float32 model, the lower precisions are made from it"
        )
    fixed = _batch_fixed_inside(graph)
    spec = _describe(graph, path, interface.dtypes, given)
    shapes = try_out(given, ir.to_proto(graph).SerializeToString(), spec, name)
    spec = _with_sizes(spec, shapes)
    return Model(
        spec=spec,
        module=None,
        graph=graph,
        given=given,
        notes=tuple(note for note in (fixed, _kept(graph, name)) if note),
    )


def read_file(path: Path, name: str) -> bytes:
    """The bytes of an ONNX file.

    Raises:
        InputError: there is no such file, or one that cannot be read or cannot be ONNX.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{name} is not a file")
        if status.st_size > LARGEST_BYTES:
            raise InputError(f"{name} is larger than 2 GiB, which no ONNX file can be")
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{name}: no such file") from None
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror or error}") from None


def parse(content: bytes, name: str) -> onnx.ModelProto:
    """Raises InputError for what is not ONNX."""
    try:
        return onnx.load_model_from_string(content)
    except DecodeError:
        raise InputError(f"{name} is not an ONNX file, or it is truncated") from None


def _convert(model: onnx.ModelProto, interface: checks.Interface, name: str) -> onnx.ModelProto:
    """The model in our opset, checked, with inferred shapes."""
    for opset in model.opset_import:
        opset.domain = "" if opset.domain == "ai.onnx" else opset.domain
    for node in model.graph.node:
        node.domain = ""
    used = [opset for opset in model.opset_import if opset.domain == ""][:1]
    kept = [onnx.OperatorSetIdProto.FromString(opset.SerializeToString()) for opset in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    # Initializers that are inputs too are defaults of the old format, not part of the interface.
    model.ir_version = max(model.ir_version, 4)
    weights = {tensor.name for tensor in model.graph.initializer}
    for value in [value for value in model.graph.input if value.name in weights]:
        model.graph.input.remove(value)
    drop_unread_outputs(model.graph)
    # What the file says of its inner shapes may be stale; they are inferred below.
    del model.graph.value_info[:]
    declared = [
        onnx.ValueInfoProto.FromString(output.SerializeToString()) for output in interface.outputs
    ]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    try:
        model = _infer(_with_clipped_pools(model), declared)
        if model.opset_import[0].version != OPSET:
            model = _infer(in_our_opset(model), declared)
        checks.check_activations(model.graph, name)
        onnx.checker.check_model(model, full_check=True)
    except (
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        onnx.version_converter.ConvertError,
        RuntimeError,
        DecodeError,
    ) as error:
        raise InputError(f"{name}: {why_not_converted(error, model)}") from error
    return model


def _with_clipped_pools(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without windows that begin in padding; given back where it has none."""
    if not any(a.name == "ceil_mode" and a.i for node in model.graph.node for a in node.attribute):
        return model
    graph = ir.from_proto(onnx.shape_inference.infer_shapes(model, data_prop=True))
    if not clip_pools(graph).fired:
        return model
    clipped = ir.to_proto(graph)
    del clipped.graph.value_info[:]
    for output in clipped.graph.output:
        output.type.tensor_type.ClearField("shape")
    return clipped


def _infer(model: onnx.ModelProto, declared: Sequence[onnx.ValueInfoProto]) -> onnx.ModelProto:
    """Shapes of all tensors; what cannot be inferred of an output is as the file declares it."""
    inferred = onnx.shape_inference.infer_shapes(
        model, check_type=True, strict_mode=True, data_prop=True
    )
    batch = inferred.graph.input[0].type.tensor_type.shape.dim[0]
    for value, given in zip(inferred.graph.output, declared, strict=True):
        output, shape = value.type.tensor_type, given.type.tensor_type.shape
        if not output.HasField("shape"):
            output.shape.CopyFrom(shape)
        for found, said in zip(output.shape.dim, shape.dim, strict=False):
            if not found.HasField("dim_value") and not found.HasField("dim_param"):
                found.CopyFrom(said)
        if output.shape.dim and not output.shape.dim[0].HasField("dim_value"):
            output.shape.dim[0].CopyFrom(batch)
    return inferred


def name_batch(interface: checks.Interface, name: str) -> bool:
    """Gives a dynamic batch without a name one, in place; whether all sizes were fit to be read.

    Some exporters write 0 or -1 for what is dynamic, which runtimes take for sizes. All inputs have
    one batch, whatever each calls it.

    Raises:
        InputError: the inputs' batches differ.
    """
    batches = [value.type.tensor_type.shape.dim[0] for value in interface.inputs]
    sizes = [*batches, *(d for y in interface.outputs for d in y.type.tensor_type.shape.dim)]
    misspelt = [one for one in sizes if one.HasField("dim_value") and one.dim_value <= 0]
    for size in misspelt:
        size.Clear()
    if len({batch.dim_value for batch in batches}) > 1:  # 0 where it is dynamic
        listed = ", ".join(
            f"{value.name} {batch.dim_value or 'dynamic'}"
            for value, batch in zip(interface.inputs, batches, strict=True)
        )
        raise InputError(f"{name}: the inputs have different batches ({listed}); give all the same")
    if batches[0].HasField("dim_value"):
        return not misspelt
    common = next((batch.dim_param for batch in batches if batch.dim_param), BATCH)
    renamed = {batch.dim_param for batch in batches} - {common}
    for batch in batches:
        batch.dim_param = common
    for size in sizes:
        if size.dim_param and size.dim_param in renamed:
            size.dim_param = common
    return not renamed and not misspelt


def _batch_fixed_inside(graph: ir.Model) -> str | None:
    """A note where the input's batch is dynamic by declaration alone; it is then fixed."""
    x = graph.graph.inputs[0]
    declared = dims(x)
    results = [result[0] for y in graph.graph.outputs if (result := dims(y))]
    fixed = [size for size in results if isinstance(size, int)]
    if not declared or not fixed or isinstance(declared[0], int):
        return None
    for given in graph.graph.inputs:
        given.shape = ir.Shape((fixed[0], *(dims(given) or ())[1:]))
    common.ShapeInferencePass()(graph)
    return (
        f"the batch of {x.name} is declared dynamic, but the graph fixes its output's to "
        f"{fixed[0]}: it is built for a batch of {fixed[0]}"
    )


def _kept(graph: ir.Model, name: str) -> str | None:
    opset = graph.opset_imports[""]
    return (
        None
        if opset == OPSET
        else (
            f"{name} stays in opset {opset}, which older runtimes do not read: it has operators "
            f"that cannot be converted to opset {OPSET}"
        )
    )


def _describe(graph: ir.Model, path: Path, dtypes: Sequence[str], given: bytes) -> ModelSpec:
    inputs = [tensor_spec(x, dtype) for x, dtype in zip(graph.graph.inputs, dtypes, strict=True)]
    outputs = [tensor_spec(y, "float32") for y in graph.graph.outputs]
    read = [str(y.name) for y in graph.graph.outputs if y.uses()]
    weights = [v.const_value for v in graph.graph.initializers.values()]
    return ModelSpec(
        name=model_name(path.name),
        source=path.name,
        kind=ModelKind.ONNX,
        parameters=sum(w.size for w in weights if w is not None and w.dtype is ir.DataType.FLOAT),
        macs=sum(_macs(node) for node in graph.graph),
        input=inputs[0],
        output=outputs[0],
        preprocessing=Skipped("an ONNX file does not say how its images were prepared"),
        weights=WeightsInfo(path.name, hashlib.sha256(given).hexdigest(), trained=True),
        opset=graph.opset_imports[""],
        other_outputs=tuple(outputs[1:]),
        scores=scores_of(outputs, read),
        other_inputs=tuple(inputs[1:]),
    )


def _with_sizes(spec: ModelSpec, shapes: Mapping[str, tuple[int, ...]]) -> ModelSpec:
    """The model with the sizes of its outputs as they were seen, the batch excepted."""
    outputs = [
        replace(output, shape=(output.shape[0], *shapes[output.name][1:]))
        for output in spec.outputs
    ]
    return replace(spec, output=outputs[0], other_outputs=tuple(outputs[1:]))


def tensor_spec(value: ir.Value, dtype: str) -> TensorSpec:
    shape = tuple(BATCH if size is None else size for size in dims(value) or ())
    return TensorSpec(str(value.name), dtype, shape)


def _macs(node: ir.Node) -> int:
    """Multiply-accumulates for one image of a convolution or a product with constant weights."""
    if not is_op(node, "Conv", "Gemm", "MatMul"):
        return 0
    weight = constant(node.inputs[1])
    made = dims(node.outputs[0])
    if weight is None or made is None:
        return 0
    results = math.prod(size for size in made[1:] if isinstance(size, int))
    if is_op(node, "Conv"):
        return results * math.prod(weight.shape[1:])
    transposed = is_op(node, "Gemm") and bool(node.attributes.get_int("transB", False))
    return results * int(weight.shape[-1 if transposed else -2])
