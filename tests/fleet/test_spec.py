"""SPEC.yaml: read strictly, each slip one line that names the place and what is meant."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from exporter.errors import InputError, MissingDependencyError
from exporter.fleet.record import Limits
from exporter.fleet.spec import Hardware, Spec, read_spec

WHOLE = """
models: [resnet18, {model: resnet50, weights: random, name: fifty}]
precisions: [fp32, int8]
targets: [ort-cpu, openvino]
hardware:
  zen: {flags: [avx512_vnni], cores: 16}
  l4: {gpu: L4, targets: [tensorrt], precisions: fp16, options: {batches: [4]}}
  rack: {labels: {rack: 7}}
options: {rounds: 10, batches: [1, 8], samples: 16}
prices: {zen: 0.34, l4: 0.71, rack: 1}
limits: {p99_ms: 20, drop: 1%}
store: memory://sweep
"""


def read(folder: Path, text: str) -> Spec:
    path = folder / "fleet.yaml"
    path.write_text(text, encoding="utf-8")
    return read_spec(path)


def test_a_whole_one(tmp_path: Path) -> None:
    spec = read(tmp_path, WHOLE)
    assert [(one.name, one.source) for one in spec.models] == [
        ("resnet18", "resnet18"), ("fifty", "resnet50"),
    ]  # fmt: skip
    assert spec.hardware[0] == Hardware(name="zen", flags=("avx512_vnni",), cores=16)
    assert spec.hardware[2].labels == {"rack": "7"}
    assert (spec.name, spec.limits, spec.prices["zen"]) == ("fleet", Limits(20, 0.01), 0.34)
    zen = spec.request_for(spec.models[1], spec.hardware[0])
    assert (zen.source, zen.weights, zen.targets) == ("resnet50", "random", ("ort-cpu", "openvino"))
    assert (zen.rounds, zen.batches, zen.samples) == (10, (1, 8), 16)
    l4 = spec.request_for(spec.models[0], spec.hardware[1])
    assert (l4.targets, l4.precisions, l4.weights) == (("tensorrt",), ("fp16",), "auto")
    assert (l4.batches, l4.rounds) == ((4,), 10)


def test_files_are_named_by_their_whole_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.pth").write_bytes(b"")
    spec = read(
        tmp_path, "models: [{model: net.onnx}, {model: resnet18, weights: 'mine.pth::ema'}]"
    )
    assert spec.models[0].source == str(tmp_path / "net.onnx")
    assert spec.models[1].options["weights"] == f"{tmp_path / 'mine.pth'}::ema"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: [resnet18]", "unknown key in the file 'model'; did you mean models"),
        ("", "the file is None; give keys and values"),
        ("precisions: [fp32]", "it names no models; give models:"),
        ("models: 7", "models is 7; give a list"),
        ("models: [{weights: random}]", "says which: {model: resnet50, ...}"),
        ("models: [a, a]", "two models are called a; give one of them a name: of its own"),
        (
            "models: [{model: a, round: 3}]",
            "unknown option in model a 'round'; did you mean rounds",
        ),
        ("models: [a]\noptions: {out: b}", "unknown option in options 'out'"),
        ("models: [a]\noptions: {rounds: 1}", "rounds is 1: give a whole number of at least 5"),
        ("models: [a]\noptions: {batches: {a: 1}}", "batches {'a': 1}: give positive numbers"),
        ("models: [a]\nprecisions: [int7]", "unknown precision 'int7'; did you mean int8"),
        ("models: [a]\ntargets: [ort-cpuu]", "unknown target 'ort-cpuu'; did you mean ort-cpu"),
        ("models: [a]\nhardware: {x: {flag: [a]}}", "key in hardware x 'flag'; did you mean flags"),
        ("models: [a]\nhardware: {x: {cores: two}}", "hardware x: cores is 'two'; give a whole"),
        ("models: [a]\nprices: {x: 1}", "unknown hardware in prices 'x'"),
        ("models: [a]\nhardware: {x: , y: }\nprices: {x: 1}", "y has no price; give one of each"),
        ("models: [a]\nhardware: {x: }\nprices: {x: -1}", "the price of x is -1; give a number"),
        ("models: [a]\nlimits: {p99: 3}", "unknown key in limits 'p99'; did you mean p99_ms"),
        ("models: [a]\nlimits: {drop: much}", "drop is 'much'; give a share of the images"),
        ("models: [a]\nmodels: [b]", "'models' stands twice in what begins at line 1"),
        ("models: [a", "is not valid YAML"),
    ],
)
def test_a_slip_is_one_line_that_names_the_file(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    line = str(caught.value)
    assert line.startswith(str(tmp_path / "fleet.yaml"))
    assert "\n" not in line
    assert said in line


def test_no_file_and_no_yaml_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"cannot read .*absent.yaml: No such file"):
        read_spec(tmp_path / "absent.yaml")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingDependencyError, match=r"read by PyYAML, .*\[sweep\]"):
        read(tmp_path, WHOLE)
