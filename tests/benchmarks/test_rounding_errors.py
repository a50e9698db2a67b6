"""BF16's error beside INT8's, both on the same images."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.int8_accuracy import compare
from benchmarks.int8_recipes import BF16, OURS, RECIPES, bf16
from benchmarks.peers import has_bf16
from benchmarks.rounding_errors import networks, table_of
from exporter.errors import InputError
from exporter.progress import Silent
from tests.graphs import graph, random
from tests.samples import samples_of

NET = graph(
    "net (float[N,3,8,8] x) => (float[N,4] logits) "
    "{ c = Conv <pads=[1,1,1,1]> (x, w)  r = Relu (c)  p = GlobalAveragePool (r) "
    "f = Flatten <axis=1> (p)  logits = Gemm (f, v) }",
    w=random(6, 3, 3, 3, seed=1),
    v=random(6, 4, seed=2),
)


def test_bf16_and_int8_are_judged_on_the_same_images(tmp_path: Path) -> None:
    images = samples_of(random(24, 3, 8, 8, seed=3))
    recipes = {OURS: RECIPES[OURS], **({BF16: bf16} if has_bf16() else {})}
    found, _ = compare(
        NET, [images.take(8)], images, recipes=recipes, threads=1, folder=tmp_path,
        progress=Silent(),
    )  # fmt: skip
    assert list(found) == list(recipes)
    for name, one in found.items():
        assert one.logits.shape == (1, 24, 4), name
        assert 0 < one.figures()["rel_l2"] < 0.1, name


def test_a_folder_without_the_network_is_refused_with_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"python -m benchmarks\.photographs"):
        networks(tmp_path, 0, Silent())


def test_the_table_has_an_engine_a_row() -> None:
    figures = {
        "rms": 0.01, "over_bf16": {"value": 1.0, "ci95": [0.9, 1.1]}, "sqnr_db": 46.0,
        "top1_agreement": 1.0, "top1": None,
    }  # fmt: skip
    found = {
        "model": "net", "calibration": {"draws": 2, "samples": 8}, "evaluation": {"samples": 24},
        "engines": {"BF16 on OpenVINO": figures, "INT8 on OpenVINO": figures},
    }  # fmt: skip
    assert table_of(found).row_count == 2
