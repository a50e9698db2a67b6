"""For every test: what is repeated only to make a figure steadier is repeated less.

No test looks at how fast anything is. This is about the tests' own process alone, as is that
PyTorch exports the same built-in network only once.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _measured_briefly() -> Iterator[None]:
    try:
        from exporter.measure import ceilings, interleaved, profile
    except ModuleNotFoundError:  # an environment of its own, in which nothing is measured
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ceilings, "KERNEL_S", 1e-3)
        patch.setattr(interleaved, "SUSTAINED_S", 0.05)
        patch.setattr(profile, "BUDGET_S", 0.05)
        yield


@pytest.fixture(scope="session", autouse=True)
def _exported_once() -> Iterator[None]:
    try:
        from exporter.graph import to_onnx
        from tests.exported_once import exported_once
    except ModuleNotFoundError:  # an environment of its own, in which nothing is exported
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(to_onnx, "_torch_export", exported_once(to_onnx._torch_export))
        yield
