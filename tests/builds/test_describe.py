"""What the manifest says was asked for: everything, and no path of this machine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.artifact import TensorSpec
from exporter.builds import manifest
from exporter.builds.describe import as_carried_out
from exporter.builds.folder import BuildFolder
from exporter.builds.option import declarations
from exporter.builds.request import ExportRequest
from exporter.builds.run import Run
from exporter.progress import Clock, Silent
from tests import manifests
from tests.requests import others, requests

SPEC = manifests.resnet50(drift=False).model


def carried_out(request: ExportRequest) -> ExportRequest:
    folder = BuildFolder(Path("build"), SPEC.name)
    run = Run(request, folder, Path("scratch"), Clock(), Silent())
    samples = 64 if request.samples is None else request.samples
    return as_carried_out(run, replace(SPEC, source=request.source), samples)


@pytest.mark.parametrize("name", [field.name for field in attrs.fields(ExportRequest)])
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_every_option_is_in_the_manifest(name: str, data: st.DataObject) -> None:
    (declared,) = (one for one in declarations(ExportRequest) if one.name == name)
    value = data.draw(others(declared).filter(lambda value: "/" not in str(value)))
    written = manifest.plain(carried_out(ExportRequest(**{name: value})))
    if declared.option.not_recorded:
        assert name not in written
    else:
        assert written[name] == manifest.plain(value)


@settings(max_examples=50, deadline=None)
@given(requests(ExportRequest))
def test_a_request_is_read_back_as_it_was_recorded(request: ExportRequest) -> None:
    build = replace(manifests.resnet50(drift=False), request=carried_out(request))
    text = json.dumps(manifest.to_json(build))
    assert manifest.from_json(json.loads(text), "it").request == build.request


def test_a_path_of_this_machine_is_reduced_to_its_last_part() -> None:
    request = carried_out(
        ExportRequest(
            weights="/home/me/w.pth",
            data=Path("/home/me/images"),
            out=Path("/home/me/out"),
            settings={"tensorrt": {"timing_cache": "/home/me/cache/", "tf32": "on"}},
        )
    )
    assert (request.weights, request.data, request.out) == ("w.pth", Path("images"), None)
    assert request.settings == {"tensorrt": {"timing_cache": "cache", "tf32": "on"}}
    assert "/home/me" not in json.dumps(manifest.plain(request))


def test_a_model_of_one_batch_size_is_recorded_with_that() -> None:
    spec = replace(SPEC, input=TensorSpec("input", "float32", (4, 3, 224, 224)))
    run = Run(ExportRequest(), BuildFolder(Path("b"), "m"), Path("s"), Clock(), Silent())
    assert as_carried_out(run, spec, 64).batches == (4,)
