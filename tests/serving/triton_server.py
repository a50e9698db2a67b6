"""A real Triton server on loopback, from the binary in PyTriton's wheel.

The wheel has the Python backend alone. Its stub takes an interpreter from PYTHONHOME and ignores
PYTHONPATH; the packed model.py looks in EXPORTER_SITE_PACKAGES instead.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.serving.environment import PYTHON, free_ports

_WHERE = """
import json, sys, sysconfig
version = f"{sys.version_info.major}.{sys.version_info.minor}"
print(json.dumps([sys.base_prefix, version, sysconfig.get_path("purelib")]))
"""


@dataclass(frozen=True)
class TritonServer:
    """A running server."""

    process: subprocess.Popen[bytes]
    http: str
    grpc: str
    log: Path

    @property
    def url(self) -> str:
        return f"http://{self.http}"

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/v2/health/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def backend_processes(self) -> list[psutil.Process]:
        """The processes of the Python backend."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        # Linux keeps the first 15 characters of a name.
        return [child for child in children if child.name().startswith("triton_python_b")]

    def resident_bytes(self) -> int:
        server = psutil.Process(self.process.pid)
        parts = [server, *server.children(recursive=True)]
        return sum(part.memory_info().rss for part in parts)


def server_command(
    repository: Path, scratch: Path, model: str
) -> tuple[list[str], dict[str, str], str, str]:
    """(command, environment, HTTP address, gRPC address) of a server that is not started yet."""
    found = subprocess.run([str(PYTHON), "-c", _WHERE], capture_output=True, text=True, check=True)
    prefix, version, site = json.loads(found.stdout)
    triton = Path(site) / "pytriton" / "tritonserver"
    backend = scratch / "backends" / "python"
    shutil.copytree(triton / "backends" / "python", backend)
    stub = triton / "python_backend_stubs" / version / "triton_python_backend_stub"
    shutil.copy2(stub, backend)
    http, grpc = (f"127.0.0.1:{port}" for port in free_ports(2))
    command = [
        str(triton / "bin" / "tritonserver"),
        f"--model-repository={repository}",
        f"--backend-directory={backend.parent}",
        "--model-control-mode=explicit",
        f"--load-model={model}",
        "--http-address=127.0.0.1",
        "--grpc-address=127.0.0.1",
        f"--http-port={http.partition(':')[2]}",
        f"--grpc-port={grpc.partition(':')[2]}",
        "--http-thread-count=4",
        "--allow-metrics=false",
    ]
    environment = {
        # The stub takes the first python3 there for its own, whatever PYTHONHOME says.
        "PATH": f"{prefix}/bin:/usr/bin:/bin",
        "PYTHONHOME": prefix,
        "LD_LIBRARY_PATH": f"{site}/nvidia_pytriton.libs:{prefix}/lib",
        "EXPORTER_SITE_PACKAGES": site,
    }
    return command, environment, http, grpc


@contextmanager
def running(repository: Path, scratch: Path, model: str) -> Iterator[TritonServer]:
    """A server that has loaded `model`; stopped in the end, come what may."""
    command, environment, http, grpc = server_command(repository, scratch, model)
    log = scratch / "triton.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        server = TritonServer(process, http, grpc, log)
        try:
            _wait_until_ready(server)
            yield server
        finally:
            _stop(process)


def _wait_until_ready(server: TritonServer, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not server.is_ready():
        assert server.process.poll() is None, server.log.read_text(errors="replace")[-3000:]
        assert time.monotonic() < end, server.log.read_text(errors="replace")[-3000:]
        time.sleep(0.1)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Asks the server to stop; its own processes are ended with it if it does not."""
    if process.poll() is not None:
        return
    own = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)
    for child in own:
        if child.is_running():
            child.kill()
