"""Pictures as people have them, through `predict`: the pixels that the compiler evaluated on."""

from __future__ import annotations

import io
import re
import shutil
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import exporter.runtime
from exporter.artifact import (
    Interpolation,
    ModelKind,
    ModelSpec,
    Preprocessing,
    TensorSpec,
    WeightsInfo,
)
from exporter.images.preprocess import prepare
from exporter.runtime import Engine, InputError, load
from exporter.runtime.pictures import Framing, pixels, upright
from tests.packed import digits_bundle, edit_manifest

SHAPE = (24, 24, 3)
FRAMING = Framing(32, 24, "bicubic")
CONTRACT = Preprocessing(32, 24, Interpolation.BICUBIC, (0.5,) * 3, (0.5,) * 3, "a test")
SPEC = ModelSpec(
    "net", "net", ModelKind.MODULE, 1, 1, TensorSpec("input", "uint8", ("N", 24, 24, 3)),
    TensorSpec("logits", "float32", ("N", 10)), CONTRACT, WeightsInfo("a test", "", True),
)  # fmt: skip


def photograph(width: int, height: int, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    return Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC)


def noted(picture: Image.Image, orientation: int) -> Image.Image:
    """The picture as a telephone saves it: turned, with a note that says so."""
    turns = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.transpose(turns[orientation]).save(buffer, "PNG", exif=exif)
    return Image.open(buffer)


def test_the_pixels_are_those_of_the_compiler() -> None:
    for size in ((64, 40), (40, 64), (24, 24), (33, 33)):
        picture = photograph(*size)
        compiled = prepare(picture, CONTRACT, SPEC)
        assert (pixels("it", picture, FRAMING, SHAPE) == compiled).all()
        if size != (24, 24):
            assert (pixels("it", np.asarray(picture), FRAMING, SHAPE) == compiled).all()


def test_sides_that_differ_filters_and_grey() -> None:
    picture = photograph(64, 40)
    framing = Framing((30, 50), (20, 40), "lanczos")
    exact = picture.resize((50, 30), Image.Resampling.LANCZOS).crop((5, 5, 45, 25))
    assert (pixels("it", picture, framing, (20, 40, 3)) == np.asarray(exact)).all()
    grey = picture.convert("L").resize((50, 30), Image.Resampling.LANCZOS).crop((5, 5, 45, 25))
    expected = np.asarray(grey)[..., None]
    assert (pixels("it", picture, framing, (20, 40, 1)) == expected).all()
    array = np.asarray(picture.convert("L"))[..., None]
    assert (pixels("it", array, framing, (20, 40, 1)) == expected).all()


def test_an_array_of_the_models_own_size_goes_in_as_it_is() -> None:
    prepared = np.asarray(photograph(24, 24))
    assert pixels("it", prepared, FRAMING, SHAPE) is prepared


def test_a_picture_that_is_as_long_as_a_thread_is_refused() -> None:
    """Its shorter side enlarged, it would fill any memory."""
    thread = Image.new("RGB", (2_000_000, 1))
    with pytest.raises(InputError, match=r"has 2000000x1 pixels, and 64000000x32 once .* too long"):
        pixels("it", thread, FRAMING, SHAPE)


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_picture_is_seen_upright(orientation: int) -> None:
    picture = photograph(64, 40)
    turned = noted(picture, orientation)
    assert turned.size != picture.size or orientation == 3
    assert (pixels("it", turned, FRAMING, SHAPE) == pixels("it", picture, FRAMING, SHAPE)).all()


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_contract_may_take_pictures_as_they_are_stored(orientation: int) -> None:
    turned = noted(photograph(64, 40), orientation)
    stored = Image.fromarray(np.asarray(turned))  # without the note
    framing = replace(FRAMING, exif_orientation=False)
    taken = pixels("it", turned, framing, SHAPE)
    assert (taken == pixels("it", stored, FRAMING, SHAPE)).all()
    assert (taken != pixels("it", turned, FRAMING, SHAPE)).any()
    contract = replace(CONTRACT, exif_orientation=False)
    assert (prepare(turned, contract, SPEC) == taken).all()
    assert "EXIF orientation ignored" in contract.in_words


def test_an_upright_picture_is_not_copied_and_a_turned_one_stays_turned() -> None:
    picture = photograph(64, 40)
    assert upright(picture) is picture
    grey = picture.convert("L")
    assert upright(grey, grey=True) is grey
    turned = noted(picture, 6)
    assert upright(turned).size == (64, 40)
    assert turned.size == (40, 64)
    assert turned.getexif()[0x0112] == 6


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA", "YCbCr"])
def test_every_mode_of_8_bits_becomes_rgb(mode: str) -> None:
    assert pixels("it", photograph(64, 40).convert(mode), FRAMING, SHAPE).shape == SHAPE


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_more_than_8_bits_are_refused_by_name(kind: Any) -> None:
    picture = Image.fromarray(np.linspace(0, 60000, 64 * 64).reshape(64, 64).astype(kind))
    with pytest.raises(InputError, match=r"^x-ray.png has pixels of more than 8 bits .*mode [IF]"):
        pixels("x-ray.png", picture, FRAMING, SHAPE)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """A digits engine whose contract resizes."""
    bundle = tmp_path_factory.mktemp("bundles") / "bundle"
    shutil.copytree(digits_bundle(), bundle)

    def resizes(manifest: dict[str, Any]) -> None:
        manifest["model"]["preprocessing"].update(resize=36, interpolation="bilinear")

    edit_manifest(bundle, resizes)
    return load(bundle, threads=1)


def test_predict_takes_paths_pillow_images_and_arrays(engine: Engine, tmp_path: Path) -> None:
    picture = photograph(90, 60)
    picture.save(tmp_path / "a.png")
    path, array = tmp_path / "a.png", np.asarray(picture)
    (expected,) = engine.predict(
        pixels("it", picture, Framing(36, 32, "bilinear"), (32, 32, 3))[None]
    )
    one: list[Any] = [path, str(path), picture, array, Image.open(path)]
    for single in one:
        assert engine.predict(single) == [expected]
    assert engine.predict(one * 8) == [expected] * 40  # more than a batch
    assert engine.predict(iter(one)) == [expected] * 5
    assert engine.predict(np.stack([array, array])) == [expected] * 2
    assert engine.predict([]) == []
    own = np.asarray(photograph(32, 32))
    assert engine.predict(own) == engine.predict(own[None])


@pytest.mark.parametrize("noted_as", [None, True, False])
def test_the_bundle_says_whether_pictures_are_turned(
    tmp_path: Path, engine: Engine, noted_as: bool | None
) -> None:
    """Bundles from before it was recorded say nothing, and turn."""
    bundle = Path(shutil.copytree(digits_bundle(), tmp_path / "bundle"))

    def says(manifest: dict[str, Any]) -> None:
        contract = manifest["model"]["preprocessing"]
        assert contract.pop("exif_orientation") is True
        contract.update(resize=36, interpolation="bilinear")
        if noted_as is not None:
            contract["exif_orientation"] = noted_as

    edit_manifest(bundle, says)
    turned = noted(photograph(64, 40), 6)
    stored = Image.fromarray(np.asarray(turned))
    with load(bundle, threads=1) as loaded:
        assert loaded.id == engine.id
        (found,) = loaded.predict(turned)
    seen = stored if noted_as is False else photograph(64, 40)
    assert [found] == engine.predict(seen)
    assert engine.predict(stored) != engine.predict(photograph(64, 40))


def test_a_picture_that_is_none_is_named(engine: Engine, tmp_path: Path) -> None:
    good = np.zeros((32, 32, 3), np.uint8)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    photograph(64, 64).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:600])
    (tmp_path / "drawing.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    masked = np.ma.masked_array(good, False)
    wrong: dict[str, Any] = {
        r"broken\.jpg cannot be read as a picture": [good, tmp_path / "broken.jpg"],
        r"cut\.png cannot be read as a picture": tmp_path / "cut.png",
        r"drawing\.jpg cannot be read as a picture": str(tmp_path / "drawing.jpg"),
        r"away\.png cannot be read as a picture \(No such file": tmp_path / "away.png",
        r"picture 1 is of type dict; give a path": [good, {}],
        r"picture 0 is of type NoneType": None,
        r"picture 0 is of type float32": np.zeros((2, 32, 32, 3), np.float32),
        r"picture 1 is of type uint8; give .* array \(H, W, 3\)": [good, good[..., :2]],
        r"picture 0 is of type uint8": masked,
        r"picture 2 has pixels of more than 8 bits": [good, good, Image.new("I;16", (9, 9))],
    }
    for message, pictures in wrong.items():
        with pytest.raises(InputError, match=message):
            engine.predict(pictures)


def test_a_model_that_does_not_resize_says_which_size_it_takes(tmp_path: Path) -> None:
    photograph(64, 64).save(tmp_path / "large.png")
    message = r"large\.png has 64x64 pixels, the model takes 32x32"
    with load(digits_bundle(), threads=1) as engine, pytest.raises(InputError, match=message):
        engine.predict(tmp_path / "large.png")


def test_without_pillow_prepared_arrays_are_served_and_pictures_say_what_is_missing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert len(engine.predict(np.zeros((1, 32, 32, 3), np.uint8))) == 1
    with pytest.raises(InputError, match=r"cat\.jpg .*needs the package pillow; .*extra `serve`"):
        engine.predict("cat.jpg")


def test_an_engine_says_what_it_is(engine: Engine) -> None:
    assert repr(engine) == (
        f"<Engine {engine.id} of resnet20-digits: images 32 x 32 x 3, 10 labels (0, 1, 2, ...), "
        f"{engine.threads}>"
    )
    with load(digits_bundle(), threads=1) as closed:
        pass
    assert ", closed: images" in repr(closed)


def test_the_extra_holds_every_package_that_serving_may_miss() -> None:
    root = Path(exporter.runtime.__file__).parents[2]
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    serve = extras["optional-dependencies"]["serve"]
    named = {
        name
        for file in Path(exporter.runtime.__file__).parent.glob("*.py")
        for name in re.findall(
            r'missing_package\([^()]*(?:\([^()]*\))?[^()]*"(\w+)"\)', file.read_text()
        )
    }
    assert named == {"cryptography", "pillow", "zstandard"}
    assert named <= {re.split(r"[>\[]", requirement)[0] for requirement in serve}
