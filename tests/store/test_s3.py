"""Pictures in a real object server on this machine: `s3://` through s3fs to moto's server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images.sources.stores import folder, parquet, tar
from tests.packed import digits_build
from tests.store.server import environment, exporter, free_port, in_store, serving

pytestmark = pytest.mark.store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a process that reaches the server; the pictures are in it."""
    made = tmp_path_factory.mktemp("store")
    folder(str(made / "p"))
    parquet(str(made / "all.parquet"))
    tar(str(made / "w-000.tar"))
    with serving() as env:
        in_store(env, f"s3.put({str(made) + '/'!r}, 'bucket/data', recursive=True)")
        yield env


@pytest.mark.parametrize("uri", ["p", "all.parquet", "w-*.tar"])
def test_what_is_in_a_bucket_is_evaluated(store: dict[str, str], uri: str, tmp_path: Path) -> None:
    arguments = ("evaluate", str(digits_build()), "--engine", "ort-cpu.int8", "--json", "-q")
    there = exporter(store, *arguments, "--data", f"s3://bucket/data/{uri}")
    assert there.returncode == 0, there.stderr
    here = exporter(store, *arguments, "--data", folder(str(tmp_path / "p")))
    found, expected = json.loads(there.stdout), json.loads(here.stdout)
    assert found["images"] == 40
    assert found["engines"] == expected["engines"]


def test_a_bucket_that_cannot_be_reached_is_one_line(store: dict[str, str]) -> None:
    arguments = ("evaluate", str(digits_build()), "-q", "--data")
    for env, uri, said in (
        (store, "s3://no-such-bucket/p", "nothing there"),
        (environment(free_port()), "s3://bucket/p", "--data s3://bucket/p cannot be read ("),
    ):
        ended = exporter(env, *arguments, uri)
        assert ended.returncode == 2
        assert ended.stderr.count("\n") == 1, ended.stderr
        assert said in ended.stderr
