"""`exporter cache`: what is kept is shown, cleared where that is wanted, and never in the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from exporter.commands import cache
from tests.test_cli import call, check_refused


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with a file of ranges."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = tmp_path / "resnet-exporter" / "ranges" / "a.ranges.json"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x" * 3_000_000)
    return file


def test_it_says_where_how_large_and_what(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text, err = call(capsys, "cache")
    assert (code, err) == (0, "")
    assert f"{kept.parents[1]}: 3.0 MB" in text
    assert "calibrated ranges of INT8" in text
    told = json.loads(call(capsys, "cache", "--json")[1])
    assert told["kept"] == [
        {"name": "ranges", "what": "calibrated ranges of INT8", "files": 1, "bytes": 3_000_000}
    ]


def test_it_is_cleared_only_where_that_is_said_twice(
    kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_refused(capsys, "here add --yes", "cache", "--clear")
    assert kept.is_file()
    code, text, _ = call(capsys, "cache", "--clear", "--yes")
    assert code == 0
    assert "0.0 MB" in text
    assert list(kept.parents[1].iterdir()) == []


def test_a_cache_that_cannot_be_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    code, text, _ = call(capsys, "cache", "--clear", "--yes")
    assert code == 0
    assert "cannot be written: nothing more is kept" in text
    nowhere = cache.Cache(None, False, ())
    cache.clear(nowhere)
    assert json.loads(nowhere.to_json())["folder"] is None


def test_every_kind_that_is_kept_is_explained() -> None:
    root = Path(cache.__file__).parents[1]
    code = "".join(path.read_text(encoding="utf-8") for path in root.rglob("*.py"))
    for kind in cache.KINDS:
        assert f'cache_folder("{kind}")' in code
    assert code.count('cache_folder("') == len(cache.KINDS)
