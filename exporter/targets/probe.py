"""Tries a GPU library in a process of its own, which it may crash.

    python -m exporter.targets.probe CUDAExecutionProvider

prints nothing where the library works on this machine, else the reason in one line. Other names are
TensorrtExecutionProvider and tensorrt.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from signal import Signals
from typing import Final

import exporter

TIME_LIMIT_S: Final = 120.0
TENSORRT: Final = "tensorrt"
"""The Python module; everything else is the name of a provider of ONNX Runtime."""


def why_it_fails(what: str) -> str | None:
    """None where a library works, else its own reason or how the process that tried it ended."""
    root = str(Path(exporter.__file__).parents[1])
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "exporter.targets.probe", what],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{what} does not answer within {TIME_LIMIT_S:.0f} s"
    if done.returncode < 0:
        return f"{what} crashed the process that tried it ({Signals(-done.returncode).name})"
    if done.returncode:
        return f"{what} failed: {(done.stderr.strip() or 'no reason given').splitlines()[-1]}"
    return done.stdout.strip() or None


def main() -> None:
    """Tries what the command line names."""
    what = sys.argv[1]
    if what == TENSORRT:
        from exporter.targets.tensorrt.full import why_no_builder

        reason = why_no_builder()
    else:
        from exporter.targets.ort.gpu import why_no_session

        reason = why_no_session(what)
    if reason is not None:
        sys.stdout.write(f"{reason}\n")


if __name__ == "__main__":
    main()
