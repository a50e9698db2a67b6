"""Every network of the zoo with what is to become of it, where that is not six right engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import onnx
import torch
from onnx import TensorProto
from torch import nn

from tests.foreign import resnet
from tests.zoo import files as f
from tests.zoo import modules as m
from tests.zoo.onnx_file import CLASSES


@dataclass(frozen=True)
class Case:
    make: Callable[[], nn.Module | onnx.ModelProto | str]
    refused: str = ""
    """What the one line says with which nothing is built."""
    failing: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """What the line says of each engine that is not right, by a part of its id: `int8`."""
    shape: tuple[int, int, int] = (3, 24, 24)
    """(C, H, W) of a module's images."""
    inputs: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """Of a module of several, each one's shape."""


def _dynamic_quantized() -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(m.of_blocks(), {nn.Linear}, torch.qint8)  # type: ignore[no-any-return]


MODULES: Mapping[str, Case] = {
    "plain": Case(m.of_blocks),
    "squeeze and excitation": Case(lambda: m.of_blocks(gate=m.SqueezeExcite)),
    "efficient attention": Case(lambda: m.of_blocks(gate=m.EfficientAttention)),
    "cbam": Case(lambda: m.of_blocks(gate=m.Cbam)),
    "resnet-d": Case(lambda: m.of_blocks(pool=lambda _planes: nn.AvgPool2d(3, 2, 1))),
    "resnest": Case(lambda: m.network(m.SplitAttention(8, 8), m.SplitAttention(8, 16))),
    "blur pool": Case(lambda: m.of_blocks(pool=m.BlurPool)),
    "pre-activation": Case(
        lambda: m.network(
            m.PreActivation(8), m.PreActivation(8), nn.BatchNorm2d(8), nn.ReLU(), planes=8
        )
    ),
    "weight standardization": Case(lambda: m.of_blocks(conv=m.StandardizedConv)),
    "dilated": Case(lambda: m.of_blocks(dilation=2)),
    "grouped": Case(lambda: m.of_blocks(groups=4)),
    "group norm": Case(lambda: m.of_blocks(norm=lambda planes: nn.GroupNorm(4, planes))),
    "frozen norm": Case(lambda: m.of_blocks(norm=m.FrozenNorm)),
    "silu": Case(lambda: m.of_blocks(activation=nn.SiLU)),
    "prelu": Case(lambda: m.of_blocks(activation=nn.PReLU)),
    "gelu": Case(lambda: m.of_blocks(activation=nn.GELU)),
    "depthwise, relu6": Case(lambda: m.network(m.Inverted(8, nn.ReLU6), planes=8)),
    "depthwise, hard-swish": Case(lambda: m.network(m.Inverted(8, nn.Hardswish), planes=8)),
    "channel shuffle": Case(lambda: m.network(m.Block(8, 16, 2), m.Shuffle(), m.Block(16, 16))),
    "a layer called twice": Case(lambda: m.network(m.Twice(8), planes=8)),
    "pyramid": Case(lambda: m.network(m.Pyramid(8), planes=8)),
    "infinite mask": Case(
        lambda: m.network(m.Block(8, 16, 2), m.Masked(144)),
        failing={"openvino.fp32": "receipt: partial", "openvino.int8": "sqnr_db"},
    ),
    "infinite bound": Case(lambda: m.network(m.Clamped(), m.Block(8, 16, 2))),
    "infinite padding": Case(
        lambda: m.network(
            nn.ConstantPad2d((0, 1, 0, 1), float("-inf")), nn.MaxPool2d(3, 2), planes=8
        )
    ),
    "both pools": Case(
        lambda: m.settled(
            nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), m.BothPools(), nn.Linear(16, 7))
        ),
        failing={"int8": "sqnr_db"},
    ),
    "changes its input": Case(lambda: m.Normalising(m.of_blocks())),
    "half": Case(lambda: m.of_blocks().half()),
    "double": Case(lambda: m.of_blocks().double()),
    "channels last": Case(lambda: m.channels_last(m.of_blocks())),
    "wrapped": Case(lambda: nn.DataParallel(m.of_blocks())),
    "weight norm": Case(
        lambda: m.network(nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 16, 3)))
    ),
    "quantizable": Case(lambda: m.network(m.QuantizableSum(8), planes=8)),
    "grey, not square": Case(lambda: m.network(m.Block(8, 16, 2), channels=1), shape=(1, 20, 32)),
    "twelve channels": Case(lambda: m.network(m.Block(8, 16, 2), channels=12), shape=(12, 24, 24)),
    "a pair": Case(
        lambda: m.Pair(m.of_blocks()), inputs={"left": (3, 24, 24), "right": (3, 24, 24)}
    ),
    "a picture and its depth": Case(
        lambda: m.WithDepth(m.of_blocks()),
        inputs={"rgb": (3, 24, 24), "depth": (1, 24, 24), "about": (4,)},
    ),
    "quantized": Case(_dynamic_quantized, refused="is quantized: 5 .Linear.; give the float32"),
    "autocast": Case(lambda: m.Autocast(m.of_blocks()), refused="autocast"),
    "branching": Case(lambda: m.Branching(m.of_blocks()), refused="branches on the values"),
    "active dropout": Case(
        lambda: m.network(m.Dropping(), planes=8), refused="differently each time, first in 1 "
    ),
    "no statistics": Case(
        lambda: m.network(nn.BatchNorm2d(8, track_running_stats=False), planes=8),
        refused="other images of its batch, first in 1 ",
    ),
}

FILES: Mapping[str, Case] = {
    **{f"opset {n}": Case(lambda n=n: f.of_opset(n)) for n in range(9, 27)},  # type: ignore[misc]
    "tensorflow's": Case(resnet, failing={"openvino.int8": "convolutions compute in fp32"}),
    "channels last": Case(f.channels_last),
    "fixed batch 3": Case(lambda: f.with_batch(3)),
    "batch -1": Case(lambda: f.with_batch(-1)),
    "batch without a name": Case(lambda: f.with_batch("")),
    "8-bit images": Case(lambda: f.pixels(last=False)),
    "8-bit images, channels last": Case(lambda: f.pixels(last=True)),
    "biases as sums": Case(f.bias_added),
    "MatMul and Add": Case(lambda: f.dense_of((CLASSES,))),
    "MatMul and a row": Case(lambda: f.dense_of((1, CLASSES))),
    "MatMul and one number": Case(lambda: f.dense_of(())),
    "Gemm with alpha and beta": Case(lambda: f.dense_of((CLASSES,), matmul=False)),
    "Gemm with one number": Case(lambda: f.dense_of((1,), matmul=False)),
    "MatMul from the left and a column": Case(f.column),
    "infinite padding": Case(f.infinite_padding),
    "PRelu": Case(f.activation("PRelu")),
    "SiLU": Case(f.activation("SiLU")),
    "hard-swish in four": Case(f.activation("hard-swish")),
    "HardSwish": Case(f.activation("HardSwish")),
    "mish": Case(f.activation("mish")),
    "gelu in five": Case(f.activation("gelu")),
    "LeakyRelu": Case(f.activation("LeakyRelu")),
    "depthwise": Case(lambda: f.grouped(8)),
    "grouped, dilated": Case(lambda: f.grouped(2)),
    "double": Case(lambda: f.of_type(TensorProto.DOUBLE), refused="DOUBLE"),
    "half": Case(lambda: f.of_type(TensorProto.FLOAT16), refused="FLOAT16"),
    "double inside": Case(
        lambda: f.inside_of_type(TensorProto.DOUBLE), refused="computes in DOUBLE"
    ),
    "half inside": Case(
        lambda: f.inside_of_type(TensorProto.FLOAT16), refused="computes in FLOAT16"
    ),
    "frozen": Case(f.frozen),
    "shared weights": Case(f.shared),
    "names of ours": Case(lambda: f.named("data.fp16", "data.quantize", "{index}.x")),
    "names all alike": Case(lambda: f.named("layer"), refused="two nodes with same node name"),
    "names with marks": Case(lambda: f.named("a b/1:0", "größe.1", "[red]x", "[/x] {index}")),
    "weights that are inputs": Case(f.listed_weights),
    "weights in nodes": Case(f.constant_nodes),
    "what nobody reads": Case(f.unread),
    "Sum": Case(f.summed, failing={"openvino.fp32": "adds are not fused"}),
    "GroupNormalization-21": Case(f.group_norm),
    "channel shuffle": Case(f.channel_shuffle),
    "noise times zero": Case(f.silent_noise, failing={"openvino": "RandomUniform"}),
    "nothing to quantize": Case(f.nothing_to_quantize, failing={"int8": "nothing to quantize"}),
    "a function": Case(f.with_function, refused="inline"),
    "If": Case(lambda: f.control_flow("If"), refused=r"\(If\) has a subgraph"),
    "Loop": Case(lambda: f.control_flow("Loop"), refused=r"\(Loop\) has a subgraph"),
    "ArgMax": Case(lambda: f.ending("ArgMax", axis=1), refused="int64, expected float32 scores"),
    "a double result": Case(
        lambda: f.ending("Cast", to=TensorProto.DOUBLE), refused="float64, expected float32"
    ),
    "noise": Case(f.noisy, refused="differently each time, first in .*RandomNormalLike"),
    "BatchNormalization in training": Case(f.training, refused="training mode"),
    "NaN in a weight": Case(f.not_finite, failing={"": "NaN or infinity"}),
    "quantized": Case(f.quantized, refused="QuantizeLinear: give the float32 model"),
    "another's operator": Case(f.others_operator, refused="com.microsoft.QuickGelu"),
}

TIMM: Mapping[str, Case] = {
    f"timm:{name}": Case(
        lambda name=name: f"timm:{name}",  # type: ignore[misc]
        shape=(3, 64, 64),
        # Of random weights its attention's softmax makes answers that 8 bits do not hold.
        failing={"int8": "sqnr_db"} if name == "gcresnet33ts" else {},
    )
    for name in (
        "resnet10t", "resnet26t", "resnet50d", "resnext50_32x4d", "seresnet50", "ecaresnet26t",
        "resnetv2_50", "resnetv2_50d_gn", "resnetblur18", "resnetrs50", "resnest14d", "skresnet18",
        "regnetx_002", "regnety_002", "gcresnet33ts", "wide_resnet50_2",
    )
}  # fmt: skip
"""By structure: random weights, small images."""
