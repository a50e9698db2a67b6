"""The npm packages' files; Node and Chromium run them in `tests/serving`."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.errors import UsageError
from exporter.pack.formats import pack
from exporter.pack.javascript import _nested
from exporter.pack.request import PackRequest
from exporter.progress import Silent
from tests.packed import digits_build, digits_bundle, edited_build, measured

COMMON = {
    "MODEL_CARD.md", "README.md", "SHA256SUMS", "classifier.js", "goldens.bin", "index.d.ts",
    "index.js", "model.json", "model.onnx", "package.json", "sbom.cdx.json",
}  # fmt: skip


def package(build: Path, out: Path, kind: str, **options: Any) -> Path:
    return pack(PackRequest(build, format=kind, out=out, **options), Silent()).path


@pytest.mark.parametrize(
    ("kind", "more"), [("node", set()), ("web", {"index.html", "demo.js", "demo.css"})]
)
def test_the_files_of_a_package(tmp_path: Path, kind: str, more: set[str]) -> None:
    folder = package(digits_build(), tmp_path / "out", kind, engines=("ort-cpu.int8",))
    assert {path.name for path in folder.iterdir()} == COMMON | more
    described = json.loads((folder / "package.json").read_text())
    assert described["dependencies"].keys() == {f"onnxruntime-{kind}"}
    assert re.fullmatch(r"[a-z0-9-]+", described["name"])
    contract = json.loads((folder / "model.json").read_text())
    for name, sha256 in contract["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha256
    engine = digits_build() / "engines" / "ort-cpu" / "int8.onnx"
    assert (folder / "model.onnx").read_bytes() == engine.read_bytes()
    assert contract["session"] == {
        "optimization": {"disable_specified_optimizers": "WeightBiasQuantization"}
    }
    assert contract["sessionWithoutVnni"]["session"] == {"x64quantprecision": "1"}
    imported = set(
        re.findall(r'from "\./(?!node_modules)([^"]+)"', (folder / "index.js").read_text())
    )
    assert imported == {"classifier.js"}


def test_the_goldens_are_the_bundles(tmp_path: Path) -> None:
    folder = package(digits_build(), tmp_path / "out", "node", engines=("ort-cpu.fp32",))
    contract = json.loads((folder / "model.json").read_text())
    contents = (folder / "goldens.bin").read_bytes()
    size = 32 * 32 * 3 + 4 * 10
    assert len(contents) == contract["goldens"]["samples"] * size
    with np.load(digits_bundle() / "golden.npz") as goldens:
        for index in range(contract["goldens"]["samples"]):
            part = contents[index * size : (index + 1) * size]
            assert part[:3072] == goldens["images"][index].tobytes()
            assert part[3072:] == goldens["answers:ort-cpu.fp32"][index].tobytes()
    assert contract["tolerance"] == 1e-5


def test_the_fastest_cpu_engine_is_taken(tmp_path: Path) -> None:
    build = edited_build(tmp_path, lambda m: measured(m, fp32={1: 0.9}, int8={1: 1.0}))
    folder = tmp_path / "out"
    packed = pack(PackRequest(build, format="node", out=folder), Silent())
    assert packed.engines == ("ort-cpu.fp32",)
    assert json.loads((folder / "model.json").read_text())["engine"] == "ort-cpu.fp32"


def test_a_build_without_an_onnx_engine_is_refused(tmp_path: Path) -> None:
    def only_plans(manifest: dict[str, Any]) -> None:
        for entry in manifest["engines"]:
            entry.update(target="tensorrt", id=f"tensorrt.{entry['precision']}")

    build = edited_build(tmp_path, only_plans)
    with pytest.raises(UsageError, match=r"runs ort-cpu engines, the build has tensorrt\.fp32"):
        package(build, tmp_path / "out", "web")
    assert not (tmp_path / "out").exists()


def test_dots_become_levels() -> None:
    flat = {"session.x": "1", "session.y": "2", "optimization.z.deep": "3"}
    assert _nested(flat) == {"session": {"x": "1", "y": "2"}, "optimization": {"z": {"deep": "3"}}}


def test_a_browser_that_turns_pictures_is_not_packed_for_a_model_that_does_not(
    tmp_path: Path,
) -> None:
    build = edited_build(
        tmp_path,
        lambda manifest: manifest["model"]["preprocessing"].update(exif_orientation=False),
    )
    with pytest.raises(UsageError, match=r"--no-exif-orientation\), and a browser turns .* node"):
        package(build, tmp_path / "web", "web")
    contract = json.loads((package(build, tmp_path / "node", "node") / "model.json").read_text())
    assert contract["exifOrientation"] is False
