"""Where TensorRT's versions differ, and which of them this was checked against.

Everything else that is asked of TensorRT is the same in 10 and 11: `make rehearse-gpu` compares
each name and argument with the bindings of the versions in CHECKED.

                            10                              11
    precision               graph or builder flags          graph alone
    trtexec                 transfers, no CUDA graph        from 11.1 on: a CUDA graph, no transfers
    inspector: tensors      "Bindings": ["in", "out"]       "I/O Tensors": [{"Name", "IOMode"}]
    inspector: types        "Format/Datatype"               "Format" and "Datatype"

So a strongly typed network is asked for everywhere, and takes its precision from the graph.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from exporter.artifact import ElementType, Precision
from exporter.targets.tensorrt.records import DTYPES

CHECKED: Final = ("10.9", "10.16", "11.0", "11.4")
"""The oldest and the newest of each major version."""
NO_OBJECT: Final = "factory function returned nullptr"
"""In pybind11's TypeError where TensorRT makes nothing: no usable GPU."""

_FORMAT: Final = re.compile(r"\b(FP32|FP16|BF16|FP8|INT8|INT32|INT64|UINT8|BOOL)\b", re.IGNORECASE)


def release(version: str) -> tuple[int, int]:
    """(major, minor) of "10.16.1.11"."""
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def unchecked(version: str) -> str | None:
    """What must be said of a version that this was not checked against; None for a known one."""
    known = [release(name) for name in CHECKED]
    found = release(version)
    spans = [
        (min(of_major), max(of_major))
        for major in {major for major, _ in known}
        for of_major in [[name for name in known if name[0] == major]]
    ]
    if any(low <= found <= high for low, high in spans):
        return None
    return (
        f"TensorRT {version} is not among the versions that this was checked against "
        f"({', '.join(CHECKED)}); compare its answers before you rely on it"
    )


def trtexec_switches(version: str) -> str:
    """What has trtexec time the GPU alone, as `measure/cuda_clock.py` does; 11.1 does so."""
    asked = " --useCudaGraph --useSpinWait --noDataTransfers"
    return "" if release(version) >= (11, 1) else asked


def precision_options(precision: Precision, version: str) -> dict[str, str]:
    """Options of ONNX Runtime's TensorRT provider that permit what the graph asks for.

    The provider reads "True" and "False", and refuses "1".
    """
    if release(version) >= (11, 0):
        return {}
    return {
        "trt_fp16_enable": str(precision is Precision.FP16),
        "trt_int8_enable": str(precision is Precision.INT8),
    }


def io_tensors(information: Mapping[str, Any]) -> frozenset[str]:
    """The engine's inputs and outputs in the inspector's JSON."""
    if "I/O Tensors" in information:
        return frozenset(str(tensor["Name"]) for tensor in information["I/O Tensors"])
    return frozenset(str(name) for name in information["Bindings"])


def tensor_type(described: Mapping[str, Any]) -> ElementType | None:
    """A tensor's type in the inspector's JSON; None: in words that are not known."""
    if "Datatype" in described:
        return DTYPES.get(described["Datatype"])
    both = described["Format/Datatype"]
    found = _FORMAT.search(both)
    return DTYPES.get(both) or (ElementType(found[1].lower()) if found else None)
