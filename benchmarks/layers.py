"""Each layer of a build's INT8 engines beside what this machine could do at most.

In each round every engine is profiled once, by its runtime's own profiler, and the ceilings are
measured (`exporter/measure/ceilings.py`). Of both the fastest round counts: others on the machine
make a round slower, never faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from benchmarks.options import RESULTS, Out, Rounds, Seed, Threads, show_progress
from benchmarks.record import Event, Recorder, described
from benchmarks.settings import Settings, free_path, header, settings_of
from exporter.artifact import Engine, Precision, Skipped
from exporter.builds import manifest as manifests
from exporter.builds.folder import BuildFolder
from exporter.errors import InputError
from exporter.measure.ceilings import measure_ceilings
from exporter.measure.profile import Network, profile_engine
from exporter.progress import Progress
from exporter.targets import get_target

KIND: Final = "layers"
_FACTS: Final = ("name", "macs", "bytes", "microseconds")


def command(
    builds: Annotated[
        list[Path], typer.Argument(help="Builds with INT8 engines.", metavar="BUILD...")
    ],
    rounds: Rounds = 10,
    threads: Threads = None,
    seed: Seed = 0,
    out: Out = RESULTS,
) -> Path:
    """Each layer of the builds' INT8 engines against this machine's ceilings, in both runtimes.

    Example: python -m benchmarks layers build/resnet18 build/resnet50
    """
    settings = settings_of(threads, seed)
    raw = free_path(out, KIND, settings)
    measure(builds, rounds, settings, raw, show_progress())
    return raw


def measure(
    builds: Sequence[Path], rounds: int, settings: Settings, raw: Path, progress: Progress
) -> None:
    """Profiles the INT8 engines that run here into the raw file.

    Raises:
        InputError: no build there, or one without such an engine; no ceiling can be measured.
    """
    profiled = [one for build in builds for one in _engines(build, settings.seed)]
    with Recorder(raw, header(KIND, rounds, 1, settings)) as recorder:
        for number in range(rounds):
            with progress.stage(f"round {number + 1} of {rounds}"):
                found = measure_ceilings(settings.threads)
                if isinstance(found, Skipped):
                    raise InputError(f"no ceilings: {found.skipped}")
                ceilings = {name: asdict(found)[name] for name in ("int8_gops", "copy_gb_s")}
                recorder.write("ceilings", **ceilings)
                for engine, build, network, model in profiled:
                    profile = profile_engine(engine, build, network, settings.threads)
                    if isinstance(profile, Skipped):
                        raise InputError(f"{model}, {engine.id}: {profile.skipped}")
                    recorder.write(
                        "profile",
                        model=model,
                        engine=engine.id,
                        total_us=profile.total_us,
                        layers=[asdict(layer) for layer in profile.layers],
                    )


def _engines(build: Path, seed: int) -> list[tuple[Engine, Path, Network, str]]:
    manifest = manifests.read(build)
    engines = [
        engine
        for engine in manifest.engines
        if engine.precision is Precision.INT8 and get_target(engine.target).runs_here() is None
    ]
    if not engines:
        raise InputError(f"{build} has no INT8 engine that runs here; export it with int8")
    name = manifest.model.name
    portable = BuildFolder(build, name).portable_path(Precision.FP32)
    network = Network.of(manifest.model, portable, seed)
    return [(engine, build, network, name) for engine in engines]


def analyse(events: Sequence[Event]) -> dict[str, Any]:
    """By model and engine: the sum over the kernels and the layers of its fastest round."""
    ceilings = [event for event in events if event["event"] == "ceilings"]
    fastest: dict[tuple[str, str], Event] = {}
    for event in events:
        if event["event"] == "profile":
            key = event["model"], event["engine"]
            fastest[key] = min(fastest.get(key, event), event, key=lambda one: one["total_us"])
    return {
        "kind": KIND,
        **described(events[0]),
        "ceilings": {
            name: max(event[name] for event in ceilings) for name in ("int8_gops", "copy_gb_s")
        },
        "profiles": [
            {key: event[key] for key in ("model", "engine", "total_us")}
            | {"layers": [{name: layer[name] for name in _FACTS} for layer in event["layers"]]}
            for event in fastest.values()
        ],
    }
