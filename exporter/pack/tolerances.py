"""How far an engine's answer to one golden input may be from what it was validated as."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from exporter.artifact import Precision
from exporter.builds.records import EngineRecord
from exporter.pack.packed_manifest import Against, Tolerance
from exporter.prove.certificate import Parity

ROUNDING: Final[Mapping[Precision, float]] = {
    Precision.FP32: 1e-5,
    Precision.FP16: 5e-3,
    Precision.BF16: 3e-2,
    Precision.MIXED: 3e-2,
    Precision.INT8: 3e-2,
    Precision.FP8: 0.1,
}
"""Between other kernels for the same graph, relative L2 of one golden's answer; measured between
ONNX Runtime's CPUs, its WebAssembly build and OpenVINO (tests/serving)."""

_WORST_GOLDEN: Final = 4
"""Parity limits bound the error over all samples together; a single one may be so much worse."""


def parity_of(engine: EngineRecord) -> Parity:
    """The parity certificate of an engine that is packed."""
    assert isinstance(engine.parity, Parity), "an engine without one is left out"
    return engine.parity


def allowed_when_validated(engine: EngineRecord) -> float:
    """The largest relative L2 distance from the reference that fits what was validated."""
    parity = parity_of(engine)
    judged = [one.limits for one in parity.outputs] or [parity.limits]
    return _WORST_GOLDEN * max(
        limits["rel_l2"] if "rel_l2" in limits else 10 ** (-limits["sqnr_db"] / 20)
        for limits in judged
    )


def reference_tolerance(engine: EngineRecord) -> float:
    """The same wherever the engine is served: other kernels round differently."""
    return allowed_when_validated(engine) + ROUNDING[engine.precision]


def tolerance(engine: EngineRecord, *, ran: bool) -> Tolerance:
    """What a server allows; `ran`: the engine's own answers are packed."""
    if ran:
        return Tolerance(Against.ENGINE, ROUNDING[engine.precision])
    return Tolerance(Against.REFERENCE, reference_tolerance(engine))
