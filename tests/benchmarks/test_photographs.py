"""The thin ResNet-50 that is trained on photographs: its form, and what it has not seen."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from benchmarks import photographs
from exporter.models.resnet import Bottleneck


def test_it_is_resnet50_with_a_quarter_of_the_channels() -> None:
    network = photographs.thin_resnet50().eval()
    blocks = [part for part in network.modules() if isinstance(part, Bottleneck)]
    assert len(blocks) == 16
    assert network.fc.in_features == 2048 // 4
    with torch.inference_mode():
        answers = network(torch.zeros(2, 3, photographs.SIDE, photographs.SIDE))
    assert answers.shape == (2, len(photographs.PHOTOGRAPHS))


@pytest.mark.skipif(
    importlib.util.find_spec("skimage") is None, reason="scikit-image is not installed (bench)"
)
def test_no_held_out_crop_shows_what_training_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    every = photographs.Photographs()
    seen: list[int] = []

    def width(part: photographs.Pixels, random: np.random.Generator) -> photographs.Pixels:
        seen.append(part.shape[1])
        return part[: photographs.SIDE, : photographs.SIDE]

    monkeypatch.setattr(photographs, "_crop", width)
    random = np.random.default_rng(0)
    pixels, labels = every.crops(1, random, held_out=False)
    every.crops(1, random, held_out=True)
    assert pixels.shape == (8, photographs.SIDE, photographs.SIDE, 3)
    assert labels == list(range(8))
    whole = [picture.shape[1] for picture in every._all]
    assert [a + b for a, b in zip(seen[:8], seen[8:], strict=True)] == whole
