"""IO binding: an inference whose input and answer stay where PyTorch has them.

On a GPU this is how it is timed; what is bound here is the CPU's memory, by the same calls.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from exporter.errors import BuildError
from exporter.graph.files import save
from exporter.targets import RunsOnDevice
from exporter.targets.ort.session import OrtSession, open_graph
from tests.graphs import graph

GRAPH = "network (float[N,3,4,4] x) => (float[N,3,1,1] y) { r = Relu(x)  y = GlobalAveragePool(r) }"


@pytest.fixture
def session(tmp_path: Path) -> OrtSession:
    path = tmp_path / "net.onnx"
    save(graph(GRAPH), path)
    return open_graph(path, 1)


def images(batch: int) -> np.ndarray:
    return np.random.default_rng(batch).standard_normal((batch, 3, 4, 4), dtype=np.float32)


@pytest.mark.parametrize("batch", [1, 5])
def test_what_lies_in_the_bound_memory_is_inferred_anew_at_each_call(
    session: OrtSession, batch: int
) -> None:
    assert isinstance(session, RunsOnDevice)
    given = torch.zeros(batch, 3, 4, 4)
    run = session.bind(given)
    assert torch.equal(run(), torch.zeros(batch, 3, 1, 1))
    given.copy_(torch.from_numpy(images(batch)))
    np.testing.assert_array_equal(run().numpy(), session.run(images(batch)))
    assert run().data_ptr() == run().data_ptr()  # one place for all answers


def test_two_inputs_are_bound_side_by_side(session: OrtSession) -> None:
    first, second = (torch.from_numpy(images(2)), torch.from_numpy(images(2) + 1))
    runs = [session.bind(first), session.bind(second)]
    answers = [run().clone() for run in runs]
    np.testing.assert_array_equal(answers[0].numpy(), session.run(first.numpy()))
    np.testing.assert_array_equal(answers[1].numpy(), session.run(second.numpy()))


def test_an_input_that_does_not_fit_is_an_error_in_one_line(session: OrtSession) -> None:
    with pytest.raises(BuildError, match=r"failed to run: .*dimension") as refused:
        session.bind(torch.zeros(1, 4, 4, 4))
    assert len(str(refused.value).splitlines()) == 1
    session.close()
    with pytest.raises(BuildError, match="is closed"):
        session.bind(torch.zeros(1, 3, 4, 4))
