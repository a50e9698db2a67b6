"""The InferenceService; against KServe's own models it is checked in `tests/serving`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import UsageError
from exporter.pack.formats import pack
from exporter.pack.kserve import service_name
from exporter.pack.request import PackRequest
from exporter.progress import Silent
from tests.packed import digits_build, edited_build, pack_digits


def service(folder: Path, build: Path | None = None, **options: Any) -> dict[str, Any]:
    request = PackRequest(build or digits_build(), format="kserve", out=folder / "out", **options)
    path = pack(request, Silent()).path / "inferenceservice.yaml"
    described: dict[str, Any] = yaml.safe_load(path.read_text())
    return described


def test_the_service_points_at_the_repository(tmp_path: Path) -> None:
    described = service(tmp_path, storage_uri="s3://models/digits")
    assert described["apiVersion"] == "serving.kserve.io/v1beta1"
    assert described["metadata"]["name"] == "resnet20-digits"
    model = described["spec"]["predictor"]["model"]
    assert model["storageUri"] == "s3://models/digits"
    assert model["modelFormat"] == {"name": "triton"}
    assert model["resources"]["requests"]["cpu"] == "2"
    assert "nvidia.com/gpu" not in model["resources"]["limits"]
    for probe in ("readinessProbe", "livenessProbe"):
        command = model[probe]["exec"]["command"]
        assert command[1] == "/mnt/models/probe.py"
    assert (tmp_path / "out" / "repository" / "probe.py").is_file()
    assert (tmp_path / "out" / "repository" / "resnet20-digits" / "config.pbtxt").is_file()


@pytest.mark.parametrize(
    "uri", [None, "", "models/digits", "/models", "ftp://x/y", 's3://a"\n  evil: true', "s3://"]
)
def test_a_storage_uri_is_needed(tmp_path: Path, uri: str | None) -> None:
    with pytest.raises(UsageError, match="--storage-uri"):
        service(tmp_path, storage_uri=uri)
    assert list(tmp_path.iterdir()) == []


def test_an_option_of_another_format_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"--storage-uri concerns KServe, .* triton .*; pack as kserve"
    ):
        pack_digits(tmp_path / "out", format="triton", storage_uri="s3://a")


@given(st.text(max_size=80))
def test_any_model_has_a_name_that_kubernetes_takes(model: str) -> None:
    import re

    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", service_name(model))
    assert len(f"{service_name(model)}-predictor-{'n' * 20}") <= 63


@pytest.mark.parametrize("name", ["true", "null", "on", "No", "resnet50", "1e3", "y" * 80])
def test_the_name_is_text_in_yaml(tmp_path: Path, name: str) -> None:
    build = edited_build(tmp_path, lambda manifest: manifest["model"].update(name=name))
    described = service(tmp_path, build, storage_uri="s3://models/x")
    assert described["metadata"]["name"] == service_name(name)
