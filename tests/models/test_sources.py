"""What `MODEL` may be: names, factories, files; and the random weights that stand in."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from exporter.artifact import ClassNames, Preprocessing, Skipped
from exporter.errors import InputError, MissingDependencyError, UsageError
from exporter.images.embedded import EMBEDDED
from exporter.images.synthetic import synthetic_inputs
from exporter.models import weights
from exporter.models.initialise import initialise
from exporter.models.sources import define
from exporter.models.variants import VARIANTS, build_variant, find_variant
from exporter.progress import Silent

FACTORIES = """
import torch
from torch import nn

def tiny():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

def broken():
    raise RuntimeError("no such file: weights.bin")

def text():
    return "not a module"

def picky():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(5, 4, 3))

def squeezed():
    class Squeezed(nn.Sequential):
        def forward(self, x):
            return super().forward(x).squeeze()
    return Squeezed(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1))

def leaving():
    raise SystemExit(3)

def fresh():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )

def used():
    module = fresh()
    module(torch.rand(2, 3, 8, 8))
    return module

number = 3
"""


@pytest.fixture
def factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_factories.py").write_text(FACTORIES)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "my_factories"


@pytest.mark.parametrize("source", ["resnet20", "resnet20-digits", "{}:tiny"])
def test_the_programs_random_state_stays_as_it_is(factories: str, source: str) -> None:
    before = torch.get_rng_state()
    define(source.format(factories), "auto", image_size=32, progress=Silent())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_module_of_ones_own(factories: str) -> None:
    model = define(f"{factories}:tiny", image_size=16, progress=Silent())
    assert (model.spec.name, model.spec.kind) == ("tiny", "module")
    assert model.spec.input.shape == ("batch", 3, 16, 16)
    assert model.spec.output.shape == ("batch", 4)
    assert model.spec.parameters == 4 * 27 + 4
    assert model.spec.macs == 4 * 27 * 14 * 14
    assert isinstance(model.spec.preprocessing, Skipped)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no_such_module_at_all:make", "cannot import no_such_module_at_all"),
        ("{}:absent", "has no callable 'absent'"),
        ("{}:number", "has no callable 'number'"),
        ("{}:broken", r"broken\(\) failed: no such file: weights\.bin"),
        ("{}:text", "returned a str, expected a torch.nn.Module"),
        ("{}:leaving", r"leaving\(\) failed: 3"),
        ("{}:squeezed", r"one image has the shape \(4,\), expected the batch dimension first"),
        ("{}:picky", r"does not run on a \(1, 3, 224, 224\) input"),
        ("a b:c", "expected package.module:factory"),
    ],
)
def test_bad_factories_are_one_line(factories: str, source: str, message: str) -> None:
    with pytest.raises((InputError, UsageError), match=message) as caught:
        define(source.format(factories), progress=Silent())
    assert "\n" not in str(caught.value)


def test_a_factory_draws_the_same_weights_twice_and_leaves_the_random_state_alone(
    factories: str,
) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, second, other = (
        define(f"{factories}:fresh", image_size=8, seed=seed, progress=Silent()).spec.weights
        for seed in (0, 0, 1)
    )
    assert first == second
    assert first.sha256 != other.sha256
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_network_that_never_saw_data_is_not_called_trained(factories: str) -> None:
    fresh = define(f"{factories}:fresh", image_size=8, progress=Silent())
    assert not fresh.spec.weights.trained
    assert "NEVER TRAINED" in fresh.notes[0]
    used = define(f"{factories}:used", image_size=8, progress=Silent())
    assert used.spec.weights.trained
    assert used.notes == ()


def test_random_weights_for_a_module_of_ones_own_do_not_depend_on_its_dropout(
    factories: str,
) -> None:
    models = [
        define(f"{factories}:fresh", "random", image_size=8, progress=Silent()) for _ in range(2)
    ]
    assert models[0].spec.weights == models[1].spec.weights
    assert not models[0].spec.weights.trained


def test_unknown_names_list_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown model 'resnet51'; did you mean .*resnet50"):
        define("resnet51", progress=Silent())


def test_an_image_too_small_says_how_small() -> None:
    with pytest.raises(UsageError, match=r"--image-size 16 is too small.*at least 32"):
        define("resnet18", "random", image_size=16, progress=Silent())


@pytest.mark.parametrize(("option", "name"), [("num_classes", "classes"), ("image_size", "size")])
def test_zero_is_refused_and_not_taken_for_the_default(option: str, name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} 0: expected at least 1"):
        options: dict[str, Any] = {option: 0}
        define("resnet20", "random", progress=Silent(), **options)


@pytest.mark.parametrize("name", EMBEDDED)
def test_an_embedded_model_without_its_weights_keeps_its_preprocessing(name: str) -> None:
    model = define(name, "random", progress=Silent())
    assert model.spec.preprocessing == EMBEDDED[name].preprocessing
    assert model.spec.image_shape == EMBEDDED[name].image_shape


@pytest.mark.parametrize(("name", "side"), [("resnet20-digits", 32), ("resnet20-fashion", 28)])
@pytest.mark.parametrize("other", [{"num_classes": 11}, {"image_size": 16}])
def test_an_embedded_model_refuses_other_shapes(name: str, side: int, other: Any) -> None:
    with pytest.raises(UsageError, match=f"10 classes and {side}x{side}"):
        define(name, progress=Silent(), **other)


def test_without_a_network_auto_is_random_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # a port that nobody serves
    model = define("resnet18", image_size=64, num_classes=1000, progress=Silent())
    assert not model.spec.weights.trained
    (note,) = model.notes
    assert "RANDOM weights" in note
    assert "cannot download" in note


def test_a_damaged_checkpoint_and_no_network_end_at_random_weights_that_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache is never an error: it is as if there were none."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cached = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"half of it")
    real = find_variant("resnet18")
    elsewhere = replace(real.weights[0], url="http://127.0.0.1:9/resnet18-f37072fd.pth")
    table = {**VARIANTS, "resnet18": replace(real, weights=(elsewhere,))}
    monkeypatch.setattr("exporter.models.variants.VARIANTS", table)
    progress = Silent()
    model = define("resnet18", image_size=64, progress=progress)
    assert not model.spec.weights.trained
    assert any("is damaged; it is downloaded again" in note for note in progress.notes)
    assert any("RANDOM weights" in note for note in model.notes)


def test_published_weights_come_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way of `auto` with a network, on a checkpoint that bears its true hash."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(build_variant("resnet18").state_dict(), folder / "made")
    digest = hashlib.sha256((folder / "made").read_bytes()).hexdigest()[:8]
    (folder / "made").rename(folder / f"resnet18-{digest}.pth")
    real = find_variant("resnet18")
    published = replace(real.weights[0], url=f"https://example.invalid/resnet18-{digest}.pth")
    table = {**VARIANTS, "resnet18": replace(real, weights=(published,))}
    monkeypatch.setattr("exporter.models.variants.VARIANTS", table)
    model = define("resnet18", image_size=64, progress=Silent())
    assert model.spec.weights.trained
    assert model.spec.weights.source == "torchvision IMAGENET1K_V1"
    assert model.spec.weights.classes is ClassNames.IMAGENET_1K
    assert str(model.spec.weights.licence).startswith("BSD-3-Clause (torchvision)")
    assert isinstance(model.spec.preprocessing, Preprocessing)
    assert (model.spec.preprocessing.resize, model.spec.preprocessing.crop) == (73, 64)
    assert model.notes == ()


def test_timm_is_used_or_its_absence_said() -> None:
    try:
        import timm  # noqa: F401
    except Exception:
        with pytest.raises(MissingDependencyError, match=r"pip install .*\[timm\]"):
            define("timm:resnet10t", "random", progress=Silent())
        pytest.skip("timm cannot be imported here: its torchvision does not fit this torch")
    model = define("timm:resnet10t", "random", progress=Silent())
    assert (model.spec.kind, model.spec.name) == ("timm", "resnet10t")
    assert not isinstance(model.spec.preprocessing, Skipped)


def test_random_weights_are_the_same_bytes_for_the_same_seed() -> None:
    hashes = []
    for seed, threads in ((3, 1), (3, 2), (4, 2)):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        model = define("resnet20", "random", seed=seed, progress=Silent())
        torch.set_num_threads(before)
        assert model.module is not None
        hashes.append(weights.state_sha256(model.module))
    assert hashes[0] == hashes[1]
    assert hashes[0] != hashes[2]


@pytest.mark.parametrize("name", ["resnet18", "plain34", "resnet110", "plain56"])
def test_random_weights_are_well_conditioned(name: str) -> None:
    """Deep random networks can magnify rounding past any limit; these must not.

    Each layer's result is rounded once, all else is float64: how far a CPU's own kernels are off
    differs threefold from one to the next.
    """
    size = 64 if find_variant(name).family == "imagenet" else 32
    module = build_variant(name)
    initialise(module, (torch.from_numpy(synthetic_inputs((3, size, size), 16, 0)),), 0)
    inputs = torch.from_numpy(synthetic_inputs((3, size, size), 4, 1))
    largest = []
    for part in module.modules():
        if isinstance(part, torch.nn.ReLU):
            part.register_forward_hook(lambda _m, _i, out: largest.append(float(out.std())))
    module.double()
    with torch.inference_mode():
        exact = module(inputs.double())
        assert min(largest) > 0.1
        assert max(largest) < 20
        for dtype, limit in ((torch.float32, 1e-6), (torch.float16, 5e-3)):
            rounded = rounding(module, dtype)(inputs.double())
            assert (rounded - exact).norm() / exact.norm() < limit


def rounding(module: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    """A copy of a float64 module that rounds the result of each layer to another type."""
    found = copy.deepcopy(module)
    for part in found.modules():
        if not any(part.children()):
            part.register_forward_hook(lambda _m, _i, out: out.to(dtype).double())
    return found
