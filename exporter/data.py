"""Images that calibrate and evaluate: a folder, ready tensors, embedded digits, or synthetic ones.

Whatever the source, the calibration and the evaluation set never share an image, and neither
depends on the order of the files: samples are assigned and ordered by their content's SHA-256.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from exporter.artifact import ModelSpec, Preprocessing, Skipped
from exporter.errors import InputError

Array = npt.NDArray[Any]
Labels = npt.NDArray[np.int64]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".tif", ".tiff")
SYNTHETIC_SAMPLES = 512
"""Of each of the two synthetic sets; they are made as they are read."""
FEW_SAMPLES = 8
LARGEST_IMAGE_PIXELS = 100_000_000


@dataclass(frozen=True)
class Samples:
    """Model-ready inputs, made as they are read."""

    source: str
    count: int
    sha256: str
    """Over the samples' own hashes, in order."""
    labels: Labels | None
    _read: Callable[[int], Array]
    """The i-th input, without a batch dimension."""

    def batches(self, size: int) -> Iterator[Array]:
        """All samples in order, `size` at a time: (size, ...) as the model takes them."""
        for start in range(0, self.count, size):
            stop = min(start + size, self.count)
            yield np.stack([self._read(index) for index in range(start, stop)])

    def take(self, count: int) -> Samples:
        """The first `count` samples (all of them where there are fewer)."""
        if count >= self.count:
            return self
        return replace(
            self,
            count=count,
            sha256=hashlib.sha256(f"{self.sha256} first {count}".encode()).hexdigest(),
            labels=None if self.labels is None else self.labels[:count],
        )


@dataclass(frozen=True)
class Data:
    """The two sets, and what the user should know about them."""

    calibration: Samples
    evaluation: Samples
    notes: tuple[str, ...] = ()


def open_data(spec: ModelSpec, path: Path | None, *, seed: int = 0) -> Data:
    """The data for a model: those at `path`, or the embedded or synthetic ones.

    Raises:
        InputError: nothing there, unreadable, or not what the model takes.
    """
    if path is None:
        return _digits() if _is_digits(spec) else _synthetic(spec, seed)
    if path.is_dir():
        return _folder(spec, path)
    if path.suffix in {".npz", ".npy"}:
        return _tensors(spec, path)
    if path.exists():
        raise InputError(f"--data {path}: expected a folder of images, an .npz or an .npy file")
    raise InputError(f"--data {path}: no such file or folder")


# Layout and range of the model's input


def channel_axis(shape: Sequence[int]) -> int:
    """Where the channels are, without a batch: 0 for (3, H, W), 2 for (H, W, 3)."""
    return 2 if len(shape) == 3 and shape[2] in (1, 3) and shape[0] not in (1, 3) else 0


def prepare(image: Image.Image, contract: Preprocessing, spec: ModelSpec) -> Array:
    """One picture as the model takes it: resized, cropped, scaled, normalised, laid out.

    `uint8` inputs take the pixels themselves.
    """
    picture = image.convert("RGB")
    side = contract.crop
    if contract.resize is not None:
        scale = contract.resize / min(picture.size)
        size = (
            max(side, round(picture.width * scale)),
            max(side, round(picture.height * scale)),
        )
        filters = {
            "bilinear": Image.Resampling.BILINEAR,
            "bicubic": Image.Resampling.BICUBIC,
        }
        chosen = filters.get(contract.interpolation, Image.Resampling.BILINEAR)
        picture = picture.resize(size, chosen)
        left, top = (size[0] - side) // 2, (size[1] - side) // 2
        picture = picture.crop((left, top, left + side, top + side))
    elif picture.size != (side, side):
        raise InputError(
            f"a picture has {picture.width}x{picture.height} pixels, "
            f"the model's contract is {side}x{side} without resizing"
        )
    pixels = np.asarray(picture)
    prepared: Array = normalise(pixels[None], contract, spec)[0]
    return prepared


def normalise(pixels: npt.NDArray[np.uint8], contract: Preprocessing, spec: ModelSpec) -> Array:
    """(N, H, W, 3) uint8 -> (N, ...) in the model's layout and type."""
    values: Array = pixels
    if spec.input.dtype != "uint8":
        mean = np.array(contract.mean, np.float32)
        std = np.array(contract.std, np.float32)
        values = ((pixels.astype(np.float32) / np.float32(255.0) - mean) / std).astype(np.float32)
    if channel_axis(spec.image_shape) == 0:
        values = values.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(values)


# Sources


def _is_digits(spec: ModelSpec) -> bool:
    return spec.source == "resnet20-digits" and spec.image_shape == (3, 32, 32)


def _digits() -> Data:
    from exporter.models import digits

    train, held_out = digits.splits()
    return Data(
        _in_memory(
            "scikit-learn's digits, training split", digits.normalise(train.images), train.labels
        ),
        _in_memory(
            "scikit-learn's digits, held-out split",
            digits.normalise(held_out.images),
            held_out.labels,
        ),
    )


def _synthetic(spec: ModelSpec, seed: int) -> Data:
    shape, kind = spec.image_shape, spec.input.dtype

    def samples(role: int, name: str) -> Samples:
        def read(index: int) -> Array:
            image: Array = synthetic_inputs(shape, 1, (seed, role, index), kind)[0]
            return image

        words = f"synthetic images with natural (1/f) spectra, seed {seed}, {name}"
        digest = hashlib.sha256(f"{words} {shape} {kind}".encode()).hexdigest()
        return Samples(words, SYNTHETIC_SAMPLES, digest, None, read)

    note = (
        "no --data was given: INT8 is calibrated and every engine is evaluated on SYNTHETIC images "
        "with natural spectra. Give a folder of your own with --data before you trust INT8."
    )
    return Data(samples(0, "calibration set"), samples(1, "evaluation set"), (note,))


def synthetic_inputs(
    shape: tuple[int, ...],
    count: int,
    seed: int | tuple[int, ...],
    dtype: str = "float32",
) -> Array:
    """(count, *shape) images whose spectra fall as 1/f, as natural images' do (Field, 1987).

    Colour channels share most of their structure. Floats have mean 0 and deviation 1 over an image,
    as after ImageNet's normalisation; uint8 has mean 118 and deviation 58.
    """
    axis = channel_axis(shape)
    channels = shape[axis]
    height, width = (shape[1], shape[2]) if axis == 0 else (shape[0], shape[1])
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = 1.0
    amplitude = 1.0 / frequency
    amplitude[0, 0] = 0.0
    noise = rng.standard_normal((count, 1 + channels, height, width))
    fields = np.fft.irfft2(np.fft.rfft2(noise) * amplitude, s=(height, width))
    images = fields[:, :1] + 0.35 * fields[:, 1:]
    images /= images.std(axis=(1, 2, 3), keepdims=True)
    # Exposure differs from picture to picture.
    images = images * rng.uniform(0.6, 1.2, (count, 1, 1, 1)) + rng.normal(0, 0.3, (count, 1, 1, 1))
    if axis == 2:
        images = images.transpose(0, 2, 3, 1)
    if dtype == "uint8":
        pixels: Array = np.clip(np.round(images * 58 + 118), 0, 255).astype(np.uint8)
        return pixels
    return np.ascontiguousarray(images, dtype=dtype)


def synthetic_images(count: int, seed: int, size: int) -> npt.NDArray[np.uint8]:
    """(count, size, size, 3) uint8 pictures of the same kind."""
    images: npt.NDArray[np.uint8] = synthetic_inputs((size, size, 3), count, seed, "uint8")
    return images


def _folder(spec: ModelSpec, path: Path) -> Data:
    contract = spec.preprocessing
    if isinstance(contract, Skipped):
        raise InputError(
            f"--data {path}: {spec.name} does not say how images become its input "
            f"({contract.skipped}); give ready tensors as .npz"
        )
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise InputError(f"--data {path}: no image in it ({', '.join(IMAGE_SUFFIXES[:4])}, ...)")
    by_hash: dict[str, Path] = {}
    for file in files:
        by_hash.setdefault(_check_image(file), file)
    classes = _classes(path, list(by_hash.values()), spec)

    def samples(hashes: list[str], role: str) -> Samples:
        chosen = [by_hash[digest] for digest in hashes]

        def read(index: int) -> Array:
            with Image.open(chosen[index]) as image:
                return prepare(image, contract, spec)

        labels = None
        if classes is not None:
            labels = np.array([classes[file.parent.name] for file in chosen], np.int64)
        return Samples(f"folder {path.name}, {role}", len(chosen), _digest(hashes), labels, read)

    return _split(sorted(by_hash), samples, f"--data {path}")


def _classes(path: Path, files: list[Path], spec: ModelSpec) -> dict[str, int] | None:
    """Class numbers, where there are as many sub-folders with pictures as the model has classes."""
    if any(file.parent.parent != path for file in files):
        return None
    names = sorted({file.parent.name for file in files})
    outputs = spec.output.shape[-1]
    return {name: index for index, name in enumerate(names)} if len(names) == outputs else None


def _check_image(file: Path) -> str:
    """The content's hash, once the picture has been decoded."""
    try:
        with Image.open(file) as image:
            if image.width * image.height > LARGEST_IMAGE_PIXELS:
                raise InputError(f"{file} has {image.width}x{image.height} pixels: too large")
            image.load()
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        text = " ".join(str(error).split())
        raise InputError(f"{file} cannot be read as an image ({text}); remove it") from None


def _tensors(spec: ModelSpec, path: Path) -> Data:
    tensors = _load_tensors(spec, path)
    wanted = spec.image_shape
    if tensors.ndim != len(wanted) + 1 or tensors.shape[1:] != wanted:
        expected = ", ".join(map(str, wanted))
        raise InputError(f"{path} has shape {tensors.shape}, {spec.name} takes (N, {expected})")
    if not np.isfinite(tensors).all():
        bad = int((~np.isfinite(tensors)).any(axis=tuple(range(1, tensors.ndim))).argmax())
        raise InputError(f"{path} holds a value that is not finite, first in sample {bad}")
    notes = _check_range(spec, path, tensors)
    tensors = tensors.astype(spec.input.dtype)
    by_hash: dict[str, int] = {}
    for index, tensor in enumerate(tensors):
        by_hash.setdefault(hashlib.sha256(tensor.tobytes()).hexdigest(), index)

    def samples(hashes: list[str], role: str) -> Samples:
        order = [by_hash[digest] for digest in hashes]
        return Samples(
            f"{path.name}, {role}", len(order), _digest(hashes), None, lambda i: tensors[order[i]]
        )

    data = _split(sorted(by_hash), samples, str(path))
    return replace(data, notes=(*notes, *data.notes))


def _load_tensors(spec: ModelSpec, path: Path) -> Array:
    name = spec.input.name
    try:
        with path.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            if path.suffix == ".npz" and name not in loaded.files:
                found = ", ".join(loaded.files) or "nothing"
                raise InputError(f"{path} has no array {name!r} (the input), it has {found}")
            tensors: Array = loaded[name] if path.suffix == ".npz" else loaded
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        text = " ".join(str(error).split())
        raise InputError(f"{path} cannot be read as NumPy arrays ({text})") from None
    if not len(tensors.shape) or not len(tensors):
        raise InputError(f"{path} holds no samples")
    if tensors.dtype.kind not in "fiu":
        raise InputError(f"{path} holds {tensors.dtype}, expected numbers")
    return tensors


def _check_range(spec: ModelSpec, path: Path, tensors: Array) -> tuple[str, ...]:
    """Refuses 0..255 where the input is known to be normalised; tells the range where it is not."""
    low, high = float(tensors.min()), float(tensors.max())
    contract = spec.preprocessing
    if isinstance(contract, Skipped):
        return (
            f"{path.name}: values from {low:.4g} to {high:.4g}, taken as the model's own range",
        )
    if spec.input.dtype == "uint8":
        if low < 0 or high > 255:
            raise InputError(f"{path}: values from {low:.4g} to {high:.4g}, the input is 0..255")
        return ()
    most = max((1 - m) / s for m, s in zip(contract.mean, contract.std, strict=True))
    least = min(-m / s for m, s in zip(contract.mean, contract.std, strict=True))
    if high > 4 * most or low < 4 * least:
        raise InputError(
            f"{path}: values from {low:.4g} to {high:.4g}, but {spec.name} takes normalised pixels "
            f"({least:.2f} to {most:.2f}): apply (pixel / 255 - mean) / std first"
        )
    return ()


def _split(hashes: list[str], samples: Callable[[list[str], str], Samples], name: str) -> Data:
    """Every other sample, in the order of the hashes, to each of the two sets."""
    if len(hashes) < 2:
        raise InputError(f"{name}: one distinct sample; two sets need at least two, better 128")
    calibration = samples(hashes[0::2], "calibration set")
    notes: tuple[str, ...] = ()
    if calibration.count < FEW_SAMPLES:
        notes = (
            f"{name}: only {calibration.count} samples to calibrate INT8 on; "
            "128 to 512 are recommended",
        )
    return Data(calibration, samples(hashes[1::2], "evaluation set"), notes)


def _in_memory(source: str, inputs: Array, labels: Labels) -> Samples:
    digest = hashlib.sha256(inputs.tobytes()).hexdigest()
    return Samples(source, len(inputs), digest, labels, lambda index: inputs[index])


def _digest(hashes: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()
