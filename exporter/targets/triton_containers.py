"""What NVIDIA's containers of Triton Inference Server hold: the one table, and where it is from.

TensorRT of XX.YY-py3: the table "NVIDIA Triton Inference Server Container Versions" of NVIDIA's
release notes (https://docs.nvidia.com/deeplearning/triton-inference-server/release-notes/), as of
26.05, in the copy that https://github.com/X-Square-Robot/Qwen3TTS-Streaming keeps of it
(scripts/bash/ngc_matrix.conf, 2026-07-08). 26.07: what was read in that container by the authors of
a public deployment, who name the release notes. 24.12 is left out, since sources contradict each
other, and so is what no source names: 26.06 and 26.08.

ONNX Runtime: docs/introduction/compatibility.md of triton-inference-server/server (main, 2026-11).

The containers with a middle name (25.11-trtllm-python-py3) serve language models: the backends in
them are that one and `python` (triton-inference-server/tensorrtllm_backend, README and issue 401),
so that the TensorRT that they hold serves no plan.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

IMAGE: Final = "nvcr.io/nvidia/tritonserver"
_COMPLETE: Final = "py3"
_PYTHON_ONLY: Final = frozenset({"trtllm-python-py3", "vllm-python-py3"})
_TAG: Final = re.compile(r"(\d\d\.\d\d)-(.+)")

_RELEASES: Final[Mapping[str, Mapping[str, str]]] = {
    "26.08": {"onnxruntime": "1.28.0"},
    "26.07": {"tensorrt": "11.1.0.106", "onnxruntime": "1.27.0"},
    "26.06": {"onnxruntime": "1.24.4"},
    "26.05": {"tensorrt": "10.16.1.11", "onnxruntime": "1.24.4"},
    "26.04": {"tensorrt": "10.16.1.11", "onnxruntime": "1.24.4"},
    "26.03": {"tensorrt": "10.16.0.72", "onnxruntime": "1.24.2"},
    "26.02": {"tensorrt": "10.15.1.29", "onnxruntime": "1.24.1"},
    "26.01": {"tensorrt": "10.14.1.48", "onnxruntime": "1.23.2"},
    "25.12": {"tensorrt": "10.14.1.48", "onnxruntime": "1.23.2"},
    "25.11": {"tensorrt": "10.14.1.48", "onnxruntime": "1.23.2"},
    "25.10": {"tensorrt": "10.13.3.9", "onnxruntime": "1.23.1"},
    "25.09": {"tensorrt": "10.13.3.9", "onnxruntime": "1.23.0"},
    "25.08": {"tensorrt": "10.13.2.6", "onnxruntime": "1.23.0"},
    "25.06": {"tensorrt": "10.11.0.33", "onnxruntime": "1.22.0"},
    "25.05": {"tensorrt": "10.10.0.31", "onnxruntime": "1.22.0"},
    "25.04": {"tensorrt": "10.9.0.34", "onnxruntime": "1.21.0"},
    "25.03": {"tensorrt": "10.9.0.34", "onnxruntime": "1.21.0"},
    "25.02": {"tensorrt": "10.8.0.43", "onnxruntime": "1.20.1"},
    "25.01": {"tensorrt": "10.8.0.43", "onnxruntime": "1.20.1"},
    "24.12": {"onnxruntime": "1.20.1"},
    "24.11": {"tensorrt": "10.6.0.26", "onnxruntime": "1.19.2"},
    "24.10": {"tensorrt": "10.5.0.18", "onnxruntime": "1.19.2"},
    "24.09": {"tensorrt": "10.4.0.26", "onnxruntime": "1.19.2"},
    "24.08": {"tensorrt": "10.3.0.26", "onnxruntime": "1.18.1"},
    "24.07": {"tensorrt": "10.2.0.19", "onnxruntime": "1.18.1"},
    "24.06": {"tensorrt": "10.1.0.27", "onnxruntime": "1.18.0"},
    "24.05": {"tensorrt": "10.0.1.6", "onnxruntime": "1.18.0"},
}
"""Release -> Python module of a library -> its version in XX.YY-py3; the newest first."""


@dataclass(frozen=True)
class Container:
    """What is known of one container."""

    tag: str
    """"25.11-py3"."""
    versions: Mapping[str, str]
    """Python module of a library -> its version; one that is missing is not known."""
    complete: bool
    """It has every backend; else the `python` one beside that of language models."""


def find(tag: str) -> Container | None:
    """The container of that tag of IMAGE; None: nothing is known of it."""
    parts = _TAG.fullmatch(tag)
    if parts is None:
        return None
    release, kind = parts.groups()
    if kind in _PYTHON_ONLY:
        return Container(tag, {}, complete=False)
    if kind != _COMPLETE or release not in _RELEASES:
        return None
    return Container(tag, _RELEASES[release], complete=True)


def newest(library: str, loads: Callable[[str], bool]) -> Container | None:
    """The newest container whose version of a library is known and loads an engine."""
    for release, versions in _RELEASES.items():
        if library in versions and loads(versions[library]):
            return Container(f"{release}-{_COMPLETE}", versions, complete=True)
    return None
