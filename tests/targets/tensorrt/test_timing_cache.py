"""Kernel times are kept under what they were measured with, and lost without harm."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter import host
from exporter.targets.tensorrt.settings import ALL_KEYS, TensorRtSettings
from exporter.targets.tensorrt.timing_cache import fetch_times, keep_times, timing_cache
from tests.targets.tensorrt.machines import machine


def test_the_timing_cache_is_keyed_by_everything_that_changes_times(tmp_path: Path) -> None:
    given = {"timing_cache": str(tmp_path / "cache")}

    def path(here: host.Host, **more: str) -> Path | None:
        settings = TensorRtSettings.parse({**given, **more}, ALL_KEYS, "tensorrt")
        return timing_cache(settings, here)

    first = path(machine())
    assert first is not None
    assert first.parent == tmp_path / "cache"
    assert path(machine()) == first
    others = {
        path(machine(gpu="NVIDIA A10")),
        path(machine(driver="590.0")),
        path(machine(tensorrt="11.1.0.1")),
        path(machine(), tf32="on"),
        path(machine(), optimization_level="5"),
        path(machine(), hardware_compatibility="ampere_plus"),
        path(machine(), version_compatible="on"),
        path(machine(), strip_weights="on"),
    }
    assert len(others) == 8
    assert first not in others
    # What changes neither kernels nor times shares the file.
    assert path(machine(), profile="1:2:3", memory_mb="4096") == first


def test_the_timing_cache_lies_in_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept = timing_cache(TensorRtSettings(), machine())
    assert kept is not None
    assert kept.parent == tmp_path / "resnet-exporter" / "timing"


def test_kernel_times_are_kept_from_build_to_build(tmp_path: Path) -> None:
    kept, times = tmp_path / "cache" / "kept", tmp_path / "times"
    said: list[str] = []
    fetch_times(kept, times, said.append)
    assert not times.exists()
    times.write_bytes(b"times")
    keep_times(times, kept, said.append)
    times.unlink()
    fetch_times(kept, times, said.append)
    assert times.read_bytes() == b"times"
    assert said == []


def test_a_timing_cache_that_cannot_be_used_is_only_reported(tmp_path: Path) -> None:
    times = tmp_path / "times"
    times.write_bytes(b"times")
    (tmp_path / "folder").mkdir()
    said: list[str] = []
    keep_times(times, times / "kept", said.append)
    keep_times(times, None, said.append)
    fetch_times(tmp_path / "folder", tmp_path / "new", said.append)
    assert [line.partition(":")[0] for line in said] == [
        "measured kernel times are not kept",
        "kernels are measured again",
    ]
    assert not (tmp_path / "new").exists()
