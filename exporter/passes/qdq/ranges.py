"""The range of every tensor that 8 bits may have to hold: what calibration yields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from exporter.artifact import CalibrationMethod
from exporter.errors import BuildError


@dataclass(frozen=True)
class Ranges:
    """What `calibrate` yields. Every range holds zero, so that zero is exact in 8 bits."""

    method: CalibrationMethod
    samples: int
    data_sha256: str
    tensors: Mapping[str, tuple[float, float]]
    """Tensor name -> (minimum, maximum) for 256 asymmetric levels, minimum <= 0 <= maximum."""
    symmetric: Mapping[str, float] = field(default_factory=dict)
    """Tensor name -> the bound of a symmetric range, where it is not the larger of the two."""
    not_finite: Mapping[str, int] = field(default_factory=dict)
    """Tensor name -> the first image that gave it NaN or infinity: it has no range."""

    def of(self, tensor: str) -> tuple[float, float]:
        """The range of one tensor.

        Raises:
            BuildError: it is not finite, or was not measured: the ranges are of another graph.
        """
        if tensor in self.not_finite:
            raise BuildError(
                f"tensor {tensor} is not finite on calibration image {self.not_finite[tensor]}: "
                "the weights overflow float32 there, or the data is not as the model expects"
            )
        if tensor not in self.tensors:
            raise BuildError(
                f"calibration measured no tensor {tensor!r}; calibrate on the graph that is lowered"
            )
        return self.tensors[tensor]

    def largest(self, tensor: str) -> float:
        """The bound of one tensor's symmetric range; raises as `of` does."""
        minimum, maximum = self.of(tensor)
        return self.symmetric.get(tensor, max(-minimum, maximum))
