"""The measuring stage: the same for a build that was just made and for one from long ago."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from exporter.artifact import Engine, Model, Skipped
from exporter.measure.bounds import bound_of
from exporter.measure.ceilings import measure_ceilings
from exporter.measure.gpu_ceilings import measure_gpu_ceilings
from exporter.measure.interleaved import EngineToMeasure, Measured, baseline_of, measure
from exporter.measure.profile import Network, profile_engine
from exporter.measure.timing import (
    Conditions,
    Latency,
    MachineCeilings,
    Measurement,
    Profile,
)
from exporter.progress import Clock, Progress
from exporter.targets import MachineKind, device_of, why_not_here


@dataclass(frozen=True)
class Measurements:
    """What was measured of a build, on one machine in one run."""

    engines: dict[str, Measurement]
    """An entry for every engine that was given, by its id."""
    ceilings: MachineCeilings


def measure_engines(
    engines: Sequence[Engine],
    root: Path,
    model: Model,
    portable_path: Path,
    conditions: Conditions,
    clock: Clock,
    progress: Progress,
) -> Measurements:
    """Measures and profiles the engines of the build in `root`; the others say why they were not.

    `model` is what they were made from, `portable_path` its FP32 ONNX file.
    """
    found = {
        engine.id: Measurement.skipped(reason) for engine in engines if (reason := _why(engine))
    }
    here = [engine for engine in engines if engine.id not in found]
    declared = model.spec.input.shape[0]
    if isinstance(declared, int):
        conditions = replace(conditions, batches=(declared,))
    with clock.time("measure"):
        measured = _measure(here, root, model, conditions, progress)
    with clock.time("profile"):
        network = Network.of(model.spec, portable_path, conditions.seed)
        with progress.stage("profile the blocks", len(here)) as advance:
            for engine in here:
                by_batch = measured.latencies[engine.id]
                failure = measured.failures.get(engine.id)
                profile: Profile | Skipped = Skipped(f"not profiled: {failure}")
                if failure is None:
                    profile = profile_engine(engine, root, network, conditions.threads)
                found[engine.id] = Measurement(
                    latency=by_batch[conditions.batches[0]],
                    latency_by_batch=tuple(x for x in by_batch.values() if isinstance(x, Latency)),
                    profile=profile,
                    failure=failure,
                )
                advance(1)
        on_gpu = [e for e in here if device_of(e.target) is MachineKind.GPU]
        gpu = measure_gpu_ceilings() if on_gpu else Skipped("no engine ran on a GPU")
        for engine in on_gpu:
            bound = bound_of(engine, root, conditions.batches[0], gpu)
            found[engine.id] = replace(found[engine.id], bound=bound)
        cpu = measure_ceilings(conditions.threads)
    return Measurements(found, MachineCeilings(cpu, gpu))


def _measure(
    engines: Sequence[Engine],
    root: Path,
    model: Model,
    conditions: Conditions,
    progress: Progress,
) -> Measured:
    """The timed run; where it cannot be set up, every engine says why."""
    given = [EngineToMeasure(engine.id, engine.target, root / engine.path) for engine in engines]
    try:
        return measure(given, baseline_of(model), conditions, progress)
    except OSError as error:
        reason = Skipped(f"nothing could be timed here: {error.strerror or error}")
        return Measured({e.id: dict.fromkeys(conditions.batches, reason) for e in engines}, {})


def _why(engine: Engine) -> str | None:
    """Why an engine is not measured here."""
    if engine.rejected:
        return "rejected: it failed a gate"
    absent = why_not_here(engine.target, engine.requires)
    return absent.skipped if absent else None
