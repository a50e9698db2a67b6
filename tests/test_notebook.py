"""The README's Python, as it is written, in a notebook's kernel."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.docs.pages import blocks

ROOT = Path(__file__).parents[1]
LAST = """
import torch

net = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), torch.nn.Flatten(), torch.nn.Linear(5408, 10))

class Net(torch.nn.Sequential):
    pass

build = exporter.export(
    Net(*net), example=torch.zeros(1, 1, 28, 28), targets=["ort-cpu"], precisions=["fp32"],
    samples=8, rounds=5, threads=1,
)
for each in (build.engines[0].latency, build.notes, build.failures):
    print(each)
build
"""


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NotebookClient:
    """A kernel of this Python, with nothing outside the test's folder."""
    spec = tmp_path / "jupyter" / "kernels" / "here"
    spec.mkdir(parents=True)
    arguments = f'["{sys.executable}", "-m", "ipykernel_launcher", "-f", "{{connection_file}}"]'
    spec.joinpath("kernel.json").write_text(
        f'{{"argv": {arguments}, "display_name": "here", "language": "python"}}'
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT)]))
    folder = tmp_path / "notebook"
    folder.mkdir()
    return NotebookClient(
        nbformat.v4.new_notebook(),
        kernel_name="here",
        timeout=250,
        resources={"metadata": {"path": str(folder)}},
    )


def readme() -> list[str]:
    """Each paragraph of its Python is a cell."""
    (code,) = blocks(ROOT / "README.md", "python")
    return code.split("\n\n")


def test_the_readme_runs_in_a_notebook(kernel: NotebookClient) -> None:
    cells = [nbformat.v4.new_code_cell(cell) for cell in [*readme(), LAST]]
    kernel.nb.cells = cells
    kernel.execute()
    outputs: list[Any] = [output for cell in cells for output in cell.outputs]
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert [output.name for output in outputs if output.output_type == "stream"] == ["stdout"] * 2
    assert "resnet20-digits" in printed
    assert "Latency(batch=1" in printed
    assert "SYNTHETIC images" in printed
    shown = outputs[-1].data
    assert shown["text/html"].startswith("<iframe ")
    assert shown["text/plain"].startswith("Net")
