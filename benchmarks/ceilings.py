"""The machine's ceilings, measured in the same run as the engines.

    ceiling of a precision = the most of operations / median time over its kernels (`kernels`)

An engine's fraction of it counts the multiply-accumulates that the network is defined by. A kernel
that needs fewer (Winograd's convolution) may exceed 1; nothing else should.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from benchmarks import roofline
from benchmarks.groups import groups_of
from benchmarks.kernels import KERNELS, write_graph
from benchmarks.options import RESULTS, Out, Rounds, Seed, Threads, show_progress
from benchmarks.peers import has_bf16
from benchmarks.record import Event, Recorder, described
from benchmarks.sampling import Conditions, Contender, sample
from benchmarks.settings import free_path, header, settings_of
from benchmarks.statistics import Rounds as Sampled
from benchmarks.suite import Role
from exporter.artifact import Skipped
from exporter.measure.statistics import percentiles_ms
from exporter.progress import Progress

GROUP: Final = "ceilings"


def command(
    model: Annotated[str, typer.Option(help="Whose layers are drawn under the roof.")] = "resnet50",
    rounds: Rounds = 10,
    threads: Threads = None,
    seed: Seed = 0,
    out: Out = RESULTS,
) -> Path:
    """What this machine can do at most, and each layer of MODEL under that roof.

    For each arithmetic the best of several libraries' kernels counts. The layers are timed by ONNX
    Runtime's own profiler.

    Example: python -m benchmarks ceilings --model resnet18 --threads 1
    """
    settings = settings_of(threads, seed)
    raw = free_path(out, GROUP, settings)
    conditions = Conditions(settings.threads, rounds, seed)
    with Recorder(raw, header(GROUP, rounds, 1, settings)) as recorder:
        measure(conditions, recorder, settings.cache, show_progress())
        roofline.record(model, settings.threads, seed, settings.cache, recorder, show_progress())
    return raw


def measure(conditions: Conditions, recorder: Recorder, cache: Path, progress: Progress) -> None:
    """Measures every kernel into `recorder`."""
    folder = cache / "kernels"
    folder.mkdir(parents=True, exist_ok=True)
    contenders = []
    for kernel in KERNELS:
        job: dict[str, Any] = {"kind": kernel.kind, "shape": kernel.shape, "dtype": kernel.dtype}
        if kernel.graph is not None:
            job["path"] = str(write_graph(kernel.graph, folder))
        given: Mapping[str, Any] | Skipped = job | dict(kernel.options)
        if kernel.precision == "bf16" and not has_bf16():
            given = Skipped("this CPU has no BF16 arithmetic")
        facts = {"amount": kernel.amount}
        contenders.append(Contender(kernel.name, Role.CEILING, kernel.precision, given, facts))
    recorder.write("group", group=f"{GROUP} b1", kind="ceilings", threads=conditions.threads)
    sample(GROUP, contenders, (1,), conditions, recorder, progress)


def analyse(events: Sequence[Event]) -> dict[str, Any]:
    """The result of a run that measured the ceilings alone."""
    head = events[0]
    (group,) = groups_of(events).values()
    return {
        "kind": GROUP,
        **described(head),
        "others": group.footer["others"],
        "missing": [f"{event['name']}: {event['why']}" for event in group.missing],
        "ceilings": of(group.rounds, group.engines),
        "layers": [
            {key: event[key] for key in ("model", "name", "precision")}
            | {"layers": roofline.points(event["layers"])}
            for event in events
            if event["event"] == "layers"
        ],
    }


def of_gpu(found: Mapping[str, Any]) -> dict[str, Any]:
    """The same of a GPU, from what was measured of it; nothing where it was not."""
    if "skipped" in found:
        return {}
    kernel = "torch product"
    ceilings: dict[str, Any] = {
        precision: {"gops": gops, "kernel": kernel, "kernels": {kernel: gops}}
        for precision, gops in found["gops"].items()
    }
    copied = found["copy_gb_s"]
    return ceilings | {
        "copy": {"gbytes_per_s": copied, "kernel": "torch copy", "kernels": {"torch copy": copied}}
    }


def of(rounds: Mapping[str, Sampled], engines: Mapping[str, Event]) -> dict[str, Any]:
    """Precision -> {gops, kernel, kernels: {name: gops}}; "copy": gigabytes a second instead."""
    found: dict[str, dict[str, float]] = {}
    for name, event in engines.items():
        p50_ms = percentiles_ms(rounds[name].samples_s)[0]
        found.setdefault(event["precision"], {})[name] = event["amount"] / p50_ms / 1e6
    return {
        precision: {
            "gbytes_per_s" if precision == "copy" else "gops": max(kernels.values()),
            "kernel": max(kernels, key=lambda name: kernels[name]),
            "kernels": kernels,
        }
        for precision, kernels in found.items()
    }
