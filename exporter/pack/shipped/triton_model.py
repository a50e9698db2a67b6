"""A bundle behind Triton's Python backend: images in, logits (or every output by name) out.

Lies beside `bundle/` and a copy of `exporter.runtime`. Its environment needs numpy and the engine's
runtime library; the backend's stub ignores PYTHONPATH, so that other site-packages are named in
EXPORTER_SITE_PACKAGES (separated as in PATH).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
SITE_PACKAGES = os.environ.get("EXPORTER_SITE_PACKAGES", "").split(os.pathsep)
sys.path[:0] = [str(FOLDER), *filter(None, SITE_PACKAGES)]

import numpy as np  # noqa: E402 - from the path above
import triton_python_backend_utils as pb_utils  # noqa: E402

from exporter.runtime import InputError, load  # noqa: E402


class TritonPythonModel:
    """What the backend's stub calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the bundle's best engine for this server."""
        config = json.loads(args["model_config"])
        threads = int(config["parameters"]["threads"]["string_value"])
        self.inputs = [given["name"] for given in config["input"]]
        self.outputs = [output["name"] for output in config["output"]]
        # Each instance is a process of its own.
        shared = sum(int(group["count"]) for group in config.get("instance_group", ())) > 1
        # Refuses altered files and wrong answers: the model then never becomes ready.
        self.engine = load(FOLDER / "bundle", threads=threads, shared=shared)
        takes_images = config["input"][0]["data_type"] == "TYPE_UINT8"
        self.run = self.engine if takes_images else self.engine.run
        pb_utils.Logger.log_info(f"{config['name']} serves {self.engine.id}")

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """A response to each request; all of them are answered as one batch."""
        asked = [
            [pb_utils.get_input_tensor_by_name(r, name).as_numpy() for name in self.inputs]
            for r in requests
        ]
        try:
            each = zip(*asked, strict=True)
            answers = self.answers(asked[0] if len(asked) == 1 else map(np.concatenate, each))
        except (InputError, ValueError):  # NumPy's, of shapes that cannot stand beside each other
            return [self._alone(part) for part in asked]
        ends = np.cumsum([len(part[0]) for part in asked])
        parts = [np.split(answer, ends[:-1]) for answer in answers]
        return [self._response(part) for part in zip(*parts, strict=True)]

    def answers(self, inputs: Iterable[np.ndarray]) -> list[np.ndarray]:
        """The network's outputs for a batch of each input, both in the order of config.pbtxt."""
        found = self.run(*inputs)
        return [found[name] for name in self.outputs] if isinstance(found, dict) else [found]

    def finalize(self) -> None:
        """Frees the engine."""
        self.engine.close()

    def _alone(self, part: Sequence[np.ndarray]) -> Any:
        """One request of a batch in which at least one cannot be answered."""
        try:
            return self._response(self.answers(part))
        except InputError as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))

    def _response(self, answers: Sequence[np.ndarray]) -> Any:
        named = zip(self.outputs, answers, strict=True)
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, np.ascontiguousarray(answer)) for name, answer in named]
        )
