"""The events of a raw file, put together by what was measured together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.record import Event
from benchmarks.statistics import Rounds
from benchmarks.suite import Role


@dataclass
class Group:
    """Everything that was measured together: one model at one batch size, or the kernels."""

    facts: Mapping[str, Any]
    engines: dict[str, Event] = field(default_factory=dict)
    """Name -> its first life's engine event."""
    rounds: dict[str, Rounds] = field(default_factory=dict)
    compute: dict[str, Rounds] = field(default_factory=dict)
    """What the GPU alone took; empty for engines on a CPU."""
    energy_j: dict[str, list[float]] = field(default_factory=dict)
    """Joules of one inference, one figure a round; empty where there is no meter."""
    missing: list[Event] = field(default_factory=list)
    rel_l2: dict[str, float] = field(default_factory=dict)
    footer: Mapping[str, Any] = field(default_factory=dict)

    @property
    def baseline(self) -> str:
        """The name of the one that the others are compared with."""
        return self.of(Role.BASELINE)[0]

    def of(self, *roles: Role) -> list[str]:
        """Names of the engines in these roles, in the order of the table."""
        return [name for name, event in self.engines.items() if event["role"] in roles]


def groups_of(events: Iterable[Event]) -> dict[str, Group]:
    """Group name -> group, in the order of the run."""
    groups: dict[str, Group] = {}
    samples: dict[tuple[str, str], tuple[list[list[float]], list[int]]] = {}
    compute: dict[tuple[str, str], list[list[float]]] = {}
    for event in events:
        kind, group = event["event"], event.get("group", "")
        if kind == "group":
            groups[group] = Group(event)
        elif kind == "engine":
            groups[group].engines.setdefault(event["name"], event)
        elif kind == "missing":
            groups[group].missing.append(event)
        elif kind == "answer":
            groups[group].rel_l2[event["name"]] = event["rel_l2"]
        elif kind == "footer":
            groups[group].footer = event
        elif kind == "round":
            times, lives = samples.setdefault((group, event["name"]), ([], []))
            times.append(event["samples_s"])
            lives.append(event["life"])
            if event.get("compute_s"):  # runs from before GPUs have none
                compute.setdefault((group, event["name"]), []).append(event["compute_s"])
            if event["energy_j"] is not None:
                per_inference = event["energy_j"] / event["inferences"]
                groups[group].energy_j.setdefault(event["name"], []).append(per_inference)
    for (group, name), (times, lives) in samples.items():
        groups[group].rounds[name] = Rounds(times, lives)
        if (group, name) in compute:
            groups[group].compute[name] = Rounds(compute[group, name], lives)
    return groups
