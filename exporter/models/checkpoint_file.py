"""A checkpoint's file: what it is told by its content, and read so that nothing in it is executed.

Its name may end in anything. It is a safetensors file, or what `torch.save` wrote; the latter is
read with `weights_only=True`, which makes tensors and plain values, and beside them only the types
of `INERT`, which training scripts keep their settings and figures in.
"""

from __future__ import annotations

import argparse
import pathlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy._core.multiarray import scalar
from torch import Tensor

from exporter.errors import InputError
from exporter.models.describe import one_line

SEPARATOR: Final = "::"
"""What stands between a file and the place of the weights in it: `run.ckpt::state_dict_ema`."""
INERT: Final[list[Callable[..., object] | tuple[Callable[..., object], str]]] = [
    argparse.Namespace,
    pathlib.PosixPath,
    np.dtype,
    type(np.dtype(np.float64)),
    type(np.dtype(np.float32)),
    type(np.dtype(np.int64)),
    scalar,
    (scalar, "numpy.core.multiarray.scalar"),  # written by numpy 1
]
"""Types that hold values and run nothing, whatever a file says of them."""
_HEADER: Final = 8
"""A safetensors file begins with the length of its header, in so many bytes, and the header."""
_NOT_THE_FILE: Final = {
    b"version ": "a pointer of Git LFS in the weights' place; fetch them with git lfs pull",
    b"<": "a web page in the weights' place; download the file that it links to",
}
"""What a download may leave where the weights should be, by what it begins with."""


@dataclass(frozen=True)
class WeightsFile:
    """What `--weights` names."""

    path: Path
    place: str = ""
    """Where in it the weights are, as in "state_dict_ema"; "": wherever they fit."""

    @classmethod
    def of(cls, given: str) -> WeightsFile:
        """From FILE or FILE::PLACE."""
        file, separator, place = given.rpartition(SEPARATOR)
        return cls(Path(file), place) if separator and file else cls(Path(given))

    @property
    def label(self) -> str:
        """What is recorded of it: no folder of this machine."""
        return f"{self.path.name}{SEPARATOR}{self.place}" if self.place else self.path.name


def is_checkpoint(path: Path) -> bool:
    """Whether a file has the form of one that holds weights: safetensors, or of `torch.save`."""
    try:
        with path.open("rb") as stream:
            start = stream.read(_HEADER + 1)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return any(name.endswith("/data.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False
    return _is_safetensors(start) or start.startswith(b"\x80")


def read_checkpoint(path: Path) -> Mapping[str, object]:
    """Everything in a checkpoint: tensors by name, and mappings that hold such.

    Raises:
        InputError: missing, truncated, not a checkpoint, or holding code to execute.
    """
    if not path.is_file():
        raise InputError(
            f"--weights {path}: no such file; give a checkpoint (PyTorch, safetensors)"
        )
    with path.open("rb") as stream:
        start = stream.read(_HEADER + 1)
    for sign, instead in _NOT_THE_FILE.items():
        if start.startswith(sign):
            raise InputError(f"{path} is {instead}")
    return _read_safetensors(path) if _is_safetensors(start) else _read_pickle(path)


def _is_safetensors(start: bytes) -> bool:
    return start[_HEADER:] == b"{"


def _read_safetensors(path: Path) -> Mapping[str, Tensor]:
    from safetensors.torch import load_file

    try:
        content: Mapping[str, Tensor] = load_file(path)
    except Exception as error:  # its own kind, OSError, or what building the tensors raises
        raise InputError(f"{path} is not a whole safetensors file ({one_line(error)})") from None
    return content


def _read_pickle(path: Path) -> Mapping[str, object]:
    _check_crc(path)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(INERT):
            # What it warns of (an unusual pickle protocol) is either fine or an error below.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # PyTorch's message begins with how to execute the file after all; ours must not.
        reason = str(error).rpartition("WeightsUnpickler error:")[2].partition("Check the docu")[0]
        found = re.search(r"GLOBAL (\S+)", reason)
        what = found[1] if found else " ".join(reason.split())[:100]
        raise InputError(
            f"{path} is damaged or holds Python objects that loading would execute ({what}); "
            "it was refused: save the state dict alone, torch.save(model.state_dict(), path)"
        ) from None
    except Exception as error:  # a damaged pickle raises anything: IndexError, struct.error, ...
        raise InputError(f"{path} {_what_else(one_line(error))}") from None
    if isinstance(content, Mapping):
        return content
    raise InputError(f"{path} holds a {type(content).__name__}, expected a state dict")


def _what_else(reason: str) -> str:
    """What a file is that `torch.load` does not take."""
    for sign, kind in (
        ("TorchScript", "a TorchScript program"),
        ("legacy .tar", "in the form of PyTorch before 0.2"),
        ("data.pkl", "a zip archive without a state dict (a program of torch.export?)"),
    ):
        if sign in reason:
            return (
                f"is {kind}, expected weights; save them with torch.save(model.state_dict(), path)"
            )
    return f"is truncated or not a checkpoint of PyTorch or safetensors ({reason})"


def _check_crc(path: Path) -> None:
    """PyTorch writes a checksum with each tensor and never reads it: a flipped bit would load."""
    try:
        if not zipfile.is_zipfile(path):  # the form from before PyTorch 1.6 has none
            return
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:  # zipfile raises its own, zlib's, NotImplementedError, ...
        raise InputError(f"{path} is truncated or damaged ({one_line(error)})") from None
    if damaged is not None:
        raise InputError(f"{path} is damaged: the checksum of {damaged} fails; copy it once more")
