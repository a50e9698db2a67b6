"""The same few pictures in every form that is read."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from exporter.images.embedded import DIGITS

ALL = tuple(range(40))


def png(number: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(DIGITS.splits()[1].images[number % 540]).convert("RGB").save(stream, "PNG")
    return stream.getvalue()


def label(number: int) -> str:
    return str(DIGITS.splits()[1].labels[number % 540])


def folder(uri: str, numbers: tuple[int, ...] = ALL, classes: bool = True) -> str:
    system, root = fsspec.core.url_to_fs(uri)
    for number in numbers:
        below = f"{label(number)}/" if classes else ""
        system.makedirs(f"{root}/{below}".rstrip("/"), exist_ok=True)
        system.pipe_file(f"{root}/{below}{number:04}.png", png(number))
    return uri


def listed(uri: str, pictures: str, numbers: tuple[int, ...] = ALL) -> str:
    lines = [f"{pictures}/{number:04}.png,{label(number)}" for number in numbers]
    write(uri, "\n".join(["path,label", *lines, ""]).encode())
    return uri


def parquet(uri: str, numbers: tuple[int, ...] = ALL, **columns: Any) -> str:
    table = pa.table(
        {
            "image": [{"bytes": png(number), "path": f"{number:04}.png"} for number in numbers],
            "label": [int(label(number)) for number in numbers],
            **columns,
        }
    )
    stream = io.BytesIO()
    pq.write_table(table, stream, row_group_size=16)
    write(uri, stream.getvalue())
    return uri


def tar(uri: str, numbers: tuple[int, ...] = ALL, classes: bool = True) -> str:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as into:
        for number in numbers:
            members = {"png": png(number)} | ({"cls": label(number).encode()} if classes else {})
            for extension, content in members.items():
                member = tarfile.TarInfo(f"{number:04}.{extension}")
                member.size = len(content)
                into.addfile(member, io.BytesIO(content))
    write(uri, stream.getvalue())
    return uri


def write(uri: str, content: bytes) -> None:
    if "://" not in uri:
        Path(uri).parent.mkdir(parents=True, exist_ok=True)
    with fsspec.open(uri, "wb") as stream:
        stream.write(content)


def rotated_jpeg(path: Path) -> np.ndarray[Any, Any]:
    """A picture that EXIF turns by a quarter; its upright pixels are returned."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16] = 255
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(path, quality=100, exif=exif)
    return np.rot90(pixels, -1)
