"""`load` serves the engine that was validated, or nothing."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.graph.files import serialize
from exporter.runtime import (
    BundleError,
    GoldenError,
    InputError,
    NoEngineError,
    load,
)
from exporter.runtime.bundle_files import SUMS
from tests.graphs import graph
from tests.packed import (
    digits_bundle,
    edit_goldens,
    edit_manifest,
    files_of,
    on_a_cpu_with_vnni,
    pack_digits,
    resum,
)


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


def test_an_engine_that_fails_on_the_goldens_is_a_mismatch_too(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It loads, and then ends in the runtime library's own error."""
    on_a_cpu_with_vnni(monkeypatch)
    path = bundle / "engines/ort-cpu/int8.onnx"
    model = graph(
        """g (float[N,3,32,32] input) => (float[N,10] logits) {
            shape = Constant <value_ints=[7, 10]> ()
            logits = Reshape(input, shape)
        }"""
    )
    path.write_bytes(serialize(model))
    resum(bundle)
    with pytest.raises(GoldenError, match=r"ort-cpu\.int8 fails on the golden inputs: .*Reshape"):
        load(bundle)
    with load(bundle, on_mismatch="next") as engine:
        assert engine.id != "ort-cpu.int8"


@pytest.mark.parametrize(
    ("signature", "said"),
    [
        ("(int64[N,3,32,32] x) => (int64[N,3,32,32] y) { y = Identity(x) }", "tensor\\(int64\\)"),
        ("(float[N,3,32,32] x, float[N] z) => (float[N] y) { y = Identity(z) }", "takes 2 inputs"),
        ("() => (float[2] y) { y = Constant <value_floats=[1.0, 2.0]> () }", r"takes \(\)"),
    ],
)
def test_an_engine_of_other_inputs_does_not_load(bundle: Path, signature: str, said: str) -> None:
    (bundle / "engines/ort-cpu/fp32.onnx").write_bytes(serialize(graph(f"g {signature}")))
    resum(bundle)
    with pytest.raises(NoEngineError, match=said):
        load(bundle, engine="ort-cpu.fp32")


def test_labels_that_are_no_text_are_refused(bundle: Path) -> None:
    (bundle / "labels.txt").write_bytes(b"\xff" * 9)
    resum(bundle)
    with pytest.raises(BundleError, match=r"labels\.txt is not UTF-8 text"):
        load(bundle)


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
        ({"threads": "2"}, "threads is '2'; give a whole number, 1 to 4096"),
        ({"threads": 2.5}, "threads is 2.5"),
        ({"threads": float("nan")}, "threads is nan"),
        ({"threads": True}, "threads is True"),
        ({"threads": 2**31}, "threads is 2147483648"),
        ({"public_key": 5}, "public_key is a int; give a path"),
        ({"on_mismatch": "ignore"}, "on_mismatch is 'ignore'"),
        ({"public_key": "absent.pem"}, r"cannot read the public key absent\.pem"),
    ],
)
def test_unusable_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(digits_bundle(), **arguments)


@pytest.mark.parametrize("path", [None, 7, os.fsencode("bundle"), ["bundle"]])
def test_what_is_no_path_is_refused(path: Any) -> None:
    with pytest.raises(InputError, match=r"bundle is a .*; give a path"):
        load(path)


def test_counts_of_numpy_are_whole_numbers_too() -> None:
    with load(digits_bundle(), engine="ort-cpu.fp32", threads=np.int64(1)) as engine:  # type: ignore[arg-type]
        images = np.zeros((1, 32, 32, 3), np.uint8)
        assert len(engine.predict(images, top=np.int32(3))[0]) == 3  # type: ignore[arg-type]


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
