"""What processes lose against their fair share, from the rates of each round."""

from __future__ import annotations

import io
from dataclasses import asdict
from typing import Any

import pytest
from rich.console import Console

from benchmarks import results, sharing, throughput
from benchmarks.sharing import Case, cases
from exporter.measure.serving import Entrant
from exporter.measure.throughput import Layout

HEAD = {
    "event": "header", "date": "2026-11-26", "command": "python -m benchmarks sharing build/x",
    "host": {"cpu": "a CPU", "gpu": None}, "versions": {}, "machine": {}, "threads": 2,
    "cpus": [0, 1], "rounds": 3, "lives": 1, "seed": 0,
}  # fmt: skip
FOOTER = {"event": "footer", "group": "x", "others": 0.0}


def result(rates: dict[Case, list[float]]) -> dict[str, dict[str, Any]]:
    """The row of each case, of three rounds at these rates while the machine drifts."""
    events: list[dict[str, Any]] = [
        HEAD | {"suite": "sharing"},
        {"event": "group", "group": "x", "model": "x", "cores": 2, "seed": 0},
    ]
    for drift in (1.0, 0.6, 1.1):
        for case, alone in rates.items():
            events.append(
                {"event": "shares", "group": "x", "engine": "e", "round": 0, **asdict(case),
                 "images_per_s": [drift * rate for rate in alone]}
            )  # fmt: skip
    found = results.of([*events, FOOTER])
    console = Console(file=io.StringIO(), width=200)
    results.show(found, console)
    return {row["case"]: row for row in found["cases"]}


def test_on_two_cores_each_case_is_there_once_and_what_is_alone_comes_first() -> None:
    names = [case.name for case in cases(2)]
    assert len(set(names)) == len(names)
    assert names[:3] == ["1 x 1", "1 x 2", "1 x 2, shared"]
    assert {"2 x 1", "2 x 2", "2 x 2, shared", "4 x 1", "4 x 2, shared"} <= set(names)
    assert "1 x 1, shared, beside an idle one of 2" in names


def test_a_fair_share_is_what_is_there_of_the_cores() -> None:
    rows = result(
        {
            Case(1, 1, False): [50.0],
            Case(1, 2, False): [80.0],
            Case(1, 2, True): [76.0],
            Case(2, 1, False): [50.0, 49.0],
            Case(4, 1, False): [25.0, 25.0, 20.0, 25.0],  # half of a core each
            Case(2, 2, False): [27.0, 28.0],  # a core each
            Case(2, 2, True): [40.0, 38.0],
            Case(1, 1, False, idle_threads=2): [30.0],
        }
    )
    shares = {name: row["share"] for name, row in rows.items()}
    assert shares == pytest.approx(
        {
            "1 x 1": 1.0,
            "1 x 2": 1.0,
            "1 x 2, shared": 0.95,
            "2 x 1": 0.99,
            "4 x 1": 0.95,
            "2 x 2": 0.6875,
            "2 x 2, shared": 0.975,
            "1 x 1, beside an idle one of 2": 0.6,
        }
    )
    assert rows["4 x 1"]["least_share"] == pytest.approx(0.8)
    # Drift hits both alike: no interval is wider for it.
    assert rows["2 x 2"]["share_ci95"] == pytest.approx([0.6875, 0.6875])


def test_a_throughput_is_computed_again_from_its_raw_file() -> None:
    shapes = {Layout(1, 1, 2): 80.0, Layout(2, 1, 1): 96.0}
    entrants = [
        Entrant("e", layout, 1, 0.01, [[1 / rate]] * 3, [[1 / rate, 2 / rate]] * 3)
        for layout, rate in shapes.items()
    ]
    load = {"bundle": "b", "engines": ["e"], "batches": [1], "cores": 2, "rounds": 3, "seed": 0}
    found = results.of(
        [
            HEAD | {"suite": "throughput"},
            {"event": "group", "group": "x", "model": "x", "load": load},
            {"event": "missing", "group": "x", "name": "e 1 x 2 x 1", "why": "no memory"},
            *({"event": "entrant", "group": "x", **asdict(one)} for one in entrants),
            FOOTER,
        ]
    )
    assert found["kind"] == throughput.KIND
    assert [point["best"] for point in found["points"]] == [False, True]
    assert found["points"][1]["gain"]["median"] == pytest.approx(1.2)
    assert found["missing"] == ["e 1 x 2 x 1: no memory"]
    results.show(found, Console(file=io.StringIO(), width=200))


def test_the_results_have_names_of_their_own() -> None:
    assert {sharing.KIND, throughput.KIND} < set(results.KINDS)
