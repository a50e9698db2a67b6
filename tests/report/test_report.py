"""The report: what it recommends, that each figure is the manifest's, and that nothing leaks in."""

from __future__ import annotations

import base64
import copy
import hashlib
import itertools
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exporter.artifact import Precision, Skipped, Verdict
from exporter.errors import InputError
from exporter.prove.certificate import Parity
from exporter.report import charts, flat, render, scales, write_report
from exporter.report.advice import advise
from exporter.report.engines import views
from exporter.report.roofline import roofline_panels
from exporter.report.traced import Traced, number, scientific, significant
from tests import manifests
from tests.manifests import latency, record
from tests.pages import Page, lookup

Manifest = dict[str, Any]
SECTIONS = ("use", "speed", "needs", "losses", "latency", "accuracy", "blocks", "drift", "roofline",
            "scaling", "receipts", "predicted", "data", "environment", "again")  # fmt: skip


def plain(manifest: Manifest) -> Manifest:
    """The same build of a network without residual blocks."""
    manifest["model"]["residual_blocks"] = []
    for engine in manifest["engines"]:
        engine["receipt"].update(residual_adds=0, residual_adds_fused=0, blocks=[], leftovers=[])
        if "blocks" in engine["parity"]:
            engine["parity"]["blocks"] = []
    return manifest


def unmeasured() -> Manifest:
    entry = record("ort-cpu", Precision.FP32, op="Conv", dtype="fp32", size=10,
                   skipped="not asked for (--no-measure)",
                   parity=Skipped("no reference"))  # fmt: skip
    return manifests.build([entry])


def not_finite() -> Manifest:
    """An engine that answers with infinities, and one that answers bit for bit."""
    manifest = manifests.resnet50()
    manifest["engines"][1]["parity"].update(rel_l2="inf", sqnr_db="-inf", max_abs="nan")
    manifest["engines"][0]["parity"].update(rel_l2=0.0, sqnr_db="inf", max_abs=0.0)
    return manifest


MANIFESTS: dict[str, Callable[[], Manifest]] = {
    "whole": manifests.resnet50,
    "trained": lambda: manifests.resnet50(trained=True),
    "no drift": lambda: manifests.resnet50(drift=False),
    "no engine": lambda: manifests.build([]),
    "no residual blocks": lambda: plain(manifests.resnet50()),
    "nothing measured": unmeasured,
    "not finite": not_finite,
}


@pytest.fixture(scope="module", params=MANIFESTS)
def build(request: pytest.FixtureRequest) -> tuple[Manifest, Page]:
    """Each kind of build with its page, read strictly."""
    manifest = MANIFESTS[request.param]()
    return manifest, Page(render(manifest))


@pytest.fixture(scope="module")
def whole() -> tuple[Manifest, Page]:
    manifest = manifests.resnet50()
    return manifest, Page(render(manifest))


def test_the_page_is_well_formed(build: tuple[Manifest, Page]) -> None:
    _, page = build
    assert page.declared == "doctype html"
    assert page.all("html")[0].attributes["lang"] == "en"
    ids = [e.attributes["id"] for e in page.elements if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    for element in page.elements:
        if "aria-labelledby" in element.attributes:
            assert element.attributes["aria-labelledby"] in ids
        href = element.attributes.get("href", "")
        assert not href.startswith("#") or href[1:] in ids, href
    levels = [int(e.tag[1]) for e in page.elements if re.fullmatch("h[1-6]", e.tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_nothing_is_loaded_from_anywhere(build: tuple[Manifest, Page]) -> None:
    _, page = build
    loading = ("src", "srcset", "action", "data", "poster", "background", "xlink:href")
    for element in page.elements:
        assert not set(loading) & set(element.attributes), element
        assert element.attributes.get("href", "#")[:1] == "#" or (
            element.tag == "link" and element.attributes["href"] == "data:,"
        )
        # The content security policy would drop them without a word.
        assert "style" not in element.attributes
        assert not [name for name in element.attributes if name.startswith("on")]
    assert "://" not in page.source
    assert "@import" not in page.source
    assert "url(" not in page.source


def test_the_policy_allows_this_style_and_this_script_alone(whole: tuple[Manifest, Page]) -> None:
    _, page = whole
    (policy,) = [
        e.attributes["content"]
        for e in page.all("meta")
        if e.attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        (element,) = page.all(tag)
        digest = base64.b64encode(hashlib.sha256(element.text.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert set(rules) == {"default-src", "style-src", "script-src", "img-src", "base-uri",
                          "form-action"}  # fmt: skip


def test_every_section_is_there_and_says_something(build: tuple[Manifest, Page]) -> None:
    _, page = build
    for section in SECTIONS:
        assert page.with_id(section).tag == "h2"
    labelled = {e.attributes.get("aria-labelledby"): e for e in page.all("section")}
    for section in SECTIONS:
        heading = page.with_id(section)
        said = labelled[section].text.replace(heading.text, "", 1)
        assert len(said.split()) >= 4, section


def test_what_is_absent_says_why() -> None:
    def text(name: str) -> str:
        return " ".join(Page(render(MANIFESTS[name]())).all("main")[0].text.split())

    assert "exporter validate DIR --blocks" in text("no drift")
    assert "No engine was built." in text("no engine")
    assert "This network has no residual blocks" in text("no residual blocks")
    nothing = text("nothing measured")
    assert "not asked for (--no-measure)" in nothing
    assert "parity: no reference" in nothing
    assert "exporter benchmark DIR" in nothing
    assert "Costs are predicted for TensorRT-RTX plans alone" in nothing
    one_batch = manifests.build(
        [record("ort-cpu", Precision.FP32, op="Conv", dtype="fp32", size=1,
                latencies=[latency(30, 1.7)])]
    )  # fmt: skip
    assert "Fewer than two batch sizes were measured" in render(one_batch)


def shown_number(text: str) -> float:
    """The number in a figure's text."""
    compact = re.sub("[\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}]", "", text)
    (found,) = re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", compact)
    return float(found)


UNITS = {"%": 100.0, "MB": 1e-6, "G": 1e-9, "M": 1e-6, "k": 1e-3}


def test_every_figure_is_the_manifest_s(build: tuple[Manifest, Page]) -> None:
    manifest, page = build
    figures = page.all("data")
    assert len(figures) >= 15
    for figure in figures:
        sources = figure.attributes["data-source"].split(" ")
        values = [lookup(manifest, source) for source in sources]
        value = figure.attributes["value"]
        if len(values) == 1:
            assert value == (values[0] if isinstance(values[0], str) else json.dumps(values[0]))
        if not value.strip("-").isalpha():  # inf, nan
            unit = re.sub(r"^[\d.e\s-]*", "", figure.text).strip()
            expected = float(value) * UNITS.get(unit, 1.0)
            assert shown_number(figure.text) == pytest.approx(expected, rel=0.051), figure
        assert figure.attributes["title"].startswith((sources[0], value))
    for element in page.elements:
        if element.tag != "data" and "data-source" in element.attributes:
            for source in element.attributes["data-source"].split(" "):
                lookup(manifest, source)


def test_every_number_of_a_table_is_a_figure(build: tuple[Manifest, Page]) -> None:
    _, page = build
    inside = {id(e) for e in page.all("td", "n")}
    figures = sum(1 for e in page.all("data") if e.parents[-1] == "td")
    dashes = sum(1 for e in page.all("td", "n") if e.text.strip() == "\N{EM DASH}")
    assert figures + dashes >= len(inside)
    for cell in page.all("td", "n"):
        assert cell.text.strip()


def test_the_whole_build_shows_its_figures(whole: tuple[Manifest, Page]) -> None:
    manifest, page = whole
    shown = {e.attributes["data-source"] for e in page.all("data")}
    for i, engine in enumerate(manifest["engines"]):
        expected = [
            f"engines[{i}].receipt.{key}" for key in ("convs", "float_ops", "residual_adds")
        ]
        expected += [f"engines[{i}].parity.{key}" for key in ("rel_l2", "sqnr_db", "max_abs")]
        for j, _ in enumerate(engine["latency_by_batch"]):
            expected += [f"engines[{i}].latency_by_batch[{j}].{key}" for key in
                         ("p50_ms", "p90_ms", "p99_ms", "speedup.median", "speedup.ci95[0]",
                          "speedup.ci95[1]")]  # fmt: skip
        for j, _ in enumerate(engine["parity"]["blocks"]):
            expected.append(f"engines[{i}].parity.blocks[{j}].added_rel_l2")
        for j, _ in enumerate(engine["predicted"]):
            expected.append(f"engines[{i}].predicted[{j}].time_ms")
        assert set(expected) <= shown
    drawn = {e.attributes.get("data-source") for e in page.all("circle")}
    assert "engines[2].parity.blocks[15].built_up_rel_l2" in drawn


def test_bars_are_as_long_as_the_speedups(whole: tuple[Manifest, Page]) -> None:
    manifest, page = whole
    bars = [e for e in page.all("svg", "bar") if "latency.speedup" in str(e.attributes)]
    medians = []
    for bar in bars:
        at = page.elements.index(bar)
        rect, whisker, _, _, one = page.elements[at + 1 : at + 6]
        scale = float(one.attributes["x1"].strip("%"))
        speedup = lookup(manifest, bar.attributes["data-source"])
        places = (
            rect.attributes["width"],
            whisker.attributes["x1"],
            whisker.attributes["x2"],
        )
        drawn = [float(place.strip("%")) / scale for place in places]
        assert drawn == pytest.approx([speedup["median"], *speedup["ci95"]], rel=1e-2)
        medians.append(speedup["median"])
    assert medians == sorted(medians, reverse=True)
    assert len(medians) == 5


TIMES = "\N{MULTIPLICATION SIGN}"


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


def int8(speedup: float, **changes: Any) -> Any:
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
    assert "no faster than eager PyTorch within its interval" in noise["losses"]


def failed() -> Manifest:
    """The fastest engine missed its parity limit and was rejected."""
    manifest = manifests.resnet50()
    engine = manifest["engines"][2]
    engine["path"] += ".rejected"
    engine["parity"].update(passed=False, failures=["sqnr_db 11.2 < limit 20 (worst input: 3)"])
    engine["latency"], engine["latency_by_batch"] = {"skipped": "rejected: it failed a gate"}, []
    manifest["failures"] = ["ort-cpu.int8: parity: sqnr_db 11.2 < limit 20 (worst input: 3)"]
    return manifest


def test_a_failed_engine_is_never_recommended() -> None:
    said = first_screen(failed())
    assert said["use"].startswith("Use openvino.int8")
    assert "ort-cpu.int8 receipt" not in said["losses"]
    assert "ort-cpu.int8 failed parity: sqnr_db 11.2 < limit 20" in said["losses"]
    assert "parity FAILED" in said["speed"]
    (banner,) = Page(render(failed())).all("p", "banner", "bad")
    assert "Failed: ort-cpu.int8: parity" in banner.text


def test_an_engine_that_its_receipt_rejected_has_no_green_badge() -> None:
    manifest = manifests.build([int8(5)])
    engine = manifest["engines"][0]
    engine["path"] += ".rejected"
    engine["receipt"].update(verdict="partial", reason="16 of 16 residual adds are not fused")
    page = Page(render(manifest))
    badges = [e for e in page.all("span", "badge") if "parity" in e.text or "rejected" in e.text]
    assert [e.text for e in badges if e.has_class("bad")] == ["rejected"] * 2
    assert [e.text for e in badges if e.has_class("soft")] == ["parity passed"] * 2
    assert not [e for e in badges if e.has_class("good")]


def test_no_measured_engine_is_no_recommendation() -> None:
    assert "No engine to recommend" in first_screen(unmeasured())["use"]


@pytest.mark.parametrize("trained", [False, True])
def test_untrained_weights_are_announced_loudly(trained: bool) -> None:
    page = Page(render(manifests.resnet50(trained=trained)))
    banners = [e.text for e in page.all("p", "banner", "warn") if "Untrained" in e.text]
    assert len(banners) == (0 if trained else 1)
    assert ("Untrained." in page.source) is not trained


def test_costs_of_gpus_that_are_not_here_are_labelled(whole: tuple[Manifest, Page]) -> None:
    _, page = whole
    (section,) = [
        e for e in page.all("section") if e.attributes.get("aria-labelledby") == "predicted"
    ]
    assert "Predicted, not measured" in section.text
    assert "0.0936" in section.text


HOSTILE = "</title><script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7*7 }}&amp;"


def hostile(value: Any) -> Any:
    """Every string of a manifest replaced, but for those that code decides by."""
    decisive = {"fused", "partial", "unverified", "engine", "graph", "fp32", "fp16", "int8"}
    if isinstance(value, dict):
        return {key: hostile(item) for key, item in value.items()}
    if isinstance(value, list):
        return [hostile(item) for item in value]
    return HOSTILE + value if isinstance(value, str) and value not in decisive else value


def test_hostile_names_stay_text() -> None:
    manifest = hostile(manifests.resnet50(trained=True))
    manifest["host"]["versions"][HOSTILE] = HOSTILE
    manifest["failures"] = [HOSTILE]
    page = Page(render(manifest))
    assert len(page.all("script")) == 1
    assert page.all("img") == []
    assert page.all("title")[0].text.startswith(HOSTILE)
    assert "49" not in page.all("title")[0].text
    assert "alert(1)" not in page.all("script")[0].text
    for element in page.elements:
        assert not [name for name in element.attributes if name.startswith("on")]
    command = next(e.text for e in page.all("code") if e.text.startswith("exporter export"))
    assert "'</title>" in command  # quoted for the shell


def test_the_same_manifest_gives_the_same_bytes(tmp_path: Path) -> None:
    manifest = manifests.resnet50()
    pages = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        paths = write_report(tmp_path / name, copy.deepcopy(manifest))
        assert [path.name for path in paths] == ["report.html", "report.json"]
        assert sorted(p.name for p in (tmp_path / name).iterdir()) == ["report.html", "report.json"]
        pages.append([path.read_bytes() for path in paths])
        assert str(tmp_path).encode() not in pages[-1][0] + pages[-1][1]
    assert pages[0] == pages[1]
    assert manifest == manifests.resnet50()


def test_two_processes_that_hash_differently_write_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(manifests.resnet50(trained=True)))
    write = (
        "import json, sys, pathlib; from exporter.report import write_report; "
        "write_report(pathlib.Path(sys.argv[2]), json.loads(open(sys.argv[1]).read()))"
    )
    written = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        subprocess.run(
            [sys.executable, "-c", write, str(tmp_path / "manifest.json"), str(folder)],
            env={**os.environ, "PYTHONHASHSEED": seed}, check=True,
        )  # fmt: skip
        written.append([(folder / name).read_bytes() for name in ("report.html", "report.json")])
    assert written[0] == written[1]


def test_the_report_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(InputError, match=r"cannot write .*report\.html"):
        write_report(tmp_path, manifests.resnet50())
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("path", ["engines[0].latency.p90_ms", "host.versions", "data.calibration",
                                  "engines[1].receipt.float_ops"])  # fmt: skip
def test_a_manifest_that_lacks_a_field_is_named(path: str, tmp_path: Path) -> None:
    manifest = manifests.resnet50()
    parent, _, key = path.rpartition(".")
    del lookup(manifest, parent)[key]
    with pytest.raises(InputError) as raised:
        write_report(tmp_path, manifest)
    assert str(raised.value) == f"the manifest has no {path}; export the model again"
    assert list(tmp_path.iterdir()) == []


def test_the_flat_view_is_one_row_an_engine() -> None:
    manifest = manifests.resnet50(trained=True)
    view = flat(manifest)
    assert view["recommended"] == "ort-cpu.int8"
    assert [row["id"] for row in view["engines"]] == [e["id"] for e in manifest["engines"]]
    row = view["engines"][2]
    assert (row["receipt_verdict"], row["parity_passed"], row["top1"]) == ("fused", True, 0.8012)
    assert [timing["batch"] for timing in row["latencies"]] == [1, 2, 4, 8]
    assert row["latencies"][0]["speedup_low"] < row["latencies"][0]["speedup"]
    away = view["engines"][5]
    assert (away["latencies"], away["latency_skipped"]) == ([], manifests.NO_GPU)
    nested = [k for row in view["engines"] for k, v in row.items() if isinstance(v, dict)]
    assert nested == []
    assert json.loads(json.dumps(view, allow_nan=False)) == view


@pytest.mark.parametrize(
    ("value", "text"),
    [(9.2817, "9.28"), (51.6, "51.6"), (0.062134, "0.0621"), (1240.4, "1240"), (9.996, "10.0"),
     (99.96, "100"), (0, "0"), (-3.14159, "-3.14")],
)  # fmt: skip
def test_three_significant_digits_without_an_exponent(value: float, text: str) -> None:
    assert significant(value) == text


def test_errors_have_two_digits_and_an_exponent() -> None:
    assert [scientific(x) for x in (3.14e-7, 0.046, 0, 1.0)] == ["3.1e-7", "4.6e-2", "0", "1.0e0"]


def test_what_is_not_finite_is_no_number() -> None:
    assert [number(Traced(raw)) for raw in ("inf", math.inf, True, None, 2)] == [None] * 4 + [2.0]


def test_axes_hold_their_values() -> None:
    for values in ([0.92, 5.66], [1.0], [714.7, 1.0], [1.0000001], [0.3, 0.7]):
        axis = scales.linear(values)
        assert axis.low == 0
        assert axis.high >= max(values)
        assert 2 <= len(axis.ticks) <= 7
        assert axis.place(axis.high) == 100
        assert axis.place(axis.high / 2) == 50
    assert [tick.label for tick in scales.decades([3e-7, 0.04]).ticks] == [
        f"1e-{power}" for power in (7, 6, 5, 4, 3, 2, 1)
    ]
    assert scales.decades([1e-5]).place(1e-4) == 100
    wide = scales.spread([0.3, 400.0])
    assert wide.logarithmic
    assert all(0 < wide.place(value) < 100 for value in (0.3, 400.0))
    assert not scales.spread([9.3, 51.6]).logarithmic
    assert [tick.place for tick in scales.steps([1, 2, 4, 8]).ticks] == [0, 33.33, 66.67, 100]
    assert [tick.place for tick in scales.steps([8]).ticks] == [50]
    decibels = scales.between([26.4, 26.6])
    assert decibels.low < 26.4 < 26.6 < decibels.high


def test_the_roofline_places_each_layer_under_its_own_roof() -> None:
    manifest = manifests.resnet50()
    traced = Traced(manifest)
    panels = roofline_panels(traced, views(traced))
    assert [p.engine.id for p in panels] == [
        e["id"] for e in manifest["engines"] if "layers" in e["profile"]
    ]
    panel = next(p for p in panels if p.engine.id == "ort-cpu.int8")
    dot, layer = panel.dots[0], manifest["engines"][2]["profile"]["layers"][0]
    rate = 2 * layer["macs"] / layer["microseconds"] / 1e3
    assert dot.rate.value == pytest.approx(rate)
    assert dot.intensity.value == pytest.approx(2 * layer["macs"] / layer["bytes"])
    roof = min(1278.4, 26.4 * float(dot.intensity.value))
    assert dot.fraction.value == pytest.approx(rate / roof)
    del manifest["host"]["ceilings"]
    assert roofline_panels(traced, views(traced)) == ()


def test_the_front_holds_the_engines_that_nothing_beats() -> None:
    chart = charts.scatter_chart(views(Traced(manifests.resnet50())))
    assert chart is not None
    # openvino.fp32 is as exact as ort-cpu.fp32 and slower; FP16 is slower and less exact.
    assert [p.engine.id for p in chart.points if p.best] == ["ort-cpu.fp32", "ort-cpu.int8"]
    assert len(chart.front) == 2
    exact = charts.scatter_chart(views(Traced(not_finite())))
    assert exact is not None
    assert "ort-cpu.fp32" in [p.engine.id for p in exact.points]


def test_letters_don_t_cover_each_other() -> None:
    same = [
        record(
            target, Precision.FP32, op="Conv", dtype="fp32", size=1, latencies=[latency(30, 1.7)]
        )
        for target in ("ort-cpu", "openvino", "tensorrt", "ort-cuda")
    ]
    chart = charts.scatter_chart(views(Traced(manifests.build(same))))
    assert chart is not None
    assert len({point.label for point in chart.points}) == 4
    scaling = charts.scaling_chart(views(Traced(manifests.resnet50())))
    assert scaling is not None
    ends = sorted(line.end for line in scaling.lines)
    assert min(b - a for a, b in itertools.pairwise(ends)) >= charts.LETTER_PX
    assert ends[-1] <= charts.SCATTER_HEIGHT_PX


def test_the_front_does_not_run_through_a_letter() -> None:
    chart = charts.scatter_chart(views(Traced(manifests.resnet50())))
    assert chart is not None
    (x0, y0), (x1, y1) = (
        (x * charts.NARROWEST_PX / 100, -y * charts.SCATTER_HEIGHT_PX / 100) for x, y in chart.front
    )
    for point in chart.points:
        x = point.x * charts.NARROWEST_PX / 100 + point.label[0] + 4
        y = -point.y * charts.SCATTER_HEIGHT_PX / 100 + point.label[1] - 4
        assert not (x0 - 5 < x < x1 + 5 and abs(y - y0) < 6), point.engine.id
        assert not (abs(x - x1) < 5 and min(y0, y1) - 6 < y < max(y0, y1) + 6), point.engine.id


def test_the_smallest_and_the_most_exact_are_offered_beside_the_fastest() -> None:
    small = record("openvino", Precision.FP16, op="Convolution", dtype="fp16", size=1,
                   latencies=[latency(40, 1.3)])  # fmt: skip
    advice = advise(*_traced(manifests.build([int8(5), small])))
    assert {(c.need, c.engine.id) for c in advice.choices} == {
        ("Closest to the reference", "openvino.fp16"),
        ("Smallest file", "openvino.fp16"),
    }


def test_an_unverified_receipt_is_a_loss() -> None:
    entry = int8(5)
    unverified = replace(entry.receipt, verdict=Verdict.UNVERIFIED, reason="the log was cut")
    manifest = manifests.build([replace(entry, receipt=unverified)])
    assert "receipt unverified: the log was cut" in first_screen(manifest)["losses"]
    assert isinstance(entry.parity, Parity)


def _traced(manifest: Manifest) -> tuple[Traced, Any]:
    traced = Traced(manifest)
    return traced, views(traced)
