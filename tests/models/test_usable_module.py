"""Modules as people hold them: wrapped, in other types, parametrized; and those without numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.optim.swa_utils import AveragedModel

from exporter.artifact import Model
from exporter.errors import InputError
from exporter.graph.to_onnx import export
from exporter.models import weights
from exporter.models.inputs import only
from exporter.models.live_module import LiveModule, from_module
from exporter.models.sources import define
from exporter.progress import Silent
from tests.graphs import random, relative_error, run

X = random(2, 3, 16, 16, seed=3)


def plain(channels: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    ).eval()


class Holder(nn.Module):
    """As timm's ModelEmaV2: it holds a network and has no forward."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


class HandsOn(Holder):
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)


def compiled(module: nn.Module) -> nn.Module:
    wrapped: Any = torch.compile(module, backend="eager")
    assert isinstance(wrapped, nn.Module)
    return wrapped


WRAPPED: dict[str, Callable[[], nn.Module]] = {
    "DataParallel": lambda: nn.DataParallel(plain()),
    "AveragedModel": lambda: AveragedModel(plain()),
    "compiled": lambda: compiled(plain()),
    "compiled DataParallel": lambda: compiled(nn.DataParallel(plain())),
    "averaged DataParallel": lambda: AveragedModel(nn.DataParallel(plain())),
    "without a forward": lambda: Holder(plain()),
    "forward(*args, **kwargs)": lambda: HandsOn(plain()),
}


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[nn.Module], Model]:
    """Defines what `package.module:attribute` is."""
    import sys
    import types

    def define_it(module: nn.Module, *options: str, **more: Any) -> Model:
        package = types.ModuleType("given")
        package.made = lambda: module  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "given", package)
        size = more.pop("image_size", 16)
        return define("given:made", *options, image_size=size, progress=Silent(), **more)

    return define_it


def live(module: nn.Module) -> Model:
    return from_module(LiveModule(module, only((3, 16, 16))), "auto", 0)


def check(model: Model, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    found = run(export(model), X)
    assert relative_error(found, expected.detach().double().numpy()) < tolerance


@pytest.mark.parametrize("how", WRAPPED)
def test_what_is_wrapped_is_the_network(factory: Callable[..., Model], how: str) -> None:
    expected = plain()(torch.from_numpy(X))
    check(factory(WRAPPED[how]()), expected)
    check(live(WRAPPED[how]()), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_are_taken_in_float32_and_said(
    factory: Callable[..., Model], dtype: torch.dtype
) -> None:
    for model in (factory(plain().to(dtype)), live(plain().to(dtype))):
        assert any(f"holds parameters in {dtype}; it is taken in float32" in n for n in model.notes)
        check(model, plain().to(dtype).float()(torch.from_numpy(X)))


class Extra(nn.Sequential):
    def get_extra_state(self) -> dict[str, int]:
        return {"version": 2}

    def set_extra_state(self, state: object) -> None:
        pass


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.float64, torch.bool])
def test_buffers_of_any_type_can_be_hashed(
    factory: Callable[..., Model], dtype: torch.dtype
) -> None:
    module = plain()
    module.register_buffer("scale", torch.ones(()).to(dtype))
    check(factory(module), plain()(torch.from_numpy(X)))
    module = plain()
    module.register_buffer("scale", torch.ones(3).to(dtype))
    assert len(weights.state_sha256(module)) == 64


def test_what_is_no_tensor_in_a_state_is_not_hashed() -> None:
    assert weights.state_sha256(Extra(*plain())) == weights.state_sha256(plain())


def weight_normed() -> nn.Module:
    module = plain()
    parametrizations.weight_norm(module[0])
    return module


def spectrally_normed() -> nn.Module:
    module = plain()
    parametrizations.spectral_norm(module[4])
    return module.eval()


def orthogonal() -> nn.Module:
    module = plain()
    parametrizations.orthogonal(module[4])
    return module


def old_weight_norm() -> nn.Module:
    module = plain()
    nn.utils.weight_norm(module[0])
    return module


def old_spectral_norm() -> nn.Module:
    module = plain()
    nn.utils.spectral_norm(module[4])
    return module.eval()


def pruned() -> nn.Module:
    module = plain()
    prune.l1_unstructured(module[0], "weight", 0.5)
    return module


def twice_pruned() -> nn.Module:
    module = pruned()
    assert isinstance(module, nn.Sequential)
    prune.ln_structured(module[0], "weight", 0.25, n=2, dim=0)
    prune.random_unstructured(module[4], "bias", 0.5)
    return module


PARAMETRIZED = [
    weight_normed, spectrally_normed, orthogonal, old_weight_norm, old_spectral_norm, pruned,
    twice_pruned,
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("make", PARAMETRIZED)
def test_what_is_computed_from_parameters_is_folded(
    factory: Callable[..., Model], tmp_path: Path, make: Callable[[], nn.Module]
) -> None:
    module = make()
    with torch.no_grad():
        expected = module(torch.from_numpy(X))
    torch.save(module.state_dict(), tmp_path / "own.pth")
    for model in (live(module), factory(module), factory(make(), str(tmp_path / "own.pth"))):
        assert model.module is not None
        assert set(model.module.state_dict()) == set(plain().state_dict())
        check(model, expected)


def scripted() -> nn.Module:
    module: nn.Module = torch.jit.script(plain())
    return module


def traced_inside() -> nn.Module:
    return HandsOn(torch.jit.trace(plain(), torch.from_numpy(X)))


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyConv2d(8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return plain()


def lost_on_meta() -> nn.Module:
    module = plain()
    module[4].to("meta")
    return module


def quantized() -> nn.Module:
    module: nn.Module = torch.ao.quantization.quantize_dynamic(plain(), {nn.Linear}, torch.qint8)
    return module


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (scripted, "is a TorchScript program; give the float32 nn.Module"),
        (traced_inside, "holds a TorchScript program, module"),
        (lazy, r"has no weights yet: 0 \(LazyConv2d\) is lazy; run it once"),
        (on_meta, r"has no weights: those of 0 \(Conv2d\) are on the meta device"),
        (lost_on_meta, r"those of 4 \(Linear\) are on the meta device"),
        (quantized, r"is quantized: 4 \(Linear\); give the float32 nn.Module"),
    ],
)
def test_a_module_without_numbers_is_refused_with_what_to_give(
    factory: Callable[..., Model], make: Callable[[], nn.Module], message: str
) -> None:
    for way in (factory, live):
        with pytest.raises(InputError, match=message) as caught:
            way(make())
        assert "\n" not in str(caught.value)


def test_a_program_of_torch_export_is_a_module(factory: Callable[..., Model]) -> None:
    batch = torch.export.Dim("n")
    program = torch.export.export(plain(), (torch.from_numpy(X),), dynamic_shapes=({0: batch},))
    check(factory(program.module()), plain()(torch.from_numpy(X)))


@pytest.mark.parametrize("channels", [1, 2, 4, 6, 12])
def test_an_image_has_the_channels_of_the_first_convolution(
    factory: Callable[..., Model], channels: int
) -> None:
    model = factory(plain(channels))
    assert model.spec.input.shape == ("batch", channels, 16, 16)
    assert factory(plain(channels), "random").spec.image_shape == (channels, 16, 16)


class StemLast(nn.Module):
    """Its stem, and the adapter from grey before that, are registered after the layers."""

    def __init__(self, *, grey: bool) -> None:
        super().__init__()
        self.layer = nn.Conv2d(8, 8, 3, padding=1)
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.adapter = nn.Conv2d(1, 3, 1) if grey else nn.Identity()
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(self.layer(self.stem(self.adapter(x))).mean((2, 3)))
        return y


@pytest.mark.parametrize(("grey", "channels"), [(False, 3), (True, 1)])
def test_the_stem_need_not_be_registered_first(
    factory: Callable[..., Model], grey: bool, channels: int
) -> None:
    assert factory(StemLast(grey=grey)).spec.image_shape == (channels, 16, 16)


def test_without_a_convolution_an_image_has_three_channels(factory: Callable[..., Model]) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 5))
    assert factory(module).spec.image_shape == (3, 16, 16)


class Sum(nn.Module):
    """As in torchvision's networks that can be quantized, and are not."""

    def __init__(self) -> None:
        super().__init__()
        self.fused = torch.ao.nn.intrinsic.ConvReLU2d(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU())
        self.add = torch.ao.nn.quantized.FloatFunctional()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.add.add_relu(self.fused(x), x)
        return y


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_float_layers_from_the_packages_for_quantization_are_float(
    factory: Callable[..., Model],
) -> None:
    module = nn.Sequential(Sum(), *plain()).eval()
    check(factory(module), module(torch.from_numpy(X)))


def test_a_module_with_channels_last_exports_as_one_with_channels_first(
    factory: Callable[..., Model],
) -> None:
    other: nn.Module = plain().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    graphs = [export(factory(module)) for module in (plain(), other)]
    first, last = ([node.op_type for node in graph.graph] for graph in graphs)
    assert first == last


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_forward_that_computes_in_another_type_is_refused(
    factory: Callable[..., Model], dtype: torch.dtype
) -> None:
    class Autocast(Holder):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cpu", dtype):
                y: torch.Tensor = self.module(x)
            return y.float()

    model = factory(Autocast(plain()))
    with pytest.raises(
        InputError, match=r"Conv '.*' computes in B?FLOAT16; take autocast"
    ) as caught:
        export(model)
    assert "\n" not in str(caught.value)
