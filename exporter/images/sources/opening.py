"""Which source a URI is."""

from __future__ import annotations

from typing import Any, Final

from exporter.errors import InputError, UsageError
from exporter.images.sources.files import open_folder, open_list
from exporter.images.sources.parquet import Columns, open_parquet
from exporter.images.sources.source import Source
from exporter.images.sources.storage import is_local, reaching, resolved
from exporter.images.sources.tars import open_tars

PARQUET: Final = (".parquet",)
TARS: Final = (".tar", ".tar.gz", ".tgz")
LISTS: Final = (".txt", ".csv")


def open_source(uri: str, columns: Columns = Columns()) -> Source:  # noqa: B008 - frozen
    """The pictures at a path or a URI; `*` stands for any part of a file's name.

    Raises:
        InputError: nothing is there, it cannot be reached, or it is nothing of these.
        UsageError: columns are named, and it is no Parquet.
        MissingDependencyError: a package that reads it is not installed.
    """
    system, path = resolved(uri)
    with reaching(uri):
        matches = sorted(system.glob(path)) if "*" in path else [path]
        is_folder = len(matches) == 1 and system.isdir(matches[0])
        inside = sorted(system.find(matches[0])) if is_folder and not is_local(uri) else []
        if is_folder and is_local(uri):
            inside = sorted(system.ls(matches[0], detail=False))
        there = bool(matches) and (is_folder or system.exists(matches[0]))
    if not there:
        raise InputError(f"--data {uri}: nothing there")
    found = [one for one in inside if one.endswith(PARQUET + TARS)] or matches
    uris = [_uri(system, one) for one in found]
    if all(one.endswith(PARQUET) for one in found):
        return open_parquet(uris, columns)
    if columns != Columns():
        raise UsageError(f"columns are named, and --data {uri} is no Parquet; leave them out")
    if all(one.endswith(TARS) for one in found):
        return open_tars(uris)
    if is_folder:
        return open_folder(uri, system, matches[0])
    if len(found) == 1 and found[0].endswith(LISTS):
        return open_list(uris[0])
    raise InputError(
        f"--data {uri}: expected a folder of pictures, {', '.join(PARQUET + TARS[:1])} files, or a "
        f"list of pictures ({', '.join(LISTS)})"
    )


def _uri(system: Any, path: str) -> str:
    protocol = system.protocol if isinstance(system.protocol, str) else system.protocol[0]
    return path if protocol in {"file", "local"} else str(system.unstrip_protocol(path))
