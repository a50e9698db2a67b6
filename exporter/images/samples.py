"""Images that calibrate and evaluate: a folder, ready tensors, embedded ones, or synthetic ones.

Whatever the source, the calibration and the evaluation set never share an image, and neither
depends on the order of the files: samples are assigned and ordered by their content's SHA-256.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.artifact import ModelSpec, Preprocessing, Skipped
from exporter.errors import InputError
from exporter.images.embedded import EMBEDDED, EmbeddedData, Split
from exporter.images.picture_folder import class_numbers, find_pictures
from exporter.images.preprocess import normalise, prepare
from exporter.images.synthetic import synthetic_inputs
from exporter.images.tensor_file import read_tensors
from exporter.progress import Progress, Silent
from exporter.runtime import errors as serving
from exporter.runtime.inputs import joined
from exporter.runtime.pictures import opened

Array = npt.NDArray[Any]
Labels = npt.NDArray[np.int64]

SYNTHETIC_SAMPLES = 512
"""Of each of the two synthetic sets; they are made as they are read."""
DEFAULT_SAMPLES = 64
"""Inputs that engines are compared on, where nothing else was asked for and there are no labels."""
LABELLED_SAMPLES = 2000
"""And where there are: accuracy needs more, and a large set takes hours."""
LARGEST_ANSWERS = 2**27
"""The most values of all answers together, where no number of inputs was asked for: a GiB in
float64, and comparing takes a few times that."""
HELD_BYTES = 2**30
"""Inputs beyond this are read again each time instead of being kept in memory."""


@dataclass(frozen=True)
class Samples:
    """Model-ready inputs, made as they are read."""

    source: str
    count: int
    sha256: str
    """Over the samples' own hashes, in order; for synthetic images over what they are made from."""
    labels: Labels | None
    _read: Callable[[int], Array]
    """The i-th input, without a batch dimension."""

    def batches(self, size: int) -> Iterator[Array]:
        """All samples in order, `size` at a time: (size, ...) as the model takes them."""
        for start in range(0, self.count, size):
            stop = min(start + size, self.count)
            yield np.stack([self._read(index) for index in range(start, stop)])

    @classmethod
    def of(cls, source: str, inputs: Array, labels: Labels | None = None) -> Samples:
        """Inputs that are in memory, (N, ...)."""
        digest = hashlib.sha256(inputs.tobytes()).hexdigest()
        return cls(source, len(inputs), digest, labels, lambda index: inputs[index])

    def held(self) -> Samples:
        """The same, read once and kept in memory, where all of them fit into HELD_BYTES."""
        if not self.count or self.count * self._read(0).nbytes > HELD_BYTES:
            return self
        inputs = np.stack([self._read(index) for index in range(self.count)])
        return replace(self, _read=lambda index: inputs[index])

    def map(self, change: Callable[[Array], Array]) -> Samples:
        """The same samples, each input changed as it is read."""
        return replace(self, _read=lambda index: change(self._read(index)))

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

    def select(self, indices: Sequence[int]) -> Samples:
        """The samples of these numbers, in this order."""
        chosen = [int(index) for index in indices]
        text = f"{self.sha256} of {chosen}"
        return replace(
            self,
            count=len(chosen),
            sha256=hashlib.sha256(text.encode()).hexdigest(),
            labels=None if self.labels is None else self.labels[chosen],
            _read=lambda index: self._read(chosen[index]),
        )


@dataclass(frozen=True)
class Data:
    """The two sets, and what the user should know about them."""

    calibration: Samples
    evaluation: Samples
    notes: tuple[str, ...] = ()


def open_data(
    spec: ModelSpec, path: Path | None, *, seed: int = 0, progress: Progress | None = None
) -> Data:
    """The data for a model: those at `path`, or the embedded or synthetic ones.

    A folder's pictures are hashed and their headers read here; each is decoded when it is needed,
    so that a large folder costs little, and one that cannot be decoded is an InputError then.

    Raises:
        InputError: nothing there, unreadable, or not what the model takes.
    """
    if path is None:
        own = EMBEDDED.get(spec.source)
        if own is not None and spec.image_shape == own.image_shape:
            return _embedded(spec, own)
        return _synthetic(spec, seed)
    if path.is_dir():
        return _folder(spec, path, progress or Silent())
    if path.suffix in {".npz", ".npy"}:
        return _tensors(spec, path)
    if path.exists():
        raise InputError(f"--data {path}: expected a folder of images, an .npz or an .npy file")
    raise InputError(f"--data {path}: no such file or folder")


def compared_on(
    spec: ModelSpec, evaluation: Samples, asked: int | None, progress: Progress
) -> Samples:
    """As many of the evaluation inputs as were asked for, or the default number.

    Of a network with large outputs (feature maps) that is as many as have LARGEST_ANSWERS values.
    """
    if asked is None and evaluation.labels is not None and evaluation.count > LABELLED_SAMPLES:
        progress.note(
            f"engines are compared on {LABELLED_SAMPLES} of {evaluation.count} labelled inputs; "
            f"--samples {evaluation.count} takes them all"
        )
    default = DEFAULT_SAMPLES if evaluation.labels is None else LABELLED_SAMPLES
    fitting = max(1, LARGEST_ANSWERS // _values(spec))
    if asked is None and fitting < min(default, evaluation.count):
        progress.note(
            f"engines are compared on {fitting} of {evaluation.count} inputs, for {spec.name} "
            f"answers each with {_values(spec):,} values; --samples takes more"
        )
        default = fitting
    return evaluation.take(default if asked is None else asked)


def _values(spec: ModelSpec) -> int:
    """How many numbers the network answers to one image, as far as its outputs' sizes are known."""
    return sum(
        math.prod(size for size in output.shape[1:] if isinstance(size, int))
        for output in spec.outputs
    )


def _embedded(spec: ModelSpec, own: EmbeddedData) -> Data:
    contract = spec.preprocessing
    assert isinstance(contract, Preprocessing)

    def samples(name: str, split: Split) -> Samples:
        inputs = normalise(split.images, contract, spec)
        return Samples.of(f"{own.name}, {name} split", inputs, split.labels)

    train, held_out = own.splits()
    return Data(samples("training", train), samples("held-out", held_out))


def _synthetic(spec: ModelSpec, seed: int) -> Data:
    kinds = [(one.sample, one.dtype) for one in spec.inputs]

    def samples(role: int, name: str) -> Samples:
        def read(index: int) -> Array:
            made = {}
            own: tuple[int, ...] = (seed, role, index)
            for number, one in enumerate(spec.inputs, 1):
                made[one.name] = synthetic_inputs(one.sample, 1, own, one.dtype)
                own = (seed, role, index, number)  # of the next
            image: Array = (joined(made) if spec.other_inputs else made[spec.input.name])[0]
            return image

        words = f"synthetic images with natural (1/f) spectra, seed {seed}, {name}"
        made_of = " ".join(f"{shape} {kind}" for shape, kind in kinds)
        digest = hashlib.sha256(f"{words} {made_of}".encode()).hexdigest()
        return Samples(words, SYNTHETIC_SAMPLES, digest, None, read)

    yours = "an .npz of your own inputs" if spec.other_inputs else "a folder of your own"
    note = (
        "no --data was given: INT8 is calibrated and every engine is evaluated on SYNTHETIC images "
        f"with natural spectra. Give {yours} with --data before you trust INT8."
    )
    return Data(samples(0, "calibration set"), samples(1, "evaluation set"), (note,))


def picture_contract(spec: ModelSpec, path: Path) -> Preprocessing:
    """How the pictures at `path` become the model's input.

    Raises:
        InputError: the model does not say, or takes several inputs.
    """
    if spec.other_inputs:
        names = ", ".join(one.name for one in spec.inputs)
        raise InputError(
            f"--data {path}: {spec.name} takes {len(spec.inputs)} inputs ({names}), and a folder "
            "of pictures gives one; give ready tensors by these names in an .npz"
        )
    contract = spec.preprocessing
    if isinstance(contract, Skipped):
        raise InputError(
            f"--data {path}: {spec.name} does not say how images become its input "
            f"({contract.skipped}); give --mean and --std (and --resize, --channels, ...) or a "
            "--preprocessing FILE.json, or ready tensors as .npz"
        )
    return contract


def _folder(spec: ModelSpec, path: Path, progress: Progress) -> Data:
    contract = picture_contract(spec, path)
    files = find_pictures(path)
    by_hash: dict[str, Path] = {}
    with progress.stage(f"read {path.name}", total=len(files)) as advance:
        for file in files:
            by_hash.setdefault(hash_picture(file), file)
            advance(1)
    classes = class_numbers(path, files, spec.classes)

    def samples(hashes: list[str], role: str) -> Samples:
        chosen = [by_hash[digest] for digest in hashes]

        def read(index: int) -> Array:
            return read_picture(chosen[index], contract, spec)

        labels = None
        if isinstance(classes, dict):
            labels = np.array([classes[file.parent.name] for file in chosen], np.int64)
        return Samples(f"folder {path.name}, {role}", len(chosen), _digest(hashes), labels, read)

    data = _split(sorted(by_hash), samples, f"--data {path}")
    if not isinstance(classes, Skipped):
        return data
    return replace(data, notes=(f"--data {path.name} gives no labels: {classes.skipped}",))


def hash_picture(file: Path) -> str:
    """The content's SHA-256, once the header has told that it is a picture of sane size."""
    with _reading(file), opened(file):
        pass
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_picture(file: Path, contract: Preprocessing, spec: ModelSpec) -> Array:
    """A picture as the model takes it, without a batch dimension."""
    with _reading(file), opened(file) as image:
        return prepare(image, contract, spec)


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """An error about a picture names it."""
    try:
        yield
    except serving.InputError as error:
        raise InputError(f"{file} {error}; mend or remove it") from None


def _tensors(spec: ModelSpec, path: Path) -> Data:
    tensors, notes = read_tensors(spec, path)
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


def _split(hashes: list[str], samples: Callable[[list[str], str], Samples], name: str) -> Data:
    """Every other sample, in the order of the hashes, to each of the two sets."""
    if len(hashes) < 2:
        raise InputError(f"{name}: one distinct sample; two sets need at least two, better 128")
    calibration = samples(hashes[0::2], "calibration set")
    return Data(calibration, samples(hashes[1::2], "evaluation set"))


def _digest(hashes: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()
