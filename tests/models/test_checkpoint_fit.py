"""Checkpoints as training scripts, wrappers and hubs write them: the weights are found by fit."""

from __future__ import annotations

import argparse
import pathlib
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from exporter.artifact import Model
from exporter.errors import InputError, UsageError
from exporter.models import weights
from exporter.models.checkpoint_fit import find_weights
from exporter.models.sources import define
from exporter.models.variants import build_variant
from exporter.progress import Silent

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    torch.manual_seed(0)
    return build_variant("resnet20").state_dict()


def prefixed(prefix: str, state: State) -> State:
    return {f"{prefix}{key}": value for key, value in state.items()}


def other(state: State) -> State:
    return {key: value + 1 for key, value in state.items()}


def loaded(path: Path | str) -> Model:
    return define("resnet20", str(path), progress=Silent())


def has(model: Model, state: State) -> bool:
    assert model.module is not None
    own = model.module.state_dict()
    return all(torch.equal(own[key], value) for key, value in state.items() if key in own)


WRAPPED: dict[str, Callable[[State], object]] = {
    "DataParallel": lambda s: prefixed("module.", s),
    "compiled": lambda s: prefixed("_orig_mod.", s),
    "compiled DataParallel": lambda s: prefixed("_orig_mod.module.", s),
    "Lightning": lambda s: {"state_dict": prefixed("model.", s), "epoch": 1, "callbacks": {}},
    "Lightning, compiled": lambda s: {"state_dict": prefixed("model._orig_mod.", s)},
    "a key of one's own": lambda s: {"net_weights": s, "lr": 0.1},
    "two keys": lambda s: {"checkpoint": {"generator": prefixed("net.", s)}},
    "a backbone": lambda s: prefixed("backbone.", s) | {"neck.weight": torch.zeros(3)},
    "beside the optimizer's": lambda s: {
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(16, 3, 3, 3)}}, "param_groups": []},
        "model": s,
    },
    "optimizer in the same mapping": lambda s: {
        **s,
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}},
    },
    "timm's": lambda s: {
        "arch": "resnet20",
        "args": argparse.Namespace(lr=0.1, out=pathlib.Path("x")),
        "metric": np.float64(71.5),
        "epoch": np.int64(3),
        "state_dict": s,
    },
}


@pytest.mark.parametrize("how", WRAPPED)
@pytest.mark.parametrize("ending", ["run.pth.tar", "epoch=3.ckpt", "pytorch_model.bin", "weights"])
def test_weights_are_found_wherever_they_are(
    tmp_path: Path, state: State, how: str, ending: str
) -> None:
    torch.save(WRAPPED[how](state), tmp_path / ending)
    model = loaded(tmp_path / ending)
    assert has(model, state)
    assert model.spec.weights.source == ending
    assert model.spec.weights.trained


@pytest.mark.parametrize("ending", ["model.safetensors", "model.bin", "model"])
def test_safetensors_by_any_name(tmp_path: Path, state: State, ending: str) -> None:
    save_file(prefixed("model.", state), tmp_path / ending)
    assert has(loaded(tmp_path / ending), state)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("state_dict", "state_dict_ema"),
        ("model", "ema"),
        ("student", "teacher"),
        ("weights", "weights_swa"),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_of_several_the_trained_ones_and_others_when_asked_for(
    tmp_path: Path, state: State, first: str, second: str, turned: bool
) -> None:
    both = {first: state, second: other(state)}
    path = tmp_path / "run.ckpt"
    torch.save(dict(reversed(both.items())) if turned else both, path)
    model = loaded(path)
    assert has(model, state)
    (note,) = model.notes
    assert f"at {first} are taken" in note
    assert f"::{second}" in note
    asked = loaded(f"{path}::{second}")
    assert has(asked, other(state))
    assert asked.spec.weights.source == f"run.ckpt::{second}"
    assert asked.notes == ()


def test_of_two_networks_the_one_that_fits(tmp_path: Path, state: State) -> None:
    large = build_variant("resnet32").state_dict()
    torch.save({"model": large, "small": state}, tmp_path / "both.pth")
    assert has(loaded(tmp_path / "both.pth"), state)
    assert has(define("resnet32", str(tmp_path / "both.pth"), progress=Silent()), large)


def test_a_place_may_be_a_prefix(tmp_path: Path, state: State) -> None:
    content = {
        "state_dict": {**prefixed("encoder_q.", state), **prefixed("encoder_k.", other(state))}
    }
    torch.save(content, tmp_path / "moco.pth")
    assert has(loaded(tmp_path / "moco.pth"), state)
    assert has(loaded(f"{tmp_path / 'moco.pth'}::state_dict.encoder_k"), other(state))


def test_a_place_that_is_not_there_is_answered_with_those_that_are(
    tmp_path: Path, state: State
) -> None:
    torch.save({"net": state, "ema": state}, tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"no weights at 'emma'; it has net \(\d+ tensors\), ema"):
        loaded(f"{tmp_path / 'x.pth'}::emma")


@pytest.mark.parametrize(
    "counter", ["total_ops", "layer1.0.total_params", "n_averaged", "decay", "num_updates"]
)
def test_counters_are_left_out_and_said(tmp_path: Path, state: State, counter: str) -> None:
    torch.save({**state, counter: torch.tensor([3.0])}, tmp_path / "x.pth")
    model = loaded(tmp_path / "x.pth")
    assert has(model, state)
    assert model.notes == (f"x.pth: 1 counters are left out: {counter}",)


def test_what_is_named_as_a_counter_and_is_none_is_unexpected(tmp_path: Path, state: State) -> None:
    torch.save({**state, "decay": torch.zeros(16)}, tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"1 unexpected: decay"):
        loaded(tmp_path / "x.pth")


def test_what_lies_beside_the_prefix_is_said(tmp_path: Path, state: State) -> None:
    torch.save(prefixed("backbone.", state) | {"neck.0.weight": torch.zeros(3)}, tmp_path / "x.pth")
    (note,) = loaded(tmp_path / "x.pth").notes
    assert note == (
        "x.pth: the weights at backbone are taken, 1 tensors beside them are not: neck.0.weight"
    )


def test_what_does_not_fit_is_answered_with_what_the_file_has(tmp_path: Path) -> None:
    torch.save({"state_dict": nn.Linear(3, 4).state_dict()}, tmp_path / "x.pth")
    with pytest.raises(
        InputError, match=r"it has state_dict.weight \(4, 3\), state_dict.bias \(4,\)"
    ):
        loaded(tmp_path / "x.pth")


class Wrapper(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.module = inner


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model.", "_orig_mod.module."])
def test_the_network_may_be_the_wrapped_one(state: State, prefix: str) -> None:
    network = Wrapper(build_variant("resnet20"))
    fit = find_weights(prefixed(prefix, state), network.state_dict(), "x.pth")
    weights.load_state(network, fit.state, "x.pth")
    assert fit.notes == ()
    assert all(torch.equal(network.state_dict()[f"module.{k}"], v) for k, v in state.items())


@pytest.mark.parametrize("name", ["x.pth", "x.ckpt", "x.bin", "x", "x.pth.tar", "x.safetensors"])
def test_a_checkpoint_in_the_models_place_is_told_where_it_belongs(
    tmp_path: Path, state: State, name: str
) -> None:
    path = tmp_path / name
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    with pytest.raises(UsageError, match=r"holds weights .* exporter export resnet50 --weights"):
        define(str(path), progress=Silent())


def scripted(path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)


def exported(path: Path) -> None:
    program = torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),))
    torch.export.save(program, path)


def whole(path: Path) -> None:
    torch.save(nn.Linear(2, 2), path)


def pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")


def page(path: Path) -> None:
    path.write_text("<!doctype html>\n<title>Sign in</title>\n")


def archive(path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        tar.add(__file__, "weights.pth")


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (scripted, "is a TorchScript program, expected weights"),
        (exported, r"without a state dict \(a program of torch.export"),
        (whole, r"objects that loading would execute \(torch.nn.modules.linear.Linear\)"),
        (pointer, "pointer of Git LFS"),
        (page, "is a web page"),
        (archive, "in the form of PyTorch before 0.2"),
    ],
)
def test_what_is_no_checkpoint_is_one_line_that_says_what_it_is(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    make(tmp_path / "x.pt2")
    with pytest.raises(InputError, match=message) as caught:
        loaded(tmp_path / "x.pt2")
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)  # PyTorch's advice is to load it unsafely
