"""What `exporter export` may be asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from exporter.artifact import Precision

DEFAULT_MODEL: Final = "resnet20-digits"


@dataclass(frozen=True)
class ExportRequest:
    """What `exporter export` may be asked for; the defaults are those of the command line."""

    source: str = DEFAULT_MODEL
    weights: str = "auto"
    targets: tuple[str, ...] = ()
    precisions: tuple[Precision, ...] = ()
    data: Path | None = None
    out: Path | None = None
    seed: int = 0
    num_classes: int | None = None
    image_size: int | None = None
    samples: int | None = None
    """Evaluation inputs; None: 64, or a labelled set whole, up to 2000."""
    calibration_samples: int = 128
    batches: tuple[int, ...] = (1,)
    threads: int | None = None
    rounds: int = 30
    keep: tuple[str, ...] = ()
    calibration_method: str = "mse"
    correction: str = "all"
    reduce_range: bool = False
    """Weights of INT8 in 7 bits."""
    between: Precision = Precision.FP32
    """The type of what INT8 leaves unquantized, in the dialects that leave something."""
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Target (without its variant) -> that target's own settings."""
    profile: str | None = None
    """MIN:OPT:MAX batch sizes, for every target that has optimization profiles."""
    allow_partial: bool = False
    allow_fallback: bool = False
    bake_preprocess: bool = False
    """Engines take uint8 images, (N, H, W, 3), and normalise them."""
    measure: bool = True
