"""OpenVINO without its telemetry.

Importing OpenVINO reports the import to Google Analytics, through the package `openvino_telemetry`:
it writes `~/intel/openvino_ga_cid`, starts a thread and forks the process from it, which may leave
the child in a deadlock (Python 3.12 and later warn of that) and takes time from what is measured.
OpenVINO sends nothing where that package cannot be imported.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_PACKAGE: Final = "openvino_telemetry"


@contextmanager
def without_telemetry() -> Iterator[None]:
    """In this block, which imports OpenVINO, `openvino_telemetry` cannot be imported."""
    given = sys.modules.get(_PACKAGE)
    sys.modules[_PACKAGE] = None  # type: ignore[assignment] # documented: its import then fails
    try:
        yield
    finally:
        del sys.modules[_PACKAGE]
        if given is not None:
            sys.modules[_PACKAGE] = given
