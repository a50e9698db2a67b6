"""A sweep's builds in a real object server: each whole, its manifest last, and done once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests import foreign
from tests.store.server import environment, exporter, free_port, in_store, serving

pytestmark = pytest.mark.store

SPEC = """
models: [one.onnx, {model: one.onnx, name: second}]
precisions: [fp32]
targets: [ort-cpu]
options: {measure: false, samples: 8}
store: s3://bucket/sweeps/fleet
"""
FOLDER = "bucket/sweeps/fleet"


@pytest.fixture(scope="module")
def store() -> Iterator[dict[str, str]]:
    with serving() as env:
        yield env


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A working directory with a network and a spec."""
    foreign.write(tmp_path, foreign.resnet(channels_last=False), "one.onnx")
    (tmp_path / "fleet.yaml").write_text(SPEC)
    return tmp_path


def objects(env: Mapping[str, str]) -> dict[str, str]:
    """When each object in the bucket was written."""
    listed = f"s3.find({FOLDER!r}, detail=True).items()"
    times = f"{{name: str(one['LastModified']) for name, one in {listed}}}"
    found: dict[str, str] = json.loads(in_store(env, f"print(json.dumps({times}))"))
    return found


def test_each_build_is_in_the_bucket_whole_and_is_not_done_again(
    store: dict[str, str], here: Path
) -> None:
    first = exporter(store, "sweep", "fleet.yaml", "--json", "-q", cwd=here)
    assert first.returncode == 0, first.stderr
    record = json.loads(first.stdout)
    assert record["store"] == "s3://bucket/sweeps/fleet"
    written = objects(store)
    assert [one["model"] for one in record["builds"]] == ["one", "second"]
    for build in record["builds"]:
        source = f"{FOLDER}/{build['build']}"
        own = {name: when for name, when in written.items() if name.startswith(source + "/")}
        assert own[f"{source}/manifest.json"] == max(own.values())  # the last of them
        copy = here / build["build"]
        in_store(store, f"s3.get({source!r}, {str(copy)!r}, recursive=True)")
        assert sum(path.is_file() for path in copy.rglob("*")) == len(own)
        validated = exporter(store, "validate", str(copy), "-q")
        assert validated.returncode == 0, validated.stderr
    again = exporter(store, "sweep", "fleet.yaml", "--json", cwd=here)
    assert "2 of 2 builds are in the store already" in again.stderr
    assert json.loads(again.stdout) == record
    after = objects(store)
    assert {name for name, when in after.items() if when != written.get(name)} <= {
        f"{FOLDER}/sweep-store.json"
    }
    assert after.keys() == written.keys()


def test_a_build_without_its_manifest_is_done_again(store: dict[str, str], here: Path) -> None:
    first = exporter(store, "sweep", "fleet.yaml", "--json", "-q", cwd=here)
    assert first.returncode == 0, first.stderr
    lost = f"{FOLDER}/{json.loads(first.stdout)['builds'][0]['build']}/manifest.json"
    in_store(store, f"s3.rm({lost!r})")
    again = exporter(store, "sweep", "fleet.yaml", cwd=here)
    assert again.returncode == 0, again.stderr
    assert "1 of 2 builds are in the store already" in again.stderr
    assert lost in objects(store)


def test_a_bucket_that_cannot_be_reached_is_one_line_before_anything_is_built(
    store: dict[str, str], here: Path
) -> None:
    spec = here / "fleet.yaml"
    for env, bucket in ((store, "no-such-bucket"), (environment(free_port()), "bucket")):
        spec.write_text(SPEC.replace("//bucket", f"//{bucket}"))
        ended = exporter(env, "sweep", "fleet.yaml", "-q", cwd=here)
        assert ended.returncode == 2
        assert ended.stderr.count("\n") == 1, ended.stderr
        assert f"store s3://{bucket}/sweeps/fleet cannot be written (" in ended.stderr
    assert not list(here.rglob("manifest.json"))
