"""Where `make test-serving` put what it installed, and how to run programs there."""

from __future__ import annotations

import functools
import json
import os
import platform
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

REPOSITORY: Final = Path(__file__).parent.parent.parent
HERE: Final = Path(os.environ.get("EXPORTER_SERVING", REPOSITORY / ".venv-serving"))
PYTHON: Final = HERE / "bin" / "python"
MLFLOW: Final = HERE / "mlflow" / "bin"
NODE_MODULES: Final = HERE / "node" / "node_modules"
PROGRAMS: Final = Path(__file__).parent / "programs"
OLDEST_GLIBC: Final = (2, 35)
CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser")


def _why_no_triton() -> str | None:
    if not PYTHON.exists():
        return f"{PYTHON} is missing; run make test-serving"
    servers = list(HERE.glob("lib/python3.*/site-packages/pytriton/tritonserver"))
    if not servers:
        return "nvidia-pytriton has a wheel for Linux on x86-64 alone"
    glibc = platform.libc_ver()
    if glibc[0] != "glibc" or tuple(map(int, glibc[1].split("."))) < OLDEST_GLIBC:
        return f"Triton's binary needs glibc 2.35, this is {' '.join(glibc) or 'no glibc'}"
    version = servers[0].parent.parent.parent.name.removeprefix("python")
    if not (servers[0] / "python_backend_stubs" / version).is_dir():
        return f"nvidia-pytriton has no Python backend for Python {version}"
    return None


needs_triton = pytest.mark.skipif(_why_no_triton() is not None, reason=str(_why_no_triton()))
needs_mlflow = pytest.mark.skipif(
    not (MLFLOW / "mlflow").exists(), reason=f"{MLFLOW} is missing; run make test-serving"
)
needs_node = pytest.mark.skipif(
    not NODE_MODULES.is_dir() or shutil.which("node") is None,
    reason=f"Node.js or {NODE_MODULES} is missing; run make test-serving",
)
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None,
    reason="Chromium is not installed; on Debian: apt-get install chromium",
)


def run_client(command: str, *arguments: str | Path | int, timeout: float = 240) -> Any:
    """What `programs/triton_client.py` answers, from the serving environment."""
    done = subprocess.run(client_command(command, *arguments), **_captured(timeout))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def client_command(command: str, *arguments: str | Path | int) -> list[str]:
    program = PROGRAMS / "triton_client.py"
    return [str(PYTHON), str(program), command, *map(str, arguments)]


def run_node(program: str, *arguments: str | Path, timeout: float = 120) -> Any:
    """What a program of `programs/` prints as JSON, with `NODE_MODULES` to import from."""
    scripts = NODE_MODULES.parent
    for script in PROGRAMS.glob("*.mjs"):
        shutil.copyfile(script, scripts / script.name)
    command = ["node", str(scripts / program), *map(str, arguments)]
    done = subprocess.run(command, **_captured(timeout))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def installed(package: Path) -> Path:
    """A packed npm package, as after `npm install`."""
    (package / "node_modules").symlink_to(NODE_MODULES)
    return package


@contextmanager
def static_server(folder: Path) -> Iterator[str]:
    """The address of Python's own file server on a folder."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for held in sockets:
        held.bind(("127.0.0.1", 0))
    ports = [int(held.getsockname()[1]) for held in sockets]
    for held in sockets:
        held.close()
    return ports


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Says nothing: the page's own messages are what is checked."""


def _captured(timeout: float) -> dict[str, Any]:
    return {"capture_output": True, "text": True, "timeout": timeout, "check": False}
