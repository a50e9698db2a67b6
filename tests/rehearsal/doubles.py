"""Objects of TensorRT that take exactly the calls that one version's bindings take.

The classes are read from stubs that were generated from the bindings. A name that a class lacks, an
argument that a method lacks or that is of another type raises what the bindings raise; what is
returned is another double, or a value that ANSWERS holds. Enums, callbacks and loggers are real.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import tensorrt as trt

CLASSES: Final[Mapping[str, Any]] = dict(vars(trt))
"""TensorRT's names as they were when this was imported: some are then replaced by doubles."""
SHAPE: Final = (-1, 3, 8, 8)
NAMES: Final = ("image", "logits")


def allocate(name: str, allocator: Any) -> bool:
    """What TensorRT does with an output's allocator while it runs."""
    allocator.reallocate_output(name, 0, 4 * 3 * 8 * 8, 256)
    allocator.notify_shape(name, trt.Dims((1, *SHAPE[1:])))
    return True


ANSWERS: Final[Mapping[tuple[str, str], Any]] = {
    ("INetworkDefinition", "num_inputs"): 1,
    ("INetworkDefinition", "num_outputs"): 1,
    ("ITensor", "name"): NAMES[0],
    ("ITensor", "shape"): trt.Dims(SHAPE),
    ("ITensor", "is_shape_tensor"): False,
    ("OnnxParser", "num_errors"): 0,
    ("ICudaEngine", "num_io_tensors"): 2,
    ("ICudaEngine", "num_optimization_profiles"): 2,
    ("ICudaEngine", "get_tensor_name"): lambda index: NAMES[index],
    ("ICudaEngine", "get_tensor_mode"): lambda name: list(
        trt.TensorIOMode.__members__.values()
    )[1 + NAMES.index(name)],
    ("ICudaEngine", "get_tensor_profile_shape"): lambda _name, index: [
        (1, 3, 8, 8), (1, 3, 8, 8), ((1, 32)[index], 3, 8, 8)
    ],
    ("ICudaEngine", "get_tensor_dtype"): lambda _name: trt.DataType.FLOAT,
    ("ICudaEngine", "is_shape_inference_io"): lambda _name: False,
    ("ICudaEngine", "get_tensor_format"): lambda *_: trt.TensorFormat.LINEAR,
    ("ICudaEngine", "get_tensor_shape"): lambda _name: trt.Dims(SHAPE),
    ("IExecutionContext", "set_output_allocator"): allocate,
    ("EngineInspector", "get_engine_information"): lambda *_: '{"Layers": [], "I/O Tensors": []}',
    ("ITensor", "dtype"): trt.DataType.FLOAT,
}  # fmt: skip
PLAIN: Final[Mapping[str, tuple[tuple[type, ...], Any]]] = {
    "int": ((int,), 1),
    "typing.SupportsInt": ((int,), 1),
    "typing.SupportsIndex": ((int,), 1),
    "float": ((int, float), 1.0),
    "typing.SupportsFloat": ((int, float), 1.0),
    "bool": ((bool,), True),
    "str": ((str,), "name"),
    "tuple": ((tuple,), (1,)),
    "typing_extensions.Buffer": ((bytes, bytearray), b""),
    "None": ((type(None),), None),
}
"""An annotation -> the types that it takes, and what stands for a value of it."""


@dataclass(frozen=True)
class Class:
    """A class of the bindings."""

    attributes: dict[str, str] = field(default_factory=dict)
    """Name -> annotation; of properties, too."""
    methods: dict[str, list[ast.FunctionDef]] = field(default_factory=dict)
    """Name -> its overloads."""
    settable: set[str] = field(default_factory=set)
    bases: tuple[str, ...] = ()


def read_classes(stubs: Path) -> dict[str, Class]:
    """The classes in a stub file."""
    classes = {}
    for node in ast.parse(stubs.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            classes[node.name] = _class(node)
    return classes


def _class(node: ast.ClassDef) -> Class:
    found = Class(bases=tuple(ast.unparse(base) for base in node.bases))
    for item in node.body:
        if isinstance(item, ast.AnnAssign):
            found.attributes[ast.unparse(item.target)] = ast.unparse(item.annotation)
            found.settable.add(ast.unparse(item.target))
        elif isinstance(item, ast.FunctionDef):
            marks = {ast.unparse(mark) for mark in item.decorator_list}
            if "property" in marks:
                found.attributes[item.name] = ast.unparse(item.returns) if item.returns else "..."
            elif f"{item.name}.setter" in marks:
                found.settable.add(item.name)
            else:
                found.methods.setdefault(item.name, []).append(item)
    return found


class Double:
    """An object of a class of the bindings."""

    def __init__(self, name: str, classes: Mapping[str, Class]) -> None:
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_classes", classes)

    @property
    def __class__(self) -> Any:
        return CLASSES[self._name]

    @__class__.setter
    def __class__(self, _other: object) -> None:
        raise TypeError("a double stays what it is")

    def _find(self, member: str, kind: str) -> Any:
        names = [self._name]
        for name in names:
            known = self._classes.get(name, Class())
            if member in getattr(known, kind):
                return getattr(known, kind)[member] if kind != "settable" else True
            names += known.bases
        return None

    def __getattr__(self, member: str) -> Any:
        overloads = self._find(member, "methods")
        if overloads:
            return lambda *args, **named: self._call(member, overloads, args, named)
        annotation = self._find(member, "attributes")
        if annotation is None:
            raise AttributeError(f"{self._name!r} object has no attribute {member!r}")
        known = ANSWERS.get((self._name, member))
        return known if known is not None else value_of(annotation, self._classes)

    def __setattr__(self, member: str, value: object) -> None:
        annotation = self._find(member, "attributes")
        if annotation is None or not self._find(member, "settable"):
            raise AttributeError(f"{self._name!r} object has no attribute {member!r} to set")
        if not fits(value, annotation, self._classes):
            raise TypeError(f"{self._name}.{member} is a {annotation}, not {value!r}")

    def _call(
        self,
        member: str,
        overloads: Sequence[ast.FunctionDef],
        args: Sequence[Any],
        named: Mapping[str, Any],
    ) -> Any:
        for function in overloads:
            if _takes(function, args, named, self._classes):
                known = ANSWERS.get((self._name, member))
                if known is not None:
                    return known(*args, *named.values())
                returned = ast.unparse(function.returns) if function.returns else "None"
                return value_of(returned, self._classes)
        raise TypeError(f"{self._name}.{member}(): incompatible arguments {args} {dict(named)}")

    # What Python looks up on the type, not on the object.
    def __iter__(self) -> Iterator[Any]:
        assert self._name == "INetworkDefinition"
        return iter([Double("ILayer", self._classes)])

    def __enter__(self) -> Any:
        assert self._find("__enter__", "methods")
        return b"" if self._name == "IHostMemory" else self

    def __exit__(self, *_: object) -> None:
        assert self._find("__exit__", "methods")

    def __bytes__(self) -> bytes:
        assert self._name == "IHostMemory"
        return b"plan"


def _takes(
    function: ast.FunctionDef,
    args: Sequence[Any],
    named: Mapping[str, Any],
    classes: Mapping[str, Class],
) -> bool:
    every = function.args.posonlyargs + function.args.args
    parameters = every if "staticmethod" in map(ast.unparse, function.decorator_list) else every[1:]
    given = dict(zip([one.arg for one in parameters], args, strict=False))
    required = parameters[: len(parameters) - len(function.args.defaults)]
    if len(args) > len(parameters) or given.keys() & named.keys():
        return False
    given |= named
    known = {one.arg: one for one in parameters}
    if given.keys() - known.keys() or {one.arg for one in required} - given.keys():
        return False
    return all(
        fits(value, ast.unparse(known[name].annotation or ast.Constant(...)), classes)
        for name, value in given.items()
    )


def fits(value: object, annotation: str, classes: Mapping[str, Class]) -> bool:
    """Whether a value can be given for an annotation; unknown annotations take anything."""
    if annotation in PLAIN:
        return isinstance(value, PLAIN[annotation][0])
    if annotation == "Dims" and isinstance(value, tuple | list):
        return True  # which pybind11 makes into one
    if annotation in classes:
        return value is None or isinstance(value, CLASSES[annotation])
    if " | " in annotation:
        return any(fits(value, part, classes) for part in annotation.split(" | "))
    return True


def value_of(annotation: str, classes: Mapping[str, Class]) -> Any:
    """What stands for a value of an annotation."""
    if annotation in PLAIN:
        return PLAIN[annotation][1]
    if annotation in classes:
        cls = CLASSES[annotation]
        if annotation == "Dims":
            return cls((1, *SHAPE[1:]))
        members = getattr(cls, "__members__", None)
        return next(iter(members.values())) if members else Double(annotation, classes)
    return None
