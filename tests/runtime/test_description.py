"""A bundle's manifest whose values do not fit is refused, and the place named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exporter.runtime import BundleError, ServingError, load
from tests.packed import edit_manifest, resum


def required(**requires: Any) -> Callable[[dict[str, Any]], object]:
    return lambda manifest: manifest["engines"][0]["requires"].update(requires)


def several(*sizes: Any, name: str = "map", scores: Any = 0) -> Callable[[dict[str, Any]], object]:
    output = {"name": name, "dtype": "float32", "shape": ["batch", *sizes]}
    return lambda manifest: manifest["model"].update(other_outputs=[output], scores=scores)


def tolerated(**tolerance: Any) -> Callable[[dict[str, Any]], object]:
    return lambda manifest: manifest["bundle"]["tolerances"]["ort-cpu.fp32"].update(tolerance)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: m.update(schema=2), "another schema"),
        (lambda m: m.pop("bundle"), "lacks bundle; give what"),
        (lambda m: m.update(model=[]), r"manifest\.json: model is \[\], expected an object"),
        (lambda m: m["bundle"]["tolerances"].clear(), r"lacks bundle\.tolerances\.ort-cpu\.fp32"),
        (lambda m: m["bundle"].update(answers="words"), "expected logits or probabilities"),
        (lambda m: m["model"].update(scores=1), r"scores is 1, expected null, or a number below 1"),
        (lambda m: m["model"].update(scores=True), r"scores is True, expected null"),
        (several("any"), r"shape\[1\] is 'any', expected a whole number"),
        (several(8, name="logits"), "expected outputs of different names"),
        (several(8), r"golden\.npz has 10 values for 18 outputs"),
        (several(10, scores=None), r"golden\.npz has 10 values for 20 outputs"),
        (lambda m: m["model"].update(scores=None), "has 10 lines for 0 outputs"),
        (lambda m: m["model"]["preprocessing"].update(mean=[0.1, 0.2]), "each of 1 or 3 channels"),
        (lambda m: m["model"]["preprocessing"].update(std="abc"), "expected a list"),
        (lambda m: m["model"]["preprocessing"].update(crop=0), r"crop is 0, expected a whole"),
        (lambda m: m["model"]["preprocessing"].update(resize=[1, 2, 3]), "of pixels, or two"),
        (lambda m: m["model"]["preprocessing"].update(resize=1 << 20), "1 to 16384"),
        (lambda m: m["model"]["preprocessing"].update(interpolation=3), "or nearest or none"),
        (
            lambda m: m["engines"][0]["files"][0].update(bytes=-1),
            r"bytes is -1, expected a whole number",
        ),
        (lambda m: m.update(engines=[]), "no engine"),
        (lambda m: m["engines"][0].update(target=7), r"engines\[0\]\.target is 7.*expected a text"),
        (lambda m: m["engines"][0].update(files=[]), "expected at least one file"),
        (lambda m: m["engines"][0].update(requires=None), r"engines\[0\]\.requires is None"),
        (required(versions=["onnxruntime"]), r"requires\.versions is .* expected an object"),
        (required(versions={"onnxruntime": 1.3}), r"versions\.onnxruntime is 1\.3"),
        (required(cpu_flags=5), "expected a list"),
        (required(session_options={"config": [1]}), r"session_options\.config is \[1\]"),
        (required(session_options={"disabled_optimizers": [{}]}), r"optimizers\[0\] is \{\}"),
        (tolerated(rel_l2=float("inf")), "expected a finite number"),
        (tolerated(rel_l2=True), "expected a finite number"),
        (tolerated(rel_l2=10**400), "expected a finite number"),
        (tolerated(against="nothing"), "expected engine or reference"),
        (lambda m: m["engines"][0]["files"][0].update(path="../engine.onnx"), "not in SHA256SUMS"),
    ],
)
def test_a_malformed_manifest_is_refused(
    bundle: Path, edit: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit_manifest(bundle, edit)
    with pytest.raises(ServingError, match=message):
        load(bundle, engine="ort-cpu.fp32" if "not in" in message else None)


@pytest.mark.parametrize("contents", [b"", b"{", b"[" * 100_000, b'{"schema": \xff}', b"7"])
def test_a_manifest_that_is_no_json_object_is_refused(bundle: Path, contents: bytes) -> None:
    (bundle / "manifest.json").write_bytes(contents)
    resum(bundle)
    with pytest.raises(BundleError, match=r"manifest\.json"):
        load(bundle)
