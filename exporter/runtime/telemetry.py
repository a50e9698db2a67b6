"""The libraries that we import are told to report nothing to their makers.

What they do otherwise:

* ONNX Runtime's wheels since 1.32 keep a device id and a database in ~/.cache/Microsoft, and upload
  from a thread of their own, for which a forked child waits in vain when it ends.
* OpenVINO and NNCF send an event at import to Google Analytics, from a thread and a process of
  their own, and write ~/intel. They send none where `openvino_telemetry` cannot be imported.
* huggingface_hub (which timm downloads with), MLflow and Ray (in both of which an engine may serve)
  tell who uses them.

A user who set one of the variables, or opted in to OpenVINO's, has decided: that stays.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

VARIABLES: Final[Mapping[str, str]] = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
_OPENVINO: Final = "openvino_telemetry"
"""The name of the package, and of the file that its `opt_in_out --opt_in` writes a "1" to."""


def switch_off() -> None:
    """To be called before any of the libraries is imported; they read it then."""
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
    if _OPENVINO not in sys.modules and not _consented():
        sys.modules[_OPENVINO] = None  # type: ignore[assignment] # documented: its import fails


def _consented() -> bool:
    try:
        if sys.platform == "win32":
            folder = Path(os.environ["LOCALAPPDATA"], "Intel Corporation")
        else:
            folder = Path.home() / "intel"
        return (folder / _OPENVINO).read_text(encoding="utf-8").strip() == "1"
    except (OSError, RuntimeError, KeyError, UnicodeDecodeError):  # RuntimeError: no home
        return False
