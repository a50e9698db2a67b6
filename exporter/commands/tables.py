"""Results as tables on the terminal; nothing is computed here that the records do not hold."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from rich.markup import escape
from rich.table import Table

from exporter.artifact import Skipped
from exporter.commands.print_table import print_table
from exporter.measure.statistics import STABLE_TAIL
from exporter.measure.timing import DISTURBING_LOAD, Latency
from exporter.prove.certificate import OutputParity, Parity, Receipt, Scope
from exporter.targets import MachineKind

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from exporter.builds.records import EngineRecord, Manifest
    from exporter.models.variants import Variant


def engines(manifest: Manifest, console: Console) -> None:
    """The final table: size, receipt, parity, latency and speedup; the fastest is marked."""
    best = manifest.fastest
    table = Table(title=_title(manifest), title_justify="left")
    table.add_column("engine")
    table.add_column("size", justify="right")
    table.add_column("receipt")
    table.add_column("parity")
    table.add_column("p50", justify="right")
    table.add_column(f"speedup over {manifest.baseline}", justify="right")
    for engine in manifest.engines:
        name = escape(engine.id)
        table.add_row(
            f"[bold green]{name} *[/]" if engine is best else name,
            f"{engine.bytes / 1e6:.1f} MB",
            receipt_summary(engine.receipt),
            _parity(engine),
            *_latency(engine),
        )
    for failed in manifest.failed_engines:
        table.add_row(escape(failed.id), "-", f"[bold red]FAILED[/] to {failed.stage}", "", "", "")
    print_table(table, console)
    if best:
        console.print("[green]*[/] the fastest engine here that passed every gate")
    for line in _conditions(manifest):
        console.print(line)
    for engine in manifest.engines:
        for line in (_outputs(engine), _flips(engine)):
            if line:
                console.print(f"{escape(engine.id)}: {line}")
        for note in engine.notes:
            console.print(f"[dim]{escape(engine.id)}: {escape(note)}[/]")


def throughput(manifest: Manifest, console: Console) -> None:
    """Every layout that was tried, engine by engine; the best of each is marked."""
    measured = manifest.throughput
    if isinstance(measured, Skipped):
        return
    cores = f"{measured.cores} core{'s' if measured.cores > 1 else ''} of {manifest.host.cpu}"
    table = Table(
        title=f"throughput on {escape(cores)}, {measured.callers} callers", title_justify="left"
    )
    for name in ("engine", "processes", "streams", "threads", "batch", "images/s", "p50", "p99"):
        table.add_column(name, justify="left" if name == "engine" else "right")
    table.add_column("gain over one process", justify="right")
    for point in measured.points:
        low, high = point.gain.ci95
        name = escape(point.engine)
        table.add_row(
            f"[bold green]{name} *[/]" if point.best else name,
            *map(str, (point.processes, point.streams, point.threads, point.batch)),
            f"{point.images_per_s:.1f}", f"{point.p50_ms:.2f} ms", f"{point.p99_ms:.2f} ms",
            f"{point.gain.median:.2f}x ({low:.2f} to {high:.2f})",
        )  # fmt: skip
    print_table(table, console)
    limit = "" if measured.max_p99_ms is None else f" with p99 within {measured.max_p99_ms:g} ms"
    if measured.best is None:
        console.print(f"[yellow]nothing answers{limit}[/]")
    else:
        console.print(f"[green]*[/] the most images a second of its engine{limit}")
    for name, reason in measured.left_out.items():
        console.print(f"[dim]{escape(name)}: left out: {escape(reason.skipped)}[/]")


def next_steps(folder: Path, manifest: Manifest) -> str:
    """What one does with a build that was just made, in one line."""
    name = shlex.quote(str(folder))
    steps = [f"open {shlex.quote(str(folder / 'report.html'))}"]
    if manifest.failures:
        steps.append(f"exporter explain {name}")
    if not manifest.model.weights.trained:
        steps.append("export with trained weights (--weights FILE) to pack for production")
    elif any(engine.passed for engine in manifest.engines):
        steps.append(f"exporter pack {name}")
    return f"next: {'; '.join(steps)}"


def receipt_summary(receipt: Receipt) -> str:
    """One line: the verdict and the counts behind it."""
    colour = {"fused": "green", "partial": "yellow"}.get(receipt.verdict, "red")
    parts = [f"BN {receipt.batchnorms_folded}"] if receipt.batchnorms_folded else []
    adds = f"adds {receipt.residual_adds_fused}/{receipt.residual_adds}"
    parts.append(adds + _unfusable(receipt.residual_adds_unfusable))
    if receipt.convs_quantized:
        parts.append(f"INT8 convs {receipt.convs_quantized}/{receipt.convs}")
    parts += [f"{dtype.upper()} convs {n}/{receipt.convs}" for dtype, n in receipt.narrow_convs]
    parts.append(f"float ops {receipt.float_ops}" + _unfusable(receipt.float_ops_unfusable))
    return f"[{colour}]{receipt.verdict}[/]: {', '.join(parts)}"


def _unfusable(count: int) -> str:
    return f" ({count} unfusable)" if count else ""


def variant_rows(variants: Mapping[str, Variant]) -> list[dict[str, Any]]:
    """The registry as rows for a table or JSON."""
    return [
        {
            "name": name,
            "family": variant.family,
            "depth": variant.depth,
            "block": variant.block,
            "stages": list(variant.layers),
            "image_size": variant.image_size,
            "num_classes": variant.num_classes,
            "weights": list(variant.weights_names),
        }
        for name, variant in variants.items()
    ]


def variants(registry: Mapping[str, Variant], console: Console) -> None:
    """The built-in models."""
    table = Table("name", "family", "block", "blocks a stage", "input", "classes", "weights")
    for row in variant_rows(registry):
        table.add_row(
            row["name"],
            row["family"],
            row["block"],
            "-".join(map(str, row["stages"])),
            f"{row['image_size']} px",
            str(row["num_classes"]),
            ", ".join(row["weights"]) or "[dim]random[/]",
        )
    print_table(table, console)


def _title(manifest: Manifest) -> str:
    model = manifest.model
    trained = "" if model.weights.trained else "  [yellow](untrained weights)[/]"
    return (
        f"{escape(model.name)}{trained}  {model.parameters / 1e6:.1f} M parameters, "
        f"{model.macs / 1e9:.2f} GMAC"
    )


def _parity(engine: EngineRecord) -> str:
    parity = engine.parity
    if isinstance(parity, Skipped):
        return f"[dim]{escape(parity.skipped)}[/]"
    mark = "[green]passed[/]" if parity.passed else "[bold red]FAILED[/]"
    figure = _error(engine, parity)
    if parity.output:
        figure += f" ({escape(parity.output)}, the worst of {len(parity.outputs)} outputs)"
    scope = " (of its graph)" if parity.scope is Scope.GRAPH else ""
    top1 = f", top-1 {engine.accuracy.top1:.2%}" if engine.accuracy else ""
    return f"{mark} {figure}{top1}{scope}"


def _error(engine: EngineRecord, parity: Parity | OutputParity) -> str:
    """The error that the precision's limit is about."""
    if engine.precision.quantized:
        return f"SQNR {parity.sqnr_db:.1f} dB"
    return f"rel_l2 {parity.rel_l2:.1e}"


def _outputs(engine: EngineRecord) -> str:
    """The error of each of several outputs; "" where there is one."""
    if isinstance(engine.parity, Skipped):
        return ""
    return ", ".join(
        f"{escape(output.name)} {_error(engine, output)}"
        + ("" if output.passed else " [bold red]FAILED[/]")
        for output in engine.parity.outputs
    )


def _conditions(manifest: Manifest) -> Iterator[str]:
    """On each device the baseline's own figures in that run, and what disturbed it."""
    latencies = [e.latency for e in manifest.engines if isinstance(e.latency, Latency)]
    for device in manifest.devices:
        first = next((latency for latency in latencies if latency.device is device), None)
        if first is not None:
            yield from _condition(first, manifest.baseline_on(device))
    if len(manifest.devices) > 1:
        yield "p50 is from host memory to host memory on every device; speedups compare within one"


def _condition(measured: Latency, baseline: str) -> Iterator[str]:
    own = f"{escape(baseline)}, batch {measured.batch}: p50 {measured.eager_p50_ms:.2f} ms"
    if measured.eager_p90_ms is not None:
        own += f", p90 {measured.eager_p90_ms:.2f} ms"
        if not measured.eager_p90_ms <= STABLE_TAIL * measured.eager_p50_ms:
            own += " [yellow](disturbed)[/]"
    yield own
    if measured.throttled:
        yield (
            f"[yellow]the GPU was held down meanwhile ({', '.join(measured.throttled)}): its times "
            "are of a slower clock[/]"
        )
    if measured.other_load is not None and measured.other_load > DISTURBING_LOAD:
        yield (
            f"[yellow]other processes took {measured.other_load:.0%} of this machine's processor "
            "time meanwhile: measure again when it is idle (exporter benchmark)[/]"
        )


_FLIPS_SHOWN: Final = 4


def _flips(engine: EngineRecord) -> str:
    """The inputs whose class changes, those of the widest margins by name; "" where there are none.

    Untrained networks have none worth a word: their classes are all alike.
    """
    parity = engine.parity
    if isinstance(parity, Skipped) or not engine.trained or not parity.flipped:
        return ""
    shown = parity.flipped[:_FLIPS_SHOWN]
    named = ", ".join(f"{flip.margin:.2g} (input {flip.input})" for flip in shown)
    more = ", ..." if parity.flips > len(shown) else ""
    agreement = parity.top1_agreement
    bounded, median = parity.agreement_at_most, parity.median_margin
    kept = "" if isinstance(agreement, Skipped) else f"{agreement:.1%}"
    most = "" if isinstance(bounded, Skipped) else f", at most {bounded:.1%}"
    usual = "" if isinstance(median, Skipped) else f"; the median margin is {median:.2g}"
    return (
        f"{parity.flips} of {parity.samples} inputs change class (agreement "
        f"{kept}{most}), at margins of {named}{more}{usual}"
    )


def _latency(engine: EngineRecord) -> tuple[str, str]:
    latency = engine.latency
    if not isinstance(latency, Latency):
        built_only = not isinstance(engine.parity, Skipped) and engine.parity.scope is Scope.GRAPH
        return ("built, not run here" if built_only else escape(latency.skipped)), ""
    low, high = latency.speedup.ci95
    spread = "" if latency.stable else " [yellow]unstable[/]"
    where = "" if latency.device is MachineKind.CPU else f" on the {latency.device}"
    alone = f", {latency.compute.p50_ms:.3f} ms of it compute" if latency.compute else ""
    return (
        f"{latency.p50_ms:.2f} ms{alone}",
        f"{latency.speedup.median:.2f}x{where} [dim]({low:.2f} to {high:.2f})[/]{spread}",
    )
