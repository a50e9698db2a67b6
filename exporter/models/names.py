"""A model's name, from what `MODEL` says: it names the build's default folder and its files."""

from __future__ import annotations

import re
from pathlib import Path

from exporter.artifact import Pixels


def model_name(source: str) -> str:
    """The name of the model that `source` names, known before the model is.

    >>> model_name("timm:resnet10t.c3_in1k"), model_name("nets.thin:Thin"), model_name("a/b 1.onnx")
    ('resnet10t.c3_in1k', 'Thin', 'b_1')
    """
    # In either case a name that is safe in file names on every system.
    if is_onnx(source):
        return re.sub(r"[^A-Za-z0-9._-]+", "_", Path(source).stem).strip("._") or "model"
    return re.sub(r"[^A-Za-z0-9._-]+", "-", source.rpartition(":")[2]).strip("-.") or "model"


def height_width(size: Pixels) -> tuple[int, int]:
    """(height, width) of an image size, which is one number where the two are the same."""
    return size if isinstance(size, tuple) else (size, size)


def is_onnx(source: str) -> bool:
    """Whether a model is the path of an ONNX file, by its ending."""
    return source.lower().endswith(".onnx")
