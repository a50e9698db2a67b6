"""One golden set through every runtime that the packed formats are for; prints the table (-s)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from exporter.artifact import Precision
from exporter.pack.formats import pack
from exporter.pack.request import PackRequest
from exporter.pack.tolerances import ROUNDING
from exporter.progress import Silent
from exporter.runtime import load
from exporter.runtime.goldens import Goldens, read_goldens, worst_error
from tests.packed import baked_build, digits_build
from tests.serving.environment import needs_chromium, needs_node, needs_triton, run_client
from tests.serving.test_javascript import in_chromium, in_node, packed
from tests.serving.triton_server import running

pytestmark = [pytest.mark.serving, needs_triton, needs_node, needs_chromium]

Array = npt.NDArray[Any]
Answers = dict[str, Array]
BUILDS = {"two steps": digits_build, "baked": baked_build}


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("engine", ["ort-cpu.fp32", "ort-cpu.int8"])
def test_five_runtimes_give_one_answer(tmp_path: Path, engine: str, build: str) -> None:
    folder = BUILDS[build]()
    bundle = pack(PackRequest(folder, out=tmp_path / "bundle", engines=(engine,)), Silent()).path
    goldens = read_goldens((bundle / "golden.npz").read_bytes())
    assert goldens.images is not None
    answers: Answers = {}
    with load(bundle, engine=engine) as loaded:
        answers["exporter.runtime"] = loaded(goldens.images)
    answers["onnxruntime bare"] = bare(bundle, engine, goldens)
    answers |= triton(folder, engine, goldens, tmp_path)
    node = in_node(packed(tmp_path, "node", engine, folder), goldens.images)
    answers["Node.js"] = np.array(node["answers"])
    browser = in_chromium(packed(tmp_path, "web", engine, folder), goldens.images)
    answers["Chromium (wasm)"] = np.array(browser["asked"]["answers"])
    print(table(f"{engine}, {build}", answers, goldens))  # noqa: T201 - for the record, with -s
    for name, found in answers.items():
        error = worst_error(found, goldens.answers[engine])
        assert error <= ROUNDING[Precision(engine.rpartition(".")[2])], (name, error)
        assert (found.argmax(1) == goldens.outputs.argmax(1)).all()


def bare(bundle: Path, engine: str, goldens: Goldens) -> Array:
    """ONNX Runtime by itself, on the inputs as the engine takes them."""
    entry = next(
        entry
        for entry in json.loads((bundle / "manifest.json").read_text())["engines"]
        if entry["id"] == engine
    )
    # What the manifest requires; without it a float convolution would be quantized.
    wanted: Mapping[str, Any] = entry["requires"].get("session_options", {})
    session = onnxruntime.InferenceSession(
        bundle / entry["path"],
        providers=["CPUExecutionProvider"],
        disabled_optimizers=wanted.get("disabled_optimizers"),
    )
    answer: Array = session.run(None, {session.get_inputs()[0].name: goldens.inputs})[0]
    return answer


def triton(build: Path, engine: str, goldens: Goldens, folder: Path) -> Answers:
    request = PackRequest(
        build, format="triton", backend="python", out=folder / "models", engines=(engine,)
    )
    repository = pack(request, Silent()).path
    images = folder / "images.npy"
    assert goldens.images is not None
    np.save(images, goldens.images)
    with running(repository, folder, "resnet20-digits") as server:
        found = run_client("ask", server.http, server.grpc, "resnet20-digits", images)
    return {f"Triton {name}": np.array(found[kind]) for name, kind in KINDS.items()}


KINDS = {"HTTP": "http", "gRPC": "grpc"}


def table(title: str, answers: Answers, goldens: Goldens) -> str:
    """Errors against eager PyTorch, and against the engine's own answers when it was packed."""
    (own,) = goldens.answers.values()
    lines = [
        f"\n{title}, {len(own)} goldens",
        f"{'':18}{'eager: max abs':>16}{'worst rel':>12}{'packed: max abs':>18}{'worst rel':>12}",
    ]
    for name, found in answers.items():
        figures = [
            (float(np.abs(found - expected).max()), worst_error(found, expected))
            for expected in (goldens.outputs, own)
        ]
        (eager, eager_rel), (packed_, packed_rel) = figures
        lines.append(f"{name:18}{eager:16.2e}{eager_rel:12.2e}{packed_:18.2e}{packed_rel:12.2e}")
    return "\n".join(lines)
