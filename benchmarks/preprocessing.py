"""What baked preprocessing gains from uint8 images to logits, through `exporter.runtime`.

    python -m benchmarks.preprocessing BUNDLE BAKED_BUNDLE

    by hand     x = (p / 255 - mean) / std and the transpose in numpy, then `engine.run`
    two steps   `engine(images)`: the runtime's own tables, then the engine
    baked       `engine(images)` of the engine that takes the images themselves

at batch 1. Each of these is a process of its own, all interleaved in one run (`sampling`), and
every gain is paired within the rounds, with the interval of `statistics`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer
from rich.table import Table

from benchmarks.command_line import finish_alone
from benchmarks.groups import Group, groups_of
from benchmarks.record import Recorder, read_events
from benchmarks.sampling import Conditions, Contender, sample
from benchmarks.settings import Settings, header
from benchmarks.statistics import speedup
from benchmarks.suite import Role
from exporter.errors import InputError
from exporter.host import usable_threads
from exporter.measure.clock import Run
from exporter.measure.timing import Speedup
from exporter.progress import Terminal, make_console
from exporter.runtime import load
from exporter.targets import Array

KIND: Final = "preprocessing"
WIDTH: Final = 120
COMMAND: Final = "python -m benchmarks.preprocessing"
LOADER: Final = "benchmarks.preprocessing:load_bundle"
BY_HAND: Final = "by hand"
TWO_STEPS: Final = "two steps"
BAKED: Final = "baked"
WAYS: Final = (BY_HAND, TWO_STEPS, BAKED)


def load_bundle(job: Mapping[str, Any]) -> Callable[[Array], Run]:
    """A worker's engine from a bundle (`path`, `engine`), called in one of the `WAYS` (`way`)."""
    bundle = Path(job["path"])
    engine = load(bundle, engine=job["engine"], threads=job["threads"])
    if job["way"] != BY_HAND:
        return lambda images: lambda: engine(images)
    contract = _manifest(bundle)["model"]["preprocessing"]
    mean, std = (np.array(contract[key], np.float32) for key in ("mean", "std"))

    def by_hand(images: Array) -> object:
        normalised = (images / np.float32(255) - mean) / std
        tensors = np.ascontiguousarray(normalised.transpose(0, 3, 1, 2))
        return engine.run(tensors.astype(engine.input_dtype, copy=False))

    return lambda images: lambda: by_hand(images)


def contenders(bundle: Path, baked: Path) -> list[Contender]:
    """Every engine that both bundles have, in every way."""
    entries = {one["id"]: one["precision"] for one in _manifest(bundle)["engines"]}
    shared = [one["id"] for one in _manifest(baked)["engines"] if one["id"] in entries]
    if not shared:
        raise InputError(f"{bundle} and {baked} have no engine in common; pack the same targets")
    found = []
    for engine in shared:
        with load(baked, engine=engine) as opened:
            if opened.input_dtype != np.uint8:
                raise InputError(f"{baked} takes no images; export it with --bake-preprocess")
            shape = opened.image_shape
        for way in WAYS:
            path = str(baked if way == BAKED else bundle)
            job = {
                "kind": LOADER,
                "path": path,
                "engine": engine,
                "way": way,
                "shape": shape,
                "dtype": "uint8",
            }
            found.append(Contender(f"{engine} {way}", Role.OURS, entries[engine], job))
    return found


def _manifest(bundle: Path) -> dict[str, Any]:
    path = bundle / "manifest.json"
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; give bundles of pack") from None
    return manifest


def table(group: Group, engines: Iterable[str], seed: int) -> Table:
    """A row for each engine: milliseconds of each way, and what baking gains over the others."""
    drawn = Table("engine", title="From uint8 images to logits, batch 1")
    for heading in (*(f"{way} ms" for way in WAYS), "gain over two steps", "over by hand"):
        drawn.add_column(heading, justify="right")
    for engine in engines:
        rounds = {way: group.rounds[f"{engine} {way}"] for way in WAYS}
        times = [f"{1e3 * float(np.median(rounds[way].medians())):.2f}" for way in WAYS]
        gains = [_shown(speedup(rounds[BAKED], rounds[way], seed)) for way in (TWO_STEPS, BY_HAND)]
        drawn.add_row(engine, *times, *gains)
    return drawn


def _shown(ratio: Speedup) -> str:
    low, high = ratio.ci95
    return f"{ratio.median:.3f} ({low:.3f} to {high:.3f})"


def compare(
    bundle: Annotated[Path, typer.Argument(help="Of engines that take normalised tensors.")],
    baked: Annotated[Path, typer.Argument(help="Of the same with --bake-preprocess.")],
    rounds: Annotated[int, typer.Option(min=5, help="Interleaved rounds.")] = 40,
    lives: Annotated[int, typer.Option(min=1, help="How often processes are started anew.")] = 4,
    threads: Annotated[int | None, typer.Option(min=1, help="Of every engine.")] = None,
    seed: Annotated[int, typer.Option(help="Seeds images and the order in the rounds.")] = 0,
    raw: Annotated[Path, typer.Option(help="File for the samples.")] = Path(
        "build/bench/preprocessing.jsonl"
    ),
) -> None:
    """What baked preprocessing gains from uint8 images to logits, engine by engine."""
    console = make_console(pipe_width=WIDTH)
    everyone = contenders(bundle, baked)
    settings = Settings(threads or usable_threads(), seed, command=f"{COMMAND} {bundle} {baked}")
    conditions = Conditions(settings.threads, rounds, seed, lives)
    with Recorder(raw, header(KIND, rounds, lives, settings)) as recorder:
        recorder.write("group", group=f"{KIND} b1", kind=KIND, batch=1, threads=settings.threads)
        sample(KIND, everyone, (1,), conditions, recorder, Terminal(make_console(stderr=True)))
    (group,) = groups_of(read_events(raw)).values()
    for missing in group.missing:
        console.print(f"missing: {missing['name']}: {missing['why']}", markup=False)
    whole = [
        engine
        for engine in dict.fromkeys(one.name.partition(" ")[0] for one in everyone)
        if all(f"{engine} {way}" in group.rounds for way in WAYS)
    ]
    console.print(table(group, whole, seed), markup=False)
    console.print(f"samples: {raw}", markup=False)


if __name__ == "__main__":
    finish_alone(compare)
