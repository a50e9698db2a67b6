"""Commands on a build that exists: replay its goldens, measure it again.

They change the build's manifest and report, never its engines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from exporter import host, report
from exporter.artifact import Latency, Parity, Precision, Skipped
from exporter.builds import manifest
from exporter.builds.folder import REJECTED, BuildFolder, sha256_of
from exporter.errors import InputError, UsageError
from exporter.graph.bake import from_images
from exporter.measure import interleaved as measure
from exporter.measure.ceilings import measure_ceilings
from exporter.measure.profile import profile_records
from exporter.models.sources import define
from exporter.progress import Progress
from exporter.prove import drift
from exporter.prove.parity import BATCH, Reference, check_parity
from exporter.targets import get_target


@dataclass(frozen=True)
class Validation:
    """What `exporter validate` found."""

    manifest: dict[str, Any]
    replays: tuple[dict[str, Any], ...]
    """A row an engine: id, files, samples, rel_l2, sqnr, passed, verdict."""
    failures: tuple[str, ...]


def validate_build(
    folder: Path, *, blocks: bool, threads: int | None, progress: Progress
) -> Validation:
    """Checks every engine's files by hash and its answers on the golden inputs.

    With `blocks`, also the drift at each residual block, which goes into the manifest and report.

    Raises:
        InputError: no build there, or its goldens are missing or changed beyond reading.
    """
    described = manifest.read(folder)
    reference = read_goldens(folder)
    declared = described["model"]["input"]["shape"][0]
    rows = []
    failures = []
    for engine in described["engines"]:
        row = _replay(folder, engine, reference, declared, threads, progress)
        rows.append(row)
        if not row["passed"] and not row["verdict"].startswith("not run"):
            failures.append(f"{engine['id']}: {row['verdict']}")
    if blocks:
        failures.extend(drift.add_drift(folder, described, threads, progress))
        manifest.write(folder, described)
        report.write_report(folder, described)
    return Validation(described, tuple(rows), tuple(failures))


def read_goldens(folder: Path) -> Reference:
    """The golden inputs and what eager answered to them."""
    path = BuildFolder(folder, "").golden
    try:
        with np.load(path, allow_pickle=False) as arrays:
            inputs, outputs = arrays["inputs"], arrays["outputs"]
            exact = arrays.get("outputs_float64")
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise InputError(f"{path} cannot be read ({error}); export the model again") from None
    return Reference(
        source="golden.npz",
        inputs=inputs,
        outputs=outputs.reshape(len(outputs), -1).astype(np.float64),
        outputs_float64=Skipped("the build has no float64 goldens")
        if exact is None
        else exact.reshape(len(exact), -1),
    )


def _replay(
    folder: Path,
    engine: Mapping[str, Any],
    reference: Reference,
    declared: int | str,
    threads: int | None,
    progress: Progress,
) -> dict[str, Any]:
    row = {
        "id": engine["id"],
        "files": "changed",
        "samples": len(reference.inputs),
        "rel_l2": "",
        "sqnr": "",
        "passed": False,
    }
    for file in engine["files"]:
        path = folder / file["path"]
        if not path.is_file():
            return {**row, "files": "missing", "verdict": f"{file['path']} is missing"}
        if sha256_of(path) != file["sha256"]:
            return {**row, "verdict": f"{file['path']} is not the file that was validated"}
    row["files"] = "intact"
    if engine["path"].endswith(REJECTED):
        return {**row, "verdict": "not run: it was rejected when it was built"}
    target = get_target(engine["target"])
    absent = target.runs_here()
    if absent is not None:
        return {**row, "verdict": f"not run here: {absent.skipped}"}
    with target.open(folder / engine["path"], threads or host.usable_threads()) as session:
        parity, _ = check_parity(
            session,
            reference,
            Precision(engine["precision"]),
            trained=engine["trained"],
            scope="engine",
            size=declared if isinstance(declared, int) else BATCH,
            dynamic=not isinstance(declared, int),
            progress=progress,
            title=engine["id"],
        )
    return {**row, **_figures(parity)}


def _figures(parity: Parity) -> dict[str, Any]:
    return {
        "rel_l2": f"{parity.rel_l2:.2e}",
        "sqnr": f"{parity.sqnr_db:.1f} dB",
        "passed": parity.passed,
        "verdict": "; ".join(parity.failures),
    }


def benchmark_build(
    folder: Path,
    *,
    model: str | None,
    weights: str,
    batches: tuple[int, ...],
    threads: int | None,
    rounds: int,
    progress: Progress,
) -> dict[str, Any]:
    """Measures the engines of a build again, against the same model; returns the manifest.

    Raises:
        UsageError: the model or the weights given are not those of the build.
    """
    described = manifest.read(folder)
    entry, request = described["model"], described["request"]
    with progress.stage(f"define {entry['source']}"):
        defined = define(
            model or entry["source"],
            weights,
            num_classes=request["num_classes"],
            image_size=request["image_size"],
            seed=request["seed"],
            progress=progress,
        )
    if defined.spec.weights.sha256 != entry["weights"]["sha256"]:
        raise UsageError(
            f"the build was made from the weights {entry['weights']['source']!r}, these are "
            f"{defined.spec.weights.source!r} with another hash; give the build's with --weights"
        )
    if entry["input"]["dtype"] != defined.spec.input.dtype:
        defined = from_images(defined)
    declared = entry["input"]["shape"][0]
    sizes = (declared,) if isinstance(declared, int) else batches
    measurable = [
        engine
        for engine in described["engines"]
        if not engine["path"].endswith(REJECTED)
        and get_target(engine["target"]).runs_here() is None
    ]
    results = measure.measure(
        [measure.EngineToMeasure(e["id"], e["target"], folder / e["path"]) for e in measurable],
        measure.baseline_of(defined),
        batches=sizes,
        threads=threads or host.usable_threads(),
        rounds=rounds,
        seed=request["seed"],
        progress=progress,
    )
    for engine in measurable:
        by_batch = results[engine["id"]]
        engine["latency"] = manifest.plain(by_batch[sizes[0]])
        engine["latency_by_batch"] = manifest.plain(
            [latency for latency in by_batch.values() if isinstance(latency, Latency)]
        )
    profiles = profile_records(
        described["engines"],
        folder,
        BuildFolder(folder, entry["name"]).graph(Precision.FP32),
        blocks=entry["residual_blocks"],
        threads=threads or host.usable_threads(),
        shape=entry["input"]["shape"],
        dtype=entry["input"]["dtype"],
        seed=request["seed"],
        progress=progress,
    )
    for engine in described["engines"]:
        engine["profile"] = manifest.plain(profiles[engine["id"]])
    ceilings = measure_ceilings(threads or host.usable_threads())
    described["host"] = manifest.plain(host.describe_host())
    described["host"]["ceilings"] = manifest.plain(ceilings)
    manifest.write(folder, described)
    report.write_report(folder, described)
    return described
