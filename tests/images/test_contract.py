"""What is given of a model's preprocessing: filled up, checked against the input, never guessed."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exporter.artifact import (
    Channels,
    Interpolation,
    ModelKind,
    ModelSpec,
    Preprocessing,
    Skipped,
    TensorSpec,
    WeightsInfo,
)
from exporter.errors import UsageError
from exporter.images.contract import GivenPreprocessing, with_contract
from exporter.images.contract_file import read_contract

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
KNOWN = Preprocessing(
    256, 224, Interpolation.BICUBIC, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "the weights' own"
)


def spec(*shape: int, known: Preprocessing | None = None, dtype: str = "float32") -> ModelSpec:
    return ModelSpec(
        name="net",
        source="net",
        kind=ModelKind.ONNX,
        parameters=1,
        macs=1,
        input=TensorSpec("x", dtype, ("batch", *shape)),
        output=TensorSpec("y", "float32", ("batch", 10)),
        preprocessing=known or Skipped("nobody says"),
        weights=WeightsInfo("w", "0" * 64, True),
    )


def contract(model: ModelSpec, **given: Any) -> Preprocessing:
    found = with_contract(model, GivenPreprocessing(**given)).preprocessing
    assert isinstance(found, Preprocessing)
    return found


def test_nothing_given_changes_nothing() -> None:
    for model in (spec(3, 8, 8), spec(3, 224, 224, known=KNOWN), spec(13, 8, 8)):
        assert with_contract(model, GivenPreprocessing()) == model


def test_defaults_are_the_inputs_size_and_bilinear() -> None:
    found = contract(spec(3, 64, 64), **IMAGENET)
    assert (found.resize, found.crop, found.interpolation) == (64, 64, Interpolation.BILINEAR)
    assert (found.mean, found.std) == (IMAGENET["mean"], IMAGENET["std"])
    assert found.channels is Channels.RGB
    oblong = contract(spec(48, 64, 3), **IMAGENET)
    assert (oblong.resize, oblong.crop) == ((48, 64), (48, 64))
    assert oblong.crop_size == (48, 64)
    grey = contract(spec(1, 28, 28), mean=(0.5,), std=(0.25,))
    assert (grey.channels, grey.mean) == (Channels.GREY, (0.5,))


def test_pictures_are_turned_upright_unless_somebody_says_not_to() -> None:
    assert contract(spec(3, 8, 8), **IMAGENET).exif_orientation
    stored = contract(spec(3, 224, 224, known=KNOWN), exif_orientation=False)
    assert stored == replace(KNOWN, exif_orientation=False, source=stored.source)
    again = contract(spec(3, 224, 224, known=stored), resize=(256,))
    assert not again.exif_orientation
    assert not read_contract({"mean": 0, "std": 1, "exif_orientation": False}).exif_orientation


def test_one_value_stands_for_all_and_255_is_scaled() -> None:
    found = contract(spec(3, 8, 8), mean=(127.5,), std=(127.5,), pixel_range=255)
    assert (found.mean, found.std) == ((0.5,) * 3, (0.5,) * 3)
    caffe = contract(
        spec(3, 8, 8), mean=(104, 117, 123), std=(1,), pixel_range=255, channels=Channels.BGR
    )
    assert caffe.mean == pytest.approx((104 / 255, 117 / 255, 123 / 255))
    assert caffe.channels is Channels.BGR


def test_what_is_known_stays_where_nothing_else_is_said() -> None:
    model = spec(3, 224, 224, known=KNOWN)
    found = contract(model, resize=(232,))
    assert (found.resize, found.interpolation) == (232, Interpolation.BICUBIC)
    assert (found.mean, found.std) == (KNOWN.mean, KNOWN.std)
    assert found.source == "as given, over the weights' own"
    assert contract(model, mean=(0.5,)).std == KNOWN.std


@pytest.mark.parametrize(
    ("model", "given", "problem"),
    [
        (spec(3, 8, 8), {"resize": (9,)}, "give both --mean and --std"),
        (spec(3, 8, 8), {"mean": (0.5,)}, "give both --mean and --std"),
        (spec(3, 8, 8), {"mean": (0.5, 0.5), "std": (1,)}, "--mean 0.5,0.5: give 3 values"),
        (spec(3, 8, 8), {"mean": (123.0,), "std": (58.0,)}, "add --pixel-range 255"),
        (spec(3, 8, 8), {"mean": (0.5,), "std": (0.0,)}, "every value must be above 0"),
        (spec(3, 8, 8), {**IMAGENET, "pixel_range": 2}, "--pixel-range 2: give 1 or 255"),
        (spec(3, 8, 8, known=KNOWN), {"pixel_range": 255}, "give both, too"),
        (spec(3, 8, 8), {**IMAGENET, "crop": (9,)}, r"--crop 9: net takes 8 x 8 pixels"),
        (spec(3, 8, 8), {**IMAGENET, "resize": (7,)}, "--resize 7 is smaller"),
        (spec(3, 8, 9), {**IMAGENET, "resize": (8,)}, "--resize 8 is smaller than the 8 x 9"),
        (spec(3, 8, 8), {**IMAGENET, "interpolation": Interpolation.NONE}, "name a filter"),
        (spec(3, 8, 8), {**IMAGENET, "channels": Channels.GREY}, "--channels grey: net takes 3"),
        (spec(1, 8, 8), {"mean": (0,), "std": (1,), "channels": Channels.BGR}, "net takes 1"),
        (spec(13, 8, 8), {"mean": (0,), "std": (1,)}, "net takes 13 channels"),
        (spec(8, 8, 3, dtype="uint8"), IMAGENET, "takes 8-bit pixels, which are not normalised"),
        (spec(8, 8, 3, dtype="uint8"), {"channels": Channels.BGR}, "reverse them inside it"),
    ],
)
def test_what_does_not_fit_is_refused(
    model: ModelSpec, given: dict[str, Any], problem: str
) -> None:
    with pytest.raises(UsageError, match=problem):
        contract(model, **given)


def test_an_engine_of_pixels_needs_a_size_alone() -> None:
    found = contract(spec(8, 8, 3, dtype="uint8"), resize=(10,))
    assert (found.resize, found.crop, found.mean, found.std) == (10, 8, (0.0,) * 3, (1.0,) * 3)


RESNET = {  # microsoft/resnet-50
    "crop_pct": 0.875, "do_normalize": True, "do_resize": True,
    "feature_extractor_type": "ConvNextFeatureExtractor", "resample": 3, "size": 224,
    "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
}  # fmt: skip
VIT = {
    "do_center_crop": True, "crop_size": {"height": 224, "width": 224}, "do_rescale": True,
    "rescale_factor": 1 / 255, "size": {"shortest_edge": 256}, "resample": 2,
    "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
}  # fmt: skip
TIMM = {
    "architecture": "resnet50", "num_classes": 1000,
    "pretrained_cfg": {
        "input_size": [3, 224, 224], "crop_pct": 0.95, "crop_mode": "center",
        "interpolation": "bicubic", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (RESNET, (256, 224, Interpolation.BICUBIC, IMAGENET["mean"])),
        ({**RESNET, "size": {"shortest_edge": 224}}, (256, 224, "bicubic", IMAGENET["mean"])),
        (VIT, (256, 224, Interpolation.BILINEAR, (0.5, 0.5, 0.5))),
        (
            {**VIT, "size": {"height": 224, "width": 224}, "do_center_crop": False},
            ((224, 224), 224, Interpolation.BILINEAR, (0.5, 0.5, 0.5)),
        ),
        ({**VIT, "do_normalize": False}, (256, 224, Interpolation.BILINEAR, (0.0, 0.0, 0.0))),
        (TIMM, (235, 224, Interpolation.BICUBIC, IMAGENET["mean"])),
        (TIMM["pretrained_cfg"], (235, 224, Interpolation.BICUBIC, IMAGENET["mean"])),
        (
            {"mean": 127.5, "std": 127.5, "pixel_range": 255, "resize": [230, 224]},
            ((230, 224), 224, Interpolation.BILINEAR, (0.5, 0.5, 0.5)),
        ),
    ],
    ids=["convnext", "newer", "shortest edge", "both sides", "plain", "timm", "timm's own", "ours"],
)
def test_files_that_people_have(content: dict[str, Any], expected: object, tmp_path: Path) -> None:
    path = tmp_path / "contract.json"
    path.write_text(json.dumps(content))
    given = read_contract(path)
    assert given == read_contract(content)
    found = with_contract(spec(3, 224, 224), given).preprocessing
    assert isinstance(found, Preprocessing)
    assert (found.resize, found.crop, found.interpolation, found.mean) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "is not JSON"),
        ("[1]", "expected an object with mean"),
        ('{"means": [1]}', "unknown key 'means'; known: mean, std, resize"),
        ('{"mean": ["a"]}', r"mean is \['a'\], expected numbers"),
        ('{"resize": 0.5}', "resize is 0.5, expected pixels"),
        ('{"exif_orientation": 1}', "exif_orientation is 1, expected true or false"),
        ('{"interpolation": "cubic"}', "'cubic' is not a valid Interpolation"),
        ('{"image_mean": [1], "resample": 9}', "resample is 9, expected one of 0, 1"),
        ('{"crop_pct": 1.0, "interpolation": "bilinear"}', "input_size is missing"),
        (json.dumps({**TIMM["pretrained_cfg"], "crop_mode": "border"}), "border crop"),  # type: ignore[dict-item]
    ],
)
def test_a_file_that_cannot_be_used_is_named(text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "contract.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=f"^--preprocessing {re.escape(str(path))}.*{problem}"):
        read_contract(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_contract(tmp_path / "nothing.json")
