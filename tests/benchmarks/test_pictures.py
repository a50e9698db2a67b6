"""Pipelines from pictures: a ratio of two that answer differently would mean nothing."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from benchmarks import plots, results
from benchmarks.artifacts import Artifacts
from benchmarks.picture_pipelines import Decode, Normalise, Runtime, load_ours, load_peer
from benchmarks.pictures import KIND, PEERS, contenders
from exporter.artifact import Skipped
from exporter.builds.codec import plain
from exporter.graph.files import save
from exporter.graph.optimize import optimize
from exporter.graph.to_onnx import export
from exporter.images.embedded import DIGITS
from exporter.images.samples import open_data
from exporter.measure.worker import find_loader
from exporter.models.sources import define
from exporter.pack.formats import pack
from exporter.pack.request import PackRequest
from exporter.progress import Silent
from tests.benchmarks.test_analysis import HEAD, engine
from tests.packed import baked_build, edit_manifest

FRAMED = {"resize": 36, "interpolation": "bilinear"}
CONTRACT = plain(DIGITS.preprocessing) | FRAMED
WAYS = [
    (Runtime.ONNXRUNTIME, Normalise.TORCH), (Runtime.ONNXRUNTIME, Normalise.NUMPY),
    (Runtime.OPENVINO, Normalise.NUMPY), (Runtime.OPENVINO, Normalise.OPENVINO),
]  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits with their preprocessing in them, by a contract that resizes."""
    path = pack(
        PackRequest(baked_build(), out=tmp_path_factory.mktemp("baked") / "bundle"), Silent()
    ).path
    edit_manifest(path, lambda manifest: manifest["model"]["preprocessing"].update(FRAMED))
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JPEGs of digits, enlarged."""
    folder = tmp_path_factory.mktemp("jpegs")
    for number, digit in enumerate(DIGITS.splits()[1].images[:5]):
        Image.fromarray(digit).resize((90, 72)).save(folder / f"{number}.jpg", quality=95)
    return folder


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits in float32, as the peers take them."""
    path = tmp_path_factory.mktemp("graph") / "digits.onnx"
    save(optimize(export(define("resnet20-digits", "auto", progress=Silent())))[0], path)
    return path


def jobs(bundle: Path, graph: Path, **more: Any) -> list[tuple[Callable[..., Any], dict[str, Any]]]:
    """Ours, then every peer on the same network."""
    common = {"contract": CONTRACT, "threads": 1, "hint": "f32", "decode": Decode.PILLOW, **more}
    peers = [
        (load_peer, common | {"path": str(graph), "runtime": runtime, "normalise": normalise})
        for runtime, normalise in WAYS
    ]
    return [(load_ours, common | {"path": str(bundle), "engine": "ort-cpu.fp32"}), *peers]


def test_all_answer_the_same_images_alike(bundle: Path, graph: Path) -> None:
    images = DIGITS.splits()[1].images[:3]
    ours, *peers = (np.asarray(load(job)(images)()) for load, job in jobs(bundle, graph))
    for way, answer in zip(WAYS, peers, strict=True):
        assert np.linalg.norm(answer - ours) / np.linalg.norm(ours) < 1e-5, way


def test_all_label_the_same_jpegs_alike(bundle: Path, graph: Path, pictures: Path) -> None:
    nothing = np.zeros((1, 32, 32, 3), np.uint8)
    found = [load(job)(nothing)() for load, job in jobs(bundle, graph, pictures=str(pictures))]
    assert found == [DIGITS.splits()[1].labels[:5].tolist()] * len(found)
    (_, *opencv) = jobs(bundle, graph, pictures=str(pictures), decode=Decode.OPENCV)
    for load, job in opencv:
        assert load(job)(nothing)() == found[0]


def files_in(folder: Path) -> Artifacts:
    """Every peer's file but NNCF's."""
    spec = define("resnet20-digits", "auto", progress=Silent()).spec
    paths: dict[str, Path | Skipped] = {one.artifact: folder / "x" for one in PEERS}
    paths["nncf"] = Skipped("NNCF is not installed")
    return Artifacts(spec, open_data(spec, None, seed=0), paths, folder)


def test_a_decoder_is_no_part_of_what_begins_with_pixels(bundle: Path, tmp_path: Path) -> None:
    files = files_in(tmp_path)
    everyone = contenders(files, DIGITS.preprocessing, bundle, tmp_path)
    assert len(everyone) == len(PEERS) + 4
    pixels = contenders(files, DIGITS.preprocessing, bundle, None)
    assert len(pixels) < len(everyone)
    assert all(one.facts["decode"] is None for one in pixels)
    skipped = [one.name for one in pixels if isinstance(one.job, Skipped)]
    assert skipped == [f"openvino-nncf, {normalise}" for normalise in Normalise]
    for one in everyone:
        assert isinstance(one.job, Skipped) or callable(find_loader(one.job["kind"]))


def test_without_opencv_its_pipelines_are_missing_with_the_reason(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    found = {
        one.name: one.job
        for one in contenders(files_in(tmp_path), DIGITS.preprocessing, bundle, tmp_path)
    }
    missing = {name: job.skipped for name, job in found.items() if isinstance(job, Skipped)}
    assert "OpenCV is not installed; run: " in missing["onnxruntime, OpenCV, numpy"]
    assert all("OpenCV" in name or "nncf" in name for name in missing)


def test_each_of_ours_is_compared_with_the_best_of_each_kind() -> None:
    name = "jpeg b1"

    def made(who: str, role: str, ms: float, kind: str, runtime: str, decode: str) -> list[Any]:
        facts = {"runtime": runtime, "decode": decode}
        return engine(name, who, role, 4 * ms, precision=kind, **facts)

    events = [
        HEAD | {"suite": KIND},
        {"event": "group", "group": name, "kind": KIND, "model": "net", "batch": 1, "threads": 2,
         "side": 500, "pictures": 4},
        {"event": "missing", "group": name, "name": "openvino-nncf, Pillow, numpy", "role": "peer",
         "precision": "int8", "why": "NNCF is not installed", "broken": False},
        *made("torch-eager", "baseline", 50, "fp32", "PyTorch", "Pillow"),
        *made("onnxruntime", "peer", 36, "fp32", "ONNX Runtime", "Pillow"),
        *made("quantized, Pillow", "peer", 15, "int8", "ONNX Runtime", "Pillow"),
        *made("quantized, OpenCV", "peer", 12, "int8", "ONNX Runtime", "OpenCV"),
        *made("ours/ort-cpu.int8", "ours", 10, "int8", "ONNX Runtime", "Pillow"),
        {"event": "footer", "group": name, "others": 0.0, "load_average": [1, 1, 1],
         "cpu_mhz": None},
    ]  # fmt: skip
    found = results.of(events)
    (group,) = found["groups"]
    own = group["rows"][-1]
    assert own["ms_an_image"] == pytest.approx(10)
    assert own["over_eager"]["median"] == pytest.approx(5)
    gains = {what: (one["peer"], round(one["median"], 3)) for what, one in own["over"].items()}
    assert gains == {
        "best": ("quantized, OpenCV", 1.2),
        "alike": ("quantized, Pillow", 1.5),
        "runtime": ("onnxruntime", 3.6),
    }
    assert plots.draw(found, Path("nowhere")) == []
    stream = io.StringIO()
    results.show(found, Console(file=stream, width=200))
    assert "JPEGs of 500 pixels to labels" in stream.getvalue()
    assert "missing: jpeg b1: openvino-nncf, Pillow, numpy: NNCF" in stream.getvalue()
