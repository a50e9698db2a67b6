"""Two precisions of a target beside each other, the block with the most to win first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.artifact import Precision
from exporter.causes.finding import Finding
from exporter.commands.explain_pairs import pairs
from exporter.measure.timing import Profile
from exporter.targets import Cause
from tests import manifests


def test_the_block_that_gains_least_comes_first() -> None:
    build = manifests.resnet50()
    engine = build.engine("ort-cpu.int8")
    assert engine is not None
    profile = engine.profile
    assert isinstance(profile, Profile)
    slow = profile.blocks[5]
    blocks = [
        replace(b, microseconds=b.microseconds * (30 if b is slow else 1)) for b in profile.blocks
    ]
    spoilt = replace(profile, blocks=tuple(blocks))
    build = manifests.with_engine(build, "ort-cpu.int8", profile=spoilt)
    kernel = engine.receipt.blocks[5].kernels[0].name
    finding = Finding(Cause.CAST, "", "", "", (kernel,), 1.0, None)
    found = pairs(build.engines, {"ort-cpu.int8": (finding,)})
    pair = next(p for p in found if (p.target, p.narrow) == ("ort-cpu", Precision.INT8))
    assert pair.wide is Precision.FP32
    first = pair.blocks[0]
    assert first.name == slow.name
    assert first.reasons == (Cause.CAST,)
    assert first.narrow.microseconds == pytest.approx(slow.microseconds * 30)
    to_win = [block.to_win_us or 0.0 for block in pair.blocks]
    assert to_win == sorted(to_win, reverse=True)
    assert all(block.reasons == () for block in pair.blocks[1:])


def test_a_target_with_one_precision_has_no_pair() -> None:
    build = manifests.resnet50()
    alone = [engine for engine in build.engines if engine.id == "ort-cpu.fp32"]
    assert pairs(alone, {}) == ()


def test_every_two_precisions_of_a_target_are_a_pair() -> None:
    build = manifests.resnet50()
    wide, narrow = (build.engine(f"ort-cpu.{name}") for name in ("fp32", "int8"))
    assert wide is not None
    assert narrow is not None
    between = replace(wide, id="ort-cpu.bf16", precision=Precision.BF16)
    found = pairs([narrow, between, wide], {})
    assert [(pair.wide, pair.narrow) for pair in found] == [
        (Precision.FP32, Precision.BF16),
        (Precision.FP32, Precision.INT8),
        (Precision.BF16, Precision.INT8),
    ]
