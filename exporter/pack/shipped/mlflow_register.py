#!/usr/bin/env python3
"""Logs the model of this folder in a run of its own and registers it; prints where it then is.

    MLFLOW_TRACKING_URI=http://127.0.0.1:5000 register.py NAME

MLflow is told not to report its use, unless MLFLOW_DISABLE_TELEMETRY says otherwise.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # MLflow reads it when it is imported

import mlflow


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(f"usage: {Path(sys.argv[0]).name} NAME")
    (name,) = sys.argv[1:]
    with mlflow.start_run() as run:
        mlflow.log_artifacts(str(Path(__file__).resolve().parent), "model")
    version = mlflow.register_model(f"runs:/{run.info.run_id}/model", name)
    print(f"models:/{name}/{version.version}")


if __name__ == "__main__":
    main()
