"""The gates that an engine passes or fails, and what its lowering lost, in words."""

from __future__ import annotations

from exporter.artifact import PassReport, Verdict
from exporter.prove.certificate import Parity, Receipt, Scope
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
    if below and not allow_partial and not _untold_elsewhere(receipt, proof):
        found.append(
            f"receipt: {receipt.verdict}, expected {receipt.expected}: {receipt.reason} "
            "(--allow-partial accepts it)"
        )
    return found


def receipt_note(receipt: Receipt, proof: Proof) -> tuple[str, ...]:
    """What to know of a receipt that could not be made, where that is no failure."""
    if not _untold_elsewhere(receipt, proof):
        return ()
    return (
        "what its kernels do is not verified, and no promise is made of them: the runtime's own "
        f"account of this plan was not understood ({receipt.reason}). The plan was built, and the "
        "answers of its graph were checked; run `exporter validate` where its hardware is",
    )


def _untold_elsewhere(receipt: Receipt, proof: Proof) -> bool:
    """Whether a runtime that is for another machine told its kernels in a form not known here."""
    elsewhere = isinstance(proof.parity, Parity) and proof.parity.scope is Scope.GRAPH
    return elsewhere and receipt.verdict is Verdict.UNVERIFIED


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
