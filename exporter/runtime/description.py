"""What a bundle's manifest says, as far as serving needs it, with every value's type checked."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from exporter.runtime.errors import BundleError
from exporter.runtime.outputs import Output
from exporter.runtime.pictures import INTERPOLATIONS, Framing
from exporter.runtime.threads import Advice

MANIFEST: Final = "manifest.json"
GOLDEN: Final = "golden.npz"
LABELS: Final = "labels.txt"
SCHEMA: Final = 1
LARGEST_SIDE: Final = 1 << 14
"""Of a picture, in pixels: more than any model takes."""


@dataclass(frozen=True)
class Requirements:
    """What an engine needs where it is served."""

    versions: Mapping[str, str] = field(default_factory=dict)
    """Module -> the version that it was validated with."""
    cpu_flags: frozenset[str] = frozenset()
    """As Linux spells them."""
    session_config: Mapping[str, str] = field(default_factory=dict)
    """Of ONNX Runtime's session options."""
    session_config_without_vnni: Mapping[str, str] = field(default_factory=dict)
    """More of them, for CPUs whose U8 x S8 products saturate."""
    disabled_optimizers: tuple[str, ...] = ()
    """Of ONNX Runtime, by name."""
    provider_options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """ONNX Runtime's provider -> its options."""


@dataclass(frozen=True)
class EngineEntry:
    """One engine of the bundle."""

    id: str
    target: str
    precision: str
    files: tuple[str, ...]
    """At least one."""
    requires: Requirements
    p50_ms: float | None
    """At the first measured batch size, on the machine that built it; None: not measured."""
    tolerance: float
    """Largest relative L2 distance that the answer to any golden input may have."""
    against: str
    """From what: "engine", its own answers when it was packed, or "reference", where it could not
    run there."""
    advice: Advice | None = None
    """None: throughput was not measured."""


@dataclass(frozen=True)
class Description:
    """The bundle's manifest."""

    model: str
    inputs: tuple[str, ...]
    """Their names, in the order in which the network takes them."""
    mean: tuple[float, ...] | None
    """Of each channel, in the model's order; None where the preprocessing is not known."""
    std: tuple[float, ...] | None
    answers: str
    """What the network answers: "logits" or "probabilities" of classes, or "features"."""
    engines: tuple[EngineEntry, ...]
    reversed: bool = False
    """The model takes BGR, and images are RGB."""
    framing: Framing | None = None
    """How pictures of any size are brought to the model's; None: not known."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """An engine's file -> its bytes."""
    outputs: tuple[Output, ...] = ()
    """In the order in which goldens hold them; empty: the scores of classes alone."""
    scores: int | None = 0
    """Which output has a score for each class; None: none."""


def read_description(contents: bytes) -> Description:
    """Parses a bundle's `manifest.json`.

    Raises:
        BundleError: it is no bundle's manifest, of another schema, or a field does not fit.
    """
    try:
        manifest = _Value(json.loads(contents), "")
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{MANIFEST} is not JSON ({error}); copy the bundle again") from None
    bundle = manifest["bundle"]
    if (manifest["schema"].value, bundle["schema"].value) != (SCHEMA, SCHEMA):
        raise BundleError(
            f"{MANIFEST} has another schema than {SCHEMA}; pack the build again, "
            "or serve it with the version that packed it"
        )
    model = manifest["model"]
    preprocessing = model["preprocessing"]
    known = preprocessing.get("skipped") is None
    channels = preprocessing.get("channels")  # bundles from before it was a choice lack it
    outputs, scores = _outputs(model)
    advice = _advice(manifest)
    return Description(
        model=model["name"].text(),
        inputs=_inputs(model),
        mean=preprocessing["mean"].channels() if known else None,
        std=preprocessing["std"].channels() if known else None,
        answers=bundle["answers"].one_of("logits", "probabilities", "features"),
        engines=tuple(
            _engine(engine, bundle["tolerances"], advice) for engine in manifest["engines"]
        ),
        framing=_framing(preprocessing) if known else None,
        reversed=channels is not None and channels.one_of("RGB", "BGR", "grey") == "BGR",
        sizes={
            file["path"].text(): file["bytes"].whole()
            for engine in manifest["engines"]
            for file in engine["files"]
        },
        outputs=outputs,
        scores=scores,
    )


def _inputs(model: _Value) -> tuple[str, ...]:
    """The inputs' names; bundles from before there were several tell of one."""
    names = tuple(
        given["name"].text() for given in (model["input"], *(model.get("other_inputs") or ()))
    )
    if len(set(names)) < len(names):
        raise model["other_inputs"].unfit("inputs of different names")
    return names


def _outputs(model: _Value) -> tuple[tuple[Output, ...], int | None]:
    """The outputs, and which has scores; bundles from before there were several tell of none."""
    others, scores = model.get("other_outputs"), model.get("scores")
    listed = [model["output"], *(others or ())]
    index = 0 if scores is None else scores.value
    if index is not None and not (type(index) is int and 0 <= index < len(listed)):
        assert scores is not None
        raise scores.unfit(f"null, or a number below {len(listed)}")
    if len(listed) == 1 and index == 0:
        return (), 0
    outputs = tuple(
        Output(output["name"].text(), tuple(size.whole() for size in list(output["shape"])[1:]))
        for output in listed
    )
    if len({output.name for output in outputs}) < len(outputs):
        raise model["other_outputs"].unfit("outputs of different names")
    return outputs, index


def _framing(preprocessing: _Value) -> Framing:
    resize = preprocessing["resize"]
    turns = preprocessing.get("exif_orientation")  # bundles from before it was a choice lack it
    return Framing(
        resize=None if resize.value is None else resize.lengths(),
        crop=preprocessing["crop"].lengths(),
        interpolation=preprocessing["interpolation"].one_of(*INTERPOLATIONS, "none"),
        exif_orientation=turns is None or turns.flag(),
    )


def _advice(manifest: _Value) -> dict[str, Advice]:
    """For each engine the best layout that was measured; older bundles tell of none."""
    measured = manifest.get("throughput")
    points = measured and measured.get("points")
    if measured is None or points is None:
        return {}
    return {
        point["engine"].text(): Advice(
            cores=measured["cores"].whole(),
            processes=point["processes"].whole(),
            streams=point["streams"].whole(),
            threads=point["threads"].whole(),
            batch=point["batch"].whole(),
            images_per_s=point["images_per_s"].number(),
            p99_ms=point["p99_ms"].number(),
        )
        for point in points
        if point["best"].value is True
    }


def _engine(engine: _Value, tolerances: _Value, advice: Mapping[str, Advice]) -> EngineEntry:
    name = engine["id"].text()
    files = tuple(file["path"].text() for file in engine["files"])
    if not files:
        raise engine["files"].unfit("at least one file")
    p50 = engine["latency"].get("p50_ms")
    return EngineEntry(
        id=name,
        target=engine["target"].text(),
        precision=engine["precision"].text(),
        files=files,
        requires=_requirements(engine["requires"]),
        p50_ms=None if p50 is None else p50.number(),
        tolerance=tolerances[name]["rel_l2"].number(),
        against=tolerances[name]["against"].one_of("engine", "reference"),
        advice=advice.get(name),
    )


def _requirements(requires: _Value) -> Requirements:
    versions, flags = requires.get("versions"), requires.get("cpu_flags")
    without_vnni = requires.get("session_config_without_vnni")
    options = requires.get("session_options")
    config = options and options.get("config")
    disabled = options and options.get("disabled_optimizers")
    of_providers = requires.get("provider_options")
    return Requirements(
        versions=versions.texts_by_name() if versions else {},
        cpu_flags=frozenset(flag.text() for flag in flags or ()),
        session_config=config.texts_by_name() if config else {},
        session_config_without_vnni=without_vnni.texts_by_name() if without_vnni else {},
        disabled_optimizers=tuple(name.text() for name in disabled or ()),
        provider_options=dict(of_providers.items()) if of_providers else {},
    )


class _Value:
    """A value of the manifest, and the place where it stands."""

    def __init__(self, value: Any, place: str) -> None:
        self.value = value
        self._place = place

    def __getitem__(self, name: str) -> _Value:
        found = self.get(name)
        if found is None:
            raise BundleError(
                f"{MANIFEST} lacks {self._inside(name)}; "
                "give what `exporter pack --format bundle` wrote, not the build folder"
            )
        return found

    def get(self, name: str) -> _Value | None:
        """A field of an object; None where it has no such field."""
        if not isinstance(self.value, dict):
            raise self.unfit("an object")
        return _Value(self.value[name], self._inside(name)) if name in self.value else None

    def __iter__(self) -> Iterator[_Value]:
        if not isinstance(self.value, list):
            raise self.unfit("a list")
        for index, item in enumerate(self.value):
            yield _Value(item, f"{self._place}[{index}]")

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.unfit("a text")
        return self.value

    def one_of(self, *known: str) -> str:
        if self.value not in known:
            raise self.unfit(" or ".join(known))
        return self.text()

    def flag(self) -> bool:
        if not isinstance(self.value, bool):
            raise self.unfit("true or false")
        return self.value

    def number(self) -> float:
        is_number = isinstance(self.value, int | float) and not isinstance(self.value, bool)
        if not is_number or not abs(self.value) <= sys.float_info.max:  # nor is NaN
            raise self.unfit("a finite number")
        return float(self.value)

    def lengths(self) -> int | tuple[int, int]:
        """A number of pixels, or (height, width)."""
        if not isinstance(self.value, list):
            return self.whole(LARGEST_SIDE)
        lengths = [item.whole(LARGEST_SIDE) for item in self]
        if len(lengths) != 2:
            raise self.unfit("a number of pixels, or two")
        return lengths[0], lengths[1]

    def whole(self, largest: int = sys.maxsize) -> int:
        if type(self.value) is not int or not 1 <= self.value <= largest:
            raise self.unfit(f"a whole number, 1 to {largest}")
        return self.value

    def channels(self) -> tuple[float, ...]:
        values = tuple(item.number() for item in self)
        if len(values) not in (1, 3):
            raise self.unfit("a number for each of 1 or 3 channels")
        return values

    def items(self) -> Iterator[tuple[str, Mapping[str, str]]]:
        """The fields of an object, each an object of texts."""
        if not isinstance(self.value, dict):
            raise self.unfit("an object")
        for name, item in self.value.items():
            yield name, _Value(item, self._inside(name)).texts_by_name()

    def texts_by_name(self) -> Mapping[str, str]:
        if not isinstance(self.value, dict):
            raise self.unfit("an object")
        return {name: _Value(item, self._inside(name)).text() for name, item in self.value.items()}

    def unfit(self, expected: str) -> BundleError:
        shown = repr(self.value)
        shown = shown if len(shown) < 60 else f"{shown[:57]}..."
        return BundleError(
            f"{MANIFEST}: {self._place or 'all of it'} is {shown}, expected {expected}; "
            "pack the build again"
        )

    def _inside(self, name: str) -> str:
        return f"{self._place}.{name}" if self._place else name
