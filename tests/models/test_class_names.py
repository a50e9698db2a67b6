"""Names of classes come with weights whose source says what they were trained on, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from exporter.artifact import ClassNames
from exporter.images.embedded import EMBEDDED
from exporter.models.class_names import class_names
from exporter.models.sources import define
from exporter.models.variants import build_variant, find_variant
from exporter.progress import Silent


def test_the_names_are_imagenets() -> None:
    names = class_names(ClassNames.IMAGENET_1K)
    assert len(set(names)) == 1000
    assert all(name == name.strip() and name for name in names)
    assert [names[i] for i in (0, 1, 281, 954, 999)] == [
        "tench", "goldfish", "tabby", "banana", "toilet tissue",
    ]  # fmt: skip


@pytest.mark.parametrize("name", EMBEDDED)
def test_an_embedded_model_names_its_classes(name: str) -> None:
    labels = EMBEDDED[name].splits()[1].labels
    assert len(set(class_names(EMBEDDED[name].classes))) == labels.max() + 1


def test_random_weights_and_a_file_of_the_users_have_none(tmp_path: Path) -> None:
    assert find_variant("resnet18").num_classes == 1000
    torch.save(build_variant("resnet18").state_dict(), tmp_path / "mine.pth")
    for given in ("random", str(tmp_path / "mine.pth")):
        weights = define("resnet18", given, progress=Silent()).spec.weights
        assert (weights.classes, weights.licence) == (None, None)
