"""Exactly the chosen blocks are float: the receipts of real mixed engines."""

from __future__ import annotations

import pytest

from exporter.artifact import ElementType, Verdict
from tests.search.engines import COSTS, HURT, Engines


def test_the_chosen_blocks_alone_are_float(engines: Engines) -> None:
    found = engines.receipt((HURT,), told=(HURT,))
    assert found.verdict is Verdict.FUSED, found.reason
    assert found.convs_by_type == {ElementType.FP32: 3, ElementType.INT8: 7}


@pytest.mark.parametrize("unit", [unit for unit in COSTS if unit != HURT])
def test_another_unit_in_float_is_a_shortfall(engines: Engines, unit: str) -> None:
    found = engines.receipt((HURT, unit), told=(HURT,))
    assert found.verdict is Verdict.PARTIAL
    assert found.reason


def test_a_chosen_block_in_int8_is_a_shortfall(engines: Engines) -> None:
    found = engines.receipt((), told=(HURT,))
    assert found.verdict is Verdict.PARTIAL
    assert "was to be kept in higher precision" in str(found.reason)
