"""The model card: what a person should know before serving this model, in Markdown.

After Mitchell et al. 2019, "Model Cards for Model Reporting": details, intended use, factors,
metrics, evaluation data, limits. Every figure is the manifest's.
"""

from __future__ import annotations

from typing import Any

from exporter.pack.packable import Release
from exporter.pack.template_files import render


def model_card(release: Release) -> str:
    """The text of MODEL_CARD.md."""
    manifest = release.manifest
    model = manifest["model"]
    return render(
        "model_card.md.j2",
        model=model,
        bundle=manifest["bundle"],
        data=manifest["data"],
        host=manifest["host"],
        known=None if "skipped" in model["preprocessing"] else model["preprocessing"],
        classes=len(release.labels),
        labels=release.labels[:5],
        batch=_batch(release.engines),
        rows=[_row(entry) for entry in release.engines],
        evaluated_on_labels=any(entry["accuracy"] for entry in release.engines),
        synthetic="synthetic" in manifest["data"]["evaluation"]["source"],
    )


def _batch(engines: list[dict[str, Any]]) -> int:
    """The batch size that the table's latencies were measured at."""
    return next((e["latency"]["batch"] for e in engines if "batch" in e["latency"]), 1)


def _row(entry: dict[str, Any]) -> dict[str, str]:
    """One engine as the card's tables show it."""
    parity, accuracy, latency = entry["parity"], entry["accuracy"], entry["latency"]
    measured = "skipped" not in latency
    return {
        "id": entry["id"],
        "size": f"{entry['bytes'] / 1e6:.1f} MB",
        "sha256": entry["sha256"][:16],
        "error": f"{parity['rel_l2']:.2g}",
        "sqnr": f"{parity['sqnr_db']:.0f} dB",
        "agreement": f"{100 * parity['top1_agreement']:.1f} %",
        "scope": parity["scope"],
        "top1": f"{100 * accuracy['top1']:.2f} %" if accuracy else "no labels",
        "top1_reference": f"{100 * accuracy['top1_reference']:.2f} %" if accuracy else "no labels",
        "latency": f"{latency['p50_ms']:.2f} ms" if measured else latency["skipped"],
        "speedup": f"{latency['speedup']['median']:.2f}x" if measured else "",
        "verdict": entry["receipt"]["verdict"] if entry["receipt"] else "",
    }
