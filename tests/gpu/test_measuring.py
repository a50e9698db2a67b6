"""Measuring on a real GPU: its clock, its ceilings, what NVML says, and the baseline on it.

`make test-gpu` runs exactly these and those beside them. Without a GPU every test is skipped with
the reason. What was found is in the report's XML as properties.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from exporter import host
from exporter.artifact import Dialect, Model, Precision, Skipped
from exporter.errors import MissingDependencyError, UsageError
from exporter.graph.files import save
from exporter.graph.lower import Lowering, lower
from exporter.graph.optimize import optimize
from exporter.graph.to_onnx import export
from exporter.images.samples import open_data
from exporter.measure.cuda_clock import CudaClock, slots_for
from exporter.measure.gpu_ceilings import measure_gpu_ceilings
from exporter.measure.interleaved import EagerBaseline, EngineToMeasure, measure
from exporter.measure.nvml import GpuWatch, open_gpu
from exporter.measure.timing import Conditions, GpuCeilings, GpuUse, Latency
from exporter.measure.worker import eager_run
from exporter.models.sources import define
from exporter.progress import Silent
from exporter.prove.reference import make_reference
from exporter.targets import Array, BuildOptions, MachineKind, RunsOnDevice, Target, get_target

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(host.describe_host().gpu is None, reason="no NVIDIA driver answers here"),
]

Property = Callable[[str, object], None]


@pytest.fixture(scope="module")
def network() -> Model:
    """ResNet-18 at 64 x 64 pixels."""
    return define("resnet18", "random", image_size=64, progress=Silent())


@pytest.fixture(scope="module")
def half(network: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in FP16, as ONNX."""
    graph, _ = optimize(export(network))
    low, _ = lower(graph, Lowering(Precision.FP16, Dialect.FLOAT))
    path = tmp_path_factory.mktemp("half") / "fp16.onnx"
    save(low, path)
    return path


def reachable(name: str) -> Target:
    try:
        return get_target(name)
    except (MissingDependencyError, UsageError) as error:
        pytest.skip(str(error))


def images(batch: int) -> Array:
    return np.random.RandomState(batch).standard_normal((batch, 3, 64, 64)).astype(np.float32)


def module_of(model: Model) -> nn.Module:
    assert model.module is not None
    return model.module


@pytest.mark.parametrize("cuda_graph", [False, True])
def test_the_clock_answers_as_eager_does_and_times_the_gpu_inside_the_wall(
    network: Model, cuda_graph: bool, record_property: Property
) -> None:
    module = module_of(network)
    clock = CudaClock(cuda_graph=cuda_graph)
    on_gpu = module.to("cuda")
    timed = clock.place(lambda given: eager_run(on_gpu, given), images(8))
    answer = np.array(timed.run())
    with torch.inference_mode():
        expected = module.to("cpu")(torch.from_numpy(images(8))).numpy()
    assert np.linalg.norm(answer - expected) / np.linalg.norm(expected) < 1e-5
    module.to("cuda")
    times = timed.time(200)
    compute, end_to_end = np.median(times.compute_s), np.median(times.end_to_end_s)
    record_property(f"eager compute ms, cuda_graph={cuda_graph}", 1e3 * float(compute))
    record_property(f"eager end to end ms, cuda_graph={cuda_graph}", 1e3 * float(end_to_end))
    assert 0 < compute < end_to_end
    assert timed.sustain(0.1) > 0
    module.to("cpu")


@pytest.mark.parametrize("batch", [1, 8])
def test_a_plan_is_timed_steadily(
    half: Path, tmp_path: Path, batch: int, record_property: Property
) -> None:
    target = reachable("tensorrt")
    options = BuildOptions(batches=(1, 8))
    result = target.build(half, Precision.FP16, tmp_path / "fp16", options)
    record_property("trtexec", result.requires["trtexec"])
    with target.open(result.files[0], 1) as session:
        assert isinstance(session, RunsOnDevice)
        timed = CudaClock(cuda_graph=True).place(session.bind, images(batch))
        np.testing.assert_array_equal(timed.run(), session.run(images(batch)))
        start = time.perf_counter()
        times = timed.time(200)
        took = time.perf_counter() - start
        compute = np.array(times.compute_s)
        record_property(f"gpu p50 ms at batch {batch}", 1e3 * float(np.median(compute)))
        assert np.percentile(compute, 90) < 2 * np.median(compute)
        assert compute.sum() < took


@pytest.mark.parametrize("name", ["tensorrt", "ort-cuda", "ort-tensorrt"])
def test_an_engine_is_measured_against_eager_on_the_gpu(
    name: str, network: Model, half: Path, tmp_path: Path, record_property: Property
) -> None:
    target = reachable(name)
    assert target.dialect(Precision.FP16) is Dialect.FLOAT
    built = target.build(half, Precision.FP16, tmp_path / "fp16", BuildOptions())
    engines = [EngineToMeasure(f"{name}.fp16", name, built.files[0])]
    baseline = EagerBaseline(module_of(network), network.spec.input)
    found = measure(engines, baseline, Conditions(2, 10, 0, (1, 8)), Silent())
    assert found.failures == {}
    for latency in found.latencies[f"{name}.fp16"].values():
        assert isinstance(latency, Latency), latency
        assert (latency.device, latency.baseline) == (MachineKind.GPU, "torch-eager-cuda")
        assert latency.compute is not None
        assert 0 < latency.compute.p50_ms <= latency.p50_ms
        assert isinstance(latency.gpu, GpuUse), latency.gpu
        record_property(f"batch {latency.batch}", str(latency))


def test_the_ceilings_of_the_gpu_rise_as_the_types_narrow(record_property: Property) -> None:
    found = measure_gpu_ceilings()
    assert isinstance(found, GpuCeilings), found
    record_property("ceilings", str(found))
    assert 0 < found.gops["fp32"] <= found.gops["fp16"] * 1.1
    assert found.copy_gb_s > 0


def test_nvml_sees_the_gpu_work(record_property: Property) -> None:
    gpu = open_gpu(str(torch.cuda.get_device_properties(0).uuid))
    assert not isinstance(gpu, Skipped), gpu
    with GpuWatch(gpu) as watch:
        matrix = torch.randn(4096, 4096, device="cuda")
        begin = time.monotonic()
        while time.monotonic() - begin < 1:
            matrix @ matrix
            torch.cuda.synchronize()
    record_property("samples", str(watch.rows()[-1]))
    assert watch.failure is None
    assert len(watch.samples) >= 5
    assert all(sample.sm_clock_mhz > 0 for sample in watch.samples)


def test_the_reference_on_the_gpu_is_as_near_to_float64_as_the_cpus(network: Model) -> None:
    inputs = open_data(network.spec, None).evaluation.take(8)
    gpu = make_reference(network, inputs, Silent(), MachineKind.GPU)
    assert not isinstance(gpu.own_rel_l2, Skipped)
    assert gpu.own_rel_l2 < 2e-6  # TF32 would be a thousand times that


def test_inputs_rotate_through_more_than_the_cache_holds() -> None:
    cache = int(torch.cuda.get_device_properties(0).L2_cache_size)
    one = images(1).nbytes
    assert cache > 0
    assert slots_for(one, cache) >= 2
