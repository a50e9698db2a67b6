"""A Sum of two is an Add."""

from __future__ import annotations

from onnx_ir.passes import common

from exporter.graph.files import serialize
from exporter.passes.canonicalize_sum import canonicalize_sum
from tests.graphs import graph, operators, random, relative_error, run


def test_a_sum_of_two_and_a_sum_of_three() -> None:
    model = graph(
        """sums (float[N,4] x) => (float[N,4] y) {
            r = Relu (x)
            a = Sum (r, x)
            y = Sum (a, r, x)
        }"""
    )
    x = random(2, 4)
    before = run(model, x)
    assert canonicalize_sum(model).fired == 1
    assert operators(model) == ["Relu", "Add", "Sum"]
    common.CheckerPass(full_check=True)(model)
    assert relative_error(run(model, x), before) < 1e-6
    content = serialize(model)
    assert canonicalize_sum(model).fired == 0
    assert serialize(model) == content
