"""A loaded engine: images in, logits or labels out, from any number of threads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, TypeGuard

import numpy as np
import numpy.typing as npt

from exporter.runtime.description import Description, EngineEntry
from exporter.runtime.errors import BundleError, ClosedError, InputError
from exporter.runtime.forks import keep_in_children
from exporter.runtime.images import Images, Normalisation
from exporter.runtime.layout import Layout, height_width_channels, layout_of
from exporter.runtime.pictures import Picture, are_pixels, fits, named_pictures, pixels
from exporter.runtime.sessions import Session

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

MAX_BATCH: Final = 32
"""More images than this are run in parts: activations of a large batch need much memory."""


@dataclass(frozen=True)
class Prediction:
    """One of the best answers for an image."""

    label: str
    index: int
    probability: float


class Engine:
    """An engine that has proved itself on the golden inputs. Made by `load`.

    It may be called from many threads at once. It does not survive a fork: a child process loads
    its own, and what it inherited is never freed there (`forks.py`).
    """

    def __init__(
        self,
        entry: EngineEntry,
        description: Description,
        labels: tuple[str, ...],
        session: Session,
        passed_over: tuple[tuple[str, str], ...],
    ) -> None:
        """Raises BundleError where the session does not take what the manifest describes."""
        self.id = entry.id
        self.model = description.model
        self.precision = entry.precision
        self.labels = labels
        """A name for each output, in order."""
        self.passed_over = passed_over
        """(engine, reason) for each engine of the bundle that was not chosen."""
        self.input_dtype = session.input.dtype
        self.input_shape = session.input.shape
        """Of `run`'s argument; None: any size."""
        self._answers = description.answers
        self._framing = description.framing
        self._session: Session | None = session
        keep_in_children(session)
        self._process = os.getpid()
        self._takes_images = self.input_dtype == np.uint8
        self._normalise = _normalisation(description, session)
        self._range = _plausible_range(self._normalise)
        self.image_shape = height_width_channels(self.input_shape[1:])
        """(H, W, C) of the images that the engine takes; None: any size."""

    def __call__(self, images: Images) -> Floats:
        """(N, H, W, C) uint8 images, RGB or grey, of the model's size -> (N, classes) logits.

        Resizing and cropping to `image_shape` are the caller's part. N may be anything, 0 too.

        Raises:
            InputError: another type or shape, or the model's preprocessing is not known.
            ClosedError: the engine is closed, or was loaded before a fork.
        """
        self._check_images(images)
        if len(images) <= MAX_BATCH:
            return self._run(self._prepare(images))
        return np.concatenate([self._run(self._prepare(part)) for part in _parts(images)])

    def prepare(self, images: Images) -> Array:
        """(N, H, W, C) uint8 images -> what `run` takes: normalised, where the engine wants that.

        Raises:
            InputError: another type or shape, or the model's preprocessing is not known.
        """
        self._check_images(images)
        return self._prepare(images)

    def run(self, inputs: Array) -> Floats:
        """Inputs as the engine itself takes them (`input_dtype`, `input_shape`) -> (N, classes).

        Raises:
            InputError: another type or shape, not finite, or far outside what normalisation gives.
            ClosedError: the engine is closed, or was loaded before a fork.
        """
        if not _is_array(inputs) or inputs.dtype != self.input_dtype:
            raise InputError(
                f"inputs are {_kind(inputs)}; {self.id} takes a {self.input_dtype} array "
                f"of shape {_shown(self.input_shape)}"
            )
        sizes = zip(inputs.shape[1:], self.input_shape[1:], strict=False)
        if inputs.ndim != len(self.input_shape) or any(b not in (None, a) for a, b in sizes):
            raise InputError(
                f"inputs have shape {inputs.shape}; {self.id} takes {_shown(self.input_shape)}"
            )
        if not self._takes_images and inputs.size:
            low, high = self._range
            values = np.asarray(inputs)  # as the engine sees them, whatever class it is
            smallest, largest = float(values.min()), float(values.max())
            if not (low <= smallest and largest <= high):  # also where one is not a number
                raise InputError(
                    f"inputs lie between {smallest:g} and {largest:g}; {self.id} takes finite "
                    f"normalised values, (pixel / 255 - mean) / std; give uint8 images to "
                    "engine(images) and it normalises them"
                )
        return self._run(inputs)

    def predict(
        self, pictures: Picture | Iterable[Picture], top: int = 5
    ) -> list[list[Prediction]]:
        """The `top` best labels with their probabilities, best first, for each picture.

        A picture is a path, a Pillow image or an array (H, W, 3) of RGB; they may be one, several
        or an array (N, H, W, 3), and a single one gives a list of one. An array of the engine's
        own size (`image_shape`) goes in as it is; everything else is turned upright, resized and
        cropped by the model's preprocessing (with Pillow), as it was when the engine was validated.

        Raises:
            InputError: no picture, or one that the engine cannot take: named by its file or number.
            ClosedError: as calling the engine.
        """
        top = whole_number("top", top)
        found: list[list[Prediction]] = []
        for images in self._images_of(pictures):
            answers = self(images).astype(np.float64)
            if self._answers == "logits":
                answers = np.exp(answers - answers.max(axis=1, keepdims=True))
                answers /= answers.sum(axis=1, keepdims=True)
            best = np.argsort(-answers, axis=1, kind="stable")[:, :top]
            found.extend(
                [Prediction(self.labels[i], int(i), float(row[i])) for i in order]
                for row, order in zip(answers, best, strict=True)
            )
        return found

    def _images_of(self, pictures: Picture | Iterable[Picture]) -> Iterator[Images]:
        """Pictures as calling the engine takes them, at most MAX_BATCH at a time."""
        framing, shape = self._framing, self.image_shape
        if are_pixels(pictures) and pictures.ndim == 4 and fits(pictures.shape[1:], shape):
            yield from _parts(pictures)
            return
        named = named_pictures(pictures)
        while part := [pixels(*one, framing, shape) for one in islice(named, MAX_BATCH)]:
            yield np.stack(part)

    def __repr__(self) -> str:
        height, width, channels = ("any" if size is None else size for size in self.image_shape)
        shown = ", ".join(self.labels[:3]) + (", ..." if len(self.labels) > 3 else "")
        closed = "" if self._session else ", closed"
        return (
            f"<Engine {self.id} of {self.model}{closed}: images {height} x {width} x {channels}, "
            f"{len(self.labels)} labels ({shown})>"
        )

    def close(self) -> None:
        """Frees the engine once the calls in progress are done. Closing twice is no error."""
        if os.getpid() == self._process:
            self._session = None

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _check_images(self, images: object) -> None:
        if not _is_array(images) or images.dtype != np.uint8:
            raise InputError(
                f"images are {_kind(images)}; give a uint8 array (N, H, W, 3), values 0 to 255, RGB"
            )
        expected = self.image_shape
        if images.ndim != 4 or any(
            size not in (None, given)
            for given, size in zip(images.shape[1:], expected, strict=True)
        ):
            hint = "; one image is images[None]" if images.ndim == 3 else ""
            raise InputError(
                f"images have shape {images.shape}; {self.id} takes {_shown((None, *expected))}, "
                f"resized and cropped{hint}"
            )

    def _prepare(self, images: Images) -> Array:
        if self._takes_images:
            planes = layout_of(self.input_shape[1:]) is Layout.NCHW
            return images.transpose(0, 3, 1, 2) if planes else images
        if self._normalise is None:
            raise InputError(
                f"{self.model} came with no preprocessing, so images cannot be prepared here; "
                f"call engine.run with the {self.input_dtype} tensors that the model takes"
            )
        return self._normalise(images)

    def _run(self, inputs: Array) -> Floats:
        """(N, ...) -> (N, classes), in parts where N is large or the engine's batch is fixed."""
        session = self._session
        if session is None:
            raise ClosedError(f"engine {self.id} is closed; load the bundle again")
        if os.getpid() != self._process:
            raise ClosedError(
                f"engine {self.id} was loaded in process {self._process} and does not survive a "
                f"fork; call exporter.runtime.load in process {os.getpid()}"
            )
        size = self.input_shape[0]
        if size is None and 0 < len(inputs) <= MAX_BATCH:
            return _rows(session.run(np.ascontiguousarray(inputs)))
        if not len(inputs):
            return np.empty((0, len(self.labels)), np.float32)
        answers = []
        for part in _parts(inputs, size or MAX_BATCH):
            missing = (size or 0) - len(part)
            whole = np.concatenate([part, part[-1:].repeat(missing, 0)]) if missing > 0 else part
            answers.append(_rows(session.run(np.ascontiguousarray(whole)))[: len(part)])
        return np.concatenate(answers)


def _parts(inputs: Array, size: int = MAX_BATCH) -> Iterator[Array]:
    """The inputs, at most `size` at a time; once where there are none."""
    for start in range(0, max(1, len(inputs)), size):
        yield inputs[start : start + size]


def whole_number(name: str, value: object, largest: int | None = None) -> int:
    """The argument of that name, from 1 to `largest`.

    Raises:
        InputError: it is something else.
    """
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        number = int(value)
        if number >= 1 and (largest is None or number <= largest):
            return number
    allowed = "at least 1" if largest is None else f"1 to {largest}"
    raise InputError(f"{name} is {value!r}; give a whole number, {allowed}")


def _is_array(value: object) -> TypeGuard[Array]:
    """Whether it is an array that holds nothing but its values: no mask over some of them."""
    return isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray)


def _rows(output: Array) -> Floats:
    return output.reshape(len(output), -1).astype(np.float32, copy=False)


def _kind(value: object) -> str:
    if _is_array(value):
        return f"of type {value.dtype}"
    return f"a {type(value).__name__}, not an array"


def _shown(shape: tuple[int | None, ...]) -> str:
    return f"({', '.join('N' if size is None else str(size) for size in shape)})"


def _normalisation(description: Description, session: Session) -> Normalisation | None:
    shape = session.input.shape
    if len(shape) != 4:
        raise BundleError(f"the engine takes {_shown(shape)}; expected a batch of images, rank 4")
    if session.input.dtype == np.uint8 or description.mean is None or description.std is None:
        return None
    return Normalisation(
        description.mean,
        description.std,
        dtype=session.input.dtype,
        layout=layout_of(shape[1:]),
        reversed=description.reversed,
    )


def _plausible_range(normalise: Normalisation | None) -> tuple[float, float]:
    """What normalised inputs may hold: the range of images, once over on either side.

    Wide enough for augmented or synthetic inputs, narrow enough to tell raw pixels from them.
    """
    if normalise is None:
        limit = float(np.finfo(np.float32).max)
        return -limit, limit
    low, high = normalise.range
    return low - (high - low), high + (high - low)
