"""The command line: parse, call, print. Exit codes are decided here and nowhere else.

0 done; 1 a gate or a build failed (everything else was finished); 2 an unusable request or input;
130 interrupted.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

try:
    import rich  # noqa: F401 - what prints
    import typer
except ModuleNotFoundError as missing:
    raise SystemExit(
        f"error: the command line needs {missing.name}; install the compiler with "
        "pip install 'resnet-exporter[cpu]' (exporter.runtime works without it)"
    ) from None

from exporter.commands import options
from exporter.errors import ExporterError
from exporter.progress import Progress, Silent, Terminal, make_console, styled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

PIPE_WIDTH = 140

app = typer.Typer(
    name="exporter",
    help="Compile ResNets to ONNX Runtime, OpenVINO and TensorRT engines, and prove each one.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def export(
    model: options.Source = "resnet20-digits",
    weights: options.Weights = "auto",
    precision: options.Precisions = "",
    target: options.Targets = "",
    data: options.DataPath = None,
    out: options.Out = None,
    seed: options.Seed = 0,
    num_classes: options.NumClasses = None,
    image_size: options.ImageSize = None,
    samples: options.Samples = None,
    calibration_samples: options.CalibrationSamples = 128,
    batches: options.Batches = "1",
    threads: options.Threads = None,
    rounds: options.Rounds = 30,
    keep: options.Keep = "",
    calibration_method: options.CalibrationMethod = "mse",
    correction: options.Correction = "all",
    reduce_range: options.ReduceRange = False,
    between: options.Between = "fp32",
    setting: options.Settings = None,
    profile: options.Profile = None,
    allow_partial: options.AllowPartial = False,
    allow_fallback: options.AllowFallback = False,
    bake_preprocess: options.BakePreprocess = False,
    measure: options.Measure = True,
    quiet: options.Quiet = False,
) -> None:
    """Compile MODEL: engines, a fusion receipt and a parity certificate each, latency, a report.

    Example: exporter export resnet50 --target ort-cpu,openvino --precision fp32,int8
    """
    from exporter.builds.request import ExportRequest
    from exporter.commands import tables
    from exporter.pipeline import export_model

    request = ExportRequest(
        source=model,
        weights=weights,
        targets=options.words(target),
        precisions=options.precisions(precision),
        data=data,
        out=out,
        seed=seed,
        num_classes=num_classes,
        image_size=image_size,
        samples=samples,
        calibration_samples=calibration_samples,
        batches=options.sizes(batches),
        threads=threads,
        rounds=rounds,
        keep=options.words(keep),
        calibration_method=calibration_method,
        correction=correction,
        reduce_range=reduce_range,
        between=options.float_precision(between),
        settings=options.settings(setting or []),
        profile=profile,
        allow_partial=allow_partial,
        allow_fallback=allow_fallback,
        bake_preprocess=bake_preprocess,
        measure=measure,
    )
    outcome = export_model(request, _progress(quiet))
    console = _console()
    tables.engines(outcome.manifest, console)
    written = f"\n{outcome.folder / 'report.html'}  {outcome.folder / 'manifest.json'}"
    console.print(written, markup=False, soft_wrap=True)
    _finish(outcome.manifest.failures)


@app.command()
def models(as_json: options.AsJson = False) -> None:
    """List the built-in models."""
    from exporter.commands import tables
    from exporter.models.variants import VARIANTS

    if as_json:
        print(json.dumps(tables.variant_rows(VARIANTS), indent=1))  # noqa: T201
    else:
        tables.variants(VARIANTS, _console())


@app.command()
def trace(
    model: options.Source,
    weights: Annotated[
        str | None, typer.Option(help="Shapes need none: random ones, unless you name others.")
    ] = None,
    num_classes: options.NumClasses = None,
    image_size: options.ImageSize = None,
    as_json: options.AsJson = False,
) -> None:
    """Print how a tensor moves through MODEL: shapes, strides, parameters and MACs per module.

    Example: exporter trace resnet34
    """
    from exporter.models import trace as tracing
    from exporter.models.sources import define

    # A table's network is traced without looking for its weights; everything else brings its own.
    chosen = weights or ("auto" if ":" in model or model.endswith(".onnx") else "random")
    defined = define(
        model, chosen, num_classes=num_classes, image_size=image_size, progress=Silent()
    )
    traced = tracing.trace(defined)
    if as_json:
        print(traced.to_json())  # noqa: T201
    else:
        tracing.render(traced, _console())


@app.command()
def validate(
    folder: options.Folder,
    blocks: Annotated[
        bool, typer.Option(help="Also the error at each residual block, built up and added.")
    ] = False,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
) -> None:
    """Check every engine of a build: its files' hashes, and its answers on the golden inputs."""
    from exporter.commands.validate import render, render_drift, validate_build

    outcome = validate_build(folder, blocks=blocks, threads=threads, progress=_progress(quiet))
    console = _console()
    render(outcome, console)
    if blocks:
        render_drift(outcome.manifest, console)
    _finish(outcome.failures)


@app.command()
def benchmark(
    folder: options.Folder,
    model: Annotated[
        str | None,
        typer.Option(help="Where the model is, if it was a file or is not importable from here."),
    ] = None,
    weights: options.Weights = "auto",
    batches: options.Batches = "1",
    threads: options.Threads = None,
    rounds: options.Rounds = 30,
    quiet: options.Quiet = False,
) -> None:
    """Measure a build again against eager PyTorch, and update its manifest and report.

    The weights must be those of the build: they are compared by hash.
    """
    from exporter.commands import tables
    from exporter.commands.benchmark import benchmark_build

    outcome = benchmark_build(
        folder,
        model=model,
        weights=weights,
        batches=options.sizes(batches),
        threads=threads,
        rounds=rounds,
        progress=_progress(quiet),
    )
    tables.engines(outcome.manifest, _console())
    _finish(outcome.failures)


@app.command()
def explain(
    folder: options.Folder,
    engine: Annotated[str, typer.Option(help="One engine's id, for example ort-cpu.fp32.")] = "",
) -> None:
    """Print the fusion receipts: what each runtime made of each residual block."""
    from exporter.builds import manifest
    from exporter.commands import explain as explaining

    explaining.explain(manifest.read(folder), engine, _console())


@app.command()
def report(folder: options.Folder) -> None:
    """Write report.html and report.json of a build again, from its manifest."""
    from exporter.builds import manifest
    from exporter.report import write_report

    for path in write_report(folder, manifest.read(folder)):
        _console().print(str(path), markup=False, soft_wrap=True)


@app.command()
def compare(
    old: Annotated[
        Path, typer.Argument(help="A build folder, its manifest.json, or a result of benchmarks/.")
    ],
    new: Annotated[Path, typer.Argument(help="The one to judge.")],
    max_slowdown: Annotated[
        float | None, typer.Option(help="Fail where an engine is slower by more than this (0.05).")
    ] = None,
    max_error_growth: Annotated[
        float | None, typer.Option(help="Fail where rel_l2 grows by more than this (0.1).")
    ] = None,
    allow_other_host: Annotated[
        bool, typer.Option(help="Compare timings although the hosts differ.")
    ] = False,
) -> None:
    """Compare two builds or benchmark results: engines gained, lost, slower, less accurate."""
    from exporter.commands import compare as comparing

    comparison = comparing.compare(
        comparing.load(old),
        comparing.load(new),
        max_slowdown=max_slowdown,
        max_error_growth=max_error_growth,
        allow_other_host=allow_other_host,
    )
    comparing.render(comparison, _console())
    _finish(comparison.failures)


@app.command()
def pack(
    folder: options.Folder,
    format_name: Annotated[
        str, typer.Option("--format", help="bundle, triton, kserve, node or web.")
    ] = "bundle",
    out: Annotated[
        Path | None,
        typer.Option(help="Default: dist/MODEL-FORMAT. A bundle named *.tar.zst is one file."),
    ] = None,
    engine: Annotated[
        str, typer.Option(help="Engine ids, comma-separated (default: all that passed).")
    ] = "",
    labels: Annotated[Path | None, typer.Option(help="A text file, one class a line.")] = None,
    allow_untrained: Annotated[
        bool, typer.Option(help="Pack random weights all the same; the bundle says so.")
    ] = False,
    sign: Annotated[
        Path | None, typer.Option(help="An Ed25519 private key (PEM) to sign a bundle with.")
    ] = None,
    backend: Annotated[
        str | None, typer.Option(help="Triton's: python, onnxruntime, openvino or tensorrt.")
    ] = None,
    slo_ms: Annotated[
        float | None, typer.Option(help="Latency that a request may take; limits Triton's batches.")
    ] = None,
    storage_uri: Annotated[
        str | None, typer.Option(help="Where KServe finds the repository: s3://..., pvc://...")
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Pack a build for production: engines, goldens, contract, model card, hashes.

    Example: exporter pack build/resnet20-digits --format bundle --out digits.tar.zst
    """
    from exporter.pack.formats import pack as pack_build
    from exporter.pack.packable import PackRequest

    request = PackRequest(
        build=folder,
        format=format_name,
        out=out,
        engines=options.words(engine),
        labels=labels,
        allow_untrained=allow_untrained,
        sign=sign,
        backend=backend,
        slo_ms=slo_ms,
        storage_uri=storage_uri,
    )
    packed = pack_build(request, _progress(quiet))
    console = _console()
    for note in packed.notes:
        console.print(styled(("note:", "yellow"), f" {note}"), soft_wrap=True)
    console.print(f"{packed.path}: {', '.join(packed.engines)}", markup=False, soft_wrap=True)


@app.command()
def doctor(as_json: options.AsJson = False) -> None:
    """Say what this machine can build and run, and what would add the rest."""
    from exporter.commands import doctor as doctoring

    diagnosis = doctoring.diagnose()
    if as_json:
        print(diagnosis.to_json())  # noqa: T201
    else:
        doctoring.render(diagnosis, _console())


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script."""
    _silence_third_parties()
    try:
        code = app(args=arguments, standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    except typer.TyperException as error:
        _say_error(f"{error.format_message()} (exporter --help lists commands and options)")
        code = error.exit_code
    except ExporterError as error:
        _say_error(str(error))
        code = error.exit_code
    except OSError as error:
        # A full disk or a vanished file, wherever it happens.
        _say_error(f"{error.filename or 'input/output'}: {error.strerror or error}")
        code = 1
    if code == 130:
        _say_error("interrupted; nothing half-written was left behind")
    sys.exit(code or 0)


def _silence_third_parties() -> None:
    # A good run prints our lines only. What matters of theirs is read from return values.
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    logging.getLogger().setLevel(logging.ERROR)
    os.environ.setdefault("TORCH_LOGS", "-all")


def _finish(failures: Sequence[str]) -> None:
    for failure in failures:
        _say_error(failure)
    if failures:
        raise typer.Exit(1)


def _say_error(text: str) -> None:
    line = " ".join(text.split())
    make_console(stderr=True).print(styled(("error:", "bold red"), f" {line}"), soft_wrap=True)


def _console() -> Console:
    # A pipe or a log has no width: wide enough for every table of ours.
    return make_console(pipe_width=PIPE_WIDTH)


def _progress(quiet: bool) -> Progress:
    return Silent() if quiet else Terminal(make_console(stderr=True))
