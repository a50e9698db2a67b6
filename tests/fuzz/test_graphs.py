"""Random graphs of valid operators: built and right, or refused in one line that leaves nothing.

`make test` has eighty seeds, in one precision on ONNX Runtime each. `make fuzz-graphs` has
thousands that hypothesis draws, and makes the one smaller that fails.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.judge import outcomes
from tests.fuzz.networks import network

GRAPHS = int(os.environ.get("GRAPHS", "5000"))
REQUESTS: tuple[Mapping[str, object], ...] = tuple(
    {"targets": [target], "precisions": [precision], "samples": 8}
    | ({"calibration_samples": 16} if precision == "int8" else {})
    for target, precision in (
        ("ort-cpu", "fp32"), ("ort-cpu", "int8"), ("ort-cpu", "int8"), ("ort-cpu", "fp16"),
        ("openvino", "fp32"), ("openvino", "int8"),
    )
)  # fmt: skip


QUICK = tuple(request for request in REQUESTS if request["targets"] == ["ort-cpu"])


def tried(
    choices: random.Random, requests: Sequence[Mapping[str, object]] = REQUESTS
) -> Counter[str]:
    """What became of one random network in one random request."""
    model, options = network(choices), choices.choice(requests)
    with TemporaryDirectory(prefix="fuzz-") as folder:
        return Counter(outcomes(model, Path(folder), **options))


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.parametrize("first", range(0, 80, 10))
def test_graphs_of_known_seeds(first: int) -> None:
    found: Counter[str] = Counter()
    for seed in range(first, first + 10):
        try:
            found += tried(random.Random(seed), QUICK)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
    assert any(outcome.endswith(": right") for outcome in found), found


@pytest.fixture(scope="module")
def tally() -> Iterator[Counter[str]]:
    found: Counter[str] = Counter()
    yield found
    for outcome, count in found.most_common():
        print(f"{count:6} {outcome}")  # noqa: T201 - what is asked for


@pytest.mark.fuzz
@pytest.mark.timeout(0)
@settings(max_examples=GRAPHS, deadline=None, suppress_health_check=list(HealthCheck))
@given(choices=st.randoms(use_true_random=False))
def test_graphs_that_hypothesis_draws(choices: random.Random, tally: Counter[str]) -> None:
    tally.update(tried(choices))
