"""PyTorch to ONNX: the numbers, the names, nothing of this machine, the same bytes each time."""

from __future__ import annotations

import getpass
import hashlib
import os
import re
import resource
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

from exporter.artifact import Model
from exporter.errors import BuildError, InputError
from exporter.graph.files import load, save, serialize
from exporter.graph.optimize import optimize
from exporter.graph.to_onnx import export
from tests.exported_once import exported_anew
from tests.graphs import graph, operators, random, relative_error, run
from tests.modules import model_of, resnet

# Float32 against float64 over 22 layers; PyTorch itself is at about 1e-7.
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def resnet20() -> Model:
    return resnet("resnet20", size=32)


@pytest.fixture(scope="module")
def exported(resnet20: Model) -> ir.Model:
    with exported_anew():
        return export(resnet20)


def test_the_numbers_are_pytorchs_at_every_batch(resnet20: Model, exported: ir.Model) -> None:
    assert resnet20.module is not None
    for batch in (1, 2, 5):
        x = random(batch, 3, 32, 32, seed=batch)
        with torch.inference_mode():
            exact = resnet20.module.double()(torch.from_numpy(x).double()).numpy()
        resnet20.module.float()
        assert relative_error(run(exported, x), exact) < TOLERANCE


def test_the_graph_is_the_network_and_nothing_else(exported: ir.Model) -> None:
    assert set(operators(exported)) == {
        "Conv", "BatchNormalization", "Relu", "Add", "ReduceMean", "Reshape", "Gemm",
    }  # fmt: skip
    # Option B: 1 + 18 and two projections.
    assert operators(exported).count("Conv") == 21
    assert operators(exported).count("BatchNormalization") == 21
    # A convolution without a bias has none.
    assert all(len(node.inputs) == 2 for node in exported.graph if node.op_type == "Conv")


def test_version_and_interface(exported: ir.Model) -> None:
    assert exported.opset_imports == {"": 20}
    assert exported.ir_version == 10
    (x,), (y,) = exported.graph.inputs, exported.graph.outputs
    assert x.shape is not None
    assert y.shape is not None
    assert (x.name, str(x.shape[0]), tuple(x.shape[1:])) == ("input", "batch", (3, 32, 32))
    assert (y.name, str(y.shape[0]), tuple(y.shape[1:])) == ("logits", "batch", (10,))


def test_names_are_module_paths(resnet20: Model, exported: ir.Model) -> None:
    assert resnet20.module is not None
    modules = {name for name, _ in resnet20.module.named_modules()}
    convs = {node.name for node in exported.graph if node.op_type == "Conv"}
    assert convs == {n for n, m in resnet20.module.named_modules() if isinstance(m, nn.Conv2d)}
    assert {"layer1.0.add", "layer1.0.relu", "layer1.0.relu_1", "avgpool", "fc"} <= {
        node.name for node in exported.graph
    }
    for node in exported.graph:
        scope = str(node.name).rpartition(".")[0]
        assert node.name in modules or scope in modules
        if not node.outputs[0].is_graph_output():
            assert node.outputs[0].name == node.name
    weights = set(resnet20.module.state_dict())
    assert {n for n in exported.graph.initializers if not n.endswith((".axes", ".shape"))} == {
        name for name in weights if not name.endswith("num_batches_tracked")
    }


def test_what_happens_to_the_module_later_does_not_reach_the_graph(resnet20: Model) -> None:
    assert resnet20.module is not None
    layer = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())
    graph = export(model_of(layer, size=6, classes=64))
    before = serialize(graph)
    nn.init.zeros_(layer[0].weight)  # type: ignore[arg-type]
    layer.double()
    assert serialize(graph) == before


def test_nothing_of_this_machine_is_in_the_file(exported: ir.Model) -> None:
    proto = onnx.load_model_from_string(serialize(exported))
    for weight in proto.graph.initializer:
        weight.raw_data = b""  # any short word is in a megabyte of random bytes
    text = proto.SerializeToString()
    for trace in (str(Path.cwd()), str(Path.home()), sys.prefix, "site-packages", "stack_trace"):
        assert trace.encode() not in text
    for word in (getpass.getuser(), socket.gethostname()):
        assert not re.search(rb"\b" + re.escape(word.encode()) + rb"\b", text)
    assert not any(node.metadata_props or node.doc_string for node in exported.graph)


def test_attributes_are_in_alphabetical_order(exported: ir.Model) -> None:
    """So that the bytes do not depend on the order of a hash table in another library."""
    proto = onnx.load_model_from_string(serialize(exported))
    for node in proto.graph.node:
        names = [attribute.name for attribute in node.attribute]
        assert names == sorted(names)


ELSEWHERE = """
import sys
from pathlib import Path
from tests.modules import resnet
from exporter.graph.to_onnx import export
from exporter.graph.files import save
from exporter.graph.optimize import optimize
graph = export(resnet("resnet20", size=32))
print(save(graph, Path(sys.argv[1])), save(optimize(graph)[0], Path(sys.argv[2])))
"""


def test_another_process_in_another_folder_writes_the_same_bytes(
    exported: ir.Model, tmp_path: Path
) -> None:
    """With another hash seed; and without a word of the libraries on the way."""
    paths = (tmp_path / "a.onnx", tmp_path / "b.onnx")
    seed = "1" if os.environ.get("PYTHONHASHSEED") == "2" else "2"
    result = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *map(str, paths)],
        env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path.cwd())},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    expected = [serialize(exported), serialize(optimize(exported)[0])]
    assert [path.read_bytes() for path in paths] == expected
    assert result.stdout.split() == [hashlib.sha256(content).hexdigest() for content in expected]


class Unexportable(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:  # depends on the data
            return x.flatten(1)
        return -x.flatten(1)


def test_a_module_that_pytorch_cannot_export_is_one_clear_line() -> None:
    with pytest.raises(BuildError, match="PyTorch cannot export net") as caught:
        export(model_of(Unexportable(), size=4, classes=48, name="net"))
    assert "\n" not in str(caught.value)


def small() -> ir.Model:
    return graph(
        "net (float[N,3,6,6] x) => (float[N,64,4,4] y) { y = Conv (x, w) }", w=random(64, 3, 3, 3)
    )


def test_save_and_load(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    digest = save(small(), path)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert serialize(load(path)) == path.read_bytes()
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.onnx"]


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    """The kernel refuses the bytes half way, as on a full disk."""
    path = tmp_path / "net.onnx"
    path.write_bytes(b"before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
        with pytest.raises(BuildError, match=r"net\.onnx .* cannot be written: File too large"):
            save(small(), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.onnx"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="cannot be written: No such file or directory"):
        save(small(), tmp_path / "missing" / "net.onnx")


def test_more_than_one_file_can_hold(tmp_path: Path) -> None:
    model = small()
    huge = np.broadcast_to(np.float32(0), (600, 1000, 1000))  # 2.2 GiB that take no memory
    value = ir.Value(name="huge", const_value=ir.tensor(huge, name="huge"))
    model.graph.register_initializer(value)
    with pytest.raises(BuildError, match=r"2\.24 GiB, an ONNX file holds 2 GiB"):
        save(model, tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


def test_loading_what_is_not_onnx(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    with pytest.raises(InputError, match="cannot be read: No such file"):
        load(path)
    path.write_bytes(b"\xff\xff not a model")
    with pytest.raises(InputError, match="is not an ONNX file"):
        load(path)
