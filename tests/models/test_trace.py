"""The trace tells shapes, parameters and MACs as the paper's table has them."""

from __future__ import annotations

import pytest

from exporter.artifact import Model
from exporter.errors import UsageError
from exporter.models.sources import define
from exporter.models.trace import Trace, trace
from exporter.progress import Silent

# (planes, height x width) after the stem and each layer of a 224x224 input
STAGES = {
    "resnet34": [(64, 56), (64, 56), (128, 28), (256, 14), (512, 7)],
    "resnet50": [(64, 56), (256, 56), (512, 28), (1024, 14), (2048, 7)],
}


def traced(name: str) -> Trace:
    return trace(define(name, "random", progress=Silent()))


@pytest.mark.parametrize("name", STAGES)
def test_stages_are_those_of_the_papers_table(name: str) -> None:
    result = traced(name)
    assert [stage.name for stage in result.stages] == [
        "stem", "layer1", "layer2", "layer3", "layer4", "head",
    ]  # fmt: skip
    found = [(stage.planes_out, stage.size_out[0]) for stage in result.stages[:-1]]
    assert found == STAGES[name]
    assert [stage.blocks for stage in result.stages] == [0, 3, 4, 6, 3, 0]
    assert "doubled" in result.stages[3].change
    assert "halved" in result.stages[3].change
    assert result.stages[-1].planes_out == 1000


def test_rows_add_up_to_the_model() -> None:
    result = traced("resnet20")
    assert sum(row.macs for row in result.rows) == result.macs == sum(s.macs for s in result.stages)
    assert sum(row.parameters for row in result.rows) == result.parameters
    row = next(row for row in result.rows if row.path == "layer2.0.conv1")
    assert (row.kernel, row.stride, row.padding) == ((3, 3), (2, 2), (1, 1))
    assert (row.input, row.output) == ((16, 32, 32), (32, 16, 16))
    assert row.macs == 16 * 32 * 9 * 16 * 16
    assert sum(row.path == "layer1.0.relu" for row in result.rows) == 2


def test_an_onnx_file_has_no_modules() -> None:
    model = define("resnet20", "random", progress=Silent())
    with pytest.raises(UsageError, match="has no modules to trace"):
        trace(Model(model.spec, None))
