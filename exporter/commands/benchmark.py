"""`exporter benchmark`: measure a build again, here and now, against the model that it was made of.

It changes the build's manifest and report, never its engines.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from exporter import host
from exporter.artifact import Model, ModelKind, ModelSpec, Precision, Skipped
from exporter.builds import manifest as manifests
from exporter.builds.benchmark_request import BenchmarkRequest
from exporter.builds.describe import describe_host
from exporter.builds.folder import BuildFolder
from exporter.builds.records import NO_THROUGHPUT, Manifest, with_measurement
from exporter.builds.staging import check_writable
from exporter.builds.unused import refuse_batches, refuse_unused_in_benchmark
from exporter.errors import NotReproducedError, UsageError
from exporter.graph.bake import from_images
from exporter.measure.stage import measure_engines
from exporter.measure.timing import Conditions
from exporter.models.input_shapes import Shapes
from exporter.models.inputs import only
from exporter.models.live_module import LiveModule, as_module, from_module
from exporter.models.sources import define
from exporter.progress import Clock, Progress
from exporter.report import write_report

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Benchmark:
    """A build as it was measured last, and each engine that broke on the way."""

    manifest: Manifest
    failures: tuple[str, ...]


def benchmark_build(
    request: BenchmarkRequest, progress: Progress, module: torch.nn.Module | None = None
) -> Benchmark:
    """Measures the engines of a build again.

    `module` is the model, where the program that exported it hands it over again.

    Every figure of an earlier measurement goes, throughput among them, since they belong to the
    machine and the minute of that one: an engine that cannot be measured here says why instead.

    Raises:
        UsageError: the model or the weights given are not those of the build, or the model does
            not take the batch sizes; or an option is about throughput, which is not measured.
    """
    folder = request.build
    refuse_unused_in_benchmark(request)
    manifest = manifests.read(folder)
    refuse_batches(request.batches, manifest.model)
    check_writable(folder)
    defined = _same_model(manifest, request, module, progress)
    conditions = Conditions(
        threads=request.threads or host.usable_threads(),
        rounds=request.rounds,
        seed=manifest.request.seed,
        batches=request.batches,
    )
    found = measure_engines(
        manifest.engines,
        folder,
        defined,
        BuildFolder(folder, manifest.model.name).portable_path(Precision.FP32),
        conditions,
        Clock(),
        progress,
    )
    manifest = replace(
        manifest,
        engines=tuple(with_measurement(e, found.engines[e.id]) for e in manifest.engines),
        host=describe_host(found.ceilings),
        throughput=Skipped(NO_THROUGHPUT),
    )
    failures = [f"{name}: {one.failure}" for name, one in found.engines.items() if one.failure]
    if request.throughput:
        from exporter.commands.throughput import measure_build  # what packs is needed here alone

        try:
            manifest = replace(manifest, throughput=measure_build(manifest, request, progress))
        except NotReproducedError as error:
            failures.append(str(error))
            manifest = replace(manifest, throughput=Skipped(f"not measured: {error}"))
    manifests.write(folder, manifest)
    write_report(folder, manifest)
    return Benchmark(manifest, tuple(failures))


def _same_model(
    manifest: Manifest,
    request: BenchmarkRequest,
    module: torch.nn.Module | None,
    progress: Progress,
) -> Model:
    """What the build was made from, defined again.

    Raises:
        UsageError: the weights are others, or it was a module that nobody hands over.
    """
    spec, made = manifest.model, manifest.request
    if module is None and request.model is None and spec.kind is ModelKind.LIVE:
        raise UsageError(
            f"{spec.name} was handed over by the program that exported it; measure it there, with "
            "build.benchmark(model=MODULE), or name what makes it: --model package.module:factory"
        )
    with progress.stage(f"define {spec.source}"):
        if module is not None:
            live = LiveModule(as_module(module), _shapes(spec))
            defined = from_module(live, request.weights, made.seed)
        else:
            defined = define(
                request.model or spec.source,
                request.weights,
                num_classes=made.num_classes,
                image_size=made.image_size,
                inputs=made.inputs,
                seed=made.seed,
                progress=progress,
            )
    if defined.spec.weights.sha256 != spec.weights.sha256:
        raise UsageError(
            f"the build was made from the weights {spec.weights.source!r}, these are "
            f"{defined.spec.weights.source!r} with another hash; give the build's with --weights"
        )
    if spec.input.dtype != defined.spec.input.dtype:
        # The preprocessing may have been given with the request.
        contract = replace(defined.spec, preprocessing=spec.preprocessing)
        defined = from_images(replace(defined, spec=contract))
    # The blocks are known once the graph is, and the build has them.
    return replace(defined, spec=replace(defined.spec, residual_blocks=spec.residual_blocks))


def _shapes(spec: ModelSpec) -> Shapes:
    """Of what the module takes; engines with baked preprocessing take (H, W, C)."""
    if spec.other_inputs:
        return {one.name: one.sample for one in spec.inputs}
    first, second, third = spec.image_shape
    baked = spec.input.dtype == "uint8"
    return only((third, first, second) if baked else (first, second, third))
