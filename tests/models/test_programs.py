"""A program of torch.export is taken as a module; its file is not loaded, for that may run code."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import exporter
from exporter.errors import InputError, UsageError
from exporter.models.live_module import as_module
from exporter.models.modules import from_factory
from exporter.models.sources import define
from exporter.progress import Silent
from tests.independent import RIGHT, judged, of_module

SIZE = 16


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
    made = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 5)).train()
    made(torch.randn(8, 3, SIZE, SIZE))
    return made.eval()


def program(*, dynamic: bool = True) -> torch.export.ExportedProgram:
    batch = ({0: torch.export.Dim("batch")},) if dynamic else None
    return torch.export.export(network(), (torch.zeros(2, 3, SIZE, SIZE),), dynamic_shapes=batch)


def for_one_batch() -> torch.export.ExportedProgram:
    return program(dynamic=False)


def test_a_program_is_built_and_right(tmp_path: Path) -> None:
    build = exporter.export(
        program(), image_size=SIZE, out=tmp_path / "build", targets=["ort-cpu"],
        precisions=["fp32", "int8"], samples=8, calibration_samples=8, measure=False,
    )  # fmt: skip
    assert set(judged(build, of_module(network())).values()) == {RIGHT}
    parity = build["ort-cpu.fp32"].parity
    assert isinstance(parity, exporter.Parity)
    assert isinstance(parity.reference_rel_l2_float64, float)  # a copy of it answered in float64


def test_a_factory_may_make_one() -> None:
    model = from_factory(f"{__name__}:program", "auto", None, SIZE, (), 0)
    assert model.spec.output.shape == ("batch", 5)
    assert model.spec.weights.trained


def test_one_for_a_single_batch_says_how_to_export_it() -> None:
    with pytest.raises(InputError, match=r"a batch of 2 alone; export it with dynamic_shapes=\{"):
        as_module(for_one_batch())
    with pytest.raises(InputError, match=r"what .*:for_one_batch\(\) returned was exported for"):
        from_factory(f"{__name__}:for_one_batch", "auto", None, SIZE, (), 0)


def test_its_file_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    torch.export.save(program(), path)
    with pytest.raises(
        UsageError, match=r"may run code .* exporter\.export\(torch\.export\.load\("
    ):
        define(str(path), progress=Silent())
