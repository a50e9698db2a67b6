#!/usr/bin/env python3
"""Asks a served model its golden input, and says whether the answer is right. Needs Python alone.

    probe.py                          exit code 0 where it answers rightly, else 1: a liveness probe
    probe.py --watch 2 --reload       asks every 2 s and loads the model again when it fails

For servers of KServe's inference protocol with its binary tensors: Triton, OpenVINO Model Server.

Triton calls a model ready although the process behind its Python backend has died, and does not
start another one; what was asked of it fails within seconds. `--reload` unloads and loads the model
through Triton's repository API, which needs `tritonserver --model-control-mode=explicit`.

The server is asked directly, whatever proxy the environment names.
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import struct
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
# A server that hangs up inside its answer raises the latter, which is no OSError.
NO_ANSWER = (OSError, http.client.HTTPException)


def ask(url: str, golden: dict[str, Any], data: list[bytes], timeout: float) -> str | None:
    """None where the golden answer came back, else what came instead; `data` is of each input."""
    tensors = [
        {
            "name": given["name"],
            "shape": given["shape"],
            "datatype": given["datatype"],
            "parameters": {"binary_data_size": len(part)},
        }
        for given, part in zip(golden["inputs"], data, strict=True)
    ]
    wanted = {"name": golden["output"], "parameters": {"binary_data": True}}
    header = json.dumps({"inputs": tensors, "outputs": [wanted]}).encode()
    request = urllib.request.Request(
        f"{url}/v2/models/{golden['model']}/infer",
        data=b"".join([header, *data]),
        headers={"Inference-Header-Content-Length": str(len(header))},
    )
    try:
        try:
            with DIRECT.open(request, timeout=timeout) as response:
                body = response.read()[int(response.headers["Inference-Header-Content-Length"]) :]
        except urllib.error.HTTPError as error:
            return f"HTTP {error.code}: {error.read(500).decode(errors='replace')}"
    except (*NO_ANSWER, TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    expected = golden["expected"]
    if len(body) != 4 * len(expected):
        return f"an answer of {len(body)} bytes, expected {4 * len(expected)}"
    answer = struct.unpack(f"<{len(expected)}f", body)
    distance = math.dist(answer, expected) / (math.hypot(*expected) or 1.0)
    if not distance <= golden["tolerance"]:
        return f"a wrong answer: relative error {distance:.3g}, allowed {golden['tolerance']:.3g}"
    return None


def reload(url: str, model: str, timeout: float) -> str | None:
    """Unloads and loads the model; None, or why that failed."""
    for action in ("unload", "load"):
        request = urllib.request.Request(f"{url}/v2/repository/models/{model}/{action}", data=b"{}")
        try:
            DIRECT.open(request, timeout=timeout).close()
        except NO_ANSWER as error:
            return f"{action}: {error}"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description="Asks a served model its golden input.")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--timeout", type=float, default=10, help="seconds for one request")
    parser.add_argument("--watch", type=float, help="ask again and again, after so many seconds")
    parser.add_argument("--reload", action="store_true", help="load a failing model again")
    options = parser.parse_args()
    golden = json.loads((FOLDER / "probe.json").read_text(encoding="utf-8"))
    data = [(FOLDER / given["data"]).read_bytes() for given in golden["inputs"]]
    model = golden["model"]
    while True:
        failure = ask(options.url, golden, data, options.timeout)
        if failure:
            say(f"{model}: {failure}")
            if options.reload:
                failure = reload(options.url, model, options.timeout)
                say(f"{model}: {failure or 'loaded again'}")
        if options.watch is None:
            return 1 if failure else 0
        time.sleep(options.watch)


def say(text: str) -> None:
    """A line for whoever reads the log, whatever the server put into it."""
    print(" ".join(text.split()), file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
