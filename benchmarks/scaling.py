"""How time grows with the batch, the image, the depth and the threads; a line, and where it bends.

    axis          x                          line
    batch         images in a batch          t = fixed + slope * x
    image-size    pixels of an image         t = fixed + slope * x
    depth         10^9 multiply-accumulates  t = fixed + slope * x
    threads       1 / threads                t = serial + parallel * x        (Amdahl)

The line is fitted by least squares of relative errors. It bends where it misses a point by more
than STRAIGHT and two lines that meet at a measured x miss by less than half as much (root mean
square): that x is the bend. Four points are needed to tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import numpy.typing as npt
import typer

from benchmarks.contenders import contenders, prepare
from benchmarks.groups import groups_of
from benchmarks.options import RESULTS, Lives, Out, Rounds, Seed, Threads, show_progress, words
from benchmarks.record import Event, Recorder, described
from benchmarks.sampling import Conditions, sample
from benchmarks.settings import Settings, free_path, header, settings_of
from benchmarks.statistics import median_ms
from benchmarks.suite import BASELINE, FULL, choose
from exporter.errors import unknown_name
from exporter.progress import Progress

KIND: Final = "scaling"
ENGINES: Final = (
    BASELINE, "onnxruntime", "ours/ort-cpu.fp32", "ours/openvino.fp32", "ours/ort-cpu.int8",
    "ours/openvino.int8",
)  # fmt: skip
STRAIGHT: Final = 0.05

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """One thing to measure on an axis."""

    model: str
    image_size: int | None = None
    threads: int | None = None
    """None: as many as the run was asked for."""
    batches: tuple[int, ...] = (1,)


def points(axis: str, model: str, threads: int) -> tuple[Point, ...]:
    """What is measured for an axis (of AXES)."""
    if axis == "batch":
        return (Point(model, batches=(1, 2, 4, 8, 16, 32)),)
    if axis == "image-size":
        return tuple(Point(model, image_size=side) for side in (96, 128, 160, 224, 288))
    if axis == "depth":
        return tuple(Point(f"resnet{depth}") for depth in (18, 34, 50, 101, 152))
    return tuple(Point(model, threads=count) for count in range(1, threads + 1))


AXES: Final = ("batch", "image-size", "depth", "threads")


def command(
    axes: Annotated[
        str, typer.Option(help="Which of batch,image-size,depth,threads; all by default.")
    ] = "",
    model: Annotated[str, typer.Option(help="The model of every axis but depth.")] = "resnet50",
    rounds: Rounds = 10,
    lives: Lives = 1,
    threads: Threads = None,
    seed: Seed = 0,
    out: Out = RESULTS,
) -> Path:
    """How time grows with batch, image size, depth and threads: a line, and where it bends.

    Example: python -m benchmarks scaling --axes batch --model resnet18
    """
    chosen = words(axes) or AXES
    for axis in chosen:
        if axis not in AXES:
            raise unknown_name("axis", axis, AXES)
    settings = settings_of(threads, seed)
    raw = free_path(out, KIND, settings)
    conditions = Conditions(settings.threads, rounds, seed, lives)
    with Recorder(raw, header(KIND, rounds, lives, settings)) as recorder:
        measure(chosen, model, conditions, settings, recorder, show_progress())
    return raw


def measure(
    axes: Iterable[str],
    model: str,
    conditions: Conditions,
    settings: Settings,
    recorder: Recorder,
    progress: Progress,
) -> None:
    """Measures every point of the axes into `recorder`."""
    suite = replace(FULL, entries=choose(FULL.entries, ENGINES))
    for axis in axes:
        for point in points(axis, model, settings.threads):
            sized = replace(suite, image_size=point.image_size)
            files = prepare(sized, point.model, settings, progress)
            threads = point.threads or settings.threads
            name = f"{axis} {point.model} {files.spec.image_shape[-1]}px {threads}t"
            for batch in point.batches:
                x = {
                    "batch": float(batch),
                    "image-size": float(np.prod(files.spec.image_shape[1:])),
                    "depth": files.spec.macs / 1e9,
                    "threads": 1 / threads,
                }[axis]
                recorder.write(
                    "group",
                    group=f"{name} b{batch}",
                    kind=KIND,
                    axis=axis,
                    x=x,
                    model=point.model,
                    batch=batch,
                    image_size=files.spec.image_shape[-1],
                    threads=threads,
                )
            few = replace(conditions, threads=threads)
            everyone = contenders(suite.entries, files, again=())
            sample(name, everyone, point.batches, few, recorder, progress)


def analyse(events: Sequence[Event]) -> dict[str, Any]:
    """Axis -> engine -> its points and its line."""
    head = events[0]
    groups = groups_of(events)
    axes: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for group in groups.values():
        for engine in sorted(group.rounds, key=ENGINES.index):
            p50, low, high = median_ms(group.rounds[engine], head["seed"])
            kept = {key: group.facts[key] for key in ("x", "model", "batch", "threads")}
            rate = group.facts["batch"] / p50 * 1e3
            axes.setdefault(group.facts["axis"], {}).setdefault(engine, []).append(
                {**kept, "image_size": group.facts["image_size"], "p50_ms": p50,
                 "ci95_ms": [low, high], "images_per_s": rate}
            )  # fmt: skip
    return {
        "kind": KIND,
        **described(head),
        "others": max((group.footer["others"] for group in groups.values()), default=0.0),
        "missing": [f"{event['group']}: {event['name']}: {event['why']}"
                    for group in groups.values() for event in group.missing],
        "axes": {
            axis: {
                engine: {"points": found, "line": fit(
                    [point["x"] for point in found], [point["p50_ms"] for point in found]
                )}
                for engine, found in engines.items()
            }
            for axis, engines in axes.items()
        },
    }  # fmt: skip


def fit(x: Sequence[float], times_ms: Sequence[float]) -> dict[str, Any] | None:
    """{fixed_ms, slope_ms, worst: largest relative miss, bend: x | None, slope_after_ms}.

    None: fewer than two points. `slope_after_ms` is the slope beyond the bend, None without one.
    """
    order = np.argsort(x)
    xs, ts = np.asarray(x, np.float64)[order], np.asarray(times_ms, np.float64)[order]
    if len(xs) < 2:
        return None
    (fixed, slope), misses = _least_squares(np.stack([np.ones_like(xs), xs], 1), ts)
    found: dict[str, Any] = {
        "fixed_ms": float(fixed),
        "slope_ms": float(slope),
        "worst": float(np.abs(misses).max()),
        "bend": None,
        "slope_after_ms": None,
    }
    if len(xs) < 4 or found["worst"] <= STRAIGHT:
        return found
    pieces = []
    for bend in xs[1:-1]:
        columns = np.stack([np.ones_like(xs), xs, np.maximum(xs - bend, 0)], 1)
        coefficients, left = _least_squares(columns, ts)
        pieces.append((float(np.sqrt(np.mean(left**2))), float(bend), coefficients))
    rms, bend, (fixed, slope, change) = min(pieces, key=lambda piece: piece[0])
    if rms < 0.5 * float(np.sqrt(np.mean(misses**2))):
        found |= {
            "fixed_ms": float(fixed),
            "slope_ms": float(slope),
            "bend": bend,
            "slope_after_ms": float(slope + change),
        }
    return found


def _least_squares(columns: Floats, times: Floats) -> tuple[Floats, Floats]:
    """The coefficients that make relative errors least, and those errors."""
    weighted = columns / times[:, None]
    coefficients = np.asarray(
        np.linalg.lstsq(weighted, np.ones_like(times), rcond=None)[0], np.float64
    )
    return coefficients, np.asarray(weighted @ coefficients - 1, np.float64)
