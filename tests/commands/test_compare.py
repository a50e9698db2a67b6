"""Comparing two builds: what is called slower, what trips a limit, and what is refused."""

from __future__ import annotations

import copy
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from exporter.artifact import Precision, Skipped
from exporter.commands.compare import Comparison, compare, load, render
from exporter.commands.compare_engine import ROUNDING, Change, relative_time
from exporter.errors import InputError, UsageError
from exporter.measure.statistics import paired_speedup
from exporter.measure.timing import Speedup
from exporter.report import flat, write_report
from tests import manifests
from tests.manifests import latency, record

Manifest = dict[str, Any]


def digits(*, speedup: float = 5.0, spread: float = 0.01, **changes: Any) -> Manifest:
    """Two engines, the second measured as given."""
    exact = record("ort-cpu", Precision.FP32, op="Conv", dtype="fp32", size=100,
                   latencies=[latency(30, 1.7)])  # fmt: skip
    timing = latency(51.6 / speedup, speedup, spread=spread, **changes)
    fast = record("ort-cpu", Precision.INT8, op="QLinearConv", dtype="int8", size=30,
                  latencies=[timing])  # fmt: skip
    return manifests.build([exact, fast])


def engine(manifest: Manifest, name: str = "ort-cpu.int8") -> dict[str, Any]:
    return next(entry for entry in manifest["engines"] if entry["id"] == name)


def printed(comparison: Comparison) -> str:
    stream = io.StringIO()
    render(comparison, Console(file=stream, width=200))
    return stream.getvalue()


def changes(comparison: Comparison) -> dict[str, Change]:
    return {speed.engine: speed.change for speed in comparison.speeds}


def test_a_build_compared_with_itself_has_not_changed() -> None:
    for manifest in (manifests.resnet50(), manifests.resnet50(trained=True)):
        result = compare(manifest, manifest, max_slowdown=0.0, max_error_growth=0.0)
        assert result.failures == result.gained == result.notes == ()
        assert result.lost == ()
        assert {speed.change for speed in result.speeds} == {Change.SAME}
        assert {error.change for error in result.errors} == {Change.SAME}
        assert len(result.speeds) == 20
        assert all(speed.relative_time == 1 for speed in result.speeds)
        assert {name for name, _ in result.not_compared} == {
            "tensorrt-rtx:sm89.fp16",
            "tensorrt-rtx:sm89.int8",
        }


def test_engines_are_gained_and_lost() -> None:
    both, one = digits(), digits()
    one["engines"] = [engine(both, "ort-cpu.fp32")]
    assert compare(one, both).gained == ("ort-cpu.int8",)
    lost = compare(both, one)
    assert lost.lost == (("ort-cpu.int8", "NEW has no such engine"),)
    assert lost.failures == ()
    one["failures"] = ["ort-cpu.fp32: not this", "ort-cpu.int8: the builder ran out of memory"]
    assert compare(both, one).lost == (("ort-cpu.int8", "the builder ran out of memory"),)


def test_a_slower_engine_is_told_with_its_interval_and_trips_the_limit() -> None:
    result = compare(digits(speedup=5.0), digits(speedup=4.5), max_slowdown=0.05)
    (slower,) = [speed for speed in result.speeds if speed.engine == "ort-cpu.int8"]
    assert slower.change is Change.SLOWER
    assert slower.relative_time == pytest.approx(5 / 4.5)
    assert 1.05 < slower.ci95[0] < slower.relative_time < slower.ci95[1] < 1.13
    assert result.failures == (
        "ort-cpu.int8 is 11.1% slower at batch 1 (+9.6% to +12.7%), limit 5.0% (--max-slowdown)",
    )
    text = printed(result)
    assert "slower" in text
    assert "1.111" in text
    assert compare(digits(speedup=5.0), digits(speedup=4.5), max_slowdown=0.2).failures == ()
    assert compare(digits(speedup=5.0), digits(speedup=4.5)).failures == ()


def test_a_faster_engine_is_told() -> None:
    result = compare(digits(speedup=4.5), digits(speedup=5.0), max_slowdown=0.0)
    assert changes(result) == {"ort-cpu.fp32": Change.SAME, "ort-cpu.int8": Change.FASTER}
    assert result.failures == ()


def test_noise_is_neither_slower_nor_faster() -> None:
    wide = compare(digits(speedup=5.0), digits(speedup=4.5, spread=0.15), max_slowdown=0.05)
    assert changes(wide)["ort-cpu.int8"] is Change.SAME
    assert wide.failures == ()
    # Told apart by the interval, but less than two runs of one engine differ.
    sharp = compare(digits(speedup=5.0, spread=1e-4), digits(speedup=4.95, spread=1e-4))
    assert changes(sharp)["ort-cpu.int8"] is Change.SAME
    unstable = compare(digits(), digits(speedup=4.0, stable=False))
    assert "(unstable)" in printed(unstable)


def test_the_interval_is_mover_s() -> None:
    assert relative_time((2, 2, 2), (1, 1, 1)) == pytest.approx((2, 2, 2))
    ratio, low, high = relative_time((4, 4 / math.e**0.03, 4 * math.e**0.04),
                                     (2, 2 / math.e**0.03, 2 * math.e**0.04))  # fmt: skip
    assert (ratio, low, high) == pytest.approx((2, 2 * math.exp(-0.05), 2 * math.exp(0.05)))


def resampled(random: np.random.Generator, delay: float) -> Speedup:
    """A run of 30 rounds: the noise of both sides is long-tailed, as on a shared machine."""
    baseline = [list(50 * random.lognormal(0, 0.02, 3)) for _ in range(30)]
    engine = [list(10 * (1 + delay) * random.lognormal(0, 0.02, 9)) for _ in range(30)]
    for round_ in engine:
        round_[0] *= random.choice([1.0, 1.6], p=[0.9, 0.1])
    return paired_speedup(baseline, engine, seed=0)


def test_five_percent_of_delay_is_found_and_none_is_not_made_up() -> None:
    random = np.random.default_rng(0)
    found = {0.0: 0, 0.05: 0}
    runs = 60
    for delay in found:
        for _ in range(runs):
            old, new = digits(), digits()
            for manifest, late in ((old, 0.0), (new, delay)):
                speedup = resampled(random, late)
                entry = engine(manifest)["latency_by_batch"][0]["speedup"]
                entry.update(median=speedup.median, ci95=list(speedup.ci95))
            found[delay] += changes(compare(old, new))["ort-cpu.int8"] is Change.SLOWER
    assert found[0.05] >= 0.95 * runs
    assert found[0.0] <= 0.02 * runs


def test_a_greater_error_is_told_and_trips_the_limit() -> None:
    old, new = digits(), digits()
    engine(new)["parity"]["rel_l2"] *= 1.5
    result = compare(old, new, max_error_growth=0.1)
    (error,) = [error for error in result.errors if error.engine == "ort-cpu.int8"]
    assert error.change is Change.LESS_ACCURATE
    assert result.failures == (
        "ort-cpu.int8's relative error grew by 50.0% (4.60e-02 to 6.90e-02), "
        "limit 10.0% (--max-error-growth)",
    )
    assert "less accurate" in printed(result)
    assert compare(old, new, max_error_growth=0.6).failures == ()
    back = compare(new, old)
    assert [error.change for error in back.errors] == [Change.SAME, Change.MORE_ACCURATE]


def test_rounding_of_float32_is_no_growth() -> None:
    old, new = digits(), digits()
    engine(old, "ort-cpu.fp32")["parity"]["rel_l2"] = ROUNDING / 8
    engine(new, "ort-cpu.fp32")["parity"]["rel_l2"] = ROUNDING
    assert compare(old, new, max_error_growth=0.0).failures == ()
    engine(new, "ort-cpu.fp32")["parity"]["rel_l2"] = ROUNDING * 2
    assert len(compare(old, new, max_error_growth=0.9).failures) == 1


def test_a_lower_top1_is_less_accurate() -> None:
    old, new = manifests.resnet50(trained=True), manifests.resnet50(trained=True)
    engine(new)["accuracy"]["top1"] -= 0.001
    result = compare(old, new)
    assert [e.engine for e in result.errors if e.change is Change.LESS_ACCURATE] == ["ort-cpu.int8"]
    assert "80.12% to 80.02%" in printed(result)


@pytest.mark.parametrize("how", ["gone", "rejected", "unmeasured", "other threads"])
def test_what_cannot_be_held_to_a_limit_trips_it(how: str) -> None:
    old, new = digits(), digits()
    row = engine(new)
    if how == "gone":
        new["engines"].remove(row)
    elif how == "rejected":
        row["path"] += ".rejected"
        row["latency"], row["latency_by_batch"] = {"skipped": "rejected"}, []
    elif how == "unmeasured":
        row["latency"], row["latency_by_batch"] = {"skipped": "not asked for"}, []
    else:
        row["latency_by_batch"][0]["threads"] = 4
    result = compare(old, new, max_slowdown=0.05)
    (failure,) = result.failures
    assert "ort-cpu.int8 at batch 1 cannot be held to --max-slowdown" in failure
    assert compare(old, new).failures == ()
    expected = {
        "gone": "lost ort-cpu.int8: NEW has no such engine",
        "rejected": "lost ort-cpu.int8: rejected now: it failed a gate",
        "unmeasured": "batch 1: not measured in NEW (not asked for)",
        "other threads": "batch 1: measured differently (threads 2 / 4)",
    }
    assert expected[how] in printed(result)
    errors = compare(old, new, max_error_growth=0.05).failures
    assert len(errors) == (1 if how in ("gone", "rejected") else 0)


def test_an_error_that_is_not_finite_cannot_be_held_to_a_limit() -> None:
    old, new = digits(), digits()
    engine(new)["parity"]["rel_l2"] = "nan"
    assert "cannot be held to --max-error-growth" in compare(
        old, new, max_error_growth=1.0
    ).failures[0]  # fmt: skip


def test_batch_sizes_are_compared_one_by_one() -> None:
    old, new = manifests.resnet50(), manifests.resnet50()
    row = engine(new)
    row["latency_by_batch"][3]["speedup"] = {"median": 4.0, "ci95": [3.9, 4.1]}
    del row["latency_by_batch"][2]
    result = compare(old, new)
    slower = [(s.engine, s.batch) for s in result.speeds if s.change is Change.SLOWER]
    assert slower == [("ort-cpu.int8", 8)]
    assert (
        "ort-cpu.int8",
        "batch 4: not measured in NEW (batch 4 was not asked for)",
    ) in result.not_compared


def test_timings_of_two_hosts_are_refused_unless_allowed() -> None:
    old, new = digits(), digits(speedup=4.0)
    new["host"]["cpu"] = "Another CPU"
    with pytest.raises(UsageError, match=r"two hosts \(cpu Intel.* / Another CPU\).*--allow-other"):
        compare(old, new)
    result = compare(old, new, allow_other_host=True)
    assert changes(result)["ort-cpu.int8"] is Change.SLOWER
    assert any("the hosts differ" in note for note in result.notes)
    for side in (old, new):
        for row in side["engines"]:
            row["latency"], row["latency_by_batch"] = {"skipped": "--no-measure"}, []
    assert len(compare(old, new).errors) == 2


def test_what_makes_figures_hard_to_compare_is_said() -> None:
    old, new = digits(), digits()
    new["host"]["versions"]["torch"] = "2.14.0"
    new["model"]["weights"]["sha256"] = "00"
    new["data"]["evaluation"]["sha256"] = "00"
    notes = compare(old, new).notes
    assert notes[0] == "versions: torch 2.13.0+cpu / 2.14.0"
    assert [word in " ".join(notes) for word in ("another PyTorch", "weights", "inputs")] == [
        True
    ] * 3


def test_two_models_and_senseless_limits_are_refused() -> None:
    other = digits()
    other["model"]["name"] = "resnet18"
    with pytest.raises(UsageError, match="OLD is a build of resnet50, NEW of resnet18"):
        compare(digits(), other)
    for limit in (-0.1, math.nan):
        with pytest.raises(UsageError, match="--max-slowdown"):
            compare(digits(), digits(), max_slowdown=limit)
        with pytest.raises(UsageError, match="--max-error-growth"):
            compare(digits(), digits(), max_error_growth=limit)


def test_a_folder_a_manifest_and_a_report_load_alike(tmp_path: Path) -> None:
    manifest = manifests.resnet50()
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    write_report(tmp_path, manifest)
    views = [load(tmp_path), load(tmp_path / "manifest.json"), load(tmp_path / "report.json")]
    assert views[0] == views[1] == views[2] == flat(manifest)
    (tmp_path / "manifest.json").unlink()
    assert load(tmp_path) == views[0]
    assert compare(views[0], manifest) == compare(manifest, views[0])


def damaged(change: Callable[[Manifest], object]) -> str:
    manifest = copy.deepcopy(digits())
    change(manifest)
    return json.dumps(manifest)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("\udcff", "not valid JSON"),
        ("[1]", "schema None, expected 1"),
        ('{"schema": 2}', "schema 2, expected 1"),
        ('{"schema": 1}', "KeyError: 'model'"),
        ('{"schema": 1, "kind": "report", "model": "x"}', "KeyError: 'host'"),
        (damaged(lambda m: m["engines"][0].pop("parity")), "KeyError: 'parity'"),
        (damaged(lambda m: m.update(engines=[3])), "TypeError"),
        (damaged(lambda m: m["engines"][0]["latency_by_batch"][0]["speedup"].update(median=0)),
         "no speedup within its own interval"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_build_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "old.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InputError) as raised:
        load(path)
    assert message in str(raised.value)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_nothing_there_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no manifest\.json or report\.json"):
        load(tmp_path)
    with pytest.raises(InputError, match=r"cannot read .*: No such file"):
        load(tmp_path / "absent.json")


def test_names_are_printed_as_they_are() -> None:
    manifest = digits()
    manifest["model"]["name"] = "[red]resnet[/red]"
    assert "[red]resnet[/red]" in printed(compare(manifest, manifest))


def test_an_engine_without_parity_is_not_compared_in_error() -> None:
    entry = record("ort-cpu", Precision.FP32, op="Conv", dtype="fp32", size=1,
                   parity=Skipped("no reference"))  # fmt: skip
    manifest = manifests.build([entry])
    result = compare(manifest, manifest, max_error_growth=0.1)
    assert result.failures == ()
    assert ("ort-cpu.fp32", "no error in OLD (no reference)") in result.not_compared
