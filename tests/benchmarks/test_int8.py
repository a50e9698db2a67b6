"""The INT8 comparison: its figures, its ratio, its draws, and what it takes for reaching a goal."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.int8_accuracy import without_softmax
from benchmarks.int8_data import draws_of
from benchmarks.int8_recipes import FLOAT_HEAD, NNCF, OURS, STATIC
from benchmarks.int8_verdict import goals_of, table_of
from benchmarks.logit_errors import Answers, MoreFlips, Ratio, more_flips, ratio_of
from exporter.errors import InputError
from exporter.measure.timing import Latency, Speedup
from tests.graphs import graph, operators, random, run
from tests.samples import samples_of


def test_figures_are_over_all_draws_and_images() -> None:
    expected = np.array([[1.0, 0.0], [0.0, 2.0]])
    errors = np.array([[[0.1, 0.0], [0.0, 0.0]], [[0.0, 1.5], [0.0, 0.0]]])
    logits = expected + errors
    answers = Answers(logits, expected, np.array([0, 1]))
    found = answers.figures()
    assert found["rms"] == pytest.approx(np.sqrt((0.01 + 2.25) / 8))
    assert found["rms_by_draw"] == pytest.approx([np.sqrt(0.01 / 4), np.sqrt(2.25 / 4)])
    assert found["flips_by_draw"] == [0, 1]
    assert found["top1"] == found["top1_agreement"] == 0.75
    assert found["rel_l2"] == pytest.approx(np.sqrt(2.26 / 10))


def test_a_ratio_is_paired_over_images() -> None:
    errors = np.random.default_rng(0).lognormal(0.0, 2.0, (2, 200))
    ratio = ratio_of(0.25 * errors, errors, seed=0)
    assert ratio.value == pytest.approx(0.5)
    assert ratio.ci95 == pytest.approx((0.5, 0.5))  # unpaired, such errors tell nothing
    assert ratio.by_draw == pytest.approx((0.5, 0.5))
    low, high = ratio_of(errors[:, ::-1], errors, seed=0).ci95
    assert low < 0.9 < 1.1 < high


def flipping(*flipped: range) -> Answers:
    """Answers to 100 images of which each draw flips these."""
    expected = np.tile([1.0, 0.0], (100, 1))
    logits = np.stack([expected] * len(flipped))
    for draw, images in enumerate(flipped):
        logits[draw, images] = [0.0, 1.0]
    return Answers(logits, expected, None)


def test_flips_are_compared_on_the_same_images() -> None:
    many, few = range(70), range(20)
    found = more_flips(flipping(many, many), flipping(few, few), seed=0)
    assert found.value == 50
    assert 35 < found.ci95[0] < 45 < 55 < found.ci95[1] < 65
    assert more_flips(flipping(many, many), flipping(many, many), seed=0) == MoreFlips(0, (0, 0))


def test_more_flips_with_one_draw_may_be_that_draws() -> None:
    low, high = more_flips(flipping(range(60), *[range(0)] * 3), flipping(*[range(0)] * 4), 0).ci95
    assert low == 0 < 15 < high


def test_the_table_says_how_many_more_answers_ours_flips() -> None:
    answers = {OURS: flipping(range(3)), STATIC: flipping(range(1))}
    ratio = Ratio(1.0, (1.0, 1.0), ())
    flips = {OURS: MoreFlips(0, (0, 0)), STATIC: MoreFlips(2, (-0.5, 6))}
    table = table_of(answers, dict.fromkeys(answers, ratio), flips, "INT8")
    columns = {str(column.header): list(column.cells) for column in table.columns}
    assert columns["flips a draw"] == ["3", "1"]
    assert columns["ours - it (95 %)"] == ["", "+2.0 (-0.5 to +6.0)"]


def test_draws_share_no_image_and_say_when_there_are_too_few() -> None:
    samples = samples_of(np.arange(20, dtype=np.float32)[:, None])
    draws = draws_of(samples, 3, 6, seed=1)
    seen = np.concatenate([next(draw.batches(6)) for draw in draws])
    assert len(np.unique(seen)) == 18
    assert len({draw.sha256 for draw in draws}) == 3
    with pytest.raises(InputError, match="4 draws of 6 need 24"):
        draws_of(samples, 4, 6, seed=1)


def test_a_softmax_at_the_end_goes_and_nothing_else() -> None:
    text = "net (float[N,4] x) => (float[N,3] y) {{ a = Gemm (x, w) {} }}"
    weight = random(4, 3, seed=1)
    plain = graph(text.format("y = Relu (a)"), w=weight)
    assert operators(without_softmax(plain)) == ["Gemm", "Relu"]
    model = graph(text.format("y = Softmax (a)"), w=weight)
    x = random(2, 4)
    assert run(without_softmax(model), x) == pytest.approx(x @ weight, abs=1e-6)


def latency(median: float, low: float, high: float) -> Latency:
    return Latency(
        batch=1, threads=2, warmup=1, rounds=1, p50_ms=1.0, p90_ms=1.0, p99_ms=1.0,
        eager_p50_ms=1.0, baseline="torch-eager", speedup=Speedup(median, (low, high)), stable=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("static", "speed", "nncf", "head", "met"),
    [
        (0.9, (0.99, 0.98, 0.995), (0.8, 0.99), 0.7, [True, True, True, True]),
        (1.1, (0.97, 0.96, 0.98), (0.8, 1.01), 0.71, [False, False, False, False]),
        (0.9, (0.97, 0.90, 1.01), (0.8, 0.99), 0.6, [True, True, True, True]),
    ],
)
def test_goals(
    static: float,
    speed: tuple[float, float, float],
    nncf: tuple[float, float],
    head: float,
    met: list[bool],
) -> None:
    ratios = {
        STATIC: Ratio(static, (static, static), ()),
        NNCF: Ratio(0.9, nncf, ()),
        FLOAT_HEAD: Ratio(head, (head, head), ()),
    }
    goals = goals_of(ratios, latency(*speed), trained=True)
    assert [goal.met for goal in goals] == met
    assert len(goals_of(ratios, latency(*speed), trained=False)) == 2
