"""A whole run on a small network, with real engines in real processes."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks import artifacts, results, running
from benchmarks.__main__ import main
from benchmarks.peers import has_bf16
from benchmarks.record import read_events
from benchmarks.settings import Settings
from benchmarks.suite import BASELINE, CPU_ENTRIES, ENTRIES, FULL, QUICK, Suite, choose
from exporter.artifact import Skipped
from exporter.commands import compare
from exporter.errors import UsageError
from exporter.images.samples import open_data
from exporter.models.sources import define
from exporter.progress import Silent

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inside peers' libraries

LIBRARIES = {
    "openvino-nncf": ("nncf",), "torchao-inductor": ("torchao",), "ncnn": ("ncnn", "pnnx"),
    "executorch-xnnpack": ("executorch",), "zentorch": ("zentorch",),
    **dict.fromkeys(
        ("litert-xnnpack", "litert-quantized"),
        ("ai_edge_litert", "ai_edge_quantizer", "litert_torch"),
    ),
}  # fmt: skip
"""What peers need that `make test` does not install (extra bench)."""
MISSING = frozenset(
    peer
    for peer, libraries in LIBRARIES.items()
    if not all(importlib.util.find_spec(name) for name in libraries)
)
MEASURED = (
    *(() if "openvino-nncf" in MISSING else ("torch-compile",)), "onnxruntime",
    "onnxruntime-quantized", "openvino-nncf", "torchao-inductor", "executorch-xnnpack", "ncnn",
    "litert-xnnpack", "litert-quantized", "zentorch", "s8-symmetric-on-onnxruntime",
    "ours/ort-cpu.fp32", "ours/ort-cpu.int8", "ours/openvino.int8",
)  # fmt: skip
"""PyTorch compiles for a quarter of a minute: where the other peers are measured, too."""
SMALL = Suite(
    name="small",
    models=("resnet20-digits",),
    batches=(1,),
    entries=choose(CPU_ENTRIES, MEASURED),
    rounds=3,
    lives=1,
    ceiling_rounds=2,
)
LARGEST_ERROR = {"fp32": 1e-3, "int8": 0.25}
"""ncnn's form of a 3x3 convolution (Winograd) is off by a few times 1e-4, the others by 1e-6."""


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suite")
    path = folder / "raw" / "small.jsonl"
    settings = Settings(threads=1, cache=folder / "cache", command="python -m benchmarks run")
    running.run(SMALL, settings, path, Silent())
    shutil.rmtree(folder / "cache")
    return path


@pytest.fixture(scope="module")
def found(raw: Path) -> dict[str, Any]:
    return results.of(read_events(raw))


def rows(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in found["engines"]}


def test_every_engine_is_measured_with_its_interval(found: dict[str, Any]) -> None:
    by_name = rows(found)
    assert list(by_name) == [entry.name for entry in SMALL.entries]
    for name, row in by_name.items():
        if name in MISSING:
            continue
        (timing,) = row["latencies"]
        assert row["latency_skipped"] is None
        assert row["bytes"] > 1e5
        assert 0 < timing["speedup_low"] <= timing["speedup"] <= timing["speedup_high"]
        assert 0 < timing["p50_ms"] <= timing["p90_ms"] <= timing["p99_ms"]
        assert timing["images_per_s"] == pytest.approx(1e3 / timing["p50_ms"])
        assert 0 < timing["load_s"] < timing["first_inference_s"]
        assert timing["peak_rss_bytes"] is None or timing["peak_rss_bytes"] > 1e7
        assert timing["rounds"] == SMALL.rounds
        assert timing["gops"] > 0
        assert timing["best_peer"] != name
        if timing["best_peer"] is None:  # the only peer of its kind, where there is no NNCF
            assert name == "onnxruntime-quantized"
            continue
        assert 0 < timing["over_best_peer_low"] <= timing["over_best_peer_high"]


def test_every_peer_computes_the_same_network_as_eager(found: dict[str, Any]) -> None:
    for name, row in rows(found).items():
        if name == BASELINE:
            assert row["rel_l2"] == 0
        elif row["latencies"]:
            assert 0 < row["rel_l2"] < LARGEST_ERROR[row["precision"]], name


@pytest.mark.skipif(not MISSING, reason="every peer's library is installed")
def test_a_peer_that_cannot_be_had_is_missing_with_the_reason(found: dict[str, Any]) -> None:
    for name in MISSING:
        row = rows(found)[name]
        assert row["latencies"] == []
        assert re.search("not installed.* run: ", row["latency_skipped"])
    assert found["failures"] == []


@pytest.mark.skipif("openvino-nncf" in MISSING, reason="nncf is not installed (extra bench)")
def test_the_best_int8_peer_is_compared_with(found: dict[str, Any]) -> None:
    assert rows(found)["ours/openvino.int8"]["latencies"][0]["best_peer"] == "openvino-nncf"


def test_the_same_engine_twice_and_the_ceilings_are_in_every_run(found: dict[str, Any]) -> None:
    assert [pair["name"] for pair in found["same_engine"]] == [BASELINE, "ours/ort-cpu.int8"]
    assert {"fp32", "int8", "copy"} == set(found["ceilings"]) - {"bf16"}
    assert ("bf16" in found["ceilings"]) == has_bf16()
    assert found["ceilings"]["fp32"]["gops"] == max(found["ceilings"]["fp32"]["kernels"].values())
    assert found["energy"] == "RAPL" or "missing" in found["energy"]


def test_the_raw_file_holds_every_round_of_everyone_in_random_order(raw: Path) -> None:
    events = [event for event in read_events(raw) if event["event"] == "round"]
    engines = [event for event in events if event["group"] == "resnet20-digits b1"]
    counts = Counter(event["name"] for event in engines)
    assert set(counts.values()) == {SMALL.rounds}
    firsts = {event["name"] for event in engines if event["place"] == 0}
    assert len(firsts) > 1


def test_a_result_is_computed_again_from_the_raw_file_and_compared_with_itself(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["analyse", str(raw), "--out", str(tmp_path / "new")])
    assert ended.value.code == 0
    path = tmp_path / "new" / "small.json"
    assert json.loads(path.read_text()) == results.of(read_events(raw))
    assert (path.parent / "small-speedup-resnet20-digits.svg").read_text().startswith("<?xml")
    results.with_result(lambda: raw)()
    assert (raw.parents[1] / "small.json").read_bytes() == path.read_bytes()
    assert "resnet20-digits, batch 1" in capsys.readouterr().out
    loaded = compare.load(path)
    same = compare.compare(loaded, loaded, max_slowdown=0.0)
    stable = [failure for failure in same.failures if "did not settle" not in failure]
    assert stable == []
    assert {speed.relative_time for speed in same.speeds} == {1.0}
    with pytest.raises(SystemExit) as shown:
        main(["show", str(path)])
    assert shown.value.code == 0


def test_artifacts_are_built_once_and_unknown_ones_say_why(tmp_path: Path) -> None:
    def build() -> artifacts.Artifacts:
        return artifacts.build(
            "resnet18", ["eager", "plain-bf16"], image_size=32, cache=tmp_path, progress=Silent()
        )

    first = build()
    eager = first.files["eager"]
    assert isinstance(eager, Path)
    made = eager.stat().st_mtime_ns
    assert build().files["eager"] == eager
    assert eager.stat().st_mtime_ns == made
    bf16 = first.files["plain-bf16"]
    assert isinstance(bf16, Path) or "no BF16" in bf16.skipped
    assert first.bytes("plain-bf16") is None or isinstance(bf16, Path)
    assert not isinstance(eager, Skipped)


def test_an_engine_of_ours_that_is_built_alone_and_in_float(tmp_path: Path) -> None:
    # On a GPU, and in BF16, an engine's export builds no INT8, whose options it then refuses.
    model = define("resnet18", "random", image_size=32, progress=Silent())
    recipe = artifacts.Recipe(
        model,
        data=open_data(model.spec, None),
        folder=tmp_path,
        seed=0,
        weights="random",
        progress=Silent(),
    )
    assert artifacts._ours("ort-cpu.fp16")(recipe).is_file()


def test_the_quick_suite_is_part_of_the_full_one() -> None:
    assert [entry for entry in FULL.entries if entry.quick] == list(QUICK.entries)
    assert set(QUICK.models) <= set(FULL.models)
    assert {entry.artifact for entry in ENTRIES} == set(artifacts.BUILDERS)


def test_an_engine_that_does_not_exist_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean onnxruntime"):
        choose(ENTRIES, ("onnxruntme",))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--peers", "openvin"], "did you mean openvino"),
        (["run", "--models", "resnet19", "--quick"], "did you mean resnet18"),
        (["run", "--batches", "1,x"], "give positive numbers"),
        (["scaling", "--axes", "width"], "unknown axis 'width'"),
        (["show", "gone.json"], "cannot read gone.json"),
        (["analyse", "gone.jsonl"], "cannot read gone.jsonl"),
        (["run", "--rounds", "2"], "greater than or equal to 5"),
    ],
)
def test_an_unusable_request_is_one_line_and_exit_code_2(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capsys.readouterr().err.strip()
    assert ended.value.code == 2
    assert said.startswith("error: ")
    assert len(said.splitlines()) == 1
    assert words in said
    assert list(tmp_path.iterdir()) == []


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("run", "pictures", "residual", "scaling", "ceilings", "analyse", "show"):
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0
    assert "Example" in capsys.readouterr().out
