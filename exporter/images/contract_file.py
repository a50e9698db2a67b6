"""A contract in a JSON file: our own words, Hugging Face's image processors, or timm's."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from exporter.artifact import Channels, Interpolation
from exporter.errors import UsageError
from exporter.images.contract import GivenPreprocessing

_PILLOW: Final = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box"}
"""Pillow's numbers of its filters, which Hugging Face's files hold."""
_SQUASHED_FROM: Final = 384
"""From this size on ConvNext's processor (ResNets use it) resizes both sides and does not crop."""


def read_contract(given: Path | Mapping[str, Any]) -> GivenPreprocessing:
    """What a JSON file, or what it holds, says of the preprocessing.

    Three kinds are known: `{"mean": [...], "std": [...], "resize": 256, ...}` with the names of the
    options; a `preprocessor_config.json` of transformers; a `config.json` of timm.

    Raises:
        UsageError: it cannot be read, is of none of these kinds, or says what is not done here.
    """
    if isinstance(given, Mapping):
        return _read(given, "preprocessing")
    name = f"--preprocessing {given}"
    try:
        content = json.loads(given.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name} is not JSON ({error})") from None
    return _read(content, name)


def timm_contract(config: Mapping[str, Any], size: int) -> GivenPreprocessing | str:
    """The evaluation transform of timm in our terms at an image size, or why there is none."""
    filter_, mode = str(config["interpolation"]), str(config.get("crop_mode") or "center")
    resized = math.floor(size / float(config.get("crop_pct") or 0.875))
    kinds = {str(kind) for kind in Interpolation} - {Interpolation.NONE}
    if mode not in ("center", "squash") or filter_ not in kinds:
        return f"{mode} crop and {filter_} interpolation, which this tool does not do"
    return GivenPreprocessing(
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        resize=(resized,) if mode == "center" else (resized, resized),
        crop=(size,),
        interpolation=Interpolation(filter_),
    )


def _read(content: object, name: str) -> GivenPreprocessing:
    if not isinstance(content, Mapping):
        raise UsageError(f"{name}: expected an object with mean, std, resize and the like")
    try:
        if "image_mean" in content or "image_processor_type" in content:
            return _of_transformers(content)
        if "pretrained_cfg" in content or "crop_pct" in content:
            return _of_timm(content.get("pretrained_cfg") or content)
        return _own(content)
    except (TypeError, ValueError, KeyError) as error:
        what = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise UsageError(f"{name}: {' '.join(what.split())}") from None


def _own(content: Mapping[str, Any]) -> GivenPreprocessing:
    unknown = sorted(set(content) - set(GivenPreprocessing.__dataclass_fields__))
    if unknown:
        raise ValueError(
            f"unknown key {unknown[0]!r}; known: "
            f"{', '.join(GivenPreprocessing.__dataclass_fields__)}"
        )
    filter_, channels = content.get("interpolation"), content.get("channels")
    return GivenPreprocessing(
        mean=_numbers(content, "mean"),
        std=_numbers(content, "std"),
        resize=_lengths(content, "resize"),
        crop=_lengths(content, "crop"),
        interpolation=None if filter_ is None else Interpolation(filter_),
        channels=None if channels is None else Channels(channels),
        pixel_range=content.get("pixel_range"),
        exif_orientation=_flag(content, "exif_orientation"),
    )


def _of_timm(content: Mapping[str, Any]) -> GivenPreprocessing:
    found = timm_contract(content, int(content["input_size"][-1]))
    if isinstance(found, str):
        raise ValueError(found)
    return found


def _of_transformers(content: Mapping[str, Any]) -> GivenPreprocessing:
    """Image processors of transformers: each step has a switch, which is on where it is missing."""
    normalised = content.get("do_normalize", True)
    size = content.get("size", {})
    crop: tuple[int, ...] = ()
    if content.get("crop_pct") is not None:
        side = int(size["shortest_edge"] if isinstance(size, Mapping) else size)
        whole = side >= _SQUASHED_FROM
        resize: tuple[int, ...] = (
            (side, side) if whole else (int(side / float(content["crop_pct"])),)
        )
        crop = (side,)
    else:
        resize = _edges(size)
        if content.get("do_center_crop", "crop_size" in content):
            crop = _edges(content.get("crop_size", {}))
    resample = content.get("resample", 2)
    if resample not in _PILLOW:
        raise ValueError(
            f"resample is {resample!r}, expected one of {', '.join(map(str, _PILLOW))}"
        )
    return GivenPreprocessing(
        mean=_numbers(content, "image_mean") if normalised else (0.0,),
        std=_numbers(content, "image_std") if normalised else (1.0,),
        resize=resize if content.get("do_resize", True) else (),
        crop=crop,
        interpolation=Interpolation(_PILLOW[resample]),
        pixel_range=1 if content.get("do_rescale", True) else 255,
    )


def _edges(size: object) -> tuple[int, ...]:
    """Sizes of transformers: a number, {"shortest_edge": n}, or {"height": h, "width": w}."""
    if not isinstance(size, Mapping):
        return (int(size),)  # type: ignore[call-overload]
    if "shortest_edge" in size:
        return (int(size["shortest_edge"]),)
    return (int(size["height"]), int(size["width"])) if "height" in size else ()


def _flag(content: Mapping[str, Any], key: str) -> bool:
    """On where nothing is said."""
    value = content.get(key, True)
    if not isinstance(value, bool):
        raise ValueError(f"{key} is {value!r}, expected true or false")
    return value


def _numbers(content: Mapping[str, Any], key: str) -> tuple[float, ...]:
    value = content.get(key, ())
    values = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(one, int | float) and not isinstance(one, bool) for one in values):
        raise ValueError(f"{key} is {value!r}, expected numbers")
    return tuple(float(one) for one in values)


def _lengths(content: Mapping[str, Any], key: str) -> tuple[int, ...]:
    value = content.get(key)
    values = [] if value is None else value if isinstance(value, list | tuple) else [value]
    if not all(type(one) is int for one in values):
        raise ValueError(f"{key} is {value!r}, expected pixels: 256 or [height, width]")
    return tuple(values)
