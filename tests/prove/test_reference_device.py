"""Where the reference answers; on a machine without a GPU, that another place is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from exporter.artifact import Model
from exporter.errors import UsageError
from exporter.models.sources import define
from exporter.progress import Silent
from exporter.prove.reference_device import check_device, float32_on
from exporter.targets import MachineKind


@pytest.fixture(scope="module")
def model() -> Model:
    return define("resnet20-digits", "random", progress=Silent())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_one_line_with_the_remedy(model: Model) -> None:
    check_device(MachineKind.CPU, model)
    with pytest.raises(UsageError, match=r"--reference-device gpu: torch .* reaches no NVIDIA GPU"):
        check_device(MachineKind.GPU, model)


def test_an_onnx_file_has_no_reference_on_the_gpu(model: Model) -> None:
    file = replace(model, module=None, given=b"onnx")
    check_device(MachineKind.CPU, file)
    with pytest.raises(UsageError, match="--reference-device concerns PyTorch modules"):
        check_device(MachineKind.GPU, file)


def test_on_the_cpu_the_module_itself_answers(model: Model) -> None:
    assert model.module is not None
    with float32_on(MachineKind.CPU, model.module) as module:
        assert module is model.module
