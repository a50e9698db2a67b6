"""Which engines of a build may leave it, and with which goldens and labels."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.errors import InputError, NotReproducedError, UsageError
from exporter.pack.formats import pack
from exporter.pack.request import PackRequest
from exporter.progress import Silent
from exporter.runtime import load
from tests.packed import digits_build, digits_bundle, edited_build, files_of, pack_build


def engine_of(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(e for e in manifest["engines"] if e["id"] == name)
    return found


def test_chosen_engines_alone_are_packed(tmp_path: Path) -> None:
    out = pack_build(digits_build(), tmp_path / "b", engines=("ort-cpu.fp32",))
    assert [path for path in files_of(out) if path.endswith(".onnx")] == [
        "engines/ort-cpu/fp32.onnx"
    ]
    bundle = json.loads((out / "manifest.json").read_text())["bundle"]
    assert {entry["id"]: entry["skipped"] for entry in bundle["left_out"]} == {
        "ort-cpu.fp16": "not asked for",
        "ort-cpu.int8": "not asked for",
    }
    load(out).close()


def test_labels_name_the_classes(tmp_path: Path) -> None:
    names = tmp_path / "labels.txt"
    names.write_text("\n".join(f"digit {n}" for n in range(10)))
    out = pack_build(digits_build(), tmp_path / "b", labels=names)
    with np.load(out / "golden.npz") as goldens, load(out) as engine:
        best = engine.predict(goldens["images"][:1])[0][0]
        assert best.label == f"digit {goldens['outputs'][0].argmax()}"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_labels_from_any_editor_are_the_same(tmp_path: Path, encoding: str, newline: str) -> None:
    names = [f"Fläche {n}" for n in range(10)]
    path = tmp_path / "labels.txt"
    path.write_bytes(newline.join(names).encode(encoding))
    out = pack_build(digits_build(), tmp_path / "b", labels=path)
    assert (out / "labels.txt").read_bytes() == "".join(f"{name}\n" for name in names).encode()


@pytest.mark.parametrize("text", ["one\n", "a\n" * 11, "a\n" * 9 + "\n", "\xff"])
def test_labels_that_do_not_fit_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match="--labels"):
        pack_build(digits_build(), tmp_path / "b", labels=path)


def untrained(manifest: dict[str, Any]) -> None:
    manifest["model"]["weights"].update(trained=False, source="random initialisation, seed 0")
    for entry in manifest["engines"]:
        entry["trained"] = False


def test_untrained_weights_are_refused_unless_allowed(tmp_path: Path) -> None:
    build = edited_build(tmp_path, untrained)
    with pytest.raises(UsageError, match=r"untrained weights \(random.*--allow-untrained"):
        pack_build(build, tmp_path / "b")
    assert not (tmp_path / "b").exists()
    out = pack_build(build, tmp_path / "b", allow_untrained=True)
    assert "**Untrained weights.**" in (out / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize("kind", ["triton", "kserve", "node", "web"])
def test_every_format_refuses_untrained_weights(tmp_path: Path, kind: str) -> None:
    build = edited_build(tmp_path, untrained)
    options = {"storage_uri": "s3://bucket"} if kind == "kserve" else {}
    with pytest.raises(UsageError, match="untrained"):
        pack_build(build, tmp_path / "out", format=kind, **options)
    assert not (tmp_path / "out").exists()


def failed(manifest: dict[str, Any]) -> None:
    entry = engine_of(manifest, "ort-cpu.int8")
    entry["parity"]["passed"] = False


def rejected(manifest: dict[str, Any]) -> None:
    engine_of(manifest, "ort-cpu.int8")["files"][0]["path"] += ".rejected"


def unchecked(manifest: dict[str, Any]) -> None:
    engine_of(manifest, "ort-cpu.int8")["parity"] = {"skipped": "no data"}


@pytest.mark.parametrize(
    ("edit", "reason"),
    [(failed, "parity check failed"), (rejected, "was rejected"), (unchecked, "no data")],
)
def test_an_engine_that_did_not_pass_is_left_out(
    tmp_path: Path, edit: Callable[[dict[str, Any]], None], reason: str
) -> None:
    build = edited_build(tmp_path, edit)
    out = pack_build(build, tmp_path / "b")
    assert not (out / "engines/ort-cpu/int8.onnx").exists()
    assert reason in (out / "MODEL_CARD.md").read_text()
    with pytest.raises(UsageError, match=rf"ort-cpu\.int8 cannot be packed: .*{reason}"):
        pack_build(build, tmp_path / "c", engines=("ort-cpu.int8",))


def test_an_engine_that_was_never_built_is_left_out_with_its_reason(tmp_path: Path) -> None:
    def broken(manifest: dict[str, Any]) -> None:
        failed = {
            "id": "openvino.int8",
            "target": "openvino",
            "precision": "int8",
            "stage": "build",
            "reason": "no such operator",
        }
        manifest["failed_engines"] = [failed]

    build = edited_build(tmp_path, broken)
    reason = "it is not there, build failed: no such operator"
    out = pack_build(build, tmp_path / "b")
    left_out = json.loads((out / "manifest.json").read_text())["bundle"]["left_out"]
    assert left_out == [{"id": "openvino.int8", "skipped": reason}]
    assert reason in (out / "MODEL_CARD.md").read_text()
    with pytest.raises(UsageError, match=rf"openvino\.int8 cannot be packed: {reason}"):
        pack_build(build, tmp_path / "c", engines=("openvino.int8",))


@pytest.mark.parametrize("victim", ["engines/ort-cpu/int8.onnx", "onnx/resnet20-digits.fp16.onnx"])
def test_an_engine_that_changed_since_it_was_validated_is_refused(
    tmp_path: Path, victim: str
) -> None:
    build = edited_build(tmp_path, lambda manifest: None)
    path = build / victim
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 1
    path.write_bytes(contents)
    with pytest.raises(InputError, match=f"{Path(victim).name} is not the file that was validated"):
        pack_build(build, tmp_path / "b")
    path.unlink()
    with pytest.raises(InputError, match="cannot read"):
        pack_build(build, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_an_engine_that_answers_otherwise_than_validated_is_refused(tmp_path: Path) -> None:
    """The files are those of the manifest, but the goldens tell that they are another model's."""
    build = edited_build(tmp_path, lambda manifest: None)
    with np.load(build / "golden.npz") as arrays:
        changed = dict(arrays)
    changed["outputs"] = changed["outputs"][:, ::-1].copy()
    np.savez(build / "golden.npz", **changed)
    with pytest.raises(NotReproducedError, match=r"ort-cpu\.fp32 is off by"):
        pack_build(build, tmp_path / "b")


@pytest.mark.parametrize("what", ["nothing", "no manifest", "no goldens"])
def test_what_is_no_build_is_refused(tmp_path: Path, what: str) -> None:
    build = tmp_path / "build"
    if what != "nothing":
        shutil.copytree(digits_build(), build)
        (build / ("manifest.json" if what == "no manifest" else "golden.npz")).unlink()
    with pytest.raises(InputError):
        pack_build(build, tmp_path / "b")


def test_goldens_that_came_from_no_images_are_kept_as_tensors(tmp_path: Path) -> None:
    build = edited_build(tmp_path, lambda manifest: None)
    with np.load(build / "golden.npz") as arrays:
        changed = dict(arrays)
    changed["inputs"] = changed["inputs"] + np.float32(1e-3)
    with load(digits_bundle(), engine="ort-cpu.fp32") as engine:
        changed["outputs"] = engine.run(changed["inputs"])
    np.savez(build / "golden.npz", **changed)
    packed = pack(PackRequest(build, out=tmp_path / "b", engines=("ort-cpu.fp32",)), Silent())
    assert any("no 8-bit images" in note for note in packed.notes)
    with np.load(packed.path / "golden.npz") as goldens:
        assert "images" not in goldens
    load(packed.path).close()
