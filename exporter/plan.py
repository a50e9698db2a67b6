"""What was asked for, and which engines that means on this machine."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace

from exporter import host
from exporter.artifact import Precision
from exporter.builds.asked_budget import asked_budget
from exporter.builds.records import FailedEngine
from exporter.builds.request import ExportRequest
from exporter.builds.unused import refuse_unused
from exporter.errors import MissingDependencyError, UsageError, install_command
from exporter.targets import (
    TARGETS,
    MachineKind,
    Target,
    get_target,
    settings_of,
    target_class,
)
from exporter.targets.diagnosis import import_problem

Pair = tuple[Target, Precision]


@dataclass(frozen=True)
class Plan:
    """What will be built, in the manifest's order, and what the user must be told of it."""

    pairs: tuple[Pair, ...]
    notes: tuple[str, ...] = ()
    """Each engine of the default list that is left out, with what would add it."""
    failed: tuple[FailedEngine, ...] = ()
    """Each that was asked for by name, beside others, and that cannot be built here."""


def plan(request: ExportRequest) -> Plan:
    """The engines to build. With no target: the default list of this kind of machine.

    A target that was asked for by name and is not here has failed, and costs the others nothing;
    one of the default list whose library is missing is left out with a note.

    Raises:
        UsageError: the request names what does not exist (a target, a precision of one, a
            setting), or an option that nothing of it uses.
        MissingDependencyError: the library or the hardware of all targets is missing.
    """
    budget = asked_budget(request)
    if Precision.MIXED in request.precisions and budget is None:
        raise UsageError(
            "the precision mixed needs a budget; give --max-drop, --min-sqnr or --min-agreement"
        )
    planned = _asked_for(request) if request.targets else _default(request)
    if budget is not None:
        planned = _with_mixed(planned)
    targets = {target.name: target for target, _ in planned.pairs}
    families = {target.family for target in targets.values()}
    absent = {engine.target.partition(":")[0] for engine in planned.failed}
    unused = set(request.settings) - families - absent
    if unused:
        raise UsageError(
            f"--setting names {', '.join(sorted(unused))}, which is not built; add it to --target"
        )
    for target in targets.values():
        target.check_settings(settings_of(target, request.settings, request.profile))
    try:
        refuse_unused(request, planned.pairs)
    except UsageError as error:
        # What is absent may be what the option is for.
        raise _nothing_left(planned.failed) if planned.failed else error from None
    return planned


def _with_mixed(planned: Plan) -> Plan:
    """The plan with an engine in `mixed` behind those of each target that has it and runs here."""
    pairs = list(planned.pairs)
    for target in {target.name: target for target, _ in planned.pairs}.values():
        if target.mixes and target.runs_here() is None and (target, Precision.MIXED) not in pairs:
            last = max(i for i, (one, _) in enumerate(pairs) if one.name == target.name)
            pairs.insert(last + 1, (target, Precision.MIXED))
    return replace(planned, pairs=tuple(pairs))


def _asked_for(request: ExportRequest) -> Plan:
    pairs: list[Pair] = []
    failed: list[FailedEngine] = []
    for name in dict.fromkeys(request.targets):
        try:
            target = get_target(name)
        except MissingDependencyError as error:
            precisions = request.precisions or target_class(name).precisions
            failed += [_failed(name, precision, str(error)) for precision in precisions]
            continue
        for precision in request.precisions or target.precisions:
            if precision is Precision.MIXED:
                _check_mixes(target)
            target.dialect(precision.base)  # which says why it does not have the precision
            missing = _missing_tool(target, precision)
            if missing is None:
                pairs.append((target, precision))
            else:
                failed.append(_failed(target.name, precision, missing))
    if not pairs:
        raise _nothing_left(failed)
    return Plan(tuple(pairs), failed=tuple(failed))


def _check_mixes(target: Target) -> None:
    """Raises UsageError where a target has no engines in `mixed`, or cannot time their blocks."""
    if not target.mixes:
        names = " or ".join(family for family in TARGETS if target_class(family).mixes)
        raise UsageError(f"target {target.name} has no engines in mixed; use --target {names}")
    absent = target.runs_here()
    if absent is not None:
        raise UsageError(
            f"{target.name}.mixed cannot be made here, for its blocks are timed: {absent.skipped}"
        )


def _failed(target: str, precision: Precision, reason: str) -> FailedEngine:
    return FailedEngine(f"{target}.{precision}", target, precision, "plan", reason)


def _nothing_left(failed: Sequence[FailedEngine]) -> MissingDependencyError:
    return MissingDependencyError("; ".join(dict.fromkeys(engine.reason for engine in failed)))


def _default(request: ExportRequest) -> Plan:
    kind = MachineKind.GPU if host.describe_host().gpu else MachineKind.CPU
    flags = host.cpu_flags()
    pairs: list[Pair] = []
    left_out: dict[str, str] = {}
    unfit: dict[Precision, str] = {}
    for family in TARGETS:
        for variant, precision in _default_for(target_class(family), kind, request):
            if request.precisions and precision not in request.precisions:
                continue
            try:
                target = get_target(f"{family}:{variant}" if variant else family)
            except MissingDependencyError as error:
                left_out.setdefault(family, str(error))  # not once more for its variants
                continue
            missing = _missing_tool(target, precision)
            if missing is not None:
                left_out[f"{target.name}.{precision}"] = missing
            elif lacking := [f for f in target.needed_cpu_flags(precision.base) if f not in flags]:
                name = f"{target.name}.{precision}"
                unfit[precision] = f"{name} needs a CPU with {', '.join(lacking)}"
            else:
                pairs.append((target, precision))
    _check_offered(request.precisions, kind, {precision for _, precision in pairs}, unfit)
    if not pairs:
        raise MissingDependencyError(f"nothing can be built here: {'; '.join(left_out.values())}")
    return Plan(
        tuple(pairs), tuple(f"{name} is left out: {reason}" for name, reason in left_out.items())
    )


def _default_for(
    cls: type[Target], kind: MachineKind, request: ExportRequest
) -> tuple[tuple[str, Precision], ...]:
    """A target's default list, with `mixed` where that was asked for by name."""
    pairs = cls.default_for(kind)
    if Precision.MIXED in request.precisions and cls.mixes and pairs:
        return (*pairs, ("", Precision.MIXED))
    return pairs


def _check_offered(
    asked: Sequence[Precision],
    kind: MachineKind,
    planned: Container[Precision],
    unfit: Mapping[Precision, str],
) -> None:
    """Raises UsageError for a precision that was asked for and that no default engine has here.

    Not where a library is missing for it: the note on what is left out says so.
    """
    classes = [target_class(family) for family in TARGETS]
    offered = {precision for cls in classes for _, precision in cls.default_for(kind)}
    if any(cls.mixes and cls.default_for(kind) for cls in classes):
        offered.add(Precision.MIXED)
    for precision in asked:
        if precision not in planned and precision in unfit:
            raise UsageError(f"{unfit[precision]}, which this one has not; leave out {precision}")
        if precision not in offered:
            raise UsageError(
                f"no engine that is built by default on a machine like this is in {precision}; "
                "name a --target that has it"
            )


def _missing_tool(target: Target, precision: Precision) -> str | None:
    """What the compiler itself needs for an engine and this machine does not have.

    ONNX Runtime calibrates 8 bits, and runs the lowered graph of an engine that does not run here.
    """
    if not precision.quantized and target.runs_here() is None:
        return None
    problem = import_problem("onnxruntime")
    if problem is None:
        return None
    proves = "proves what does not run here"
    does = f"calibrates {precision.upper()}" if precision.quantized else proves
    install = install_command("gpu" if host.describe_host().gpu else "cpu")
    return (
        f"{target.name}.{precision} needs ONNX Runtime, which {does} and {problem}; run: {install}"
    )
