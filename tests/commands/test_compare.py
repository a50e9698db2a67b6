"""Comparing two builds: what is called slower, what trips a limit, and what is refused."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from exporter.artifact import EngineFile, Precision, Skipped
from exporter.builds import manifest
from exporter.builds.records import Manifest, SamplesRecord
from exporter.commands.compare import Comparison, compare, load, render
from exporter.commands.compare_engine import Change
from exporter.errors import InputError, UsageError
from exporter.measure.timing import Latency, Speedup
from exporter.prove.certificate import Accuracy
from exporter.report import flat, write_report
from tests import manifests
from tests.manifests import latency, parity_of, record, with_engine

INT8 = "ort-cpu.int8"


def digits(*, speedup: float = 5.0, spread: float = 0.01, **changes: Any) -> Manifest:
    """Two engines, the second measured as given."""
    exact = record("ort-cpu", Precision.FP32, op="Conv", dtype="fp32", size=100,
                   latencies=[latency(30, 1.7)])  # fmt: skip
    timing = latency(51.6 / speedup, speedup, spread=spread, **changes)
    fast = record("ort-cpu", Precision.INT8, op="QLinearConv", dtype="int8", size=30,
                  latencies=[timing])  # fmt: skip
    return manifests.build([exact, fast])


def compared(old: Manifest, new: Manifest, **limits: Any) -> Comparison:
    return compare(flat(old), flat(new), **limits)


def with_parity(manifest: Manifest, name: str = INT8, **changes: Any) -> Manifest:
    return with_engine(manifest, name, parity=replace(parity_of(manifest, name), **changes))


def with_speedup(manifest: Manifest, speedup: Speedup, name: str = INT8) -> Manifest:
    engine = manifest.engine(name)
    assert engine is not None
    assert isinstance(engine.latency, Latency)
    return with_engine(manifest, name, latency=replace(engine.latency, speedup=speedup))


def unmeasured(manifest: Manifest, name: str, reason: str) -> Manifest:
    return with_engine(manifest, name, latency=Skipped(reason), latency_by_batch=())


def printed(comparison: Comparison) -> str:
    stream = io.StringIO()
    render(comparison, Console(file=stream, width=200))
    return stream.getvalue()


def changes(comparison: Comparison) -> dict[str, Change]:
    return {speed.engine: speed.change for speed in comparison.speeds}


def test_a_build_compared_with_itself_has_not_changed() -> None:
    for build in (manifests.resnet50(), manifests.resnet50(trained=True)):
        result = compared(build, build, max_slowdown=0.0, max_error_growth=0.0)
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
    both = digits()
    one = replace(both, engines=both.engines[:1])
    assert compared(one, both).gained == ("ort-cpu.int8",)
    lost = compared(both, one)
    assert lost.lost == (("ort-cpu.int8", "NEW has no such engine"),)
    assert lost.failures == ()
    why = ("ort-cpu.fp32: not this", "ort-cpu.int8: the builder ran out of memory")
    one = replace(one, failures=why)
    assert compared(both, one).lost == (("ort-cpu.int8", "the builder ran out of memory"),)


def test_a_slower_engine_is_told_with_its_interval_and_trips_the_limit() -> None:
    result = compared(digits(speedup=5.0), digits(speedup=4.5), max_slowdown=0.05)
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
    assert compared(digits(speedup=5.0), digits(speedup=4.5), max_slowdown=0.2).failures == ()
    assert compared(digits(speedup=5.0), digits(speedup=4.5)).failures == ()


def test_a_faster_engine_is_told() -> None:
    result = compared(digits(speedup=4.5), digits(speedup=5.0), max_slowdown=0.0)
    assert changes(result) == {"ort-cpu.fp32": Change.SAME, "ort-cpu.int8": Change.FASTER}
    assert result.failures == ()


def test_noise_is_neither_slower_nor_faster() -> None:
    wide = compared(digits(speedup=5.0), digits(speedup=4.5, spread=0.15), max_slowdown=0.05)
    assert changes(wide)["ort-cpu.int8"] is Change.SAME
    assert wide.failures == ()
    # Told apart by the interval, but less than two runs of one engine differ.
    sharp = compared(digits(speedup=5.0, spread=1e-4), digits(speedup=4.95, spread=1e-4))
    assert changes(sharp)["ort-cpu.int8"] is Change.SAME
    unstable = compared(digits(), digits(speedup=4.0, stable=False))
    assert "(unstable)" in printed(unstable)


def test_a_limit_that_nothing_is_held_to_is_refused() -> None:
    untimed = unmeasured(unmeasured(digits(), INT8, "no"), "ort-cpu.fp32", "no")
    with pytest.raises(UsageError, match="--max-slowdown concerns timings, and OLD has none"):
        compared(untimed, digits(), max_slowdown=0.05)
    unchecked = digits()
    for name in (INT8, "ort-cpu.fp32"):
        unchecked = with_engine(unchecked, name, parity=Skipped("not checked"))
    with pytest.raises(UsageError, match="--max-error-growth concerns errors, and OLD has none"):
        compared(unchecked, digits(), max_error_growth=0.1)


def test_a_greater_error_is_told_and_trips_the_limit() -> None:
    old = digits()
    new = with_parity(old, rel_l2=1.5 * parity_of(old, INT8).rel_l2)
    result = compared(old, new, max_error_growth=0.1)
    (error,) = [error for error in result.errors if error.engine == "ort-cpu.int8"]
    assert error.change is Change.LESS_ACCURATE
    assert result.failures == (
        "ort-cpu.int8's relative error grew by 50.0% (4.60e-02 to 6.90e-02), "
        "limit 10.0% (--max-error-growth)",
    )
    assert "less accurate" in printed(result)
    assert compared(old, new, max_error_growth=0.6).failures == ()
    back = compared(new, old)
    assert [error.change for error in back.errors] == [Change.SAME, Change.MORE_ACCURATE]


def test_a_lower_top1_is_less_accurate() -> None:
    old = manifests.resnet50(trained=True)
    new = with_engine(old, INT8, accuracy=Accuracy("photos", 10000, 0.8002, 0.8034, 41))
    result = compared(old, new)
    assert [e.engine for e in result.errors if e.change is Change.LESS_ACCURATE] == ["ort-cpu.int8"]
    assert "80.12% to 80.02%" in printed(result)


@pytest.mark.parametrize(
    "how",
    ["gone", "rejected", "unmeasured", "other threads", "no number", "divided by zero", "edited"],
)
def test_what_cannot_be_held_to_a_limit_trips_it(how: str) -> None:
    old = digits()
    new = {
        "gone": replace(old, engines=old.engines[:1]),
        "rejected": with_engine(
            unmeasured(old, INT8, "rejected"), INT8, files=(EngineFile("x.rejected", "", 1),)
        ),
        "unmeasured": unmeasured(old, INT8, "not asked for"),
        "other threads": with_engine(old, INT8, latency=replace(latency(10, 5), threads=4)),
        "no number": with_speedup(old, Speedup(math.nan, (math.nan, math.nan))),
        "divided by zero": with_speedup(old, Speedup(math.inf, (5.0, math.inf))),
        "edited": with_speedup(old, Speedup(0.0, (4.9, 5.1))),
    }[how]
    result = compared(old, new, max_slowdown=0.05)
    (failure,) = result.failures
    assert "ort-cpu.int8 at batch 1 cannot be held to --max-slowdown" in failure
    assert compared(old, new).failures == ()
    expected = {
        "gone": "lost ort-cpu.int8: NEW has no such engine",
        "rejected": "lost ort-cpu.int8: rejected now: it failed a gate",
        "unmeasured": "batch 1: not measured in NEW (not asked for)",
        "other threads": "batch 1: measured differently (threads 2 / 4)",
        "no number": "batch 1: NEW has no speedup inside its interval (nan, nan to nan)",
        "divided by zero": "batch 1: NEW has no speedup inside its interval (inf, 5.0 to inf)",
        "edited": "batch 1: NEW has no speedup inside its interval (0.0, 4.9 to 5.1)",
    }
    assert expected[how] in printed(result)
    errors = compared(old, new, max_error_growth=0.05).failures
    assert len(errors) == (1 if how in ("gone", "rejected") else 0)


def test_an_error_that_is_not_finite_cannot_be_held_to_a_limit() -> None:
    old, new = digits(), with_parity(digits(), rel_l2=math.nan)
    assert "cannot be held to --max-error-growth" in compared(
        old, new, max_error_growth=1.0
    ).failures[0]  # fmt: skip


def test_batch_sizes_are_compared_one_by_one() -> None:
    old = manifests.resnet50()
    engine = old.engine(INT8)
    assert engine is not None
    first, second, _, last = engine.latency_by_batch
    slow = replace(last, speedup=Speedup(4.0, (3.9, 4.1)))
    new = with_engine(old, INT8, latency_by_batch=(first, second, slow))
    result = compared(old, new)
    slower = [(s.engine, s.batch) for s in result.speeds if s.change is Change.SLOWER]
    assert slower == [("ort-cpu.int8", 8)]
    assert (
        "ort-cpu.int8",
        "batch 4: not measured in NEW (it was not asked for)",
    ) in result.not_compared


def test_timings_of_two_hosts_are_refused_unless_allowed() -> None:
    old, new = digits(), digits(speedup=4.0)
    new = replace(new, host=replace(new.host, cpu="Another CPU"))
    with pytest.raises(UsageError, match=r"two hosts \(cpu Intel.* / Another CPU\).*--allow-other"):
        compared(old, new)
    result = compared(old, new, allow_other_host=True)
    assert changes(result)["ort-cpu.int8"] is Change.SLOWER
    assert any("the hosts differ" in note for note in result.notes)
    for engine in old.engines:
        old, new = (unmeasured(side, engine.id, "--no-measure") for side in (old, new))
    assert len(compared(old, new).errors) == 2


def test_what_makes_figures_hard_to_compare_is_said() -> None:
    old = new = digits()
    new = replace(new, host=replace(new.host, versions={**new.host.versions, "torch": "2.14.0"}))
    weights = replace(new.model.weights, sha256="00")
    new = replace(new, model=replace(new.model, weights=weights))
    new = replace(new, data=replace(new.data, evaluation=SamplesRecord("other", 64, "00")))
    notes = compared(old, new).notes
    assert notes[0] == "versions: torch 2.13.0+cpu / 2.14.0"
    assert [word in " ".join(notes) for word in ("another PyTorch", "weights", "inputs")] == [
        True
    ] * 3


def test_two_models_and_senseless_limits_are_refused() -> None:
    other = replace(digits(), model=replace(digits().model, name="resnet18"))
    with pytest.raises(UsageError, match="OLD is a build of resnet50, NEW of resnet18"):
        compared(digits(), other)
    for limit in (-0.1, math.nan):
        with pytest.raises(UsageError, match="--max-slowdown"):
            compared(digits(), digits(), max_slowdown=limit)
        with pytest.raises(UsageError, match="--max-error-growth"):
            compared(digits(), digits(), max_error_growth=limit)


def test_a_folder_a_manifest_and_a_report_load_alike(tmp_path: Path) -> None:
    build = manifests.resnet50()
    manifest.write(tmp_path, build)
    write_report(tmp_path, build)
    views = [load(tmp_path), load(tmp_path / "manifest.json"), load(tmp_path / "report.json")]
    assert views[0] == views[1] == views[2] == flat(build)
    (tmp_path / "manifest.json").unlink()
    assert load(tmp_path) == views[0]


def damaged(kind: str, change: Callable[[Any], object]) -> str:
    """A manifest.json, report.json or benchmark result with something changed in it."""
    build = digits()
    content = manifest.to_json(build)
    if kind != "manifest":
        content = {"schema": 1, "kind": kind, **manifest.plain(flat(build))}
    change(content)
    return json.dumps(content)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("\udcff", "not valid JSON"),
        ("[1]", "schema None, expected 1"),
        ('{"schema": 2}', "schema 2, expected 1"),
        ('{"kind": "scaling"}', "is of kind 'scaling'"),
        ('{"schema": 1, "kind": []}', "is of kind []"),
        ('{"schema": 2, "kind": "report"}', "schema 2, expected 1"),
        ('{"schema": 1}', "model: a required field is missing"),
        ('{"schema": 1, "kind": "report", "model": "x"}', "weights_sha256: a required field"),
        (damaged("manifest", lambda m: m["engines"][0].pop("parity")),
         "engines[0].parity: a required field is missing"),
        (damaged("manifest", lambda m: m.update(engines=[3])),
         "engines[0]: expected an object, found 3"),
        (damaged("report", lambda m: m["engines"][1].update(rel_l2="x")),
         'engines[1].rel_l2: expected a number, found "x"; write it again with exporter report'),
        (damaged("report", lambda m: m.update(colour="red")), "unknown field colour"),
        (damaged("benchmark", lambda m: m["host"].update(cpu_flags="avx2")),
         'host.cpu_flags: expected a list, found "avx2"; run the benchmark again'),
        (damaged("benchmark", lambda m: m["engines"][0]["latencies"][0].pop("batch")),
         "engines[0].latencies[0].batch: a required field is missing"),
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
    build = replace(digits(), model=replace(digits().model, name="[red]resnet[/red]"))
    assert "[red]resnet[/red]" in printed(compared(build, build))


def test_an_engine_without_parity_is_not_compared_in_error() -> None:
    entry = record("ort-cpu", Precision.FP32, op="Conv", dtype="fp32", size=1,
                   parity=Skipped("no reference"))  # fmt: skip
    build = manifests.build([entry])
    result = compared(build, build)
    assert ("ort-cpu.fp32", "no error in OLD (no reference)") in result.not_compared


def test_a_benchmark_result_may_have_more_than_is_compared(tmp_path: Path) -> None:
    path = tmp_path / "quick.json"
    path.write_text(damaged("benchmark", lambda m: m["engines"][0].update(role="peer")))
    loaded = load(path)
    assert [row.id for row in loaded.engines] == ["ort-cpu.fp32", INT8]
    assert compare(loaded, loaded, max_slowdown=0.0, max_error_growth=0.0).failures == ()


def test_figures_that_are_not_finite_are_printed(tmp_path: Path) -> None:
    spoilt = manifests.not_finite()
    manifest.write(tmp_path, spoilt)
    write_report(tmp_path, spoilt)
    for loaded in (load(tmp_path), load(tmp_path / "report.json")):
        for result in (compare(loaded, loaded), compare(flat(manifests.resnet50()), loaded)):
            text = printed(result)
            assert "not compared: ort-cpu.fp16: batch 1" in text
            assert "no error in" in text


def test_times_stand_beside_speedups_and_the_ratio_has_its_name() -> None:
    text = printed(compared(digits(speedup=5.0), digits(speedup=4.0)))
    heading, line = (next(x for x in text.splitlines() if s in x) for s in ("engine", INT8))
    assert "old p50" in heading
    assert "old / new speedup" in heading
    assert "10.3 ms" in line
    assert "12.9 ms" in line
    assert "1.250" in line


def test_a_lost_engine_fails_where_it_is_required() -> None:
    both = digits()
    one = replace(both, engines=both.engines[:1])
    rejected = with_engine(both, INT8, files=(EngineFile("x.onnx.rejected", "0" * 64, 1),))
    for require in (["all"], [INT8], ["ort-cpu.fp32", INT8]):
        assert compared(both, both, require=require).failures == ()
        assert compared(both, one, require=require).failures == (
            f"{INT8} is lost (--require): NEW has no such engine",
        )
        (failure,) = compared(both, rejected, require=require).failures
        assert failure == f"{INT8} is lost (--require): rejected now: it failed a gate"
    assert compared(both, one, require=["ort-cpu.fp32"]).failures == ()
    assert compared(rejected, rejected, require=["all"]).failures == ()
    assert compared(rejected, rejected, require=[INT8]).failures != ()
    with pytest.raises(UsageError, match=r"unknown engine 'ort-cpu.int4'; did you mean"):
        compared(both, both, require=["ort-cpu.int4"])
