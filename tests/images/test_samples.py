"""Calibration and evaluation data: disjoint, reproducible, refused in one line where unusable."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from exporter.artifact import (
    Interpolation,
    ModelKind,
    ModelSpec,
    Preprocessing,
    Skipped,
    TensorSpec,
    WeightsInfo,
)
from exporter.errors import InputError
from exporter.images.samples import Samples, compared_on, open_data
from exporter.images.synthetic import synthetic_inputs
from exporter.progress import Silent

CONTRACT = Preprocessing(40, 32, Interpolation.BILINEAR, (0.5, 0.4, 0.3), (0.2, 0.25, 0.5), "test")


def spec(
    shape: tuple[int, ...] = (3, 32, 32),
    dtype: str = "float32",
    contract: Preprocessing | Skipped = CONTRACT,
    classes: int = 10,
) -> ModelSpec:
    return ModelSpec(
        name="net", source="net", kind=ModelKind.BUILTIN, parameters=1, macs=1,
        input=TensorSpec("input", dtype, ("batch", *shape)),
        output=TensorSpec("logits", "float32", ("batch", classes)),
        preprocessing=contract, weights=WeightsInfo("test", "0", trained=True),
    )  # fmt: skip


def all_of(samples: Samples) -> npt.NDArray[np.float32]:
    return np.concatenate(list(samples.batches(7)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for index in range(20):
        size = (48 + index, 64, 3)
        picture = Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8))
        target = tmp_path / "photos" / f"class{index % 2}" / f"{index}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        picture.save(target)
    return tmp_path / "photos"


def test_a_folder_goes_through_the_models_own_preprocessing(folder: Path) -> None:
    data = open_data(spec(), folder)
    assert data.calibration.count + data.evaluation.count == 20
    inputs = all_of(data.evaluation)
    assert inputs.shape == (10, 3, 32, 32)
    file = next(
        path
        for path in folder.rglob("*.png")
        if np.allclose(expected_input(path), inputs[0], atol=1e-6)
    )
    assert file.exists()


def expected_input(path: Path) -> npt.NDArray[np.float32]:
    """The contract, written once more: shorter side to 40, centre 32, scale, normalise."""
    picture: Image.Image = Image.open(path)
    shorter = min(picture.size)
    size = (picture.width * 40 // shorter, picture.height * 40 // shorter)
    picture = picture.resize(size, Image.Resampling.BILINEAR)
    left, top = round((size[0] - 32) / 2), round((size[1] - 32) / 2)
    pixels = np.asarray(picture)[top : top + 32, left : left + 32] / 255
    return ((pixels - CONTRACT.mean) / CONTRACT.std).transpose(2, 0, 1).astype(np.float32)


def test_the_two_sets_share_nothing_and_do_not_depend_on_names(folder: Path) -> None:
    before = open_data(spec(), folder)
    evaluation = all_of(before.evaluation)
    calibration = {image.tobytes() for image in all_of(before.calibration)}
    assert not calibration & {image.tobytes() for image in evaluation}
    for index, path in enumerate(sorted(folder.rglob("*.png"))):
        path.rename(path.with_name(f"renamed-{100 - index}.png"))
    after = open_data(spec(), folder)
    assert before.calibration.sha256 == after.calibration.sha256
    assert np.array_equal(evaluation, all_of(after.evaluation))


def test_a_picture_that_is_there_twice_counts_once(folder: Path) -> None:
    first = next(folder.rglob("*.png"))
    (folder / "copy.png").write_bytes(first.read_bytes())
    data = open_data(spec(), folder)
    assert data.calibration.count + data.evaluation.count == 20


def test_sub_folders_are_classes_where_their_number_is_the_models(folder: Path) -> None:
    unlabelled = open_data(spec(), folder)
    assert unlabelled.evaluation.labels is None
    assert unlabelled.notes == (
        "--data photos gives no labels: 2 sub-folders have pictures, the model has 10 classes",
    )
    data = open_data(spec(classes=2), folder)
    assert data.notes == ()
    labels = data.evaluation.labels
    assert labels is not None
    assert len(labels) == data.evaluation.count
    for image, label in zip(all_of(data.evaluation), labels, strict=True):
        names = [
            path.parent.name
            for path in folder.rglob("*.png")
            if np.allclose(expected_input(path), image, atol=1e-6)
        ]
        assert names == [f"class{label}"]


def test_layouts_and_types_of_the_models_input(folder: Path) -> None:
    first = all_of(open_data(spec(), folder).evaluation)
    nhwc = all_of(open_data(spec((32, 32, 3)), folder).evaluation)
    assert np.allclose(nhwc.transpose(0, 3, 1, 2), first)
    pixels = all_of(open_data(spec((32, 32, 3), "uint8"), folder).evaluation)
    assert pixels.dtype == np.uint8
    assert np.allclose((pixels / 255 - CONTRACT.mean) / CONTRACT.std, nhwc, atol=1e-5)


def test_taking_some_changes_the_hash() -> None:
    samples = open_data(spec(), None).calibration
    taken = samples.take(5)
    assert all_of(taken).shape == (5, 3, 32, 32)
    assert taken.sha256 != samples.sha256
    assert samples.take(10**6) is samples


def test_synthetic_images_have_natural_spectra_and_a_seed() -> None:
    data = open_data(spec(), None, seed=1)
    assert data.notes
    assert "SYNTHETIC" in data.notes[0]
    again = open_data(spec(), None, seed=1)
    assert np.array_equal(all_of(data.calibration.take(3)), all_of(again.calibration.take(3)))
    other = open_data(spec(), None, seed=2)
    assert not np.array_equal(all_of(data.calibration.take(3)), all_of(other.calibration.take(3)))
    images = synthetic_inputs((3, 64, 64), 16, 0)
    power = (np.abs(np.fft.fft2(images)) ** 2).mean(axis=(0, 1))
    assert 2.5 < np.log(power[0, 2] / power[0, 16]) / np.log(16 / 2) + 0.6 < 3.2  # about f ** -2
    pixels = synthetic_inputs((40, 40, 3), 2, 0, "uint8")
    assert pixels.shape == (2, 40, 40, 3)
    assert pixels.dtype == np.uint8


def test_tensors_by_the_inputs_name(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors = rng.uniform(-1, 1, (32, 3, 32, 32)).astype(np.float32)
    np.savez(tmp_path / "data.npz", input=tensors)
    np.save(tmp_path / "data.npy", tensors[::-1])
    from_npz = open_data(spec(), tmp_path / "data.npz")
    from_npy = open_data(spec(), tmp_path / "data.npy")
    assert from_npz.calibration.count == from_npz.evaluation.count == 16
    assert from_npz.calibration.sha256 == from_npy.calibration.sha256


def refuse(path: Path, message: str, given: ModelSpec | None = None) -> None:
    with pytest.raises(InputError, match=message) as caught:
        open_data(given or spec(), path)
    assert "\n" not in str(caught.value)


def test_bad_tensors_are_one_line(tmp_path: Path) -> None:
    good = np.random.default_rng(0).uniform(-1, 1, (16, 3, 32, 32)).astype(np.float32)

    def saved(name: str, array: npt.NDArray[np.generic]) -> Path:
        np.save(tmp_path / name, array)
        return tmp_path / name

    broken = good.copy()
    broken[5, 1, 2, 3] = np.nan
    refuse(saved("nan.npy", broken), "not finite, first in sample 5")
    refuse(saved("shape.npy", good[:, :1]), r"\(16, 1, 32, 32\), net takes \(N, 3, 32, 32\)")
    refuse(saved("range.npy", good * 127 + 128), "takes normalised pixels")
    refuse(saved("none.npy", good[:0]), "holds no samples")
    refuse(saved("text.npy", np.array(["a", "b"])), "expected numbers")
    refuse(saved("one.npy", np.repeat(good[:1], 4, axis=0)), "one distinct sample")
    np.savez(tmp_path / "other.npz", images=good)
    refuse(tmp_path / "other.npz", "no array 'input'.*it has 'images'")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "other.npz").read_bytes()[:500])
    refuse(tmp_path / "cut.npz", "cannot be read as NumPy arrays")
    refuse(tmp_path / "absent.npz", "no such file or folder|cannot be read")
    (tmp_path / "a.txt").write_text("")
    refuse(tmp_path / "a.txt", "expected a folder of images")


def test_an_unknown_range_is_told(tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(0, 255, (8, 3, 32, 32)).astype(np.float32)
    np.save(tmp_path / "raw.npy", values)
    notes = open_data(spec(contract=Skipped("unknown")), tmp_path / "raw.npy").notes
    (note,) = notes  # that four samples are few, the calibration says
    assert "values from 0.0" in note
    assert "to 255" in note


def test_a_picture_that_breaks_off_is_named_when_it_is_read(tmp_path: Path, folder: Path) -> None:
    for file in folder.rglob("*.png"):
        file.write_bytes(file.read_bytes()[:-300])
    data = open_data(spec(), folder)  # the headers are whole
    with pytest.raises(InputError, match=r"\d+\.png cannot be read as a picture"):
        all_of(data.calibration)


def test_no_program_is_started_for_a_file_that_is_called_a_picture(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow hands PostScript to Ghostscript, an interpreter, whatever the file is called."""
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {tmp_path / 'started'}\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # where it was found before
    file = folder / "photo.jpg"
    file.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 80 80\n%%EndComments\nshowpage\n%%EOF\n"
    )
    with pytest.raises(InputError, match=r"photo\.jpg cannot be read as a picture"):
        data = open_data(spec(), folder)
        all_of(data.calibration)
        all_of(data.evaluation)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "PPM", "TIFF", "MPO"])
def test_every_format_of_the_suffixes_is_read(folder: Path, kind: str) -> None:
    """MPO is what some telephones write and call .jpg."""
    suffix = {"TIFF": "tif", "MPO": "jpg"}.get(kind, kind.lower())
    Image.new("RGB", (64, 64), (9, 99, 199)).save(folder / f"other.{suffix}", kind)
    data = open_data(spec(), folder)
    assert data.calibration.count + data.evaluation.count == 21
    assert len(all_of(data.calibration)) + len(all_of(data.evaluation)) == 21


def test_pictures_are_opened_as_they_are_needed(folder: Path) -> None:
    data = open_data(spec(), folder)
    first = next(data.calibration.batches(2))
    assert first.shape == (2, 3, 32, 32)
    for file in folder.rglob("*.png"):
        file.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        all_of(data.calibration)


def test_uint8_inputs_take_whole_pixels_only(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3))
    given = spec((32, 32, 3), "uint8", Skipped("unknown"))
    np.save(tmp_path / "good.npy", pixels.astype(np.float32))
    assert all_of(open_data(given, tmp_path / "good.npy").calibration).dtype == np.uint8
    np.save(tmp_path / "high.npy", pixels + 1)
    refuse(tmp_path / "high.npy", r"values from 1 to 256, the input is 0\.\.255", given)
    np.save(tmp_path / "half.npy", pixels * 0.5)
    refuse(tmp_path / "half.npy", "holds fractions", given)


def test_damaged_archives_are_refused_in_one_line(tmp_path: Path) -> None:
    tensors = np.random.default_rng(0).uniform(-1, 1, (4, 3, 32, 32)).astype(np.float32)
    np.savez_compressed(tmp_path / "x.npz", input=tensors)
    whole = (tmp_path / "x.npz").read_bytes()
    refused = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        damaged = bytearray(whole)
        for _ in range(4):
            damaged[rng.integers(200)] = rng.integers(256)
            damaged[-rng.integers(1, 120)] = rng.integers(256)
        (tmp_path / "x.npz").write_bytes(damaged)
        try:
            open_data(spec(), tmp_path / "x.npz")
        except InputError as error:
            refused += 1
            assert "\n" not in str(error)  # noqa: PT017 - only some of the damage is fatal
    assert refused > 50


def test_bad_folders_are_one_line(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "empty").mkdir()
    refuse(tmp_path / "empty", "no image in it")
    refuse(folder, "does not say how images become", spec(contract=Skipped("unknown")))
    bad = folder / "broken.jpg"
    bad.write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    refuse(folder, r"broken\.jpg cannot be read as a picture")


@pytest.mark.parametrize("fits", [True, False])
def test_inputs_are_kept_in_memory_where_they_fit(
    fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of ImageNet's validation set is 15 GB."""
    inputs = np.arange(40, dtype=np.float32).reshape(10, 4)
    monkeypatch.setattr(
        "exporter.images.samples.HELD_BYTES", inputs.nbytes if fits else inputs.nbytes - 1
    )
    reads: list[int] = []

    def read(index: int) -> npt.NDArray[np.float32]:
        reads.append(index)
        row: npt.NDArray[np.float32] = inputs[index]
        return row

    held = replace(Samples.of("numbers", inputs), _read=read).held()
    reads.clear()
    for _ in range(2):
        np.testing.assert_array_equal(np.concatenate(list(held.batches(3))), inputs)
    assert len(reads) == (0 if fits else 20)


@pytest.mark.parametrize(
    ("count", "labelled", "asked", "taken", "noted"),
    [
        (3000, True, None, 2000, True),
        (540, True, None, 540, False),
        (540, True, 8, 8, False),
        (3000, True, 3000, 3000, False),
        (512, False, None, 64, False),
        (512, False, 100, 100, False),
    ],
)
def test_as_many_inputs_are_compared_as_were_asked_for(
    count: int,
    labelled: bool,
    asked: int | None,
    taken: int,
    noted: bool,
) -> None:
    labels = np.zeros(count, np.int64) if labelled else None
    evaluation = Samples.of("zeros", np.zeros((count, 1), np.float32), labels)
    progress = Silent()
    inputs = compared_on(spec(), evaluation, asked, progress)
    assert inputs.count == taken
    assert (inputs.labels is not None) == labelled
    assert [f"--samples {count}" in note for note in progress.notes] == [True] * noted


def test_sub_folders_are_the_classes_of_the_scores(folder: Path) -> None:
    """Whichever output has them."""
    features = TensorSpec("features", "float32", ("batch", 8, 4, 4))
    scores = TensorSpec("scores", "float32", ("batch", 2))
    several = replace(spec(), output=features, other_outputs=(scores,), scores=1)
    assert open_data(several, folder).evaluation.labels is not None
    none = replace(several, scores=None)
    assert open_data(none, folder).evaluation.labels is None


@pytest.mark.parametrize(("side", "taken"), [(64, 64), (1024, 16)])
def test_fewer_inputs_are_compared_where_answers_are_large(side: int, taken: int) -> None:
    large = TensorSpec("map", "float32", ("batch", 8, side, side))
    evaluation = Samples.of("zeros", np.zeros((512, 1), np.float32))
    progress = Silent()
    inputs = compared_on(replace(spec(), output=large), evaluation, None, progress)
    assert inputs.count == taken
    assert ["8,388,608 values" in note for note in progress.notes] == [True] * (taken < 64)
    assert compared_on(replace(spec(), output=large), evaluation, 100, progress).count == 100
