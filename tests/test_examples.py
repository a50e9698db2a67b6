"""The examples, run as they are."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
from PIL import Image

from tests.packed import digits_bundle

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


def refused(url: str, body: bytes) -> int:
    request = urllib.request.Request(url, data=body, method="POST")
    try:
        urllib.request.urlopen(request, timeout=20).close()
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    return 200
