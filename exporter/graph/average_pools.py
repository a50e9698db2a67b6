"""Average pools that PyTorch exports wrongly (pytorch#131272), written out while it exports.

    divisor_override    is lost: the exported pool divides by its window's size
    ceil_mode           a last window that begins in the padding is dropped by PyTorch and counted
                        by ONNX; one that ends behind the padding is divided otherwise

With a divisor a pool becomes a convolution of each channel, else zero padding, a pool without any
and a factor for each window, which are constants: the size of an image is fixed. All other pools
stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional


class WrittenOutAveragePool(nn.Module):
    """What an AvgPool2d does, without divisor, rounding up or padding of the operator's own."""

    kernel: Tensor

    def __init__(self, pool: nn.AvgPool2d, channels: int) -> None:
        super().__init__()
        self._pool = (pool,)  # in a tuple: no submodule
        height, width = (_along(pool.kernel_size, axis) for axis in (0, 1))
        each = 1 / (pool.divisor_override or height * width)
        kernel = torch.full((channels, 1, height, width), each)
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, OH, OW)."""
        (pool,) = self._pool
        channels = len(self.kernel)
        if pool.divisor_override is not None and not pool.ceil_mode:
            return functional.conv2d(
                x, self.kernel, stride=pool.stride, padding=pool.padding, groups=channels
            )
        windows = [_Windows.of(pool, axis, int(x.shape[2 + axis])) for axis in (0, 1)]
        rows, columns = windows
        padded = functional.pad(x, (*columns.padding, *rows.padding))
        stride = rows.stride, columns.stride
        if pool.divisor_override is not None:
            return functional.conv2d(padded, self.kernel, stride=stride, groups=channels)
        means = functional.avg_pool2d(padded, (rows.kernel, columns.kernel), stride)
        whole = rows.kernel * columns.kernel
        factors = [[whole / (high * wide) for wide in columns.counts] for high in rows.counts]
        if all(factor == 1 for row in factors for factor in row):
            return means
        return means * torch.tensor(factors)


class _Windows:
    """The windows of a pool along one axis."""

    def __init__(
        self, kernel: int, stride: int, padding: tuple[int, int], counts: list[int]
    ) -> None:
        self.kernel = kernel
        self.stride = stride
        self.padding = padding
        """Zeros before and behind, so that every window is whole; fewer than none crop."""
        self.counts = counts
        """What PyTorch divides each window by."""

    @classmethod
    def of(cls, pool: nn.AvgPool2d, axis: int, size: int) -> _Windows:
        kernel, stride, pad = (
            _along(value, axis) for value in (pool.kernel_size, pool.stride, pool.padding)
        )
        count = _count(size, kernel, stride, pad, ceil=pool.ceil_mode)
        starts = [index * stride - pad for index in range(count)]
        least, most = (-pad, size + pad) if pool.count_include_pad else (0, size)
        counts = [min(start + kernel, most) - max(start, least) for start in starts]
        behind = starts[-1] + kernel - size
        return cls(kernel, stride, (pad, behind), counts)


def _along(value: int | tuple[int, int], axis: int) -> int:
    return value[axis] if isinstance(value, tuple) else value


def _count(size: int, kernel: int, stride: int, pad: int, *, ceil: bool) -> int:
    """How many windows PyTorch has: none begins behind the input and its first padding."""
    room = size + 2 * pad - kernel
    count = (-(-room // stride) if ceil else room // stride) + 1
    return count - 1 if ceil and (count - 1) * stride >= size + pad else count


def _is_exported_wrongly(pool: nn.AvgPool2d, image: Tensor) -> bool:
    if pool.divisor_override is not None:
        return True
    if not pool.ceil_mode:
        return False
    for axis in (0, 1):
        size = int(image.shape[image.dim() - 2 + axis])
        kernel, stride, pad = (
            _along(value, axis) for value in (pool.kernel_size, pool.stride, pool.padding)
        )
        all_windows = -(-(size + 2 * pad - kernel) // stride) + 1
        overhang = (all_windows - 1) * stride + kernel > size + 2 * pad
        if all_windows != _count(size, kernel, stride, pad, ceil=True):
            return True
        if overhang and pool.count_include_pad:
            return True
    return False


@contextmanager
def average_pools_written_out(module: nn.Module, example: Sequence[Tensor]) -> Iterator[None]:
    """In the block, those pools of a module are written out that PyTorch exports wrongly."""
    pools = {
        name: part
        for name, part in module.named_modules()
        if name and isinstance(part, nn.AvgPool2d)
    }
    wrong: dict[str, int] = {}  # with the number of channels

    def look(name: str, pool: nn.AvgPool2d, given: tuple[Tensor, ...]) -> None:
        if _is_exported_wrongly(pool, given[0]):
            wrong[name] = int(given[0].shape[-3])

    risky = {n: p for n, p in pools.items() if p.ceil_mode or p.divisor_override is not None}
    hooks = [
        pool.register_forward_pre_hook(lambda part, given, name=name: look(name, part, given))
        for name, pool in risky.items()
    ]
    try:
        if hooks:
            with torch.inference_mode():
                module(*example)
    finally:
        for hook in hooks:
            hook.remove()
    try:
        for name, channels in wrong.items():
            module.set_submodule(name, WrittenOutAveragePool(pools[name], channels))
        yield
    finally:
        for name in wrong:
            module.set_submodule(name, pools[name])
