"""OpenVINO: real compiled models, what their execution graphs say, and what is left on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from exporter.artifact import Dialect, Precision, Verdict
from exporter.errors import BuildError, UsageError
from exporter.graph.files import save
from exporter.graph.lower import Lowering, lower
from exporter.graph.optimize import optimize
from exporter.graph.to_onnx import export
from exporter.images.samples import open_data
from exporter.models.sources import define
from exporter.passes.blocks import GraphFacts, find_residual_blocks
from exporter.progress import Silent
from exporter.prove.receipt import make_receipt
from exporter.quantize.calibrate import calibrate
from exporter.targets import BuildOptions, get_target
from exporter.targets.openvino.cpu import OpenVino
from exporter.targets.ort.session import open_graph

PRECISIONS = (Precision.FP32, Precision.FP16, Precision.INT8)  # BF16: test_bf16.py


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[Precision, Path], GraphFacts]:
    """resnet20-digits lowered for OpenVINO in each precision."""
    folder = tmp_path_factory.mktemp("graphs")
    model = define("resnet20-digits", progress=Silent())
    graph, reports = optimize(export(model))
    samples = open_data(model.spec, None).calibration.take(32)
    ranges = calibrate(graph, samples, progress=Silent())
    paths = {}
    for precision in PRECISIONS:
        dialect = OpenVino().dialect(precision)
        lowered, _ = lower(graph, Lowering(precision, dialect, ranges=ranges))
        paths[precision] = folder / f"{precision}.onnx"
        save(lowered, paths[precision])
    return paths, GraphFacts.of(graph, reports, find_residual_blocks(graph))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_built_engines_answer_like_their_graphs_and_fuse(
    graphs: tuple[dict[Precision, Path], GraphFacts], tmp_path: Path, precision: Precision
) -> None:
    paths, facts = graphs
    target = get_target("openvino")
    built = target.build(paths[precision], precision, tmp_path / str(precision), BuildOptions())
    assert [file.name for file in built.files] == [f"{precision}.xml", f"{precision}.bin"]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(f.name for f in built.files)
    inputs = np.random.default_rng(0).standard_normal((5, 3, 32, 32)).astype(np.float32)
    with target.open(built.files[0], 2) as engine, open_graph(paths[precision], 2) as graph:
        answer, expected = engine.run(inputs), graph.run(inputs)
        named = engine.run_named({"input": inputs})
    error = np.linalg.norm(answer - expected) / np.linalg.norm(expected)
    assert error < {"fp32": 2e-6, "fp16": 5e-3, "int8": 5e-2}[precision]
    assert np.array_equal(named["logits"], answer)
    kernels, source = target.kernels(built.files[0])
    assert "execution graph" in source
    receipt = make_receipt(
        kernels, source, graph_facts=facts, precision=precision,
        dialect=target.dialect(precision), expected=target.expected(precision),
    )  # fmt: skip
    assert receipt.verdict is target.expected(precision), receipt.reason
    assert (receipt.convs, receipt.residual_adds) == (21, 9)
    if precision is not Precision.FP16:
        assert receipt.verdict is Verdict.FUSED
        assert (receipt.residual_adds_fused, receipt.float_ops) == (9, 0)
    sums = [kernel for kernel in kernels if "add" in kernel.does]
    assert len(sums) == 9  # a bias is no residual sum
    assert receipt.convs_quantized == (21 if precision is Precision.INT8 else 0)


def test_two_builds_are_the_same_bytes_and_name_no_path(
    graphs: tuple[dict[Precision, Path], GraphFacts], tmp_path: Path
) -> None:
    paths, _ = graphs
    contents = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        built = OpenVino().build(
            paths[Precision.FP32], Precision.FP32, tmp_path / name / "fp32", BuildOptions()
        )
        contents.append([file.read_bytes() for file in built.files])
    assert contents[0] == contents[1]
    assert str(tmp_path).encode() not in contents[0][0]
    assert str(paths[Precision.FP32].parent).encode() not in contents[0][0]


def test_a_sum_with_a_second_reader_is_not_called_fused(
    graphs: tuple[dict[Precision, Path], GraphFacts], tmp_path: Path
) -> None:
    """The convolution before the sum is an output of the graph: OpenVINO must keep it apart."""
    paths, facts = graphs
    model = ir.from_proto(ir.to_proto(ir.load(paths[Precision.FP32])))
    main = next(node for node in model.graph if node.name == "layer2.1.conv2")
    model.graph.outputs.append(main.outputs[0])
    save(model, tmp_path / "two.onnx")
    built = OpenVino().build(
        tmp_path / "two.onnx", Precision.FP32, tmp_path / "fp32", BuildOptions()
    )
    kernels, source = OpenVino().kernels(built.files[0])
    receipt = make_receipt(
        kernels, source, graph_facts=facts, precision=Precision.FP32, dialect=Dialect.FLOAT,
        expected=Verdict.FUSED,
    )  # fmt: skip
    assert receipt.verdict is Verdict.PARTIAL
    assert receipt.residual_adds_fused == 8
    assert [block.name for block in receipt.blocks if not block.add_fused] == ["layer2.1"]


def test_errors_are_one_line_and_leave_nothing(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no graph")
    for precision in (Precision.FP32, Precision.INT8):
        with pytest.raises(BuildError, match=r"does not build broken\.onnx") as caught:
            OpenVino().build(broken, precision, tmp_path / "engine", BuildOptions())
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [broken]
    with pytest.raises(UsageError, match="has no variant"):
        get_target("openvino:gpu")
    with pytest.raises(UsageError, match="has no setting 'profile'"):
        settings = BuildOptions(settings={"profile": "1:1:1"})
        OpenVino().build(broken, Precision.FP32, tmp_path / "x", settings)


def test_a_closed_session_says_so(
    graphs: tuple[dict[Precision, Path], GraphFacts], tmp_path: Path
) -> None:
    paths, _ = graphs
    built = OpenVino().build(
        paths[Precision.FP32], Precision.FP32, tmp_path / "fp32", BuildOptions()
    )
    session = OpenVino().open(built.files[0], 1)
    session.close()
    with pytest.raises(BuildError, match="closed"):
        session.run(np.zeros((1, 3, 32, 32), np.float32))
