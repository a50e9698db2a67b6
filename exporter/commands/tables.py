"""Results as tables on the terminal.

Each function takes the manifest (a plain dict) or a registry and prints; nothing is computed here
that the manifest does not hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from exporter.builds.ranking import fastest
from exporter.errors import unknown_name

if TYPE_CHECKING:
    from rich.console import Console

    from exporter.models.variants import Variant


def engines(manifest: Mapping[str, Any], console: Console) -> None:
    """The final table: size, receipt, parity, latency and speedup; the fastest is marked."""
    best = fastest(manifest)
    table = Table(title=_title(manifest), title_justify="left")
    for heading, justify in (
        ("engine", "left"),
        ("size", "right"),
        ("receipt", "left"),
        ("parity", "left"),
        ("p50", "right"),
        (_speedup_heading(manifest), "right"),
    ):
        table.add_column(heading, justify="right" if justify == "right" else "left")
    for engine in manifest["engines"]:
        marked = engine["id"] == best
        table.add_row(
            f"[bold green]{escape(engine['id'])} *[/]" if marked else escape(engine["id"]),
            f"{engine['bytes'] / 1e6:.1f} MB",
            receipt_summary(engine["receipt"]),
            _parity(engine),
            *_latency(engine),
        )
    console.print(table)
    if best:
        console.print("[green]*[/] the fastest engine here that passed every gate")
    for engine in manifest["engines"]:
        for note in engine["notes"]:
            console.print(f"[dim]{escape(engine['id'])}: {escape(note)}[/]")


def _speedup_heading(manifest: Mapping[str, Any]) -> str:
    own = manifest["model"]["kind"] == "onnx"
    return "speedup over the given file" if own else "speedup over eager"


def receipt_summary(receipt: Mapping[str, Any]) -> str:
    """One line: the verdict and the counts behind it."""
    colour = {"fused": "green", "partial": "yellow"}.get(receipt["verdict"], "red")
    quantized = receipt["convs_quantized"]
    parts = [f"BN {receipt['batchnorms_folded']}"] if receipt["batchnorms_folded"] else []
    parts.append(f"adds {receipt['residual_adds_fused']}/{receipt['residual_adds']}")
    if quantized:
        parts.append(f"INT8 convs {quantized}/{receipt['convs']}")
    parts.append(f"float ops {receipt['float_ops']}")
    return f"[{colour}]{receipt['verdict']}[/]: {', '.join(parts)}"


def receipts(manifest: Mapping[str, Any], engine_id: str, console: Console) -> None:
    """Each engine's receipt, residual block by residual block."""
    chosen = [e for e in manifest["engines"] if engine_id in ("", e["id"])]
    if not chosen:
        raise unknown_name("engine", engine_id, [e["id"] for e in manifest["engines"]])
    for engine in chosen:
        receipt = engine["receipt"]
        console.print(f"[bold]{escape(engine['id'])}[/]  {receipt_summary(receipt)}")
        console.print(f"  read from: {escape(receipt['source'])}")
        if receipt["reason"]:
            console.print(f"  reason: {escape(receipt['reason'])}")
        spent = {b["name"]: b for b in engine.get("profile", {}).get("blocks", ())}
        table = Table("block", "kernels", "dtype", "add fused", "time")
        for block in receipt["blocks"]:
            table.add_row(
                escape(block["name"]),
                escape(", ".join(_runs(kernel["op"] for kernel in block["kernels"]))),
                ", ".join(sorted({kernel["dtype"] for kernel in block["kernels"]})),
                "yes" if block["add_fused"] else f"[yellow]no[/] {escape(block['reason'] or '')}",
                _time_of(spent.get(block["name"])),
            )
        console.print(table)
        console.print(f"  {escape(_profile_of(engine))}")
        for kernel, block, reason in receipt["leftovers"]:
            console.print(f"  left over: {escape(kernel)} ({escape(block)}): {escape(reason)}")


def replays(rows: Iterable[Mapping[str, Any]], console: Console) -> None:
    """What `exporter validate` found, an engine a row."""
    table = Table("engine", "files", "golden inputs", "rel_l2", "SQNR", "verdict")
    for row in rows:
        table.add_row(
            escape(row["id"]),
            row["files"],
            str(row["samples"]),
            row["rel_l2"],
            row["sqnr"],
            "[green]passed[/]" if row["passed"] else f"[red]{escape(row['verdict'])}[/]",
        )
    console.print(table)


def drift(manifest: Mapping[str, Any], console: Console) -> None:
    """The error at each residual block's output: built up so far, and added by the block alone."""
    for engine in manifest["engines"]:
        blocks = engine["parity"].get("blocks")
        if not blocks:
            continue
        table = Table(
            "block", "built up rel_l2", "SQNR dB", "added rel_l2", "SQNR dB",
            title=escape(engine["id"]), title_justify="left",
        )  # fmt: skip
        most = max(block["added_rel_l2"] for block in blocks)
        for block in blocks:
            style = "bold yellow" if block["added_rel_l2"] == most else ""
            table.add_row(
                escape(block["name"]),
                f"{block['built_up_rel_l2']:.2e}",
                f"{block['built_up_sqnr_db']:.1f}",
                f"{block['added_rel_l2']:.2e}",
                f"{block['added_sqnr_db']:.1f}",
                style=style,
            )
        console.print(table)


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
            "weights": [weights.name for weights in variant.weights],
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
    console.print(table)


def _title(manifest: Mapping[str, Any]) -> str:
    model = manifest["model"]
    trained = "" if model["weights"]["trained"] else "  [yellow](untrained weights)[/]"
    return (
        f"{escape(model['name'])}{trained}  {model['parameters'] / 1e6:.1f} M parameters, "
        f"{model['macs'] / 1e9:.2f} GMAC"
    )


def _parity(engine: Mapping[str, Any]) -> str:
    parity = engine["parity"]
    if "skipped" in parity:
        return f"[dim]{escape(parity['skipped'])}[/]"
    mark = "[green]passed[/]" if parity["passed"] else "[bold red]FAILED[/]"
    figure = (
        f"SQNR {parity['sqnr_db']:.1f} dB"
        if engine["precision"] == "int8"
        else f"rel_l2 {parity['rel_l2']:.1e}"
    )
    scope = " (of its graph)" if parity["scope"] == "graph" else ""
    accuracy = engine["accuracy"]
    top1 = f", top-1 {accuracy['top1']:.2%}" if accuracy else ""
    return f"{mark} {figure}{top1}{scope}"


def _latency(engine: Mapping[str, Any]) -> tuple[str, str]:
    latency = engine["latency"]
    if "skipped" in latency:
        built_only = engine["parity"].get("scope") == "graph"
        return ("built, not run here" if built_only else escape(latency["skipped"])), ""
    low, high = latency["speedup"]["ci95"]
    spread = "" if latency["stable"] else " [yellow]unstable[/]"
    return (
        f"{latency['p50_ms']:.2f} ms",
        f"{latency['speedup']['median']:.2f}x [dim]({low:.2f} to {high:.2f})[/]{spread}",
    )


def _time_of(block: Mapping[str, Any] | None) -> str:
    return f"{block['microseconds']:.0f} us, {block['share']:.1%}" if block else "-"


def _profile_of(engine: Mapping[str, Any]) -> str:
    profile = engine.get("profile", {"skipped": "the build is older; run exporter benchmark DIR"})
    if "skipped" in profile:
        return f"no time per block: {profile['skipped']}"
    return (
        f"time per block: {profile['source']}, batch {profile['batch']}, {profile['threads']} "
        f"threads, median of {profile['runs']} runs; {profile['outside_us']:.0f} us outside"
    )


def _runs(words: Iterable[str]) -> list[str]:
    """Words with repeats in a row counted: Conv x3."""
    runs: list[tuple[str, int]] = []
    for word in words:
        if runs and runs[-1][0] == word:
            runs[-1] = (word, runs[-1][1] + 1)
        else:
            runs.append((word, 1))
    return [word if count == 1 else f"{word} x{count}" for word, count in runs]
