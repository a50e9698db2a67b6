"""config.pbtxt: what Triton is told of a model.

https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_configuration.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy.typing as npt

from exporter.builds.records import EngineRecord
from exporter.pack.batching import Batching
from exporter.pack.packable import Release
from exporter.pack.protobuf_text import Message, Value, Word, parameters, text_format
from exporter.pack.triton_backends import BACKENDS, PYTHON, on_gpu
from exporter.prove.outputs import parts_of
from exporter.runtime.inputs import by_name
from exporter.runtime.outputs import Output

VERSION: Final = "1"
LABELS: Final = "labels.txt"
_TYPES: Final[Mapping[str, str]] = {"float32": "FP32", "float16": "FP16", "uint8": "UINT8"}


@dataclass(frozen=True)
class ServedInput:
    """One input as Triton's clients see it."""

    name: str
    samples: npt.NDArray[Any]
    """Golden inputs as requests carry them, (N, ...)."""

    @property
    def datatype(self) -> str:
        """In the words of the inference protocol."""
        return _TYPES[self.samples.dtype.name]


@dataclass(frozen=True)
class Served:
    """A model as Triton's clients see it."""

    inputs: tuple[ServedInput, ...]
    outputs: tuple[Output, ...]
    scores: int | None
    """Which of them has the classes that labels.txt names; None: none."""
    fixed: int | None
    """The one batch size that the engine takes; None: any. Triton has no such batches: it is told
    of none (`max_batch_size: 0`), and the dimension becomes part of every shape."""

    def shape_of_input(self, given: ServedInput) -> list[int]:
        """Of one request without its batch, where Triton batches; else of the whole."""
        return self._whole([*given.samples.shape[1:]])

    def shape_of(self, output: Output) -> list[int]:
        """Of an answer, as `shape_of_input`."""
        return self._whole([*output.shape])

    def _whole(self, sizes: list[int]) -> list[int]:
        return sizes if self.fixed is None else [self.fixed, *sizes]


def served_model(release: Release, backend: str) -> Served:
    """The model behind a backend: of images where the backend prepares them, else of tensors."""
    model, goldens = release.manifest.model, release.goldens
    inputs = by_name(goldens.inputs, model.input.name)
    if backend == PYTHON and goldens.images is not None:
        inputs = {"images": goldens.images}
    served = tuple(ServedInput(name, samples) for name, samples in inputs.items())
    declared = model.input.shape[0]
    fixed = declared if isinstance(declared, int) and backend != PYTHON else None
    outputs = parts_of(model) or (Output(model.output.name, (len(release.labels),)),)
    return Served(served, outputs, model.scores, fixed)


@dataclass(frozen=True)
class WarmUp:
    """Golden inputs that Triton asks before the model is ready."""

    batch: int
    files: tuple[str, ...]
    """One an input."""


def config_text(
    name: str,
    engine: EngineRecord,
    backend: str,
    served: Served,
    batching: Batching,
    warmups: list[WarmUp],
) -> str:
    """The text of config.pbtxt for a model of that name."""
    fields: dict[str, Value] = {
        "name": name,
        "backend": backend,
        "max_batch_size": batching.max_batch if served.fixed is None else 0,
        "input": [
            {
                "name": given.name,
                "data_type": Word(f"TYPE_{given.datatype}"),
                "dims": [*served.shape_of_input(given)],
            }
            for given in served.inputs
        ],
        "output": [
            {
                "name": output.name,
                "data_type": Word("TYPE_FP32"),
                "dims": [*served.shape_of(output)],
                **({"label_filename": LABELS} if index == served.scores else {}),
            }
            for index, output in enumerate(served.outputs)
        ],
        "version_policy": {"specific": {"versions": [int(VERSION)]}},
        "instance_group": [_instances(engine, batching)],
        "model_warmup": [_warmup(warmup, served) for warmup in warmups],
        "parameters": parameters(
            {
                key: template.format(threads=batching.threads)
                for key, template in BACKENDS[backend].parameters.items()
                if not on_gpu(engine)
            }
        ),
    }
    if served.fixed is None and (batching.preferred or batching.timeout_us):
        fields["dynamic_batching"] = _dynamic_batching(batching)
    return text_format(fields)


def scheduling(engine: EngineRecord, batching: Batching) -> str:
    """The fields alone that say how requests are put together and where they run."""
    fields: dict[str, Value] = {
        "max_batch_size": batching.max_batch,
        "instance_group": [_instances(engine, batching)],
        "parameters": parameters({"threads": str(batching.threads)}),
    }
    if batching.max_batch > 1:
        fields["dynamic_batching"] = _dynamic_batching(batching)
    return text_format(fields)


def _instances(engine: EngineRecord, batching: Batching) -> Message:
    group: dict[str, Value] = {
        "kind": Word("KIND_GPU" if on_gpu(engine) else "KIND_CPU"),
        "count": 1 if on_gpu(engine) else batching.instances,
    }
    profiles = engine.requires.get("profiles")
    if profiles:
        group["profile"] = [str(index) for index in range(len(profiles))]
    return group


def _warmup(warmup: WarmUp, served: Served) -> Message:
    return {
        "name": f"golden-batch-{warmup.batch}",
        "batch_size": warmup.batch if served.fixed is None else 1,
        "inputs": [
            {
                "key": given.name,
                "value": {
                    "data_type": Word(f"TYPE_{given.datatype}"),
                    "dims": [*served.shape_of_input(given)],
                    "input_data_file": file,
                },
            }
            for given, file in zip(served.inputs, warmup.files, strict=True)
        ],
    }


def _dynamic_batching(batching: Batching) -> Message:
    fields: dict[str, Value] = {"max_queue_delay_microseconds": batching.delay_us}
    if batching.preferred:
        fields["preferred_batch_size"] = list(batching.preferred)
    if batching.timeout_us is not None:
        fields["default_queue_policy"] = {
            "timeout_action": Word("REJECT"),
            "default_timeout_microseconds": batching.timeout_us,
            "allow_timeout_override": False,
        }
    return fields
