"""The table of Triton's containers: its order, its words, the newest that loads an engine."""

from __future__ import annotations

import re

import pytest

from exporter.targets import triton_containers
from exporter.targets.triton_containers import Container, find, newest

RELEASES = triton_containers._RELEASES


def test_the_newest_stand_first_and_versions_never_fall() -> None:
    assert list(RELEASES) == sorted(RELEASES, reverse=True)
    for library in ("tensorrt", "onnxruntime"):
        versions = [
            tuple(map(int, row[library].split("."))) for row in RELEASES.values() if library in row
        ]
        assert len(versions) > 20
        assert versions == sorted(versions, reverse=True)
    assert all(re.fullmatch(r"\d\d\.(0[1-9]|1[0-2])", release) for release in RELEASES)


@pytest.mark.parametrize("tag", ["25.11-py3", "24.12-py3"])
def test_a_container_is_found(tag: str) -> None:
    found = find(tag)
    assert isinstance(found, Container)
    assert (found.tag, found.complete) == (tag, True)
    assert ("tensorrt" in found.versions) is (tag == "25.11-py3")


def test_one_for_language_models_has_not_every_backend() -> None:
    found = find("25.11-trtllm-python-py3")
    assert found is not None
    assert not found.complete


@pytest.mark.parametrize("tag", ["25.11", "99.01-py3", "25.11-py3-sdk", "mine:latest"])
def test_nothing_is_known_of_others(tag: str) -> None:
    assert find(tag) is None


def test_the_newest_that_loads() -> None:
    found = newest("tensorrt", lambda version: version.startswith("10.13.3"))
    assert found is not None
    assert found.tag == "25.10-py3"
    assert newest("tensorrt", lambda _: False) is None
    assert newest("openvino", lambda _: True) is None
