"""OpenVINO is imported without a word of it to anybody."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import exporter
from exporter.runtime.telemetry import without_telemetry

REPOSITORY = Path(exporter.__file__).parent.parent


@pytest.mark.parametrize(
    "program",
    ["import exporter.targets.openvino", "from exporter.doctor import diagnose as d; d()"],
)
def test_nothing_is_sent_and_nothing_is_written_at_home(tmp_path: Path, program: str) -> None:
    pytest.importorskip("openvino_telemetry", reason="OpenVINO came without its telemetry")
    told = "import sys; print({'openvino', 'openvino_telemetry'} & set(sys.modules))"
    # It keeps quiet by itself where it finds a job of continuous integration.
    others = {k: v for k, v in os.environ.items() if k not in {"CI", "TF_BUILD", "JENKINS_URL"}}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"{program}\n{told}"],
        env={**others, "HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("{'openvino'}\n", "")
    assert not (tmp_path / "intel").exists()


def test_every_import_of_openvino_is_of_that_kind() -> None:
    found = 0
    for path in [*REPOSITORY.glob("exporter/**/*.py"), *REPOSITORY.glob("benchmarks/**/*.py")]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        quiet = {
            statement
            for block in ast.walk(tree)
            if isinstance(block, ast.With)
            and "without_telemetry()" in [ast.unparse(item) for item in block.items]
            for statement in block.body
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Import) and node.names[0].name == "openvino":
                assert node in quiet, f"{path.name}:{node.lineno}"
                found += 1
    assert found >= 3


def test_it_can_be_imported_afterwards() -> None:
    before = sys.modules.get("openvino_telemetry")
    with without_telemetry(), pytest.raises(ImportError):
        import openvino_telemetry  # noqa: F401
    assert sys.modules.get("openvino_telemetry") is before
