"""The machine's ceilings: every kernel runs, and the best of each type is the ceiling."""

from __future__ import annotations

import torch

from exporter.ceilings import measure_ceilings


def test_the_best_kernel_of_each_type_is_the_ceiling() -> None:
    before = torch.get_num_threads()
    found = measure_ceilings(1)
    assert torch.get_num_threads() == before
    for kind, ceiling in (("fp32", found.fp32_gops), ("int8", found.int8_gops)):
        rates = [rate for name, rate in found.kernels.items() if name.startswith(kind)]
        assert len(rates) >= 2
        assert ceiling == max(rates) > 0
    assert found.copy_gb_s > 0
    assert found.threads == 1
