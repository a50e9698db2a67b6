"""A result from the events of a raw file: nothing here measures, so it can be done again.

A result is also a flat view of engines (`exporter.report.flat`), so that `exporter compare OLD NEW`
takes two of them; each row is one engine on one model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from benchmarks import ceilings
from benchmarks.groups import Group, groups_of
from benchmarks.machine import BUSY
from benchmarks.record import Event, described
from benchmarks.statistics import SAME_ENGINE, judge, speedup, versus_best
from benchmarks.suite import ENTRIES, FP32_OF, Role
from exporter.builds import manifest as manifests
from exporter.commands.compare import BENCHMARK
from exporter.measure.nvml import GpuSample, reasons
from exporter.measure.statistics import is_stable, percentiles_ms
from exporter.measure.timing import Speedup
from exporter.targets import MachineKind

AGAIN_SUFFIX: Final = " (again)"


def analyse(events: Sequence[Event]) -> dict[str, Any]:
    """The result of a run of the suite: one row for each engine on each model."""
    header = events[0]
    groups = groups_of(events)
    seed = header["seed"]
    kernels = [group for group in groups.values() if group.facts["kind"] == "ceilings"]
    ceiling = ceilings.of(kernels[0].rounds, kernels[0].engines) if kernels else {}
    gpu = next((_without(e) for e in events if e["event"] == "gpu"), None)
    if gpu is not None:
        ceiling = ceilings.of_gpu(gpu["ceilings"])
    models = [group for group in groups.values() if group.facts["kind"] == "model"]
    pairs = [pair for group in models for pair in _same_engine(group, seed)]
    busy = [*_busy(groups), *_throttled(gpu)]
    rows: dict[str, dict[str, Any]] = {}
    for group in models:
        for name in group.engines:
            if group.engines[name]["role"] == Role.AGAIN:
                continue
            row = rows.setdefault(f"{group.facts['model']}/{name}", _row(group, name))
            row["latencies"].append(_latency(group, name, ceiling, seed))
        for event in group.missing:
            rows.setdefault(f"{group.facts['model']}/{event['name']}", _missing(group, event))
    return {
        "schema": manifests.SCHEMA,
        "kind": BENCHMARK,
        "suite": header["suite"],
        "device": models[0].facts.get("device", MachineKind.CPU) if models else MachineKind.CPU,
        **described(header),
        "model": ", ".join(dict.fromkeys(str(group.facts["model"]) for group in models)),
        "weights_sha256": ", ".join(
            dict.fromkeys(str(group.facts["weights_sha256"]) for group in models)
        ),
        "evaluation_sha256": None,
        "machine": {
            "before": header["machine"],
            "after": {key: models[-1].footer[key] for key in ("load_average", "cpu_mhz")}
            if models
            else None,
            "others": max((g.footer["others"] for g in groups.values()), default=0.0),
        },
        "energy": header["energy"],
        "seconds": next((_without(e) for e in events if e["event"] == "seconds"), None),
        "same_engine": pairs,
        "busy": bool(busy),
        "marks": [*busy, *_not_the_same(pairs)],
        "ceilings": ceiling,
        "failures": list(
            dict.fromkeys(
                f"{group.facts['model']}/{event['name']}: {event['why']}"
                for group in models
                for event in group.missing
                if event["role"] == Role.OURS and event["broken"]
            )
        ),
        "engines": sorted(rows.values(), key=_place_in_table(models)),
    }


def _place_in_table(models: Sequence[Group]) -> Callable[[Mapping[str, Any]], tuple[int, int]]:
    """Rows come in the order of the models, and within one in that of the table of engines."""
    order = [str(group.facts["model"]) for group in models]
    names = [entry.name for entry in ENTRIES]
    return lambda row: (order.index(row["model"]), names.index(row["name"]))


def _without(event: Event) -> Event:
    return {key: value for key, value in event.items() if key != "event"}


def _row(group: Group, name: str) -> dict[str, Any]:
    event = group.engines[name]
    return {
        "id": f"{group.facts['model']}/{name}",
        "model": group.facts["model"],
        "name": name,
        "role": event["role"],
        "precision": event["precision"],
        "bytes": event["bytes"],
        "rejected": False,
        "rel_l2": group.rel_l2.get(name),
        "top1": None,
        "parity_skipped": None if name in group.rel_l2 else "its answer was not compared",
        "latency_skipped": None,
        "latencies": [],
    }


def _missing(group: Group, event: Event) -> dict[str, Any]:
    return {
        "id": f"{group.facts['model']}/{event['name']}",
        "model": group.facts["model"],
        **{key: event[key] for key in ("name", "role", "precision")},
        "bytes": None,
        "rejected": False,
        "rel_l2": None,
        "top1": None,
        "parity_skipped": event["why"],
        "latency_skipped": event["why"],
        "latencies": [],
    }


def _latency(group: Group, name: str, ceiling: Mapping[str, Any], seed: int) -> dict[str, Any]:
    event, rounds = group.engines[name], group.rounds[name]
    baseline = group.baseline
    eager = group.rounds[baseline]
    p50, p90, p99 = percentiles_ms(rounds.samples_s)
    eager_p50, eager_p90, _ = percentiles_ms(eager.samples_s)
    over_eager = speedup(rounds, eager, seed)
    batch = group.facts["batch"]
    compute = group.compute.get(name)
    alone = None if compute is None else percentiles_ms(compute.samples_s)[0]
    gops = 2 * group.facts["macs"] * batch / (alone or p50) / 1e6
    roof = ceiling.get(event["precision"])
    energy = group.energy_j.get(name)
    return {
        "batch": batch,
        "threads": group.facts["threads"],
        "baseline": baseline,
        "device": group.facts.get("device", MachineKind.CPU),
        "compute_p50_ms": alone,
        "compute_speedup": speedup(compute, group.compute[baseline], seed).median
        if compute
        else None,
        "rounds": len(rounds.samples_s),
        "warmup": event["warmup"],
        "p50_ms": p50,
        "p90_ms": p90,
        "p99_ms": p99,
        "eager_p50_ms": eager_p50,
        "images_per_s": batch / p50 * 1e3,
        "load_s": event["load_s"],
        "first_inference_s": event["load_s"] + event["first_s"],
        "peak_rss_bytes": event["peak_rss_bytes"],
        "energy_per_image_j": None if energy is None else float(np.median(energy)) / batch,
        **_named("speedup", over_eager),
        "stable": is_stable(over_eager, p90 / p50, eager_p90 / eager_p50),
        **_own_fp32(group, name, seed),
        **_best_peer(group, name, seed),
        "gops": gops,
        "fraction_of_ceiling": None if roof is None else gops / roof["gops"],
    }


def _own_fp32(group: Group, name: str, seed: int) -> dict[str, Any]:
    """The speedup over the FP32 engine of the same runtime, where both were measured."""
    own = FP32_OF.get(name)
    if own not in group.rounds:
        return {}
    return _named("over_own_fp32", speedup(group.rounds[name], group.rounds[own], seed))


def _best_peer(group: Group, name: str, seed: int) -> dict[str, Any]:
    """The speedup over the best peer of the same precision, other than itself."""
    precision = group.engines[name]["precision"]
    peers = {
        peer: group.rounds[peer]
        for peer in group.of(Role.PEER, Role.BASELINE)
        if peer != name and group.engines[peer]["precision"] == precision
    }
    if not peers:
        return {"best_peer": None, "verdict": None}
    best, ratio = versus_best(group.rounds[name], peers, seed)
    return {"best_peer": best, "verdict": judge(ratio), **_named("over_best_peer", ratio)}


def _named(name: str, ratio: Speedup) -> dict[str, float]:
    return {name: ratio.median, f"{name}_low": ratio.ci95[0], f"{name}_high": ratio.ci95[1]}


def _same_engine(group: Group, seed: int) -> Iterable[dict[str, Any]]:
    for name in group.of(Role.AGAIN):
        first = name.removesuffix(AGAIN_SUFFIX)
        if first not in group.rounds:
            continue
        ratio = speedup(group.rounds[name], group.rounds[first], seed)
        yield {
            "group": group.facts["group"],
            "name": first,
            **_named("ratio", ratio),
            "same": abs(ratio.median - 1) <= SAME_ENGINE,
        }


def _not_the_same(pairs: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    for pair in pairs:
        if not pair["same"]:
            yield (
                f"{pair['group']}: {pair['name']} against itself in a second process is "
                f"{pair['ratio']:.3f}, expected 1.00 +- {SAME_ENGINE:.2f}"
            )


def _throttled(gpu: Mapping[str, Any] | None) -> Iterable[str]:
    """That the GPU's clock was held down in the run, and why."""
    samples = [GpuSample(**row) for row in gpu["samples"]] if gpu else []
    held_down = reasons(samples)
    if held_down:
        clocks = [sample.sm_clock_mhz for sample in samples]
        yield (
            f"the GPU's clock was held down ({', '.join(held_down)}), between {min(clocks)} and "
            f"{max(clocks)} MHz"
        )


def _busy(groups: Mapping[str, Group]) -> Iterable[str]:
    for name, group in groups.items():
        others = group.footer["others"]
        if others > BUSY:
            yield (
                f"{name}: others took {others:.1%} of the CPUs during the run "
                f"(busy above {BUSY:.0%}); measure again on an idle machine"
            )
