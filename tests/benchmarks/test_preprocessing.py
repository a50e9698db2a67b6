"""Baked preprocessing against two steps: a ratio of two networks that differ would mean nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.preprocessing import BAKED, BY_HAND, TWO_STEPS, WAYS, contenders
from exporter.errors import InputError
from exporter.measure.worker import find_loader, make_input
from exporter.pack.formats import pack
from exporter.pack.request import PackRequest
from exporter.progress import Silent
from tests.packed import baked_build, digits_bundle


@pytest.fixture
def baked_bundle(tmp_path: Path) -> Path:
    return pack(PackRequest(baked_build(), out=tmp_path / "baked"), Silent()).path


def test_all_ways_answer_alike(baked_bundle: Path) -> None:
    everyone = contenders(digits_bundle(), baked_bundle)
    assert len(everyone) % len(WAYS) == 0
    answers = {}
    for one in everyone:
        assert isinstance(one.job, dict)
        images = make_input((2, *one.job["shape"]), one.job["dtype"], seed=0)
        run = find_loader(one.job["kind"])({**one.job, "threads": 2})(images)
        answers[one.name] = np.asarray(run())
    two_steps = answers[f"ort-cpu.fp32 {TWO_STEPS}"]
    for way in (BY_HAND, BAKED):
        found = answers[f"ort-cpu.fp32 {way}"]
        error = np.linalg.norm(found - two_steps) / np.linalg.norm(two_steps)
        assert error < 1e-5, way


def test_bundles_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--bake-preprocess"):
        contenders(digits_bundle(), digits_bundle())
    with pytest.raises(InputError, match="cannot read"):
        contenders(digits_bundle(), tmp_path)
