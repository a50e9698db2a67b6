"""The command line: parse, call, print. Exit codes are decided here and nowhere else.

0 done; 1 a gate or a build failed (everything else was finished); 2 an unusable request or input;
130 interrupted (Ctrl-C, SIGTERM).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

try:
    import rich  # noqa: F401 - what prints
    import typer
except ModuleNotFoundError as missing:
    sys.stderr.write(
        f"error: the command line needs {missing.name}; install the compiler with "
        "pip install 'resnet-exporter[cpu]' (exporter.runtime works without it)\n"
    )
    raise SystemExit(2) from None

import exporter
from exporter.builds.option import Option, arguments
from exporter.builds.request import (
    BenchmarkRequest,
    ExportRequest,
    Folder,
    ImageSize,
    NumClasses,
    Source,
    ValidateRequest,
)
from exporter.commands import options
from exporter.commands.options import command
from exporter.errors import ExporterError
from exporter.pack.request import PackRequest
from exporter.progress import PIPE_WIDTH, Progress, Silent, Terminal, make_console, styled
from exporter.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

NAME = "exporter"

app = typer.Typer(
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
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


@command(app)
def export(request: ExportRequest, quiet: options.Quiet = False) -> None:
    """Compile MODEL: engines, a fusion receipt and a parity certificate each, latency, a report.

    Example: exporter export resnet50 --target ort-cpu,openvino --precision fp32,int8
    """
    from exporter.commands import tables

    build = exporter.export(request.source, **arguments(request), progress=_progress(quiet))
    console = _console()
    tables.engines(build.manifest, console)
    written = f"\n{build.path / 'report.html'}  {build.path / 'manifest.json'}"
    console.print(written, markup=False, soft_wrap=True)
    _finish(build.failures)


@command(app)
def models(as_json: options.AsJson = False) -> None:
    """List the built-in models."""
    from exporter.commands import tables
    from exporter.models.variants import VARIANTS

    if as_json:
        print(json.dumps(tables.variant_rows(VARIANTS), indent=1))  # noqa: T201
    else:
        tables.variants(VARIANTS, _console())


@command(app)
def trace(
    model: Source,
    weights: Annotated[
        str | None, Option(help="Shapes need none: random ones, unless you name others.")
    ] = None,
    num_classes: NumClasses = None,
    image_size: ImageSize = None,
    as_json: options.AsJson = False,
) -> None:
    """Print how a tensor moves through MODEL: shapes, strides, parameters and MACs per module.

    Example: exporter trace resnet34
    """
    from exporter.commands.trace_table import render
    from exporter.models.sources import define
    from exporter.models.trace import trace as trace_model

    # A table's network is traced without looking for its weights; everything else brings its own.
    chosen = weights or ("auto" if ":" in model or model.endswith(".onnx") else "random")
    defined = define(
        model, chosen, num_classes=num_classes, image_size=image_size, progress=Silent()
    )
    traced = trace_model(defined)
    if as_json:
        print(traced.to_json())  # noqa: T201
    else:
        render(traced, _console())


@command(app)
def validate(request: ValidateRequest, quiet: options.Quiet = False) -> None:
    """Check every engine of a build: its files' hashes, and its answers on the golden inputs."""
    from exporter.commands.validate import render, render_drift

    build = exporter.open_build(request.build)
    outcome = build.validate(**arguments(request), progress=_progress(quiet))
    console = _console()
    render(outcome, console)
    if request.blocks:
        render_drift(outcome.manifest, console)
    _finish(outcome.failures)


@command(app)
def benchmark(request: BenchmarkRequest, quiet: options.Quiet = False) -> None:
    """Measure a build again against eager PyTorch, and update its manifest and report.

    The weights must be those of the build: they are compared by hash.
    """
    from exporter.commands import tables

    build = exporter.open_build(request.build)
    outcome = build.benchmark(**arguments(request), progress=_progress(quiet))
    tables.engines(outcome.manifest, _console())
    _finish(outcome.failures)


@command(app)
def explain(
    folder: Folder,
    engine: Annotated[
        str, Option(help=f"One engine's id, for example {next(iter(TARGETS))}.fp32.")
    ] = "",
) -> None:
    """Print the fusion receipts: what each runtime made of each residual block."""
    from exporter.builds import manifest
    from exporter.commands import explain as explaining

    explaining.explain(manifest.read(folder), engine, _console())


@command(app)
def report(folder: Folder) -> None:
    """Write report.html and report.json of a build again, from its manifest."""
    from exporter.builds import manifest
    from exporter.report import write_report

    for path in write_report(folder, manifest.read(folder)):
        _console().print(str(path), markup=False, soft_wrap=True)


@command(app)
def schema() -> None:
    """Print the JSON Schema of manifest.json, for tools that read builds.

    Example: exporter schema > manifest.schema.json
    """
    from exporter.builds.json_schema import manifest_schema

    print(json.dumps(manifest_schema(), indent=1, ensure_ascii=False))  # noqa: T201


@command(app)
def compare(
    old: Annotated[
        Path,
        Option(
            positional=True,
            metavar="OLD",
            help="A build folder, its manifest.json, or a result of benchmarks/.",
        ),
    ],
    new: Annotated[Path, Option(positional=True, metavar="NEW", help="The one to judge.")],
    max_slowdown: Annotated[
        float | None, Option(help="Fail where an engine is slower by more than this (0.05).")
    ] = None,
    max_error_growth: Annotated[
        float | None, Option(help="Fail where rel_l2 grows by more than this (0.1).")
    ] = None,
    allow_other_host: Annotated[
        bool, Option(help="Compare timings although the hosts differ.")
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


@command(app)
def pack(request: PackRequest, quiet: options.Quiet = False) -> None:
    """Pack a build for production: engines, goldens, contract, model card, hashes.

    Example: exporter pack build/resnet20-digits --format bundle --out digits.tar.zst
    """
    packed = exporter.open_build(request.build).pack(
        **arguments(request), progress=_progress(quiet)
    )
    console = _console()
    for note in packed.notes:
        console.print(styled(("note:", "yellow"), f" {note}"), soft_wrap=True)
    console.print(f"{packed.path}: {', '.join(packed.engines)}", markup=False, soft_wrap=True)


@command(app)
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
    with contextlib.suppress(ValueError):  # in a thread: its program decides
        # As Ctrl-C: `docker stop`, a cancelled job.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = app(args=arguments, prog_name=NAME, standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        command_path = context.command_path if context else NAME
        _say_error(f"{error.format_message()} ({command_path} --help tells more)")
        code = error.exit_code
    except ExporterError as error:
        _say_error(str(error))
        code = error.exit_code
    except ImportError as error:
        library = (error.name or "a library").partition(".")[0]
        if library == NAME:
            raise  # not a library that could be installed
        absent = isinstance(error, ModuleNotFoundError)
        _say_error(
            f"this needs {library}, which {'is not installed' if absent else f'fails: {error}'}; "
            "run: pip install 'resnet-exporter[cpu]', or [gpu] on a machine with an NVIDIA GPU"
        )
        code = 2
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
