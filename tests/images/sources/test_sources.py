"""The same pictures come out of every form and store, and what is no form is told in one line."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.registry import known_implementations

from exporter.errors import InputError, MissingDependencyError, UsageError
from exporter.images.sources import source as sources
from exporter.images.sources.opening import open_source
from exporter.images.sources.parquet import Columns
from exporter.images.sources.source import Encoded, Source, Unread, batches
from tests.images.sources.stores import ALL, folder, label, listed, parquet, png, tar, write


@pytest.fixture(params=["", "memory://"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A place on the disk, and in a store that is none."""
    yield f"memory://{tmp_path.name}" if request.param else str(tmp_path)
    fsspec.filesystem("memory").store.clear()


def pictures(source: Source) -> list[Encoded]:
    return [one for part in source.parts for one in part.pictures()]


def _named(uri: str) -> str:
    return uri.rpartition("/")[2]


FORMS: dict[str, Callable[[str], str]] = {
    "folder": lambda root: folder(f"{root}/pictures"),
    "list": lambda root: listed(f"{root}/all.csv", _named(folder(f"{root}/p", classes=False))),
    "parquet": lambda root: parquet(f"{root}/all.parquet"),
    "tar": lambda root: tar(f"{root}/all-000.tar"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_pictures_and_labels(root: str, form: str) -> None:
    found = open_source(FORMS[form](root))
    assert {(one.content, one.label) for one in pictures(found)} == {
        (png(number), label(number)) for number in ALL
    }
    assert found.labelled
    all_labels = frozenset(label(number) for number in ALL)
    assert found.labels == (None if form == "tar" else all_labels)
    assert found.count == (None if form == "tar" else 40)
    assert "/" not in found.name


def test_a_part_is_the_same_whenever_it_is_read_and_batches_stay_inside(root: str) -> None:
    found = open_source(parquet(f"{root}/all.parquet"))
    assert [part.count for part in found.parts] == [16, 16, 8]
    assert [len(batch) for part in found.parts for batch in batches(part, 8)] == [8] * 5
    last = found.parts[-1]
    assert list(last.pictures()) == list(last.pictures())
    assert next(last.pictures()).name == "0032.png"


def test_a_folder_of_tables_and_a_pattern_are_all_of_them(root: str) -> None:
    parquet(f"{root}/t/a.parquet", ALL[:10])
    parquet(f"{root}/t/b.parquet", ALL[10:])
    for uri in (f"{root}/t", f"{root}/t/*.parquet"):
        assert [one.content for one in pictures(open_source(uri))] == [png(n) for n in ALL]
    assert open_source(f"{root}/t/b*").count == 30
    tar(f"{root}/w/a-0.tar", ALL[:10])
    tar(f"{root}/w/a-1.tar", ALL[10:])
    assert len(open_source(f"{root}/w/a-*.tar").parts) == 2
    assert len(pictures(open_source(f"{root}/w"))) == 40


def test_named_columns_are_taken(root: str) -> None:
    uri = parquet(
        f"{root}/x.parquet", ALL[:2], jpeg=[png(7), png(8)], kind=["a", "b"], id=["p", "q"]
    )
    found = open_source(uri, Columns("jpeg", "kind", "id"))
    assert pictures(found) == [Encoded("p", png(7), "a"), Encoded("q", png(8), "b")]
    assert found.labels == frozenset("ab")
    assert pictures(open_source(uri, Columns("jpeg")))[1].name == "x.parquet[1]"


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (
            Columns("picture"),
            r"no column 'picture'; it has image, label; name yours with --image-col",
        ),
        (Columns(label="kind"), "no column 'kind'"),
        (Columns("label"), "column 'label' holds int64; expected the bytes of pictures"),
    ],
)
def test_a_table_without_the_column_is_refused(root: str, columns: Columns, said: str) -> None:
    with pytest.raises(InputError, match=said):
        open_source(parquet(f"{root}/x.parquet", ALL[:1]), columns)


def test_columns_are_refused_where_there_are_none(root: str) -> None:
    with pytest.raises(UsageError, match=r"columns are named, and .* is no Parquet"):
        open_source(folder(f"{root}/p", ALL[:1]), Columns("jpeg"))


def test_what_is_not_there_is_said(root: str) -> None:
    write(f"{root}/none/readme.md", b"#")
    for uri, said in (
        (f"{root}/nothing", "nothing there"),
        (f"{root}/*.tar", "nothing there"),
        (f"{root}/none", "no image in it"),
        (
            f"{root}/none/readme.md",
            "expected a folder of pictures, .parquet, .tar files, or a list",
        ),
    ):
        with pytest.raises(InputError, match=said):
            open_source(uri)


def test_stores_that_cannot_be_used_are_one_line() -> None:
    with pytest.raises(UsageError, match=r"Protocol not known: nowhere"):
        open_source("nowhere://bucket/x")
    with pytest.raises(
        InputError, match=r"--data ftp://127.0.0.1:9/x.tar cannot be read \(Connection refused"
    ):
        open_source("ftp://127.0.0.1:9/x.tar")


def test_a_store_whose_package_is_absent_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        known_implementations,
        "absent",
        {
            "class": "no_such_package.Store",
            "protocol": "absent",
            "err": "Install s3fs to access S3",
        },
    )
    with pytest.raises(MissingDependencyError, match="absent://bucket: Install s3fs"):
        open_source("absent://bucket")


def test_a_file_that_goes_away_is_one_picture_less(tmp_path: Path) -> None:
    found = open_source(folder(str(tmp_path / "p"), ALL[:3], classes=False))
    (tmp_path / "p" / "0001.png").unlink()
    names = [(one.name, one.content) for one in pictures(found)]
    assert names[0] == ("0000.png", png(0))
    assert names[1][0] == "0001.png"
    assert names[1][1] == Unread("cannot be read (No such file or directory)")
    assert len(names) == 3


def test_lists_take_paths_from_their_own_folder(root: str) -> None:
    folder(f"{root}/a/p", ALL[:2], classes=False)
    write(f"{root}/a/list.txt", b"p/0000.png\n\np/0001.png\n")
    found = open_source(f"{root}/a/list.txt")
    assert [one.content for one in pictures(found)] == [png(0), png(1)]
    assert not found.labelled


def test_a_list_here_names_pictures_elsewhere_in_one_store(tmp_path: Path) -> None:
    folder("memory://elsewhere/p", ALL[:2], classes=False)
    uris = [f"memory://elsewhere/p/{number:04}.png" for number in ALL[:2]]
    path = tmp_path / "list.txt"
    path.write_text("\n".join(uris))
    assert [one.content for one in pictures(open_source(str(path)))] == [png(0), png(1)]
    path.write_text(f"{uris[0]}\nhere.png\n")
    with pytest.raises(InputError, match=r"pictures of several stores \(its own, memory://\)"):
        open_source(str(path))
    fsspec.filesystem("memory").store.clear()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\n\n", "names no picture"),
        (b"a.png,1\nb.png\n", "PATH,LABEL, in each line"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b'"a.png,1\n', "is no CSV"),
    ],
)
def test_what_is_no_list_is_refused(root: str, content: bytes, said: str) -> None:
    write(f"{root}/x.csv", content)
    with pytest.raises(InputError, match=said):
        open_source(f"{root}/x.csv")


@pytest.mark.parametrize("name", ["x.parquet", "x.tar"])
def test_a_damaged_file_is_named(root: str, name: str) -> None:
    write(f"{root}/{name}", b"nothing of the kind" * 100)
    with pytest.raises(InputError, match=rf"--data .*{name} cannot be read \("):
        open_source(f"{root}/{name}")


def test_a_tar_without_labels_has_none_and_a_mixed_one_is_refused(root: str) -> None:
    found = open_source(tar(f"{root}/plain.tar", ALL[:3], classes=False))
    assert not found.labelled
    assert [one.label for one in pictures(found)] == [None] * 3
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as into:
        for name, content in (("a.cls", b"1"), ("a.png", png(0)), ("b.png", png(1))):
            member = tarfile.TarInfo(f"some/{name}")
            member.size = len(content)
            into.addfile(member, io.BytesIO(content))
    write(f"{root}/mixed.tar", stream.getvalue())
    mixed = open_source(f"{root}/mixed.tar")
    assert mixed.labelled
    with pytest.raises(InputError, match=r"some/b.png has no .cls beside it"):
        pictures(mixed)


def test_a_folder_of_odd_depths_has_no_labels_and_says_so(root: str) -> None:
    folder(f"{root}/p", ALL[:2])
    write(f"{root}/p/deep/er/x.png", png(0))
    write(f"{root}/p/old.gif", b"GIF")
    found = open_source(f"{root}/p")
    assert not found.labelled
    assert found.notes == (
        "deep/er/x.png is not in a sub-folder of its class, so there are no labels",
    )
    assert found.unreadable == ("old.gif is in a format that is not read",)


def test_files_are_read_a_few_ahead_and_not_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    system: Any = type(fsspec.filesystem("memory"))
    cat = system.cat

    def counted(self: Any, paths: list[str], **options: Any) -> Any:
        asked.append(len(paths))
        return cat(self, paths, **options)

    monkeypatch.setattr(system, "cat", counted)
    folder("memory://ahead", ALL, classes=False)
    (part,) = open_source("memory://ahead").parts
    next(iter(part.pictures()))
    assert asked == [16]
    assert sources.PART == 64
    fsspec.filesystem("memory").store.clear()
