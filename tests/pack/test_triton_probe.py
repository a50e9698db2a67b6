"""The packed probe against servers that misbehave; a real one is in `tests/serving`."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from tests.packed import pack_digits

ANSWERS = {
    "cut off in the body": b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n"
    b"Inference-Header-Content-Length: 2\r\n\r\n{}abc",
    "cut off in an error": b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc",
    "no HTTP": b"rubbish\r\n\r\n",
    "a header too long": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
    "no length of the header": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "nothing": b"",
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_digits(tmp_path_factory.mktemp("probe") / "models", format="triton").path


def probe_command(repository: Path, port: int, *options: str) -> list[str]:
    url = f"http://127.0.0.1:{port}"
    return [sys.executable, str(repository / "probe.py"), "--url", url, "--timeout", "5", *options]


class Misbehaving:
    """A server that gives every request one answer and hangs up."""

    def __init__(self, answer: bytes) -> None:
        self.asked = 0
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                self.asked += 1
                connection.recv(1 << 20)
                connection.sendall(self._answer)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 20):
                    pass

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@contextlib.contextmanager
def misbehaving(answer: bytes) -> Iterator[Misbehaving]:
    server = Misbehaving(answer)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_the_watch_outlives_any_answer(repository: Path, answer: bytes) -> None:
    with misbehaving(answer) as server:
        command = probe_command(repository, server.port, "--watch", "0.05", "--reload")
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as watch:
            while server.asked < 4 and watch.poll() is None:
                time.sleep(0.02)
            ended = watch.poll()
            watch.kill()
            said = watch.stderr.read() if watch.stderr else ""
        assert ended is None, said
        assert "Traceback" not in said
        once = subprocess.run(
            probe_command(repository, server.port), capture_output=True, text=True, check=False
        )
    assert once.returncode == 1
    assert len(once.stderr.splitlines()) == 1
    assert once.stderr.startswith("resnet20-digits: ")


class Right(BaseHTTPRequestHandler):
    """Answers as the model would."""

    answer: ClassVar[bytes] = b""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.answer)))
        self.send_header("Inference-Header-Content-Length", "2")
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Says nothing."""


def test_the_server_is_asked_directly_whatever_the_proxy(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = json.loads((repository / "probe.json").read_text())["expected"]
    monkeypatch.setattr(Right, "answer", b"{}" + struct.pack(f"<{len(expected)}f", *expected))
    nobody = "http://127.0.0.1:9"
    proxies = {"http_proxy": nobody, "HTTP_PROXY": nobody, "all_proxy": nobody, "no_proxy": ""}
    with ThreadingHTTPServer(("127.0.0.1", 0), Right) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        done = subprocess.run(
            probe_command(repository, server.server_port),
            env={**os.environ, **proxies},
            capture_output=True,
            text=True,
            check=False,
        )
        server.shutdown()
        thread.join()
    assert (done.returncode, done.stderr) == (0, "")
