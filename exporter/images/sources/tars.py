"""Pictures in WebDataset's tars: members of one key are a sample, 0001.jpg with 0001.cls.

A tar is read from its begin to its end and is a part of its own; that is what WebDataset's shards
are made for.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from exporter.errors import InputError
from exporter.images.picture_folder import SUFFIXES
from exporter.images.sources.source import Encoded, Source
from exporter.images.sources.storage import opened_file, reaching

LABEL: Final = "cls"
"""The member that holds a class's number or name."""
_LARGEST: Final = 1 << 28
"""Of one member, in bytes: more than any picture that is taken."""


@dataclass(frozen=True)
class Tar:
    """One tar, compressed or not."""

    uri: str
    file: str
    """As a picture's name begins."""
    labelled: bool

    @property
    def count(self) -> None:
        """Nobody knows before it is read."""
        return

    def pictures(self) -> Iterator[Encoded]:
        """A sample each: its first picture, with its label."""
        with opened_file(self.uri) as stream, reaching(self.uri):
            key, picture, label = "", None, None
            with tarfile.open(fileobj=stream, mode="r|*") as tar:
                for member in tar:
                    if not member.isfile() or member.size > _LARGEST:
                        continue
                    folder, slash, name = member.name.rpartition("/")
                    base, _, extension = name.partition(".")
                    if f"{folder}{slash}{base}" != key:
                        if picture is not None:
                            yield self._sample(*picture, label)
                        key, picture, label = f"{folder}{slash}{base}", None, None
                    contents = tar.extractfile(member)
                    assert contents is not None, "it is a file"
                    if picture is None and f".{extension}".lower().endswith(SUFFIXES):
                        picture = (member.name, contents.read())
                    elif extension == LABEL:
                        label = contents.read(4096).decode("utf-8", "replace").strip()
            if picture is not None:
                yield self._sample(*picture, label)

    def _sample(self, name: str, content: bytes, label: str | None) -> Encoded:
        if self.labelled and label is None:
            raise InputError(
                f"--data {self.uri}: {name} has no .{LABEL} beside it, and the first sample has; "
                "give each one, or none"
            )
        return Encoded(f"{self.file}/{name}", content, label if self.labelled else None)


def open_tars(uris: list[str]) -> Source:
    """The samples of some tars, in order; labelled, where the first sample is.

    Raises:
        InputError: no tar, or no picture in the first one.
    """
    first = next(Tar(uris[0], "", labelled=False).pictures(), None)
    if first is None:
        raise InputError(f"--data {uris[0]}: no image in it ({', '.join(SUFFIXES[:4])}, ...)")
    labelled = _has_label(uris[0], first.name.lstrip("/"))
    return Source(
        name=f"WebDataset {uris[0].rpartition('/')[2]}" + (" and more" if len(uris) > 1 else ""),
        parts=tuple(Tar(uri, uri.rpartition("/")[2], labelled) for uri in uris),
        labelled=labelled,
    )


def _has_label(uri: str, picture: str) -> bool:
    """Whether the sample of a picture has a label, wherever among its members."""
    folder, slash, name = picture.rpartition("/")
    key = f"{folder}{slash}{name.partition('.')[0]}."
    with opened_file(uri) as stream, reaching(uri), tarfile.open(fileobj=stream, mode="r|*") as tar:
        met = False
        for member in tar:
            if member.name == f"{key}{LABEL}":
                return True
            if met and not member.name.startswith(key):
                return False
            met = met or member.name == picture
    return False
