"""Images a second, their cost, and which engine to take; or what the best is."""

from __future__ import annotations

import pytest

from exporter.fleet.offers import drop_of
from exporter.fleet.record import Choice, Limits, Offer
from tests import manifests
from tests.fleet.sweeps import report, sweep

PRICES = {"zen": 0.36, "old": 0.09}


def chosen(limits: Limits | None = None, prices: dict[str, float] | None = None) -> Choice:
    (choice,) = sweep(limits, prices).choices
    return choice


def best(limits: Limits | None = None, prices: dict[str, float] | None = None) -> Offer:
    choice = chosen(limits, prices)
    assert choice.best is not None
    return choice.best


def test_a_million_images_cost_what_the_machine_costs_meanwhile() -> None:
    for offer in sweep(prices=PRICES).offers:
        hours = 1e6 / offer.images_per_s / 3600
        assert offer.cost_a_million == pytest.approx(hours * PRICES[offer.hardware])
    assert all(offer.cost_a_million is None for offer in sweep().offers)


def test_the_cheapest_is_not_the_fastest() -> None:
    assert best().hardware == "zen"
    # A third of the speed for a quarter of the price.
    assert best(prices=PRICES).hardware == "old"
    within = Limits(p99_ms=15)
    assert best(within, PRICES).hardware == "zen"
    assert best(within, PRICES).p99_ms <= 15


def test_a_drop_that_is_too_large_or_unknown_is_not_chosen() -> None:
    assert best(Limits(drop=0.01)).engine.endswith(".int8")
    exact = best(Limits(drop=0.0))
    assert exact.drop == 0
    assert not exact.engine.endswith(".int8")
    assert not Limits(drop=0.5).keeps(Offer("m", "h", "e", 1, 1.0, True, 1.0, None, None))


def test_without_labels_the_drop_is_the_share_of_flips() -> None:
    for engine in report(manifests.resnet50()).engines:
        assert engine.top1 is None
        agreement = engine.top1_agreement
        assert drop_of(engine) == (None if agreement is None else 1 - agreement)


def test_what_is_impossible_says_what_the_best_is() -> None:
    said = chosen(Limits(p99_ms=0.1)).impossible
    assert said.startswith("nothing keeps p99 <= 0.1 ms; the fastest is ")
    assert "on zen" in said
    both = chosen(Limits(p99_ms=0.1, drop=0.0)).impossible
    assert "the fastest of those that are exact enough is " in both
    assert "; the most exact is " in both
    assert chosen(Limits(p99_ms=0.1)).best is None


def test_an_engine_that_was_rejected_or_not_measured_is_no_offer() -> None:
    record = sweep(manifest=manifests.failed())
    rejected = {e.id for b in record.builds for e in b.report.engines if e.rejected}
    assert rejected
    assert rejected.isdisjoint(offer.engine for offer in record.offers)
    nothing = sweep(manifest=manifests.unmeasured())
    assert nothing.offers == ()
    assert nothing.choices[0].impossible == "no engine passed every gate and was measured"
