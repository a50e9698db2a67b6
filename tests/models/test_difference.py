"""How far two answers are from each other, infinite ones among them."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.models.difference import relative_difference


@pytest.mark.parametrize("same", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_in_both_is_no_difference_and_no_warning(same: float) -> None:
    expected = np.array([3.0, same, 4.0], np.float32)
    assert relative_difference(expected.copy(), expected) == 0
    found = np.array([3.0, same, 9.0], np.float32)
    assert relative_difference(found, expected) == pytest.approx(1.0)


@pytest.mark.parametrize("found", [np.inf, np.nan, 1.0])
def test_other_values_that_are_not_finite_are(found: float) -> None:
    finite, endless = np.array([1.0, 2.0]), np.array([found, -np.inf])
    assert relative_difference(endless, finite) == np.inf
    assert relative_difference(finite, endless) == np.inf
