"""What a random graph is made of: each function adds one operator, spelt as the opset wants it.

A function takes a float tensor and gives what became of it; None: there is no such operator, or it
does not suit the tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from onnx import TensorProto

from tests.fuzz.writer import Tensor, Writer

Operator = Callable[[Writer, Tensor], Tensor | None]


def conv(w: Writer, x: Tensor) -> Tensor | None:
    channels = x.shape[1]
    groups = channels if w.once_in(4) else w.pick([n for n in (1, 1, 1, 2, 3) if channels % n == 0])
    made = groups * w.between(1, 3) if groups > 1 else w.pick([channels, channels, 4, 8])
    kernel = [w.pick([1, 2, 3, 3]), w.pick([1, 3, 3])]
    fan_in = channels // groups * kernel[0] * kernel[1]
    inputs: list[str | Tensor] = [
        x,
        w.normal(made, channels // groups, *kernel, scale=(2 / fan_in) ** 0.5),
    ]
    if not w.once_in(3):
        inputs.append(w.normal(made, scale=0.1))
    return w.op("Conv", inputs, group=groups, dilations=_dilations(w), **_window(w, kernel))


def transposed_conv(w: Writer, x: Tensor) -> Tensor | None:
    weight = w.normal(x.shape[1], 4, 2, 2, scale=0.3)
    return w.op("ConvTranspose", [x, weight, w.normal(4, scale=0.1)], strides=[2, 2])


def _dilations(w: Writer) -> list[int]:
    return [2, w.pick([1, 2])] if w.once_in(8) else [1, 1]


def _window(w: Writer, kernel: list[int]) -> dict[str, Any]:
    """Kernel, strides and padding in one of the ways that there are."""
    strides = [w.pick([1, 1, 2, 3]), w.pick([1, 1, 2])]
    found: dict[str, Any] = {"kernel_shape": kernel, "strides": strides}
    match w.between(0, 5):
        case 0:
            found["auto_pad"] = w.pick(["SAME_UPPER", "SAME_LOWER", "VALID"])
        case 1:
            found["pads"] = [w.between(0, size - 1) for size in (*kernel, *kernel)]
        case 2 | 3 | 4:
            found["pads"] = [size // 2 for size in (*kernel, *kernel)]
    return found


def max_pool(w: Writer, x: Tensor) -> Tensor | None:
    return w.op("MaxPool", [x], outputs=1 + w.once_in(6), **_pooling(w))


def average_pool(w: Writer, x: Tensor) -> Tensor | None:
    return w.op("AveragePool", [x], count_include_pad=int(w.once_in(3)), **_pooling(w))


def _pooling(w: Writer) -> dict[str, Any]:
    options = _window(w, [w.between(2, 3), w.between(1, 3)])
    if w.opset >= 10 and "auto_pad" not in options and w.once_in(3):
        options["ceil_mode"] = 1
    return options


def global_pool(w: Writer, x: Tensor) -> Tensor | None:
    return w.op(w.pick(["GlobalAveragePool", "GlobalAveragePool", "GlobalMaxPool"]), [x])


def batchnorm(w: Writer, x: Tensor) -> Tensor | None:
    c = x.shape[1]
    mean, shift = w.normal(c, scale=0.2), w.normal(c, scale=0.2)
    return w.op("BatchNormalization", [x, w.positive(c), shift, mean, w.positive(c)], epsilon=1e-3)


def instance_norm(w: Writer, x: Tensor) -> Tensor | None:
    if x.shape[2] * x.shape[3] < 4:
        return None
    c = x.shape[1]
    return w.op("InstanceNormalization", [x, w.positive(c), w.normal(c, scale=0.2)])


def group_norm(w: Writer, x: Tensor) -> Tensor | None:
    c = x.shape[1]
    if c % 2 or x.shape[2] * x.shape[3] < 4:
        return None
    size = c if w.opset >= 21 else 2
    inputs: list[str | Tensor] = [x, w.positive(size), w.normal(size, scale=0.2)]
    return w.op("GroupNormalization", inputs, num_groups=2)


def activation(w: Writer, x: Tensor) -> Tensor | None:
    plain = [
        "Sigmoid", "Tanh", "LeakyRelu", "Elu", "Selu", "HardSigmoid", "Softplus", "HardSwish",
        "Mish", "Celu", "Gelu", "Swish", "Abs", "Identity", "Erf", "Neg",
    ]  # fmt: skip
    return w.op(w.pick(plain), [x])


def relu(w: Writer, x: Tensor) -> Tensor | None:
    return w.op("Relu", [x])


def prelu(w: Writer, x: Tensor) -> Tensor | None:
    return w.op("PRelu", [x, w.normal(*w.pick([(x.shape[1], 1, 1), (1,)]), scale=0.3)])


def clip(w: Writer, x: Tensor) -> Tensor | None:
    low, high = w.pick([(0.0, 6.0), (-1.0, 1.0), (None, 2.0), (0.0, None), (None, None)])
    if w.opset < 11:
        bounds: dict[str, Any] = {"min": low, "max": high}
        return w.op("Clip", [x], **{name: b for name, b in bounds.items() if b is not None})
    return w.op("Clip", [x, *("" if b is None else w.constant(b, np.float32) for b in (low, high))])


def silu(w: Writer, x: Tensor) -> Tensor | None:
    gate = w.op(w.pick(["Sigmoid", "HardSigmoid"]), [x])
    return gate and w.op("Mul", [x, gate])


def squeeze_and_excite(w: Writer, x: Tensor) -> Tensor | None:
    c = x.shape[1]
    pooled = w.op("GlobalAveragePool", [x])
    hidden = pooled and w.op("Conv", [pooled, w.normal(2, c, 1, 1, scale=0.5), w.normal(2)])
    wide = hidden and w.op("Conv", [hidden, w.normal(c, 2, 1, 1, scale=0.7)])
    gate = wide and w.op("Sigmoid", [wide])
    return gate and w.op("Mul", w.pick([[x, gate], [gate, x]]))


def residual(w: Writer, x: Tensor) -> Tensor | None:
    """A block of one or two convolutions, its sum spelt in one of several ways."""
    c = x.shape[1]
    y: Tensor | None = x
    for _ in range(w.between(1, 2)):
        weight = w.normal(c, c, 3, 3, scale=(2 / (9 * c)) ** 0.5)
        y = y and w.op("Conv", [y, weight], pads=[1, 1, 1, 1])
        y = y and w.pick([relu, batchnorm, relu, clip])(w, y)
    total = y and w.op(w.pick(["Add", "Add", "Add", "Sum"]), w.pick([[x, y], [y, x]]))
    return total and w.op("Relu", [total])


def with_another(w: Writer, x: Tensor) -> Tensor | None:
    """A sum, a product or the like with an earlier tensor that fits, or with itself."""
    suits = [t for t in w.tensors if t.shape == x.shape and t.kind == x.kind] or [x]
    kind = w.pick(["Add", "Add", "Add", "Mul", "Sub", "Max", "Min", "Sum", "Mean"])
    return w.op(kind, [x, w.pick(suits)])


def with_a_constant(w: Writer, x: Tensor) -> Tensor | None:
    shapes = [(), (1,), (x.shape[1], *(1,) * (len(x.shape) - 2)), (1, *x.shape[1:])]
    kind = w.pick(["Add", "Mul", "Sub", "Div"])
    number = (w.positive if kind == "Div" else w.normal)(*w.pick(shapes))
    return w.op(kind, [x, number] if kind == "Div" else w.pick([[x, number], [number, x]]))


def concat(w: Writer, x: Tensor) -> Tensor | None:
    suits = [
        t for t in w.tensors
        if len(t.shape) == 4 and t.kind == x.kind and t.shape[2:] == x.shape[2:]
    ]  # fmt: skip
    return w.op("Concat", [x, w.pick(suits)], axis=w.pick([1, -3]))


def pad(w: Writer, x: Tensor) -> Tensor | None:
    mode = w.pick(["constant", "constant", "reflect", "edge"])
    pads = [0, 0, *(w.between(0, 1) for _ in range(2)), 0, 0, *(w.between(0, 2) for _ in range(2))]
    value = w.pick([0.0, 0.0, -1.0, float("-inf")]) if mode == "constant" else 0.0
    if w.opset < 11:
        padded = w.op("Pad", [x], mode=mode, pads=pads, value=value)
    else:
        fill = [w.constant(value, np.float32)] if mode == "constant" else []
        padded = w.op("Pad", [x, w.constant(pads), *fill], mode=mode)
    if padded is None or value != float("-inf"):
        return padded
    return w.op("MaxPool", [padded], kernel_shape=[3, 3])


def crop(w: Writer, x: Tensor) -> Tensor | None:
    if min(x.shape[2:]) < 4:
        return None
    if w.opset < 10:
        return w.op("Slice", [x], axes=[2, 3], starts=[1, 0], ends=[100, -1])
    return w.op("Slice", [x, *map(w.constant, ([1, 0], [100, -1], [2, 3]))])


def split(w: Writer, x: Tensor) -> Tensor | None:
    if x.shape[1] < 2:
        return None
    sizes = [1, x.shape[1] - 1]
    if w.opset < 13:
        return w.op("Split", [x], outputs=2, axis=1, split=sizes)
    return w.op("Split", [x, w.constant(sizes)], outputs=2, axis=1)


def shuffle(w: Writer, x: Tensor) -> Tensor | None:
    """ShuffleNet's: channels in another order by two Reshapes and a Transpose."""
    _, c, height, width = x.shape
    if c % 2:
        return None
    y = w.op("Reshape", [x, w.constant([-1, 2, c // 2, height, width])])
    y = y and w.op("Transpose", [y], perm=[0, 2, 1, 3, 4])
    return y and w.op("Reshape", [y, w.constant([-1, c, height, width])])


def there_and_back(w: Writer, x: Tensor) -> Tensor | None:
    """Something done with the channels last."""
    y = w.op("Transpose", [x], perm=[0, 2, 3, 1])
    y = y and w.pick([relu, with_a_constant, soft_max])(w, y)
    return y and w.op("Transpose", [y], perm=[0, 3, 1, 2])


def soft_max(w: Writer, x: Tensor) -> Tensor | None:
    return w.op(w.pick(["Softmax", "Softmax", "LogSoftmax"]), [x], axis=w.pick([1, -1]))


def cast(w: Writer, x: Tensor) -> Tensor | None:
    kind = w.pick([TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.FLOAT])
    y = w.op("Cast", [x], to=kind)
    if y and kind == TensorProto.DOUBLE and w.once_in(2):
        y = w.op("Mul", [y, w.constant(0.5, np.float64)])
    return y and w.op("Cast", [y], to=TensorProto.FLOAT)


def dropout(w: Writer, x: Tensor) -> Tensor | None:
    return w.op("Dropout", [x], outputs=1 + w.once_in(2))


def resize(w: Writer, x: Tensor) -> Tensor | None:
    scales = w.constant([1.0, 1.0, 2.0, w.pick([1.0, 2.0])], np.float32)
    if w.opset < 11:  # of 10, ONNX's reference evaluator knows none
        return w.op("Upsample", [x, scales], mode="nearest")
    mode = w.pick(["nearest", "linear"])
    return w.op("Resize", [x, w.constant([], np.float32), scales], mode=mode)


def mean_over(w: Writer, x: Tensor) -> Tensor | None:
    axes = w.pick([[2], [3], [2, 3], [-1, -2], [1]])
    return over_axes(w, w.pick(["ReduceMean", "ReduceMean", "ReduceMax", "ReduceSum"]), x, axes)


def over_axes(w: Writer, kind: str, x: Tensor, axes: Sequence[int], keep: int = 1) -> Tensor | None:
    since = 13 if kind == "ReduceSum" else 18
    if w.opset < since:
        return w.op(kind, [x], axes=list(axes), keepdims=keep)
    return w.op(kind, [x, w.constant(list(axes))], keepdims=keep)


def squeezed(w: Writer, x: Tensor, axes: list[int]) -> Tensor | None:
    if w.opset < 13:
        return w.op("Squeeze", [x], axes=axes)
    return w.op("Squeeze", [x, w.constant(axes)])


def depth_to_space(w: Writer, x: Tensor) -> Tensor | None:
    if x.shape[1] % 4:
        return None
    return w.op("DepthToSpace", [x], blocksize=2)


ON_IMAGES: Final[Mapping[Operator, int]] = {
    conv: 12, residual: 8, batchnorm: 5, relu: 5, activation: 5, with_another: 6,
    with_a_constant: 4, max_pool: 3, average_pool: 3, squeeze_and_excite: 2, clip: 3, prelu: 1,
    silu: 2, concat: 3, pad: 3, crop: 1, split: 1, shuffle: 1, there_and_back: 1, soft_max: 1,
    cast: 1, dropout: 1, resize: 1, mean_over: 1, instance_norm: 1, group_norm: 1,
    depth_to_space: 1, transposed_conv: 1, global_pool: 1,
}  # fmt: skip
"""Operators on (N, C, H, W), with how often each is taken."""


def dense(w: Writer, x: Tensor) -> Tensor | None:
    """A Gemm in one of its spellings, or a MatMul with its bias as an Add, if it has one."""
    inputs, outputs = x.shape[1], w.between(2, 7)
    match w.between(0, 4):
        case 0:
            bias = w.normal(*w.pick([(outputs,), (1, outputs), (1,), ()]), scale=0.1)
            weight = w.normal(inputs, outputs, scale=inputs**-0.5)
            return w.op(
                "Gemm", [x, weight, bias], alpha=w.pick([1.0, 0.5]), beta=w.pick([1.0, 2.0])
            )
        case 1 | 2:
            weight = w.normal(outputs, inputs, scale=inputs**-0.5)
            return w.op("Gemm", [x, weight, w.normal(outputs, scale=0.1)], transB=1)
        case 3:
            y = w.op("MatMul", [x, w.normal(inputs, outputs, scale=inputs**-0.5)])
            bias = w.normal(*w.pick([(outputs,), (1, outputs), (1,)]), scale=0.1)
            return y and w.op("Add", w.pick([[y, bias], [bias, y]]))
    return w.op("MatMul", [x, w.normal(inputs, outputs, scale=inputs**-0.5)])


ON_ROWS: Final[Mapping[Operator, int]] = {
    dense: 4, relu: 2, activation: 2, with_another: 1, with_a_constant: 1, soft_max: 1, dropout: 1,
}  # fmt: skip
"""Operators on (N, C)."""


def rows(w: Writer, x: Tensor) -> Tensor | None:
    """(N, C, H, W) -> (N, K)."""
    flat = x.shape[1] * x.shape[2] * x.shape[3]
    match w.between(0, 6):
        case 0:
            return over_axes(w, "ReduceMean", x, w.pick([[2, 3], [-2, -1]]), keep=0)
        case 1:
            y = w.op("GlobalAveragePool", [x])
            return y and squeezed(w, y, [2, 3])
        case 2:
            return w.op("Flatten", [x], axis=1)
        case 3:
            return w.op("Reshape", [x, w.constant(w.pick([[-1, flat], [0, -1]]))])
        case 4:
            y = w.op("AveragePool", [x], kernel_shape=list(x.shape[2:]))
            return y and w.op("Flatten", [y])
    y = w.op("GlobalAveragePool", [x])
    return y and w.op("Flatten", [y])
