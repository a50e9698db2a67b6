"""Puts the weights back into a plan that was built without them (`--setting strip_weights=on`).

They lie beside the plan as the ONNX file that it was built from, and are the very ones that it was
built with (BuilderFlag.REFIT_IDENTICAL).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from exporter.errors import BuildError

WEIGHTS: Final = "weights.onnx"
"""What stands for "plan" in the name of the file beside it."""


def weights_of(engine: Path) -> Path:
    """Where the weights of a plan lie that has none."""
    return engine.with_suffix(f".{WEIGHTS}")


def put_weights_back(trt: Any, engine: Any, weights: Path) -> None:
    """Fills a loaded engine; `trt` is the library that loaded it.

    Raises:
        BuildError: the library does not take them.
    """
    refitter = trt.Refitter(engine, trt.Logger(trt.Logger.ERROR))
    parser = trt.OnnxParserRefitter(refitter, trt.Logger(trt.Logger.ERROR))
    if not parser.refit_from_bytes(weights.read_bytes()) or not refitter.refit_cuda_engine():
        missing = refitter.get_missing_weights()
        said = f": {len(missing)} are missing, {missing[0]} the first" if missing else ""
        raise BuildError(f"the weights of {weights.name} do not go into the plan{said}")
