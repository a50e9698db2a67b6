"""The receipts on the terminal, block by block."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from exporter.builds.records import Manifest
from exporter.commands.explain import explain, render
from exporter.errors import UsageError
from exporter.measure.timing import Profile
from tests import manifests


def printed(manifest: Manifest, engine: str = "") -> str:
    stream = io.StringIO()
    render(explain(manifest, engine), Console(file=stream, width=300))
    return stream.getvalue()


def test_repeats_in_a_row_are_counted() -> None:
    text = printed(manifests.resnet50(), "tensorrt-rtx:sm89.int8")
    assert "correlation x3, kgen" in text
    assert "int8, fp32" in text
    assert "ort-cpu" not in text


def test_an_engine_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match=r"unknown engine 'ort-cpu\.int4'"):
        explain(manifests.resnet50(), "ort-cpu.int4")


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_times_that_are_not_finite_are_printed(value: float) -> None:
    build = manifests.resnet50()
    profile = build.engines[0].profile
    assert isinstance(profile, Profile)
    blocks = tuple(replace(one, microseconds=value, share=value) for one in profile.blocks)
    spoilt = replace(profile, blocks=blocks, outside_us=value)
    text = printed(manifests.with_engine(build, "ort-cpu.fp32", profile=spoilt))
    assert f"{value:.0f} us, {value:.1%}" in text
    assert f"{value:.0f} us outside" in text


def test_what_failed_is_explained_too() -> None:
    text = printed(manifests.failed())
    assert "openvino.fp16  failed to build: the builder ran out of memory" in text
    assert "failed: parity: sqnr_db 11.2 < limit 20" in text
    assert printed(manifests.failed(), "openvino.fp16").startswith("openvino.fp16  failed")
