"""Packing a bundle: what goes in, what is refused, and that nothing is ever half-written."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from exporter.errors import ExporterError, GateError, InputError, UsageError
from exporter.pack import bundle as bundles
from exporter.pack.formats import pack
from exporter.pack.request import PackRequest
from exporter.progress import Silent
from exporter.runtime import load
from tests.packed import digits_build, digits_bundle, edited_build, files_of, pack_digits


def pack_build(build: Path, out: Path, **options: Any) -> Path:
    return pack(PackRequest(build, out=out, **options), Silent()).path


def tree(folder: Path) -> dict[str, str]:
    """Every file's hash."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def engine_of(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(e for e in manifest["engines"] if e["id"] == name)
    return found


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


@pytest.mark.parametrize("kind", ["bundle", "triton", "kserve", "node", "web"])
@pytest.mark.parametrize(
    "name", ["../../../escaped", "{here}/escaped", "..", ".", "a/b", "", "a\0b"]
)
def test_a_model_of_any_name_stays_inside_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str
) -> None:
    called = name.format(here=tmp_path)
    build = edited_build(tmp_path, lambda manifest: manifest["model"].update(name=called))
    uri = "s3://bucket" if kind == "kserve" else None
    box = tmp_path / "one" / "two"
    box.mkdir(parents=True)
    monkeypatch.chdir(box)
    before = set(tmp_path.rglob("*"))
    for out in (box / "out", None):
        with pytest.raises(InputError, match="is no file name"):
            pack(PackRequest(build, format=kind, out=out, storage_uri=uri), Silent())
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("kind", "name", "advice"),
    [
        (
            "bundle",
            "digits.zip",
            "give a folder, as in --out .*/digits or a file .*/digits.tar.zst",
        ),
        ("bundle", "digits.tar.gz", "writes no .gz file"),
        ("bundle", "digits.zst", "writes no .zst file"),
        ("bundle", "digits.TAR.ZST", "or a file .*/digits.tar.zst"),
        ("triton", "digits.tar.zst", "give a folder, as in --out .*/digits$"),
        ("node", "digits.tgz", "give a folder"),
        ("web", "digits.ZIP", "writes no .ZIP file"),
    ],
)
def test_no_folder_is_called_like_an_archive(
    tmp_path: Path, kind: str, name: str, advice: str
) -> None:
    with pytest.raises(UsageError, match=advice):
        pack_digits(tmp_path / name, format=kind)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"engines": ("ort-cpu.int4",)}, UsageError, "did you mean ort-cpu.int8"),
        ({"format": "bundel"}, UsageError, "did you mean bundle"),
        ({"slo_ms": 5.0}, UsageError, "--slo-ms concerns Triton, .*bundle.*triton or kserve"),
        ({"backend": "python"}, UsageError, "--backend concerns Triton, .* bundle"),
        ({"format": "node", "sign": Path("k")}, UsageError, "--sign concerns signatures, .* node"),
        ({"labels": Path("absent.txt")}, InputError, "cannot read --labels absent.txt"),
        ({"sign": Path("absent.pem")}, UsageError, "cannot read --sign absent.pem"),
    ],
)
def test_unusable_requests_leave_nothing(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        pack_build(digits_build(), tmp_path / "b", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["one\n", "a\n" * 11, "a\n" * 9 + "\n", "\xff"])
def test_labels_that_do_not_fit_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match="--labels"):
        pack_build(digits_build(), tmp_path / "b", labels=path)


def test_what_is_no_ed25519_key_does_not_sign(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text("no key")
    with pytest.raises(UsageError, match="no unencrypted Ed25519 private key"):
        pack_build(digits_build(), tmp_path / "b", sign=key)
    assert not (tmp_path / "b").exists()


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
    with pytest.raises(GateError, match=r"ort-cpu\.fp32 is off by"):
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


def test_the_model_card_says_what_was_measured() -> None:
    card = (digits_bundle() / "MODEL_CARD.md").read_text()
    manifest = json.loads((digits_bundle() / "manifest.json").read_text())
    for entry in manifest["engines"]:
        row = next(line for line in card.splitlines() if line.startswith(f"| {entry['id']} |"))
        assert entry["sha256"][:16] in row
        assert f"{entry['parity']['rel_l2']:.2g}" in row
        assert entry["receipt"]["verdict"] in row
    assert "mean 0.306, 0.306, 0.306 and std 0.323, 0.323, 0.323" in card
    assert manifest["model"]["weights"]["sha256"] in card
    assert "Untrained" not in card
    assert "Not measured: the evaluation data carries no labels" in card
    for section in ("Intended use and limits", "Data", "Accuracy", "Engines", "Preprocessing"):
        assert f"## {section}\n" in card


def test_text_of_the_manifest_cannot_break_out_of_a_table(tmp_path: Path) -> None:
    def hostile(manifest: dict[str, Any]) -> None:
        manifest["model"]["weights"]["source"] = "x | y\n# Certified safe <script>"

    card = (
        pack_build(edited_build(tmp_path, hostile), tmp_path / "b") / "MODEL_CARD.md"
    ).read_text()
    assert "| weights | x \\| y # Certified safe &lt;script> |" in card


def test_the_bill_of_materials_is_valid_cyclonedx() -> None:
    text = (digits_bundle() / "sbom.cdx.json").read_text()
    for version in (SchemaVersion.V1_6, SchemaVersion.V1_7):
        assert JsonStrictValidator(version).validate_str(text) is None
    bill = json.loads(text)
    assert bill["metadata"]["component"]["type"] == "machine-learning-model"
    engines = {c["name"]: c for c in bill["components"] if c["bom-ref"].startswith("engine:")}
    int8 = digits_bundle() / "engines/ort-cpu/int8.onnx"
    assert engines["ort-cpu.int8"]["components"][0]["hashes"] == [
        {"alg": "SHA-256", "content": hashlib.sha256(int8.read_bytes()).hexdigest()}
    ]
    libraries = {c["purl"] for c in bill["components"] if c["type"] == "library"}
    assert any(purl.startswith("pkg:pypi/onnxruntime@") for purl in libraries)
    assert "timestamp" not in bill["metadata"]
