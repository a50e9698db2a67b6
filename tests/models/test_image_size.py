"""Sizes that are not square: on the command line, in a program, in a record and in a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import exporter
from exporter.artifact import Skipped
from exporter.builds import manifest as manifests
from exporter.builds.converters import image_size
from exporter.builds.option import command_line
from exporter.builds.request import ExportRequest
from exporter.cli import main
from exporter.errors import UsageError
from exporter.models.sources import define
from exporter.progress import Silent


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (None, None), (224, 224), ("224", 224), ("480x640", (480, 640)), ("480X640", (480, 640)),
        ("480,640", (480, 640)), ((480, 640), (480, 640)), ([32, 32], 32), ("7x7", 7),
    ],
)  # fmt: skip
def test_a_size_is_a_side_or_height_and_width(given: Any, read: Any) -> None:
    assert image_size(given) == read


@pytest.mark.parametrize("given", [0, -1, "0x32", "x", "", "1x2x3", 1.5, True, "a", (), (3, "b")])
def test_what_is_no_size_is_refused_with_how_to_say_one(given: Any) -> None:
    with pytest.raises(UsageError, match="as in 480x640"):
        image_size(given)


@pytest.mark.parametrize(("size", "word"), [((480, 640), "480x640"), (128, "128")])
def test_a_request_is_given_again_by_the_same_word(size: Any, word: str) -> None:
    words = command_line(ExportRequest("resnet50", image_size=size))
    assert words == ["resnet50", "--image-size", word]
    assert ExportRequest("resnet50", image_size=word).image_size == size


@pytest.mark.parametrize("size", [(24, 40), (40, 24), (33, 32)])
def test_a_built_in_model_of_such_a_size(size: tuple[int, int]) -> None:
    model = define("resnet20", "random", image_size=size, progress=Silent())
    assert model.spec.image_shape == (3, *size)
    preprocessing = model.spec.preprocessing
    assert not isinstance(preprocessing, Skipped)
    assert preprocessing.crop_size == size


def test_pictures_of_such_a_size_are_resized_to_the_same_margin() -> None:
    model = define("resnet18", "random", image_size=(224, 448), progress=Silent())
    preprocessing = model.spec.preprocessing
    assert not isinstance(preprocessing, Skipped)
    assert preprocessing.resize == (256, 512)
    with pytest.raises(UsageError, match="--image-size 16 is too small"):
        define("resnet18", "random", image_size=(64, 16), progress=Silent())


def test_a_live_module_of_such_a_size_and_of_two_channels(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 5),
    )  # fmt: skip
    build = exporter.export(
        module,
        image_size="24x40",
        targets=["ort-cpu"],
        precisions=["fp32", "int8"],
        samples=16,
        measure=False,
        allow_partial=True,
        out=tmp_path / "out",
    )
    assert build.failures == ()
    manifest = manifests.read(tmp_path / "out")
    assert manifest.model.input.shape == ("batch", 2, 24, 40)
    assert manifest.request.image_size == (24, 40)


def test_the_command_line_takes_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["trace", "resnet20", "--image-size", "24x40", "--json"])
    assert ended.value.code == 0
    assert '"input": [\n  3,\n  24,\n  40\n ]' in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["trace", "resnet20", "--image-size", "0"])
    assert ended.value.code == 2
    assert "as in 480x640" in capsys.readouterr().err
