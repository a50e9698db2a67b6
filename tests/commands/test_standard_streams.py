"""The console script where a service or a cron job has closed what it would print to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHILD = """
import sys
from exporter.cli import main
try:
    main({arguments!r})
except SystemExit as ended:
    with open({log!r}, "w") as first:
        first.write(f"{{ended.code}} {{first.fileno()}}")
"""


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(("arguments", "code"), [(["models"], 0), (["export", "--targt"], 2)])
def test_closed_streams_change_no_exit_code_and_no_file_takes_their_number(
    closed: str, arguments: list[str], code: int, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    subprocess.run(
        ["/bin/sh", "-c", f'"$0" -c "$1" {closed}', sys.executable,
         CHILD.format(arguments=arguments, log=str(log))],
        check=True, timeout=120,
    )  # fmt: skip
    ended, number = map(int, log.read_text().split())
    assert ended == code
    assert number > 2


def test_what_is_shown_of_a_build_needs_no_stream() -> None:
    code = (
        "import sys; sys.stdout = sys.stderr = None\n"
        "from exporter.commands.calls import shown; from exporter.progress import text_console\n"
        "shown('auto').note('nobody sees this'); text_console()[0].print('nor this')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
