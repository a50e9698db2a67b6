"""What the ONNX files that this compiler reads and writes have in common."""

from __future__ import annotations

from typing import Final

OPSET: Final = 20
"""The version of the operators that every graph is written in."""
IR_VERSION: Final = 10
"""The version of the file format: older runtimes load it, and opset 20 needs no newer one."""
LARGEST_BYTES: Final = 2**31 - 1
"""protobuf's limit for one message, and so for a file with its weights inside."""
