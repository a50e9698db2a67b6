"""Interleaving, lives and failures, with real processes on tiny graphs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import psutil
import pytest

from benchmarks.groups import groups_of
from benchmarks.record import Event, Recorder, read_events
from benchmarks.sampling import Conditions, Contender, balanced_orders, sample
from benchmarks.suite import Role
from exporter.artifact import Skipped
from exporter.progress import Silent

GRAPH = """
    <ir_version: 10, opset_import: ["" : 20]>
    network (float[N,3,8,8] x) => (float[N,3,8,8] y) {{ y = {operator}(x) }}
"""


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    """Seven rounds in two lives, of two operators, one that is missing and one that is broken."""
    folder = tmp_path_factory.mktemp("sampling")
    everyone = [
        contender(folder, "relu", "Relu"),
        Contender("absent", Role.PEER, "fp32", Skipped("there is none")),
        contender(folder, "broken/operator", "NoSuchOperator"),
        contender(folder, "ours/negative", "Neg"),
    ]
    before = set(psutil.Process().children(recursive=True))
    with Recorder(folder / "raw.jsonl", {"suite": "x"}) as recorder:
        for batch in (1, 2):
            recorder.write("group", group=f"g b{batch}", batch=batch)
        inputs = np.ones((4, 3, 8, 8), np.float32)
        conditions = Conditions(threads=1, rounds=7, seed=1, lives=2)
        sample("g", everyone, (1, 2), conditions, recorder, Silent(), inputs=inputs)
    assert set(psutil.Process().children(recursive=True)) <= before
    return read_events(folder / "raw.jsonl")


def contender(folder: Path, name: str, operator: str) -> Contender:
    path = folder / f"{operator}.onnx"
    onnx.save(onnx.parser.parse_model(GRAPH.format(operator=operator)), path)
    job = {"kind": "onnx", "path": str(path), "shape": (3, 8, 8), "dtype": "float32"}
    return Contender(name, Role.PEER, "fp32", job, {"bytes": path.stat().st_size})


def test_every_life_is_a_new_process_and_the_rounds_are_shared_among_them(
    events: list[Event],
) -> None:
    groups = groups_of(events)
    assert list(groups) == ["g b1", "g b2"]
    for group in groups.values():
        assert list(group.rounds) == ["relu", "ours/negative"]
        for rounds in group.rounds.values():
            assert list(rounds.lives) == [0] * 4 + [1] * 3
            assert all(min(samples) > 0 for samples in rounds.samples_s)
        assert group.rel_l2 == {"relu": 0, "ours/negative": 2}  # -1 where 1 was expected
        assert 0 <= group.footer["others"] <= 1
    loaded = [event for event in events if event["event"] == "engine"]
    assert set(Counter((e["group"], e["name"], e["life"]) for e in loaded).values()) == {1}
    assert len(loaded) == 8
    assert all(event["load_s"] > 0 and event["first_s"] > 0 for event in loaded)


@pytest.mark.parametrize("rounds", [6, 7])
def test_orders_are_balanced_random_and_of_every_round(rounds: int) -> None:
    drawn = balanced_orders(5, rounds, seed=0)
    assert len(drawn) == rounds
    assert all(sorted(order) == [0, 1, 2, 3, 4] for order in drawn)
    assert len({tuple(order) for order in drawn}) > 2
    assert drawn == balanced_orders(5, rounds, seed=0) != balanced_orders(5, rounds, seed=1)
    paired = drawn[: rounds // 2] + drawn[(rounds + 1) // 2 :]
    for one in range(5):
        assert sum(order.index(one) for order in paired) == 2 * len(paired)
        for other in set(range(5)) - {one}:
            earlier = sum(order.index(one) < order.index(other) for order in paired)
            assert 2 * earlier == len(paired)


def test_who_cannot_be_measured_is_recorded_with_the_reason(events: list[Event]) -> None:
    for group in groups_of(events).values():
        whys = {event["name"]: event["why"] for event in group.missing}
        assert whys["absent"] == "there is none"
        assert "NoSuchOperator" in whys["broken/operator"]
        assert [event["broken"] for event in group.missing] == [False, True]


def test_everyone_is_timed_once_a_round_in_an_order_that_the_seed_gives(
    events: list[Event],
) -> None:
    rounds = [e for e in events if e["event"] == "round" and e["group"] == "g b1"]
    drawn = [
        tuple(e["name"] for e in rounds if e["round"] == number and e["place"] == place)
        for number in range(7)
        for place in range(2)
    ]
    assert all(len(names) == 1 for names in drawn)
    assert set(drawn[0::2]) == {("relu",), ("ours/negative",)}
