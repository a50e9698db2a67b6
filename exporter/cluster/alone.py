"""One measurement at a time on a machine, whoever started the others.

Ray keeps a node for one task; but two nodes may be one machine (containers, a cluster for a test),
and two programs may measure. A lock of the file system goes with the process that holds it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

LOCK: Final = "resnet-exporter-measuring.lock"


@contextmanager
def alone_on_machine() -> Iterator[None]:
    """Waits until nobody else of this package has the machine.

    Where the system has no such lock, or no folder for it, there is nobody to wait for.
    """
    descriptor = _locked(Path(tempfile.gettempdir()) / LOCK)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _locked(path: Path) -> int | None:
    """The file, locked and open to read: that is enough, and another user's may be read."""
    try:
        import fcntl

        make = 0 if path.exists() else os.O_CREAT
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | make, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except (ImportError, OSError):
        return None
    return descriptor
