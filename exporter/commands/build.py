"""A build in a program: made, opened, read, checked, measured and packed, as the command line does.

Everything that did not pass is a value (`Build.failures`); what is raised is an `ExporterError`,
for a request that cannot be carried out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.builds import manifest as manifests
from exporter.builds.benchmark_request import BenchmarkRequest, MeasuringRequest
from exporter.builds.capacity_request import CapacityRequest
from exporter.builds.dataset_request import EvaluateRequest
from exporter.builds.folder import find_build
from exporter.builds.gate_request import GateRequest
from exporter.builds.option import arguments, narrowed, refuse_unusable
from exporter.builds.records import EngineRecord, Manifest
from exporter.builds.request import ValidateRequest
from exporter.commands.calls import (
    BenchmarkCall,
    CapacityCall,
    EvaluateCall,
    GateCall,
    PackCall,
    ValidateCall,
    shown,
    takes,
)
from exporter.errors import UnknownEngineError, unknown_name
from exporter.pack.request import PackRequest
from exporter.progress import Silent, text_console

if TYPE_CHECKING:
    from exporter.capacity.record import Plan
    from exporter.commands.benchmark import Benchmark
    from exporter.commands.evaluate import Evaluation
    from exporter.commands.gate import Gated
    from exporter.commands.validate import Validation
    from exporter.pack.formats import Packed


class Build(Mapping[str, EngineRecord]):
    """A finished build: a folder, and the record of it, by engine id.

    `build["ort-cpu.int8"]` is everything that was proved and measured of one engine; the mapping
    has every engine of which there is a file, those that a gate rejected too (`passed` tells).

    >>> import exporter
    >>> build = exporter.export("resnet20-digits", targets=["ort-cpu"], precisions=["fp32"],
    ...                         measure=False, out="build/digits")
    >>> list(build), build.failures
    (['ort-cpu.fp32'], ())
    >>> build["ort-cpu.fp32"].accuracy.top1 > 0.9
    True
    """

    def __init__(self, path: Path, manifest: Manifest, notes: Sequence[str] = ()) -> None:
        self._path = path
        self._manifest = manifest
        self._notes = tuple(notes)
        self._found: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The build's folder: manifest.json, report.html, engines/, onnx/."""
        return self._path

    @property
    def manifest(self) -> Manifest:
        """All of what `manifest.json` holds: the model, the request, the machine, the engines."""
        return self._manifest

    @property
    def engines(self) -> tuple[EngineRecord, ...]:
        """Every engine of which there is a file, in the order they were asked for."""
        return self._manifest.engines

    @property
    def fastest(self) -> EngineRecord | None:
        """The engine with the highest speedup of those that passed every gate; None: no such."""
        return self._manifest.fastest

    @property
    def failures(self) -> tuple[str, ...]:
        """What failed in the export and in this object's last check: "engine: why", a line each.

        The last check is the latest `validate()`, `gate()` or `benchmark()`.
        """
        return (*self._manifest.failures, *self._found)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know: untrained weights, synthetic calibration; a paragraph each."""
        return self._notes

    def __getitem__(self, engine: str) -> EngineRecord:
        """The engine of that id, as in "ort-cpu.int8".

        Raises:
            UnknownEngineError: there is none of that id (a KeyError, too), or it was not built; the
                message says why.
        """
        found = self._manifest.engine(engine)
        if found is not None:
            return found
        failed = {one.id: one for one in self._manifest.failed_engines}
        if engine in failed:
            one = failed[engine]
            raise UnknownEngineError(f"{engine} failed to {one.stage}: {one.reason}")
        raise UnknownEngineError(str(unknown_name("engine", str(engine), [*self, *failed])))

    def __iter__(self) -> Iterator[str]:
        return (engine.id for engine in self._manifest.engines)

    def __len__(self) -> int:
        return len(self._manifest.engines)

    @takes(ValidateCall)
    def validate(self, request_for: Callable[[Path], ValidateCall]) -> Validation:  # noqa: D417
        """Check every engine: its files' hashes, and its answers to the golden inputs.

        Args:
            {options}
            progress: see `exporter.export`.

        Returns:
            What became of each engine, and the failures, which `failures` has as well. With
            `blocks`, each engine's record then has the error of its residual blocks.

        Raises:
            InputError: the build or its goldens are gone, or damaged.

        >>> import exporter
        >>> exporter.open_build("build/digits").validate().failures
        ()
        """
        from exporter.commands.validate import validate_build

        call = request_for(self.path)
        refuse_unusable(narrowed(ValidateRequest, call))
        progress = shown(call.progress)
        outcome = validate_build(
            self.path, blocks=call.blocks, threads=call.threads, progress=progress
        )
        self._learn(outcome.manifest, outcome.failures, progress.notes)
        return outcome

    @takes(GateCall)
    def gate(self, request_for: Callable[[Path], GateCall]) -> Gated:  # noqa: D417
        """May it be released? Every engine against the float32 reference, on your images.

        Args:
            {options}
            progress: see `exporter.export`.

        Returns:
            Each engine's decision with the counts and bounds behind it, and the failures, which
            `failures` has as well. The build's record has it as `manifest.gate`.

        Raises:
            UsageError: nothing can be gated as asked.
            InputError: the build, the images or the labels cannot be used.
        """
        from exporter.commands.gate import gate

        call = request_for(self.path)
        request = narrowed(GateRequest, call)
        refuse_unusable(request)
        progress = shown(call.progress)
        outcome = gate(request, progress)
        self._learn(outcome.manifest, outcome.failures, progress.notes)
        return outcome

    @takes(CapacityCall)
    def capacity(self, request_for: Callable[[Path], CapacityCall]) -> Plan:  # noqa: D417
        """Plan a service of one engine: how many machines a rate takes, and each one's set-up.

        >>> import exporter
        >>> build = exporter.open_build("build/resnet50")  # doctest: +SKIP
        >>> build.capacity(rate=500, slo_ms=100).machines  # doctest: +SKIP
        9

        Args:
            {options}
            progress: see `exporter.export`.

        Returns:
            The plan, with what it assumes; with `out` the files are written, too.

        Raises:
            UsageError: nothing can be planned as asked, or no set-up keeps the limit.
            InputError: the trace cannot be used.
        """
        from exporter.commands.capacity import capacity

        call = request_for(self.path)
        request = narrowed(CapacityRequest, call)
        refuse_unusable(request)
        return capacity(request, shown(call.progress)).plan

    @takes(EvaluateCall)
    def evaluate(self, request_for: Callable[[Path], EvaluateCall]) -> Evaluation:  # noqa: D417
        """Count how right every engine is on many pictures, and how often it differs.

        Args:
            {options}
            progress: see `exporter.export`.
        """
        from exporter.commands.evaluate import evaluate

        call = request_for(self.path)
        request = narrowed(EvaluateRequest, call)
        refuse_unusable(request)
        return evaluate(request, shown(call.progress))

    @takes(BenchmarkCall)
    def benchmark(self, request_for: Callable[[Path], BenchmarkCall]) -> Benchmark:  # noqa: D417
        """Measure every engine against eager PyTorch again, here; the record and report follow.

        Args:
            model: what the build was made of, where its name does not say where that is: a name as
                `exporter.export` takes it, or the torch.nn.Module. Its weights must be the build's.
            {options}
            progress: see `exporter.export`.

        Returns:
            The new record, and each engine that broke on the way.

        Raises:
            UsageError: the model or its weights are not those of the build, it was a module and is
                not given, or it does not take the batch sizes.

        >>> import exporter
        >>> build = exporter.open_build("build/digits")
        >>> build.benchmark(batches=[1, 4], threads=1, rounds=5).failures
        ()
        >>> [latency.batch for latency in build["ort-cpu.fp32"].latencies]  # p50_ms, speedup, ...
        [1, 4]
        """
        from exporter.commands.benchmark import benchmark_build

        call = request_for(self.path)
        named = call.model if isinstance(call.model, str) else None
        module = None if isinstance(call.model, str) else call.model
        options = narrowed(MeasuringRequest, call)
        request = BenchmarkRequest(self.path, model=named, **arguments(options))
        refuse_unusable(request)
        progress = shown(call.progress)
        outcome = benchmark_build(request, progress, module)
        self._learn(outcome.manifest, outcome.failures, progress.notes)
        return outcome

    @takes(PackCall)
    def pack(self, request_for: Callable[[Path], PackCall]) -> Packed:  # noqa: D417
        """Pack the build for production.

        Args:
            {options}
            progress: see `exporter.export`.

        Returns:
            Where it is (`path`), the engines in it, and what the user should know (`notes`).

        Raises:
            UsageError: an option or an engine that the format has not, untrained weights, or an
                `out` that holds something else.
            InputError: the build was changed since it was proved.
            NotReproducedError: an engine no longer answers as it did.

        >>> import exporter
        >>> packed = exporter.open_build("build/digits").pack("bundle", "digits")
        >>> engine = exporter.load(packed.path)
        >>> engine.id
        'ort-cpu.fp32'
        """
        from exporter.pack.formats import pack

        call = request_for(self.path)
        request = narrowed(PackRequest, call)
        refuse_unusable(request)
        return pack(request, shown(call.progress))

    def explain(self, engine: str = "", *, error: bool = False) -> str:
        """What became of each block in one engine, or in all, and why it is not faster, as a text.

        Args:
            engine: one engine's id.
            error: where the error of 8-bit engines comes from, instead.

        Raises:
            UsageError: the build has no such engine, or none in 8 bits where `error` is asked for.
        """
        from exporter.builds.explain_request import ExplainRequest
        from exporter.commands.explaining import explain, render

        console, text = text_console()
        request = ExplainRequest(self.path, engine=engine, error=error)
        render(explain(request, Silent()), console)
        return text.getvalue()

    def __repr__(self) -> str:
        """The table that the command line prints."""
        from exporter.commands import tables

        console, text = text_console()
        tables.engines(self._manifest, console)
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())

    def _repr_html_(self) -> str:
        """The first screen of the report."""
        from exporter.report.page import render_embedded

        return render_embedded(self._manifest)

    def _learn(self, manifest: Manifest, found: Sequence[str], notes: Sequence[str]) -> None:
        self._manifest = manifest
        self._found = tuple(found)
        self._notes = tuple(dict.fromkeys((*self._notes, *notes)))


def open_build(path: str | os.PathLike[str]) -> Build:
    """The build in a folder that `export` wrote, or of a model that it was given (`build/MODEL`).

    Raises:
        InputError: no build there, one of another version, or a damaged one.

    >>> import exporter
    >>> build = exporter.open_build("build/digits")
    >>> build.manifest.model.name
    'resnet20-digits'
    """
    folder = find_build(path)
    return Build(folder, manifests.read(folder))
