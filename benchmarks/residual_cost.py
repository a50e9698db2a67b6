"""What the residual sums cost: three networks with the same 33 convolutions, in one run.

    plain34      no shortcut
    projected34  the three shortcuts that have a convolution of their own, and their sums
    resnet34     all sixteen shortcuts: thirteen sums with an identity more

    overhead of the identity sums   = t(resnet34) / t(projected34) - 1
    overhead of the projections     = t(projected34) / t(plain34) - 1      (convolutions and sums)
    overhead of the residual path   = t(resnet34) / t(plain34) - 1

An engine that adds inside its convolutions pays next to nothing for the first. Each ratio is paired
within the rounds, with the interval of `statistics`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.contenders import contenders, prepare
from benchmarks.groups import Group, groups_of
from benchmarks.options import (
    RESULTS,
    ImageSize,
    Lives,
    Out,
    Rounds,
    Seed,
    Threads,
    show_progress,
)
from benchmarks.record import Event, Recorder, described
from benchmarks.sampling import Conditions, Contender, sample
from benchmarks.settings import Settings, free_path, header, settings_of
from benchmarks.statistics import speedup
from benchmarks.suite import BASELINE, FULL, choose
from exporter.progress import Progress

KIND: Final = "residual"
NETWORKS: Final[Mapping[str, str]] = {
    "plain34": "plain34",
    "projected34": "benchmarks.networks:projected34",
    "resnet34": "resnet34",
}
ENGINES: Final = (
    BASELINE, "ours/ort-cpu.fp32", "ours/openvino.fp32", "ours/ort-cpu.int8", "ours/openvino.int8",
)  # fmt: skip
OVERHEADS: Final[Mapping[str, tuple[str, str]]] = {
    "identity_sums": ("resnet34", "projected34"),
    "projections": ("projected34", "plain34"),
    "residual_path": ("resnet34", "plain34"),
}
"""Name -> (the network with, the network without)."""


def command(
    image_size: ImageSize = None,
    rounds: Rounds = 30,
    lives: Lives = 2,
    threads: Threads = None,
    seed: Seed = 0,
    out: Out = RESULTS,
) -> Path:
    """What the residual sums cost: resnet34 against plain34, engine by engine.

    The projections' convolutions are counted apart, by a third network that has them and none of
    the identity sums. In a fused engine those sums should cost next to nothing.

    Example: python -m benchmarks residual --rounds 60
    """
    settings = settings_of(threads, seed)
    raw = free_path(out, KIND, settings)
    conditions = Conditions(settings.threads, rounds, seed, lives)
    with Recorder(raw, header(KIND, rounds, lives, settings)) as recorder:
        measure(conditions, settings, recorder, image_size, show_progress())
    return raw


def measure(
    conditions: Conditions,
    settings: Settings,
    recorder: Recorder,
    image_size: int | None,
    progress: Progress,
) -> None:
    """Measures the three networks in every engine, all interleaved, at batch 1."""
    suite = replace(FULL, entries=choose(FULL.entries, ENGINES), image_size=image_size)
    everyone: list[Contender] = []
    macs = {}
    for name, source in NETWORKS.items():
        files = prepare(suite, source, settings, progress)
        macs[name] = files.spec.macs
        everyone += [
            replace(one, name=f"{name} {one.name}")
            for one in contenders(suite.entries, files, again=())
        ]
    recorder.write(
        "group", group=f"{KIND} b1", kind=KIND, batch=1, threads=settings.threads, macs=macs
    )
    sample(KIND, everyone, (1,), conditions, recorder, progress)


def analyse(events: Sequence[Event]) -> dict[str, Any]:
    """Engine -> its overheads in percent with intervals, and the milliseconds behind them."""
    head = events[0]
    (group,) = groups_of(events).values()
    macs = group.facts["macs"]
    return {
        "kind": KIND,
        **described(head),
        "others": group.footer["others"],
        "projections_macs_percent": 100 * (macs["resnet34"] / macs["plain34"] - 1),
        "missing": [f"{event['name']}: {event['why']}" for event in group.missing],
        "engines": [
            _engine(group, engine, head["seed"])
            for engine in ENGINES
            if all(f"{network} {engine}" in group.rounds for network in NETWORKS)
        ],
    }


def _engine(group: Group, engine: str, seed: int) -> dict[str, Any]:
    rounds = {network: group.rounds[f"{network} {engine}"] for network in NETWORKS}
    found: dict[str, Any] = {
        "name": engine,
        "p50_ms": {
            network: 1e3 * float(np.median(own.medians())) for network, own in rounds.items()
        },
    }
    for overhead, (longer, shorter) in OVERHEADS.items():
        # How much faster the network without is than the one with: the ratio of their times.
        ratio = speedup(rounds[shorter], rounds[longer], seed)
        found[overhead] = {
            "percent": 100 * (ratio.median - 1),
            "ci95": [100 * (bound - 1) for bound in ratio.ci95],
        }
    return found
