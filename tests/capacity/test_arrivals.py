"""Arrivals: the rate that was asked for, in the pattern that was asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exporter.capacity.arrivals import Arrivals, Floats, bursts, poisson, read_trace, traced
from exporter.errors import InputError


def dispersion(times: Floats, seconds: float = 1.0) -> float:
    """The variance of the number in a while over its mean: 1 where requests are independent."""
    counts = np.histogram(times, np.arange(0, times[-1], seconds))[0]
    return float(counts.var() / counts.mean())


@pytest.mark.parametrize(("arrivals", "least", "most"), [(poisson, 0.8, 1.2), (bursts, 10, 80)])
def test_the_rate_is_kept_in_the_mean(arrivals: Arrivals, least: float, most: float) -> None:
    times = arrivals(50.0, 20_000, np.random.default_rng(0))
    assert len(times) / times[-1] == pytest.approx(50, rel=0.15)
    assert (np.diff(times) >= 0).all()
    assert least < dispersion(times) < most


@pytest.mark.parametrize("rate", [3.0, 10.0, 35.0])
def test_a_trace_keeps_its_own_pattern_at_any_rate(rate: float) -> None:
    random = np.random.default_rng(0)
    # Ten requests a second for a hundred seconds, all in the first tenth of each.
    trace = np.sort((np.arange(100)[:, None] + 0.1 * random.random((100, 10))).ravel())
    times = traced(trace)(rate, 5000, random)
    assert len(times) == 5000
    assert (np.diff(times) >= 0).all()
    assert len(times) / times[-1] == pytest.approx(rate, rel=0.06)
    # Four copies of it, each at another place, are spread more evenly.
    assert dispersion(times, 0.1) > (2 if rate <= 10 else 1.3)


def test_a_trace_is_read_by_its_column(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("path,time_s\n/a,1.5\n/b,2\n/c,2\n")
    assert read_trace(file).tolist() == [1.5, 2.0, 2.0]
    file.write_text("1\n2\n3.5\n")
    assert read_trace(file).tolist() == [1.0, 2.0, 3.5]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("time_s\n1\n3\n2\n", r"line 4 is 1 s before the line above; give the times"),
        ("a,b\n1,2\n", "has the columns a, b; name the one with the seconds"),
        ("time_s\n1\nx\n", "line 3 holds 'x', expected seconds"),
        ("time_s\n1\nnan\n", "line 3 holds 'nan', expected seconds"),
        ("time_s\n1\n", "holds 1 times; give two at least, apart"),
        ("1\n1\n", "holds 2 times; give two at least, apart"),
        ("", "holds 0 times"),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "t.csv"
    file.write_text(text)
    with pytest.raises(InputError, match=problem):
        read_trace(file)


def test_a_trace_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_trace(tmp_path / "none.csv")
