"""What the comparison says: the table, and whether ours reaches its goals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from rich.markup import escape
from rich.table import Table

from benchmarks.int8_recipes import FLOAT_HEAD, NNCF, OURS, STATIC
from benchmarks.logit_errors import Answers, MoreFlips, Ratio
from exporter.commands.compare_engine import SAME
from exporter.measure.timing import Latency

MOST_OF_FLOAT_HEAD: Final = 0.7
"""Of the rms error of `quantize_static` with a float head."""


@dataclass(frozen=True)
class Goal:
    """One thing that ours should reach, and whether it does."""

    text: str
    found: str
    met: bool


def goals_of(ratios: Mapping[str, Ratio], latency: Latency, *, trained: bool) -> list[Goal]:
    """What ours should reach; on untrained weights only not to be worse than what is usual."""
    low, high = latency.speedup.ci95
    goals = [
        Goal(
            f"rms error not above that of {STATIC}",
            f"{ratios[STATIC].value:.3f} of it",
            ratios[STATIC].value <= 1.0,
        ),
        Goal(
            f"no slower than {STATIC}",
            f"{latency.speedup.median:.3f} times as fast ({low:.3f} to {high:.3f})",
            # Two processes of one engine differ by up to SAME.
            high >= 1.0 or latency.speedup.median >= 1.0 / SAME,
        ),
    ]
    if trained:
        (nncf_low, nncf_high), head = ratios[NNCF].ci95, ratios[FLOAT_HEAD]
        goals += [
            Goal(
                "rms error below NNCF's, with its interval",
                f"{ratios[NNCF].value:.3f} of it ({nncf_low:.3f} to {nncf_high:.3f})",
                nncf_high < 1.0,
            ),
            Goal(
                f"rms error at most {MOST_OF_FLOAT_HEAD} of that of {FLOAT_HEAD}",
                f"{head.value:.3f} of it ({head.ci95[0]:.3f} to {head.ci95[1]:.3f})",
                head.value <= MOST_OF_FLOAT_HEAD,
            ),
        ]
    return goals


def table_of(
    answers: Mapping[str, Answers],
    ratios: Mapping[str, Ratio],
    flips: Mapping[str, MoreFlips],
    title: str,
) -> Table:
    """One row a recipe."""
    table = Table(title=escape(title))
    for heading in ("", "rms", "ours / it (95 %)", "SQNR dB", "rel_l2", "probability"):
        table.add_column(heading, no_wrap=True)
    for heading in ("top-1 agreement", "flips a draw"):
        table.add_column(heading)
    table.add_column("ours - it (95 %)", no_wrap=True)
    table.add_column("top-1")
    for name, answer in answers.items():
        found = answer.figures()
        ratio, more = ratios[name], flips[name]
        own = "" if name == OURS else "{:.3f} ({:.3f} to {:.3f})".format(ratio.value, *ratio.ci95)
        extra = (
            "" if name == OURS else "{:+.1f} ({:+.1f} to {:+.1f})".format(more.value, *more.ci95)
        )
        table.add_row(
            escape(name),
            f"{found['rms']:.4f}",
            own,
            f"{found['sqnr_db']:.1f}",
            f"{found['rel_l2']:.4f}",
            f"{found['probability_error']:.5f}",
            f"{found['top1_agreement']:.4f}",
            " ".join(map(str, found["flips_by_draw"])),
            extra,
            "-" if found["top1"] is None else f"{found['top1']:.4f}",
        )
    return table
