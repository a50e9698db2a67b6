"""Where TensorRT's versions differ, each side."""

from __future__ import annotations

import pytest

from exporter.artifact import ElementType, Precision
from exporter.targets.tensorrt.versions import (
    CHECKED,
    io_tensors,
    precision_options,
    tensor_type,
    trtexec_switches,
    unchecked,
)


@pytest.mark.parametrize("version", ["10.9.0.34", "10.13.3.9", "10.16.1.11", "11.0.0", "11.4.0"])
def test_a_version_between_the_checked_ones_is_known(version: str) -> None:
    assert unchecked(version) is None


@pytest.mark.parametrize("version", ["8.6.1", "10.8.0.43", "10.17.0", "11.5.0", "12.0.0.1"])
def test_another_one_is_told_with_what_was_checked(version: str) -> None:
    warning = unchecked(version)
    assert warning is not None
    assert warning.startswith(f"TensorRT {version} is not among the versions")
    assert all(name in warning for name in CHECKED)


def test_precision_is_permitted_in_10_and_the_graphs_alone_in_11() -> None:
    assert precision_options(Precision.INT8, "10.16.1") == {
        "trt_fp16_enable": "False",
        "trt_int8_enable": "True",
    }
    assert precision_options(Precision.INT8, "11.0.0") == {}


def test_trtexec_is_told_what_11_1_does_by_itself() -> None:
    for version in ("10.16.1", "11.0.0"):
        assert "--useCudaGraph" in trtexec_switches(version)
    assert trtexec_switches("11.1.0") == ""


def test_the_inspectors_two_forms() -> None:
    assert io_tensors({"Bindings": ["in", "out"]}) == {"in", "out"}
    assert io_tensors({"I/O Tensors": [{"Name": "in", "IOMode": "Input"}]}) == {"in"}
    assert tensor_type({"Format/Datatype": "Row major linear FP16 format"}) is ElementType.FP16
    assert tensor_type({"Format": "Linear", "Datatype": "Half"}) is tensor_type(
        {"Format/Datatype": "Half"}
    )
    assert tensor_type({"Format": "Linear", "Datatype": "Qubit"}) is None
