"""The Python of each page runs as it is written, from the wheel, as a stranger would run it."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from exporter import runtime
from exporter.images.embedded import DIGITS
from tests import foreign
from tests.docs.pages import ROOT, blocks
from tests.test_wheel import python as python
from tests.test_wheel import wheel as wheel

RUN = [page for page in sorted((ROOT / "docs").rglob("*.md")) if blocks(page, "python")]
NETWORK = '''
import torch


class Net(torch.nn.Module):
    """(N, 3, 64, 64) -> (N, 10), with clear decisions: random weights change near ties in INT8."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.fc = torch.nn.Linear(8, 10)
        self.fc.bias.data = self.fc.bias + 10 * torch.arange(10.0)

    def forward(self, x):
        return self.fc(self.conv(x).relu().mean((2, 3)))


net = Net()
'''
LANDED = "pictures" in inspect.signature(runtime.Engine.predict).parameters


def furnish(folder: Path) -> None:
    """What a page may take for given: a network, an ONNX file, pictures and the classes' names."""
    (folder / "my_network.py").write_text(NETWORK)
    (folder / "classes.txt").write_text("".join(f"class {number}\n" for number in range(10)))
    onnx.save(foreign.resnet(channels_last=False), folder / "model.onnx")
    pictures = folder / "pictures"
    pictures.mkdir()
    for number, image in enumerate(np.asarray(DIGITS.splits()[1].images)[:24]):
        name = "first" if number == 0 else str(number)
        Image.fromarray(image).resize((80, 72)).save(pictures / f"{name}.png")


@pytest.fixture(scope="module")
def stranger(
    python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[subprocess.Popen[str]]:
    """A process of the wheel's Python that runs page after page (`stranger.py`)."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with subprocess.Popen(
        [python, Path(__file__).with_name("stranger.py")],
        cwd=tmp_path_factory.mktemp("stranger"),
        env=kept,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.communicate()


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_a_page_runs(page: Path, stranger: subprocess.Popen[str], tmp_path: Path) -> None:
    if page.stem == "your-module" and not LANDED:
        pytest.skip("Engine.predict takes no path yet")
    furnish(tmp_path)
    (tmp_path / "page.py").write_text("\n".join(blocks(page, "python")))
    assert stranger.stdin is not None
    assert stranger.stdout is not None
    print(tmp_path, file=stranger.stdin, flush=True)
    done = json.loads(stranger.stdout.readline())
    assert done["error"] == ""
    assert done["printed"]


def test_the_strangers_way_is_ten_lines() -> None:
    code, *_ = blocks(ROOT / "docs" / "guides" / "your-module.md", "python")
    assert len(code.strip().splitlines()) <= 10


def test_every_guide_shows_code() -> None:
    assert {page.stem for page in RUN} >= {
        "tour", "accurate-int8", "fast-int8", "your-module", "onnx-file", "production",
    }  # fmt: skip
