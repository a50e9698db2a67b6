"""The InferenceService against KServe's and Kubernetes' published object models."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.pack.formats import pack
from exporter.pack.request import PackRequest
from exporter.progress import Silent
from tests.pack.test_triton import with_plan
from tests.packed import digits_build
from tests.serving import kserve_schema

pytestmark = [
    pytest.mark.serving,
    pytest.mark.skipif(
        not kserve_schema.installed(), reason="kserve is not installed; run make test-serving"
    ),
]


def service(build: Path, folder: Path, **options: Any) -> dict[str, Any]:
    request = PackRequest(
        build, format="kserve", out=folder / "out", storage_uri="s3://models/digits", **options
    )
    path = pack(request, Silent()).path / "inferenceservice.yaml"
    described: dict[str, Any] = yaml.safe_load(path.read_text())
    return described


def problems(described: dict[str, Any]) -> list[str]:
    return list(kserve_schema.problems(described, "V1beta1InferenceService"))


def test_the_service_is_valid(tmp_path: Path) -> None:
    described = service(digits_build(), tmp_path)
    assert problems(described) == []
    assert described["kind"] == "InferenceService"
    # The models say "str" of quantities.
    resources = described["spec"]["predictor"]["model"]["resources"]
    for amounts in resources.values():
        assert re.fullmatch(r"\d+", amounts["cpu"])
        assert re.fullmatch(r"\d+(Mi|Gi)", amounts["memory"])


def test_the_service_of_a_gpu_engine_is_valid(tmp_path: Path) -> None:
    described = service(with_plan(tmp_path, ["1:8:32"]), tmp_path, backend="tensorrt")
    assert problems(described) == []
    limits = described["spec"]["predictor"]["model"]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "1"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("spec", "predictor", "model", "modelFormat"), None, "modelFormat: None is no object"),
        (("spec", "predictor", "model"), {}, "model.modelFormat: missing"),
        (("spec", "predictor", "minReplica"), 1, "minReplica: no such field"),
        (("spec", "predictor", "minReplicas"), "1", "minReplicas: '1' is no int"),
        (("spec", "predictor", "model", "storageUri"), 3, "storageUri: 3 is no str"),
        (
            ("spec", "predictor", "model", "readinessProbe", "exec", "command"),
            "python3",
            "command: 'python3' is no list",
        ),
    ],
)
def test_the_check_finds_what_is_wrong(
    tmp_path: Path, path: tuple[str, ...], value: object, said: str
) -> None:
    described = copy.deepcopy(service(digits_build(), tmp_path))
    place = described
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    found = problems(described)
    assert len(found) == 1
    assert found[0].endswith(said)
