"""Weights of another type than the network's: named and refused, never taken for its numbers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from exporter.errors import InputError
from exporter.models.checkpoint_fit import State
from exporter.models.sources import define
from exporter.models.variants import build_variant
from exporter.models.weights import load_state
from exporter.progress import Silent

Change = Callable[[torch.Tensor], torch.Tensor]


@pytest.fixture
def state() -> State:
    torch.manual_seed(0)
    return build_variant("resnet20").state_dict()


def codes(kind: torch.dtype) -> Change:
    return lambda weight: (weight * 50).round().to(kind)


def quantized(weight: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated by PyTorch, but people have such files
        return torch.quantize_per_tensor(weight, 0.01, 0, torch.qint8)


def compressed(weight: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # beta, PyTorch says
        return weight.to_sparse_csr()


REFUSED: dict[str, tuple[str, Change]] = {
    **{
        str(kind): ("conv1.weight", codes(kind))
        for kind in (
            *(torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool),
            *(torch.complex64, torch.complex128, torch.float8_e4m3fn, torch.float8_e5m2),
        )
    },
    "sparse (sparse_coo)": ("fc.weight", torch.Tensor.to_sparse),
    "sparse_csr": ("fc.weight", compressed),
    "quantized (qint8)": ("conv1.weight", quantized),
    "meta": ("bn1.weight", lambda weight: weight.to("meta")),
    "float32 for int64": ("bn1.num_batches_tracked", torch.Tensor.float),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_other_types_are_refused_by_name(tmp_path: Path, state: State, kind: str) -> None:
    key, change = REFUSED[kind]
    path = tmp_path / "net.pth"
    torch.save({**state, key: change(state[key])}, path)
    with pytest.raises(InputError) as caught:
        define("resnet20", str(path), progress=Silent())
    message = str(caught.value)
    assert message.startswith(f"net.pth does not fit the model; 1 of another type: {key} ")
    assert kind.removeprefix("torch.") in message
    assert "\n" not in message


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_widths_of_floats_are_taken(tmp_path: Path, state: State, kind: torch.dtype) -> None:
    path = tmp_path / "net.pth"
    torch.save({k: v.to(kind) if v.is_floating_point() else v for k, v in state.items()}, path)
    module = define("resnet20", str(path), progress=Silent()).module
    assert module is not None
    expected = state["conv1.weight"].to(kind).float()
    assert torch.equal(module.state_dict()["conv1.weight"], expected)


def test_a_number_that_float32_does_not_hold_is_not_finite(state: State) -> None:
    state["fc.bias"] = torch.full((10,), 1e300, dtype=torch.float64)
    with pytest.raises(InputError, match=r"not finite in fc\.bias"):
        load_state(build_variant("resnet20"), state, "net.pth")
