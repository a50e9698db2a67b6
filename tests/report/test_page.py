"""The page: well formed, complete, true to its manifest, and nothing gets into it but text."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import attrs
import pytest

from exporter.artifact import ModelKind, Precision
from exporter.builds.manifest import to_json
from exporter.builds.records import Manifest
from exporter.measure.timing import BlockTime, Profile
from exporter.prove.certificate import Parity
from exporter.report import render
from exporter.report.page import drift_bucket, time_width
from exporter.search.budget import BudgetKind
from tests import gpu_manifests, manifests
from tests.hostile import HOSTILE, hostile
from tests.manifests import latency, record
from tests.pages import Page, lookup
from tests.richer_manifests import gated, mixed, under_load

SECTIONS = ("use", "speed", "needs", "losses", "latency", "accuracy", "gate", "blocks", "drift",
            "roofline", "scaling", "throughput", "receipts", "predicted", "data", "environment",
            "again")  # fmt: skip
MANIFESTS: dict[str, Callable[[], Manifest]] = {
    "whole": manifests.resnet50,
    "trained": lambda: manifests.resnet50(trained=True),
    "no drift": lambda: manifests.resnet50(drift=False),
    "no engine": lambda: manifests.build([]),
    "no residual blocks": lambda: manifests.without_blocks(manifests.resnet50()),
    "nothing measured": manifests.unmeasured,
    "not finite": manifests.not_finite,
    "failed": manifests.failed,
    "a gpu": gpu_manifests.a_gpus_build,
    "two devices": gpu_manifests.both_devices,
    "under load": under_load,
    "mixed": mixed,
    "mixed, with labels": lambda: mixed(BudgetKind.MAX_DROP),
    "gated": gated,
    "under load, limited": lambda: under_load(30.0),
}


@pytest.fixture(scope="module", params=MANIFESTS)
def build(request: pytest.FixtureRequest) -> tuple[Any, Page]:
    """Each kind of build, as its file holds it, with its page, read strictly."""
    manifest = MANIFESTS[request.param]()
    return to_json(manifest), Page(render(manifest))


@pytest.fixture(scope="module")
def whole() -> tuple[Any, Page]:
    manifest = manifests.resnet50()
    return to_json(manifest), Page(render(manifest))


def test_the_page_is_well_formed(build: tuple[Any, Page]) -> None:
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


def test_nothing_is_loaded_from_anywhere(build: tuple[Any, Page]) -> None:
    _, page = build
    loading = ("src", "srcset", "action", "data", "poster", "background", "xlink:href")
    for element in page.elements:
        loads = set(loading) & set(element.attributes)
        if element.tag == "img":  # a picture that the page holds itself
            assert element.attributes["src"].startswith("data:image/jpeg;base64,")
            loads.remove("src")
        assert not loads, element
        assert element.attributes.get("href", "#")[:1] == "#" or (
            element.tag == "link" and element.attributes["href"] == "data:,"
        )
        # The content security policy would drop them without a word.
        assert "style" not in element.attributes
        assert not [name for name in element.attributes if name.startswith("on")]
    assert "://" not in page.source
    assert "@import" not in page.source
    assert "url(" not in page.source


def test_the_policy_allows_this_style_and_this_script_alone(whole: tuple[Any, Page]) -> None:
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


def test_every_section_is_there_and_says_something(build: tuple[Any, Page]) -> None:
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
    assert "Costs are predicted for plans whose builder lists their layers" in nothing
    assert "exporter export resnet50 --target tensorrt-rtx:sm89 --precision fp16" in nothing
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


def test_every_figure_is_the_manifest_s(build: tuple[Any, Page]) -> None:
    manifest, page = build
    figures = page.all("data")
    assert len(figures) >= 12
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


def test_every_number_of_a_table_is_a_figure(build: tuple[Any, Page]) -> None:
    _, page = build
    inside = {id(e) for e in page.all("td", "n")}
    figures = sum(1 for e in page.all("data") if e.parents[-1] == "td")
    dashes = sum(1 for e in page.all("td", "n") if e.text.strip() == "\N{EM DASH}")
    assert figures + dashes >= len(inside)
    for cell in page.all("td", "n"):
        assert cell.text.strip()


def test_the_whole_build_shows_its_figures(whole: tuple[Any, Page]) -> None:
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


def test_bars_are_as_long_as_the_speedups(whole: tuple[Any, Page]) -> None:
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


@pytest.mark.parametrize("trained", [False, True])
def test_untrained_weights_are_announced_loudly(trained: bool) -> None:
    page = Page(render(manifests.resnet50(trained=trained)))
    banners = [e.text for e in page.all("p", "banner", "warn") if "Untrained" in e.text]
    assert len(banners) == (0 if trained else 1)
    assert ("Untrained." in page.source) is not trained


def test_costs_of_gpus_that_are_not_here_are_labelled(whole: tuple[Any, Page]) -> None:
    _, page = whole
    (section,) = [
        e for e in page.all("section") if e.attributes.get("aria-labelledby") == "predicted"
    ]
    assert "Predicted, not measured" in section.text
    assert "0.0936" in section.text


def test_hostile_flips_stay_text() -> None:
    page = Page(render(hostile(gated())))
    assert not page.all("img")
    assert not [one for one in page.all("script") if "alert" in one.text]
    assert [one.attributes["src"] for one in Page(render(gated())).all("img")] == [
        "data:image/jpeg;base64,/9j/4AAQ"
    ] * 3


def test_hostile_names_stay_text() -> None:
    manifest = manifests.failed()
    host = replace(manifest.host, versions={**manifest.host.versions, HOSTILE: "1.0"})
    page = Page(render(hostile(replace(manifest, host=host))))
    assert len(page.all("script")) == 1
    assert page.all("img") == []
    assert page.all("title")[0].text.startswith(HOSTILE)
    assert "49" not in page.all("title")[0].text
    assert "alert(1)" not in page.all("script")[0].text
    for element in page.elements:
        assert not [name for name in element.attributes if name.startswith("on")]
    command = next(e.text for e in page.all("code") if e.text.startswith("exporter export"))
    assert "'</title>" in command  # quoted for the shell


def section(page: Page, name: str) -> str:
    """The text of a section."""
    (found,) = [e for e in page.all("section") if e.attributes.get("aria-labelledby") == name]
    return " ".join(found.text.split())


def test_batch_1_is_shown_against_batches(whole: tuple[Any, Page]) -> None:
    manifest, page = whole
    shown = {e.attributes["data-source"]: e.attributes["value"] for e in page.all("data")}
    for i, engine in enumerate(manifest["engines"]):
        found = engine["parity"]["batch_max_abs"]
        assert json.loads(shown[f"engines[{i}].parity.batch_max_abs"]) == found > 0
    said = section(page, "accuracy")
    assert "batch 1 against batches \N{LESS-THAN OR EQUAL TO} 2.2e-4" in said
    one_size = manifests.with_engine(
        manifests.resnet50(), "ort-cpu.fp32",
        parity=replace(manifests.parity_of(manifests.resnet50(), "ort-cpu.fp32"), batch_sizes=(8,)),
    )  # fmt: skip
    sources = [e.attributes["data-source"] for e in Page(render(one_size)).all("data")]
    assert "engines[0].parity.batch_max_abs" not in sources


def test_an_engine_that_could_not_be_built_is_shown_with_stage_and_reason() -> None:
    page = Page(render(manifests.failed()))
    row = "openvino.fp16 failed to build the builder ran out of memory"
    assert row in section(page, "speed")
    assert "openvino.fp16 failed to build: the builder ran out of memory" in section(page, "losses")
    alone = Page(render(replace(manifests.failed(), engines=())))
    assert row in section(alone, "speed")
    assert "No engine was built." not in section(alone, "speed")


def test_all_that_failed_is_said_at_the_top() -> None:
    banners = Page(render(manifests.failed())).all("p", "banner", "bad")
    assert [" ".join(e.text.split()) for e in banners] == [
        f"Failed: {failure}" for failure in manifests.failed().failures
    ]


def test_the_baseline_of_an_onnx_file_is_named_as_it_is_run() -> None:
    whole = manifests.resnet50()
    own = replace(whole, model=replace(whole.model, kind=ModelKind.ONNX))
    for manifest in (own, replace(own, engines=())):
        page = Page(render(manifest))
        assert page.with_id("speed").text == (
            "Speedup over the given file in ONNX Runtime, all optimizations on"
        )
        assert "eager PyTorch" not in section(page, "use")
    assert Page(render(whole)).with_id("speed").text == "Speedup over eager PyTorch"


def test_what_is_not_finite_is_printed_and_not_drawn() -> None:
    page = Page(render(manifests.not_finite()))
    shown = {e.attributes["data-source"]: e.attributes["value"] for e in page.all("data")}
    assert shown["engines[1].latency.speedup.median"] == "nan"
    assert shown["engines[1].parity.rel_l2"] == "inf"
    assert shown["engines[1].parity.sqnr_db"] == "-inf"
    for element in page.elements:
        if element.tag in ("rect", "line", "circle", "use", "svg", "text"):
            places = [element.attributes.get(key, "") for key in ("x", "x1", "x2", "cx", "width")]
            assert not re.search("nan|inf", " ".join(places)), element


@pytest.mark.parametrize(
    ("error", "shade"), [(0.0, "0"), (9e-7, "0"), (1e-6, "1"), (5e-4, "3"), (0.1, "6"), (9.0, "6")]
)
def test_a_shade_is_a_decade(error: float, shade: str) -> None:
    assert drift_bucket(error) == shade
    assert drift_bucket(float("nan")) == ""


def test_a_block_s_bar_is_its_part_of_the_slowest_block_s_time() -> None:
    times = [BlockTime("a", 30.0, 0.3), BlockTime("b", 60.0, 0.6), BlockTime("c", -1.0, 0.1)]
    profile = Profile("source", 1, 2, 3, 100.0, 10.0, tuple(times), ())
    assert [time_width(profile, block) for block in times] == ["50.0%", "100.0%", "0.0%"]
    still = replace(profile, blocks=(BlockTime("a", 0.0, 0.0),))
    assert time_width(still, still.blocks[0]) == "0.0%"


def test_a_manifest_without_a_number_of_threads_has_a_page() -> None:
    manifest = manifests.resnet50()
    request = attrs.evolve(manifest.request, threads=None)
    facts = Page(render(replace(manifest, request=request))).all("p", "facts")[0].text
    assert "threads" not in facts


def test_flips_are_listed_with_their_margins_and_the_bound_that_decided() -> None:
    build = manifests.resnet50(trained=True)
    limited = {"sqnr_db": 20.0, "top1_agreement": 0.95}
    engines = tuple(
        replace(e, parity=replace(e.parity, limits=limited)) if e.id == "ort-cpu.int8" else e
        for e in build.engines
        if isinstance(e.parity, Parity)
    )
    text = " ".join(Page(render(replace(build, engines=engines))).all("body")[0].text.split())
    assert "ort-cpu.int8 1 of 64 inputs get another class than the reference's" in text
    assert "95 % bound of top-1 agreement 99.92 % (limit ≥ 95.00 %)" in text
    assert "0.0210" in text
    assert "get another class" not in Page(render(manifests.resnet50())).all("body")[0].text
