"""The report that a user sends of a GPU: its steps, its archive, its page; no GPU is asked here."""

from __future__ import annotations

import json
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import gpu_report
from benchmarks.gpu_report import (
    Ending,
    Request,
    Step,
    first_steps,
    last_steps,
    pack,
    report,
    run_step,
    scrubbed,
    targets_of,
    trtexec_steps,
)
from benchmarks.gpu_summary import summarize, trtexec_median_ms
from benchmarks.suite import GPU_ENTRIES
from exporter import host
from exporter.builds import manifest as manifests
from exporter.measure.nvml import GpuSample
from exporter.progress import Silent
from exporter.targets import MachineKind
from tests.gpu_manifests import a_gpus_build

GPU = MachineKind.GPU
TRTEXEC = """\
[11/25/2026-21:00:00] [I] === Performance summary ===
[11/25/2026-21:00:00] [I] Throughput: 1890.1 qps
[11/25/2026-21:00:00] [I] Latency: min = 0.51 ms, max = 0.61 ms, mean = 0.53 ms, median = 0.529 ms
[11/25/2026-21:00:00] [I] GPU Compute Time: min = 0.481 ms, max = 0.55 ms, mean = 0.49 ms, \
median = 0.4885 ms, percentile(90%) = 0.5 ms
"""
REQUEST = Request(GPU, "resnet50", ("tensorrt", "ort-cuda"), (1, 8), 15, ("tests/gpu",))


def python(name: str, program: str, limit_s: float = 60) -> Step:
    return Step(name, (sys.executable, "-c", program), limit_s)


def soon() -> float:
    return time.monotonic() + 60


def test_a_step_that_fails_or_does_not_start_is_an_outcome(tmp_path: Path) -> None:
    fails = python("fails", "print('error: no plan'); print('bye'); raise SystemExit(1)")
    absent = Step("absent", ("no-such-program-here",), 60)
    steps = (python("works", "print('fine')"), fails, absent)
    works, failed, missing = (run_step(step, tmp_path, soon()) for step in steps)
    assert (works.ending, works.exit_code, works.why) == (Ending.DONE, 0, "")
    assert (failed.ending, failed.exit_code, failed.why) == (Ending.FAILED, 1, "error: no plan")
    assert missing.ending is Ending.FAILED
    assert "no-such-program-here does not start" in missing.why
    assert (tmp_path / "works.log").read_text() == "fine\n"


def test_a_step_that_takes_too_long_is_stopped_and_what_comes_after_the_time_is_not_run(
    tmp_path: Path,
) -> None:
    slow = python("slow", "import time; time.sleep(60)", 0.5)
    stopped = run_step(slow, tmp_path, soon())
    assert (stopped.ending, stopped.why) == (Ending.OUT_OF_TIME, "stopped after 0 s")
    assert stopped.seconds < 30
    late = run_step(python("late", ""), tmp_path, time.monotonic() - 1)
    assert (late.ending, late.exit_code) == (Ending.NOT_RUN, None)
    assert not (tmp_path / "late.log").exists()


def test_a_report_goes_on_past_failures_and_always_has_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def steps(_request: Request, _folder: Path) -> list[Step]:
        return [python("export-tensorrt", "raise SystemExit('error: no GPU')"), python("next", "")]

    monkeypatch.setattr(gpu_report, "first_steps", steps)
    monkeypatch.setattr(gpu_report, "last_steps", lambda *_: [python("suite", "")])
    request = replace(REQUEST, device=MachineKind.CPU)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "of-an-earlier-run.log").write_text("old")
    outcomes = report(request, tmp_path / "out", 60, Silent())
    assert [(one.name, one.ending) for one in outcomes] == [
        ("export-tensorrt", Ending.FAILED), ("next", Ending.DONE), ("suite", Ending.DONE)
    ]  # fmt: skip
    page = (tmp_path / "out" / "summary.md").read_text()
    assert "| tensorrt | no | error: no GPU |" in page
    assert json.loads((tmp_path / "out" / "steps.json").read_text())[1]["name"] == "next"
    with zipfile.ZipFile(pack(tmp_path / "out")) as archive:
        names = {Path(name).name for name in archive.namelist()}
    assert names == {
        "export-tensorrt.log", "next.log", "suite.log", "steps.json", "host.json", "nvml.jsonl",
        "summary.md",
    }  # fmt: skip


def test_the_steps_are_those_that_the_questions_need(tmp_path: Path) -> None:
    steps = {
        step.name: step
        for step in (*first_steps(REQUEST, tmp_path), *last_steps(REQUEST, tmp_path))
    }
    assert list(steps) == [
        "doctor", "packages", "nvidia-smi", "export-tensorrt", "export-ort-cuda", "tests", "suite",
    ]  # fmt: skip
    assert "--batches 1,8" in " ".join(steps["export-tensorrt"].command)
    assert "--device gpu" in " ".join(steps["suite"].command)
    assert set(gpu_report.PEERS) <= {entry.name for entry in GPU_ENTRIES}
    limits = sum(step.limit_s for step in steps.values())
    assert limits < 2 * gpu_report.MINUTES * 60
    assert set(targets_of(GPU)) >= {"tensorrt", "ort-cuda", "ort-tensorrt"}
    assert set(targets_of(MachineKind.CPU)) == {"ort-cpu", "openvino"}


def test_the_page_answers_the_questions(tmp_path: Path) -> None:
    build = tmp_path / "builds" / "tensorrt"
    build.mkdir(parents=True)
    manifests.write(build, a_gpus_build())
    (tmp_path / "trtexec-tensorrt-fp16-b1.log").write_text(TRTEXEC)
    (tmp_path / "tests.xml").write_text(
        '<testsuites><testsuite tests="4" failures="1" errors="0" skipped="1" hostname="me">'
        '<testcase name="test_a"><failure message="1e-3 &lt; 1e-5&#10;more"/></testcase>'
        "</testsuite></testsuites>"
    )
    sample = GpuSample(0.0, 1980, 2619, 71, 299.6, 0x4, 10**9)
    steps = {"export-tensorrt": ("done", "60 s", ""), "suite": ("failed", "3 s", "error: | no")}
    page = summarize(tmp_path, GPU, "resnet50", steps, [sample, replace(sample, sm_clock_mhz=1200)])
    lines = page.splitlines()

    def line(start: str) -> str:
        return next(one for one in lines if one.startswith(start))

    assert "| tensorrt | fp16 | nothing |" in lines
    assert line("| tensorrt.fp16 | passed | engine |")
    assert "| tensorrt.fp16 | fused | fused | 16/16 |  |" in lines
    assert "| tensorrt.fp16 | 1 | 0.5000 ms | 0.4885 ms | 1.024 |" in lines
    assert "| tensorrt.fp16 | 8 | 1.0000 ms | trtexec is not in PATH |  |" in lines
    speed = line("| tensorrt.fp16 | 1 | 1.000 ms |")
    # 2 * 4.089 GMAC in half a millisecond are 16.4 of 40 TOP/s; 250 of 500 microseconds.
    assert "| 2.00 | 1.96 to 2.04 | 50% | 41% | 0.1510 | 700 MB |" in speed
    assert "held down: power cap, unstable" in speed
    assert "2 passed, 1 failed, 0 errors, 1 skipped." in lines
    assert "* test_a: 1e-3 < 1e-5" in lines
    assert "clock 1200 to 1980 MHz, at most 71 °C and 300 W; held down by: power cap" in page
    assert "| suite | failed | 3 s | error: / no |" in lines


@pytest.mark.parametrize("text", ["", "no figures", TRTEXEC.replace("GPU Compute", "Enqueue")])
def test_a_log_of_trtexec_without_its_figure_has_none(text: str, tmp_path: Path) -> None:
    log = tmp_path / "trtexec.log"
    assert trtexec_median_ms(log) is None
    log.write_text(text)
    assert trtexec_median_ms(log) is None


def test_trtexec_is_given_the_plan_that_was_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = tmp_path / "builds" / "tensorrt"
    build.mkdir(parents=True)
    manifests.write(build, a_gpus_build())
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    steps = list(trtexec_steps(REQUEST, tmp_path))
    assert [step.name for step in steps] == ["trtexec-tensorrt-fp16-b1", "trtexec-tensorrt-fp16-b8"]
    assert steps[0].command[0] == "trtexec"
    assert steps[0].command[1] == f"--loadEngine={build / 'engines/tensorrt/fp16.bin'}"
    monkeypatch.setattr("shutil.which", lambda _name: None)
    assert list(trtexec_steps(REQUEST, tmp_path)) == []


def test_nothing_in_the_archive_names_the_machine(tmp_path: Path) -> None:
    folder = tmp_path / "report"
    (folder / "builds" / ".stopped.partial").mkdir(parents=True)
    (folder / gpu_report.CACHE).mkdir()
    text = f'{Path.home()}/x {gpu_report.ROOT}/exporter {sys.prefix}/lib hostname="my-box"'
    for name in ("a.log", "builds/.stopped.partial/b.log", "cache/manifest.json", "fp32.onnx"):
        (folder / name).write_text(text)
    with zipfile.ZipFile(pack(folder)) as archive:
        assert archive.namelist() == ["report/a.log"]
        content = archive.read("report/a.log").decode()
    for own in (str(gpu_report.ROOT), sys.prefix, "my-box"):
        assert own not in content
    assert content == scrubbed(text)


@pytest.mark.gpu_report
@pytest.mark.timeout(600)
def test_the_whole_report_on_a_cpus_targets(tmp_path: Path) -> None:
    """As `make gpu-report` runs it, on the digits; one of its targets cannot be built here."""
    if host.describe_host().gpu is not None:
        pytest.skip("there is a GPU here: make gpu-report")
    request = Request(
        device=MachineKind.CPU,
        model="resnet20-digits",
        targets=("ort-cpu", "tensorrt"),
        batches=(1, 4),
        rounds=5,
        tests=("tests/gpu",),
        peers=("onnxruntime", "ours/ort-cpu.fp32"),
    )
    outcomes = report(request, tmp_path / "report", 500, Silent())
    endings = {one.name: one for one in outcomes}
    failed = endings.pop("export-tensorrt")
    assert failed.ending is Ending.FAILED
    assert failed.why.startswith("error: target tensorrt")
    assert {one.ending for one in endings.values()} == {Ending.DONE}, outcomes
    page = (tmp_path / "report" / "summary.md").read_text(encoding="utf-8")
    assert "| ort-cpu | fp32, fp16, int8 | nothing |" in page
    assert "| ort-cpu.int8 | fused | fused | 9/9 |  |" in page
    assert "0 passed, 0 failed, 0 errors" in page
    with zipfile.ZipFile(pack(tmp_path / "report")) as archive:
        names = {name.removeprefix("report/") for name in archive.namelist()}
        texts = [archive.read(name).decode() for name in archive.namelist()]
    assert {
        "summary.md", "steps.json", "host.json", "nvml.jsonl", "tests.xml", "doctor.log",
        "builds/ort-cpu/manifest.json", "builds/ort-cpu/report.html", "export-tensorrt.log",
    } <= names  # fmt: skip
    assert any(name.startswith("suite/raw/") for name in names)
    assert not [name for name in names if name.endswith((".onnx", ".npz", ".plan"))]
    assert not [text for text in texts if str(gpu_report.ROOT) in text]
