"""What every format refuses before it writes anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from exporter.errors import InputError, UsageError
from exporter.pack.formats import pack
from exporter.pack.request import PackRequest
from exporter.progress import Silent
from tests.packed import digits_build, edited_build, pack_build, pack_digits


@pytest.mark.parametrize("kind", ["bundle", "triton", "kserve", "mlflow", "ovms", "node", "web"])
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
