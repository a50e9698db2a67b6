"""manifest.json: what goes in comes out, and a broken one is one clear line."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exporter.artifact import Skipped, Verdict
from exporter.builds import manifest
from exporter.errors import InputError
from exporter.measure.timing import Latency, Speedup
from exporter.prove.certificate import Parity
from tests import manifests


def test_dataclasses_enums_and_infinities_become_plain_json() -> None:
    latency = Latency(
        batch=1, threads=2, warmup=3, rounds=4, p50_ms=1.5, p90_ms=2.0, p99_ms=float("inf"),
        eager_p50_ms=3.0, baseline="torch-eager", speedup=Speedup(2.0, (1.9, 2.1)), stable=True,
    )  # fmt: skip
    plain = manifest.plain({"latency": latency, "none": Skipped("why"), "verdict": Verdict.FUSED})
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["latency"]["speedup"] == {"median": 2.0, "ci95": [1.9, 2.1]}
    assert plain["latency"]["p99_ms"] == "inf"
    assert plain["none"] == {"skipped": "why"}
    assert type(plain["verdict"]) is str


def test_a_written_manifest_reads_back(tmp_path: Path) -> None:
    content = manifests.resnet50(trained=True, name="é")
    manifest.write(tmp_path, content)
    assert manifest.read(tmp_path) == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["manifest.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "holds no manifest.json"),
        ("{", "not valid JSON"),
        ('{"schema": 2}', "schema 2, expected 1"),
        ("[]", "schema None, expected 1"),
    ],
)
def test_a_broken_manifest_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(InputError, match=message):
        manifest.read(tmp_path)


def test_what_is_not_finite_comes_back(tmp_path: Path) -> None:
    content = manifests.resnet50()
    (first, *others) = content.engines
    assert isinstance(first.parity, Parity)
    spoilt = replace(first, parity=replace(first.parity, rel_l2=math.inf, max_abs=math.nan))
    manifest.write(tmp_path, replace(content, engines=(spoilt, *others)))
    parity = manifest.read(tmp_path).engines[0].parity
    assert isinstance(parity, Parity)
    assert parity.rel_l2 == math.inf
    assert math.isnan(parity.max_abs)


def output(name: str, *sizes: int | str) -> dict[str, Any]:
    return {"name": name, "dtype": "float32", "shape": ["batch", *sizes]}


def edited(path: str, value: Any) -> dict[str, Any]:
    """A manifest with another value at `path` ("engines.0.files"); None takes the field away."""
    content: dict[str, Any] = json.loads(json.dumps(manifest.to_json(manifests.resnet50())))
    *parents, last = path.split(".")
    at: Any = content
    for key in parents:
        at = at[int(key) if key.isdigit() else key]
    if value is None:
        del at[last]
    else:
        at[last] = value
    return content


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("model", None, "model: a required field is missing"),
        ("engines.0.receipt.float_ops", None, "engines[0].receipt.float_ops: a required field is"),
        ("engines.0.files", [], "engines[0]: expected at least one file, found []"),
        (
            "engines.0.precision",
            "int4",
            'expected one of fp32, fp16, bf16, mixed, int8, fp8, found "int4"',
        ),
        ("engines.0.parity.rel_l2", "x", 'engines[0].parity.rel_l2: expected a number, found "x"'),
        ("engines.0.parity", ["x"], 'engines[0].parity: expected an object, found ["x"]'),
        ("engines.0.trained", 1, "engines[0].trained: expected true or false, found 1"),
        ("engines.0.graph", 3, "engines[0].graph: expected a text, found 3"),
        ("engines.0.latency.speedup.ci95", [1.0], "ci95: expected a list of 2 values, found [1.0]"),
        ("model.parameters", True, "model.parameters: expected a whole number, found true"),
        ("model.parameters", 2**63, "model.parameters: expected a whole number of 64 bits"),
        ("model.input.shape", [0, 3, 8, 8], "model.input.shape[0]: expected a size or the name"),
        ("host.versions", ["a"], 'host.versions: expected an object, found ["a"]'),
        ("host.versions.torch", 2, 'host.versions["torch"]: expected a text, found 2'),
        ("host.cpu_flags", "avx2", 'host.cpu_flags: expected a list, found "avx2"'),
        ("host.cpu", "\ud800", "a text in it is no Unicode"),
        ("request.between", "int8", 'request.between: expected one of fp32, fp16, found "int8"'),
        ("engines.0.colour", "red", "engines[0]: unknown field colour"),
        ("schema", True, "schema True, expected 1"),
        ("model.name", "../../x", "no file name"),
        ("engines.0.files.0.path", "../../x", "leads out of the build"),
        ("engines.0.graph", "/etc/x", "leads out of the build"),
        ("model.scores", 1, "model.scores is 1, of 1 output(s)"),
        ("model.scores", "0", "model.scores: expected"),
        ("model.other_outputs", [output("logits", 8)], "two outputs of the model have one name"),
        ("model.other_outputs", [output("map", "any")], "output 'map' are not known"),
        ("model.other_outputs", [output("map")], "output 'map' are not known"),
    ],
)
def test_a_field_that_does_not_fit_is_named(path: str, value: Any, told: str) -> None:
    with pytest.raises(InputError, match=re.escape(told)) as raised:
        manifest.from_json(edited(path, value), "there/manifest.json")
    assert str(raised.value).startswith("there/manifest.json")
    assert "\n" not in str(raised.value)


def test_a_number_beyond_floats_and_a_nest_beyond_the_stack_are_named(tmp_path: Path) -> None:
    content = json.dumps(edited("engines.0.parity.rel_l2", "@")).replace('"@"', "1" + "0" * 400)
    for text in (content, "[" * 100_000):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(InputError):
            manifest.read(tmp_path)
