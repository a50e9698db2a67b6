"""The embedded data sets are what the documentation says."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

from exporter.images.embedded import DIGITS, EMBEDDED, FASHION, EmbeddedData
from exporter.images.samples import open_data
from exporter.models.sources import define
from exporter.progress import Silent

DEBIANS = Path("/usr/share/datasets/fashion-mnist")
SETS = [
    pytest.param(data, *sizes, id=name)
    for (name, data), sizes in zip(EMBEDDED.items(), [(1257, 540), (4000, 4000)], strict=True)
]


@pytest.mark.parametrize(("data", "trained_on", "kept_back"), SETS)
def test_the_split_is_fixed_and_disjoint(
    data: EmbeddedData, trained_on: int, kept_back: int
) -> None:
    train, held_out = data.splits()
    assert (len(train.images), len(held_out.images)) == (trained_on, kept_back)
    assert train.images.shape[1:] == (*data.image_shape[1:], data.image_shape[0])
    assert train.images.dtype == np.uint8
    seen = {hashlib.sha256(image.tobytes()).hexdigest() for image in train.images}
    unseen = {hashlib.sha256(image.tobytes()).hexdigest() for image in held_out.images}
    assert not seen & unseen
    assert (train.images[..., 0] == train.images[..., -1]).all()


@pytest.mark.parametrize("name", EMBEDDED)
def test_a_model_calibrates_and_is_judged_on_its_own_images(name: str) -> None:
    spec, own = define(name, progress=Silent()).spec, EMBEDDED[name]
    data = open_data(spec, None)
    splits = zip((data.calibration, data.evaluation), own.splits(), strict=True)
    for samples, split in splits:
        assert own.name in samples.source
        assert samples.labels is not None
        assert np.array_equal(samples.labels, split.labels)
        first = next(iter(samples.batches(3)))
        assert np.array_equal(first, own.normalise(split.images[:3]))
    other = define(name, "random", image_size=16, progress=Silent())
    assert open_data(other.spec, None).evaluation.labels is None


def test_the_digits_are_scikit_learns() -> None:
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    original = datasets.load_digits()
    order = np.random.RandomState(0).permutation(len(original.target))
    train, held_out = DIGITS.splits()
    labels = np.concatenate([train.labels, held_out.labels])
    assert np.array_equal(labels, original.target[order])
    centres = np.concatenate([train.images, held_out.images])[:, 2::4, 2::4, 0]
    assert np.corrcoef(centres.ravel(), original.images[order].ravel())[0, 1] > 0.97


@pytest.mark.skipif(not DEBIANS.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
@pytest.mark.parametrize(("number", "part"), [(0, "train"), (1, "t10k")])
def test_the_clothes_are_the_first_of_each_published_split(number: int, part: str) -> None:
    split = FASHION.splits()[number]
    pixels = gzip.decompress((DEBIANS / f"{part}-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((DEBIANS / f"{part}-labels-idx1-ubyte.gz").read_bytes())[8:]
    assert split.images.tobytes() == pixels[: split.images.size]
    assert split.labels.astype(np.uint8).tobytes() == labels[: len(split.labels)]


@pytest.mark.parametrize("data", EMBEDDED.values(), ids=EMBEDDED)
def test_the_contract_is_that_of_the_training_images(data: EmbeddedData) -> None:
    train, _ = data.splits()
    mean, std = data.preprocessing.mean[0], data.preprocessing.std[0]
    assert train.images.mean() / 255 == pytest.approx(mean, abs=1e-3)
    assert train.images.std() / 255 == pytest.approx(std, abs=1e-3)
    inputs = data.normalise(train.images[:2])
    assert inputs.shape == (2, *data.image_shape)
    expected = (train.images[1, 14, 7, 0] / 255 - mean) / std
    assert inputs[1, -1, 14, 7] == pytest.approx(expected, rel=1e-5)
