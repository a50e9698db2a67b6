"""A store: a build is there when its manifest is, and that comes last."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from exporter.builds import manifest as manifests
from exporter.errors import InputError, UsageError
from exporter.fleet.store import Store
from tests import manifests as made


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """A folder with files and a manifest, which is not the last of their names."""
    folder = tmp_path / "build"
    (folder / "engines").mkdir(parents=True)
    for name in ("engines/fp32.onnx", "a.npz", "report.html"):
        (folder / name).write_bytes(name.encode())
    manifests.write(folder, made.resnet50())
    return folder


@pytest.fixture(params=["disk", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    yield Store(str(tmp_path / "s") if request.param == "disk" else "memory://s")
    fsspec.filesystem("memory").store.clear()


def test_what_was_put_is_there_whole(store: Store, build: Path) -> None:
    store.prepare()
    assert store.manifest("net-1") is None
    store.put(build, "net-1")
    manifest = store.manifest("net-1")
    assert manifest is not None
    assert manifest.model.name == "resnet50"
    system, root = fsspec.core.url_to_fs(store.uri)
    for path in build.rglob("*"):
        if path.is_file():
            name = path.relative_to(build).as_posix()
            assert system.cat_file(f"{root}/net-1/{name}") == path.read_bytes()
    store.prepare()  # once more is no harm


def test_a_copy_that_breaks_off_is_no_build(
    store: Store, build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = Store._write, list[str]()

    def breaking(self: Store, name: str, content: bytes) -> None:
        if name.endswith("manifest.json"):
            raise ConnectionError("gone")
        written.append(name)
        write(self, name, content)

    monkeypatch.setattr(Store, "_write", breaking)
    with pytest.raises(InputError, match=r"store .* cannot be written \(gone\)"):
        store.put(build, "net-1")
    assert len(written) == sum(path.is_file() for path in build.rglob("*")) - 1
    assert store.manifest("net-1") is None


def test_what_cannot_be_reached_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for uri, said in (
        (str(tmp_path / "file" / "s"), "cannot be written .*check the address and the access"),
        ("ftp://127.0.0.1:9/s", "Connection refused"),
    ):
        with pytest.raises(InputError, match=said):
            Store(uri).prepare()
    with pytest.raises(UsageError, match=r"nowhere://s: .*give a path, or a URI that fsspec knows"):
        Store("nowhere://s").prepare()


def test_a_damaged_record_is_said(build: Path, tmp_path: Path) -> None:
    shutil.copytree(build, tmp_path / "net-1")
    (tmp_path / "net-1" / "manifest.json").write_text("{")
    with pytest.raises(InputError, match=r"net-1/manifest.json is not valid JSON; remove"):
        Store(str(tmp_path)).manifest("net-1")
