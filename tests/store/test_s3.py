"""Pictures in a real object server on this machine: `s3://` through s3fs to moto's server."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images.sources.stores import folder, parquet, tar
from tests.packed import digits_build

pytestmark = pytest.mark.store

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / ".venv-store"
"""s3fs and moto want another python-dateutil than the constraints, so they have a folder."""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def environment(port: int) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(PACKAGES), str(ROOT)]),
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a process that reaches the server; the pictures are in it."""
    if not (PACKAGES / "moto").is_dir():
        pytest.skip("s3fs and moto are not there; `make test-store` installs them")
    port = free_port()
    env = environment(port)
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)],
        env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(100):
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        made = tmp_path_factory.mktemp("store")
        folder(str(made / "p"))
        parquet(str(made / "all.parquet"))
        tar(str(made / "w-000.tar"))
        put = (
            "import s3fs, sys; s3 = s3fs.S3FileSystem(); s3.mkdir('bucket');"
            f"s3.put({str(made) + '/'!r}, 'bucket/data', recursive=True)"
        )
        subprocess.run([sys.executable, "-c", put], env=env, check=True)
        yield env
    finally:
        server.kill()
        server.wait()


def exporter(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "exporter", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.mark.parametrize("uri", ["p", "all.parquet", "w-*.tar"])
def test_what_is_in_a_bucket_is_evaluated(store: dict[str, str], uri: str, tmp_path: Path) -> None:
    arguments = ("evaluate", str(digits_build()), "--engine", "ort-cpu.int8", "--json", "-q")
    there = exporter(store, *arguments, "--data", f"s3://bucket/data/{uri}")
    assert there.returncode == 0, there.stderr
    here = exporter(store, *arguments, "--data", folder(str(tmp_path / "p")))
    found, expected = json.loads(there.stdout), json.loads(here.stdout)
    assert found["images"] == 40
    assert found["engines"] == expected["engines"]


def test_a_bucket_that_cannot_be_reached_is_one_line(store: dict[str, str]) -> None:
    arguments = ("evaluate", str(digits_build()), "-q", "--data")
    for env, uri, said in (
        (store, "s3://no-such-bucket/p", "nothing there"),
        (environment(free_port()), "s3://bucket/p", "--data s3://bucket/p cannot be read ("),
    ):
        ended = exporter(env, *arguments, uri)
        assert ended.returncode == 2
        assert ended.stderr.count("\n") == 1, ended.stderr
        assert said in ended.stderr
