"""Names that are not UTF-8: refused before anything is computed, wherever they stand."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import exporter
from exporter.disk.names import check_name

CAFE = os.fsdecode(b"caf\xe9")
"""As Latin-1 writes it."""


@pytest.mark.parametrize("name", ["café", "a b", "図", "x" * 300])
def test_names_in_utf8_pass(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ("resnet20-digits", {"out": CAFE}),
        ("resnet20-digits", {"data": Path(CAFE, "x.npz")}),
        (f"{CAFE}.onnx", {}),
        ("resnet20", {"weights": f"{CAFE}.pt"}),
    ],
)
def test_a_name_in_latin_1_is_refused_first(
    source: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(exporter.InputError, match=r"b'.*caf\\xe9.*' is not UTF-8"):
        exporter.export(source, measure=False, **options)
    assert list(tmp_path.iterdir()) == []


def test_so_is_a_working_folder_that_the_build_would_lie_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / CAFE).mkdir()
    monkeypatch.chdir(tmp_path / CAFE)
    with pytest.raises(exporter.InputError, match=r"caf\\xe9/build/resnet20-digits' is not UTF-8"):
        exporter.export("resnet20-digits", measure=False)
