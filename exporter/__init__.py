"""An ONNX/TensorRT deployment compiler for ResNets.

The public names are imported on first use, so that `exporter.runtime` installs and imports
without PyTorch or ONNX.
"""

from __future__ import annotations

import exporter.runtime  # noqa: F401 - first: it switches the libraries' telemetry off

__version__ = "0.1.0"
