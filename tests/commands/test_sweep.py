"""`exporter sweep` on this machine: real builds, skipped when they are there, one page."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import exporter
from exporter import host
from exporter.builds.request import ExportRequest
from exporter.builds.sweep_request import SweepRequest
from exporter.cli import main
from exporter.commands import sweep as sweeping
from exporter.commands.sweep import Sweep, run_sweep
from exporter.errors import ExporterError, InputError, UsageError
from exporter.fleet.jobs import Job
from exporter.fleet.store import Store
from exporter.progress import Silent
from tests import foreign

SPEC = """
models: [{model: one.onnx}, {model: two.onnx, name: second}]
precisions: [fp32]
targets: [ort-cpu]
hardware: {here: {}}
prices: {here: 0.5}
limits: {drop: 1%}
options: {measure: false, samples: 8}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with two networks and a spec."""
    monkeypatch.chdir(tmp_path)
    for name in ("one.onnx", "two.onnx"):
        foreign.write(tmp_path, foreign.resnet(channels_last=False), name)
    spec(SPEC)
    return tmp_path


def spec(text: str) -> None:
    Path("fleet.yaml").write_text(text)


def swept(progress: Silent | None = None, **options: str) -> Sweep:
    return run_sweep(SweepRequest(Path("fleet.yaml"), **options), progress or Silent())


def manifests(out: str = "build/sweeps/fleet") -> list[Path]:
    return sorted(Path(out, "builds").glob("*/manifest.json"))


def test_every_build_is_stored_and_found_again(capsys: pytest.CaptureFixture[str]) -> None:
    first = exporter.sweep("fleet.yaml", progress=False)
    assert first.failures == ()
    assert first.out == Path("build/sweeps/fleet")
    assert sorted(one.name for one in first.out.iterdir()) == ["builds", "fleet.html", "sweep.json"]
    written = manifests()
    assert [path.parent.name.rpartition("-")[0] for path in written] == ["one", "second"]
    for path in written:
        assert exporter.open_build(path.parent).validate(progress=False).failures == ()
    times = [path.stat().st_mtime_ns for path in written]
    progress = Silent()
    again = swept(progress)
    assert progress.notes == ["2 of 2 builds are in the store already"]
    assert again.done_before == 2
    assert again.record == first.record
    assert [path.stat().st_mtime_ns for path in manifests()] == times
    with pytest.raises(SystemExit, match="0"):
        main(["sweep", "fleet.yaml", "--json", "--quiet"])
    assert json.loads(capsys.readouterr().out) == json.loads((again.out / "sweep.json").read_text())


def test_one_that_fails_costs_that_one_and_is_done_again_later(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("two.onnx").write_bytes(b"torn")
    with pytest.raises(SystemExit, match="1"):
        main(["sweep", "fleet.yaml", "--quiet"])
    out, err = capsys.readouterr()
    assert [line for line in err.splitlines() if "error: second on here: " in line]
    assert "Traceback" not in err
    assert "one.fp32" not in out
    assert len(manifests()) == 1
    record = json.loads(Path("build/sweeps/fleet/sweep.json").read_text())
    assert [one["model"] for one in record["failed"]] == ["second"]
    foreign.write(Path(), foreign.resnet(channels_last=False), "two.onnx")
    found = swept()
    assert (found.failures, found.done_before) == ((), 1)


def test_whatever_a_job_raises_is_its_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def put(self: Store, folder: Path, build: str) -> None:
        raise ZeroDivisionError("a slip")

    monkeypatch.setattr(Store, "put", put)
    assert swept().failures == (
        "one on here: ZeroDivisionError: a slip", "second on here: ZeroDivisionError: a slip",
    )  # fmt: skip


def test_an_engine_that_cannot_be_built_is_named_and_the_rest_is_there() -> None:
    one = SPEC.replace(", {model: two.onnx, name: second}", "")
    spec(one.replace("{here: {}}", "{here: {targets: [ort-cpu, ort-cuda]}}"))
    found = swept()
    (build,) = found.record.builds
    assert [one.id for one in build.report.engines] == ["ort-cpu.fp32"]
    (failure,) = found.failures
    assert failure.startswith("one on here: ort-cuda.fp32: ")


def test_a_target_that_suits_only_other_hardware_is_left_out_and_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without = replace(host.describe_host(), gpu=None)
    monkeypatch.setattr(host, "describe_host", lambda: without)
    one = SPEC.replace(", {model: two.onnx, name: second}", "")
    spec(one.replace("[ort-cpu]", "[ort-cpu, ort-cuda]"))
    progress = Silent()
    found = swept(progress)
    assert found.failures == ()
    assert progress.notes[0] == "ort-cuda: not on here, without a GPU"


def test_a_build_that_somebody_else_finished_meanwhile_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    swept()
    (one, _) = manifests()
    job = Job("one", "here", one.parent.name, ExportRequest("one.onnx"))
    monkeypatch.setattr(sweeping, "export", None)  # it would be called
    store = Store(str(one.parents[1]))
    assert sweeping.Work(store)(job) is None
    said = sweeping.Work(store)(replace(job, build="other"))
    assert said is not None
    assert said.startswith("TypeError")


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        (SPEC.replace("models", "modles"), InputError, "did you mean models?"),
        (SPEC.replace("{here: {}}", "{here: {gpu: H900}}"), UsageError,
         r"no node is hardware here \(gpu H900\); there is this machine \(.*cores"),
        (SPEC.replace("{here: {}}", "{here: {labels: {a: b}}}"), UsageError, "labels a=b"),
        (SPEC + "store: ftp://127.0.0.1:9/x", InputError, "Connection refused"),
        (SPEC + "store: nowhere://x", UsageError, "URI that fsspec knows"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_before_anything_is_built(
    text: str, kind: type[ExporterError], said: str
) -> None:
    spec(text)
    with pytest.raises(kind, match=said):
        swept()
    assert not list(Path().rglob("manifest.json"))


def test_where_no_cluster_is_it_says_so_before_anything_is_built() -> None:
    pytest.importorskip("ray")
    with pytest.raises(UsageError, match="no Ray cluster answers there within 10 s"):
        swept(on="127.0.0.1:1")
    assert not list(Path().rglob("manifest.json"))


def test_two_sweeps_are_compared_build_by_build(capsys: pytest.CaptureFixture[str]) -> None:
    swept(out="old")
    shutil.copytree("old", "new")
    for arguments in (["old", "new"], ["old/sweep.json", "new", "--require", "all", "--json"]):
        with pytest.raises(SystemExit, match="0"):
            main(["compare", *arguments])
    assert "ort-cpu.fp32" in capsys.readouterr().out
