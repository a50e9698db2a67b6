"""The pipeline's benchmark: the same photographs each time, and ratios within a round."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.jpegs import make_jpegs
from benchmarks.pipeline import DecodeJob, summary, timed
from exporter.artifact import Interpolation, Preprocessing
from exporter.images.sources.opening import open_source
from exporter.models.sources import define
from exporter.progress import Silent


def test_ratios_are_of_one_round() -> None:
    rates = {
        "decode": [100.0, 200.0], "engine": [50.0, 100.0], "evaluate": [30.0, 60.0],
        "engines": [20.0, 40.0], "paired": [15.0, 30.0], "dataloader": [10.0, 20.0],
    }  # fmt: skip
    found = summary(rates)
    assert found["evaluate_of_slower"] == 0.6
    assert found["evaluate_of_at_most"] == pytest.approx(0.9)
    assert found["paired_of_slower"] == 0.75
    assert found["paired_over_dataloader"] == 1.5


def test_pictures_are_made_once_and_decoded(tmp_path: Path) -> None:
    if importlib.util.find_spec("skimage") is None:
        pytest.skip("scikit-image ships the photographs")
    paths = make_jpegs(tmp_path / "a", 2, 0)
    assert [path.read_bytes() for path in make_jpegs(tmp_path / "b", 2, 0)] == [
        path.read_bytes() for path in paths
    ]
    with Image.open(paths[0]) as image:
        assert 300 <= max(image.size) <= 2000
    spec = define("resnet20-digits", "auto", progress=Silent()).spec
    assert isinstance(spec.preprocessing, Preprocessing)
    contract = replace(spec.preprocessing, resize=32, interpolation=Interpolation.BILINEAR)
    with DecodeJob(contract, spec).opened(1) as work:
        assert timed(work, open_source(str(tmp_path / "a")), 1) > 0
