"""The gate on the real digits: what passes, what fails, what is refused, and what is kept of it."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

import exporter
from exporter import open_build
from exporter.artifact import Skipped
from exporter.builds import manifest as manifests
from exporter.builds.gate_request import GateRequest
from exporter.cli import main
from exporter.commands.gate import Gated, gate
from exporter.errors import InputError, NotReproducedError, UsageError
from exporter.images.embedded import DIGITS, Split
from exporter.pack.gate import without_flips
from exporter.progress import Silent
from exporter.prove.gate_record import Decision
from tests.manifests import resnet50
from tests.networks import RgbDepth, seasoned
from tests.packed import baked_build, digits_build, digits_bundle, pack_build
from tests.richer_manifests import gated

INT8 = ("ort-cpu.int8",)


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """A build that a test may change."""
    return Path(shutil.copytree(digits_build(), tmp_path / "build"))


@functools.cache
def held_out() -> Split:
    return DIGITS.splits()[1]


def pictures(folder: Path, count: int = 40, names: tuple[str, ...] = tuple("0123456789")) -> Path:
    """The first digits as PNGs, each in the folder of its class."""
    split = held_out()
    for number in range(count):
        path = folder / names[split.labels[number]] / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(split.images[number]).convert("RGB").save(path)
    return folder


def asked(build: Path, **options: Any) -> Gated:
    return gate(GateRequest(build, **{"engines": INT8, "threads": 1, **options}), Silent())


def biased(build: Path, by: float, engine: str = INT8[0]) -> None:
    """Plants an engine that prefers the digit 0 by so much more, with its hash in the manifest."""
    path = build / "manifest.json"
    manifest = json.loads(path.read_text())
    entry = next(one for one in manifest["engines"] if one["id"] == engine)
    file = build / entry["path"]
    bias_graph(file, by)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    entry["sha256"] = entry["files"][0]["sha256"] = digest
    entry["bytes"] = entry["files"][0]["bytes"] = file.stat().st_size
    path.write_text(json.dumps(manifest))


def bias_graph(file: Path, by: float) -> None:
    model = onnx.load(file)
    output = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["raw" if name == output else name for name in node.output]
    bias = onnx.numpy_helper.from_array(np.eye(1, 10, dtype=np.float32) * by, "planted")
    model.graph.initializer.append(bias)
    model.graph.node.append(onnx.helper.make_node("Add", ["raw", "planted"], [output]))
    onnx.save(model, file)


def test_int8_passes_on_the_digits_own_images(build: Path) -> None:
    found = asked(build, max_drop="1%")
    (int8,) = found.gate.engines
    assert (found.failures, found.gate.images, int8.judged) == ((), 540, 540)
    assert int8.decision is Decision.PASS
    assert isinstance(int8.drop_at_most, float)
    assert 0 < int8.drop_at_most <= 0.01
    assert int8.flips_at_most <= 0.01
    kept = manifests.read(build)
    assert kept.gate == found.gate
    assert "May it be released" in (build / "report.html").read_text()


def test_a_smaller_drop_takes_more_images_and_it_says_how_many(build: Path) -> None:
    found = asked(build, data=pictures(build.parent / "data"), max_drop=0.005)
    (int8,) = found.gate.engines
    assert int8.decision is Decision.UNDECIDED
    assert int8.more_images is not None
    assert 600 < int8.more_images < 1000
    assert f"about {int8.more_images} more would decide" in found.failures[0]


def test_a_planted_bad_engine_fails_and_shows_its_flips(build: Path) -> None:
    biased(build, 100.0)
    found = asked(build, data=pictures(build.parent / "data"))
    (bad,) = found.gate.engines
    assert bad.decision is Decision.FAIL
    assert bad.flips > 30
    assert bad.lost == bad.flips
    assert len(bad.flipped) == 12
    first = bad.flipped[0]
    assert (first.engine, first.reference) == ("0", first.label)
    assert first.image == f"{first.label}/{first.image[2:]}"
    assert first.margin > bad.flipped[-1].margin > 0
    assert f'<img src="{first.thumbnail}"' in (build / "report.html").read_text()


def test_flips_stay_out_of_packages() -> None:
    packed = without_flips(gated())
    assert not isinstance(packed.gate, Skipped)
    assert [one.flipped for one in packed.gate.engines] == [(), (), ()]
    assert packed.gate.unreadable == ()
    assert without_flips(resnet50()) == resnet50()


def test_a_whole_build_is_gated_by_a_program(build: Path) -> None:
    opened = open_build(build)
    outcome = opened.gate(data=pictures(build.parent / "data", 20), max_drop="20%", max_flips="20%")
    assert [one.id for one in outcome.gate.engines] == list(opened)
    assert opened.failures == ()
    assert opened.manifest.gate == outcome.gate


def test_a_bundle_is_compared_with_its_float_engine_and_not_changed(tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in digits_bundle().rglob("*") if path.is_file()}
    data = pictures(tmp_path / "data")
    found = asked(digits_bundle(), data=data, max_drop="20%", max_flips="10%")
    assert found.gate.reference == "ort-cpu.fp32 of the bundle"
    assert [one.decision for one in found.gate.engines] == [Decision.PASS]
    assert {path: path.read_bytes() for path in before} == before
    archive = pack_build(digits_build(), tmp_path / "one.tar.zst", engines=("ort-cpu.fp32", *INT8))
    again = asked(archive, data=data, max_drop="20%", max_flips="10%")
    assert again.gate == found.gate
    alone = pack_build(digits_build(), tmp_path / "alone", engines=INT8)
    with pytest.raises(UsageError, match=r"no FP32 engine that runs here.*pack one with them"):
        asked(alone, data=data)


def test_engines_that_take_images_are_gated_on_images(tmp_path: Path) -> None:
    build = Path(shutil.copytree(baked_build(), tmp_path / "build"))
    found = asked(build, data=pictures(tmp_path / "data"), max_drop="20%", max_flips="10%")
    assert found.failures == ()


def test_tensors_with_and_without_labels(build: Path, tmp_path: Path) -> None:
    split = held_out()
    inputs, labels = DIGITS.normalise(split.images[:300]), split.labels[:300]
    np.savez(tmp_path / "x.npz", input=inputs, labels=labels)
    found = asked(build, data=tmp_path / "x.npz", max_drop="2%")
    assert found.failures == ()
    np.savez(tmp_path / "y.npz", input=inputs)
    (int8,) = asked(build, data=tmp_path / "y.npz").gate.engines
    assert (int8.decision, isinstance(int8.drop_at_most, Skipped)) == (Decision.PASS, True)
    assert int8.flips_at_most == pytest.approx(0.00994, abs=5e-6)
    np.savez(tmp_path / "z.npz", input=inputs, labels=np.random.default_rng(0).permutation(labels))
    with pytest.raises(InputError, match=r"answers \d\d of 300 .* labels are not this model's"):
        asked(build, data=tmp_path / "z.npz")
    np.savez(tmp_path / "z.npz", input=inputs, labels=labels + 1)
    with pytest.raises(InputError, match="labels from 1 to 10, the model has 10 classes, 0 to 9"):
        asked(build, data=tmp_path / "z.npz")


def test_a_shuffled_class_order_is_refused(build: Path, tmp_path: Path) -> None:
    words = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    data = pictures(tmp_path / "data", 100, words)  # sorted: eight, five, four, ...
    with pytest.raises(InputError, match="another order than the model's classes"):
        asked(build, data=data)
    assert isinstance(manifests.read(build).gate, Skipped)
    file = tmp_path / "labels.csv"
    names = sorted(path.relative_to(data).as_posix() for path in data.rglob("*.png"))
    file.write_text("".join(f"{name},{words.index(name.split('/')[0])}\n" for name in names))
    found = asked(build, data=data, labels=file, max_drop="5%", max_flips="5%")
    assert found.failures == ()
    file.write_text(f"{names[0]},1\n")
    with pytest.raises(InputError, match=f"no label for 99 of 100 pictures .*first: {names[1]}"):
        asked(build, data=data, labels=file)


def test_labels_that_are_not_the_models_are_refused(build: Path, tmp_path: Path) -> None:
    data = pictures(tmp_path / "data", 20)
    (data / "cat").mkdir()
    Image.new("RGB", (32, 32)).save(data / "cat" / "x.png")
    with pytest.raises(InputError, match="labels: cat; the model's: 0, 1, 2, 3, 4"):
        asked(build, data=data)


def test_unreadable_images_are_named_and_counted(build: Path, tmp_path: Path) -> None:
    data = pictures(tmp_path / "data")
    good = next(data.rglob("*.png")).read_bytes()
    (data / "1" / "torn.png").write_bytes(good[: len(good) - 40])
    (data / "2" / "text.png").write_text("no picture")
    loose: dict[str, Any] = {"data": data, "max_drop": "20%", "max_flips": "10%"}
    found = asked(build, **loose)
    assert len(found.gate.unreadable) == 2
    assert found.gate.images == 40
    (failure,) = found.failures
    assert str(tmp_path) not in failure  # nor, with that, in the manifest
    assert "torn.png" in failure
    assert "text.png" in failure
    assert asked(build, skip_unreadable=True, **loose).failures == ()
    for file in data.rglob("*.png"):
        file.write_text("no picture")
    with pytest.raises(InputError, match="none of 42 images can be read"):
        asked(build, **loose)


def test_pictures_of_each_kind_are_read_or_named(build: Path, tmp_path: Path) -> None:
    data = pictures(tmp_path / "data", 30)
    with Image.open(next((data / "3").iterdir())) as image:
        three = image.copy()
    grey = np.asarray(three.convert("L"))
    turned = Image.Exif()
    turned[0x0112] = 6  # to be shown a quarter turn to the right
    three.transpose(Image.Transpose.ROTATE_90).save(data / "3" / "turned.png", exif=turned)
    three.convert("CMYK").save(data / "3" / "cmyk.jpg", quality=95)
    three.quantize(64).save(data / "3" / "palette.png")
    three.save(data / "3" / "animated.webp", save_all=True, append_images=[three.rotate(90)])
    Image.fromarray(grey.astype(np.uint16) * 257).save(data / "3" / "deep.png")
    three.save(data / "3" / "old.gif")
    found = asked(build, data=data, max_drop="20%", max_flips="20%", skip_unreadable=True)
    assert found.failures == ()
    assert (found.gate.images, found.gate.engines[0].lost) == (34, 0)
    assert [line.split(" ")[0] for line in found.gate.unreadable] == ["3/old.gif", "3/deep.png"]
    assert found.gate.engines[0].top1 == found.gate.engines[0].top1_reference == 1.0


def test_the_same_pictures_go_through_opencv_where_it_is(
    build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = pictures(tmp_path / "data", 20)
    loose: dict[str, Any] = {"data": data, "max_drop": "20%", "max_flips": "20%"}
    decoders = asked(build, **loose).gate.decoders
    assert not isinstance(decoders, Skipped)
    assert (decoders.judged, decoders.flips, decoders.points) == (20, 0, 100.0)
    page = (build / "report.html").read_text()
    assert f"{decoders.contract} <" in page
    assert decoders.other in page
    monkeypatch.setitem(sys.modules, "cv2", None)
    absent = asked(build, **loose).gate.decoders
    assert isinstance(absent, Skipped)
    assert absent.skipped.startswith("OpenCV is not installed; run: pip install ")
    assert isinstance(asked(build, max_drop="5%").gate.decoders, Skipped)  # no pictures: tensors


def test_what_changed_since_it_was_proved_is_refused(build: Path, tmp_path: Path) -> None:
    data = pictures(tmp_path / "data", 20)
    engine = build / manifests.read(build).engines[-1].path
    engine.write_bytes(engine.read_bytes() + b"x")
    with pytest.raises(InputError, match="is not the file that was validated"):
        asked(build, data=data, engines=())
    portable = build / "onnx" / "resnet20-digits.fp32.onnx"
    bias_graph(portable, 0.1)
    with pytest.raises(NotReproducedError, match="does not answer the goldens as resnet20-digits"):
        asked(build, data=data)
    portable.unlink()
    with pytest.raises(InputError, match="the reference of the gate; export the model again"):
        asked(build, data=data)


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (["--max-drop", "60%"], 2, "'60%' is no budget"),
        (["--max-flips", "0"], 2, "'0' is no budget"),
        (["--max-flips", "few"], 2, "'few' is no budget"),
        (["--confidence", "1"], 2, "confidence"),
        (["--data", "gone"], 2, "--data gone: nothing there"),
        (["--data", "."], 2, "no image in it"),
        (["--engine", "ort-cpu.int9"], 2, "did you mean ort-cpu.int8"),
        (["--engine", "ort-cpu.int8", "--quiet"], 1, "about 230 more would decide"),
    ],
)
def test_the_command_line(
    options: list[str],
    code: int,
    told: str,
    build: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    empty = build.parent / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    with pytest.raises(SystemExit) as ended:
        main(["gate", str(build), *options])
    assert ended.value.code == code
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1
    assert told in errors[0]


def test_what_is_packed_may_be_required_to_have_passed(build: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--require-gate: ort-cpu.int8 \(not gated\)"):
        pack_build(build, tmp_path / "b", engines=INT8, require_gate=True)
    data = pictures(tmp_path / "data")
    asked(build, data=data)
    with pytest.raises(UsageError, match=r"ort-cpu.int8 \(not enough images: about "):
        pack_build(build, tmp_path / "b", engines=INT8, require_gate=True)
    asked(build, data=data, max_drop="20%", max_flips="10%")
    bundle = pack_build(build, tmp_path / "b", engines=INT8, require_gate=True)
    card = (bundle / "MODEL_CARD.md").read_text()
    assert "### Release gate" in card
    assert "| ort-cpu.int8 | pass | 0 of 40 |" in card
    packed = json.loads((bundle / "manifest.json").read_text())
    assert [one["id"] for one in packed["gate"]["engines"]] == list(INT8)
    with pytest.raises(UsageError, match=r"ort-cpu.fp32 \(not gated\)"):
        pack_build(build, tmp_path / "c", require_gate=True)


def test_networks_of_several_inputs_and_outputs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes = RgbDepth.SHAPES
    arrays = {name: rng.standard_normal((40, *s), np.float32) for name, s in shapes.items()}
    np.savez(tmp_path / "x.npz", **arrays)  # type: ignore[arg-type]
    network = seasoned(RgbDepth(), shapes=[*shapes.values()])
    with torch.no_grad():
        answers = network(*(torch.from_numpy(arrays[name]) for name in shapes))["logits"]
    built = exporter.export(
        network,
        inputs=shapes, targets=["ort-cpu"], precisions=["fp32"], samples=8, measure=False,
        out=tmp_path / "build", data=tmp_path / "x.npz", threads=1,
    )  # fmt: skip
    np.savez(tmp_path / "y.npz", labels=answers.argmax(1).numpy(), **arrays)  # type: ignore[arg-type]
    loose: dict[str, Any] = {"max_drop": "20%", "max_flips": "10%", "engines": ()}
    (one,) = asked(built.path, data=tmp_path / "y.npz", **loose).gate.engines
    assert (one.judged, one.flips, one.lost, one.decision) == (40, 0, 0, Decision.PASS)
