"""Our definitions against facts about torchvision's (tests/reference)."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from exporter.models.describe import count_macs
from exporter.models.variants import VARIANTS, build_variant, find_variant

REFERENCE = Path(__file__).parents[1] / "reference"
FACTS = json.loads((REFERENCE / "torchvision_resnets.json").read_text())


def formula(key: str, value: torch.Tensor) -> torch.Tensor:
    """The weights that the reference logits were made with."""
    rng = np.random.RandomState(zlib.crc32(key.encode()) & 0xFFFFFFFF)
    shape = tuple(value.shape)
    if key.endswith("num_batches_tracked"):
        return torch.tensor(1)
    if key.endswith("running_var"):
        return torch.from_numpy(rng.uniform(0.5, 1.5, shape))
    if key.endswith("running_mean"):
        return torch.from_numpy(rng.uniform(-0.1, 0.1, shape))
    if value.dim() == 4:
        scale = np.sqrt(2 / (shape[0] * shape[2] * shape[3]))
        return torch.from_numpy(rng.standard_normal(shape) * scale)
    if value.dim() == 2:
        return torch.from_numpy(rng.standard_normal(shape) * 0.01)
    if key.endswith(".weight"):
        return torch.from_numpy(rng.uniform(0.3, 0.7, shape))
    return torch.from_numpy(rng.uniform(-0.1, 0.1, shape))


@pytest.mark.parametrize("name", FACTS)
def test_torchvision_variants_agree_in_keys_counts_and_float64_logits(name: str) -> None:
    module = build_variant(name).eval().double()
    state = module.state_dict()
    assert {k: list(v.shape) for k, v in state.items()} == FACTS[name]["state_dict"]
    assert sum(p.numel() for p in module.parameters()) == FACTS[name]["parameters"]
    module.load_state_dict({key: formula(key, value) for key, value in state.items()})
    image = torch.from_numpy(np.random.RandomState(0).standard_normal((1, 3, 224, 224)))
    macs, logits = count_macs(module, image)
    assert macs == FACTS[name]["macs_224"]
    assert isinstance(logits, torch.Tensor)
    expected = np.load(REFERENCE / "torchvision_logits.npz")[name]
    error = np.linalg.norm(logits.numpy()[0] - expected) / np.linalg.norm(expected)
    assert error <= 1e-9


@pytest.mark.parametrize("depth", [20, 32, 44, 56, 110])
def test_cifar_variants_are_those_of_the_paper(depth: int) -> None:
    module = build_variant(f"resnet{depth}")
    convolutions = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    # 6n + 1 convolutions on the main path and two projections (option B); one linear layer
    assert len(convolutions) == depth - 1 + 2
    assert {m.out_channels for m in convolutions} == {16, 32, 64}
    shapes = {}
    for stage in ("layer1", "layer2", "layer3"):
        module.get_submodule(stage).register_forward_hook(
            lambda _m, _i, out, stage=stage: shapes.update({stage: tuple(out.shape[1:])})
        )
    module.eval()(torch.zeros(1, 3, 32, 32))
    assert shapes == {"layer1": (16, 32, 32), "layer2": (32, 16, 16), "layer3": (64, 8, 8)}


@pytest.mark.parametrize("depth", [18, 34, 20, 56])
def test_plain_networks_have_the_same_convolutions_and_no_shortcut(depth: int) -> None:
    def main_branch(module: nn.Module) -> dict[str, torch.Size]:
        return {
            key: value.shape
            for key, value in module.state_dict().items()
            if "downsample" not in key
        }

    plain, twin = build_variant(f"plain{depth}"), build_variant(f"resnet{depth}")
    assert main_branch(plain) == main_branch(twin)
    assert not any("downsample" in key for key in plain.state_dict())
    plain.eval()
    with torch.no_grad():  # with the last BatchNorm of a block silenced, nothing gets past it
        norm = plain.get_submodule("layer1.0.bn2")
        assert isinstance(norm, nn.BatchNorm2d)
        norm.weight.zero_()
        size = find_variant(f"plain{depth}").image_size
        one, two = plain(torch.rand(2, 3, size, size))
    assert torch.equal(one, two)


def test_the_table_is_what_it_promises() -> None:
    assert len(VARIANTS) == 10 + 5 + 4 + 2
    for name, variant in VARIANTS.items():
        assert name.startswith("plain") != variant.residual
        stages = build_variant(name).stages if variant.family != "imagenet" else 4
        assert stages == len(variant.layers)
    published = {n: {w.name for w in v.weights} for n, v in VARIANTS.items() if v.weights}
    assert published == {name: set(facts["weights"]) for name, facts in FACTS.items()}
    for name, facts in FACTS.items():
        for weights in VARIANTS[name].weights:
            assert weights.url == facts["weights"][weights.name]["url"]
            assert weights.preprocessing.resize == facts["weights"][weights.name]["resize"]
