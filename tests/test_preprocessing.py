"""Pictures of somebody's own through a module or an ONNX file of their own, to a served answer."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import exporter
from exporter.artifact import Preprocessing
from exporter.runtime.pictures import Framing, resize_and_crop
from tests.graphs import Array

CAFFE = {"mean": [104, 117, 123], "std": 58, "pixel_range": 255, "channels": "BGR", "resize": 20}
GREY = {"mean": 0.3, "std": 0.25}


class Net(torch.nn.Module):
    """(N, C, H, W) -> (N, 5), no two channels alike."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(channels, 8, 3, padding=1)
        self.fc = torch.nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.fc(self.conv(x).relu().mean((2, 3)))
        return y


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Colourful ones, of several sizes."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(24):
        size = (24 + number % 5, 28, 3)
        pixels = rng.integers(0, 256, size) * (1.0, 0.6, 0.2)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return folder


def answer_by_hand(module: torch.nn.Module, image: Array, contract: dict[str, Any]) -> Array:
    """What the module answers to one image (H, W, C), by the words of the options."""
    white = contract.get("pixel_range", 1)
    values = image.astype(np.float64) / (255 / white)
    if contract.get("channels") == "BGR":
        values = values[..., ::-1]
    values = (values - np.array(contract["mean"])) / np.array(contract["std"])
    inputs = torch.from_numpy(values.transpose(2, 0, 1)[None].astype(np.float32))
    with torch.inference_mode():
        answer: Array = module(inputs).numpy()
    return answer


@pytest.mark.parametrize("bake", [False, True], ids=["normalised outside", "baked"])
@pytest.mark.parametrize(
    ("shape", "given"), [((3, 16, 16), CAFFE), ((1, 12, 18), GREY)], ids=["BGR", "grey"]
)
def test_a_module_serves_pictures(
    shape: tuple[int, int, int], given: dict[str, Any], bake: bool, pictures: Path, tmp_path: Path
) -> None:
    net = Net(shape[0]).eval()
    build = exporter.export(
        net, example=torch.zeros(1, *shape), data=pictures, targets=["ort-cpu"],
        precisions=["fp32"], samples=8, measure=False, bake_preprocess=bake,
        out=tmp_path / "build", **given,
    )  # fmt: skip
    assert build.failures == ()
    build.pack("bundle", tmp_path / "bundle", allow_untrained=True)
    contract = build.manifest.model.preprocessing
    assert isinstance(contract, Preprocessing)
    with Image.open(next(pictures.iterdir())) as picture:
        mode = "L" if shape[0] == 1 else "RGB"
        framing = Framing(contract.resize, contract.crop, contract.interpolation)
        image = np.atleast_3d(np.asarray(resize_and_crop(picture.convert(mode), framing)))
    assert image.shape == (*shape[1:], shape[0])
    engine = exporter.load(tmp_path / "bundle")
    served = engine(image[None])
    assert engine.predict(sorted(pictures.iterdir())) == [
        engine.predict(path)[0] for path in sorted(pictures.iterdir())
    ]
    assert engine.predict(next(pictures.iterdir())) == engine.predict(image)
    expected = answer_by_hand(net, image, given)
    assert np.abs(served - expected).max() < 1e-5 * np.abs(expected).max()
    card = (tmp_path / "bundle" / "MODEL_CARD.md").read_text()
    assert contract.in_words in card
    assert contract.in_words in (tmp_path / "build" / "report.html").read_text()


def test_an_onnx_file_serves_pictures(pictures: Path, tmp_path: Path) -> None:
    net = Net(3).eval()
    portable = exporter.export(
        net, image_size=16, targets=["ort-cpu"], precisions=["fp32"], samples=8, measure=False,
        out=tmp_path / "module",
    )  # fmt: skip
    shutil.copy(portable.path / "onnx" / "Net.fp32.onnx", tmp_path / "net.onnx")
    (tmp_path / "contract.json").write_text('{"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]}')
    found = []
    for bake in (False, True):
        build = exporter.export(
            str(tmp_path / "net.onnx"), data=pictures, targets=["ort-cpu"], precisions=["fp32"],
            samples=8, measure=False, bake_preprocess=bake,
            preprocessing=tmp_path / "contract.json", out=tmp_path / "build",
        )  # fmt: skip
        assert build.failures == ()
        assert build.benchmark(model=str(tmp_path / "net.onnx"), rounds=5, threads=1).failures == ()
        # The file is nowhere in the record, what it said is.
        assert build.manifest.request.preprocessing is None
        assert build.manifest.request.mean == (0.1, 0.2, 0.3)
        assert "--mean 0.1,0.2,0.3 --std 0.5,0.6,0.7" in (build.path / "report.html").read_text()
        build.pack("bundle", tmp_path / "bundle")
        image = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
        found.append(exporter.load(tmp_path / "bundle")(image[None]))
    expected = answer_by_hand(net, image, {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7)})
    for served in found:
        assert np.abs(served - expected).max() < 1e-5 * np.abs(expected).max()


def test_pictures_without_a_contract_are_refused_with_what_to_give(pictures: Path) -> None:
    with pytest.raises(exporter.UsageError, match="give --mean and --std"):
        exporter.export(Net(3), image_size=16, bake_preprocess=True, precisions=["fp32"])
    with pytest.raises(exporter.InputError, match="give --mean and --std"):
        exporter.export(Net(3), image_size=16, data=pictures, precisions=["fp32"])
