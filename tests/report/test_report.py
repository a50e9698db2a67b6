"""Writing report.html and report.json: whole or not at all, and the same bytes each time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.builds import manifest
from exporter.errors import InputError
from exporter.report import write_report
from tests import manifests


def test_the_same_manifest_gives_the_same_bytes(tmp_path: Path) -> None:
    build = manifests.resnet50()
    pages = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        paths = write_report(tmp_path / name, build)
        assert [path.name for path in paths] == ["report.html", "report.json"]
        assert sorted(p.name for p in (tmp_path / name).iterdir()) == ["report.html", "report.json"]
        pages.append([path.read_bytes() for path in paths])
        assert str(tmp_path).encode() not in pages[-1][0] + pages[-1][1]
    assert pages[0] == pages[1]


def test_two_processes_that_hash_differently_write_the_same_bytes(tmp_path: Path) -> None:
    manifest.write(tmp_path, manifests.resnet50(trained=True))
    write = (
        "import sys; from pathlib import Path; from exporter.builds import manifest; "
        "from exporter.report import write_report; "
        "write_report(Path(sys.argv[2]), manifest.read(Path(sys.argv[1])))"
    )
    written = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        subprocess.run(
            [sys.executable, "-c", write, str(tmp_path), str(folder)],
            env={**os.environ, "PYTHONHASHSEED": seed}, check=True,
        )  # fmt: skip
        written.append([(folder / name).read_bytes() for name in ("report.html", "report.json")])
    assert written[0] == written[1]


def test_the_report_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(InputError, match=r"cannot write .*report\.html"):
        write_report(tmp_path, manifests.resnet50())
    assert not list(tmp_path.glob(".*"))
