"""A small network that INT8 hurts in one block, and its engines on a runtime for each set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir
import torch
from torch import Tensor, nn

from benchmarks.planted import rescaled
from exporter.artifact import Dialect, Model, Precision
from exporter.graph.files import save
from exporter.graph.lower import Lowering, lower
from exporter.graph.optimize import optimize
from exporter.graph.to_onnx import export
from exporter.passes.blocks import GraphFacts, ResidualBlock, find_residual_blocks
from exporter.passes.qdq.ranges import Ranges
from exporter.passes.units import Unit, kept_names, units_of
from exporter.progress import Silent
from exporter.prove.certificate import Receipt
from exporter.prove.read_back import receipt_of
from exporter.prove.reference import Reference, make_reference
from exporter.quantize.calibrate import calibrate
from exporter.quantize.correct import correct
from exporter.quantize.transplant import transplant
from exporter.search.budget import Budget, BudgetKind
from exporter.search.points import Kept, PointFile
from exporter.search.split import split
from exporter.search.trials import Trials
from exporter.targets import BuildOptions, Target, get_target
from tests.graphs import random
from tests.modules import model_of
from tests.networks import Block, seasoned
from tests.samples import samples_of

SIZE = 16
HURT = "layer2"
U8 = Dialect.U8_ASYMMETRIC
COSTS = {"stem": 0.2, "layer1": 0.3, "layer2": 0.4, "layer3": 0.5, "head": 0.1}
BASE_MS = 1.0


class Hurt(nn.Module):
    """Three residual blocks, the second one with channels of very different sizes inside.

    `alone`: without the two others, which makes a search shorter.
    """

    def __init__(self, *, alone: bool = False) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16 if alone else 8, 3, 1, 1), nn.ReLU())
        self.layer1 = nn.Identity() if alone else Block(8, 16)
        self.layer2 = Block(16, 16)
        self.layer3 = nn.Identity() if alone else Block(16, 32)
        self.fc = nn.Linear(16 if alone else 32, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer3(self.layer2(self.layer1(self.stem(x))))
        scores: Tensor = self.fc(y.mean((2, 3)))
        return scores


def hurt(*, alone: bool = False) -> nn.Module:
    torch.manual_seed(0)
    module = seasoned(Hurt(alone=alone), SIZE)
    module.load_state_dict(rescaled(module.state_dict(), HURT))
    return module.eval()


@dataclass(frozen=True)
class Engines:
    """The engines that keep some units in float, as a search builds them."""

    model: Model
    graph: ir.Model
    facts: GraphFacts
    blocks: tuple[ResidualBlock, ...]
    ranges: Ranges
    corrected: ir.Model
    """All in INT8."""
    reference: Reference
    target: Target
    folder: Path

    @classmethod
    def of(cls, module: nn.Module, folder: Path, target: str = "ort-cpu") -> Engines:
        model = model_of(module, size=SIZE, classes=5)
        graph, reports = optimize(export(model), model.module)
        images = samples_of(random(16, 3, SIZE, SIZE, seed=3, low=-2, high=2))
        ranges = calibrate(graph, images, progress=Silent())
        lowered, _ = lower(graph, Lowering(Precision.INT8, U8, ranges=ranges))
        blocks = find_residual_blocks(graph)
        others = samples_of(random(64, 3, SIZE, SIZE, seed=4, low=-2, high=2))
        return cls(
            model,
            graph,
            GraphFacts.of(graph, reports, blocks),
            blocks,
            ranges,
            correct(lowered, graph, images, Silent()),
            make_reference(model, others, Silent()),
            get_target(target),
            folder,
        )

    @property
    def units(self) -> Mapping[str, Unit]:
        return {unit.name: unit for unit in units_of(self.graph, self.blocks)}

    def lowered(self, kept: Kept, kept_in: Precision | None = None) -> ir.Model:
        """In the target's first float type, unless another is given."""
        chosen, _ = kept_names(self.units, kept)
        to = Lowering(
            Precision.INT8,
            U8,
            ranges=self.ranges,
            chosen=chosen,
            chosen_type=kept_in or self.target.mixes_in[0],
        )
        graph, _ = lower(self.graph, to)
        transplant(self.corrected, graph)
        return graph

    def built(self, kept: Kept, kept_in: Precision | None = None) -> Path:
        path = self.folder / "candidate.graph.onnx"
        save(self.lowered(kept, kept_in), path)
        out = self.folder / "candidate"
        return self.target.build(path, Precision.INT8, out, BuildOptions()).files[0]

    def receipt(self, kept: Kept, told: Kept, kept_in: Precision | None = None) -> Receipt:
        """That of the engine which keeps some units, where others were chosen."""
        chosen = dict.fromkeys(kept_names(self.units, told)[1], self.target.mixes_in[0])
        path = self.built(kept, kept_in)
        return receipt_of(self.facts, self.target, Precision.MIXED, path, (), chosen)

    def trials(self, limit_db: float, file: PointFile, times: Times | None = None) -> Trials:
        parts = split(self.reference, Budget(BudgetKind.MIN_SQNR, limit_db))
        return Trials(list(self.units), self, parts, times or Times(), file, 1)


class Times:
    """Costs that are given and not measured: what each unit takes more in float."""

    def __init__(self) -> None:
        self.timed: list[Kept] = []

    def base_ms(self) -> float:
        self.timed.append(())
        return BASE_MS

    def ratio(self, kept: Kept, engine: Path) -> float:
        assert engine.is_file()
        self.timed.append(kept)
        return 1 + sum(COSTS[unit] for unit in kept)
