"""The weights of an ONNX file made elsewhere: read from beside it where they are, and checked.

Nothing here trusts the file: names of external files may point anywhere, sizes may lie.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
from onnx import TensorProto

from exporter.errors import InputError
from exporter.models.onnx_format import LARGEST_BYTES


def tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Every constant of the graph: initializers and those in attributes."""
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def inline_external_data(model: onnx.ModelProto, folder: Path, name: str) -> bool:
    """Reads external weights into the model; whether there were any.

    Raises:
        InputError: a path that leaves the folder of the model, a missing file, a range outside it.
    """
    found = False
    total = 0
    for tensor in tensors(model):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        found = True
        content = _external_bytes(tensor, folder, name, LARGEST_BYTES - total)
        total += len(content)
        tensor.raw_data = content
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]
    return found


def _external_bytes(tensor: TensorProto, folder: Path, name: str, room: int) -> bytes:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    path = _inside(folder, location, f"{name}: the data of {tensor.name!r}")
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", -1))
    except ValueError:
        raise InputError(f"{name}: offset or length of {tensor.name!r} is not a number") from None
    size = path.stat().st_size
    length = size - offset if length < 0 else length
    if offset < 0 or length < 0 or offset + length > size:
        raise InputError(
            f"{name}: the data of {tensor.name!r} is outside {location} ({size} bytes); "
            "the file is truncated or belongs to another model"
        )
    if length > room:
        raise InputError(f"{name} has more than 2 GiB of weights; one ONNX file cannot hold them")
    with path.open("rb") as stream:
        stream.seek(offset)
        return stream.read(length)


def _inside(folder: Path, location: str, what: str) -> Path:
    """The regular file that `location` names under `folder`, symbolic links followed."""
    parts = (*PurePosixPath(location).parts, *PureWindowsPath(location).parts)
    rooted = location.startswith(("/", "\\")) or PureWindowsPath(location).drive
    outside = InputError(
        f"{what} is said to be in {location!r}, outside the model's folder; it is not read"
    )
    if not location or "\0" in location or rooted or ".." in parts:
        raise outside
    path = (folder / location).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise outside
    if not path.is_file():
        raise InputError(f"{what} is in {location!r}, which is missing; put it beside the model")
    return path


def check_tensors(model: onnx.ModelProto, name: str) -> None:
    """Raises InputError for a constant whose data does not fill its shape."""
    for tensor in tensors(model):
        if any(size < 0 for size in tensor.dims) or math.prod(tensor.dims) > LARGEST_BYTES:
            raise InputError(
                f"{name}: the weight {tensor.name!r} has the impossible shape {list(tensor.dims)}"
            )
        try:
            onnx.numpy_helper.to_array(tensor)
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{name}: the data of the weight {tensor.name!r} does not fill its shape "
                f"{list(tensor.dims)}; the file is damaged ({error})"
            ) from None
