"""Which build is the same one: request, contents, hardware and versions, and nothing else."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exporter.errors import UsageError
from exporter.fleet.hardware import Node, kinds_of
from exporter.fleet.jobs import jobs_of
from exporter.fleet.spec import read_spec
from exporter.host import Host
from tests.fleet.sweeps import L4, OLD, ZEN


def builds(folder: Path, text: str, host: Host = ZEN, labels: Any = None) -> list[str]:
    path = folder / "spec.yaml"
    path.write_text(text)
    spec = read_spec(path)
    nodes = [Node("a", "10.0.0.1", host, labels or {})]
    return [job.build for job, _ in jobs_of(spec, kinds_of(spec.hardware, nodes))]


def test_every_model_on_every_hardware(tmp_path: Path) -> None:
    found = builds(tmp_path, "models: [resnet18, resnet34]\nhardware: {x: , y: {cpu: epyc}}")
    assert [one.partition("-")[0] for one in found] == ["resnet18", "resnet34"] * 2
    # Two names of one kind of machine are one build.
    assert found[:2] == found[2:]


def test_what_makes_another_build(tmp_path: Path) -> None:
    text = "models: [resnet18]\noptions: {rounds: 10}\nhardware: {x: }"
    one = builds(tmp_path, text)
    assert builds(tmp_path, text + "\nprices: {x: 3}\nlimits: {p99_ms: 3}") == one
    assert builds(tmp_path, text.replace("x: ", "renamed: ")) == one
    others = [
        builds(tmp_path, text.replace("10", "11")),
        builds(tmp_path, text.replace("18", "34")),
        builds(tmp_path, text + "\nprecisions: [int8]"),
        builds(tmp_path, text, OLD),
        builds(tmp_path, text, replace(ZEN, driver="1")),
        builds(tmp_path, text, replace(ZEN, versions={"torch": "2.14"})),
        builds(tmp_path, text.replace("x: ", "x: {labels: {a: b}}"), labels={"a": "b"}),
    ]
    assert len({one[0], *(other[0] for other in others)}) == len(others) + 1


def test_a_target_of_a_gpu_goes_where_one_is(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    nodes = [Node("a", "10.0.0.1", ZEN, {}), Node("b", "10.0.0.2", L4, {})]

    def targets(text: str) -> list[tuple[str, ...]]:
        path.write_text("models: [resnet18]\n" + text)
        spec = read_spec(path)
        return [job.request.targets for job, _ in jobs_of(spec, kinds_of(spec.hardware, nodes))]

    cpu, gpu = "cpu: {cores: 2}", "gpu: {gpu: L4}"
    assert targets("targets: [ort-cpu, tensorrt]") == [("ort-cpu",), ("ort-cpu", "tensorrt")]
    assert targets(f"targets: [ort-cpu, tensorrt]\nhardware: {{{gpu}, {cpu}}}") == [
        ("ort-cpu", "tensorrt"), ("ort-cpu",),
    ]  # fmt: skip
    # What a hardware asks for itself is its own matter: there are plans that are built anywhere.
    own = "{cores: 2, targets: [tensorrt-rtx]}"
    assert targets(f"hardware: {{cpu: {own}}}") == [("tensorrt-rtx",)]
    assert targets("") == [(), ()]
    with pytest.raises(
        UsageError, match=r"hardware cpu \(AMD EPYC 7B13\) has no GPU, and ort-cuda,"
    ):
        targets(f"targets: [ort-cuda, tensorrt]\nhardware: {{{cpu}}}")


def test_a_file_is_what_it_holds_wherever_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "models: [{model: resnet18, weights: a/w.pth, data: a/pictures}]"
    Path("a/pictures/cat").mkdir(parents=True)
    Path("a/w.pth").write_bytes(b"1")
    Path("a/pictures/cat/1.png").write_bytes(b"1")
    one = builds(tmp_path, text)
    shutil.copytree("a", "b")
    assert builds(tmp_path, text.replace("a/", "b/")) == one
    Path("a/pictures/cat/1.png").write_bytes(b"2")
    assert builds(tmp_path, text) != one
    Path("b/w.pth").write_bytes(b"2")
    assert builds(tmp_path, text.replace("a/", "b/")) != one
    assert builds(tmp_path, text.replace("a/w.pth", "absent.pth")) != one
