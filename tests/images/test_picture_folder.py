"""What is found below a folder: through links, once, and nothing is left out silently."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.artifact import Skipped
from exporter.errors import InputError
from exporter.images.picture_folder import class_numbers, find_pictures


def fill(folder: Path, count: int, suffix: str = ".png") -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{number}{suffix}" for number in range(count)]
    for file in files:
        file.write_bytes(b"")
    return files


def test_linked_folders_and_files_are_followed(tmp_path: Path) -> None:
    fill(tmp_path / "store" / "a", 2)
    one = fill(tmp_path / "store" / "b", 3)[0]
    data = tmp_path / "data"
    own = fill(data / "own", 1, ".JPG")
    (data / "a").symlink_to(tmp_path / "store" / "a")
    (data / "one.png").symlink_to(one)
    expected = [data / "a" / "0.png", data / "a" / "1.png", data / "one.png", *own]
    assert find_pictures(data) == sorted(expected)


def test_a_folder_is_entered_once_whatever_leads_to_it(tmp_path: Path) -> None:
    files = fill(tmp_path / "a", 2)
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "z").symlink_to(tmp_path / "a")
    assert find_pictures(tmp_path) == files


@pytest.mark.parametrize("name", ["x.jpg", "class3"])
def test_links_to_nothing_are_named_and_counted(name: str, tmp_path: Path) -> None:
    fill(tmp_path, 4)
    (tmp_path / name).symlink_to("/unmounted/x")
    with pytest.raises(InputError, match=f"{name} is a link to /unmounted/x, where nothing is; "):
        find_pictures(tmp_path)
    for number in range(19):
        (tmp_path / f"z{number}.png").symlink_to("/unmounted/y")
    with pytest.raises(InputError, match=f"{name} .+, and 19 more like it"):
        find_pictures(tmp_path)


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone cannot be read \(No such file or directory\)"):
        find_pictures(tmp_path / "gone")


def test_an_empty_folder_says_what_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"no image in it \(\.jpg, "):
        find_pictures(tmp_path)


def test_sub_folders_are_classes_or_say_why_not(tmp_path: Path) -> None:
    flat = fill(tmp_path / "flat", 3)
    assert class_numbers(tmp_path / "flat", flat, 2) is None
    cats, dogs = (fill(tmp_path / "pets" / name, 2) for name in ("cats", "dogs"))
    pets = tmp_path / "pets"
    assert class_numbers(pets, [*cats, *dogs], 2) == {"cats": 0, "dogs": 1}
    too_few = class_numbers(pets, [*cats, *dogs], 10)
    assert too_few == Skipped("2 sub-folders have pictures, the model has 10 classes")
    outside = class_numbers(pets, [*cats, *dogs, *fill(pets, 1)], 2)
    assert outside == Skipped("0.png is not in a sub-folder of its class")
