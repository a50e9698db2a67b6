"""A run of the suite: artifacts, then every model at every batch size, then the ceilings."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks import ceilings
from benchmarks.artifacts import CACHE, Artifacts
from benchmarks.contenders import contenders, prepare
from benchmarks.gpu_peers import require_gpu
from benchmarks.options import (
    LIVES_HELP,
    RESULTS,
    ROUNDS_HELP,
    Cache,
    ImageSize,
    Out,
    Seed,
    Threads,
    show_progress,
    sizes,
    words,
)
from benchmarks.record import Recorder
from benchmarks.results import write_result
from benchmarks.sampling import AGREE_SAMPLES, Conditions, sample
from benchmarks.settings import Settings, free_path, header, settings_of
from benchmarks.suite import FULL, ON_GPU, QUICK, Suite, choose
from exporter.artifact import Skipped
from exporter.builds.codec import plain
from exporter.errors import unused_option
from exporter.measure.gpu_ceilings import measure_gpu_ceilings
from exporter.measure.nvml import GpuWatch, open_gpu
from exporter.progress import Progress
from exporter.targets import MachineKind


def command(
    quick: Annotated[
        bool, typer.Option("--quick", help="Two models, batch 1, without the slow peers.")
    ] = False,
    device: Annotated[
        MachineKind, typer.Option(help="Whose engines, peers, baseline and ceilings.")
    ] = MachineKind.CPU,
    models: Annotated[
        str, typer.Option(help="Models instead of the suite's: resnet50,resnet101.")
    ] = "",
    peers: Annotated[
        str,
        typer.Option(
            help="Only these engines of the table, eager always among them: "
            "onnxruntime,ours/ort-cpu.fp32."
        ),
    ] = "",
    batches: Annotated[str, typer.Option(help="Batch sizes instead of the suite's: 1,8.")] = "",
    image_size: ImageSize = None,
    rounds: Annotated[int | None, typer.Option(min=5, help=ROUNDS_HELP)] = None,
    lives: Annotated[int | None, typer.Option(min=1, help=LIVES_HELP)] = None,
    threads: Threads = None,
    seed: Seed = 0,
    repeat_when_busy: Annotated[
        int, typer.Option(min=0, help="Runs to add while a run finds the machine busy.")
    ] = 0,
    cache: Cache = CACHE,
    out: Out = RESULTS,
) -> None:
    """Measure the suite: one table a model, every ratio with its 95 % interval.

    Every engine lives in a process of its own; rounds are interleaved in a seeded random order.
    The baseline and one of our engines run twice: where these A/A pairs differ by more than 2 %,
    or others used the machine, the result is marked.

    Example: python -m benchmarks run --quick --models resnet50 --rounds 60
    """
    suite = QUICK if quick else FULL
    if device is MachineKind.GPU:
        if quick:
            raise unused_option("--quick", "the CPU's suite, and the GPU's is asked for")
        suite = ON_GPU
    suite = replace(
        suite,
        models=words(models) or suite.models,
        batches=sizes(batches) if batches else suite.batches,
        entries=choose(suite.entries, words(peers)),
        rounds=rounds or suite.rounds,
        lives=lives or suite.lives,
        image_size=image_size,
    )
    progress = show_progress()

    def measure() -> dict[str, Any]:
        settings = replace(settings_of(threads, seed), cache=cache)
        raw = free_path(out, suite.name, settings)
        run(suite, settings, raw, progress)
        return write_result(raw, out)

    found = until_quiet(measure, repeat_when_busy, progress)
    if found["failures"]:
        raise typer.Exit(1)


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
