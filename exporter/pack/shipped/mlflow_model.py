"""A bundle as MLflow's generic Python model: images in, scores (or every output by name) out.

MLflow puts the folder of this file on the path, which has a copy of `exporter.runtime` in it, and
calls `_load_pyfunc` with the bundle. Its environment needs numpy and the engine's runtime library.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from exporter.runtime import load

Inputs = np.ndarray | dict[str, np.ndarray]


class BundleModel:
    """What MLflow calls, from any number of threads."""

    def __init__(self, bundle: Path, options: Mapping[str, Any]) -> None:
        """Refuses altered files and wrong answers: MLflow then has no model to serve."""
        self.engine = load(bundle, **options)
        with np.load(bundle / "golden.npz") as goldens:
            # The signature is of images where the goldens are, else of the network's own inputs.
            self._run = self.engine if "images" in goldens else self.engine.run

    def predict(self, model_input: Inputs, params: dict[str, Any] | None = None) -> Inputs:  # noqa: ARG002 - MLflow's signature
        """An input (N, ...), or a dict of several -> (N, classes), or a dict of the outputs."""
        answers: Inputs = self._run(model_input)
        return answers


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> BundleModel:
    """Called by `mlflow.pyfunc.load_model`; `model_config` has the options of `load`."""
    given = {name: value for name, value in (model_config or {}).items() if value is not None}
    return BundleModel(Path(path), given)
