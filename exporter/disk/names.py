"""Names of files that every library can open, and that a manifest can hold."""

from __future__ import annotations

import os
from pathlib import Path

from exporter.errors import InputError


def check_name(name: str | Path) -> None:
    """Refuses a name that is not UTF-8, as those on a disk that was written in Latin-1.

    Raises:
        InputError: it is not.
    """
    try:
        str(name).encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{os.fsencode(name)!r} is not UTF-8, the encoding of manifests and ONNX Runtime; "
            "rename it, or link to it under another name"
        ) from None
