"""The fitted line, and where it bends."""

from __future__ import annotations

import pytest

from benchmarks.scaling import fit, points


def test_a_straight_line_is_found_and_does_not_bend() -> None:
    x = [1, 2, 4, 8, 16, 32]
    line = fit(x, [5 + 3 * n for n in x])
    assert line is not None
    assert (line["fixed_ms"], line["slope_ms"]) == pytest.approx((5, 3))
    assert line["worst"] == pytest.approx(0, abs=1e-9)
    assert line["bend"] is None


def test_a_bend_is_found_where_it_is() -> None:
    """Out of cache from a batch of 8 on: each image costs twice as much."""
    x = [32, 1, 2, 4, 8, 16]
    line = fit(x, [5 + 3 * min(n, 8) + 6 * max(n - 8, 0) for n in x])
    assert line is not None
    assert line["bend"] == 8
    assert (line["fixed_ms"], line["slope_ms"]) == pytest.approx((5, 3))
    assert line["slope_after_ms"] == pytest.approx(6)


def test_small_noise_is_no_bend() -> None:
    x = [1, 2, 4, 8, 16, 32]
    noise = [1.02, 0.98, 1.01, 0.99, 1.02, 0.98]
    line = fit(x, [(5 + 3 * n) * f for n, f in zip(x, noise, strict=True)])
    assert line is not None
    assert line["bend"] is None


def test_one_point_is_no_line() -> None:
    assert fit([1], [5]) is None


def test_axes_name_real_models() -> None:
    assert [point.model for point in points("depth", "resnet50", 2)][-1] == "resnet152"
    assert [point.threads for point in points("threads", "resnet50", 2)] == [1, 2]
    assert points("batch", "resnet50", 2)[0].batches == (1, 2, 4, 8, 16, 32)
