"""The images that a release is judged on: all of a folder or a file, with labels where it has some.

Nothing is split off and nothing is sampled. A picture that cannot be decoded is found when it is
read, and is an InputError then: the caller counts it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from exporter.artifact import ModelSpec, Preprocessing, Skipped
from exporter.errors import InputError, install_command
from exporter.images import opencv
from exporter.images.class_labels import match_labels
from exporter.images.label_file import read_labels
from exporter.images.picture_folder import find_pictures, not_read
from exporter.images.pixels import nearest_pixels
from exporter.images.samples import hash_picture, open_data, picture_contract, read_picture
from exporter.images.tensor_file import LABELS, read_tensors
from exporter.progress import Progress
from exporter.runtime.errors import ServingError, reason_of
from exporter.runtime.pictures import opened, upright

Array = npt.NDArray[Any]
Labels = npt.NDArray[np.int64]
Read = Callable[[int], Array]

THUMBNAIL: Final = 64
"""The longer side of a flip's picture in the report."""


@dataclass(frozen=True)
class LabelledImages:
    """Images in a fixed order, made as they are read."""

    source: str
    sha256: str
    names: tuple[str, ...]
    """Each image's, as people know it."""
    labels: Labels | None
    read: Read
    """The i-th as the model takes it; an InputError where it cannot be decoded."""
    thumbnail: Callable[[int], str]
    """The i-th, small, as a data URI; "": it is no picture."""
    unreadable: tuple[str, ...] = ()
    """What is wrong with each file that is not even opened, in words."""
    notes: tuple[str, ...] = ()
    read_with_opencv: Read | Skipped = Skipped("the images are tensors")
    """The i-th as the model takes it, decoded and resized by OpenCV; an InputError as of `read`."""


def open_labelled(
    spec: ModelSpec,
    names: tuple[str, ...],
    path: Path | None,
    label_file: Path | None,
    progress: Progress,
) -> LabelledImages:
    """The images at `path`; without one, those that came with the model.

    `names` are the classes'.

    Raises:
        InputError: no image is there, or the labels are not the model's.
    """
    if path is not None and path.is_dir():
        return _folder(spec, names, path, label_file, progress)
    if label_file is not None:
        raise InputError(
            f"--labels {label_file} names the pictures of a folder; give one with --data, or put "
            "the classes' numbers into the .npz, as the array 'labels'"
        )
    if path is not None:
        if path.suffix not in {".npz", ".npy"}:
            there = "expected a folder of images or an .npz" if path.exists() else "nothing there"
            raise InputError(f"--data {path}: {there}")
        inputs, notes = read_tensors(spec, path)
        return _tensors(spec, path.name, inputs, _labels_in(path, len(inputs), len(names)), notes)
    own = open_data(spec, None).evaluation
    if own.labels is None:
        raise InputError(
            f"{spec.name} came with no images of its own; give yours with --data FOLDER"
        )
    inputs = np.concatenate(list(own.batches(own.count)))
    return _tensors(spec, own.source, inputs, own.labels, ())


def _folder(
    spec: ModelSpec,
    names: tuple[str, ...],
    path: Path,
    label_file: Path | None,
    progress: Progress,
) -> LabelledImages:
    contract = picture_contract(spec, path)
    files = find_pictures(path)
    by_hash: dict[str, Path] = {}
    torn = 0
    unreadable = [f"{file} is in a format that is not read" for file in not_read(path)]

    def reader(of_picture: Callable[[Path, Preprocessing, ModelSpec], Array]) -> Read:
        def read(index: int) -> Array:
            try:
                return of_picture(kept[index], contract, spec)
            except InputError as error:
                raise InputError(_below(path, str(error))) from None

        return read

    with progress.stage(f"read {path.name}", total=len(files)) as advance:
        for file in files:
            try:
                by_hash.setdefault(hash_picture(file), file)
            except InputError as error:
                unreadable.append(str(error))
                torn += 1
            advance(1)
    if not by_hash:
        raise InputError(f"--data {path}: none of {len(files)} images can be read: {unreadable[0]}")
    hashes, kept = zip(*sorted(by_hash.items(), key=lambda one: str(one[1])), strict=True)
    shown = tuple(file.relative_to(path).as_posix() for file in kept)
    notes = []
    same = len(files) - torn - len(kept)
    if same:
        notes.append(f"--data {path.name}: {same} images are copies of others and count once")
    labels, note = _labels_of(names, shown, label_file, path)
    return LabelledImages(
        source=f"folder {path.name}",
        sha256=_digest("\n".join(hashes).encode()),
        names=shown,
        labels=labels,
        read=reader(read_picture),
        thumbnail=lambda index: _thumbnail(kept[index]),
        unreadable=tuple(_below(path, problem) for problem in unreadable),
        notes=(*notes, *([note] if note else [])),
        read_with_opencv=reader(opencv.read_picture) if opencv.is_installed() else _no_opencv(),
    )


def _no_opencv() -> Skipped:
    return Skipped(f"OpenCV is not installed; run: {install_command('opencv')}")


def _below(folder: Path, problem: str) -> str:
    """With files' names below the folder: no path of this machine goes into a build."""
    for given in (folder.resolve(), folder.absolute(), folder):  # libraries name the first ones
        problem = problem.replace(f"{given}{os.sep}", "")
    return problem


def _labels_of(
    names: tuple[str, ...],
    pictures: tuple[str, ...],
    label_file: Path | None,
    path: Path,
) -> tuple[Labels | None, str | None]:
    """Each picture's class, from the file or from the sub-folders, and what is to be said of it."""
    by_picture: Mapping[str, str]
    if label_file is not None:
        where, by_picture = f"--labels {label_file.name}", read_labels(label_file)
        without = [picture for picture in pictures if picture not in by_picture]
        if without:
            raise InputError(
                f"{where} has no label for {len(without)} of {len(pictures)} pictures in {path} "
                f"(first: {without[0]}); give each, by its path below that folder"
            )
    else:
        where, folders = f"--data {path.name}", [Path(picture).parts[:-1] for picture in pictures]
        if not any(folders):
            return None, f"{where} has no sub-folders and no --labels: accuracy is not judged"
        odd = next((i for i, parts in enumerate(folders) if len(parts) != 1), None)
        if odd is not None:
            raise InputError(f"{where}: {pictures[odd]} is not in a sub-folder of its class")
        by_picture = dict(zip(pictures, (parts[0] for parts in folders), strict=True))
    given = [by_picture[picture] for picture in pictures]
    numbers, note = match_labels(given, names, where)
    return np.array([numbers[label] for label in given], np.int64), note


def _labels_in(path: Path, count: int, classes: int) -> Labels | None:
    """The array `labels` of an .npz; None: it has none."""
    if path.suffix != ".npz":
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            labels = arrays[LABELS] if LABELS in arrays.files else None
    except Exception as error:  # as in tensor_file: zipfile's, zlib's and NumPy's own errors
        raise InputError(f"{path}: its labels cannot be read ({reason_of(error)})") from None
    if labels is None:
        return None
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise InputError(
            f"{path}: labels are {labels.dtype} {labels.shape}; give the number of the class of "
            f"each of the {count} inputs"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise InputError(
            f"{path}: labels from {labels.min()} to {labels.max()}, the model has "
            f"{classes} classes, 0 to {classes - 1}"
        )
    found: Labels = labels.astype(np.int64)
    return found


def _tensors(
    spec: ModelSpec, source: str, inputs: Array, labels: Labels | None, notes: tuple[str, ...]
) -> LabelledImages:
    def thumbnail(index: int) -> str:
        contract = spec.preprocessing
        if isinstance(contract, Skipped) or spec.other_inputs or spec.input.dtype == "uint8":
            return ""
        pixels, were_images = nearest_pixels(inputs[index][None], contract)
        return _encoded(pixels[0]) if were_images else ""

    return LabelledImages(
        source=source,
        sha256=_digest(inputs.tobytes()),
        names=tuple(f"input {number}" for number in range(len(inputs))),
        labels=labels,
        read=lambda index: inputs[index],
        thumbnail=thumbnail,
        notes=notes,
    )


def _thumbnail(file: Path) -> str:
    try:
        with opened(file) as picture:
            return _encoded(np.asarray(upright(picture)))
    except ServingError:
        return ""  # it changed since it was read; the flip is listed without it


def _encoded(pixels: npt.NDArray[np.uint8]) -> str:
    from PIL import Image

    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("RGB")
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=75)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _digest(contents: bytes) -> str:
    return hashlib.sha256(contents).hexdigest()
