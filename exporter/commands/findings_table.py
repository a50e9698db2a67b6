"""The causes found in an engine, on the terminal: the most to win first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape

from exporter.causes.finding import Finding

if TYPE_CHECKING:
    from rich.console import Console


def render_findings(findings: Sequence[Finding], console: Console, indent: str = "") -> None:
    """A paragraph a cause: what it is and what it costs, what was seen, what mends it."""
    if not findings:
        console.print(f"{indent}[green]nothing to fix[/]")
        return
    for number, finding in enumerate(findings, 1):
        console.print(f"{indent}{number}. [bold yellow]{finding.cause}[/]: {to_win(finding)}")
        console.print(f"{indent}   {escape(finding.what)}")
        console.print(f"{indent}   mend it: {escape(finding.remedy)}")
    commands = dict.fromkeys(finding.command for finding in findings if finding.command)
    for command in commands:
        console.print(f"{indent}what wins this: {escape(command)}", soft_wrap=True)


def to_win(finding: Finding) -> str:
    """What a cause costs, in words."""
    if finding.decibels is not None:
        return f"{finding.decibels:.1f} dB"
    if finding.stops:
        return "no engine is built"
    kernels = len(finding.kernels)
    counted = f"{kernels} kernel{'' if kernels == 1 else 's'}"
    if finding.milliseconds is None:
        return counted
    return f"at most {finding.milliseconds:.2f} ms, in {counted}"
