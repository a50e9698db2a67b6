"""A real object server on this machine (moto's), and processes that reach it by `s3://`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / ".venv-store"
"""s3fs and moto want another python-dateutil than the constraints, so they have a folder."""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def environment(port: int) -> dict[str, str]:
    """Of a process that reaches the server at the port."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(PACKAGES), str(ROOT)]),
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


@contextmanager
def serving() -> Iterator[dict[str, str]]:
    """The environment of a process that reaches a server with an empty bucket called `bucket`."""
    if not (PACKAGES / "moto").is_dir():
        pytest.skip("s3fs and moto are not there; `make test-store` installs them")
    port = free_port()
    env = environment(port)
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)],
        env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(300):
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        in_store(env, "s3.mkdir('bucket')")
        yield env
    finally:
        server.kill()
        server.wait()


def in_store(env: Mapping[str, str], statement: str) -> str:
    """What a statement prints that has the file system as `s3`."""
    program = f"import json, s3fs; s3 = s3fs.S3FileSystem(); {statement}"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    return done.stdout


def exporter(
    env: Mapping[str, str], *arguments: str, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """The command line, in a process that reaches the server."""
    command = [sys.executable, "-m", "exporter", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, cwd=cwd, check=False)
