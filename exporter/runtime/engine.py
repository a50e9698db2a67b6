"""A loaded engine: images or tensors in, logits or labels out, from any number of threads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from exporter.runtime.description import Description, EngineEntry
from exporter.runtime.errors import BundleError, ClosedError, InputError
from exporter.runtime.forks import keep_in_children
from exporter.runtime.given_inputs import (
    check_lengths,
    check_tensor,
    inputs_of,
    is_array,
    kind_of,
    ordered,
    shown,
)
from exporter.runtime.images import Images, Normalisation
from exporter.runtime.layout import Layout, height_width_channels, layout_of
from exporter.runtime.pictures import Picture, are_pixels, fits, named_pictures, pixels
from exporter.runtime.sessions import Session
from exporter.runtime.threads import Threads

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Answer: TypeAlias = Any
"""float32 (N, classes); of a network with several outputs, a dict of them by name, each (N, ...);
of one that answers features alone, those (N, ...)."""

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
        threads: Threads,
        passed_over: tuple[tuple[str, str], ...],
    ) -> None:
        """Raises BundleError where the session does not take what the manifest describes."""
        self.id = entry.id
        self.model = description.model
        self.precision = entry.precision
        self.labels = labels
        """A name for each class, in order; empty where no output has scores of classes."""
        self.outputs = description.outputs
        """Name and shape of each output; empty: the engine answers scores of classes alone."""
        self.passed_over = passed_over
        """(engine, reason) for each engine of the bundle that was not chosen."""
        self.threads = threads
        """`each`: of one call, `streams`: calls side by side, `spin`: whether idle ones spin."""
        self.advice = entry.advice
        """How a host is best used with this engine; None: that was not measured (`exporter
        benchmark --throughput`)."""
        self.inputs = inputs_of(description, session)
        """What `run` takes, by name; its arguments come in this order."""
        first, *others = self.inputs.values()
        self.input_dtype = first.dtype
        self.input_shape = first.shape
        """Of the first input; None: any size."""
        self._answers = description.answers
        self._scores = description.scores
        self._order = _order(description, session)
        self._feeds = [list(self.inputs.values()).index(given) for given in session.inputs]
        self.framing = description.framing
        """How pictures of any size are brought to `image_shape`; None: not known."""
        self._session: Session | None = session
        keep_in_children(session)
        self._process = os.getpid()
        self._takes_images = self.input_dtype == np.uint8
        self._normalise = None if others else _normalisation(description, session)
        self._range = _plausible_range(self._normalise)
        self.image_shape: tuple[int | None, int | None, int | None] = (None, None, None)
        """(H, W, C) of the images that the engine takes; None: any size, or several inputs."""
        if not others:
            self.image_shape = height_width_channels(self.input_shape[1:])

    def __call__(self, images: Images | Mapping[str, Array], *others: Array) -> Answer:
        """(N, H, W, C) uint8 images, RGB or grey, of the model's size -> (N, classes) logits.

        Of a network with several outputs, a dict of them by name, each (N, ...). Resizing and
        cropping to `image_shape` are the caller's part. N may be anything, 0 too. A network of
        several inputs takes ready tensors, as `run` does.

        Raises:
            InputError: another type or shape, or the model's preprocessing is not known.
            ClosedError: the engine is closed, or was loaded before a fork.
        """
        if len(self.inputs) > 1:
            return self.run(images, *others)
        (given,) = ordered(self.inputs, images, others, self.id)
        return self._shaped(self._answers_to(given))

    def prepare(self, images: Images) -> Array:
        """(N, H, W, C) uint8 images -> what `run` takes: normalised, where the engine wants that.

        Raises:
            InputError: another type or shape, or the model's preprocessing is not known.
        """
        if len(self.inputs) > 1:
            raise InputError(f"{self.model} takes ready tensors: {', '.join(self.inputs)}")
        self._check_images(images)
        return self._prepare(images)

    def run(self, inputs: Array | Mapping[str, Array], *others: Array) -> Answer:
        """Inputs as the engine itself takes them (`input_dtype`, `input_shape`) -> (N, classes).

        Of a network with several outputs, a dict of them by name, as from calling the engine. Of
        one with several inputs, `inputs` is a dict of all, each (N, ...), or they are given one
        after the other in the order of `Engine.inputs`.

        Raises:
            InputError: another type or shape, not finite, or far outside what normalisation gives.
            ClosedError: the engine is closed, or was loaded before a fork.
        """
        given = ordered(self.inputs, inputs, others, self.id)
        for name, one in zip(self.inputs, given, strict=True):
            check_tensor(one, self.inputs[name], name if len(given) > 1 else "", self.id)
        check_lengths(self.inputs, given, self.id)
        if len(given) == 1 and not self._takes_images and given[0].size:
            self._check_range(np.asarray(given[0]))  # as the engine sees it, whatever class it is
        return self._shaped(self._run(given))

    def predict(
        self, pictures: Picture | Iterable[Picture], top: int = 5
    ) -> list[list[Prediction]]:
        """The `top` best labels with their probabilities, best first, for each picture.

        A picture is a path, a Pillow image or an array (H, W, 3) of RGB; they may be one, several
        or an array (N, H, W, 3), and a single one gives a list of one. An array of the engine's
        own size (`image_shape`) goes in as it is; everything else is turned upright, resized and
        cropped by the model's preprocessing (with Pillow), as it was when the engine was validated.

        Raises:
            InputError: no picture, or one that the engine cannot take: named by its file or number;
                or the network answers no scores of classes.
            ClosedError: as calling the engine.
        """
        top = whole_number("top", top)
        if len(self.inputs) > 1:
            raise InputError(
                f"{self.model} takes {len(self.inputs)} inputs ({', '.join(self.inputs)}), and a "
                "picture is one; call engine.run with a dict of the tensors that it takes"
            )
        if self._scores is None:
            raise InputError(
                f"{self.model} answers features ({', '.join(one.name for one in self.outputs)}) "
                "and no scores of classes; call engine(images) for them"
            )
        found: list[list[Prediction]] = []
        for images in self._images_of(pictures):
            answers = self._answers_to(images)[self._scores].astype(np.float64)
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
        framing, shape = self.framing, self.image_shape
        if are_pixels(pictures) and pictures.ndim == 4 and fits(pictures.shape[1:], shape):
            yield from _parts(pictures)
            return
        named = named_pictures(pictures)
        while part := [pixels(*one, framing, shape) for one in islice(named, MAX_BATCH)]:
            yield np.stack(part)

    def __repr__(self) -> str:
        takes = " x ".join("any" if size is None else str(size) for size in self.image_shape)
        names = self.labels or [output.name for output in self.outputs]
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        closed = "" if self._session else ", closed"
        return (
            f"<Engine {self.id} of {self.model}{closed}: "
            f"{', '.join(self.inputs) if len(self.inputs) > 1 else f'images {takes}'}, "
            f"{len(names)} {'labels' if self.labels else 'outputs'} ({shown}), {self.threads}>"
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
        if not is_array(images) or images.dtype != np.uint8:
            raise InputError(
                f"images are {kind_of(images)}; give a uint8 array (N, H, W, 3), values 0 to 255, "
                "RGB"
            )
        expected = self.image_shape
        if images.ndim != 4 or any(
            size not in (None, given)
            for given, size in zip(images.shape[1:], expected, strict=True)
        ):
            hint = "; one image is images[None]" if images.ndim == 3 else ""
            raise InputError(
                f"images have shape {images.shape}; {self.id} takes {shown((None, *expected))}, "
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

    def _answers_to(self, images: Images) -> list[Floats]:
        """Each output's answers, (N, values)."""
        self._check_images(images)
        if len(images) <= MAX_BATCH:
            return self._run((self._prepare(images),))
        return _joined([self._run((self._prepare(part),)) for part in _parts(images)])

    def _shaped(self, answers: list[Floats]) -> Answer:
        if not self.outputs:
            return answers[0]
        named = {
            output.name: rows.reshape(len(rows), *output.shape)
            for output, rows in zip(self.outputs, answers, strict=True)
        }
        return named if len(named) > 1 else named[self.outputs[0].name]

    def _check_range(self, values: Array) -> None:
        low, high = self._range
        smallest, largest = float(values.min()), float(values.max())
        if not (low <= smallest and largest <= high):  # also where one is not a number
            raise InputError(
                f"inputs lie between {smallest:g} and {largest:g}; {self.id} takes finite "
                f"normalised values, (pixel / 255 - mean) / std; give uint8 images to "
                "engine(images) and it normalises them"
            )

    def _run(self, inputs: Sequence[Array]) -> list[Floats]:
        """Each input's (N, ...) -> (N, values) of each output, both in the network's order.

        In parts where N is large or the engine's batch is fixed.
        """
        session = self._session
        if session is None:
            raise ClosedError(f"engine {self.id} is closed; load the bundle again")
        if os.getpid() != self._process:
            raise ClosedError(
                f"engine {self.id} was loaded in process {self._process} and does not survive a "
                f"fork; call exporter.runtime.load in process {os.getpid()}"
            )
        size, count = self.input_shape[0], len(inputs[0])
        if not count:
            widths = [output.size for output in self.outputs] or [len(self.labels)]
            return [np.empty((0, width), np.float32) for width in widths]
        answers = []
        most = size or MAX_BATCH
        for start in range(0, count, most):
            parts = [inputs[index][start : start + most] for index in self._feeds]
            rows = len(parts[0])
            if size is not None and rows < size:
                parts = [np.concatenate([x, x[-1:].repeat(size - rows, 0)]) for x in parts]
            found = self._rows(session.run([np.ascontiguousarray(part) for part in parts]))
            answers.append([one[:rows] for one in found])
        return _joined(answers) if len(answers) > 1 else answers[0]

    def _rows(self, found: list[Array]) -> list[Floats]:
        ordered = (found[index] for index in self._order)
        return [one.reshape(len(one), -1).astype(np.float32, copy=False) for one in ordered]


def _order(description: Description, session: Session) -> list[int]:
    """Where the engine has the network's outputs, in the network's order.

    Raises:
        BundleError: it has not one of them.
    """
    if not description.outputs:
        return [0]
    order = []
    for output in description.outputs:
        places = [i for i, names in enumerate(session.outputs) if output.name in names]
        if not places:
            raise BundleError(f"the engine has no output {output.name!r}; pack the build again")
        order.append(places[0])
    return order


def _joined(parts: list[list[Floats]]) -> list[Floats]:
    """Each output's answers to all parts of a batch."""
    return [np.concatenate(answers) for answers in zip(*parts, strict=True)]


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


def _normalisation(description: Description, session: Session) -> Normalisation | None:
    shape = session.inputs[0].shape
    if len(shape) != 4:
        raise BundleError(f"the engine takes {shown(shape)}; expected a batch of images, rank 4")
    if session.inputs[0].dtype == np.uint8 or description.mean is None or description.std is None:
        return None
    return Normalisation(
        description.mean,
        description.std,
        dtype=session.inputs[0].dtype,
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
