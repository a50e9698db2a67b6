"""Triton's own clients, run in the serving environment. Prints one JSON document.

replay HTTP GRPC MODEL GOLDENS ENGINE        errors of every golden over both protocols
ask HTTP GRPC MODEL IMAGES                   the answers to an .npy of images
malformed HTTP GRPC MODEL                    what each unusable request is answered with
load HTTP GRPC MODEL GOLDENS ENGINE N CLIENTS    N checked requests from so many clients
endure HTTP GRPC MODEL GOLDENS ENGINE SECONDS CLIENTS   the same for a time, errors allowed
config PATH                                  config.pbtxt as protobuf understands it
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from collections import Counter
from typing import Any

import numpy as np
import tritonclient.grpc as grpc_client  # type: ignore[import-not-found,unused-ignore]
import tritonclient.http as http_client  # type: ignore[import-not-found,unused-ignore]

TOLERANCE = 1e-4
"""Relative L2: the same engine in the same build of ONNX Runtime, in batches of other sizes."""
CLIENTS = {"http": http_client, "grpc": grpc_client}


def infer(kind: str, client: Any, model: str, images: Any, dtype: str = "UINT8") -> Any:
    module = CLIENTS[kind]
    asked = module.InferInput("images", list(images.shape), dtype)
    asked.set_data_from_numpy(images)
    options = {"client_timeout": 20} if kind == "grpc" else {}
    return client.infer(model, [asked], **options).as_numpy("logits")


def connect(kind: str, addresses: dict[str, str]) -> Any:
    return CLIENTS[kind].InferenceServerClient(addresses[kind])


def relative_errors(answers: Any, expected: Any) -> Any:
    return np.linalg.norm(answers - expected, axis=1) / np.linalg.norm(expected, axis=1)


def replay(addresses: dict[str, str], model: str, images: Any, expected: Any) -> Any:
    worst: dict[str, Any] = {}
    for kind in CLIENTS:
        client = connect(kind, addresses)
        whole = infer(kind, client, model, images)
        single = np.concatenate([infer(kind, client, model, image[None]) for image in images])
        errors = [relative_errors(answers, expected).max() for answers in (whole, single)]
        worst[kind] = float(max(errors))
    asked = http_client.InferInput("images", list(images.shape), "UINT8")
    asked.set_data_from_numpy(images)
    wanted = http_client.InferRequestedOutput("logits", class_count=1)
    answer = connect("http", addresses).infer(model, [asked], outputs=[wanted])
    worst["classes"] = [row[0].decode() for row in answer.as_numpy("logits")]
    return worst


def malformed(addresses: dict[str, str], model: str) -> Any:
    good = np.zeros((1, 32, 32, 3), np.uint8)
    requests = {
        "wrong dtype": (good.astype(np.float32), "FP32"),
        "wrong size": (good[:, :31], "UINT8"),
        "no batch": (good[0], "UINT8"),
        "empty batch": (good[:0], "UINT8"),
        "huge batch": (np.zeros((5000, 32, 32, 3), np.uint8), "UINT8"),
        "huge shape": (np.zeros((100_000, 1, 1, 1), np.uint8), "UINT8"),
    }
    answers = {}
    for what, (images, dtype) in requests.items():
        for kind in CLIENTS:
            try:
                infer(kind, connect(kind, addresses), model, images, dtype)
                answers[f"{what}, {kind}"] = "answered"
            except Exception as error:  # the clients' own errors share no base
                answers[f"{what}, {kind}"] = str(error)
    header = json.dumps(
        {
            "inputs": [
                {
                    "name": "images",
                    "shape": [1, 32, 32, 3],
                    "datatype": "UINT8",
                    "parameters": {"binary_data_size": 3072},
                }
            ]
        }
    ).encode()
    bodies = {
        "truncated JSON": (header[:20], None),
        "truncated data": (header + b"\0" * 10, len(header)),
        "too much data": (header + b"\0" * 4000, len(header)),
        "no JSON": (b"\xff\x00\xfe", None),
        "nothing": (b"", None),
    }
    for what, (body, size) in bodies.items():
        headers = {} if size is None else {"Inference-Header-Content-Length": str(size)}
        answers[what] = post(addresses["http"], f"/v2/models/{model}/infer", body, headers)
    answers["unknown model"] = post(addresses["http"], "/v2/models/absent/infer", header, {})
    return answers


def post(address: str, path: str, body: bytes, headers: dict[str, str]) -> str:
    connection = http.client.HTTPConnection(address, timeout=20)
    connection.request("POST", path, body=body, headers=headers)
    response = connection.getresponse()
    return f"[{response.status}] {response.read(300).decode(errors='replace')}"


def load(
    addresses: dict[str, str],
    model: str,
    images: Any,
    expected: Any,
    clients: int,
    *,
    requests: int | None = None,
    seconds: float | None = None,
) -> Any:
    """Half of the clients over HTTP, half over gRPC; each request of one to four images checked."""
    end = None if seconds is None else time.monotonic() + seconds
    results: list[tuple[float, float, str]] = []

    def work(number: int) -> None:
        kind = ("http", "grpc")[number % 2]
        client = connect(kind, addresses)
        rng = np.random.default_rng(number)
        done = 0
        while time.monotonic() < end if end else done < (requests or 0) // clients:
            chosen = rng.integers(0, len(images), rng.integers(1, 5))
            start = time.time()
            try:
                answers = infer(kind, client, model, images[chosen])
                errors = relative_errors(answers, expected[chosen])
                outcome = "right" if errors.max() <= TOLERANCE else "WRONG"
            except Exception as error:
                outcome = str(error)
                time.sleep(0.02)
            results.append((start, time.time() - start, outcome))
            done += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    begin = time.time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = time.time() - begin
    right = [(start, spent) for start, spent, outcome in results if outcome == "right"]
    spent = [1000 * seconds for _, seconds in right] or [0.0]
    return {
        "outcomes": dict(Counter(outcome for *_, outcome in results)),
        "per_second": len(results) / taken,
        "p50_ms": float(np.percentile(spent, 50)),
        "p99_ms": float(np.percentile(spent, 99)),
        "longest_s": max(seconds for _, seconds, _ in results),
        "last_right": max((start for start, _ in right), default=0.0),
        "last_error": max((start for start, _, out in results if out != "right"), default=0.0),
    }


def config(path: str) -> Any:
    from pathlib import Path

    from google.protobuf import json_format, text_format  # type: ignore[import-untyped,unused-ignore]
    from tritonclient.grpc import (  # type: ignore[import-not-found,unused-ignore]
        model_config_pb2,
    )

    message = text_format.Parse(Path(path).read_text(), model_config_pb2.ModelConfig())
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def main() -> None:
    command, *arguments = sys.argv[1:]
    if command == "config":
        result = config(arguments[0])
    else:
        addresses = {"http": arguments[0], "grpc": arguments[1]}
        model = arguments[2]
        if command == "malformed":
            result = malformed(addresses, model)
        elif command == "ask":
            images = np.load(arguments[3])
            result = {
                kind: infer(kind, connect(kind, addresses), model, images).tolist()
                for kind in CLIENTS
            }
        else:
            with np.load(arguments[3]) as goldens:
                images, expected = goldens["images"], goldens[f"answers:{arguments[4]}"]
            if command == "replay":
                result = replay(addresses, model, images, expected)
            elif command == "load":
                number, clients = int(arguments[5]), int(arguments[6])
                result = load(addresses, model, images, expected, clients, requests=number)
            else:
                seconds, clients = float(arguments[5]), int(arguments[6])
                result = load(addresses, model, images, expected, clients, seconds=seconds)
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
