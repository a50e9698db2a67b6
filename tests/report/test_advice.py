"""The first screen: which engine it recommends and why, what else is offered, where we lose."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from exporter.artifact import Precision, Skipped, Verdict
from exporter.builds.records import EngineRecord, Manifest
from exporter.measure.timing import Speedup
from exporter.report import render
from exporter.report.advice import Advice, advise
from exporter.report.engines import views
from exporter.report.traced import Traced
from tests import manifests
from tests.manifests import latency, record
from tests.pages import Page

TIMES = "\N{MULTIPLICATION SIGN}"


def advised(manifest: Manifest) -> Advice:
    return advise(manifest, views(Traced(manifest)))


def first_screen(manifest: Manifest) -> dict[str, str]:
    page = Page(render(manifest))
    return {
        e.attributes["aria-labelledby"]: " ".join(e.text.split()).replace(TIMES, "x")
        for e in page.all("section")
        if e.attributes.get("aria-labelledby") in ("use", "speed", "needs", "losses")
    }


def test_the_first_screen_recommends_and_says_why() -> None:
    said = first_screen(manifests.resnet50())
    assert "Use ort-cpu.int8 5.55x as fast as eager PyTorch" in said["use"]
    assert "95 % interval 5.44x to 5.66x" in said["use"]
    assert "fastest of the 5 engines here that passed every gate" in said["use"]
    assert "SQNR 26.7 dB (limit ≥ 20.0 dB)" in said["use"]
    assert "16/16 residual adds fused, 53/53 convolutions in INT8" in said["use"]
    assert "Closest to the reference ort-cpu.fp32" in said["needs"]
    # FP16, not the partial INT8, is what to take to an RTX card.
    assert "Where its hardware is tensorrt-rtx:sm89.fp16" in said["needs"]


def test_the_first_screen_says_where_we_lose() -> None:
    said = first_screen(manifests.resnet50())["losses"]
    assert "ort-cpu.fp16 slower than eager PyTorch: 0.920x (0.902x to 0.938x)" in said
    assert "no faster than ort-cpu.fp32, which is more precise" in said
    assert "53 of 53 convolutions compute in fp32" in said
    assert "tensorrt-rtx:sm89.int8 receipt partial: 16 of 16 residual adds are not fused" in said
    assert "not measured: built, not run here: this machine has no NVIDIA GPU" in said
    assert "ort-cpu.int8" not in said
    assert "top-1 80.12" in first_screen(manifests.resnet50(trained=True))["losses"]


def int8(speedup: float, **changes: Any) -> EngineRecord:
    timing = latency(51.6 / speedup, speedup, **changes)
    return record("ort-cpu", Precision.INT8, op="QLinearConv", dtype="int8", size=3,
                  latencies=[timing])  # fmt: skip


def test_a_build_that_loses_nowhere_says_so() -> None:
    assert first_screen(manifests.build([int8(5)]))["losses"].endswith(
        "Nowhere: each engine was measured, is faster than its baseline, passed parity and is "
        "fully fused."
    )


def test_a_rival_within_the_noise_is_named() -> None:
    rival = record("openvino", Precision.INT8, op="Convolution", dtype="int8", size=3,
                   latencies=[latency(10.4, 4.95)])  # fmt: skip
    assert "openvino.int8 may be as fast" in first_screen(manifests.build([int8(5), rival]))["use"]
    sharp = first_screen(manifests.build([int8(5, spread=0.001), rival]))["use"]
    assert "openvino.int8 may be as fast" in sharp
    slower = record("openvino", Precision.INT8, op="Convolution", dtype="int8", size=3,
                    latencies=[latency(12, 4.3)])  # fmt: skip
    assert "may be as fast" not in first_screen(manifests.build([int8(5), slower]))["use"]


def test_an_unstable_timing_is_said_beside_the_headline() -> None:
    said = first_screen(manifests.build([int8(5, stable=False)]))
    assert "unstable timing about 5.00x as fast as eager PyTorch" in said["use"]
    page = Page(render(manifests.build([int8(5, stable=False)])))
    # Nothing that did not settle is in large or bold letters.
    assert not [e for e in page.all("strong") if "\N{MULTIPLICATION SIGN}" in e.text]
    assert "measure again on an idle machine" in said["use"]
    assert "unstable timing" in said["speed"]


def test_an_engine_slower_than_eager_is_not_praised() -> None:
    said = first_screen(manifests.build([int8(0.8)]))
    assert said["use"].startswith("Stay with eager PyTorch No engine of this build beats it")
    assert "Use ort-cpu.int8" not in said["use"]
    assert "ort-cpu.int8 slower than eager PyTorch: 0.800x" in said["losses"]
    noise = first_screen(manifests.build([int8(1.005)]))
    assert "within its interval no faster than eager PyTorch: 1.00x" in noise["losses"]


def test_a_failed_engine_is_never_recommended() -> None:
    said = first_screen(manifests.failed())
    assert said["use"].startswith("Use openvino.int8")
    assert "ort-cpu.int8 receipt" not in said["losses"]
    assert "ort-cpu.int8 failed: parity: sqnr_db 11.2 < limit 20" in said["losses"]
    assert "openvino.fp32 failed: measure: the process that measures" in said["losses"]
    assert "parity FAILED" in said["speed"]


def test_an_engine_that_its_receipt_rejected_has_no_green_badge() -> None:
    entry = int8(5)
    reason = "16 of 16 residual adds are not fused"
    manifest = manifests.build(
        [
            replace(
                entry,
                files=(replace(entry.files[0], path="engines/ort-cpu/int8.onnx.rejected"),),
                receipt=replace(entry.receipt, verdict=Verdict.PARTIAL, reason=reason),
                failures=(f"receipt: partial, expected fused: {reason}",),
            )
        ]
    )
    page = Page(render(manifest))
    badges = [e for e in page.all("span", "badge") if "parity" in e.text or "rejected" in e.text]
    assert [e.text for e in badges if e.has_class("bad")] == ["rejected"] * 2
    assert [e.text for e in badges if e.has_class("soft")] == ["parity passed"] * 2
    assert not [e for e in badges if e.has_class("good")]
    assert first_screen(manifest)["losses"].count(reason) == 1


def test_no_measured_engine_is_no_recommendation() -> None:
    assert "No engine to recommend" in first_screen(manifests.unmeasured())["use"]


def test_the_smallest_and_the_most_exact_are_offered_beside_the_fastest() -> None:
    small = record("openvino", Precision.FP16, op="Convolution", dtype="fp16", size=1,
                   latencies=[latency(40, 1.3)])  # fmt: skip
    advice = advised(manifests.build([int8(5), small]))
    assert {(c.need, c.engine.id) for c in advice.choices} == {
        ("Closest to the reference", "openvino.fp16"),
        ("Smallest file", "openvino.fp16"),
    }


def test_an_unverified_receipt_is_a_loss() -> None:
    entry = int8(5)
    unverified = replace(entry.receipt, verdict=Verdict.UNVERIFIED, reason="the log was cut")
    manifest = manifests.build([replace(entry, receipt=unverified)])
    assert "receipt unverified: the log was cut" in first_screen(manifest)["losses"]


def test_an_engine_without_parity_is_a_loss() -> None:
    unchecked = replace(int8(5), parity=Skipped("no reference"))
    said = first_screen(manifests.build([unchecked]))
    assert "ort-cpu.int8 parity not checked: no reference" in said["losses"]


def test_nothing_is_said_of_a_recommendation_that_is_not_there() -> None:
    for build in (manifests.unmeasured(), manifests.build([int8(0.8)])):
        assert "none to choose from" in first_screen(build)["needs"]
    assert "also the closest" in first_screen(manifests.build([int8(5)]))["needs"]
    assert first_screen(manifests.build([]))["losses"].endswith("No engine was built.")


def test_a_speedup_that_is_no_number_is_never_the_fastest() -> None:
    good = int8(5)
    for speedup in (math.nan, math.inf):
        timing = replace(latency(1.0, 1.0), speedup=Speedup(speedup, (speedup, speedup)))
        spoilt = record("openvino", Precision.INT8, op="Convolution", dtype="int8", size=3,
                        latencies=[timing])  # fmt: skip
        for engines in ([good, spoilt], [spoilt, good]):
            best = advised(manifests.build(engines)).best
            assert best is not None
            assert best.id == "ort-cpu.int8"
        assert advised(manifests.build([spoilt])).best is None
