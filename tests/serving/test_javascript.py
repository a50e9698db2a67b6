"""The packed npm packages in Node.js and in headless Chromium, on the bundle's goldens."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import ExifTags, Image

import exporter
from exporter.artifact import Precision
from exporter.pack.formats import pack
from exporter.pack.request import PackRequest
from exporter.pack.tolerances import ROUNDING
from exporter.progress import Silent
from exporter.runtime.goldens import worst_error
from tests.networks import CLASSES, SIZE, Embedder, Pyramid, seasoned
from tests.packed import digits_build, digits_bundle
from tests.serving.environment import (
    CHROMIUM,
    NODE_MODULES,
    PROGRAMS,
    installed,
    needs_chromium,
    needs_node,
    run_node,
    static_server,
)
from tests.test_preprocessing import Net

pytestmark = [pytest.mark.serving, needs_node]

Array = npt.NDArray[Any]


def packed(
    folder: Path, kind: str, engine: str = "ort-cpu.int8", build: Path | None = None
) -> Path:
    request = PackRequest(
        build or digits_build(), format=kind, out=folder / kind, engines=(engine,)
    )
    return installed(pack(request, Silent()).path)


def golden_images() -> Array:
    with np.load(digits_bundle() / "golden.npz") as goldens:
        return np.array(goldens["images"])


def write_images(folder: Path, images: Array) -> Path:
    """The images, one after another; the first as a picture that lies on its head and says so."""
    (folder / "images.bin").write_bytes(images.tobytes())
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    turned = Image.fromarray(np.ascontiguousarray(images[0, ::-1, ::-1]))
    turned.save(folder / "picture.jpg", quality=100, subsampling=0, exif=exif)
    return folder / "images.bin"


def in_node(package: Path, images: Array | None = None) -> Any:
    """What `ask.mjs` finds in Node.js, on the golden images by default."""
    asked = golden_images() if images is None else images
    return run_node("node.mjs", package, write_images(package.parent, asked))


def in_chromium(package: Path, images: Array | None = None) -> Any:
    """The same in Chromium, and what the demo page does."""
    asked = write_images(package.parent, golden_images() if images is None else images)
    with static_server(package) as url:
        return run_node("browser.mjs", str(CHROMIUM), url, asked, package.parent / "picture.jpg")


def asked_in(kind: str, package: Path) -> Any:
    return in_node(package) if kind == "node" else in_chromium(package)["asked"]


def test_node_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime would: a device id, a database of events to send."""
    package = packed(tmp_path, "node")
    for name in ("HOME", "TMPDIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    in_node(package)
    assert [path for name in ("HOME", "TMPDIR") for path in (tmp_path / name).rglob("*")] == []


both = pytest.mark.parametrize("kind", ["node", pytest.param("web", marks=needs_chromium)])


@both
@pytest.mark.parametrize("engine", ["ort-cpu.fp32", "ort-cpu.int8"])
def test_the_goldens(tmp_path: Path, kind: str, engine: str) -> None:
    found = asked_in(kind, packed(tmp_path, kind, engine))
    assert found["engine"] == engine
    with np.load(digits_bundle() / "golden.npz") as goldens:
        expected = goldens[f"answers:{engine}"]
    tolerance = ROUNDING[Precision(engine.rpartition(".")[2])]
    assert worst_error(np.array(found["answers"]), expected) <= tolerance
    assert 0 <= found["goldenError"] <= tolerance
    for predictions, logits in zip(found["top"], np.array(found["answers"]), strict=True):
        exact = np.exp(logits) / np.exp(logits).sum()
        order = np.argsort(-logits)[:3]
        assert [one["index"] for one in predictions] == order.tolist()
        assert [one["label"] for one in predictions] == [str(index) for index in order]
        assert [one["probability"] for one in predictions] == pytest.approx(exact[order])


@both
@pytest.mark.parametrize(
    ("channels", "given"),
    [(3, {"mean": [0.2, 0.4, 0.6], "std": 0.3, "channels": "BGR"}), (1, {"mean": 0.4, "std": 0.3})],
    ids=["BGR", "grey"],
)
def test_channels_are_as_the_model_takes_them(
    tmp_path: Path, kind: str, channels: int, given: dict[str, Any]
) -> None:
    build = exporter.export(
        Net(channels), example=torch.zeros(1, channels, 20, 20), targets=["ort-cpu"],
        precisions=["fp32"], samples=8, measure=False, out=tmp_path / "build", **given,
    )  # fmt: skip
    build.pack("bundle", tmp_path / "bundle", allow_untrained=True)
    request = PackRequest(build.path, format=kind, out=tmp_path / kind, allow_untrained=True)
    package = installed(pack(request, Silent()).path)
    images = np.random.default_rng(0).integers(0, 256, (4, 20, 20, 3), np.uint8)
    asked = (in_node if kind == "node" else in_chromium)(package, images)
    found = (asked if kind == "node" else asked["asked"])["answers"]
    if channels == 1:
        images = np.stack([np.asarray(Image.fromarray(i).convert("L"))[..., None] for i in images])
    expected = exporter.load(tmp_path / "bundle")(images)
    assert worst_error(np.array(found), expected) <= ROUNDING[Precision.FP32]


@both
def test_what_is_no_image_is_refused(tmp_path: Path, kind: str) -> None:
    errors = asked_in(kind, packed(tmp_path, kind))["errors"]
    for what in ("nothing", "another size", "too few pixels", "floats"):
        assert errors[what].startswith("InputError: an image of "), (what, errors[what])
        assert "32 x 32 pixels" in errors[what]
    assert errors["top 0"] == "InputError: top is 0; give 1 or more"
    assert errors["wrong tensor"].startswith("InputError: the input is Int32Array of 3072 values")
    assert errors["closed"].startswith("ClosedError: the classifier is closed")


@both
@pytest.mark.parametrize("name", ["model.onnx", "goldens.bin"])
def test_an_altered_file_is_refused(tmp_path: Path, kind: str, name: str) -> None:
    package = packed(tmp_path, kind)
    contents = bytearray((package / name).read_bytes())
    contents[len(contents) // 2] ^= 1
    (package / name).write_bytes(contents)
    found = asked_in(kind, package)
    assert found["own"] is True
    assert found["refused"].startswith(f"IntegrityError: {name} is not the file that was packed")


@both
def test_wrong_answers_are_refused(tmp_path: Path, kind: str) -> None:
    package = packed(tmp_path, kind)
    contents = bytearray((package / "goldens.bin").read_bytes())
    last = np.frombuffer(contents, "<f4", 10, len(contents) - 40)
    last[:] = last[::-1].copy()
    (package / "goldens.bin").write_bytes(contents)
    contract = json.loads((package / "model.json").read_text())
    contract["files"]["goldens.bin"] = hashlib.sha256(contents).hexdigest()
    (package / "model.json").write_text(json.dumps(contract))
    found = asked_in(kind, package)
    assert found["refused"].startswith(
        "GoldenError: ort-cpu.int8 does not answer the golden inputs"
    )


@needs_chromium
def test_the_demo_page(tmp_path: Path) -> None:
    found = in_chromium(packed(tmp_path, "web"))
    assert found["messages"] == []
    assert found["elsewhere"] == [], "the page asks nobody else"
    assert found["status"].startswith("Ready: ort-cpu.int8 answers its golden inputs")
    with np.load(digits_bundle() / "golden.npz") as goldens:
        best = str(goldens["outputs"][0].argmax())
    for way in ("chosen", "dropped"):
        rows = found[way]["rows"]
        assert len(rows) == 5
        assert rows[0]["label"] == best
        assert [row["percent"] for row in rows] == sorted(
            (row["percent"] for row in rows), reverse=True
        )
        assert found[way]["latency"].startswith("Top 5, ")
        assert float(found[way]["latency"].split()[2]) > 0
    assert found["overflow"] <= 0, "the page is no wider than a telephone"
    assert "could not be decoded" in found["noPicture"]
    assert found["after"] == "Classified."


@needs_chromium
def test_the_demo_page_says_what_it_needs(tmp_path: Path) -> None:
    package = packed(tmp_path, "web")
    opened = run_node("status.mjs", str(CHROMIUM), (package / "index.html").as_uri())
    assert "over HTTP only" in opened["status"]
    assert "python3 -m http.server 8000" in opened["status"]
    assert opened["overflow"] <= 0, "the page is no wider than a telephone"
    (package / "node_modules").unlink()
    with static_server(package) as url:
        served = run_node("status.mjs", str(CHROMIUM), url)
    assert "run `npm install --ignore-scripts`, then reload" in served["status"]


@pytest.mark.parametrize("kind", ["node", "web"])
def test_the_types(tmp_path: Path, kind: str) -> None:
    package = packed(tmp_path, kind)
    shutil.copyfile(PROGRAMS / "types.ts", tmp_path / "types.mts")
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "packed").symlink_to(package)
    assert compiled(tmp_path / "types.mts", noUncheckedIndexedAccess=True) == (0, "")


@pytest.mark.parametrize("kind", ["node", "web"])
def test_the_program_is_what_its_types_say(tmp_path: Path, kind: str) -> None:
    """Beside index.js the compiler would read index.d.ts alone; here it reads both."""
    package = packed(tmp_path, kind)
    (package / "index.d.ts").rename(package / "contract.d.ts")
    check = package / "check.ts"
    check.write_text(
        'import type * as contract from "./contract.js";\n'
        'import * as program from "./index.js";\n'
        "export const checked: typeof contract = program;\n"
    )
    settings = {
        "allowJs": True,
        "checkJs": True,
        # What JavaScript cannot say.
        "noImplicitAny": False,
        "strictNullChecks": False,
        "types": ["node"] if kind == "node" else [],
    }
    assert compiled(check, **settings) == (0, "")
    classifier = package / "classifier.js"
    classifier.write_text(classifier.read_text().replace("async close()", "async shut()"))
    code, said = compiled(check, **settings)
    assert code != 0
    assert "Property 'close' is missing" in said


def compiled(file: Path, **settings: Any) -> tuple[int, str]:
    """What tsc makes of a file: exit code, output."""
    options = {
        "strict": True, "noEmit": True, "module": "nodenext", "target": "es2022",
        "lib": ["es2022", "dom", "dom.iterable"], "types": [], **settings,
    }  # fmt: skip
    config = file.with_name("tsconfig.json")
    config.write_text(json.dumps({"compilerOptions": options, "files": [file.name]}))
    done = subprocess.run(
        ["node", str(NODE_MODULES / "typescript" / "bin" / "tsc"), "-p", str(config)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("network", [Pyramid, Embedder])
def test_every_output_in_node(tmp_path: Path, network: type[torch.nn.Module]) -> None:
    build = exporter.export(
        seasoned(network()), example=torch.zeros(1, 3, SIZE, SIZE), targets=["ort-cpu"],
        precisions=["int8"], samples=8, calibration_samples=16, measure=False,
        out=tmp_path / "build", mean=0.5, std=0.25,
    )  # fmt: skip
    build.pack("bundle", tmp_path / "bundle", allow_untrained=True)
    request = PackRequest(build.path, format="node", out=tmp_path / "node", allow_untrained=True)
    package = installed(pack(request, Silent()).path)
    inputs = np.random.default_rng(0).standard_normal((1, 3, SIZE, SIZE)).astype(np.float32)
    (tmp_path / "input.bin").write_bytes(inputs.tobytes())
    found = run_node("outputs.mjs", package, tmp_path / "input.bin")
    with exporter.load(tmp_path / "bundle") as engine:
        expected, scores = engine.run(inputs), bool(engine.labels)
    assert [one["name"] for one in found["outputs"]] == list(expected) == found["features"]
    for name, values in expected.items():
        answer = np.array(found["answers"][name])
        assert worst_error(answer.reshape(1, -1), values.reshape(1, -1)) <= ROUNDING[Precision.INT8]
    assert 0 <= found["goldenError"] <= ROUNDING[Precision.INT8]
    assert len(found["labels"]) == (CLASSES if scores else 0)
    refusal = "InputError: this model answers features and no scores of classes; call features"
    assert found["classify"] == (CLASSES if scores else refusal)
