"""`--zoo-table FILE`: where `make test-zoo` writes what became of each network."""

from __future__ import annotations

from pathlib import Path

import pytest

OPTION = "--zoo-table"
COLUMNS = tuple(
    f"{target}.{precision}"
    for target in ("ort-cpu", "openvino")
    for precision in ("fp32", "fp16", "int8")
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(OPTION, type=Path, help="write the zoo's table there, in Markdown")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    reports = [r for kind in ("passed", "failed") for r in terminalreporter.getreports(kind)]
    rows = {
        properties["network"]: properties
        for report in reports
        if "network" in (properties := dict(report.user_properties))
    }
    if not rows:
        return
    lines = [f"| network | {' | '.join(COLUMNS)} |", "| --- " * (len(COLUMNS) + 1) + "|"]
    for network, outcome in sorted(rows.items()):
        cells = [str(outcome.get(column, outcome.get("refused", ""))) for column in COLUMNS]
        if len(set(cells)) == 1:
            cells = [cells[0], *[""] * (len(COLUMNS) - 1)]
        lines.append(f"| {' | '.join([network, *(cell.replace('|', ' ') for cell in cells)])} |")
    path = config.getoption(OPTION, None)
    if path is None:
        terminalreporter.write_line("\n".join(lines))
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        terminalreporter.write_line(f"{len(rows)} networks in {path}")
