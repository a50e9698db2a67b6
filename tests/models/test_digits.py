"""The embedded model and its data are what the documentation says."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from exporter.models import digits
from exporter.models.sources import define
from exporter.progress import Silent


def test_the_embedded_model_reaches_99_percent_on_the_held_out_split() -> None:
    assert digits.top1(digits.embedded()) >= 0.99
    model = define("resnet20-digits", progress=Silent())
    assert model.spec.weights.trained
    assert model.spec.preprocessing == digits.PREPROCESSING


def test_the_split_is_fixed_and_disjoint() -> None:
    train, held_out = digits.splits()
    assert (len(train.images), len(held_out.images)) == (1257, 540)
    assert train.images.shape[1:] == (32, 32, 3)
    assert train.images.dtype == np.uint8
    seen = {hashlib.sha256(image.tobytes()).hexdigest() for image in train.images}
    unseen = {hashlib.sha256(image.tobytes()).hexdigest() for image in held_out.images}
    assert not seen & unseen
    assert (train.images[..., 0] == train.images[..., 2]).all()


def test_the_data_are_scikit_learns() -> None:
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    original = datasets.load_digits()
    order = np.random.RandomState(0).permutation(len(original.target))
    train, held_out = digits.splits()
    labels = np.concatenate([train.labels, held_out.labels])
    assert np.array_equal(labels, original.target[order])
    centres = np.concatenate([train.images, held_out.images])[:, 2::4, 2::4, 0]
    assert np.corrcoef(centres.ravel(), original.images[order].ravel())[0, 1] > 0.97


def test_the_contract_is_that_of_the_training_images() -> None:
    train, _ = digits.splits()
    assert train.images.mean() / 255 == pytest.approx(digits.MEAN, abs=1e-3)
    assert train.images.std() / 255 == pytest.approx(digits.STD, abs=1e-3)
    inputs = digits.normalise(train.images[:2])
    assert inputs.shape == (2, 3, 32, 32)
    expected = (train.images[1, 4, 7, 0] / 255 - digits.MEAN) / digits.STD
    assert inputs[1, 2, 4, 7] == pytest.approx(expected, rel=1e-6)


def test_training_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four epochs reach 0.95 to 0.98, whatever the seed, the threads and the CPU's instructions.

    Two reach anything from 0.51 to 0.89: rounding alone moves them so far.
    """
    monkeypatch.setattr(digits, "EPOCHS", 4)
    module = digits.train(seed=1, report=False)
    assert digits.top1(module) > 0.8
    first = next(module.parameters())
    assert isinstance(first, torch.Tensor)
    assert not module.training
