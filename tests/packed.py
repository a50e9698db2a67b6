"""One real build and its bundle, made once for all tests that serve it."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.builds import manifest as manifests
from exporter.builds.request import ExportRequest
from exporter.pack.formats import Packed, pack
from exporter.pack.request import PackRequest
from exporter.pipeline import export_model
from exporter.progress import Silent
from exporter.runtime import choice
from exporter.runtime.bundle_files import SIGNATURE, SUMS
from tests.manifests import latency

SAMPLES = 64


@functools.cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="exporter-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def digits_build() -> Path:
    """`resnet20-digits`, trained, for the CPU in every precision; not measured."""
    return _exported("build")


@functools.cache
def baked_build() -> Path:
    """The same, taking images."""
    return _exported("baked", bake_preprocess=True)


def _exported(name: str, **options: Any) -> Path:
    from exporter.images.embedded import DIGITS

    _, held_out = DIGITS.splits()
    data = _folder() / "digits.npz"
    np.savez(data, input=DIGITS.normalise(held_out.images[:SAMPLES]))
    request = ExportRequest(
        targets=("ort-cpu",), data=data, out=_folder() / name, measure=False, threads=2, **options
    )
    outcome = export_model(request, Silent())
    assert outcome.manifest.failures == ()
    return outcome.folder


@functools.cache
def digits_bundle() -> Path:
    """The bundle of `digits_build`."""
    return pack_digits(_folder() / "bundle").path


def pack_digits(out: Path, **options: Any) -> Packed:
    """Packs `digits_build`; `options` are those of PackRequest."""
    return pack(PackRequest(digits_build(), out=out, **options), Silent())


def pack_build(build: Path, out: Path, **options: Any) -> Path:
    """Packs a build; `options` are those of PackRequest."""
    return pack(PackRequest(build, out=out, **options), Silent()).path


def edited_build(folder: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of `digits_build` whose manifest was edited."""
    build = Path(shutil.copytree(digits_build(), folder / "build"))
    path = build / "manifest.json"
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_text(json.dumps(manifest))
    return build


def on_a_gpu(manifest: dict[str, Any], target: str = "ort-cuda") -> None:
    """Says that the INT8 engine is one of a GPU."""
    next(one for one in manifest["engines"] if one["id"] == "ort-cpu.int8")["target"] = target


def measured(manifest: dict[str, Any], **p50_ms: dict[int, float]) -> None:
    """Gives engines latencies: precision -> batch -> p50; p99 is 1.25 times that."""
    for entry in manifest["engines"]:
        curve = p50_ms.get(entry["precision"], {})
        entry["latency_by_batch"] = [
            manifests.plain(latency(p50, 5.0, batch=batch)) for batch, p50 in curve.items()
        ]
        if curve:
            entry["latency"] = entry["latency_by_batch"][0]


def on_a_cpu_with_vnni(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever runs the tests: without VNNI the runtime takes an INT8 engine last."""
    monkeypatch.setattr(choice, "cpu_flags", lambda: frozenset({"avx2", "avx512_vnni"}))


def copy_of(bundle: Path, folder: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(bundle, folder / "bundle"))


def resum(bundle: Path) -> None:
    """Lists a bundle's files again, as somebody would who altered one of them knowingly."""
    from exporter.pack.checksums import write_sums

    write_sums(bundle)


def files_of(bundle: Path) -> list[str]:
    """Every file that SHA256SUMS lists."""
    return sorted(
        path.relative_to(bundle).as_posix()
        for path in bundle.rglob("*")
        if path.is_file() and path.name not in (SUMS, SIGNATURE)
    )


def loaded(manifest: dict[str, Any]) -> None:
    """Gives a build or a bundle a throughput: three processes of one thread were best."""
    figures = {"images_per_s": 93.0, "p50_ms": 21.0, "p99_ms": 24.0, "rounds": 30}
    gain = {"median": 1.2, "ci95": [1.1, 1.3]}
    layout = {"processes": 3, "streams": 1, "threads": 1, "batch": 8}
    best = {"engine": "ort-cpu.int8", **layout, **figures, "gain": gain, "best": True}
    slower = best | {"processes": 1, "threads": 3, "images_per_s": 78.0, "best": False}
    manifest["throughput"] = {
        "cores": 3, "callers": 3, "round_s": 0.5, "max_p99_ms": None, "left_out": {},
        "points": [slower, best, best | {"engine": "ort-cpu.fp32"}], "other_load": 0.01,
    }  # fmt: skip


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
