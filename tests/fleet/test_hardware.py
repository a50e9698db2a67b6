"""Which nodes are a hardware: by name, flags, GPU, cores or label, and never two kinds at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.errors import UsageError
from exporter.fleet.hardware import Node, kinds_of
from exporter.fleet.spec import Hardware
from tests.fleet.sweeps import L4, OLD, ZEN

NODES = (
    Node("a", "10.0.0.1", ZEN, {"rack": "1"}),
    Node("b", "10.0.0.2", OLD, {}),
    Node("c", "10.0.0.3", L4, {}),
    Node("d", "10.0.0.4", OLD, {"rack": "1"}),
)


def ids(**wanted: object) -> str:
    hardware = Hardware(name="x", **wanted)  # type: ignore[arg-type]
    return "".join(node.id for node in kinds_of([hardware], NODES)[0].nodes)


def test_each_way_to_ask_for_a_machine() -> None:
    assert ids(cpu="xeon") == "bd"
    assert ids(cpu="epyc", cores=2) == "a"
    assert ids(gpu="l4") == "c"
    assert ids(flags=("avx512_vnni",), labels={"rack": "1"}) == "a"
    assert ids(cpu="xeon", labels={"rack": "1"}) == "d"


def test_what_no_node_is_lists_what_the_nodes_are() -> None:
    with pytest.raises(UsageError) as caught:
        ids(flags=("amx_int8",), cores=2)
    line = str(caught.value)
    assert line.startswith(
        "no node is hardware x (flags amx_int8, cores 2); there are 10.0.0.1 (AMD"
    )
    assert all(node.address in line for node in NODES)
    assert "NVIDIA L4" in line
    assert "labels rack=1" in line


def test_a_hardware_is_one_kind_of_machine_with_one_set_of_versions() -> None:
    with pytest.raises(UsageError, match=r"nodes that differ in cpu, cpu_flags .* ask for one"):
        ids(cores=2)
    other = Node("e", "10.0.0.5", replace(OLD, versions={"torch": "2.14"}), {})
    with pytest.raises(UsageError, match=r"differ in versions \(10.0.0.2 and 10.0.0.5\)"):
        kinds_of([Hardware(name="x", cpu="xeon")], [*NODES, other])


def test_without_a_wish_every_kind_is_one() -> None:
    named = {kind.hardware.name: len(kind.nodes) for kind in kinds_of([], NODES)}
    assert named == {
        "AMD EPYC 7B13, 2 cores": 1, "Intel Xeon E5, 2 cores": 2, "NVIDIA L4, 8 cores": 1,
    }  # fmt: skip
    newer = replace(ZEN, versions={"torch": "2.14"})
    kinds = kinds_of([], [*NODES, Node("e", "10.0.0.5", newer, {})])
    assert kinds[-1].hardware.name == "AMD EPYC 7B13, 2 cores (2)"
