"""The images a second of a build's engines in every layout, with every round kept.

It is what `exporter benchmark --throughput` measures: `exporter/measure/serving.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from benchmarks.options import RESULTS, BuildFolder, Cores, Out, Rounds, Seed, show_progress
from benchmarks.record import Event, Recorder, described
from benchmarks.settings import Settings, free_path, header, settings_of
from exporter.builds import manifest as manifests
from exporter.builds.codec import plain
from exporter.builds.records import Manifest
from exporter.commands.throughput import packed, served_engines
from exporter.errors import InputError
from exporter.measure.serving import ROUND_S, Entrant, Load, points_of, race
from exporter.measure.throughput import BATCHES, Layout, Throughput, with_best
from exporter.progress import Progress

KIND: Final = "throughput"


def command(
    build: BuildFolder, rounds: Rounds = 30, cores: Cores = None, seed: Seed = 0, out: Out = RESULTS
) -> Path:
    """What `exporter benchmark --throughput` measures, with every round kept.

    Example: python -m benchmarks throughput build/resnet50
    """
    settings = settings_of(cores, seed)
    raw = free_path(out, KIND, settings)
    measure(build, rounds, settings, raw, show_progress())
    return raw


def served(build: Path) -> tuple[Manifest, tuple[str, ...]]:
    """A build's manifest, and the ids of its fastest engine of each runtime library.

    Raises:
        InputError: no build there, or one of which nothing was measured that runs here.
    """
    manifest = manifests.read(build)
    engines = tuple(engine.id for engine in served_engines(manifest))
    if not engines:
        raise InputError(f"{build} has no measured engine that exporter.runtime runs here")
    return manifest, engines


def measure(build: Path, rounds: int, settings: Settings, raw: Path, progress: Progress) -> None:
    """Measures a build's fastest engine of each runtime library into the raw file.

    Raises:
        InputError: no build there, or one of which nothing was measured that runs here.
    """
    manifest, engines = served(build)
    with (
        packed(build, engines, progress) as bundle,
        Recorder(raw, header(KIND, rounds, 1, settings)) as recorder,
    ):
        load = Load(bundle, engines, BATCHES, settings.threads, rounds, settings.seed)
        recorder.write(
            "group",
            group=manifest.model.name,
            model=manifest.model.name,
            load=plain(replace(load, bundle=Path(bundle.name))),
        )
        raced = race(load, progress)
        for name, why in raced.left_out.items():
            recorder.write("missing", group=manifest.model.name, name=name, why=why.skipped)
        for entrant in raced.entrants:
            recorder.write("entrant", group=manifest.model.name, **asdict(entrant))
        recorder.write("footer", group=manifest.model.name, others=raced.other_load or 0.0)


def analyse(events: Sequence[Event]) -> dict[str, Any]:
    """The points, as `exporter benchmark --throughput` computes them."""
    head = events[0]
    (group,) = (event for event in events if event["event"] == "group")
    given = group["load"]
    load = Load(
        Path(given["bundle"]), tuple(given["engines"]), tuple(given["batches"]), given["cores"],
        given["rounds"], given["seed"],
    )  # fmt: skip
    entrants = [
        Entrant(
            event["engine"], Layout(**event["layout"]), event["batch"], event["call_s"],
            event["s_an_image"], event["waits_s"],
        )
        for event in events
        if event["event"] == "entrant"
    ]  # fmt: skip
    (footer,) = (event for event in events if event["event"] == "footer")
    found = Throughput(load.cores, load.cores, ROUND_S, with_best(points_of(entrants, load), None))
    return {
        "kind": KIND,
        **described(head),
        "model": group["model"],
        "others": footer["others"],
        "missing": [
            f"{event['name']}: {event['why']}" for event in events if event["event"] == "missing"
        ],
        **plain(found),
    }
