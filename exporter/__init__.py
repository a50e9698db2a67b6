"""An ONNX/TensorRT deployment compiler for ResNets.

The public names are imported on first use, so that `exporter.runtime` installs and imports
without PyTorch, ONNX or matplotlib.
"""

from __future__ import annotations

__version__ = "0.1.0"
