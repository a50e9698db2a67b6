"""timm beside a torchvision that was built for another torch.

PyPI's torchvision does not import beside a CPU build of torch: it describes kernels of its own
(`operator torchvision::nms does not exist`) that were not loaded. timm imports it for data and
feature extraction, and its ResNets call none of those.
"""

from __future__ import annotations

import re
import sys
from functools import cache

import torch

_MISSING = re.compile(r"operator torchvision::(\w+) does not exist")


@cache
def why_no_timm() -> str | None:
    """Imports timm, with names alone for the kernels that are missing; why that is impossible."""
    kernels: list[torch.library.Library] = []
    while True:
        try:
            import timm  # noqa: F401
        except ImportError as error:
            return str(error)
        except RuntimeError as error:
            missing = _MISSING.search(str(error))
            if missing is None or len(kernels) > 20:
                return str(error)
            kernels.append(torch.library.Library("torchvision", "FRAGMENT"))
            kernels[-1].define(f"{missing[1]}(Tensor of_no_use) -> Tensor")
            for name in [n for n in sys.modules if n.partition(".")[0] in ("timm", "torchvision")]:
                del sys.modules[name]
        else:
            _KEPT.extend(kernels)
            return None


_KEPT: list[torch.library.Library] = []
"""A library's names go with it."""
