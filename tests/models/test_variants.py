"""Every variant of the table through the main job (`make test-variants`; minutes, not seconds)."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.artifact import Precision
from exporter.builds.request import ExportRequest
from exporter.models.variants import VARIANTS
from exporter.pipeline import export_model
from exporter.progress import Silent

FLOAT = (Precision.FP32, Precision.FP16)

# torchvision's counts; CIFAR: 6n + 1 convolutions and two projections (option B), 3n blocks
CONVOLUTIONS_AND_BLOCKS = {
    "resnet18": (20, 8), "resnet34": (36, 16), "resnet50": (53, 16), "resnet101": (104, 33),
    "resnet152": (155, 50), "resnext50_32x4d": (53, 16), "resnext101_32x8d": (104, 33),
    "resnext101_64x4d": (104, 33), "wide_resnet50_2": (53, 16), "wide_resnet101_2": (104, 33),
    "plain18": (17, 0), "plain34": (33, 0), "plain20": (19, 0), "plain56": (55, 0),
    "resnet20": (21, 9), "resnet32": (33, 15), "resnet44": (45, 21), "resnet56": (57, 27),
    "resnet110": (111, 54), "resnet20-digits": (21, 9), "resnet20-fashion": (21, 9),
}  # fmt: skip


@pytest.mark.variants
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("precisions", [FLOAT, (Precision.INT8,)], ids=["float", "int8"])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_passes_parity_and_has_a_complete_receipt(
    name: str, precisions: tuple[Precision, ...], tmp_path: Path
) -> None:
    weights = "auto" if VARIANTS[name].embedded else "random"
    request = ExportRequest(
        source=name,
        weights=weights,
        targets=("ort-cpu",),
        precisions=precisions,
        out=tmp_path / "out",
        samples=16,
        calibration_samples=16 if Precision.INT8 in precisions else 128,
        measure=False,
    )
    outcome = export_model(request, Silent())
    assert outcome.manifest.failures == ()
    convolutions, blocks = CONVOLUTIONS_AND_BLOCKS[name]
    assert len(outcome.manifest.engines) == len(precisions)
    for engine in outcome.manifest.engines:
        receipt = engine.receipt
        assert engine.passed
        assert receipt.convs == receipt.batchnorms_folded == convolutions
        assert receipt.residual_adds == len(receipt.blocks) == blocks
        assert receipt.residual_adds_fused == blocks
        assert receipt.float_ops == 0
        if engine.precision == "fp16":
            assert receipt.verdict == "partial"
        else:
            assert receipt.verdict == "fused"
        quantized = engine.precision == "int8"
        assert receipt.convs_quantized == (convolutions if quantized else 0)
        assert receipt.residual_adds_quantized == (blocks if quantized else 0)
