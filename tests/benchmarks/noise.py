"""Real noise: the A/A pairs of a recorded run (`noise.json`), one engine in two processes each.

The times of every round are in units of the first process's median. Drift, spikes, the order of the
rounds and the difference between two processes are the machine's own.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.statistics import Rounds

RECORDED = Path(__file__).with_name("noise.json")


def recorded() -> dict[str, tuple[Rounds, Rounds]]:
    """Name of the pair -> its two processes' rounds."""
    found = json.loads(RECORDED.read_text(encoding="utf-8"))["pairs"]
    return {
        name: (Rounds(one["pair"][0], one["lives"]), Rounds(one["pair"][1], one["lives"]))
        for name, one in found.items()
    }


def delayed(rounds: Rounds, factor: float) -> Rounds:
    """The same rounds of an engine that takes `factor` times as long."""
    return Rounds([list(np.array(one) * factor) for one in rounds.samples_s], rounds.lives)
