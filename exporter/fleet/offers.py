"""What each engine costs on each kind of machine, and which to take.

A machine that answers batch after batch with one engine on all cores computes `1000 batch / p50`
images a second; what it costs an hour, divided by that, is the cost of its images. It is the least
that they can cost so: a service has idle times, several processes and queues (`exporter capacity`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from exporter.fleet.record import BuildRecord, Choice, Limits, Offer
from exporter.report.flat import ReportEngine


def offers_of(builds: Sequence[BuildRecord], prices: Mapping[str, float]) -> tuple[Offer, ...]:
    """Every engine that passed its gates and was measured, at each batch size."""
    return tuple(offer for build in builds for offer in _offers(build, prices.get(build.hardware)))


def _offers(build: BuildRecord, price: float | None) -> Iterator[Offer]:
    for engine in build.report.engines:
        for timing in engine.latencies:
            if (
                engine.rejected
                or engine.parity_passed is not True
                or not 0 < timing.p50_ms < math.inf
            ):
                continue
            rate = 1000 * timing.batch / timing.p50_ms
            yield Offer(
                model=build.model,
                hardware=build.hardware,
                engine=engine.id,
                batch=timing.batch,
                p99_ms=timing.p99_ms,
                stable=timing.stable,
                images_per_s=rate,
                drop=drop_of(engine),
                cost_a_million=None if price is None else price / 3600 / rate * 1e6,
            )


def drop_of(engine: ReportEngine) -> float | None:
    """The accuracy that an engine loses, as `Offer.drop` says."""
    if engine.top1 is not None and engine.top1_reference is not None:
        return max(0.0, engine.top1_reference - engine.top1)
    return None if engine.top1_agreement is None else 1 - engine.top1_agreement


def choices_of(
    models: Sequence[str], offers: Sequence[Offer], limits: Limits
) -> tuple[Choice, ...]:
    """For each model the cheapest offer within the limits; without prices the fastest one."""
    return tuple(
        _choice(model, [one for one in offers if one.model == model], limits) for model in models
    )


def _choice(model: str, offers: Sequence[Offer], limits: Limits) -> Choice:
    if not offers:
        return Choice(model, None, "no engine passed every gate and was measured")
    fits = [one for one in offers if limits.keeps(one)]
    if fits:
        return Choice(model, min(fits, key=_order))
    quick = [one for one in offers if limits.keeps_time(one)]
    exact = [one for one in offers if limits.keeps_drop(one)]
    fastest, nearest = min(exact or offers, key=_p99_ms), min(quick or offers, key=_lost)
    exact_enough = " of those that are exact enough" if exact and limits.drop is not None else ""
    quick_enough = " of those that are fast enough" if quick and limits.p99_ms is not None else ""
    said = [f"nothing keeps {limits}"]
    if limits.p99_ms is not None:
        said.append(f"the fastest{exact_enough} is {_words(fastest)}")
    if limits.drop is not None:
        said.append(f"the most exact{quick_enough} is {_words(nearest)}")
    return Choice(model, None, "; ".join(said))


def _order(offer: Offer) -> tuple[float, float]:
    cost = math.inf if offer.cost_a_million is None else offer.cost_a_million
    return cost, -offer.images_per_s


def _p99_ms(offer: Offer) -> float:
    return offer.p99_ms


def _lost(offer: Offer) -> float:
    return offer.lost


def _words(offer: Offer) -> str:
    drop = "unknown" if offer.drop is None else f"{100 * offer.drop:.3g}%"
    return (
        f"{offer.engine} on {offer.hardware} at batch {offer.batch} "
        f"(p99 {offer.p99_ms:.3g} ms, drop {drop})"
    )
