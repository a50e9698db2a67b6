"""What MLflow makes of a packed model; run in MLflow's own environment, it prints JSON.

mlflow_client.py replay URI GOLDENS ENGINE      loads it and asks the goldens
mlflow_client.py register REGISTER_PY NAME      runs the shipped program, as its user does
"""

from __future__ import annotations

import json
import runpy
import sys
from typing import Any

import numpy as np


def replay(uri: str, goldens: str, engine: str) -> dict[str, Any]:
    import mlflow

    model = mlflow.pyfunc.load_model(uri, model_config={"engine": engine, "threads": 1})
    with np.load(goldens) as arrays:
        answers = model.predict(arrays["images"])
        distance = np.abs(answers - arrays[f"answers:{engine}"]).max()
    refused = []
    for wrong in (np.zeros((1, 16, 32, 3), np.uint8), np.zeros((1, 32, 32, 3), np.float32)):
        try:
            model.predict(wrong)
        except mlflow.exceptions.MlflowException as error:
            refused.append(str(error)[-120:])
    example = model.input_example
    return {
        "distance": float(distance),
        "dtype": str(answers.dtype),
        "signature": model.metadata.signature.to_dict(),
        "metadata": model.metadata.metadata,
        "example": float(np.abs(model.predict(example) - answers[:1]).max()),
        "refused": refused,
    }


def register(program: str, name: str) -> dict[str, Any]:
    sys.argv = [program, name]
    runpy.run_path(program, run_name="__main__")
    from mlflow.telemetry import get_telemetry_client

    return {"telemetry": get_telemetry_client() is not None}


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    found = replay(*arguments) if command == "replay" else register(*arguments)
    print(json.dumps(found))  # noqa: T201
