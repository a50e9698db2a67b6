"""The reference: what eager PyTorch answers to the inputs that engines are compared on.

Eager PyTorch in float32, and in float64 on a few inputs: the second one tells the error that
float32 itself makes. For an ONNX file it is that file, as given, with ONNX Runtime's optimizations
off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from exporter.artifact import Model, ModelSpec, Skipped
from exporter.errors import InputError
from exporter.images.samples import Samples
from exporter.progress import Progress
from exporter.prove.distance import Array, Floats, relative_l2
from exporter.prove.outputs import parts_of
from exporter.prove.reference_device import check_device, float32_on
from exporter.runtime.errors import reason_of
from exporter.runtime.goldens import golden_inputs, read_arrays, with_inputs_joined
from exporter.runtime.inputs import by_name
from exporter.runtime.outputs import Output, columns, side_by_side
from exporter.targets import MachineKind

if TYPE_CHECKING:
    import torch

BATCH: Final = 8
"""Inputs are run in batches of this size, and the first of them one at a time as well."""
EAGER_BATCH: Final = 32
FLOAT64_SAMPLES: Final = 8
GOLDEN_SAMPLES: Final = 8


@dataclass(frozen=True)
class Reference:
    """What the engines are compared with."""

    source: str
    inputs: Samples
    """Model-ready inputs, with labels where the data has them; of several inputs as records."""
    outputs: Floats
    """(N, values) of the float32 reference: a row an input, further dimensions flattened."""
    outputs_float64: Floats | Skipped
    """(n, values) for the first n inputs."""
    fixed_batch: int | None = None
    """The only batch size that the model takes; None: any."""
    input: str = "input"
    """The name of the network's input."""
    parts: tuple[Output, ...] = ()
    """Its outputs, side by side in a row, where it has several; empty: the row is one output's."""
    scores: int | None = 0
    """Which output has a score for each class; None: none."""

    @classmethod
    def of(
        cls,
        spec: ModelSpec,
        source: str,
        inputs: Samples,
        outputs: Floats,
        outputs_float64: Floats | Skipped,
    ) -> Reference:
        """What a model's engines are compared with."""
        declared = spec.input.shape[0]
        return cls(
            source=source,
            inputs=inputs,
            outputs=outputs,
            outputs_float64=outputs_float64,
            fixed_batch=declared if isinstance(declared, int) else None,
            input=spec.input.name,
            parts=parts_of(spec) if spec.other_outputs else (),
            scores=spec.scores,
        )

    def each(self) -> Iterator[tuple[str, slice, Reference]]:
        """The reference of each output with its name and its place in a row."""
        if not self.parts:
            yield "", slice(None), self
        for index, (part, place) in enumerate(zip(self.parts, columns(self.parts), strict=True)):
            exact = self.outputs_float64
            yield (
                part.name,
                place,
                replace(
                    self,
                    outputs=self.outputs[:, place],
                    outputs_float64=exact if isinstance(exact, Skipped) else exact[:, place],
                    parts=(),
                    scores=0 if index == self.scores else None,
                ),
            )

    @property
    def own_max_abs(self) -> float:
        """The largest error that the float32 reference makes against float64 (0 if not known)."""
        if isinstance(self.outputs_float64, Skipped):
            return 0.0
        count = len(self.outputs_float64)
        return float(np.abs(self.outputs[:count] - self.outputs_float64).max())

    @property
    def own_rel_l2(self) -> float | Skipped:
        """The relative error that the float32 reference makes against float64."""
        exact = self.outputs_float64
        if isinstance(exact, Skipped):
            return exact
        return relative_l2(self.outputs[: len(exact)] - exact, exact)


def make_reference(
    model: Model, inputs: Samples, progress: Progress, device: MachineKind = MachineKind.CPU
) -> Reference:
    """Runs the reference on all `inputs`, batch after batch; on `device`, in float64 on the CPU.

    Raises UsageError where that cannot be (`check_device`).
    """
    check_device(device, model)
    if model.module is None:
        return _reference_of_file(model, inputs, progress)
    import torch

    from exporter.models.inputs import tensors_of
    from exporter.models.outputs import outputs_of
    from exporter.models.usable_module import copied_module

    def run(module: torch.nn.Module, dtype: torch.dtype, batch: Array) -> Floats:
        place = next((tensor.device for tensor in module.parameters()), torch.device("cpu"))
        # The batch is this run's own: a forward may change it in place.
        with torch.inference_mode():
            given = (one.to(place, dtype) for one in tensors_of(batch))
            outputs = outputs_of(module(*given))
        return rows_of(side_by_side([output.cpu().numpy() for output in outputs.values()]))

    first = inputs.take(FLOAT64_SAMPLES)
    with progress.stage("reference: eager PyTorch", inputs.count + first.count) as advance:
        outputs = []
        with float32_on(device, model.module) as module:
            for batch in inputs.batches(EAGER_BATCH):
                outputs.append(run(module, torch.float32, batch))
                advance(len(batch))
        exact: Floats | Skipped
        try:
            double = copied_module(model.module).double()
            answers = [run(double, torch.float64, batch) for batch in first.batches(EAGER_BATCH)]
            exact = np.concatenate(answers)
        except Exception as error:  # somebody else's forward may need float32
            exact = Skipped(f"the module does not run in float64 ({reason_of(error)})")
        advance(first.count)
    where = "" if device is MachineKind.CPU else " on the GPU"
    eager = f"torch {torch.__version__.partition('+')[0]} eager float32{where}"
    return Reference.of(
        model.spec,
        eager if isinstance(exact, Skipped) else f"{eager}, float64 on {first.count} inputs",
        inputs,
        np.concatenate(outputs),
        exact,
    )


def save_goldens(path: Path, reference: Reference) -> None:
    """Writes an `.npz`: the first inputs, what eager answers, and what it answers in float64.

    An answer is a row; of several outputs, side by side in the manifest's order.
    """
    first = reference.inputs.take(GOLDEN_SAMPLES)
    arrays = {
        **golden_inputs(next(first.batches(GOLDEN_SAMPLES))),
        "outputs": reference.outputs[:GOLDEN_SAMPLES].astype(np.float32),
    }
    if not isinstance(reference.outputs_float64, Skipped):
        arrays["outputs_float64"] = reference.outputs_float64[:GOLDEN_SAMPLES]
    np.savez(path, allow_pickle=False, **arrays)


def read_goldens(path: Path, spec: ModelSpec) -> Reference:
    """The golden inputs of a model and what the reference answered to them.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        arrays = with_inputs_joined(read_arrays(path))
        rows = {
            name: array.reshape(len(array), -1).astype(np.float64)
            for name, array in arrays.items()
            if name != "inputs"
        }
        return Reference.of(
            spec,
            path.name,
            Samples.of(path.name, arrays["inputs"]),
            rows["outputs"],
            rows.get("outputs_float64", Skipped("the build has no float64 goldens")),
        )
    except (ValueError, KeyError) as error:
        raise InputError(f"{path} cannot be read ({error}); export the model again") from None


def as_written(graph: bytes, spec: ModelSpec, threads: int = 0) -> Callable[[Array], Array]:
    """Runs an ONNX file of a model, with ONNX Runtime's optimizations off.

    A batch -> all outputs side by side, (N, values). `threads` 0: as ONNX Runtime chooses.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    names = [output.name for output in spec.outputs]
    return lambda batch: side_by_side(session.run(names, by_name(batch, name)))


def _reference_of_file(model: Model, inputs: Samples, progress: Progress) -> Reference:
    import onnxruntime as ort

    spec = model.spec
    assert model.given is not None, "an ONNX file was given"
    run = as_written(model.given, spec)
    declared = spec.input.shape[0]
    fixed = declared if isinstance(declared, int) else None
    with progress.stage("reference: the given file, optimizations off", inputs.count) as advance:
        outputs = run_all(run, inputs, fixed, advance)
    return Reference.of(
        spec,
        f"the given ONNX file, onnxruntime {ort.__version__} with optimizations off",
        inputs,
        outputs,
        Skipped("an ONNX file has no float64 reference: its reference is float32"),
    )


def run_all(
    run: Callable[[Array], Array],
    inputs: Samples,
    fixed_batch: int | None,
    advance: Callable[[int], None] = lambda _count: None,
) -> Floats:
    """(N, values): every input through `run`, in batches of BATCH or of the one size it takes.

    What is missing from the last batch of a fixed size is filled up with its last input.
    """
    outputs = []
    for batch in inputs.batches(fixed_batch or BATCH):
        missing = (fixed_batch or 0) - len(batch)
        filled = np.concatenate([batch, *[batch[-1:]] * missing]) if missing > 0 else batch
        outputs.append(rows_of(run(filled))[: len(batch)])
        advance(len(batch))
    return np.concatenate(outputs)


def rows_of(output: Array) -> Floats:
    """(N, ...) -> (N, values) in float64."""
    return output.reshape(len(output), -1).astype(np.float64)
