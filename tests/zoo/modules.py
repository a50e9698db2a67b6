"""Networks as people write them in PyTorch: small, with weights and statistics that matter."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

Norm = Callable[[int], nn.Module]


class Block(nn.Module):
    """A residual block of two convolutions with whatever a family puts in."""

    def __init__(
        self,
        inputs: int,
        planes: int,
        stride: int = 1,
        *,
        activation: Callable[[], nn.Module] = nn.ReLU,
        norm: Norm = nn.BatchNorm2d,
        conv: Callable[..., nn.Module] = nn.Conv2d,
        gate: Norm = lambda _planes: nn.Identity(),
        pool: Callable[[int], nn.Module] | None = None,
        dilation: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.conv1 = conv(
            inputs, planes, 3, 1 if pool else stride, dilation, dilation=dilation, groups=groups,
            bias=False,
        )  # fmt: skip
        self.pool = pool(planes) if pool and stride > 1 else nn.Identity()
        self.norm1, self.act1 = norm(planes), activation()
        self.conv2 = conv(planes, planes, 3, padding=1, bias=False)
        self.norm2, self.gate, self.act2 = norm(planes), gate(planes), activation()
        self.down: nn.Module = nn.Identity()
        if inputs != planes or stride > 1:
            shrink = nn.AvgPool2d(2, stride, ceil_mode=True) if pool else nn.Identity()
            projected = conv(inputs, planes, 1, 1 if pool else stride, bias=False)
            self.down = nn.Sequential(shrink, projected, norm(planes))

    def forward(self, x: Tensor) -> Tensor:
        y = self.act1(self.norm1(self.pool(self.conv1(x))))
        y = self.gate(self.norm2(self.conv2(y)))
        summed: Tensor = self.act2(y + self.down(x))
        return summed


class PreActivation(nn.Module):
    def __init__(self, planes: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(planes), nn.Conv2d(planes, planes, 3, padding=1)
        self.bn2, self.conv2 = nn.BatchNorm2d(planes), nn.Conv2d(planes, planes, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(functional.relu(self.bn1(x)))
        summed: Tensor = self.conv2(functional.relu(self.bn2(y))) + x
        return summed


class Inverted(nn.Module):
    """MobileNet's block: wide, depthwise, narrow."""

    def __init__(self, planes: int, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        wide = 2 * planes
        self.body = nn.Sequential(
            nn.Conv2d(planes, wide, 1, bias=False), nn.BatchNorm2d(wide), activation(),
            nn.Conv2d(wide, wide, 3, 1, 1, groups=wide, bias=False), nn.BatchNorm2d(wide),
            activation(), nn.Conv2d(wide, planes, 1, bias=False), nn.BatchNorm2d(planes),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        summed: Tensor = x + self.body(x)
        return summed


class SqueezeExcite(nn.Module):
    def __init__(self, planes: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(planes, 4, 1), nn.Conv2d(4, planes, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = functional.relu(self.reduce(functional.adaptive_avg_pool2d(x, 1)))
        return x * torch.sigmoid(self.expand(pooled))


class EfficientAttention(nn.Module):
    def __init__(self, planes: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.sigmoid(self.conv(x.mean((2, 3)).unsqueeze(1)))
        return x * weights.reshape(x.shape[0], -1, 1, 1).expand_as(x)


class Cbam(nn.Module):
    """Attention over channels, then over places."""

    def __init__(self, planes: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Conv2d(planes, 4, 1), nn.ReLU(), nn.Conv2d(4, planes, 1))
        self.spatial = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        means, most = functional.adaptive_avg_pool2d(x, 1), functional.adaptive_max_pool2d(x, 1)
        x = x * torch.sigmoid(self.mlp(means) + self.mlp(most))
        places = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * torch.sigmoid(self.spatial(places))


class SplitAttention(nn.Module):
    """ResNeSt's convolution with a radix of two."""

    def __init__(self, inputs: int, planes: int, *_: object, **__: object) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, 2 * planes, 3, padding=1, groups=2, bias=False)
        self.fc1, self.fc2 = nn.Conv2d(planes, 8, 1), nn.Conv2d(8, 2 * planes, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.conv(x))
        n, channels, height, width = y.shape
        parts = y.reshape(n, 2, channels // 2, height, width)
        pooled = parts.sum(1).mean((2, 3), keepdim=True)
        weights = self.fc2(functional.relu(self.fc1(pooled))).reshape(n, 2, channels // 2, 1, 1)
        summed: Tensor = (parts * weights.softmax(1)).sum(1)
        return summed


class BlurPool(nn.Module):
    kernel: Tensor

    def __init__(self, planes: int) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0])
        kernel = (row[:, None] * row / 16).expand(planes, 1, 3, 3).clone()
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        padded = functional.pad(x, (1, 1, 1, 1), mode="reflect")
        return functional.conv2d(padded, self.kernel, stride=2, groups=len(self.kernel))


class StandardizedConv(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        spread = self.weight.var((1, 2, 3), keepdim=True, correction=0)
        weight = (self.weight - mean) * torch.rsqrt(spread + 1e-6) * 0.3
        return functional.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation)


class FrozenNorm(nn.Module):
    """A BatchNormalization that is a Mul and an Add, as in detection's backbones."""

    scale: Tensor
    shift: Tensor

    def __init__(self, planes: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.rand(planes) * 0.6 + 0.6)
        self.register_buffer("shift", torch.rand(planes) * 0.4 - 0.2)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale.reshape(1, -1, 1, 1) + self.shift.reshape(1, -1, 1, 1)


class Shuffle(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        parts = x.reshape(n, 2, channels // 2, height, width).transpose(1, 2)
        return parts.reshape(n, channels, height, width)


class Twice(nn.Module):
    """One layer that is called twice."""

    def __init__(self, planes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(planes, planes, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(functional.relu(self.conv(x)))
        return y + x


class Pyramid(nn.Module):
    """A smaller picture of itself, made large again and put beside it."""

    def __init__(self, planes: int) -> None:
        super().__init__()
        self.down, self.join = nn.Conv2d(planes, planes, 3, 2, 1), nn.Conv2d(2 * planes, planes, 1)

    def forward(self, x: Tensor) -> Tensor:
        small = functional.relu(self.down(x))
        large = functional.interpolate(small, size=x.shape[2:], mode="nearest")
        joined: Tensor = self.join(torch.cat([x, large], 1))
        return joined


class Masked(nn.Module):
    """Attention among neighbours: everything else is minus infinity."""

    mask: Tensor

    def __init__(self, places: int) -> None:
        super().__init__()
        index = torch.arange(places)
        far = (index[:, None] - index).abs() > places // 4
        self.register_buffer("mask", torch.zeros(places, places).masked_fill(far, float("-inf")))

    def forward(self, x: Tensor) -> Tensor:
        y = x.flatten(2).transpose(1, 2)
        weights = torch.softmax(y @ y.transpose(1, 2) / 4 + self.mask, -1)
        return (weights @ y).transpose(1, 2).reshape(x.shape)


class Clamped(nn.Module):
    """Bounds without an end."""

    high: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("high", torch.tensor(float("inf")))

    def forward(self, x: Tensor) -> Tensor:
        return torch.minimum(x, self.high)


class BothPools(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        pools = functional.adaptive_avg_pool2d(x, 1), functional.adaptive_max_pool2d(x, 1)
        return torch.cat(pools, 1).flatten(1)


class Normalising(nn.Module):
    """Takes pixels of 0 to 255 as they are, and changes its input in place."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        x.sub_(0.4).div_(0.25)
        y: Tensor = self.network(x)
        return y


class Autocast(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            y: Tensor = self.network(x)
        return y.float()


class Branching(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.network(x)
        return y if y.sum() > 0 else -y


class Dropping(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(x, 0.5, training=True)


class QuantizableSum(nn.Module):
    """A block of a network that can be quantized and is not: fused layers, a sum of its own."""

    def __init__(self, planes: int) -> None:
        super().__init__()
        conv, relu = nn.Conv2d(planes, planes, 3, padding=1), nn.ReLU()
        self.fused = torch.ao.nn.intrinsic.ConvReLU2d(conv, relu)
        self.add = torch.ao.nn.quantized.FloatFunctional()

    def forward(self, x: Tensor) -> Tensor:
        summed: Tensor = self.add.add_relu(self.fused(x), x)
        return summed


class Pair(nn.Module):
    """Two pictures through one network."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net.eval()

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        answer: Tensor = self.net(left) + 0.5 * self.net(right)
        return answer


class WithDepth(nn.Module):
    """A depth map beside the picture, and a vector beside the scores."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net.eval()
        self.depth = nn.Conv2d(1, 3, 3, padding=1)
        self.about = nn.Linear(4, 7)

    def forward(self, rgb: Tensor, depth: Tensor, about: Tensor) -> Tensor:
        answer: Tensor = self.net(rgb + self.depth(depth).relu()) + 0.1 * self.about(about)
        return answer


def network(*blocks: nn.Module, planes: int = 16, channels: int = 3, norm: Norm = nn.BatchNorm2d
            ) -> nn.Module:  # fmt: skip
    """A stem, the blocks, a head of 7 classes; seeded."""
    stem = nn.Sequential(nn.Conv2d(channels, 8, 3, 1, 1, bias=False), norm(8), nn.ReLU())
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(planes, 7))
    return settled(nn.Sequential(stem, *blocks, *head))


def settled(module: nn.Module) -> nn.Module:
    """In eval mode, with statistics that normalise what comes, as after training."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None:
            assert layer.running_var is not None
            nn.init.uniform_(layer.running_mean, -0.2, 0.2)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
            nn.init.uniform_(layer.weight, 0.6, 1.2)
            nn.init.uniform_(layer.bias, -0.2, 0.4)
    return module.eval()


def of_blocks(**family: object) -> nn.Module:
    """An identity shortcut and a projection."""
    return network(Block(8, 8, 1, **family), Block(8, 16, 2, **family))  # type: ignore[arg-type]


def channels_last(module: nn.Module) -> nn.Module:
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
