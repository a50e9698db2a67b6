"""From a PyTorch module to ONNX."""

from __future__ import annotations

import functools
import inspect
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING

from exporter.artifact import Model, ModelSpec
from exporter.errors import BuildError, InputError
from exporter.graph.average_pools import average_pools_written_out
from exporter.graph.files import check
from exporter.models.computed_type import why_not_float32
from exporter.models.onnx_format import IR_VERSION
from exporter.models.outputs import ONLY, outputs_of
from exporter.passes.clip_pools import clip_pools
from exporter.passes.name_tensors import name_tensors
from exporter.passes.remove_export_noise import remove_export_noise
from exporter.passes.strip_provenance import strip_provenance
from exporter.runtime.errors import reason_of

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch

_EXAMPLE_BATCH = 2
"""How many images the example has: one would freeze the dimension (pytorch#157621)."""


def export(model: Model) -> ir.Model:
    """The model in FP32 as PyTorch wrote it, named by module path; BatchNormalization in place.

    For an ONNX file: the graph as it was loaded.

    Raises:
        BuildError: PyTorch cannot export the module.
        InputError: it computes in another type than float32 (under autocast, say), or does not read
            one of its inputs.
    """
    if model.module is None:
        assert model.graph is not None
        _check_all_read(model.graph, model.spec)
        return model.graph.clone()
    graph = _torch_export(model.module, model.spec)
    _check_all_read(graph, model.spec)
    remove_export_noise(graph)
    clip_pools(graph)
    name_tensors(graph)
    strip_provenance(graph)
    wrong_type = why_not_float32(graph)
    if wrong_type:
        raise InputError(
            f"{model.spec.source}: {wrong_type}; take autocast and casts out of its forward, the "
            "lower precisions are made here"
        )
    check(graph)
    return graph


def _check_all_read(graph: ir.Model, spec: ModelSpec) -> None:
    """Refuses one of several inputs that changes no answer: runtimes drop it, with its name."""
    for value in graph.graph.inputs:
        if spec.other_inputs and not value.uses():
            raise InputError(f"{spec.source} does not read its input {value.name!r}; leave it out")


def _torch_export(module: torch.nn.Module, spec: ModelSpec) -> ir.Model:
    import onnx_ir as ir
    import torch

    from exporter.models.inputs import copied

    example = tuple(torch.zeros(_EXAMPLE_BATCH, *given.sample) for given in spec.inputs)
    batch = {0: torch.export.Dim(str(spec.input.shape[0]))}
    dynamic = (batch,) * len(example)
    try:
        with (
            quiet_exporter(),
            average_pools_written_out(module, copied(example)),
            flat_answers(module, spec),
        ):
            program = torch.onnx.export(
                module,
                example,
                dynamo=True,
                optimize=False,
                verbose=False,
                opset_version=spec.opset,
                input_names=[given.name for given in spec.inputs],
                output_names=[output.name for output in spec.outputs],
                dynamic_shapes=(dynamic,) if _takes_any_arguments(module) else dynamic,
            )
    except torch.onnx.OnnxExporterError as error:
        cause = error.__cause__ or error
        reason = reason_of(cause).partition(" Caused by: ")[0]
        if "data-dependent" in reason:
            reason = (
                "its forward branches on the values of its input, which a graph cannot; compute "
                f"both and choose with torch.where ({reason})"
            )
        raise BuildError(f"PyTorch cannot export {spec.source}: {reason}") from error
    assert program is not None
    graph = program.model
    graph.ir_version = IR_VERSION
    _keep_names_apart(graph, spec)
    # The weights are still the module's memory; converting the module would change the graph.
    for value in graph.graph.initializers.values():
        if value.const_value is not None:
            value.const_value = ir.tensor(value.const_value.numpy().copy(), name=value.name)
    return graph


@contextmanager
def flat_answers(module: torch.nn.Module, spec: ModelSpec) -> Iterator[None]:
    """In the block, a module of several outputs answers a tuple of them.

    torch.export knows tuples, lists and dicts, and no class of anybody else's.
    """
    if [output.name for output in spec.outputs] == [ONLY]:
        yield
        return
    own = vars(module).get("forward")
    forward = module.forward

    @functools.wraps(forward)
    def flat(*args: object, **options: object) -> tuple[torch.Tensor, ...]:
        return tuple(outputs_of(forward(*args, **options)).values())

    setattr(module, "forward", flat)  # noqa: B010 - a method cannot be assigned to
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            setattr(module, "forward", own)  # noqa: B010


def _keep_names_apart(graph: ir.Model, spec: ModelSpec) -> None:
    """Takes the interface's names from tensors inside, which PyTorch names after operators."""
    names = [one.name for one in (*spec.inputs, *spec.outputs)]
    for node in graph.graph:
        for value in node.outputs:
            if value.name in names and not value.is_graph_output():
                value.name = f"{value.name}.inner"


def _takes_any_arguments(module: torch.nn.Module) -> bool:
    """Whether its forward takes `*args`, to hand them on."""
    first = next(iter(inspect.signature(module.forward).parameters.values()), None)
    return first is not None and first.kind is inspect.Parameter.VAR_POSITIONAL


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Keeps back what torch.onnx says on every good run, and the graphs that it prints on others.

    What went wrong is in the exception.
    """
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")

    def not_about_torchvision(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("torchvision is not installed")

    registration.addFilter(not_about_torchvision)
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()), redirect_stdout(StringIO()):
            warnings.filterwarnings(
                "ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning
            )
            # All inputs have one batch, and PyTorch says so for each after the first.
            warnings.filterwarnings("ignore", r"# The axis name: \S+ will not be used", UserWarning)
            yield
    finally:
        registration.removeFilter(not_about_torchvision)
