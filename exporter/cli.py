"""The command line: parse, call, print, and end with one of `commands/exits.py`'s codes."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from typing import TYPE_CHECKING, Annotated, Final

try:
    import rich  # noqa: F401 - what prints
    import typer
except ModuleNotFoundError as missing:
    from exporter.errors import install_command

    sys.stderr.write(
        f"error: the command line needs {missing.name} (exporter.runtime works without it); "
        f"run: {install_command('cpu')}\n"
    )
    raise SystemExit(2) from None

import exporter
from exporter.builds.benchmark_request import BenchmarkRequest
from exporter.builds.capacity_request import CapacityRequest
from exporter.builds.compare_request import CompareRequest
from exporter.builds.dataset_request import ClassifyRequest, EvaluateRequest
from exporter.builds.explain_request import ExplainRequest
from exporter.builds.gate_request import GateRequest
from exporter.builds.option import Option, arguments
from exporter.builds.request import (
    ExportRequest,
    Folder,
    ImageSize,
    NumClasses,
    Source,
    ValidateRequest,
)
from exporter.builds.sweep_request import SweepRequest
from exporter.commands import options
from exporter.commands.ending import ended
from exporter.commands.exits import KeptError, teaching
from exporter.commands.options import command
from exporter.commands.show import show
from exporter.commands.standard_streams import open_closed_streams, silence_third_parties
from exporter.commands.terminal import finish, progress_of, results
from exporter.errors import Interrupted
from exporter.pack.request import PackRequest
from exporter.progress import styled
from exporter.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME: Final = "exporter"

app = typer.Typer(
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(
    invoke_without_command=True,
    epilog=teaching("exporter export resnet50", "exporter export --help"),
)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Compile ResNets to ONNX Runtime, OpenVINO and TensorRT engines, and prove each one."""
    if version:
        print(f"{NAME} {exporter.__version__}")  # noqa: T201
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())  # noqa: T201
        raise typer.Exit(2)


@command(
    app,
    teaching(
        "exporter export resnet50",
        "exporter export resnet50 --weights mine.pth --data images/ --precision fp32,int8",
        "exporter export package.module:factory --image-size 128 --out build/mine",
    ),
)
def export(request: ExportRequest, quiet: options.Quiet = False) -> None:
    """Compile MODEL: engines, a fusion receipt and a parity certificate each, latency, a report."""
    from exporter.commands import tables

    try:
        build = exporter.export(request.source, **arguments(request), progress=progress_of(quiet))
    except Interrupted as interruption:
        raise KeptError(str(interruption)) from None
    console = results()
    tables.engines(build.manifest, console)
    written = f"\n{build.path / 'report.html'}  {build.path / 'manifest.json'}"
    console.print(written, markup=False, soft_wrap=True)
    finish(build.failures, "" if quiet else tables.next_steps(build.path, build.manifest))


@command(app, teaching("exporter models", "exporter models --json"))
def models(as_json: options.AsJson = False) -> None:
    """List the built-in models: blocks, input, classes, and the weights there are for them."""
    from exporter.commands import tables
    from exporter.models.variants import VARIANTS

    if as_json:
        print(json.dumps(tables.variant_rows(VARIANTS), indent=1))  # noqa: T201
    else:
        tables.variants(VARIANTS, results())


@command(app, teaching("exporter trace resnet34", "exporter trace timm:resnet50d --image-size 256"))
def trace(
    model: Source,
    weights: Annotated[
        str | None, Option(help="Shapes need none: random ones, unless you name others.")
    ] = None,
    num_classes: NumClasses = None,
    image_size: ImageSize = None,
    as_json: options.AsJson = False,
) -> None:
    """Print how a tensor moves through MODEL: shapes, strides, parameters and MACs per module."""
    from exporter.commands import trace_table

    traced = trace_table.traced(model, weights, num_classes, image_size)
    show(traced, trace_table.render, as_json, results())


@command(app, teaching("exporter validate build/resnet50", "exporter validate resnet50 --blocks"))
def validate(
    request: ValidateRequest, quiet: options.Quiet = False, as_json: options.AsJson = False
) -> None:
    """Check every engine of a build: its files' hashes, and its answers on the golden inputs."""
    from exporter.commands.validate import render, render_drift

    build = exporter.open_build(request.build)
    outcome = build.validate(**arguments(request), progress=progress_of(quiet))
    show(outcome.outcome, render, as_json, results())
    if request.blocks and not as_json:
        render_drift(outcome.manifest, results())
    finish(outcome.failures)


@command(
    app,
    teaching(
        "exporter gate resnet20-digits --max-drop 1%",
        "exporter gate build/mine --data held-out/ --labels labels.csv",
        "exporter gate bundle.tar.zst --data held-out/ --json",
    ),
)
def gate(
    request: GateRequest, quiet: options.Quiet = False, as_json: options.AsJson = False
) -> None:
    """May it be released? Engines against the float32 reference on your images, exact bounds.

    An engine passes where the bound of the images that get another class, and of the accuracy lost
    where there are labels, is within the limits; or it says how many more images would decide.
    """
    from exporter.commands import gate as gating

    gated = gating.gate(request, progress_of(quiet))
    show(gated, gating.render, as_json, results())
    finish(gated.failures)


@command(
    app,
    teaching(
        "exporter evaluate build/resnet50 --data held-out/",
        "exporter evaluate bundle.tar.zst --data s3://bucket/val.parquet --on head:6379 --json",
    ),
)
def evaluate(
    request: EvaluateRequest, quiet: options.Quiet = False, as_json: options.AsJson = False
) -> None:
    """How right are engines on many pictures, and how often do they differ from the reference?"""
    from exporter.commands import evaluate as evaluating

    found = evaluating.evaluate(request, progress_of(quiet))
    show(found, evaluating.render, as_json, results())
    finish(found.failures)


@command(
    app,
    teaching(
        "exporter classify dist/bundle --data pictures/ --out predictions.parquet",
        "exporter classify dist/bundle --data s3://bucket/train --out labels --on head:6379",
    ),
)
def classify(
    request: ClassifyRequest, quiet: options.Quiet = False, as_json: options.AsJson = False
) -> None:
    """Label many pictures with a bundle, into a folder of Parquet files; run again, it goes on."""
    from exporter.commands import classify as classifying

    found = classifying.label(request, progress_of(quiet))
    show(found, classifying.render, as_json, results())
    finish(found.failures)


@command(
    app,
    teaching(
        "exporter benchmark resnet50 --batches 1,8,32",
        "exporter benchmark resnet50 --throughput --max-p99 50",
        "exporter benchmark build/mine --model package.module:factory --weights mine.pth",
    ),
)
def benchmark(request: BenchmarkRequest, quiet: options.Quiet = False) -> None:
    """Measure a build again against eager PyTorch, and update its manifest and report.

    The weights must be those of the build: they are compared by hash.
    """
    from exporter.commands import tables

    build = exporter.open_build(request.build)
    outcome = build.benchmark(**arguments(request), progress=progress_of(quiet))
    tables.engines(outcome.manifest, results())
    tables.throughput(outcome.manifest, results())
    finish(outcome.failures)


@command(
    app,
    teaching(
        "exporter explain resnet50",
        "exporter explain build/resnet50 --error",
        f"exporter explain quantized.onnx --target {next(iter(TARGETS))}",
    ),
)
def explain(
    request: ExplainRequest, quiet: options.Quiet = False, as_json: options.AsJson = False
) -> None:
    """Say what each runtime made of each residual block, and why it is not faster or more exact.

    Of an ONNX file that any tool made: what keeps it from being fast on a runtime, the most to win
    first, and what our own build of the same network reaches.
    """
    from exporter.commands import explaining

    shown = explaining.explain(request, progress_of(quiet))
    show(shown, explaining.render, as_json, results())


@command(app, teaching("exporter report resnet50"))
def report(folder: Folder) -> None:
    """Write report.html and report.json of a build again, from its manifest."""
    from exporter.report import write_report

    build = exporter.open_build(folder)
    for path in write_report(build.path, build.manifest):
        results().print(str(path), markup=False, soft_wrap=True)


@command(app, teaching("exporter schema > manifest.schema.json"))
def schema() -> None:
    """Print the JSON Schema of manifest.json, for tools that read builds."""
    from exporter.builds.json_schema import manifest_schema

    print(json.dumps(manifest_schema(), indent=1, ensure_ascii=False))  # noqa: T201


@command(
    app,
    teaching(
        "exporter compare build/old build/new",
        "exporter compare old.json new.json --require all --max-slowdown 0.05",
    ),
)
def compare(request: CompareRequest, as_json: options.AsJson = False) -> None:
    """Compare two builds, sweeps or benchmarks: engines gained, lost, slower, less accurate."""
    from exporter.commands import compare_sweeps as comparing

    comparison = comparing.compare_paths(request)
    show(comparison, comparing.render, as_json, results())
    finish(comparison.failures)


@command(
    app,
    teaching(
        "exporter pack resnet20-digits --out digits.tar.zst",
        "exporter pack build/resnet50 --format triton --out dist/models --slo-ms 20",
    ),
)
def pack(request: PackRequest, quiet: options.Quiet = False) -> None:
    """Pack a build for production: engines, goldens, contract, model card, hashes."""
    packed = exporter.open_build(request.build).pack(
        **arguments(request), progress=progress_of(quiet)
    )
    console = results()
    for note in packed.notes:
        console.print(styled(("note:", "yellow"), f" {note}"), soft_wrap=True)
    console.print(f"{packed.path}: {', '.join(packed.engines)}", markup=False, soft_wrap=True)


@command(
    app,
    teaching(
        "exporter capacity resnet50 --rate 500 --slo-ms 100",
        "exporter capacity resnet50 --rate 500 --slo-ms 100 --arrivals bursts --availability N-1",
        "exporter capacity build/mine --rate 2000 --slo-ms 50 --price 0.34 --out plan/",
    ),
)
def capacity(
    request: CapacityRequest, quiet: options.Quiet = False, as_json: options.AsJson = False
) -> None:
    """Plan a service: how many machines a rate takes, each set up how, what callers will see.

    From what `exporter benchmark --throughput` measured, by simulation of a server that batches as
    Triton does.
    """
    from exporter.commands import capacity as planning

    planned = planning.capacity(request, progress_of(quiet))
    show(planned, planning.render, as_json, results())


@command(
    app,
    teaching(
        "exporter sweep fleet.yaml",
        "exporter sweep fleet.yaml --on head:6379",
        "exporter compare build/sweeps/old build/sweeps/new",
    ),
)
def sweep(
    request: SweepRequest, quiet: options.Quiet = False, as_json: options.AsJson = False
) -> None:
    """Build and measure models on every kind of hardware, each alone there: engines by hardware.

    SPEC.yaml lists models, precisions, targets and hardware, prices and limits; fleet.html says
    which to take. What is finished is not done again.
    """
    from exporter.commands import sweep as sweeping

    swept = sweeping.run_sweep(request, progress_of(quiet))
    show(swept, sweeping.render, as_json, results())
    finish(swept.failures)


@command(app, teaching("exporter doctor", "exporter doctor --json"))
def doctor(as_json: options.AsJson = False) -> None:
    """Say what this machine can build and run, and what would add the rest."""
    from exporter.commands import doctor as doctoring

    show(doctoring.diagnose(), doctoring.render, as_json, results())


@command(app, teaching("exporter cache", "exporter cache --clear --yes"))
def cache(
    clear: Annotated[bool, Option(help="Remove what is in it, after a question.")] = False,
    yes: Annotated[bool, Option(flags=("--yes", "-y"), help="Do not ask.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Say where results are kept that can be made again, how large they are, and clear them.

    It is $XDG_CACHE_HOME/resnet-exporter, else ~/.cache/resnet-exporter. Downloaded weights lie
    elsewhere, in PyTorch's cache ($TORCH_HOME) and Hugging Face's ($HF_HOME), and are not touched.
    A cache that cannot be used costs time and nothing else.
    """
    from exporter.commands import cache as caching

    found = caching.look()
    if clear:
        found = caching.clear_when_agreed(found, yes)
    show(found, caching.render, as_json, results())


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script."""
    open_closed_streams()
    silence_third_parties()
    with contextlib.suppress(ValueError):  # in a thread: its program decides
        # As Ctrl-C: `docker stop`, a cancelled job.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(ended(lambda: app(args=arguments, prog_name=NAME, standalone_mode=False), NAME))
