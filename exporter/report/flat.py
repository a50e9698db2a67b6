"""report.json: the manifest as a flat row for each engine, for scripts and `exporter compare`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from exporter.artifact import REJECTED
from exporter.builds.manifest import from_json

KIND: Final = "report"
HOST_KEYS: Final = ("cpu", "system", "logical_cpus", "cpu_flags", "gpu", "compute_capability")
"""What timings depend on, whatever the software: two hosts that differ here are two hosts."""


def flat(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The flat view of a manifest. Where a figure was not obtained, a `..._skipped` says why."""
    model, host, data = manifest["model"], manifest["host"], manifest["data"]
    return {
        "schema": manifest["schema"],
        "kind": KIND,
        "model": model["name"],
        "trained": model["weights"]["trained"],
        "weights_sha256": model["weights"]["sha256"],
        "evaluation_sha256": data["evaluation"].get("sha256"),
        "host": {key: host.get(key) for key in HOST_KEYS},
        "versions": host["versions"],
        "recommended": _fastest(manifest),
        "failures": manifest["failures"],
        "engines": [_row(engine) for engine in manifest["engines"]],
    }


def _row(engine: Mapping[str, Any]) -> dict[str, Any]:
    receipt, parity = engine["receipt"], engine["parity"]
    accuracy = engine["accuracy"] or {}
    latency = engine["latency"]
    return {
        **{key: engine[key] for key in ("id", "target", "precision", "path", "sha256", "bytes")},
        "rejected": engine["path"].endswith(REJECTED),
        "receipt_verdict": receipt["verdict"],
        "receipt_expected": receipt["expected"],
        "receipt_reason": receipt["reason"],
        "convs": receipt["convs"],
        "convs_quantized": receipt["convs_quantized"],
        "batchnorms_folded": receipt["batchnorms_folded"],
        "residual_adds": receipt["residual_adds"],
        "residual_adds_fused": receipt["residual_adds_fused"],
        "float_ops": receipt["float_ops"],
        "extra_kernels": receipt["extra_kernels"],
        "parity_skipped": parity.get("skipped"),
        "parity_passed": parity.get("passed"),
        "parity_scope": parity.get("scope"),
        "max_abs": parity.get("max_abs"),
        "rel_l2": parity.get("rel_l2"),
        "cosine": parity.get("cosine"),
        "sqnr_db": parity.get("sqnr_db"),
        "top1_agreement": parity.get("top1_agreement"),
        "top1": accuracy.get("top1"),
        "top1_reference": accuracy.get("top1_reference"),
        "latency_skipped": latency.get("skipped"),
        "latencies": [_timing(one) for one in timings(engine)],
    }


def timings(engine: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """All measurements of an engine, one a batch size."""
    by_batch: list[Mapping[str, Any]] = engine["latency_by_batch"]
    latency = engine["latency"]
    return by_batch or ([] if "skipped" in latency else [latency])


def _timing(latency: Mapping[str, Any]) -> dict[str, Any]:
    low, high = latency["speedup"]["ci95"]
    keys = ("batch", "threads", "baseline", "rounds", "p50_ms", "p90_ms", "p99_ms", "eager_p50_ms")
    return {
        **{key: latency[key] for key in keys},
        "speedup": latency["speedup"]["median"],
        "speedup_low": low,
        "speedup_high": high,
        "stable": latency["stable"],
    }


def _fastest(manifest: Mapping[str, Any]) -> str | None:
    best = from_json(dict(manifest), "the manifest").fastest
    return best.id if best else None
