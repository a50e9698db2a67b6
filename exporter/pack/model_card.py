"""The model card: what a person should know before serving this model, in Markdown.

After Mitchell et al. 2019, "Model Cards for Model Reporting": details, intended use, factors,
metrics, evaluation data, limits. Every figure is the manifest's.
"""

from __future__ import annotations

from collections.abc import Sequence

from exporter.artifact import Skipped
from exporter.builds.records import EngineRecord, Manifest
from exporter.measure.timing import Latency
from exporter.pack.packable import Release
from exporter.pack.template_files import render
from exporter.pack.tolerances import parity_of
from exporter.prove.certificate import OutputParity, Parity
from exporter.targets import MachineKind


def model_card(release: Release) -> str:
    """The text of MODEL_CARD.md."""
    manifest = release.manifest
    model = manifest.model
    return render(
        "model_card.md.j2",
        model=model,
        bundle=release.bundle,
        data=manifest.data,
        baseline=manifest.baseline,
        references=" and ".join(dict.fromkeys(parity_of(e).reference for e in release.engines)),
        host=manifest.host,
        known=None if isinstance(model.preprocessing, Skipped) else model.preprocessing,
        classes=len(release.labels),
        labels=release.labels[:5],
        batch=_batch(release.engines),
        machines=_machines(manifest),
        mixed=[(engine.id, engine.search.in_words) for engine in release.engines if engine.search],
        rows=[_row(engine) for engine in release.engines],
        under_load=None if isinstance(manifest.throughput, Skipped) else manifest.throughput,
        gate=None if isinstance(manifest.gate, Skipped) else manifest.gate,
        evaluated_on_labels=any(engine.accuracy for engine in release.engines),
        synthetic="synthetic" in manifest.data.evaluation.source,
    )


def _batch(engines: Sequence[EngineRecord]) -> int:
    """The batch size that the table's latencies were measured at."""
    measured = [e.latency.batch for e in engines if isinstance(e.latency, Latency)]
    return measured[0] if measured else 1


def _machines(manifest: Manifest) -> str:
    """What the latencies were measured on: the CPU, the GPU, or each its own."""
    names = {MachineKind.CPU: manifest.host.cpu, MachineKind.GPU: manifest.host.gpu or "a GPU"}
    return " and ".join(names[device] for device in manifest.devices or (MachineKind.CPU,))


def _speedup(latency: Latency) -> str:
    low, high = latency.speedup.ci95
    stable = "" if latency.stable else ", unstable"
    where = "" if latency.device is MachineKind.CPU else f" on the {latency.device}"
    return f"{latency.speedup.median:.2f}x{where} ({low:.2f} to {high:.2f}{stable})"


def _agreement(parity: Parity) -> str:
    found = parity.top1_agreement
    return "no classes" if isinstance(found, Skipped) else f"{100 * found:.1f} %"


def _row(engine: EngineRecord) -> dict[str, str | tuple[OutputParity, ...]]:
    """One engine as the card's tables show it."""
    parity, accuracy, latency = parity_of(engine), engine.accuracy, engine.latency
    return {
        "id": engine.id,
        "size": f"{engine.bytes / 1e6:.1f} MB",
        "sha256": engine.files[0].sha256[:16],
        "error": f"{parity.rel_l2:.2g}",
        "sqnr": f"{parity.sqnr_db:.0f} dB",
        "agreement": _agreement(parity),
        "scope": parity.scope,
        "top1": f"{100 * accuracy.top1:.2f} %" if accuracy else "no labels",
        "top1_reference": f"{100 * accuracy.top1_reference:.2f} %" if accuracy else "no labels",
        "latency": latency.skipped if isinstance(latency, Skipped) else f"{latency.p50_ms:.2f} ms",
        "speedup": "" if isinstance(latency, Skipped) else _speedup(latency),
        "verdict": engine.receipt.verdict,
        "outputs": parity.outputs,
    }
