"""The gates that an engine passes or fails, and what its lowering lost, in words."""

from __future__ import annotations

from exporter.artifact import PassReport, Verdict
from exporter.prove.certificate import Parity, Receipt
from exporter.prove.engine import Proof

_ORDER = (Verdict.UNVERIFIED, Verdict.PARTIAL, Verdict.FUSED)


def failed_gates(receipt: Receipt, proof: Proof, *, allow_partial: bool) -> list[str]:
    """Each gate that the engine failed, in words; empty: it may be released."""
    found = []
    if proof.failure is not None:
        found.append(proof.failure)
    if isinstance(proof.parity, Parity):
        found.extend(f"parity: {failure}" for failure in proof.parity.failures)
    below = _ORDER.index(receipt.verdict) < _ORDER.index(receipt.expected)
    if below and not allow_partial:
        found.append(
            f"receipt: {receipt.verdict}, expected {receipt.expected}: {receipt.reason} "
            "(--allow-partial accepts it)"
        )
    return found


def _is_loss(count: str) -> bool:
    """Whether a pass's figure tells of values that changed beyond rounding."""
    return "flush" in count or "overflow" in count


def notes_of(reports: tuple[PassReport, ...]) -> tuple[str, ...]:
    """What the passes of a lowering left alone or lost, in words."""
    notes: list[str] = []
    for passed in reports:
        notes.extend(f"{passed.name}: {node}: {reason}" for node, reason in passed.refused)
        notes.extend(f"{n} {what}" for what, n in passed.counts.items() if n and _is_loss(what))
    return tuple(notes)
