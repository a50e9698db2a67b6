"""Writing a bundle: what goes in, and that nothing is ever half-written."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import zstandard

from exporter.errors import ExporterError, InputError, UsageError
from exporter.pack import bundle as bundles
from tests.packed import digits_build, digits_bundle, files_of, pack_build, pack_digits


def tree(folder: Path) -> dict[str, str]:
    """Every file's hash."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_bundle_holds_what_serving_needs() -> None:
    assert files_of(digits_bundle()) == [
        "MODEL_CARD.md",
        "engines/ort-cpu/fp32.onnx",
        "engines/ort-cpu/int8.onnx",
        "golden.npz",
        "labels.txt",
        "manifest.json",
        "onnx/resnet20-digits.fp16.onnx",
        "sbom.cdx.json",
    ]
    manifest = json.loads((digits_bundle() / "manifest.json").read_text())
    built = json.loads((digits_build() / "manifest.json").read_text())
    assert manifest["engines"] == built["engines"]
    assert manifest["bundle"]["tolerances"]["ort-cpu.fp32"] == {
        "against": "engine",
        "rel_l2": 1e-5,
    }


def test_goldens_are_the_builds_with_their_images_and_the_engines_answers() -> None:
    with (
        np.load(digits_bundle() / "golden.npz") as packed,
        np.load(digits_build() / "golden.npz") as built,
    ):
        assert (packed["inputs"] == built["inputs"]).all()
        assert (packed["outputs"] == built["outputs"]).all()
        images = packed["images"]
        again = (images / 255.0 - 0.306) / 0.323
        assert np.abs(again.transpose(0, 3, 1, 2) - packed["inputs"]).max() < 1e-6
        for name in ("ort-cpu.fp32", "ort-cpu.fp16", "ort-cpu.int8"):
            own = packed[f"answers:{name}"]
            assert 0 < np.abs(own - packed["outputs"]).max() < 2


@pytest.mark.parametrize("name", ["again", "again.tar.zst"])
def test_the_same_build_packs_to_the_same_bytes(tmp_path: Path, name: str) -> None:
    first = pack_digits(tmp_path / "first" / name).path
    second = pack_digits(tmp_path / "second" / name).path
    if first.is_file():
        assert first.read_bytes() == second.read_bytes()
    else:
        assert tree(first) == tree(second)


def test_nothing_of_this_machine_is_inside(tmp_path: Path) -> None:
    archive = pack_digits(tmp_path / "digits.tar.zst").path
    with archive.open("rb") as stream:
        contents = zstandard.ZstdDecompressor().stream_reader(stream).read()
    node = os.uname().nodename
    traces = [str(digits_build().parent), str(tmp_path), str(Path.home())]
    for trace in [*traces, *([node] if len(node) > 5 else [])]:  # "vm" is in any weights
        assert trace.encode() not in contents, trace


def test_what_is_no_ed25519_key_does_not_sign(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text("no key")
    with pytest.raises(UsageError, match="no unencrypted Ed25519 private key"):
        pack_build(digits_build(), tmp_path / "b", sign=key)
    assert not (tmp_path / "b").exists()


def test_packing_again_replaces_a_bundle_and_nothing_else(tmp_path: Path) -> None:
    out = pack_digits(tmp_path / "b").path
    before = tree(out)
    (out / "engines/ort-cpu/fp32.onnx").unlink()
    pack_digits(out)
    assert tree(out) == before
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="was not packed by us"):
        pack_digits(mine)
    with pytest.raises(UsageError, match="is a file"):
        pack_digits(mine / "thesis.txt")
    folder = tmp_path / "folder.tar.zst"
    folder.mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        pack_digits(folder)
    assert (mine / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("name", ["b", "b.tar.zst"])
@pytest.mark.parametrize("moment", ["write_sums", "model_card", "_check"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interruption_leaves_what_was_there(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    moment: str,
    error: BaseException | type[BaseException],
) -> None:
    out = pack_digits(tmp_path / name).path
    before = out.read_bytes() if out.is_file() else tree(out)

    def stop(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(bundles, moment, stop)
    with pytest.raises((KeyboardInterrupt, InputError)) as raised:
        pack_digits(out)
    if raised.type is InputError:
        assert "No space left on device" in str(raised.value)
    assert (out.read_bytes() if out.is_file() else tree(out)) == before
    assert list(tmp_path.iterdir()) == [out]


def test_an_unwritable_place_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExporterError, match="choose another place with --out"):
        pack_digits(tmp_path / "file" / "b")
