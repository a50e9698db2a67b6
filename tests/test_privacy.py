"""Whoever exports, packs and loads finds files where they were asked for, and in the cache."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from exporter.runtime.telemetry import VARIABLES
from tests.test_cli import COMMANDS, ROOT
from tests.test_isolation import installed_targets

LOAD = "from exporter.runtime import load; load('bundle').close()"
CACHE = Path("home", ".cache", "resnet-exporter")


def test_nothing_is_written_outside_the_cache_and_what_was_asked_for(tmp_path: Path) -> None:
    places = {"HOME": "home", "TMPDIR": "tmp"}
    for folder in (*places.values(), "work"):
        (tmp_path / folder).mkdir()
    ignored = {*VARIABLES, "CI", "TF_BUILD", "JENKINS_URL", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"}
    kept = {name: value for name, value in os.environ.items() if name not in ignored}
    own = {name: str(tmp_path / folder) for name, folder in places.items()}
    targets = ",".join([*installed_targets(), "openvino"])
    export = f"export --target {targets} --precision int8 --samples 16 --rounds 5 --out out"
    for program in ([COMMANDS, export, "pack out --out bundle", "doctor"], [LOAD]):
        done = subprocess.run(
            [sys.executable, "-P", "-c", *program],
            cwd=tmp_path / "work",
            env={**kept, **own, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )
        assert done.returncode == 0, done.stderr
    asked_for = (CACHE, Path("work", "out"), Path("work", "bundle"))
    written = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in written if not any(map(path.is_relative_to, asked_for))] == []
    assert all(any(path.is_relative_to(place) for path in written) for place in asked_for)
