"""The raw file: what is written is read back, and only a whole run has its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.record import KIND, Recorder, read_events
from exporter.errors import InputError


def test_events_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "raw" / "run.jsonl"
    with Recorder(path, {"seed": 3}) as recorder:
        recorder.write("round", name="a", samples_s=[0.1, 1 / 3], energy_j=None)
        assert not path.exists()
    header, event = read_events(path)
    assert (header["event"], header["kind"], header["seed"]) == ("header", KIND, 3)
    assert event == {"event": "round", "name": "a", "samples_s": [0.1, 1 / 3], "energy_j": None}
    assert [entry.name for entry in path.parent.iterdir()] == ["run.jsonl"]


def test_a_run_that_ends_early_keeps_what_it_has_under_another_name(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with pytest.raises(KeyboardInterrupt), Recorder(path, {}) as recorder:
        recorder.write("group", group="g")
        raise KeyboardInterrupt
    assert not path.exists()
    assert path.with_name("run.jsonl.partial").read_text().count("\n") == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [("nothing\n", "is not JSON lines"), ("[]\n", "no raw file"), ('{"kind": "x"}\n', "no raw")],
)
def test_another_file_is_refused(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "file.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=words):
        read_events(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*gone\.jsonl"):
        read_events(tmp_path / "gone.jsonl")
