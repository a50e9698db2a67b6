"""Target ort-cpu: real sessions on a small residual network, and what their receipts say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from exporter.artifact import Dialect, Precision, Verdict
from exporter.errors import BuildError, UsageError
from exporter.graph.files import save
from exporter.graph.lower import Lowering, lower
from exporter.graph.optimize import optimize
from exporter.graph.to_onnx import export
from exporter.models.sources import define
from exporter.passes.blocks import GraphFacts, find_residual_blocks
from exporter.progress import Silent
from exporter.prove.receipt import make_receipt
from exporter.targets import BuildOptions, UnreadableKernels, get_target
from exporter.targets.ort import session as ort_session
from exporter.targets.ort.cpu import OrtCpu
from exporter.targets.ort.session import make_session, open_graph, session_options
from tests.targets.ort.networks import BLOCKS, CONVS, Network, images, receipt


@pytest.mark.parametrize("fused", [True, False])
def test_fp32_puts_every_residual_sum_into_a_convolution(tmp_path: Path, fused: bool) -> None:
    found = receipt(Network(fused=fused).save(tmp_path / "n.onnx"), Precision.FP32)
    assert found.verdict is Verdict.FUSED
    assert found.reason is None
    assert (found.convs, found.batchnorms_folded) == (CONVS, CONVS)
    assert (found.residual_adds, found.residual_adds_fused) == (2, 2)
    assert (found.float_ops, found.leftovers) == (0, ())
    assert "onnxruntime" in found.source
    assert [block.name for block in found.blocks] == list(BLOCKS)
    assert [len(block.kernels) for block in found.blocks] == [2, 3]
    sums = [k for block in found.blocks for k in block.kernels if "add" in k.does]
    assert [k.does for k in sums] == [("conv", "add", "relu")] * 2
    assert {k.dtype for k in sums} == {"fp32"}


def test_a_second_reader_is_reported_with_its_block(tmp_path: Path) -> None:
    graph = Network(also_outputs=("layer1.0.conv2",)).save(tmp_path / "n.onnx")
    found = receipt(graph, Precision.FP32)
    assert found.verdict is Verdict.PARTIAL
    assert (found.residual_adds_fused, found.residual_adds) == (1, 2)
    assert found.blocks[0].add_fused is False
    assert found.blocks[1].add_fused is True
    assert found.float_ops >= 1
    assert {block for _, block, _ in found.leftovers} == {"layer1.0"}
    assert "layer1.0" in str(found.reason)


def test_fp16_is_computed_in_fp32_and_says_so(tmp_path: Path) -> None:
    found = receipt(Network(half=True).save(tmp_path / "n.onnx"), Precision.FP16)
    computed = {k.dtype for block in found.blocks for k in block.kernels if "conv" in k.does}
    if computed == {"fp16"}:
        pytest.skip("this CPU has FP16 convolutions")
    assert found.verdict is Verdict.PARTIAL
    assert found.expected is Verdict.PARTIAL
    assert found.reason is not None
    assert f"{CONVS} of {CONVS} convolutions compute in fp32" in found.reason
    assert "cast" in found.reason
    assert found.extra_kernels >= 1


def test_int8_quantizes_convolutions_and_sums(tmp_path: Path) -> None:
    graph = Network(int8=True).save(tmp_path / "n.onnx")
    found = receipt(graph, Precision.INT8)
    assert found.verdict is Verdict.FUSED, found.reason
    assert found.convs == found.convs_quantized == CONVS
    assert found.residual_adds_fused == found.residual_adds_quantized == 2
    assert found.float_ops == 0
    kernels, _ = OrtCpu().kernels(graph)
    by_op = {kernel.op: kernel for kernel in kernels}
    # The Relu is inside: zero point 0, nothing below zero can be written.
    assert by_op["QLinearAdd"].does == ("add", "relu")
    assert len(by_op["QLinearAdd"].inputs) == 2
    assert sum(kernel.does == ("conv", "relu") for kernel in kernels) == 3
    assert by_op["QuantizeLinear"].output_dtypes == ("uint8",)
    assert by_op["DequantizeLinear"].output_dtypes == ("fp32",)


def test_a_kept_convolution_stays_float(tmp_path: Path) -> None:
    keep = ("layer1.0.conv1",)
    graph = Network(int8=True, keep=keep).save(tmp_path / "n.onnx")
    found = receipt(graph, Precision.INT8, keep)
    assert found.verdict is Verdict.FUSED, found.reason
    assert found.convs_quantized == CONVS - 1
    # The same engine where nothing was to be kept: a float operator is in the way.
    found = receipt(graph, Precision.INT8)
    assert found.verdict is Verdict.PARTIAL
    assert found.float_ops == 1
    assert found.leftovers[0][1] == "layer1.0"


def test_a_kept_convolution_quantized_anyway_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = ("layer1.0.conv1",)
    graph = Network(int8=True, keep=keep).save(tmp_path / "n.onnx")
    monkeypatch.setattr(ort_session, "DISABLED_OPTIMIZERS", ())
    found = receipt(graph, Precision.INT8, keep)
    assert found.convs_quantized == CONVS
    assert found.verdict is Verdict.PARTIAL
    assert "layer1.0.conv1" in str(found.reason)
    assert any("kept" in reason for _, _, reason in found.leftovers)


def test_build_copies_the_graph_byte_for_byte(tmp_path: Path) -> None:
    graph = Network(fused=True).save(tmp_path / "lowered.onnx")
    out = tmp_path / "engines" / "fp32.v1"
    out.parent.mkdir()
    built = OrtCpu().build(graph, Precision.FP32, out, BuildOptions())
    assert built.files == (tmp_path / "engines" / "fp32.v1.onnx",)
    assert built.files[0].read_bytes() == graph.read_bytes()
    assert [path.name for path in out.parent.iterdir()] == ["fp32.v1.onnx"]
    assert built.requires["cpu_flags"] == []
    assert set(built.requires["versions"]) == {"onnxruntime"}
    assert "session_options" not in built.requires


def test_int8_records_what_its_sessions_need(tmp_path: Path) -> None:
    graph = Network(int8=True).save(tmp_path / "lowered.onnx")
    built = OrtCpu().build(graph, Precision.INT8, tmp_path / "int8", BuildOptions())
    assert built.requires["session_options"] == {"disabled_optimizers": ["WeightBiasQuantization"]}
    assert built.requires["session_config_without_vnni"] == {"session.x64quantprecision": "1"}


def test_build_refuses_and_leaves_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = Network().model()
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, tmp_path / "lowered.onnx")
    out = tmp_path / "engines" / "fp32"
    out.parent.mkdir()
    with pytest.raises(BuildError, match=r"does not load lowered\.onnx.*NoSuchOperator") as caught:
        OrtCpu().build(tmp_path / "lowered.onnx", Precision.FP32, out, BuildOptions())
    assert "\n" not in str(caught.value)
    assert list(out.parent.iterdir()) == []
    with pytest.raises(UsageError, match="no setting 'colour'"):
        OrtCpu().build(
            tmp_path / "lowered.onnx", Precision.FP32, out, BuildOptions(settings={"colour": "red"})
        )
    assert capfd.readouterr() == ("", "")


def test_onnxruntimes_own_second_try_is_off(capfd: pytest.CaptureFixture[str]) -> None:
    """It would print, and drop the disabled optimizers."""
    options = session_options(3)
    options.add_session_config_entry("session.intra_op_thread_affinities", "one;two")
    with pytest.raises(BuildError, match="does not load the given model"):
        make_session(Network().model().SerializeToString(), options)
    assert capfd.readouterr() == ("", "")


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    """A limit on the size of a file fails in the middle of the copy, as a full disk does."""
    resource = pytest.importorskip("resource", reason="no file size limit on this platform")
    graph = Network().save(tmp_path / "lowered.onnx")
    out = tmp_path / "engines" / "fp32"
    out.parent.mkdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (graph.stat().st_size // 2, before[1]))
    try:
        with pytest.raises(BuildError, match=r"cannot write .*fp32\.onnx: File too large"):
            OrtCpu().build(graph, Precision.FP32, out, BuildOptions())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(out.parent.iterdir()) == []


def test_build_into_a_missing_folder_is_one_clear_line(tmp_path: Path) -> None:
    graph = Network().save(tmp_path / "lowered.onnx")
    with pytest.raises(BuildError, match=r"cannot write .*No such file"):
        OrtCpu().build(graph, Precision.FP32, tmp_path / "none" / "fp32", BuildOptions())


@pytest.mark.parametrize("network", [Network(fused=True), Network(half=True), Network(int8=True)])
def test_open_runs_the_graph(tmp_path: Path, network: Network) -> None:
    graph = network.save(tmp_path / "n.onnx")
    with OrtCpu().open(graph, 2) as optimized, open_graph(graph, 1) as as_written:
        got, expected = optimized.run(images()), as_written.run(images())
    assert got.shape == (2, 10)
    assert got.dtype == np.float32
    # INT8: optimized and unoptimized kernels round differently, by a code or two of 0.02.
    np.testing.assert_allclose(got, expected, atol=0.05 if network.int8 else 2e-3)
    assert np.abs(expected).max() > 0.1


def test_run_says_what_is_wrong(tmp_path: Path) -> None:
    session = OrtCpu().open(Network().save(tmp_path / "n.onnx"), 1)
    with pytest.raises(BuildError, match="failed to run") as caught:
        session.run(images()[:, :, :8])
    assert "\n" not in str(caught.value)
    session.close()
    with pytest.raises(BuildError, match="closed"):
        session.run(images())


def test_kernels_of_a_damaged_engine_are_unreadable(tmp_path: Path) -> None:
    (tmp_path / "n.onnx").write_bytes(b"not a model")
    with pytest.raises(UnreadableKernels, match="no optimized model"):
        OrtCpu().kernels(tmp_path / "n.onnx")


def test_exact_products_give_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On any CPU the two ways agree, unless the fast one saturates, which then is not used."""
    graph = Network(int8=True).save(tmp_path / "n.onnx")
    with OrtCpu().open(graph, 1) as session:
        here = session.run(images())
    monkeypatch.setattr(ort_session, "saturates_u8s8", lambda flags: True)
    with OrtCpu().open(graph, 1) as session:
        np.testing.assert_array_equal(session.run(images()), here)


def test_sessions_take_the_bytes_of_a_model() -> None:
    make_session(Network().model().SerializeToString(), session_options(1))


def test_target_is_registered_and_has_no_such_variant() -> None:
    assert get_target("ort-cpu").name == "ort-cpu"
    with pytest.raises(UsageError, match="no variant 'sm89'; write ort-cpu or ort-cpu:amx"):
        get_target("ort-cpu:sm89")
    assert OrtCpu().runs_here() is None
    assert OrtCpu().dialect(Precision.FP32) is Dialect.FLOAT_FUSED
    assert OrtCpu().dialect(Precision.FP16) is Dialect.FLOAT


@pytest.mark.parametrize(
    ("name", "image_size", "convs", "adds"), [("resnet18", 64, 20, 8), ("plain20", None, 19, 0)]
)
def test_models_from_the_table_are_completely_fused(
    tmp_path: Path, name: str, image_size: int | None, convs: int, adds: int
) -> None:
    """From definition to receipt: what the README promises, on the smallest of each kind."""
    model = define(name, "random", image_size=image_size, progress=Silent())
    graph, reports = optimize(export(model))
    graph_facts = GraphFacts.of(graph, reports, find_residual_blocks(graph))
    target = OrtCpu()
    for precision in (Precision.FP32, Precision.FP16):
        dialect = target.dialect(precision)
        lowered, _ = lower(graph, Lowering(precision, dialect))
        save(lowered, tmp_path / f"{precision}.onnx")
        kernels, source = target.kernels(tmp_path / f"{precision}.onnx")
        found = make_receipt(
            kernels,
            source,
            graph_facts=graph_facts,
            precision=precision,
            dialect=dialect,
            expected=target.expected(precision),
        )
        assert (found.convs, found.batchnorms_folded) == (convs, convs)
        assert (found.residual_adds, found.residual_adds_fused) == (adds, adds)
        assert found.float_ops == 0
        if precision is Precision.FP32:
            assert found.verdict is Verdict.FUSED, found.reason
