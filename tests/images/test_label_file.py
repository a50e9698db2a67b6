"""Labels in a file: each form that is read, and one line for each that is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.errors import InputError
from exporter.images.label_file import read_labels

EXPECTED = {"a/1.png": "cat", "2.png": "a, dog"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.csv", 'file,label\na/1.png,cat\n2.png,"a, dog"\n'),
        ("x.csv", '\ufeffa/1.png,cat\n\n./2.png, "a, dog"\n'.replace(', "', ',"')),
        ("x.json", '{"a/1.png": "cat", "2.png": "a, dog"}'),
        ("x.json", '[{"file": "a/1.png", "label": "cat"}, {"file": "2.png", "label": "a, dog"}]'),
    ],
)
def test_each_form_says_the_same(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    assert read_labels(path) == EXPECTED


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("x.csv", "", "holds no label"),
        ("x.csv", "file,label\n", "holds no label"),
        ("x.csv", "a.png\n", "row 1 has 1 columns"),
        ("x.csv", "a.png,cat,dog\n", "row 1 has 3 columns"),
        ("x.csv", "a.png,cat\na.png,dog\n", "a.png is labelled 'cat' and 'dog'"),
        ("x.json", "{", "is no JSON"),
        ("x.json", "7", "expected an object"),
        ("x.json", '{"a.png": [1]}', "expected an object"),
    ],
)
def test_another_form_is_one_line(name: str, text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=told):
        read_labels(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read --labels .*gone.csv"):
        read_labels(tmp_path / "gone.csv")
