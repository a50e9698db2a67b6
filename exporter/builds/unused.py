"""An option that nothing of a request uses is refused, with the reason; never ignored."""

from __future__ import annotations

from collections.abc import Sequence

from exporter.artifact import ModelSpec, Precision
from exporter.builds.benchmark_request import BenchmarkRequest
from exporter.builds.option import first_unused
from exporter.builds.request import Concern, ExportRequest
from exporter.errors import unused_option
from exporter.graph.lower import LEAVE_FLOATS
from exporter.targets import TARGETS, Target, target_class


def refuse_unused(request: ExportRequest, pairs: Sequence[tuple[Target, Precision]]) -> None:
    """Refuses what none of the engines to be built uses.

    Raises:
        UsageError: an option that is given and has no use.
    """
    unused = first_unused(request, _concerns(request, pairs))
    if unused is not None:
        concern = unused.option.concerns
        assert isinstance(concern, Concern)
        raise unused_option(unused.flag, concern, _remedy(concern))


def _concerns(request: ExportRequest, pairs: Sequence[tuple[Target, Precision]]) -> set[Concern]:
    """What the engines to be built are about."""
    targets = [target for target, _ in pairs]
    in_8_bits = [(target, precision) for target, precision in pairs if precision.quantized]
    found = {
        Concern.INT8: bool(in_8_bits),
        Concern.REDUCED: any(precision is not Precision.FP32 for _, precision in pairs),
        Concern.MIXED: any(precision is Precision.MIXED for _, precision in pairs),
        Concern.FLOAT_BETWEEN: any(
            target.dialect(precision.base) in LEAVE_FLOATS for target, precision in in_8_bits
        ),
        Concern.PROFILES: any(
            target.has_profiles and "profile" not in request.settings.get(target.family, {})
            for target in targets
        ),
        Concern.FALLBACK: any(target.accepts_fallback for target in targets),
        Concern.MEASURING: request.measure,
        Concern.BATCHES: request.measure
        or any(target.prediction_example or target.has_profiles for target in targets),
    }
    return {concern for concern, present in found.items() if present}


def _remedy(concern: Concern) -> str:
    """What would give an option something to be about."""
    classes = {family: target_class(family) for family in TARGETS}
    match concern:
        case Concern.INT8:
            return "add int8 to --precision"
        case Concern.REDUCED:
            return "add fp16 or int8 to --precision"
        case Concern.MIXED:
            families = [family for family, cls in classes.items() if cls.mixes]
        case Concern.FLOAT_BETWEEN:
            return "add a --target of such a runtime, in int8"
        case Concern.PROFILES:
            families = [family for family, cls in classes.items() if cls.has_profiles]
        case Concern.FALLBACK:
            families = [family for family, cls in classes.items() if cls.accepts_fallback]
        case Concern.MEASURING | Concern.BATCHES:
            return "drop --no-measure"
        case Concern.THROUGHPUT:
            return "add --throughput"
    return f"add {' or '.join(families)} to --target"


def refuse_unused_in_benchmark(request: BenchmarkRequest) -> None:
    """Refuses what is about throughput where that is not measured.

    Raises:
        UsageError: an option that is given and has no use.
    """
    used = {Concern.MEASURING, Concern.BATCHES}
    unused = first_unused(request, used | {Concern.THROUGHPUT} if request.throughput else used)
    if unused is not None:
        concern = unused.option.concerns
        assert isinstance(concern, Concern)
        raise unused_option(unused.flag, concern, _remedy(concern))


def refuse_unused_by_model(request: ExportRequest, spec: ModelSpec) -> None:
    """Refuses batch sizes for a model that takes one size only, and pictures for several inputs.

    Raises:
        UsageError: as it says.
    """
    if request.bake_preprocess and spec.other_inputs:
        raise unused_option(
            "--bake-preprocess",
            f"models of one picture, and {spec.name} takes {len(spec.inputs)} inputs",
        )
    refuse_batches(request.batches, spec)
    own = any("profile" in settings for settings in request.settings.values())
    if fixed_batch(spec) and (request.profile is not None or own):
        raise unused_option("--profile", _dynamic(spec))


def refuse_batches(batches: tuple[int, ...], spec: ModelSpec) -> None:
    """Refuses to measure a model at batch sizes that it does not take.

    Raises:
        UsageError: it takes one size only, and others are asked for.
    """
    size = fixed_batch(spec)
    if size is not None and batches not in ((1,), (size,)):
        raise unused_option("--batches", _dynamic(spec))


def fixed_batch(spec: ModelSpec) -> int | None:
    """The one batch size that a model takes; None: it takes any."""
    size = next(iter(spec.input.shape), None)
    return size if isinstance(size, int) else None


def _dynamic(spec: ModelSpec) -> str:
    return f"models that take any batch size, and {spec.name} takes {fixed_batch(spec)} alone"
