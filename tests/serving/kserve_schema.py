"""KServe's and Kubernetes' published object models, as a check of a manifest.

Their Python packages are generated from the OpenAPI documents: for each object, `openapi_types`
(field -> type), `attribute_map` (field -> its name in YAML), and setters that refuse None for what
is required. They are read as text, since importing them needs a cluster's worth of packages.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tests.serving.environment import HERE

_PLAIN: Final[Mapping[str, tuple[type, ...]]] = {
    "str": (str,),
    "int": (int,),
    "bool": (bool,),
    "float": (int, float),
    "object": (object,),
}


@dataclass(frozen=True)
class Schema:
    """One object of the API."""

    types: dict[str, str]
    """YAML's name of each field -> its type."""
    required: frozenset[str]


def problems(value: object, kind: str, where: str = "") -> Iterator[str]:
    """What a value violates of a type: "str", "list[V1Container]", "dict(str, str)", an object."""
    if match := re.fullmatch(r"list\[(.+)\]", kind):
        if not isinstance(value, list):
            yield f"{where}: {value!r} is no list"
            return
        for index, item in enumerate(value):
            yield from problems(item, match[1], f"{where}[{index}]")
    elif match := re.fullmatch(r"dict[\[(]str, (.+)[\])]", kind):
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            yield f"{where}: {value!r} is no map of strings"
            return
        for key, item in value.items():
            yield from problems(item, match[1], f"{where}.{key}")
    elif kind in _PLAIN:
        if not isinstance(value, _PLAIN[kind]) or (kind == "int" and isinstance(value, bool)):
            yield f"{where}: {value!r} is no {kind}"
    else:
        yield from _object_problems(value, schema(kind), where)


def _object_problems(value: object, described: Schema, where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where}: {value!r} is no object"
        return
    for name in sorted(described.required - value.keys()):
        yield f"{where}.{name}: missing"
    for name, item in value.items():
        if name not in described.types:
            yield f"{where}.{name}: no such field"
        else:
            yield from problems(item, described.types[name], f"{where}.{name}")


@functools.cache
def schema(name: str) -> Schema:
    """The object of that name, from whichever of the two packages has it."""
    file = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower() + ".py"
    found = [
        path
        for package in ("kserve/models", "kubernetes/client/models")
        for path in HERE.glob(f"lib/python3.*/site-packages/{package}/{file}")
    ]
    if not found:
        raise LookupError(f"no published model of {name} ({file})")
    body = next(
        node
        for node in ast.parse(found[0].read_text()).body
        if isinstance(node, ast.ClassDef) and node.name == name
    )
    literals: dict[str, dict[str, Any]] = {
        target.id: ast.literal_eval(node.value)
        for node in body.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    names = literals["attribute_map"]
    required = re.findall(r"Invalid value for `(\w+)`, must not be `None`", ast.unparse(body))
    return Schema(
        {names[field]: kind for field, kind in literals["openapi_types"].items()},
        frozenset(names[field] for field in required),
    )


def installed() -> bool:
    """Whether both packages are there."""
    return all(
        any(HERE.glob(f"lib/python3.*/site-packages/{name}")) for name in ("kserve", "kubernetes")
    )
