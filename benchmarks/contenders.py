"""Who is measured: an entry of the suite's table with the file that it loads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks import artifacts
from benchmarks.analysis import AGAIN_SUFFIX
from benchmarks.artifacts import Artifacts
from benchmarks.sampling import Contender
from benchmarks.settings import Settings
from benchmarks.suite import AGAIN, Entry, Role, Suite
from exporter.artifact import Skipped
from exporter.progress import Progress
from exporter.targets import target_class


def prepare(suite: Suite, model: str, settings: Settings, progress: Progress) -> Artifacts:
    """The files of one model."""
    return artifacts.build(
        model,
        [entry.artifact for entry in suite.entries],
        image_size=suite.image_size,
        seed=settings.seed,
        cache=settings.cache,
        progress=progress,
    )


def contenders(
    entries: Sequence[Entry], files: Artifacts, *, again: Sequence[str] = AGAIN
) -> list[Contender]:
    """Everyone in the table's order, the baseline first, then those of `again` a second time."""
    found = [_contender(entry, files) for entry in entries]
    return found + [
        replace(one, name=f"{one.name}{AGAIN_SUFFIX}", role=Role.AGAIN)
        for one in found
        if one.name in again and not isinstance(one.job, Skipped)
    ]


def _contender(entry: Entry, files: Artifacts) -> Contender:
    path = files.files[entry.artifact]
    facts = {
        "bytes": files.bytes(entry.artifact),
        "broken": entry.artifact in files.broken,
    }
    if isinstance(path, Skipped):
        return Contender(entry.name, entry.role, entry.precision, path, facts)
    job = {
        "kind": entry.kind,
        "path": str(path),
        "shape": files.spec.image_shape,
        "dtype": files.spec.input.dtype,
        **entry.options,
    }
    if entry.kind == "engine":
        job["cuda_graph"] = target_class(str(entry.options["target"])).cuda_graph
    return Contender(entry.name, entry.role, entry.precision, job, facts)
