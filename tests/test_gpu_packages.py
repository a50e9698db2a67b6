"""The extras for GPUs and their constraints agree, as far as their text shows.

What the packages themselves need is read by `make rehearse-gpu`, in an environment that has them.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from exporter.runtime import gpu_libraries
from exporter.targets.tensorrt.versions import CHECKED, release
from tests.rehearsal import stand_ins

ROOT = Path(__file__).parents[1]
EXTRAS: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))[
    "project"
]["optional-dependencies"]
CUDA, TENSORRT = 13, 10


def requirements(extra: str) -> dict[str, Requirement]:
    """What an extra brings, those that it includes among them."""
    found: dict[str, Requirement] = {}
    for one in map(Requirement, EXTRAS[extra]):
        if one.name == "resnet-exporter":
            for included in one.extras:
                found |= requirements(included)
        else:
            found[canonicalize_name(one.name)] = one
    return found


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / "constraints" / name).read_text(encoding="utf-8").splitlines()
    pairs = [line.partition("==") for line in lines if "==" in line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, _, version in pairs}


@pytest.mark.parametrize("extra", ["gpu", "runtime-gpu", "serve-gpu"])
def test_what_a_gpu_extra_asks_for_is_pinned_within_its_bounds(extra: str) -> None:
    known = pins("cpu.txt") | pins("gpu.txt")
    asked = requirements(extra)
    assert "onnxruntime-gpu" in asked
    assert "onnxruntime" not in asked, "the two overwrite each other"
    for name, one in asked.items():
        assert one.specifier.contains(known[name]), f"{one} is pinned to {known[name]}"


def test_only_what_compiles_has_pytorch() -> None:
    assert {"torch", "openvino", "tensorrt-cu13"} <= requirements("gpu").keys()
    for extra in ("runtime-gpu", "serve-gpu"):
        assert not {"torch", "openvino", "tensorrt-cu13"} & requirements(extra).keys()


def test_gpu_and_cpu_constraints_pin_nothing_twice() -> None:
    text = (ROOT / "constraints" / "gpu.txt").read_text(encoding="utf-8")
    assert "\n-c cpu.txt\n" in text
    assert not pins("gpu.txt").keys() & pins("cpu.txt").keys()


def test_each_extra_has_one_major_version_of_tensorrt() -> None:
    """ONNX Runtime's provider is linked with one; `tensorrt11` therefore comes without it."""
    ten = requirements("gpu")["tensorrt-cu13"].specifier
    assert ten.contains(stand_ins.pinned("tensorrt-cu13"))
    assert not ten.contains("11.0.0")
    eleven = requirements("tensorrt11")
    assert not eleven["tensorrt-cu13"].specifier.contains("10.16.1")
    assert eleven["tensorrt-cu13"].specifier.contains("11.4.0")
    assert not eleven["tensorrt-cu13"].specifier.contains("12.0.0")
    assert "onnxruntime-gpu" not in eleven


def test_every_library_that_is_loaded_comes_with_a_pinned_package() -> None:
    known = pins("gpu.txt")
    libraries = gpu_libraries.cuda_libraries(CUDA) + gpu_libraries.tensorrt_libraries(TENSORRT)
    for library in libraries:
        package = Requirement(library.package)
        assert package.specifier.contains(known[package.name]), library


def test_the_contract_is_read_with_the_versions_that_are_told() -> None:
    lines = (ROOT / "tests" / "rehearsal" / "contract.txt").read_text("utf-8").splitlines()
    versions = {line.partition("==")[2] for line in lines if line.startswith("tensorrt-")}
    assert {"{}.{}".format(*release(version)) for version in versions} == set(CHECKED)
    assert stand_ins.pinned("tensorrt-cu13") in versions
