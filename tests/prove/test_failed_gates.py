"""Which gates fail an engine, and which receipt is a note instead."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.artifact import Verdict
from exporter.passes.blocks import GraphFacts
from exporter.prove.certificate import Parity, Scope
from exporter.prove.engine import Proof
from exporter.prove.failed_gates import failed_gates, receipt_note
from exporter.prove.receipt import unverified_receipt
from tests import manifests

UNKNOWN = unverified_receipt(
    "no such kind of kernel",
    graph_facts=GraphFacts(convs=1, batchnorms_folded=0, blocks=()),
    expected=Verdict.FUSED,
)


def proof(scope: Scope) -> Proof:
    parity = manifests.resnet50().engines[0].parity
    assert isinstance(parity, Parity)
    return Proof(replace(parity, scope=scope))


def test_an_unverified_receipt_of_a_plan_for_another_machine_is_a_note() -> None:
    assert failed_gates(UNKNOWN, proof(Scope.GRAPH), allow_partial=False) == []
    (note,) = receipt_note(UNKNOWN, proof(Scope.GRAPH))
    assert note.startswith("what its kernels do is not verified")
    assert "no such kind of kernel" in note


def test_one_of_an_engine_that_runs_here_fails_it() -> None:
    (failure,) = failed_gates(UNKNOWN, proof(Scope.ENGINE), allow_partial=False)
    assert failure.startswith("receipt: unverified, expected fused: no such kind of kernel")
    assert receipt_note(UNKNOWN, proof(Scope.ENGINE)) == ()
    assert failed_gates(UNKNOWN, proof(Scope.ENGINE), allow_partial=True) == []


@pytest.mark.parametrize("scope", list(Scope))
def test_less_than_expected_fails_wherever_the_engine_runs(scope: Scope) -> None:
    partial = replace(UNKNOWN, verdict=Verdict.PARTIAL)
    assert len(failed_gates(partial, proof(scope), allow_partial=False)) == 1
    assert receipt_note(partial, proof(scope)) == ()
