"""The corrections of the all-INT8 graph are those that each mixed graph would get by itself."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from exporter.artifact import Dialect, Precision
from exporter.errors import BuildError
from exporter.graph.lower import Lowering, lower
from exporter.graph.optimize import optimize
from exporter.graph.to_onnx import export
from exporter.passes.values import constant
from exporter.progress import Silent
from exporter.quantize.calibrate import calibrate
from exporter.quantize.correct import correct
from exporter.quantize.transplant import transplant
from tests.graphs import graph, random
from tests.modules import model_of
from tests.samples import samples_of
from tests.search.engines import SIZE, hurt

U8 = Dialect.U8_ASYMMETRIC


def constants(model: ir.Model) -> dict[str, bytes]:
    found = {name: constant(value) for name, value in model.graph.initializers.items()}
    return {name: b"" if array is None else array.tobytes() for name, array in found.items()}


def structure(model: ir.Model) -> list[tuple[str, list[str]]]:
    return [(str(node.name), [str(v and v.name) for v in node.inputs]) for node in model.graph]


def test_they_are_the_same_as_with_data() -> None:
    model = model_of(hurt(), size=SIZE, classes=5)
    network, _ = optimize(export(model), model.module)
    images = samples_of(random(16, 3, SIZE, SIZE, seed=3))
    ranges = calibrate(network, images, progress=Silent())
    whole, _ = lower(network, Lowering(Precision.INT8, U8, ranges=ranges))
    corrected = correct(whole, network, images, Silent())
    for keep in [("layer1",), ("layer2",), ("layer1", "layer3"), ("stem.0",), ("fc", "layer2")]:
        mixed, _ = lower(network, Lowering(Precision.INT8, U8, ranges=ranges, keep=keep))
        expected = correct(mixed, network, images, Silent())
        transplant(corrected, mixed)
        assert constants(mixed) == constants(expected), keep
        assert structure(mixed) == structure(expected), keep


def test_another_graph_is_refused() -> None:
    x = samples_of(random(4, 3, 8, 8))

    def lowered(name: str) -> ir.Model:
        model = graph(
            f"net (float[N,3,8,8] x) => (float[N,4,8,8] {name}) "
            f"{{ {name} = Conv <pads=[1,1,1,1]> (x, w) }}",
            w=random(4, 3, 3, 3),
        )
        ranges = calibrate(model, x, progress=Silent())
        return lower(model, Lowering(Precision.INT8, U8, ranges=ranges))[0]

    with pytest.raises(BuildError, match="no 8-bit Conv z"):
        transplant(lowered("y"), lowered("z"))
