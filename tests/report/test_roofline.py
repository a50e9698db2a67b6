"""The roofline: each layer under the roof of its own type."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from exporter.artifact import ElementType, Skipped
from exporter.builds.records import Manifest
from exporter.measure.timing import Ceilings, Profile
from exporter.report.engines import views
from exporter.report.roofline import RooflinePanel, roofline_panels, why_no_roofline
from exporter.report.traced import Traced
from tests import manifests


def panels_of(manifest: Manifest) -> tuple[RooflinePanel, ...]:
    traced = Traced(manifest)
    return roofline_panels(traced, views(traced))


def with_ceilings(ceilings: Ceilings | Skipped) -> Manifest:
    manifest = manifests.resnet50()
    return replace(manifest, host=replace(manifest.host, ceilings=ceilings))


def test_each_layer_is_held_against_its_own_roof() -> None:
    manifest = manifests.resnet50()
    panels = panels_of(manifest)
    assert [panel.engine.id for panel in panels] == [
        engine.id for engine in manifest.engines if isinstance(engine.profile, Profile)
    ]
    panel = next(panel for panel in panels if panel.engine.id == "ort-cpu.int8")
    profile = manifest.engines[2].profile
    assert isinstance(profile, Profile)
    point, layer = panel.dots[0].point, profile.layers[0]
    rate = 2 * layer.macs / layer.microseconds / 1e3
    assert point.rate.value == pytest.approx(rate)
    assert point.intensity.value == pytest.approx(2 * layer.macs / layer.bytes)
    roof = min(1278.4, 26.4 * point.intensity.value)
    assert point.fraction.value == pytest.approx(rate / roof)


@pytest.mark.parametrize(("bf16_gops", "roof"), [(600.0, 600.0), (None, None)])
def test_bf16_is_held_against_a_ceiling_of_its_own(
    bf16_gops: float | None, roof: float | None
) -> None:
    manifest = with_ceilings(Ceilings(2, 310.1, 1278.4, 26.4, {}, bf16_gops=bf16_gops))
    engine = manifest.engines[2]
    assert isinstance(engine.profile, Profile)
    layer = replace(engine.profile.layers[0], dtype=ElementType.BF16, bytes=1000, macs=10**6)
    profile = replace(engine.profile, layers=(layer,))
    panels = panels_of(replace(manifest, engines=(replace(engine, profile=profile),)))
    if roof is None:
        assert panels == ()
        return
    (dot,) = panels[0].dots
    rate = 2 * layer.macs / layer.microseconds / 1e3
    assert dot.point.fraction.value == pytest.approx(rate / roof)


def test_without_ceilings_there_is_no_roof_and_a_reason() -> None:
    without = with_ceilings(Skipped("nothing was measured"))
    assert panels_of(without) == ()
    assert why_no_roofline(without).startswith("ceilings: nothing was measured")
    unprofiled = manifests.resnet50(drift=False)
    assert panels_of(unprofiled) == ()
    assert why_no_roofline(unprofiled) == "not profiled: it was not measured"


@pytest.mark.parametrize("copied", [0.0, -1.0, math.inf, math.nan])
def test_ceilings_that_are_no_rates_make_no_roof(copied: float) -> None:
    assert panels_of(with_ceilings(Ceilings(2, 310.1, 1278.4, copied, {}))) == ()
