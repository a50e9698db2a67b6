"""Goldens that cannot be asked are refused."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.runtime import BundleError, ServingError, goldens, load
from tests.packed import edit_goldens, resum


@pytest.mark.parametrize(
    "contents", [b"", b"PK\x03\x04 not really", b"\x93NUMPY"], ids=["empty", "zip", "npy"]
)
def test_unreadable_goldens_are_refused(bundle: Path, contents: bytes) -> None:
    (bundle / "golden.npz").write_bytes(contents)
    resum(bundle)
    with pytest.raises(BundleError, match=r"golden\.npz"):
        load(bundle)


def header_byte(contents: bytes, local: int, central: int, value: int) -> bytes:
    """An archive in whose headers of members one byte is another."""
    changed = bytearray(contents)
    for signature, offset in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        position = changed.find(signature)
        while position >= 0:
            changed[position + offset] = value
            position = changed.find(signature, position + 1)
    return bytes(changed)


@pytest.mark.parametrize(("local", "central", "value"), [(6, 8, 1), (8, 10, 99)])
def test_encrypted_and_oddly_compressed_goldens_are_refused(
    bundle: Path, local: int, central: int, value: int
) -> None:
    path = bundle / "golden.npz"
    path.write_bytes(header_byte(path.read_bytes(), local, central, value))
    resum(bundle)
    with pytest.raises(BundleError, match=r"golden\.npz cannot be used"):
        load(bundle)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"outputs": np.float32(1)}, "'outputs' holds no rows of numbers"),
        ({"inputs": np.array(["a"] * 8)}, "'inputs' holds no rows of numbers"),
        ({"inputs": np.zeros((0, 3, 32, 32)), "outputs": np.zeros((0, 10))}, "lengths, or none"),
        ({"outputs": np.zeros((3, 10))}, "different lengths"),
        ({"images": np.zeros((2, 32, 32, 3), np.uint8)}, "different lengths"),
        ({"outputs": np.zeros((8, 4, 7))}, "10 lines for 28 outputs"),
        ({"images": np.zeros((8, 5, 5, 3), np.uint8)}, r"images have shape \(8, 5, 5, 3\)"),
        ({"inputs": np.zeros((8, 2), np.float32)}, "golden images do not|fails on the golden"),
        ({"answers:ort-cpu.fp32": np.zeros((8, 7), np.float32)}, "does not answer"),
    ],
)
def test_odd_goldens_are_refused(bundle: Path, arrays: dict[str, Any], message: str) -> None:
    def edit(found: dict[str, Any]) -> None:
        if len(arrays) == 2:
            found.clear()
        found.update(arrays)

    edit_goldens(bundle, edit)
    with pytest.raises(ServingError, match=message):
        load(bundle, engine="ort-cpu.fp32")


@pytest.mark.parametrize("missing", ["inputs", "outputs"])
def test_missing_goldens_are_named(bundle: Path, missing: str) -> None:
    edit_goldens(bundle, lambda arrays: arrays.pop(missing))
    with pytest.raises(BundleError, match=f"it holds no {missing}"):
        load(bundle)


class Payload:
    """What runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_pickled_goldens_are_not_unpickled(bundle: Path, tmp_path: Path) -> None:
    payload = np.array([Payload(tmp_path / "unpickled")], dtype=object)
    edit_goldens(bundle, lambda arrays: arrays.update(outputs=payload))
    with pytest.raises(BundleError, match=r"golden\.npz"):
        load(bundle)
    assert not (tmp_path / "unpickled").exists()


def refused_unread(bundle: Path, message: str) -> None:
    resum(bundle)
    tracemalloc.start()
    try:
        with pytest.raises(BundleError, match=message):
            load(bundle)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 32 << 20


def test_goldens_that_unpack_to_too_much_are_refused(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(bundle / "golden.npz", inputs=np.zeros(64 << 20, np.uint8))
    assert (bundle / "golden.npz").stat().st_size < 1 << 20
    monkeypatch.setattr(goldens, "MAX_UNPACKED_BYTES", 32 << 20)
    refused_unread(bundle, r"it unpacks to 67,108,992 bytes, at most 33,554,432")


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_an_array_that_announces_more_than_it_holds_is_refused(
    bundle: Path, version: tuple[int, int]
) -> None:
    """NumPy makes room for all of it before it reads any."""
    array = io.BytesIO()
    np.lib.format.write_array(array, np.zeros((8, 10), np.float32), version)
    announced = array.getvalue().replace(b"(8, 10), }" + 10 * b" ", b"(8, 1000000000), }  ")
    assert announced != array.getvalue()
    assert len(announced) == len(array.getvalue())
    with zipfile.ZipFile(bundle / "golden.npz", "w") as archive:
        archive.writestr("inputs.npy", announced)
    refused_unread(bundle, r"inputs\.npy announces 32,000,000,000 bytes and has 320")
