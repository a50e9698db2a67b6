"""What a module may answer, how its outputs are named, and which of them is scores."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from exporter.artifact import Model, TensorSpec
from exporter.errors import InputError
from exporter.models.inputs import only
from exporter.models.live_module import LiveModule, from_module
from exporter.models.outputs import outputs_of, read_outputs, scores_of
from tests.networks import CLASSES, SIZE, Auxiliary, Embedder, Pyramid, Trunk, seasoned

A, B = torch.zeros(1, 2), torch.zeros(1, 3)
Pair = namedtuple("Pair", ["left", "right"])


@dataclass
class Result:
    logits: torch.Tensor
    aux: torch.Tensor | None
    features: torch.Tensor


@pytest.mark.parametrize(
    ("answer", "names"),
    [
        (A, ["logits"]),
        ((A,), ["output_0"]),
        ((A, B), ["output_0", "output_1"]),
        ([A, None, B], ["output_0", "output_2"]),
        (Pair(A, B), ["left", "right"]),
        ({"out": A, "aux": B}, ["out", "aux"]),
        (OrderedDict([("0", A), ("pool", B)]), ["0", "pool"]),
        ({0: A, 1: B}, ["0", "1"]),
        (Result(A, None, B), ["logits", "features"]),
        ({"a b/c": A, "é": B}, ["a_b_c", "_"]),
        ({"input": A, "x y": B, "x/y": torch.zeros(1, 4)}, ["input_1", "x_y", "x_y_1"]),
    ],
)
def test_outputs_are_named_by_what_holds_them(answer: Any, names: list[str]) -> None:
    found = outputs_of(answer)
    assert list(found) == names
    assert found[names[0]] is A


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"out": A, "levels": [A, B]}, "'levels' as a list; expected a tensor, or a tuple"),
        ((A, {"x": B}), "'output_1' as a dict"),
        ({"out": A, "count": 3}, "'count' as a int"),
        ("text", "answers with a str"),
        ({}, "answers with no tensor"),
        ({"a": A, "b": B, "c": A}, "one tensor twice, as 'a' and 'c'; return it once"),
    ],
)
def test_what_is_nested_or_no_tensor_is_named(answer: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        outputs_of(answer, "net")


def rows(name: str, *sizes: int) -> TensorSpec:
    return TensorSpec(name, "float32", ("batch", *sizes))


@pytest.mark.parametrize(
    ("outputs", "read", "scores"),
    [
        ([rows("logits", 10)], [], 0),
        ([rows("anything", 1)], [], 0),
        ([rows("logits", 10, 1, 1)], [], 0),
        ([rows("logits", 8, 7, 7)], [], None),
        ([rows("p2", 8, 7, 7), rows("p3", 8, 3, 3)], [], None),
        ([rows("features", 8, 7, 7), rows("out", 10)], [], 1),
        ([rows("output_0", 512), rows("output_1", 10)], ["output_0"], 1),
        ([rows("output_0", 10), rows("output_1", 512)], [], 0),
        ([rows("embedding", 512), rows("class_scores", 10)], [], 1),
        ([rows("logits", 10), rows("probabilities", 10)], ["logits"], 0),
        ([rows("aux_logits", 10), rows("logits", 10)], [], 1),
        ([rows("embedding", 512), rows("pooled", 64)], [], None),
        ([rows("output_0", 1), rows("output_1", 8, 7, 7)], [], None),
    ],
)
def test_scores_are_rows_whose_name_tells_it_or_that_nobody_reads(
    outputs: list[TensorSpec], read: list[str], scores: int | None
) -> None:
    assert scores_of(outputs, read) == scores


def test_an_embedding_is_what_the_classifier_reads() -> None:
    module = seasoned(Embedder())
    assert read_outputs(module, [torch.zeros(1, 3, SIZE, SIZE)]) == {"embedding"}


def defined(module: nn.Module) -> Model:
    return from_module(LiveModule(module, only((3, SIZE, SIZE))), "auto", 0)


@pytest.mark.parametrize(
    ("module", "outputs", "scores"),
    [
        (Trunk(), [("output_0", 16, 8, 8), ("output_1", 32, 4, 4)], None),
        (Pyramid(), [("p2", 8, 8, 8), ("p3", 8, 4, 4)], None),
        (Embedder(), [("embedding", 32), ("logits", CLASSES)], 1),
        (Auxiliary(), [("output_0", CLASSES), ("output_1", CLASSES)], 0),
    ],
)
def test_a_model_lists_its_outputs(
    module: nn.Module, outputs: list[tuple[Any, ...]], scores: int | None
) -> None:
    spec = defined(seasoned(module)).spec
    assert [(one.name, *one.shape) for one in spec.outputs] == [
        (name, "batch", *sizes) for name, *sizes in outputs
    ]
    assert {one.dtype for one in spec.outputs} == {"float32"}
    assert spec.scores == scores


class With(nn.Module):
    """A trunk, and one more output that `extra` makes of the coarse features."""

    def __init__(self, extra: Any) -> None:
        super().__init__()
        self.trunk = Trunk()
        self.extra = extra

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        coarse = self.trunk(x)[-1]
        return {"coarse": coarse, "extra": self.extra(coarse)}


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (lambda x: x.argmax(1), "the output 'extra' of With is int64"),
        (lambda x: x.mean((2, 3))[:, 99:], r"the output 'extra' of With has no values, its shape"),
        (lambda x: x.mean((0, 2, 3)), r"the output 'extra' of With for one image has the shape"),
        (lambda x: x - x.mean(0, keepdim=True), "depends on the other images of its batch"),
        (lambda x: x + torch.rand_like(x), "differently each time"),
    ],
)
def test_every_output_must_fit(extra: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        defined(With(extra))
