"""A real MLflow tracking server on loopback, and its scoring server."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.serving.environment import MLFLOW, PROGRAMS, free_ports

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Server:
    """A running server."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    environment: Mapping[str, str]
    """Of this server's clients."""

    def ask(self, inputs: object) -> Any:
        """What /invocations answers; an error's code and text where it refuses."""
        request = urllib.request.Request(
            f"{self.url}/invocations",
            data=json.dumps({"inputs": inputs}).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with DIRECT.open(request, timeout=30) as response:
                return json.load(response)["predictions"]
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


def environment(home: Path, **more: str) -> dict[str, str]:
    """Nothing of the tests' own: MLflow is quiet in a job of continuous integration by itself."""
    home.mkdir(exist_ok=True)
    path = f"{MLFLOW}{os.pathsep}/usr/bin{os.pathsep}/bin"
    return {"PATH": path, "HOME": str(home), "NO_PROXY": "127.0.0.1", **more}


def run_client(folder: Path, given: Mapping[str, str], *arguments: str | Path) -> Any:
    """What `programs/mlflow_client.py` prints; its standard error where it fails."""
    done = subprocess.run(
        [MLFLOW / "python", PROGRAMS / "mlflow_client.py", *arguments],
        cwd=folder,
        env=dict(given),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else done.stderr


@contextmanager
def tracking(folder: Path) -> Iterator[Server]:
    """`mlflow server`; it keeps its files in the folder."""
    given = environment(folder / "home", MLFLOW_DISABLE_TELEMETRY="true")
    with _running(folder, given, "server", "--workers", "1", health="health") as server:
        yield server


@contextmanager
def scoring(folder: Path, uri: str, given: Mapping[str, str]) -> Iterator[Server]:
    """`mlflow models serve`; `given` is the environment that finds the model."""
    options = ("models", "serve", "--model-uri", uri, "--env-manager", "local")
    given = {**given, "MLFLOW_DISABLE_TELEMETRY": "true"}
    with _running(folder, given, *options, health="ping") as server:
        yield server


@contextmanager
def _running(
    folder: Path, given: Mapping[str, str], *command: str, health: str
) -> Iterator[Server]:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    log = folder / f"{command[0]}.log"
    address = ("--host", "127.0.0.1", "--port", str(port))
    with log.open("wb") as output:
        process = subprocess.Popen(
            [MLFLOW / "mlflow", *command, *address],
            cwd=folder,
            env=dict(given),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_until_ready(process, f"{url}/{health}", log)
            yield Server(process, url, log, {**given, "MLFLOW_TRACKING_URI": url})
        finally:
            _stop(process)


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + 120
    while True:
        try:
            DIRECT.open(url, timeout=5).close()
        except OSError:
            assert process.poll() is None, log.read_text(errors="replace")[-3000:]
            assert time.monotonic() < end, log.read_text(errors="replace")[-3000:]
            time.sleep(0.2)
        else:
            return


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ends the server and the processes that it started."""
    if process.poll() is None:
        parts = [*psutil.Process(process.pid).children(recursive=True)]
        process.terminate()
        process.wait(20)
        for part in parts:
            if part.is_running():
                part.kill()
