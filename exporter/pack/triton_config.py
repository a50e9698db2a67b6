"""config.pbtxt: what Triton is told of a model.

https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_configuration.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from exporter.builds.records import EngineRecord
from exporter.pack.batching import Batching
from exporter.pack.protobuf_text import Message, Value, Word, parameters, text_format
from exporter.pack.served import Served
from exporter.pack.triton_backends import BACKENDS, on_gpu

VERSION: Final = "1"
LABELS: Final = "labels.txt"


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
