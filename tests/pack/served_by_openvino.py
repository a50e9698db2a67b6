"""What OpenVINO Model Server does with a packed repository, by OpenVINO itself.

The server is in no package registry. Here its configuration is held against its own schema, and the
model is loaded as the server loads it: the one version's IR, compiled for `target_device` with
`plugin_config`, inputs and outputs by their tensors' names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import openvino

from tests.pack.ovms_schema import SCHEMA

Array = np.ndarray[Any, Any]
NUMPY = {"FP32": np.float32, "UINT8": np.uint8}


def model_config(repository: Path) -> dict[str, Any]:
    """The one model's entry of config.json, which fits the schema."""
    config = json.loads((repository / "config.json").read_text())
    jsonschema.validate(config, SCHEMA)
    (entry,) = config["model_config_list"]
    model: dict[str, Any] = entry["config"]
    return model


def compiled(repository: Path) -> Any:
    """The model as the server compiles it."""
    model = model_config(repository)
    versions = [path for path in (repository / model["base_path"]).iterdir() if path.is_dir()]
    (version,) = versions
    assert version.name == "1"
    (ir,) = version.glob("*.xml")
    return openvino.Core().compile_model(ir, model["target_device"], model["plugin_config"])


def probe_of(repository: Path) -> dict[str, Any]:
    probe: dict[str, Any] = json.loads((repository / "probe.json").read_text())
    return probe


def golden_request(repository: Path) -> dict[str, Array]:
    """What probe.py sends."""
    return {
        given["name"]: np.fromfile(repository / given["data"], NUMPY[given["datatype"]]).reshape(
            given["shape"]
        )
        for given in probe_of(repository)["inputs"]
    }


def asked(repository: Path, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Every output by the one name that its tensor has."""
    model = compiled(repository)
    answers = model(dict(inputs))
    return {name: answers[output] for output in model.outputs for name in output.get_names()}


def probed(repository: Path) -> float:
    """The error of the answer to the golden request, as a share of what is allowed."""
    probe = probe_of(repository)
    answer = asked(repository, golden_request(repository))[probe["output"]].ravel()
    expected = np.array(probe["expected"])
    distance = float(np.linalg.norm(answer - expected) / np.linalg.norm(expected))
    return distance / float(probe["tolerance"])
