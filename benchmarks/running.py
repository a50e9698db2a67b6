"""A run of the suite: artifacts, then every model at every batch size, then the ceilings."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import artifacts, ceilings, machine
from benchmarks.analysis import AGAIN_SUFFIX
from benchmarks.artifacts import Artifacts
from benchmarks.gpu_peers import require_gpu
from benchmarks.record import Recorder
from benchmarks.sampling import AGREE_SAMPLES, Conditions, Contender, sample
from benchmarks.suite import AGAIN, Entry, Role, Suite
from exporter import host
from exporter.artifact import Skipped
from exporter.builds.codec import plain
from exporter.measure.gpu_ceilings import measure_gpu_ceilings
from exporter.measure.nvml import GpuWatch, open_gpu
from exporter.progress import Progress
from exporter.report.flat import HOST_KEYS
from exporter.runtime.machine import first_cores
from exporter.targets import MachineKind, target_class


@dataclass(frozen=True)
class Settings:
    """What a run may be asked for beyond its suite."""

    threads: int
    seed: int = 0
    cache: Path = artifacts.CACHE
    command: str = ""
    """How to do it again, for the reader."""
    date: str = field(default_factory=lambda: datetime.now(UTC).date().isoformat())
    """When it began: a run over midnight has one date, in its file's name and inside."""


def header(suite: str, rounds: int, lives: int, settings: Settings) -> dict[str, Any]:
    """The header of a raw file: what was asked for and where."""
    described = asdict(host.describe_host())
    versions = described.pop("versions")
    meter = machine.find_meter()
    return {
        "suite": suite,
        "date": settings.date,
        "command": settings.command,
        "host": {key: described[key] for key in HOST_KEYS},
        "versions": versions | _peer_versions(),
        "threads": settings.threads,
        "cpus": first_cores(settings.threads),
        "rounds": rounds,
        "lives": lives,
        "seed": settings.seed,
        "machine": machine.snapshot(),
        "energy": {"missing": meter.skipped} if isinstance(meter, Skipped) else "RAPL",
    }


def _peer_versions() -> dict[str, str]:
    """Of the libraries that only peers need, as far as they are installed."""
    found = {}
    for name in (
        "nncf",
        "torchao",
        "ncnn",
        "executorch",
        "ai-edge-litert",
        "ai-edge-quantizer",
        "zentorch",
    ):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def run(suite: Suite, settings: Settings, raw: Path, progress: Progress) -> None:
    """Measures the whole suite and writes the raw file.

    Raises:
        MissingDependencyError: it is a GPU's, and this process's PyTorch reaches none.
    """
    on_gpu = suite.device is MachineKind.GPU
    if on_gpu:
        require_gpu()
    begin = time.perf_counter()
    prepared = {model: prepare(suite, model, settings, progress) for model in suite.models}
    conditions = Conditions(
        settings.threads, suite.rounds, settings.seed, suite.lives, suite.device
    )
    built = time.perf_counter()
    with (
        Recorder(raw, header(suite.name, suite.rounds, suite.lives, settings)) as recorder,
        GpuWatch(open_gpu() if on_gpu else Skipped("not on a GPU")) as gpu,
    ):
        for model, files in prepared.items():
            for batch in suite.batches:
                describe_group(recorder, model, files, batch, conditions)
            inputs = np.concatenate(list(files.data.evaluation.take(AGREE_SAMPLES).batches(1)))
            sample(
                model, contenders(suite.entries, files), suite.batches, conditions, recorder,
                progress, inputs=inputs,
            )  # fmt: skip
        if on_gpu:
            roofs = plain(measure_gpu_ceilings())
            recorder.write("gpu", ceilings=roofs, samples=gpu.rows(), failure=gpu.failure)
        else:
            few = Conditions(settings.threads, suite.ceiling_rounds, settings.seed)
            ceilings.measure(few, recorder, settings.cache, progress)
        now = time.perf_counter()
        recorder.write("seconds", build=round(built - begin, 1), measure=round(now - built, 1))


def until_quiet(
    measure: Callable[[], dict[str, Any]], repeats: int, progress: Progress
) -> dict[str, Any]:
    """The first result that found the machine quiet, or the last after `repeats` more runs."""
    found = measure()
    for _ in range(repeats):
        if not found["busy"]:
            break
        progress.note("the machine was busy: measuring again")
        found = measure()
    return found


def prepare(suite: Suite, model: str, settings: Settings, progress: Progress) -> Artifacts:
    """The files of one model."""
    return artifacts.build(
        model,
        [entry.artifact for entry in suite.entries],
        image_size=suite.image_size,
        seed=settings.seed,
        cache=settings.cache,
        progress=progress,
    )


def describe_group(
    recorder: Recorder, model: str, files: Artifacts, batch: int, conditions: Conditions
) -> None:
    """Writes what one model at one batch size is, before it is measured."""
    recorder.write(
        "group",
        group=f"{model} b{batch}",
        kind="model",
        model=model,
        batch=batch,
        threads=conditions.threads,
        device=conditions.device,
        macs=files.spec.macs,
        input=files.spec.image_shape,
        weights_sha256=files.spec.weights.sha256,
    )


def contenders(
    entries: Sequence[Entry], files: Artifacts, *, again: Sequence[str] = AGAIN
) -> list[Contender]:
    """Everyone in the table's order, the baseline first, then those of `again` a second time."""
    found = [_contender(entry, files) for entry in entries]
    return found + [
        replace(one, name=f"{one.name}{AGAIN_SUFFIX}", role=Role.AGAIN)
        for one in found
        if one.name in again and not isinstance(one.job, Skipped)
    ]


def _contender(entry: Entry, files: Artifacts) -> Contender:
    path = files.files[entry.artifact]
    facts = {
        "bytes": files.bytes(entry.artifact),
        "broken": entry.artifact in files.broken,
    }
    if isinstance(path, Skipped):
        return Contender(entry.name, entry.role, entry.precision, path, facts)
    job = {
        "kind": entry.kind,
        "path": str(path),
        "shape": files.spec.image_shape,
        "dtype": files.spec.input.dtype,
        **entry.options,
    }
    if entry.kind == "engine":
        job["cuda_graph"] = target_class(str(entry.options["target"])).cuda_graph
    return Contender(entry.name, entry.role, entry.precision, job, facts)
