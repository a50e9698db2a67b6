"""`load` serves the engine that was validated, or nothing."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.runtime import (
    BundleError,
    GoldenError,
    InputError,
    NoEngineError,
    ServingError,
    load,
)
from exporter.runtime.bundle_files import SUMS
from tests.packed import copy_of, digits_bundle, files_of, on_a_cpu_with_vnni, pack_digits, resum


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle of this test's own."""
    return copy_of(digits_bundle(), tmp_path)


def edit_manifest(bundle: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_text(json.dumps(manifest))
    resum(bundle)


def edit_goldens(bundle: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = bundle / "golden.npz"
    with np.load(path) as arrays:
        changed = dict(arrays)
    edit(changed)
    np.savez(path, **changed)
    resum(bundle)


def engine_entry(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(e for e in manifest["engines"] if e["id"] == name)
    return found


@pytest.mark.parametrize("name", ["ort-cpu.fp32", "ort-cpu.fp16", "ort-cpu.int8"])
def test_every_engine_answers_its_goldens(name: str) -> None:
    with np.load(digits_bundle() / "golden.npz") as goldens:
        images, inputs, reference = goldens["images"], goldens["inputs"], goldens["outputs"]
        own = goldens[f"answers:{name}"]
    with load(digits_bundle(), engine=name) as engine:
        assert engine.id == name
        assert np.abs(engine(images) - own).max() < 1e-5
        assert np.abs(engine.run(inputs) - own).max() < 1e-5
    assert (own.argmax(1) == reference.argmax(1)).all()


def test_an_archive_serves_the_same(tmp_path: Path) -> None:
    archive = pack_digits(tmp_path / "digits.tar.zst").path
    with np.load(digits_bundle() / "golden.npz") as goldens:
        images = goldens["images"]
    with load(archive) as packed, load(digits_bundle()) as unpacked:
        assert packed.id == unpacked.id
        assert (packed(images) == unpacked(images)).all()
    assert list(tmp_path.iterdir()) == [archive]


def test_any_flipped_byte_is_found_and_its_file_named(bundle: Path) -> None:
    rng = np.random.default_rng(0)
    names = files_of(bundle)
    assert {"manifest.json", "golden.npz", "engines/ort-cpu/int8.onnx"} <= set(names)
    for name in names:
        path = bundle / name
        whole = path.read_bytes()
        edges = [0, len(whole) - 1]
        for position in [*edges, *rng.integers(0, len(whole), 6)]:
            changed = bytearray(whole)
            changed[position] ^= int(rng.integers(1, 256))
            path.write_bytes(changed)
            with pytest.raises(BundleError) as refused:
                load(bundle)
            assert name in str(refused.value)
        path.write_bytes(whole)
    load(bundle).close()


def test_any_flipped_byte_of_the_list_is_found(bundle: Path) -> None:
    path = bundle / SUMS
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= int(rng.integers(1, 256))
        path.write_bytes(changed)
        with pytest.raises(BundleError) as refused:
            load(bundle)
        assert any(name in str(refused.value) for name in (SUMS, *files_of(bundle)))


@pytest.mark.parametrize("size", [0, 1, 1000])
def test_a_truncated_file_is_found(bundle: Path, size: int) -> None:
    path = bundle / "engines/ort-cpu/int8.onnx"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(BundleError, match=r"engines/ort-cpu/int8\.onnx"):
        load(bundle)


def test_missing_and_foreign_files_are_named(bundle: Path) -> None:
    (bundle / "extra.so").write_text("")
    with pytest.raises(BundleError, match=r"extra\.so is not in SHA256SUMS"):
        load(bundle)
    (bundle / "extra.so").unlink()
    (bundle / "labels.txt").unlink()
    with pytest.raises(BundleError, match=r"labels\.txt is missing"):
        load(bundle)


@pytest.mark.parametrize("what", ["nothing", "empty", "build"])
def test_what_is_no_bundle_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / what
    if what != "nothing":
        path.mkdir()
    if what == "build":
        (path / "manifest.json").write_text("{}")
    with pytest.raises(BundleError):
        load(path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: m.update(schema=2), "another schema"),
        (lambda m: m.pop("bundle"), "KeyError"),
        (lambda m: m["bundle"]["tolerances"].clear(), "KeyError"),
        (lambda m: m["model"]["input"].update(shape=None), "TypeError"),
        (lambda m: m.update(engines=[]), "no engine"),
        (lambda m: m["engines"][0]["files"][0].update(path="../engine.onnx"), "not in SHA256SUMS"),
    ],
)
def test_a_malformed_manifest_is_refused(
    bundle: Path, edit: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit_manifest(bundle, edit)
    with pytest.raises(ServingError, match=message):
        load(bundle, engine="ort-cpu.fp32" if "json" in message or "not in" in message else None)


@pytest.mark.parametrize(
    "contents", [b"", b"PK\x03\x04 not really", b"\x93NUMPY"], ids=["empty", "zip", "npy"]
)
def test_unreadable_goldens_are_refused(bundle: Path, contents: bytes) -> None:
    (bundle / "golden.npz").write_bytes(contents)
    resum(bundle)
    with pytest.raises(BundleError, match=r"golden\.npz"):
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


def spoil_int8(arrays: dict[str, Any]) -> None:
    arrays["answers:ort-cpu.int8"] = arrays["answers:ort-cpu.int8"] * 1.1


def test_a_mismatch_fails_or_passes_on(
    bundle: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_cpu_with_vnni(monkeypatch)
    edit_goldens(bundle, spoil_int8)
    with pytest.raises(GoldenError, match=r"ort-cpu\.int8 does not answer .* relative error 0\.09"):
        load(bundle)
    with (
        caplog.at_level(logging.WARNING, "exporter.runtime"),
        load(bundle, on_mismatch="next") as engine,
    ):
        assert engine.id == "ort-cpu.fp32"
        assert dict(engine.passed_over)["ort-cpu.int8"].startswith("engine ort-cpu.int8 does not")
    assert "passing over ort-cpu.int8" in caplog.text
    with pytest.raises(GoldenError, match="no engine of"):
        load(bundle, engine="ort-cpu.int8", on_mismatch="next")


def test_one_wrong_golden_of_many_is_enough(bundle: Path) -> None:
    def swap(arrays: dict[str, Any]) -> None:
        answers = arrays["answers:ort-cpu.fp32"].copy()
        # Beyond the tolerance of 1e-5 for its row, within it for all rows together.
        answers[3, 2] += 1.7e-5 * np.linalg.norm(answers[3])
        arrays["answers:ort-cpu.fp32"] = answers

    edit_goldens(bundle, swap)
    with pytest.raises(GoldenError):
        load(bundle, engine="ort-cpu.fp32")


def test_an_engine_that_does_not_load_is_a_mismatch_too(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_cpu_with_vnni(monkeypatch)
    engine = bundle / "engines/ort-cpu/int8.onnx"
    engine.write_bytes(b"no ONNX file")
    resum(bundle)
    with pytest.raises(NoEngineError, match=r"onnxruntime .* does not load it"):
        load(bundle)
    load(bundle, on_mismatch="next").close()


def test_altered_files_are_refused_whatever_on_mismatch_says(bundle: Path) -> None:
    (bundle / "engines/ort-cpu/int8.onnx").write_bytes(b"no ONNX file")
    with pytest.raises(BundleError, match=r"int8\.onnx"):
        load(bundle, on_mismatch="next")


@pytest.mark.parametrize("key", ["mean", "std"])
def test_another_normalisation_than_the_goldens_is_found(bundle: Path, key: str) -> None:
    edit_manifest(bundle, lambda m: m["model"]["preprocessing"].update({key: [0.5, 0.5, 0.5]}))
    with pytest.raises(GoldenError, match="do not normalise"):
        load(bundle)


def test_labels_must_fit(bundle: Path) -> None:
    (bundle / "labels.txt").write_text("one\ntwo\n")
    resum(bundle)
    with pytest.raises(BundleError, match=r"labels\.txt has 2 lines for 10 outputs"):
        load(bundle)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "tpu"}, "device is 'tpu'"),
        ({"engine": "ort-cpu.int4"}, "no engine 'ort-cpu.int4'; it has ort-cpu.fp32"),
        ({"threads": 0}, "threads is 0"),
        ({"on_mismatch": "ignore"}, "on_mismatch is 'ignore'"),
        ({"public_key": "absent.pem"}, r"cannot read the public key absent\.pem"),
    ],
)
def test_unusable_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(digits_bundle(), **arguments)


def test_goldens_of_an_engine_that_never_ran_are_the_references(bundle: Path) -> None:
    def against_reference(manifest: dict[str, Any]) -> None:
        manifest["bundle"]["tolerances"]["ort-cpu.int8"] = {"against": "reference", "rel_l2": 0.2}

    edit_manifest(bundle, against_reference)
    edit_goldens(bundle, lambda arrays: arrays.pop("answers:ort-cpu.int8"))
    load(bundle, engine="ort-cpu.int8").close()
    edit_manifest(
        bundle,
        lambda m: m["bundle"]["tolerances"]["ort-cpu.int8"].update(rel_l2=1e-4),
    )
    with pytest.raises(GoldenError):
        load(bundle, engine="ort-cpu.int8")
