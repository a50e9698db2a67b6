"""The machine's ceilings: every kernel runs, and the best of each type is the ceiling."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from exporter.measure import ceiling_graphs as graphs
from exporter.measure.ceilings import measure_ceilings
from exporter.targets.ort import session as ort_session
from exporter.targets.ort.session import make_session, session_options


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


@pytest.mark.parametrize(
    ("content", "given", "kind"),
    [
        (graphs.product(int8=False), graphs.PRODUCT_INPUT, "float32"),
        (graphs.product(int8=True), graphs.PRODUCT_INPUT, "uint8"),
        (graphs.product_integer(), graphs.PRODUCT_INPUT, "uint8"),
        (graphs.convolutions(int8=False), graphs.CONV_INPUT, "float32"),
        (graphs.convolutions(int8=True), graphs.CONV_INPUT, "uint8"),
    ],
    ids=["product", "product-int8", "product-integer", "convolutions", "convolutions-int8"],
)
@pytest.mark.parametrize("flags", [{"avx2"}, {"avx2", "avx512_vnni"}], ids=["avx2", "vnni"])
def test_the_graphs_are_valid_and_finite_on_any_cpu(
    content: bytes,
    given: tuple[int, ...],
    kind: str,
    flags: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without VNNI, ONNX Runtime rewrites the weights and zero points of INT8."""
    monkeypatch.setattr(ort_session, "cpu_flags", lambda: frozenset(flags))
    onnx.checker.check_model(onnx.load_model_from_string(content), full_check=True)
    session = make_session(content, session_options(2))
    (answer,) = session.run(None, {"x": np.ones(given, kind)})
    assert np.isfinite(answer).all()
