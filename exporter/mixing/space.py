"""The engines of one target that differ in the blocks they keep in float, built as they are tried.

Every set is lowered from one calibration, with the corrections of the all-INT8 graph.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from exporter import host
from exporter.artifact import Dialect, PassReport, Precision
from exporter.builds.run import Run
from exporter.graph.files import load, serialize
from exporter.graph.lower import lower
from exporter.graph.optimize import OptimizedModel
from exporter.lowerings import LoweredGraph, lowered_to, save_lowered
from exporter.passes.qdq.ranges import Ranges
from exporter.passes.units import Unit, kept_names, units_of
from exporter.passes.values import is_inside
from exporter.quantize.transplant import transplant
from exporter.search.points import Kept, PointFile
from exporter.search.split import Split
from exporter.search.times import PairedTimes
from exporter.search.trials import Trials
from exporter.targets import BuildOptions, Target

_ALGORITHM: Final = 1
"""Part of the names of kept points; raised when the same set would have other figures."""


@dataclass(frozen=True)
class Space:
    """The engines of one target that differ in which units they keep in float."""

    run: Run
    network: OptimizedModel
    ranges: Ranges
    target: Target
    start: LoweredGraph
    """All in INT8 and corrected."""
    kept_in: Precision
    """The float type of the units that are kept."""

    @property
    def name(self) -> str:
        return f"{self.target.name}.{Precision.MIXED}"

    @property
    def units(self) -> Mapping[str, Unit]:
        """What may be kept, by name, in the graph's order."""
        units = units_of(self.network.graph, self.network.facts.blocks)
        return {unit.name: unit for unit in units}

    @property
    def dialect(self) -> Dialect:
        return self.target.dialect(Precision.INT8)

    def lowered(self, kept: Kept, path: Path) -> LoweredGraph:
        """Writes the graph that keeps these units in float.

        Raises:
            BuildError: nothing is left to quantize, or the graph is not valid.
        """
        network, run = self.network, self.run
        keep, counted = kept_names(self.units, kept)
        to = lowered_to(run, Precision.INT8, self.dialect, self.ranges)
        graph, reports = lower(network.graph, replace(to, chosen=keep, chosen_type=self.kept_in))
        quantized, *others = reports
        reports = (_but_for(quantized, keep), *others)
        transplant(load(self.start.unbaked), graph)
        lowered = save_lowered(run, network, graph, reports, path)
        return replace(lowered, chosen=dict.fromkeys(counted, self.kept_in))

    def built(self, kept: Kept, name: str = "") -> Path:
        """Builds that engine; without a `name` of its own in the place of the one before.

        Raises:
            BuildError: see `lowered`; or the target refuses the graph.
        """
        scratch = self.run.scratch
        name = name or ("candidate" if kept else "base")
        lowered = self.lowered(kept, scratch / f"{name}.graph.onnx")
        return self.target.build(
            lowered.path, Precision.INT8, scratch / name, BuildOptions()
        ).files[0]

    @contextmanager
    def trials(self, parts: Split) -> Iterator[Trials]:
        """What is tried of them, kept for a search that goes on after an interruption."""
        folder, conditions = host.cache_folder("search"), self.run.conditions
        path = None if folder is None else folder / f"{self._key(parts)}.jsonl"
        with PairedTimes(
            self.target.name,
            lambda: self.built(()),
            self.network.model.spec.inputs,
            conditions,
        ) as times:
            file = PointFile(path, self.run.progress)
            yield Trials(list(self.units), self, parts, times, file, conditions.threads)

    def _key(self, parts: Split) -> str:
        """Names what was measured by all that it depends on."""
        here, request = host.describe_host(), self.run.request
        told = [
            str(_ALGORITHM),
            self.target.name,
            self.kept_in,
            str(sorted(host.versions().items())),
            here.cpu,
            str((self.run.conditions.threads, request.batches, request.keep)),
            str(request.bake_preprocess),
            hashlib.sha256(serialize(self.network.graph)).hexdigest(),
            hashlib.sha256(self.start.unbaked.read_bytes()).hexdigest(),
            parts.searched.inputs.sha256,
            parts.held_out.inputs.sha256,
            hashlib.sha256(parts.searched.outputs.tobytes()).hexdigest(),
        ]
        return hashlib.sha256("\n".join(told).encode()).hexdigest()


def _but_for(report: PassReport, kept: Iterable[str]) -> PassReport:
    """The quantization's report without what was left in float because the search keeps it."""
    refused = [one for one in report.refused if not any(is_inside(one[0], name) for name in kept)]
    return replace(report, refused=tuple(refused))
