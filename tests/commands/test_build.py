"""A build in a program: what it says of itself, and the commands as methods."""

from __future__ import annotations

import doctest
import html
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import exporter
from exporter.builds import manifest as manifests_of
from exporter.commands import build as module
from exporter.commands import export as exporting
from exporter.commands.build import Build
from tests import manifests
from tests.hostile import HOSTILE, hostile
from tests.packed import digits_build


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A build that a test may change."""
    return Path(shutil.copytree(digits_build(), tmp_path / "build"))


def known(manifest: exporter.Manifest) -> Build:
    return Build(Path("build"), manifest)


def test_the_examples_of_the_documentation_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner()
    finder = doctest.DocTestFinder()
    found = [one for part in (exporting, module) for one in finder.find(part, globs={})]
    documented = [test for test in found if test.examples]
    assert len(documented) == 7
    for test in documented:
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


def test_it_is_a_mapping_of_engines() -> None:
    manifest = manifests.resnet50()
    build = known(manifest)
    assert list(build) == [engine.id for engine in manifest.engines]
    assert len(build) == len(manifest.engines)
    assert build["ort-cpu.int8"] is manifest.engine("ort-cpu.int8")
    assert (build.path, build.manifest, build.engines) == (
        Path("build"),
        manifest,
        manifest.engines,
    )
    assert build.fastest is not None
    assert build.fastest == manifest.fastest
    assert "ort-cpu.int9" not in build
    assert build.get("ort-cpu.int9") is None


def test_an_engine_that_is_not_there_says_why() -> None:
    build = known(manifests.failed())
    with pytest.raises(exporter.UnknownEngineError, match=r"did you mean ort-cpu\.int8") as unknown:
        build["ort-cpu.int9"]
    assert isinstance(unknown.value, KeyError)
    assert isinstance(unknown.value, exporter.UsageError)
    assert not str(unknown.value).startswith(("'", '"'))
    for failed in build.manifest.failed_engines:
        assert failed.id not in build
        with pytest.raises(exporter.UnknownEngineError) as caught:
            build[failed.id]
        assert failed.reason in str(caught.value)
    assert build.failures == build.manifest.failures != ()


def test_it_prints_as_a_table() -> None:
    text = repr(exporter.open_build(digits_build()))
    assert text.startswith("resnet20-digits")
    for engine in ("ort-cpu.fp32", "ort-cpu.fp16", "ort-cpu.int8"):
        assert engine in text
    assert "\x1b" not in text
    assert not [line for line in text.splitlines() if line != line.rstrip()]


def test_in_a_notebook_it_is_the_first_screen_of_the_report() -> None:
    shown = known(hostile(manifests.resnet50()))._repr_html_()
    (frame,) = re.findall(
        r'^<iframe title="[^"]*" sandbox srcdoc="([^"]*)" style="[^"]*"></iframe>$', shown
    )
    page = html.unescape(frame)
    assert "<script" not in page
    assert html.escape(HOSTILE, quote=False) in page or "&lt;script&gt;" in page
    assert 'id="use"' in page
    assert 'id="receipts"' not in page
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page)


def test_a_check_that_fails_is_a_value(folder: Path) -> None:
    build = exporter.open_build(folder)
    assert not build.validate(threads=1).failures
    path = folder / build["ort-cpu.int8"].path
    path.write_bytes(path.read_bytes() + b"\0")
    found = build.validate(threads=1)
    assert found.failures == build.failures
    (failure,) = found.failures
    assert failure.startswith("ort-cpu.int8: ")


def test_it_has_what_was_found_last(folder: Path) -> None:
    build = exporter.open_build(folder)
    build.validate(blocks=True, threads=1)
    drift = build["ort-cpu.int8"].parity
    assert isinstance(drift, exporter.Parity)
    assert len(drift.blocks) == 9
    build.benchmark(batches=[2], threads=1, rounds=5)
    latency = build["ort-cpu.int8"].latency
    assert isinstance(latency, exporter.Latency)
    assert latency.batch == 2
    assert build.manifest == manifests_of.read(folder) == exporter.open_build(folder).manifest


def test_it_is_packed_with_the_words_of_the_command_line(folder: Path, tmp_path: Path) -> None:
    build = exporter.open_build(folder)
    packed = build.pack("bundle", tmp_path / "bundle", engines=["ort-cpu.fp32"])
    assert packed.engines == ("ort-cpu.fp32",)
    assert exporter.load(packed.path).id == "ort-cpu.fp32"
    with pytest.raises(exporter.UsageError, match="did you mean triton"):
        build.pack("tritn")


def test_what_is_to_be_known_is_kept_and_told(tmp_path: Path) -> None:
    told = exporter.progress.Silent()
    build = exporter.export(
        "resnet20", targets=["ort-cpu"], precisions=["fp32"], measure=False, samples=8,
        out=tmp_path / "build", progress=told,
    )  # fmt: skip
    assert "RANDOM weights" in build.notes[0]
    assert list(build.notes) == told.notes


class Net(torch.nn.Module):
    """(N, 1, H, W) -> (N, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 8, 3, padding=1)
        self.bn = torch.nn.BatchNorm2d(8)
        self.fc = torch.nn.Linear(8, 5)
        # Its decisions are clear ones: a network of random weights changes near ties in INT8.
        self.fc.bias.data = self.fc.bias + 10 * torch.arange(5.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.fc(self.bn(self.conv(x)).relu().mean((2, 3)))
        return y


def test_a_module_is_compiled_and_measured_again_and_left_alone(tmp_path: Path) -> None:
    net, other = Net().train(), Net()
    net.bn.eval()
    seen: list[int] = []
    net.fc.register_forward_hook(lambda *_: seen.append(1))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    build = exporter.export(
        net, example=torch.zeros(1, 1, 12, 20), targets=["ort-cpu"], precisions=["fp32", "int8"],
        rounds=5, samples=8, threads=1, out=tmp_path / "build",
    )  # fmt: skip
    assert build.failures == ()
    assert isinstance(build["ort-cpu.fp32"].latency, exporter.Latency)
    assert build.manifest.model.name == "Net"
    report = html.unescape((build.path / "report.html").read_text())
    again = "exporter.export(MODULE, example=torch.zeros(1, 1, 12, 20), targets=['ort-cpu'], "
    assert again + "precisions=['fp32', 'int8'], samples=8, threads=1, rounds=5)" in report
    assert "exporter.open_build('DIR').benchmark(model=MODULE, threads=1, rounds=5)" in report
    assert build.benchmark(model=net, batches=[2], threads=1, rounds=5).failures == ()
    assert build["ort-cpu.int8"].latencies[0].batch == 2
    with pytest.raises(exporter.UsageError, match=r"Net was handed over by .+ --model package"):
        exporter.open_build(build.path).benchmark()
    with pytest.raises(exporter.UsageError, match="with another hash"):
        build.benchmark(model=other)
    assert len(seen) <= 2  # once a copy, to see whether the hook matters
    assert (net.training, net.bn.training) == (True, False)
    torch.testing.assert_close(dict(net.state_dict()), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (Net, {"image_size": 8}, "give what Net"),
        (Net(), {}, "give either example="),
        (Net(), {"image_size": 8, "num_classes": 5}, "num_classes concerns"),
        (torch.nn.Linear(3, 2), {"image_size": 8}, r"does not run on a \(1, 3, 8, 8\) input"),
        ("resnet18", {"example": torch.zeros(1, 3, 8, 8)}, "example concerns modules"),
        ("resnet18", {"rounds": 1}, "rounds is 1: give a whole number of at least 5"),
        ("resnet18", {"measure": "no"}, "measure is 'no': give True or False"),
        ("resnet18", {"precisions": ["INT9"]}, "did you mean int8"),
        ("resnet18", {"progress": "on"}, "progress is 'on'"),
    ],
)
def test_what_cannot_be_carried_out_is_said_and_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: Any,
    options: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(exporter.UsageError, match=message):
        exporter.export(model, **options)
    assert list(tmp_path.iterdir()) == []
