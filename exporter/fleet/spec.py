"""SPEC.yaml of `exporter sweep`: models x precisions x targets x hardware, read strictly.

models: [resnet18, {model: resnet50, weights: mine.pth}]   # options of `export`, beside it
precisions: [fp32, int8]
targets: [ort-cpu, openvino]
hardware:                        # left out: every kind of node that there is
  zen4: {flags: [avx512_vnni], cores: 16}
  l4: {gpu: L4, targets: [tensorrt], options: {batches: [1, 32]}}
options: {rounds: 30, batches: [1, 8]}   # of `export`, for all
prices: {zen4: 0.34, l4: 0.71}   # of a machine for an hour
limits: {p99_ms: 20, drop: 1%}
store: s3://bucket/sweep         # left out: in --out
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from exporter.builds import converters
from exporter.builds.option import declarations, refuse_unusable
from exporter.builds.request import ExportRequest
from exporter.errors import (
    InputError,
    MissingDependencyError,
    UsageError,
    install_command,
    unknown_name,
)
from exporter.fleet.record import Limits
from exporter.models.names import is_onnx, model_name
from exporter.runtime.errors import reason_of
from exporter.targets import target_class

_KEYS: Final = (
    "models", "precisions", "targets", "hardware", "options", "prices", "limits", "store",
)  # fmt: skip
_HARDWARE_KEYS: Final = (
    "cpu",
    "flags",
    "gpu",
    "cores",
    "labels",
    "targets",
    "precisions",
    "options",
)
_NOT_OPTIONS: Final = ("source", "targets", "precisions", "out")
"""Of `export`: they have places of their own in the file."""
FILES: Final = ("weights", "data", "preprocessing")
"""Options that may name a file."""


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """A kind of machine, and what is built on it where that is not what is built on all."""

    name: str
    cpu: str = ""
    """A part of the CPU's name, in any case; `gpu` likewise."""
    gpu: str = ""
    flags: tuple[str, ...] = ()
    cores: int | None = None
    """Threads that an engine uses there, exactly."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Of the cluster's node."""
    targets: tuple[str, ...] | None = None
    precisions: tuple[str, ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class NamedModel:
    """A model as the sweep calls it, with what `export` is told of it."""

    name: str
    source: str
    options: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A sweep as it was asked for, checked as far as that can be done without the machines."""

    name: str
    models: tuple[NamedModel, ...]
    targets: tuple[str, ...]
    precisions: tuple[str, ...]
    hardware: tuple[Hardware, ...]
    """Empty: every kind of node that there is."""
    options: Mapping[str, Any]
    prices: Mapping[str, float]
    limits: Limits
    store: str | None

    def request_for(self, model: NamedModel, hardware: Hardware) -> ExportRequest:
        """What `export` is asked for, without where the build goes.

        Raises:
            UsageError: an option has a value that it cannot have.
        """
        targets = self.targets if hardware.targets is None else hardware.targets
        precisions = self.precisions if hardware.precisions is None else hardware.precisions
        try:
            request = ExportRequest(
                model.source,
                targets=targets,
                precisions=precisions,
                **{**self.options, **hardware.options, **model.options},
            )
            refuse_unusable(request)
        except TypeError as error:  # of a converter, which got a mapping or a list
            raise UsageError(f"an option has a value of the wrong kind: {error}") from None
        return request


def read_spec(path: Path) -> Spec:
    """The sweep in a file.

    Raises:
        MissingDependencyError: PyYAML is not installed.
        InputError: no such file, no YAML, an unknown key, or a value that does not fit; the message
            names the place.
    """
    content = _parsed(path)
    try:
        return _spec(content, path)
    except InputError:
        raise
    except UsageError as error:
        raise InputError(f"{path}: {error}") from None


def _spec(content: Any, path: Path) -> Spec:
    given = _mapping(content, "the file", _KEYS)
    if not given.get("models"):
        raise UsageError("it names no models; give models: [resnet50, ...]")
    models = [_model(one) for one in _list(given["models"], "models")]
    names = [model.name for model in models]
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise UsageError(f"two models are called {doubled}; give one of them a name: of its own")
    hardware = tuple(
        _hardware(str(name), one)
        for name, one in _mapping(given.get("hardware", {}), "hardware").items()
    )
    spec = Spec(
        name=path.stem,
        models=tuple(models),
        targets=_targets(given.get("targets", [])),
        precisions=_precisions(given.get("precisions", [])),
        hardware=hardware,
        options=_options(given.get("options", {}), "options"),
        prices=_prices(given.get("prices", {}), hardware),
        limits=_limits(given.get("limits", {})),
        store=None if given.get("store") is None else str(given["store"]),
    )
    for model in spec.models:
        for one in spec.hardware or (Hardware(name=""),):
            spec.request_for(model, one)
    return spec


def _parsed(path: Path) -> Any:
    try:
        import yaml
    except ModuleNotFoundError:
        raise MissingDependencyError(
            f"{path} is read by PyYAML, which is not installed; run: {install_command('sweep')}"
        ) from None

    class Strict(yaml.SafeLoader):
        """YAML takes the last of two equal keys; here that is a slip."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            doubled = next((key for key in keys if keys.count(key) > 1), None)
            if doubled is not None:
                line = node.start_mark.line + 1
                raise UsageError(f"{doubled!r} stands twice in what begins at line {line}")
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(path.read_text(encoding="utf-8"), Strict)  # noqa: S506 # a SafeLoader
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except UsageError as error:
        raise InputError(f"{path}: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid YAML ({reason_of(error)})") from None


def _model(given: Any) -> NamedModel:
    if isinstance(given, str):
        return NamedModel(model_name(given), _found(given), {})
    options = dict(_mapping(given, "a model"))
    source, name = options.pop("model", None), options.pop("name", None)
    if not isinstance(source, str):
        raise UsageError("a model of several lines says which: {model: resnet50, ...}")
    return NamedModel(
        str(name or model_name(source)), _found(source), _options(options, f"model {source}")
    )


def _found(source: str) -> str:
    """An ONNX file by its whole path: a node has another working directory."""
    return str(Path(source).absolute()) if is_onnx(source) else source


def _options(given: Any, where: str) -> Mapping[str, Any]:
    """Options of `export` by their names in a program; local files by their whole paths."""
    known = {one.name: one for one in declarations(ExportRequest) if one.name not in _NOT_OPTIONS}
    found = {}
    for name, value in _mapping(given, where).items():
        if name not in known:
            raise unknown_name(f"option in {where}", str(name), known)
        is_file = name in FILES and isinstance(value, str)
        found[name] = _whole_path(value) if is_file else value
    return found


def _whole_path(text: str) -> str:
    """A file that is here by its whole path; what is no file stays what it is."""
    file = text.partition("::")[0]
    return str(Path(file).absolute()) + text[len(file) :] if Path(file).exists() else text


def _hardware(name: str, given: Any) -> Hardware:
    where = f"hardware {name}"
    found = _mapping(given or {}, where, _HARDWARE_KEYS)
    cores = found.get("cores")
    if cores is not None and (isinstance(cores, bool) or not isinstance(cores, int) or cores < 1):
        raise UsageError(f"{where}: cores is {cores!r}; give a whole number of at least 1")
    labels = _mapping(found.get("labels", {}), f"labels of {where}")
    return Hardware(
        name=name,
        cpu=_text(found.get("cpu", ""), f"cpu of {where}"),
        gpu=_text(found.get("gpu", ""), f"gpu of {where}"),
        flags=converters.words(_list(found.get("flags", []), f"flags of {where}")),
        cores=cores,
        labels={str(key): str(value) for key, value in labels.items()},
        targets=_targets(found["targets"]) if "targets" in found else None,
        precisions=_precisions(found["precisions"]) if "precisions" in found else None,
        options=_options(found.get("options", {}), f"options of {where}"),
    )


def _targets(given: Any) -> tuple[str, ...]:
    names = converters.words(_list(given, "targets"))
    for name in names:
        target_class(name)
    return names


def _precisions(given: Any) -> tuple[str, ...]:
    return tuple(map(str, converters.precisions(_list(given, "precisions"))))


def _prices(given: Any, hardware: tuple[Hardware, ...]) -> Mapping[str, float]:
    prices = {
        str(name): _positive(price, f"the price of {name}")
        for name, price in _mapping(given, "prices").items()
    }
    names = [one.name for one in hardware]
    for name in prices:
        if name not in names:
            raise unknown_name("hardware in prices", name, names)
    missing = [name for name in names if prices and name not in prices]
    if missing:
        raise UsageError(f"{', '.join(missing)} has no price; give one of each hardware, or none")
    return prices


def _limits(given: Any) -> Limits:
    found = _mapping(given, "limits", ("p99_ms", "drop"))
    p99, drop = found.get("p99_ms"), found.get("drop")
    share = None if drop is None else converters.fraction(drop)
    if share is not None and not 0 <= share < 1:
        raise UsageError(f"limits: drop is {drop!r}; give a share of the images, as in 1%")
    return Limits(None if p99 is None else _positive(p99, "limits: p99_ms"), share)


def _positive(given: Any, what: str) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < 1e12:
        raise UsageError(f"{what} is {given!r}; give a number above 0")
    return float(given)


def _text(given: Any, what: str) -> str:
    if not isinstance(given, str | int):
        raise UsageError(f"{what} is {given!r}; give a text")
    return str(given)


def _list(given: Any, where: str) -> list[Any]:
    if not isinstance(given, list | str):
        raise UsageError(f"{where} is {given!r}; give a list, as in [fp32, int8]")
    return converters.listed(given)


def _mapping(given: Any, where: str, known: tuple[str, ...] | None = None) -> Mapping[Any, Any]:
    if not isinstance(given, Mapping):
        raise UsageError(f"{where} is {given!r}; give keys and values, as in {{rounds: 30}}")
    for key in given:
        if known is not None and key not in known:
            raise unknown_name(f"key in {where}", str(key), known)
    return given
