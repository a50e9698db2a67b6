"""The suite's command line: parse, call, print."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from benchmarks import plots, results
from benchmarks.artifacts import CACHE
from benchmarks.command_line import finish
from benchmarks.layer_page import with_tables
from benchmarks.options import (
    LIVES_HELP,
    ROUNDS_HELP,
    BuildFolder,
    Cache,
    Cores,
    ImageSize,
    Lives,
    Out,
    Rounds,
    Seed,
    Threads,
    free_path,
    settings_of,
    sizes,
    words,
)
from benchmarks.page import page as results_page
from benchmarks.record import Recorder, read_events
from benchmarks.sampling import Conditions
from benchmarks.suite import FULL, ON_GPU, QUICK, choose
from exporter.artifact import Precision
from exporter.builds.given_preprocessing import with_file_read
from exporter.builds.request import DEFAULT_MODEL, ExportRequest
from exporter.disk.writing import write_whole
from exporter.errors import InputError, unknown_name, unused_option
from exporter.progress import Progress, Terminal, make_console
from exporter.targets import MachineKind

RESULTS = Path("benchmarks/results")
WIDTH = 200

app = typer.Typer(
    name="benchmarks",
    help="Measure this compiler's engines against what a user would pick instead, in one run.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def run(
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
    from benchmarks import running

    suite = QUICK if quick else FULL
    if device is MachineKind.GPU:
        if quick:
            raise unused_option("--quick", "the CPU's suite, and the GPU's is asked for")
        suite = ON_GPU
    suite = replace(
        suite,
        models=words(models) or suite.models,
        batches=sizes(batches) or suite.batches,
        entries=choose(suite.entries, words(peers)),
        rounds=rounds or suite.rounds,
        lives=lives or suite.lives,
        image_size=image_size,
    )
    progress = _progress()

    def measure() -> dict[str, Any]:
        settings = replace(settings_of(threads, seed), cache=cache)
        raw = free_path(out / "raw", suite.name, settings)
        running.run(suite, settings, raw, progress)
        return _finish(raw, out)

    found = running.until_quiet(measure, repeat_when_busy, progress)
    if found["failures"]:
        raise typer.Exit(1)


@app.command()
def residual(
    image_size: ImageSize = None,
    rounds: Rounds = 30,
    lives: Lives = 2,
    threads: Threads = None,
    seed: Seed = 0,
    out: Out = RESULTS,
) -> None:
    """What the residual sums cost: resnet34 against plain34, engine by engine.

    The projections' convolutions are counted apart, by a third network that has them and none of
    the identity sums. In a fused engine those sums should cost next to nothing.

    Example: python -m benchmarks residual --rounds 60
    """
    from benchmarks import residual_cost

    settings = settings_of(threads, seed)
    raw = free_path(out / "raw", residual_cost.KIND, settings)
    conditions = Conditions(settings.threads, rounds, seed, lives)
    with Recorder(raw, residual_cost.start(conditions, settings)) as recorder:
        residual_cost.measure(conditions, settings, recorder, image_size, _progress())
    _finish(raw, out)


@app.command()
def scaling(
    axes: Annotated[
        str, typer.Option(help="Which of batch,image-size,depth,threads; all by default.")
    ] = "",
    model: Annotated[str, typer.Option(help="The model of every axis but depth.")] = "resnet50",
    rounds: Rounds = 10,
    lives: Lives = 1,
    threads: Threads = None,
    seed: Seed = 0,
    out: Out = RESULTS,
) -> None:
    """How time grows with batch, image size, depth and threads: a line, and where it bends.

    Example: python -m benchmarks scaling --axes batch --model resnet18
    """
    from benchmarks import scaling as scale

    chosen = words(axes) or scale.AXES
    for axis in chosen:
        if axis not in scale.AXES:
            raise unknown_name("axis", axis, scale.AXES)
    settings = settings_of(threads, seed)
    raw = free_path(out / "raw", scale.KIND, settings)
    conditions = Conditions(settings.threads, rounds, seed, lives)
    with Recorder(raw, scale.start(conditions, settings)) as recorder:
        scale.measure(chosen, model, conditions, settings, recorder, _progress())
    _finish(raw, out)


@app.command()
def ceilings(
    model: Annotated[str, typer.Option(help="Whose layers are drawn under the roof.")] = "resnet50",
    rounds: Rounds = 10,
    threads: Threads = None,
    seed: Seed = 0,
    out: Out = RESULTS,
) -> None:
    """What this machine can do at most, and each layer of MODEL under that roof.

    For each arithmetic the best of several libraries' kernels counts. The layers are timed by ONNX
    Runtime's own profiler.

    Example: python -m benchmarks ceilings --model resnet18 --threads 1
    """
    from benchmarks import ceilings as roofs
    from benchmarks import roofline
    from benchmarks.running import header

    settings = settings_of(threads, seed)
    raw = free_path(out / "raw", roofs.GROUP, settings)
    conditions = Conditions(settings.threads, rounds, seed)
    with Recorder(raw, header(roofs.GROUP, rounds, 1, settings)) as recorder:
        roofs.measure(conditions, recorder, settings.cache, _progress())
        roofline.record(model, settings.threads, seed, settings.cache, recorder, _progress())
    _finish(raw, out)


@app.command()
def throughput(
    build: BuildFolder, rounds: Rounds = 30, cores: Cores = None, seed: Seed = 0, out: Out = RESULTS
) -> None:
    """What `exporter benchmark --throughput` measures, with every round kept.

    Example: python -m benchmarks throughput build/resnet50
    """
    from benchmarks import throughput as loads

    settings = settings_of(cores, seed)
    raw = free_path(out / "raw", loads.KIND, settings)
    loads.measure(build, rounds, settings, raw, _progress())
    _finish(raw, out)


@app.command()
def sharing(
    build: BuildFolder, rounds: Rounds = 30, cores: Cores = None, seed: Seed = 0, out: Out = RESULTS
) -> None:
    """What two and four processes at once lose against their fair share of the cores.

    Example: python -m benchmarks sharing build/resnet50
    """
    from benchmarks import sharing as shares

    settings = settings_of(cores, seed)
    raw = free_path(out / "raw", shares.KIND, settings)
    shares.measure(build, rounds, settings, raw, _progress())
    _finish(raw, out)


@app.command()
def pictures(
    model: Annotated[str, typer.Argument(help="With random weights; it resizes pictures.")] = (
        "resnet50"
    ),
    side: Annotated[
        int, typer.Option(min=64, max=8000, help="Longer side of the JPEGs; ImageNet's are 500.")
    ] = 500,
    rounds: Rounds = 30,
    lives: Lives = 2,
    threads: Threads = None,
    seed: Seed = 0,
    cache: Cache = CACHE,
    out: Out = RESULTS,
) -> None:
    """From JPEG bytes to labels and from uint8 images to logits, against the peers' pipelines.

    Example: python -m benchmarks pictures --threads 2
    """
    from benchmarks import pictures as ways

    settings = replace(settings_of(threads, seed), cache=cache)
    raw = free_path(out / "raw", ways.KIND, settings)
    conditions = Conditions(settings.threads, rounds, seed, lives)
    ways.measure(model, side, conditions, settings, raw, _progress())
    _finish(raw, out)


@app.command("mixed-search")
def mixed_search(
    model: Annotated[str, typer.Argument(help="What is exported.")] = DEFAULT_MODEL,
    weights: Annotated[
        str, typer.Option(help="As of an export; auto: of the digits those that INT8 hurts.")
    ] = "auto",
    data: Annotated[Path | None, typer.Option(help="As of an export.")] = None,
    preprocessing: Annotated[Path | None, typer.Option(help="As of an export.")] = None,
    targets: Annotated[str, typer.Option(help="Targets that have mixed engines.")] = "ort-cpu",
    max_drop: Annotated[str | None, typer.Option(help="As of an export.")] = None,
    min_sqnr: Annotated[float | None, typer.Option(help="As of an export.")] = None,
    draws: Annotated[int, typer.Option(min=0, help="Random sets to compare with.")] = 200,
    threads: Threads = None,
    seed: Seed = 0,
    out: Out = RESULTS,
) -> None:
    """What a search for mixed precision finds, against random sets under the same budget.

    Example: python -m benchmarks mixed-search --max-drop 1%
    """
    from benchmarks import mixed_search as searches

    settings = settings_of(threads, seed)
    request = ExportRequest(
        model,
        weights=weights,
        data=data,
        preprocessing=preprocessing,
        targets=words(targets),
        precisions=(Precision.MIXED,),
        max_drop=max_drop,
        min_sqnr=min_sqnr,
        threads=settings.threads,
        seed=seed,
    )
    raw = free_path(out / "raw", searches.KIND, settings)
    searches.measure(with_file_read(request), draws, settings, raw, _progress())
    _finish(raw, out)


@app.command()
def layers(
    builds: Annotated[
        list[Path], typer.Argument(help="Builds with INT8 engines.", metavar="BUILD...")
    ],
    rounds: Rounds = 10,
    threads: Threads = None,
    seed: Seed = 0,
    out: Out = RESULTS,
) -> None:
    """Each layer of the builds' INT8 engines against this machine's ceilings, in both runtimes.

    Example: python -m benchmarks layers build/resnet18 build/resnet50
    """
    from benchmarks import layers as profiles

    settings = settings_of(threads, seed)
    raw = free_path(out / "raw", profiles.KIND, settings)
    profiles.measure(builds, rounds, settings, raw, _progress())
    _finish(raw, out)


@app.command()
def analyse(
    raw: Annotated[Path, typer.Argument(help="A raw/NAME.jsonl of an earlier run.")],
    out: Out = RESULTS,
) -> None:
    """Compute a result again from its raw samples; nothing is measured."""
    _finish(raw, out)


@app.command()
def show(
    file: Annotated[Path, typer.Argument(help="A result: NAME.json.", metavar="RESULT")],
) -> None:
    """Print a result that was measured before."""
    results.show(_read_result(file), _console())


@app.command()
def page(
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("docs/results.md"),
    performance: Annotated[
        Path, typer.Option(help="The page whose tables of layers to write.")
    ] = Path("docs/performance.md"),
) -> None:
    """Write the page of all kept results and the tables of layers; nothing is measured."""
    write_whole(out, results_page(RESULTS))
    text = performance.read_text(encoding="utf-8")
    write_whole(performance, with_tables(text, RESULTS))
    for path in (out, performance):
        _console().print(escape(str(path)), soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command; errors become one line and an exit code, as in `exporter`."""
    finish(
        app,
        arguments,
        hint="(python -m benchmarks --help)",
        interrupted="interrupted; what was measured so far is in a file named *.partial",
    )


def _finish(raw: Path, out: Path) -> dict[str, Any]:
    """The result of a raw file, written and printed."""
    found = results.of(read_events(raw))
    path = out / f"{raw.stem}.json"
    write_whole(path, json.dumps(found, indent=1) + "\n")
    console = _console()
    results.show(found, console)
    for picture in plots.draw(found, path.with_suffix("")):
        console.print(escape(str(picture)), soft_wrap=True)
    console.print(f"{escape(str(path))} (raw samples: {escape(str(raw))})", soft_wrap=True)
    return found


def _read_result(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{file} is not JSON ({error}); give a result of this suite") from None
    if not isinstance(content, dict) or content.get("kind") not in results.KINDS:
        raise InputError(f"{file} is no result of this suite; give one of benchmarks/results")
    return content


def _progress() -> Progress:
    return Terminal(make_console(stderr=True))


def _console() -> Console:
    return make_console(pipe_width=WIDTH)


if __name__ == "__main__":
    os.environ.setdefault("TORCH_LOGS", "-all")
    main()
