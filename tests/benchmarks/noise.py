"""Rounds made of recorded noise: `noise.json`, from the raw file of a run of the suite.

It holds, for each of several engines, the times of every round divided by the engine's own median:
drift, spikes and the order of the rounds are the machine's own.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.statistics import Rounds

RECORDED = Path(__file__).with_name("noise.json")


def recorded() -> dict[str, Rounds]:
    """Engine -> its rounds, of median 1."""
    found = json.loads(RECORDED.read_text(encoding="utf-8"))
    return {name: Rounds(one["samples"], one["lives"]) for name, one in found["engines"].items()}


def delayed(rounds: Rounds, factor: float) -> Rounds:
    """The same rounds of an engine that takes `factor` times as long."""
    return Rounds([list(np.array(one) * factor) for one in rounds.samples_s], rounds.lives)
