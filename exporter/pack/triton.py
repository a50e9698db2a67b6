"""A model repository for NVIDIA Triton Inference Server.

    <model>/config.pbtxt        batching and instances from the measured batch curve
    <model>/labels.txt          for Triton's classification extension
    <model>/1/...               the engine under the name that its backend looks for
    <model>/warmup/...          golden inputs, run before the model is ready
    probe.py, probe.json        asks the server a golden input, and loads the model again
    README.md                   how to start it

Backends: `onnxruntime`, `openvino`, `tensorrt`, each with the one engine that it serves, and
`python`, which serves a whole bundle through `exporter.runtime`: it checks hashes and goldens,
takes uint8 images and sets what the engine requires. The others cannot: Triton's onnxruntime
backend has no session options, so an engine that needs some is not packed for it.

https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_configuration.html
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from exporter.errors import UsageError, unknown_name
from exporter.pack.batching import Batching, plan_batching
from exporter.pack.bundle import write_bundle
from exporter.pack.checksums import write_sums
from exporter.pack.destination import packed_folder
from exporter.pack.packable import ROUNDING, Release, reference_tolerance
from exporter.pack.protobuf_text import Word, parameters, text_format
from exporter.pack.request import PackRequest
from exporter.pack.template_files import render, template
from exporter.runtime.goldens import worst_error
from exporter.runtime.sessions import BACKENDS as SERVED
from exporter.targets import MachineKind, target_class

VERSION: Final = "1"
_TYPES: Final[Mapping[str, str]] = {
    "float32": "TYPE_FP32",
    "float16": "TYPE_FP16",
    "uint8": "TYPE_UINT8",
}


@dataclass(frozen=True)
class Backend:
    """One of Triton's backends: under which names it looks for files, and what it is told."""

    files: tuple[str, ...]
    parameters: Mapping[str, str]
    """Triton's name -> a template for {threads}."""


PYTHON: Final = "python"
# By Triton's own names; which of them serves the engines of a target, the target says.
BACKENDS: Final[Mapping[str, Backend]] = {
    "onnxruntime": Backend(("model.onnx",), {"intra_op_thread_count": "{threads}"}),
    "openvino": Backend(
        ("model.xml", "model.bin"),
        {"INFERENCE_NUM_THREADS": "{threads}", "NUM_STREAMS": "1", "PERFORMANCE_HINT": "LATENCY"},
    ),
    "tensorrt": Backend(("model.plan",), {}),
    PYTHON: Backend((), {"threads": "{threads}"}),
}


@dataclass(frozen=True)
class Served:
    """A model as Triton's clients see it."""

    input: str
    dtype: str
    """numpy's name."""
    output: str
    samples: npt.NDArray[Any]
    """Golden inputs as requests carry them, (N, ...)."""
    fixed: int | None
    """The one batch size that the engine takes; None: any. Triton has no such batches: it is told
    of none (`max_batch_size: 0`), and the dimension becomes part of every shape."""

    def shape(self, sizes: tuple[int, ...]) -> list[int]:
        """Of one request without its batch, where Triton batches; else of the whole."""
        return [*sizes] if self.fixed is None else [self.fixed, *sizes]

    @property
    def dims(self) -> list[int]:
        return self.shape(self.samples.shape[1:])


def pack_triton(
    release: Release, request: PackRequest, out: Path
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Writes a model repository, whole or not at all.

    Raises:
        UsageError: no such backend, no engine that it serves, or a limit that cannot be met.
    """
    with packed_folder(out) as folder:
        written = write_repository(release, request, folder)
        write_sums(folder)
    return written


def write_repository(
    release: Release, request: PackRequest, folder: Path
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Writes the repository into a new folder; returns engines and notes as a `pack.Writer`."""
    entry, name = choose_engine(release, request.backend)
    backend = BACKENDS[name]
    batching = plan_of(release, entry, request.slo_ms)
    served = _served(release, name)
    model = folder / release.name
    version = model / VERSION
    version.mkdir(parents=True)
    if name == PYTHON:
        _write_python_model(release, version)
    else:
        # TensorRT's second file is the builder's account of the plan, which nobody serves.
        for target, file in zip(backend.files, entry["files"], strict=False):
            (version / target).write_bytes(release.read(file))
    warmups = _write_warmup(model / "warmup", served, batching)
    (model / "labels.txt").write_text(
        "".join(f"{label}\n" for label in release.labels), encoding="utf-8", newline="\n"
    )
    config = _config(release, entry, name, served, batching, warmups)
    notes = _notes(name, entry)
    texts = {
        model / "config.pbtxt": text_format(config),
        folder / "probe.json": _probe(release, entry, served, warmups[0]),
        folder / "probe.py": template("triton_probe.py.j2"),
        folder / "README.md": render(
            "triton_readme.md.j2",
            model=release.name,
            backend=name,
            engine="the bundle's best engine for the server" if name == PYTHON else entry["id"],
            reason=batching.reason,
            input=served.input,
            output=served.output,
            datatype=_TYPES[served.dtype].removeprefix("TYPE_"),
            request=" x ".join(map(str, served.shape(served.samples.shape[1:]))),
            answer=" x ".join(map(str, served.shape((len(release.labels),)))),
            max_batch=None if served.fixed else batching.max_batch,
            notes=notes,
        ),
    }
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8", newline="\n")
    engines = release.ids if name == PYTHON else (str(entry["id"]),)
    return engines, (batching.reason, *notes)


def plan_of(release: Release, entry: Mapping[str, Any], slo_ms: float | None) -> Batching:
    """How an engine of the release is batched.

    Raises:
        UsageError: the limit in time cannot be met.
    """
    threads = int(release.manifest["host"]["threads"])
    return plan_batching(entry, threads, slo_ms=slo_ms, limit=_largest_batch(release, entry))


def choose_engine(release: Release, backend: str | None) -> tuple[dict[str, Any], str]:
    """The engine to serve and its backend: the fastest that the backend, or any of them, serves."""
    if backend is not None and backend not in BACKENDS:
        raise unknown_name("Triton backend", backend, BACKENDS)
    reasons = []
    ranked = sorted(release.engines, key=lambda entry: entry["latency"].get("p50_ms", math.inf))
    for entry in ranked:
        for name in [backend] if backend else BACKENDS:
            reason = _why_not(entry, name)
            if reason is None:
                return entry, name
            reasons.append(f"{entry['id']}: {reason}")
    raise UsageError(f"no engine to serve: {'; '.join(reasons)}")


def on_gpu(entry: Mapping[str, Any]) -> bool:
    """Whether an engine runs on a GPU."""
    return target_class(entry["target"]).runs_on is MachineKind.GPU


def _why_not(entry: Mapping[str, Any], backend: str) -> str | None:
    """Why a backend cannot serve an engine as it was validated."""
    target = target_class(entry["target"])
    serves = target.family in SERVED if backend == PYTHON else target.triton_backend == backend
    if not serves:
        return f"backend {backend} does not serve {target.family} engines"
    profiles = [tuple(map(int, p.split(":"))) for p in entry["requires"].get("profiles") or ()]
    smallest = min((least for least, _, _ in profiles), default=1)
    if smallest > 1:
        return (
            f"its optimization profiles take no batch below {smallest}, and Triton may send a "
            "single image; export it with --profile 1:OPT:MAX"
        )
    needed = entry["requires"].keys() & {"session_options", "session_config_without_vnni"}
    if backend == "onnxruntime" and needed:
        return (
            "it requires session options, which Triton's onnxruntime backend has no way to set; "
            "take --backend python"
        )
    return None


def _largest_batch(release: Release, entry: Mapping[str, Any]) -> int | None:
    """The largest batch that an engine takes at all; None: any."""
    declared = release.manifest["model"]["input"]["shape"][0]
    if isinstance(declared, int):
        return declared
    profiles = entry["requires"].get("profiles")
    return max(int(profile.split(":")[2]) for profile in profiles) if profiles else None


def _served(release: Release, backend: str) -> Served:
    model, goldens = release.manifest["model"], release.goldens
    samples, name = goldens.inputs, model["input"]["name"]
    if backend == PYTHON and goldens.images is not None:
        samples, name = goldens.images, "images"
    declared = model["input"]["shape"][0]
    fixed = declared if isinstance(declared, int) and backend != PYTHON else None
    return Served(name, samples.dtype.name, model["output"]["name"], samples, fixed)


def _write_python_model(release: Release, version: Path) -> None:
    """model.py, a copy of `exporter.runtime`, and the bundle that it serves."""
    (version / "model.py").write_text(
        template("triton_model.py.j2"), encoding="utf-8", newline="\n"
    )
    package = version / "exporter" / "runtime"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text('"""Holds a copy of `exporter.runtime`."""\n')
    for module in resources.files("exporter.runtime").iterdir():
        if module.name.endswith(".py"):
            (package / module.name).write_bytes(module.read_bytes())
    (version / "bundle").mkdir()
    write_bundle(release, version / "bundle")


def _write_warmup(folder: Path, served: Served, batching: Batching) -> list[dict[str, Any]]:
    """Golden inputs for the smallest and the largest batch, and how `config.pbtxt` names them."""
    folder.mkdir()
    warmups = []
    for batch in sorted({1, batching.max_batch}) if served.fixed is None else [served.fixed]:
        name = f"golden-batch-{batch}"
        samples = np.resize(served.samples, (batch, *served.samples.shape[1:]))
        (folder / name).write_bytes(np.ascontiguousarray(samples).tobytes())
        warmups.append(
            {
                "name": name,
                "batch_size": batch if served.fixed is None else 1,
                "inputs": {
                    "key": served.input,
                    "value": {
                        "data_type": Word(_TYPES[served.dtype]),
                        "dims": served.dims,
                        "input_data_file": name,
                    },
                },
            }
        )
    return warmups


def _probe(
    release: Release, entry: Mapping[str, Any], served: Served, warmup: Mapping[str, Any]
) -> str:
    """probe.json: one golden request, its answer, and how far from it an answer may be.

    The python backend may serve any engine of the bundle, so their own answers are allowed for.
    """
    asked = np.arange(served.fixed or 1) % len(served.samples)
    expected, tolerance = release.goldens.outputs[asked], reference_tolerance(entry)
    own = {name: answers[asked] for name, answers in release.goldens.answers.items()}
    if all(engine["id"] in own for engine in release.engines):
        expected = own[entry["id"]]
        others = own.values() if served.samples is release.goldens.images else [expected]
        spread = max(worst_error(answer, expected) for answer in others)
        tolerance = spread + max(ROUNDING[engine["precision"]] for engine in release.engines)
    golden = {
        "model": release.name,
        "input": served.input,
        "datatype": _TYPES[served.dtype].removeprefix("TYPE_"),
        "shape": served.dims if served.fixed else [1, *served.dims],
        "data": f"{release.name}/warmup/{warmup['name']}",
        "output": served.output,
        "expected": expected.ravel().astype(float).tolist(),
        "tolerance": tolerance,
    }
    return json.dumps(golden) + "\n"


def _config(
    release: Release,
    entry: Mapping[str, Any],
    backend: str,
    served: Served,
    batching: Batching,
    warmups: list[dict[str, Any]],
) -> dict[str, Any]:
    """The fields of `config.pbtxt`."""
    gpu = on_gpu(entry)
    group: dict[str, Any] = {
        "kind": Word("KIND_GPU" if gpu else "KIND_CPU"),
        "count": 1 if gpu else batching.instances,
    }
    if entry["requires"].get("profiles"):
        group["profile"] = [str(index) for index in range(len(entry["requires"]["profiles"]))]
    config: dict[str, Any] = {
        "name": release.name,
        "backend": backend,
        "max_batch_size": batching.max_batch if served.fixed is None else 0,
        "input": [
            {
                "name": served.input,
                "data_type": Word(_TYPES[served.dtype]),
                "dims": served.dims,
            }
        ],
        "output": [
            {
                "name": served.output,
                "data_type": Word("TYPE_FP32"),
                "dims": served.shape((len(release.labels),)),
                "label_filename": "labels.txt",
            }
        ],
        "version_policy": {"specific": {"versions": [int(VERSION)]}},
        "instance_group": [group],
        "model_warmup": warmups,
    }
    values = {
        name: template.format(threads=batching.threads)
        for name, template in BACKENDS[backend].parameters.items()
        if not gpu
    }
    config["parameters"] = parameters(values)
    if served.fixed is None and (batching.preferred or batching.timeout_us):
        config["dynamic_batching"] = _dynamic_batching(batching)
    return config


def _dynamic_batching(batching: Batching) -> dict[str, Any]:
    fields: dict[str, Any] = {"max_queue_delay_microseconds": batching.delay_us}
    if batching.preferred:
        fields["preferred_batch_size"] = list(batching.preferred)
    if batching.timeout_us is not None:
        fields["default_queue_policy"] = {
            "timeout_action": Word("REJECT"),
            "default_timeout_microseconds": batching.timeout_us,
            "allow_timeout_override": False,
        }
    return fields


def _notes(backend: str, entry: Mapping[str, Any]) -> tuple[str, ...]:
    """What the person who starts the server must know."""
    if backend == PYTHON:
        return (
            "the server's Python needs numpy and the engine's runtime library; where they are not "
            "on its path, name their site-packages in EXPORTER_SITE_PACKAGES",
        )
    if backend == "openvino":
        return (
            "Triton's openvino backend cannot set INFERENCE_PRECISION_HINT: on CPUs with BF16 it "
            "computes in BF16; --backend python does not",
        )
    versions = ", ".join(f"{name} {v}" for name, v in entry["requires"]["versions"].items())
    return (f"{entry['id']} was validated with {versions}; take a server with that or a later one",)
