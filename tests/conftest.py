"""For every test: what is repeated only to make a figure steadier is repeated less.

No test looks at how fast anything is. This is about the tests' own process alone, as is that
PyTorch exports the same built-in network only once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest


def _measure_briefly(patch: pytest.MonkeyPatch) -> None:
    from exporter.measure import ceilings, interleaved, profile

    patch.setattr(ceilings, "KERNEL_S", 1e-3)
    patch.setattr(interleaved, "SUSTAINED_S", 0.05)
    patch.setattr(profile, "BUDGET_S", 0.05)


def _export_once(patch: pytest.MonkeyPatch) -> None:
    from exporter.graph import to_onnx
    from tests.exported_once import exported_once

    patch.setattr(to_onnx, "_torch_export", exported_once(to_onnx._torch_export))


@pytest.fixture(scope="session", autouse=True)
def _quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for change in (_measure_briefly, _export_once):
            # An environment of its own lacks what measures or exports, and needs neither.
            with suppress(ModuleNotFoundError):
                change(patch)
        yield
