"""Pictures in Parquet: a column with their bytes, as Hugging Face's `datasets` writes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from exporter.errors import InputError, MissingDependencyError, install_command
from exporter.images.sources.source import Encoded, Source, Unread
from exporter.images.sources.storage import opened_file, reaching

IMAGE: Final = "image"
LABEL: Final = "label"
_READ_AT_ONCE: Final = 32
"""Rows that are in memory at once."""


@dataclass(frozen=True)
class Columns:
    """Where a table has what."""

    image: str = IMAGE
    """Bytes, or a struct with a field `bytes`."""
    label: str | None = None
    """None: `label`, where there is one."""
    path: str | None = None
    """A picture's name; None: the struct's own `path`, or the file and the row."""


@dataclass(frozen=True)
class RowGroup:
    """One row group of one file."""

    uri: str
    file: str
    """As a picture's name begins."""
    group: int
    first: int
    """The number of its first row in the file."""
    rows: int
    columns: Columns

    @property
    def count(self) -> int:
        """Its rows."""
        return self.rows

    def pictures(self) -> Iterator[Encoded]:
        """A row each."""
        wanted = [self.columns.image, self.columns.label, self.columns.path]
        row = self.first
        with opened_file(self.uri) as stream, reaching(self.uri):
            table = _pyarrow().ParquetFile(stream)
            for batch in table.iter_batches(
                _READ_AT_ONCE, row_groups=[self.group], columns=[one for one in wanted if one]
            ):
                for record in batch.to_pylist():
                    yield self._picture(record, row)
                    row += 1

    def _picture(self, record: dict[str, Any], row: int) -> Encoded:
        value, name = record[self.columns.image], f"{self.file}[{row}]"
        if isinstance(value, dict):
            name = value.get("path") or name
            value = value.get("bytes")
        if self.columns.path is not None:
            name = str(record[self.columns.path])
        label = None if self.columns.label is None else record[self.columns.label]
        content = value if isinstance(value, bytes) else Unread("has no bytes")
        return Encoded(name, content, None if label is None else str(label))


def open_parquet(uris: list[str], columns: Columns) -> Source:
    """The rows of some files, in order.

    Raises:
        InputError: no Parquet, or a column is not there, or holds something else.
        MissingDependencyError: pyarrow is not installed.
    """
    parts: list[RowGroup] = []
    labels: set[str] = set()
    found = columns
    for uri in uris:
        with opened_file(uri) as stream, reaching(uri):
            table = _pyarrow().ParquetFile(stream)
            schema = table.schema_arrow
            if uri == uris[0] and columns.label is None and LABEL in schema.names:
                found = Columns(columns.image, LABEL, columns.path)
            _check(uri, schema, found)
            if found.label is not None:
                for batch in table.iter_batches(columns=[found.label]):
                    labels.update(map(str, batch.column(0).unique().to_pylist()))
            first = 0
            for group in range(table.num_row_groups):
                rows = table.metadata.row_group(group).num_rows
                parts.append(RowGroup(uri, uri.rpartition("/")[2], group, first, rows, found))
                first += rows
    if not sum(part.rows for part in parts):
        raise InputError(f"--data {uris[0]}: it has no rows")
    return Source(
        name=f"Parquet {uris[0].rpartition('/')[2]}" + (" and more" if len(uris) > 1 else ""),
        parts=tuple(parts),
        labelled=found.label is not None,
        labels=frozenset(labels) if found.label is not None else None,
    )


def _check(uri: str, schema: Any, columns: Columns) -> None:
    for column in (columns.image, columns.label, columns.path):
        if column is not None and column not in schema.names:
            raise InputError(
                f"--data {uri} has no column {column!r}; it has {', '.join(schema.names)}; name "
                "yours with --image-column (--label-column, --path-column)"
            )
    kind = str(schema.field(columns.image).type)
    if kind not in {"binary", "large_binary"} and not kind.startswith("struct<bytes: "):
        raise InputError(
            f"--data {uri}: column {columns.image!r} holds {kind}; expected the bytes of pictures "
            "(binary, or a struct of bytes and path)"
        )


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise MissingDependencyError(
            f"Parquet is read by pyarrow, which is not installed; run: {install_command('data')}"
        ) from None
    return pyarrow.parquet
