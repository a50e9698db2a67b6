"""The examples, run as they are."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.packed import digits_bundle, pack_digits

REPOSITORY = Path(__file__).parent.parent
EXAMPLES = REPOSITORY / "examples"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY)}


def goldens() -> tuple[np.ndarray, list[str]]:
    """(images, the best label of each)."""
    with np.load(digits_bundle() / "golden.npz") as arrays:
        return arrays["images"], [str(index) for index in arrays["outputs"].argmax(1)]


def test_a_folder_is_classified(tmp_path: Path) -> None:
    images, labels = goldens()
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    done = subprocess.run(
        [sys.executable, EXAMPLES / "classify_folder.py", digits_bundle(), tmp_path, "--top", "2"],
        env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [
        [f"{number}.png:", label] for number, label in enumerate(labels)
    ]
    assert all(line.count("%") == 2 for line in lines)


def test_a_broken_picture_is_named_and_the_others_are_classified(tmp_path: Path) -> None:
    images, _ = goldens()
    Image.fromarray(images[0]).save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(b"no picture")
    Image.fromarray(images[1]).save(tmp_path / "c.png")
    done = subprocess.run(
        [sys.executable, EXAMPLES / "classify_folder.py", digits_bundle(), tmp_path],
        env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["a.png:", "c.png:"]
    error, summary = done.stderr.splitlines()
    assert error.startswith(f"error: {tmp_path / 'b.jpg'} cannot be read as a picture")
    assert summary == "1 of 3 pictures were not classified"
    assert done.returncode == 1


@pytest.mark.parametrize("program", ["classify_folder.py", "serve_bundle.py"])
def test_what_is_no_bundle_is_one_line(tmp_path: Path, program: str) -> None:
    more = [tmp_path] if program == "classify_folder.py" else []
    done = subprocess.run(
        [sys.executable, EXAMPLES / program, tmp_path / "away", *more],
        env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "away does not exist" in done.stderr.splitlines()[-1]


# Pillow would have Ghostscript draw it.
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\nshowpage\n%%EOF\n"


def test_a_bundle_is_served(tmp_path: Path) -> None:
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path / 'started'}\n")
    (tmp_path / "gs").chmod(0o755)
    images, labels = goldens()
    command = [sys.executable, str(EXAMPLES / "serve_bundle.py"), str(digits_bundle())]
    with subprocess.Popen(
        [*command, "--port", "0"],
        env={**ENVIRONMENT, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[-1]
            for image, label in zip(images, labels, strict=True):
                buffer = io.BytesIO()
                Image.fromarray(image).save(buffer, "PNG")
                with urllib.request.urlopen(url, buffer.getvalue(), timeout=20) as answer:
                    assert json.load(answer)[0]["label"] == label
            assert refused(url, b"no picture") == 400
            assert refused(url, POSTSCRIPT) == 400
            assert not (tmp_path / "started").exists()
            assert refused(url, b"") == 413
        finally:
            server.terminate()


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no such signals")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_server_ends_cleanly_and_answers_what_it_has_begun(tmp_path: Path, how: int) -> None:
    """From the archive; a client has sent half of its picture when the signal comes."""
    archive = pack_digits(tmp_path / "digits.tar.zst").path
    images, labels = goldens()
    buffer = io.BytesIO()
    Image.fromarray(images[0]).save(buffer, "PNG")
    body = buffer.getvalue()
    command = [sys.executable, str(EXAMPLES / "serve_bundle.py"), str(archive), "--port", "0"]
    with (
        subprocess.Popen(
            command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as server,
        ExitStack() as stack,
    ):
        stack.callback(server.kill)
        assert server.stdout is not None
        port = int(server.stdout.readline().rstrip("/\n").rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            head = f"POST / HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n"
            client.sendall(head.encode() + body[:50])
            # Whoever is answered came later: the first request has a thread of its own by then.
            assert refused(f"http://127.0.0.1:{port}/", b"no picture") == 400
            server.send_signal(how)
            until_refused(port)
            client.sendall(body[50:])
            answer = client.makefile("rb").read()
        _, errors = server.communicate(timeout=30)
    assert answer.startswith(b"HTTP/1.0 200")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])[0]["label"] == labels[0]
    assert server.returncode == 0
    assert "Traceback" not in errors


def until_refused(port: int) -> None:
    """Returns once the server listens no more."""
    for _ in range(3000):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=20).close()
        except ConnectionError:  # refused, or hung up on while it waited to be accepted
            return
        time.sleep(0.01)
    raise AssertionError("the server still listens")


def refused(url: str, body: bytes) -> int:
    request = urllib.request.Request(url, data=body, method="POST")
    try:
        urllib.request.urlopen(request, timeout=20).close()
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    return 200
