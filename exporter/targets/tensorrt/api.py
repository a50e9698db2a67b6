"""TensorRT, or TensorRT-RTX under the same names: the one that this process serves.

Polygraphy serves one of them a process, by POLYGRAPHY_USE_TENSORRT_RTX; this follows its choice.
A type checker reads the types of TensorRT, where its stubs are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polygraphy import config

if TYPE_CHECKING:
    import tensorrt as trt
elif config.USE_TENSORRT_RTX:
    import tensorrt_rtx as trt
else:
    import tensorrt as trt

__all__ = ["trt"]
