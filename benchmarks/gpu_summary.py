"""The summary page of a GPU report: four questions, answered from what the steps left behind."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

from exporter import host
from exporter.artifact import Skipped
from exporter.builds import manifest as manifests
from exporter.builds.records import EngineRecord, Manifest
from exporter.errors import InputError
from exporter.measure.nvml import GpuSample, reasons
from exporter.measure.timing import GpuCeilings, Latency, LowerBound
from exporter.prove.certificate import Parity
from exporter.targets import MachineKind, folder_name

TRTEXEC_LOG: Final = "trtexec-{target}-{precision}"
"""The log of trtexec for one engine; "-bN.log" follows, the batch size."""
MATCHES: Final = 0.05
"""Our compute time and trtexec's median should differ by no more than this part."""
_MEDIAN: Final = re.compile(r"GPU Compute Time:.*?median = ([\d.]+) ms")

Row = Sequence[str]


def summarize(
    folder: Path,
    device: MachineKind,
    model: str,
    steps: Mapping[str, Row],
    samples: Sequence[GpuSample],
) -> str:
    """The page, in Markdown; whatever is missing is said to be.

    `steps` are how each ended, how long it took and why it failed.
    """
    here = host.describe_host()
    builds = dict(_builds(folder, steps))
    engines = [(m, e) for m in builds.values() if isinstance(m, Manifest) for e in m.engines]
    title = here.gpu if device is MachineKind.GPU else f"{here.cpu} (a rehearsal without a GPU)"
    versions = ", ".join(f"{name} {version}" for name, version in sorted(here.versions.items()))
    parts = [
        f"# {model} on {title}",
        f"Driver {here.driver or 'none'}, compute capability {here.compute_capability or 'none'}; "
        f"{versions}.",
        "## Does it load?",
        _table(("target", "built and opened", "what failed"), _loads(builds)),
        "## Is it right?",
        _table(
            ("engine", "parity", "scope", "relative error", "SQNR", "limits"),
            (_right(engine) for _, engine in engines),
        ),
        "## Is the receipt what was predicted?",
        _table(
            ("engine", "receipt", "predicted", "residual sums fused", "reason"),
            (_receipt(engine) for _, engine in engines),
        ),
        "## How far from trtexec?",
        _table(
            ("engine", "batch", "ours, compute p50", "trtexec, median", "ours / trtexec"),
            (row for _, engine in engines for row in _trtexec(folder, engine)),
            nothing="No plan that trtexec could load was built.",
        ),
        "## How fast, against eager PyTorch on the same device?",
        _table(
            ("engine", "batch", "end to end p50", "compute p50", f"speedup on the {device}", "95 %",
             "least time / it", "of the ceiling", "J an image", "GPU memory", "marks"),
            (row for manifest, engine in engines for row in _speed(manifest, engine)),
        ),
        _ceilings(builds.values()),
        "## The GPU meanwhile",
        _gpu(samples),
        "## Tests",
        _tests(folder / "tests.xml"),
        "## Steps",
        _table(("step", "ended", "took", "why"), ((name, *step) for name, step in steps.items())),
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part) + "\n"


def _builds(folder: Path, steps: Mapping[str, Row]) -> Iterator[tuple[str, Manifest | str]]:
    """Target's folder -> its manifest, or why there is none."""
    for name, (ending, _, why) in steps.items():
        target = name.removeprefix("export-")
        if target == name:
            continue
        try:
            yield target, manifests.read(folder / "builds" / target)
        except InputError:
            yield target, why or str(ending)


def _loads(builds: Mapping[str, Manifest | str]) -> Iterator[Row]:
    for target, found in builds.items():
        if isinstance(found, str):
            yield target, "no", found
            continue
        opened = [e for e in found.engines if isinstance(e.parity, Parity)]
        names = ", ".join(e.precision for e in opened) or "none"
        yield target, names, "; ".join(found.failures) or "nothing"


def _right(engine: EngineRecord) -> Row:
    parity = engine.parity
    if isinstance(parity, Skipped):
        return engine.id, f"not checked: {parity.skipped}", "", "", "", ""
    limits = ", ".join(f"{key} {value:.3g}" for key, value in parity.limits.items())
    passed = "passed" if parity.passed else "FAILED: " + "; ".join(parity.failures)
    return (
        engine.id, passed, parity.scope, f"{parity.rel_l2:.2g}", f"{parity.sqnr_db:.1f} dB", limits,
    )  # fmt: skip


def _receipt(engine: EngineRecord) -> Row:
    receipt = engine.receipt
    same = "" if receipt.verdict is receipt.expected else " (NOT as predicted)"
    sums = f"{receipt.residual_adds_fused}/{receipt.residual_adds}"
    return engine.id, f"{receipt.verdict}{same}", receipt.expected, sums, receipt.reason or ""


def _trtexec(folder: Path, engine: EngineRecord) -> Iterator[Row]:
    """Our figure beside NVIDIA's, for each batch size at which either was measured."""
    lines = engine.requires.get("trtexec", {})
    ours = {one.batch: one.compute for one in engine.latencies}
    name = TRTEXEC_LOG.format(target=folder_name(engine.target), precision=engine.precision)
    for batch in map(int, lines):
        log = folder / f"{name}-b{batch}.log"
        theirs = trtexec_median_ms(log)
        compute = ours.get(batch)
        shown = f"{compute.p50_ms:.4f} ms" if compute else "not measured"
        if theirs is None or compute is None:
            why = "trtexec is not in PATH" if not log.exists() else "no GPU Compute Time in its log"
            yield engine.id, str(batch), shown, why if theirs is None else f"{theirs} ms", ""
            continue
        ratio = compute.p50_ms / theirs
        mark = "" if abs(ratio - 1) <= MATCHES else " (they should match)"
        yield engine.id, str(batch), shown, f"{theirs:.4f} ms", f"{ratio:.3f}{mark}"


def trtexec_median_ms(log: Path) -> float | None:
    """The median of trtexec's "GPU Compute Time" in its output; None: there is none."""
    if not log.exists():
        return None
    found = _MEDIAN.search(log.read_text(encoding="utf-8", errors="replace"))
    return float(found[1]) if found else None


def _speed(manifest: Manifest, engine: EngineRecord) -> Iterator[Row]:
    if isinstance(engine.latency, Skipped):
        yield engine.id, "", engine.latency.skipped, "", "", "", "", "", "", "", ""
    for one in engine.latencies:
        low, high = one.speedup.ci95
        use = None if isinstance(one.gpu, Skipped) else one.gpu
        marks = [f"held down: {', '.join(one.throttled)}"] if one.throttled else []
        marks += [] if one.stable else ["unstable"]
        yield (
            engine.id, str(one.batch), f"{one.p50_ms:.3f} ms",
            f"{one.compute.p50_ms:.4f} ms" if one.compute else "-",
            f"{one.speedup.median:.2f}", f"{low:.2f} to {high:.2f}", _of_bound(engine, one),
            _of_ceiling(manifest, engine, one),
            f"{use.energy_per_image_j:.4f}" if use and use.energy_per_image_j else "-",
            f"{use.memory_bytes / 1e6:.0f} MB" if use and use.memory_bytes else "-",
            ", ".join(marks) or "-",
        )  # fmt: skip


def _of_bound(engine: EngineRecord, latency: Latency) -> str:
    """How much of what it takes its kernels must take."""
    bound = engine.bound
    if not isinstance(bound, LowerBound) or bound.batch != latency.batch or not latency.compute:
        return "-"
    return f"{bound.least_us / 1e3 / latency.compute.p50_ms:.0%}"


def _of_ceiling(manifest: Manifest, engine: EngineRecord, latency: Latency) -> str:
    """The network's own arithmetic a second, of the most that its precision reaches here."""
    ceilings = manifest.host.gpu_ceilings
    if isinstance(ceilings, Skipped) or not latency.compute:
        return "-"
    most = ceilings.gops.get(engine.precision)
    gops = 2 * manifest.model.macs * latency.batch / latency.compute.p50_ms / 1e6
    return f"{gops / most:.0%}" if most else "-"


def _ceilings(builds: Iterable[Manifest | str]) -> str:
    for found in builds:
        if isinstance(found, Manifest) and isinstance(found.host.gpu_ceilings, GpuCeilings):
            ceilings = found.host.gpu_ceilings
            rates = ", ".join(f"{name} {g / 1e3:.1f} TOP/s" for name, g in ceilings.gops.items())
            return f"Ceilings of this GPU, by PyTorch: {rates}; copy {ceilings.copy_gb_s:.0f} GB/s."
    return ""


def _gpu(samples: Sequence[GpuSample]) -> str:
    if not samples:
        return "Not sampled; nvml.jsonl says why."
    clocks = [sample.sm_clock_mhz for sample in samples]
    held = ", ".join(reasons(samples)) or "nothing"
    return (
        f"{len(samples)} samples (nvml.jsonl): clock {min(clocks)} to {max(clocks)} MHz, at most "
        f"{max(s.temperature_c for s in samples)} °C and {max(s.power_w for s in samples):.0f} W; "
        f"held down by: {held}."
    )


def _tests(report: Path) -> str:
    """Counts of the tests that need a GPU, and what failed."""
    if not report.exists():
        return "Not run: see the steps."
    suite = next(ET.parse(report).iter("testsuite"))  # noqa: S314 - pytest has just written it
    counts = {key: int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")}
    passed = counts["tests"] - counts["failures"] - counts["errors"] - counts["skipped"]
    text = (
        f"{passed} passed, {counts['failures']} failed, {counts['errors']} errors, "
        f"{counts['skipped']} skipped."
    )
    failed = [
        f"* {case.get('name')}: {_first_line(problem)}"
        for case in suite.iter("testcase")
        for problem in (*case.findall("failure"), *case.findall("error"))
    ]
    return "\n".join([text, *failed])


def _first_line(problem: ET.Element) -> str:
    return (problem.get("message") or "").strip().partition("\n")[0][:200]


def _table(heading: Row, rows: Iterable[Row], nothing: str = "Nothing was built.") -> str:
    lines = [_line(heading), _line(["---"] * len(heading)), *map(_line, rows)]
    return "\n".join(lines) if len(lines) > 2 else nothing


def _line(cells: Iterable[Any]) -> str:
    return "| " + " | ".join(" ".join(str(c).replace("|", "/").split()) for c in cells) + " |"
