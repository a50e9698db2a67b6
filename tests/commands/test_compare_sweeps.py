"""Two sweeps side by side: what both have is compared, what is lost keeps no limit."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from exporter.builds import manifest
from exporter.builds.compare_request import CompareRequest
from exporter.commands.compare import Comparison
from exporter.commands.compare_sweeps import (
    SweepComparison,
    compare_paths,
    compare_sweeps,
    render,
)
from exporter.errors import InputError, UsageError
from exporter.fleet.files import write
from exporter.fleet.record import FailedJob, SweepRecord
from tests import manifests
from tests.fleet.sweeps import sweep
from tests.manifests import latency, with_engine

INT8 = "ort-cpu.int8"


def compared(old: SweepRecord, new: SweepRecord, **limits: object) -> SweepComparison:
    request = CompareRequest("old", "new", **limits)  # type: ignore[arg-type]
    return compare_sweeps(old, new, request)


def slower() -> SweepRecord:
    build = manifests.resnet50(trained=True)
    return sweep(manifest=with_engine(build, INT8, latency=latency(18.6, 2.77)))


def without(record: SweepRecord, hardware: str, why: str = "") -> SweepRecord:
    builds = tuple(one for one in record.builds if one.hardware != hardware)
    failed = (FailedJob("resnet50", hardware, why),) if why else ()
    return replace(record, builds=builds, failed=failed)


def test_a_limit_is_held_on_each_hardware() -> None:
    assert compared(sweep(), sweep(), max_slowdown=0.05, require="all").failures == ()
    failures = compared(sweep(), slower(), max_slowdown=0.05).failures
    assert [failure.partition(": ")[0] for failure in failures] == [
        "resnet50 on zen", "resnet50 on old",
    ]  # fmt: skip
    assert "ort-cpu.int8 is 1" in failures[0]


def test_what_is_lost_keeps_no_limit() -> None:
    lost = compared(sweep(), without(sweep(), "old", "the node was lost"))
    assert lost.lost == (("resnet50", "old", "the node was lost"),)
    assert lost.failures == ()
    held = compared(sweep(), without(sweep(), "old"), require="all")
    assert held.failures == (
        "resnet50 on old is lost, so it keeps no limit: NEW has no such build",
    )
    assert compared(without(sweep(), "old"), sweep()).gained == (("resnet50", "old"),)
    with pytest.raises(
        UsageError, match=r"no model on hardware in common: OLD has resnet50 on old"
    ):
        compared(without(sweep(), "zen"), without(sweep(), "old"))
    with pytest.raises(UsageError, match=f"unknown engine 'ort-cpu.int9'; did you mean {INT8}"):
        compared(sweep(), sweep(), require="ort-cpu.int9")


def test_it_is_told(tmp_path: Path) -> None:
    for name, record in (("old", sweep()), ("new", without(slower(), "old"))):
        write(tmp_path / name, record)
    found = compare_paths(CompareRequest(tmp_path / "old", tmp_path / "new" / "sweep.json"))
    assert isinstance(found, SweepComparison)
    text = io.StringIO()
    render(found, Console(file=text, width=140))
    assert "on zen" in text.getvalue()
    assert "slower" in text.getvalue()
    assert "lost resnet50 on old: NEW has no such build" in text.getvalue()


def test_builds_are_compared_as_before_and_not_with_sweeps(tmp_path: Path) -> None:
    write(tmp_path / "sweep", sweep())
    (tmp_path / "build").mkdir()
    manifest.write(tmp_path / "build", manifests.resnet50())
    same = compare_paths(CompareRequest(tmp_path / "build", tmp_path / "build"))
    assert isinstance(same, Comparison)
    with pytest.raises(UsageError, match="OLD is a sweep and NEW is none"):
        compare_paths(CompareRequest(tmp_path / "sweep", tmp_path / "build"))
    (tmp_path / "sweep" / "sweep.json").write_text("{")
    with pytest.raises(InputError, match=r"sweep.json is not valid JSON; run the sweep again"):
        compare_paths(CompareRequest(tmp_path / "sweep", tmp_path / "sweep"))
