"""Which operators may be kernels of their own, from hand-written graphs, and what that excuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.artifact import Dialect, Kernel, Precision, Verdict
from exporter.passes.blocks import GraphFacts, GraphNode, ResidualBlock, Shortcut
from exporter.prove.certificate import Receipt
from exporter.prove.receipt import make_receipt
from exporter.prove.unfusable import unfusable
from tests.prove.kernel_lists import kernel


def node(text: str, readers: int = 1) -> GraphNode:
    """`"Conv layer1.conv1 < stem"`; "x" is the network's input."""
    made, _, read = text.partition(" < ")
    op, name = made.split()
    operands = tuple("" if operand == "x" else operand for operand in read.split())
    return GraphNode(name, op, (name,), operands, readers)


def gated(activation: str = "Relu") -> GraphFacts:
    """A stem, a block with a gate on its main branch, a convolution, a head."""
    nodes = (
        node("Conv stem < x"),
        node(f"{activation} act < stem", readers=2),
        node("Conv layer1.conv1 < act", readers=2),
        node("GlobalAveragePool layer1.pool < layer1.conv1"),
        node("Conv layer1.fc < layer1.pool"),
        node("Sigmoid layer1.sigmoid < layer1.fc"),
        node("Mul layer1.mul < layer1.conv1 layer1.sigmoid"),
        node("Add layer1.add < layer1.mul act"),
        node(f"{activation} layer1.act < layer1.add"),
        node("Conv last < layer1.act"),
        node("GlobalAveragePool pool < last"),
        node("Flatten flatten < pool"),
        node("Gemm fc < flatten"),
    )
    block = ResidualBlock(
        name="layer1",
        add="layer1.add",
        shortcut=Shortcut.IDENTITY,
        input="act",
        output="layer1.act",
        nodes=tuple(n.name for n in nodes[2:9]),
    )
    return GraphFacts(convs=4, batchnorms_folded=4, blocks=(block,), nodes=nodes)


def kernels(*, stem: str = "conv relu") -> list[Kernel]:
    return [
        kernel(stem, "act", "x", "t0"),
        kernel("conv", "layer1.conv1", "t0", "t1"),
        kernel("avgpool", "layer1.pool", "t1", "t2"),
        kernel("conv pointwise", "layer1.fc", "t2", "t3"),
        kernel("pointwise", "layer1.mul", "t1 t3", "t4", op="Mul"),
        kernel("add", "layer1.add", "t4 t0", "t5", op="Add"),
        kernel("relu", "layer1.act", "t5", "t6", op="Relu"),
        kernel("conv", "last", "t6", "t6b"),
        kernel("avgpool", "pool", "t6b", "t7"),
        kernel("gemm", "fc", "t7", "y"),
    ]


def judge(facts: GraphFacts, listed: list[Kernel]) -> Receipt:
    return make_receipt(
        listed,
        "a list",
        graph_facts=facts,
        precision=Precision.FP32,
        dialect=Dialect.FLOAT,
        expected=Verdict.FUSED,
    )


def test_a_gate_its_sum_and_what_follows_are_unfusable() -> None:
    found = unfusable(gated())
    assert list(found) == [
        "layer1.pool",
        "layer1.sigmoid",
        "layer1.mul",
        "layer1.add",
        "layer1.act",
    ]
    assert found["layer1.mul"] == "not known to fuse a Mul"
    assert found["layer1.add"] == "neither branch ends in a convolution that the sum alone reads"


def test_they_are_counted_and_named_and_lower_nothing() -> None:
    receipt = judge(gated(), kernels())
    assert receipt.verdict is Verdict.FUSED
    assert (receipt.float_ops, receipt.float_ops_unfusable) == (3, 3)
    assert (receipt.residual_adds_fused, receipt.residual_adds_unfusable) == (0, 1)
    assert receipt.leftovers[0] == (
        "layer1.mul_kernel",
        "layer1",
        "Mul is a kernel of its own; not known to fuse a Mul",
    )
    assert str(receipt.blocks[0].reason).endswith("that the sum alone reads")


def test_a_plain_part_of_such_a_network_must_still_be_fused() -> None:
    stem = [kernel("conv", "stem", "x", "s"), kernel("relu", "act", "s", "t0", op="Relu")]
    receipt = judge(gated(), [*stem, *kernels()[1:]])
    assert receipt.verdict is Verdict.PARTIAL
    assert receipt.reason == "1 operator left over (act_kernel: Relu is a kernel of its own)"
    assert (receipt.float_ops, receipt.float_ops_unfusable) == (4, 3)


def test_a_sum_that_a_convolution_ends_in_must_still_be_fused() -> None:
    """Once the shortcut is a projection, the sum belongs into its kernel."""
    facts = gated()
    nodes = [*facts.nodes[:7], node("Conv layer1.down < act"), *facts.nodes[7:]]
    nodes[8] = node("Add layer1.add < layer1.mul layer1.down")
    facts = replace(facts, convs=5, nodes=tuple(nodes))
    assert "layer1.add" not in unfusable(facts)
    listed = kernels()
    listed.insert(5, kernel("conv", "layer1.down", "t0", "d"))
    listed[6] = replace(listed[6], inputs=("t4", "d"))
    receipt = judge(facts, listed)
    assert receipt.verdict is Verdict.PARTIAL
    assert "1 of 1 residual adds are not fused" in str(receipt.reason)
    assert (receipt.float_ops, receipt.float_ops_unfusable) == (3, 1)  # the gate's Mul


@pytest.mark.parametrize("activations", [{"Relu"}, {"Relu", "Clip"}])
def test_what_a_runtime_is_known_to_fuse_decides(activations: set[str]) -> None:
    facts = replace(gated("Clip"), activations=frozenset(activations))
    stem = [
        kernel("conv", "stem", "x", "s"),
        kernel("pointwise", "act", "s", "t0", op="Clip"),
    ]
    receipt = judge(facts, [*stem, *kernels()[1:]])
    fused = Verdict.PARTIAL if "Clip" in activations else Verdict.FUSED
    assert receipt.verdict is fused


def test_a_convolution_with_two_readers_keeps_its_activation_apart() -> None:
    """A pre-activation block: the sum reads what comes before the BatchNormalization."""
    nodes = (
        node("Conv stem < x", readers=2),
        node("BatchNormalization layer1.bn1 < stem"),
        node("Relu layer1.relu < layer1.bn1"),
        node("Conv layer1.conv1 < layer1.relu"),
        node("Add layer1.add < layer1.conv1 stem"),
        node("BatchNormalization bn < layer1.add"),
        node("Relu relu < bn"),
        node("Conv last < relu"),
        node("BatchNormalization unfolded < last"),
    )
    found = unfusable(GraphFacts(3, 0, (), nodes))
    assert list(found) == ["layer1.bn1", "layer1.relu", "bn", "relu"]


def test_kernels_without_a_node_s_name_are_what_the_runtime_made_of_them() -> None:
    """A function that it takes apart; in a plain network there is nothing to excuse."""
    listed = kernels()
    listed[4] = replace(listed[4], labels=("_inlfunc_Gate_x",))
    assert judge(gated(), listed).verdict is Verdict.FUSED
    plain = replace(gated(), nodes=tuple(n for n in gated().nodes if n.op == "Conv"))
    assert judge(plain, listed).verdict is Verdict.PARTIAL


def test_lone_batchnorms_are_no_folded_ones() -> None:
    nodes = (node("Conv stem < x"), node("MaxPool pool < stem"),
             node("BatchNormalization bn < pool"), node("Conv conv < bn"))  # fmt: skip
    facts = GraphFacts(convs=2, batchnorms_folded=1, blocks=(), nodes=nodes)
    listed = [
        kernel("conv", "stem", "x", "t0"),
        kernel("batchnorm", "bn", "t0", "t1"),
        kernel("conv", "conv", "t1", "y"),
    ]
    receipt = judge(facts, listed)
    assert receipt.batchnorms_folded == 1
    assert receipt.verdict is Verdict.FUSED


def test_a_pooling_that_reads_floats_is_float() -> None:
    """INT8 leaves a Clip in float, whoever fuses it, and a MaxPool where its input is."""
    nodes = (
        node("Conv stem < x"),
        node("Clip clip < stem"),
        node("MaxPool pool < clip"),
        node("Conv conv < pool"),
        node("Relu relu < conv"),
        node("MaxPool plain < relu"),
        node("Conv last < plain"),
    )
    facts = GraphFacts(3, 0, (), nodes, activations=frozenset({"Relu", "Clip"}))
    assert unfusable(facts) == {"pool": "a MaxPool behind a Clip"}


def test_what_has_no_8_bit_form_in_a_head_is_no_fault() -> None:
    nodes = (
        node("Conv conv < x"),
        node("ReduceMean mean < conv"),
        node("MatMul product < mean"),
        node("Gemm fc < product"),
    )
    assert list(unfusable(GraphFacts(1, 0, (), nodes))) == ["mean", "product"]


def test_the_sum_inside_a_gate_may_be_apart() -> None:
    """CBAM: one small network on two poolings, whose sum looks like a residual one."""
    nodes = (
        node("Conv conv < x", readers=3),
        node("GlobalAveragePool mean < conv"),
        node("Conv gate.0 < mean"),
        node("ReduceMax most < conv"),
        node("Conv gate.1 < most"),
        node("Add gate.add < gate.0 gate.1"),
        node("Sigmoid sigmoid < gate.add"),
        node("Mul mul < conv sigmoid"),
        node("Conv last < mul"),
    )
    facts = GraphFacts(4, 0, (), nodes)
    assert unfusable(facts)["gate.add"] == "a Add of pooled values"


def test_a_sum_of_two_shapes_may_be_apart() -> None:
    """Global context: attention pools, and what it gives each channel is added everywhere."""
    facts = gated()
    added = replace(node("Add layer1.mul < layer1.conv1 layer1.fc"), broadcasts=True)
    nodes = tuple(added if one.name == "layer1.mul" else one for one in facts.nodes)
    assert unfusable(replace(facts, nodes=nodes))["layer1.mul"] == "it adds values of another shape"
    listed = kernels()
    listed[4] = kernel("add", "layer1.mul", "t1 t3", "t4", op="Add")
    listed[5:7] = [kernel("conv add relu", "layer1.act", "t4 t0", "t6")]
    receipt = judge(replace(facts, convs=5, nodes=nodes), listed)
    assert receipt.verdict is Verdict.FUSED, receipt.reason
    assert receipt.residual_adds_fused == 1


def test_a_sum_behind_a_block_is_none_of_its_own() -> None:
    facts = gated()
    nodes = (*facts.nodes[:9], node("Add shift < layer1.act layer1.conv1"), *facts.nodes[9:])
    listed = kernels()
    listed[5:7] = [kernel("conv add relu", "layer1.act", "t4 t0", "t6")]
    listed.insert(6, kernel("add", "shift", "t6 t1", "t6c", op="Add"))
    # It is in the block by what it reads: the runtime names tensors after their nodes.
    listed[5] = replace(listed[5], outputs=("layer1.act",))
    listed[6] = replace(listed[6], inputs=("layer1.act", "t1"))
    listed[7] = replace(listed[7], inputs=("t6c",))
    receipt = judge(replace(facts, convs=5, nodes=nodes), listed)
    assert receipt.residual_adds_fused == 1, receipt.reason
