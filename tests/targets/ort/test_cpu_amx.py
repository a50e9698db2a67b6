"""Target ort-cpu:amx: the numbers of ort-cpu in another form, for one kind of CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exporter import host
from exporter.artifact import Dialect, Precision
from exporter.errors import UsageError
from exporter.graph.files import save
from exporter.graph.lower import Lowering, lower
from exporter.progress import Silent
from exporter.quantize.calibrate import calibrate
from exporter.targets import BuildOptions, get_target
from exporter.targets.ort.cpu import OrtCpu
from tests.graphs import graph, random
from tests.samples import samples_of


def test_the_variant_for_amx_answers_the_same_and_says_what_it_needs(tmp_path: Path) -> None:
    lowered = wide_int8(tmp_path)
    plain = OrtCpu().build(lowered, Precision.INT8, tmp_path / "plain", BuildOptions())
    amx = OrtCpu("amx").build(lowered, Precision.INT8, tmp_path / "amx", BuildOptions())
    assert plain.requires["cpu_flags"] == []
    assert amx.requires["cpu_flags"] == ["amx_int8"]
    assert plain.files[0].read_bytes() != amx.files[0].read_bytes()
    batch = random(3, 256, 5, 5, seed=9)
    with OrtCpu().open(plain.files[0], 1) as session:
        expected = session.run(batch)
    with OrtCpu("amx").open(amx.files[0], 1) as session:
        np.testing.assert_array_equal(session.run(batch), expected)
    (kernel,) = (k for k in OrtCpu("amx").kernels(amx.files[0])[0] if "conv" in k.does)
    assert (kernel.op, kernel.dtype) == ("QLinearConv", "int8")


def test_the_variant_for_amx_is_for_int8_and_runs_where_amx_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = get_target("ort-cpu:amx")
    assert target.name == "ort-cpu:amx"
    assert target.dialect(Precision.INT8) is Dialect.U8_ASYMMETRIC
    with pytest.raises(UsageError, match="for int8 alone; use ort-cpu for fp32"):
        target.dialect(Precision.FP32)
    monkeypatch.setattr(host, "cpu_flags", lambda: frozenset({"avx2"}))
    assert "no AMX" in str(target.runs_here())
    monkeypatch.setattr(host, "cpu_flags", lambda: frozenset({"avx2", "amx_int8"}))
    assert target.runs_here() is None


def wide_int8(folder: Path) -> Path:
    """A convolution that is worth a matrix product, lowered to INT8."""
    model = graph(
        "net (float[N,256,5,5] x) => (float[N,32,5,5] y) { c = Conv (x, w) y = Relu (c) }",
        w=random(32, 256, 1, 1, seed=1),
    )
    ranges = calibrate(model, samples_of(random(8, 256, 5, 5, seed=2)), progress=Silent())
    lowered, _ = lower(model, Lowering(Precision.INT8, Dialect.U8_ASYMMETRIC, ranges=ranges))
    save(lowered, folder / "int8.onnx")
    return folder / "int8.onnx"
