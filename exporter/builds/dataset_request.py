"""What `exporter evaluate` and `classify` may be asked for; each option stands here once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from attrs import field, frozen

from exporter.builds import converters
from exporter.builds.option import Option, Values

_WHERE = "Where the pictures are and by whom they are answered"


@frozen(kw_only=True)
class DatasetRequest:
    """The options that both commands have; the defaults are those of the command line."""

    data: Annotated[
        str,
        Option(
            metavar="URI",
            help="Pictures: a folder, a list of files (.txt, .csv), Parquet with their bytes, or "
            "WebDataset tars; a path, or a URI that fsspec reads (s3://bucket/train).",
        ),
    ] = field(converter=converters.uri)
    image_column: Annotated[
        str, Option(metavar="NAME", help="Of Parquet: the pictures' bytes.", panel=_WHERE)
    ] = "image"
    label_column: Annotated[
        str | None,
        Option(metavar="NAME", help="The labels (default: label, if it is there).", panel=_WHERE),
    ] = None
    path_column: Annotated[
        str | None, Option(metavar="NAME", help="The pictures' names.", panel=_WHERE)
    ] = None
    on: Annotated[
        str | None,
        Option(
            metavar="ADDRESS",
            help="The Ray cluster that does it (HOST:PORT), instead of this machine.",
            panel=_WHERE,
        ),
    ] = None
    workers: Annotated[
        int | None,
        Option(
            minimum=1,
            help="Batches worked on side by side (default: a core each).",
            panel=_WHERE,
        ),
    ] = None
    threads: Annotated[
        int,
        Option(
            minimum=1,
            help="Of one batch. Answers depend on it in their last digits, and on nothing else "
            "here.",
            panel=_WHERE,
        ),
    ] = 1
    skip_unreadable: Annotated[
        bool, Option(help="Images that cannot be decoded are no failure; they are named.")
    ] = False


@frozen(kw_only=True)
class EvaluateRequest(DatasetRequest):
    """What `exporter evaluate` may be asked for."""

    build: Annotated[
        Path,
        Option(
            positional=True,
            metavar="DIR|MODEL|BUNDLE",
            help="A build or its MODEL, or a bundle that `exporter pack` wrote, folder or archive.",
            values=Values.BUILDS,
        ),
    ] = field(converter=converters.path, kw_only=False)
    engines: Annotated[
        tuple[str, ...],
        Option(
            flags=("--engine",), metavar="LIST", help="Engine ids (default: all that run here)."
        ),
    ] = field(default=(), converter=converters.words)
    reference: Annotated[
        bool, Option(help="Ask the float32 reference, too; without it accuracy alone is told.")
    ] = True


@frozen(kw_only=True)
class ClassifyRequest(DatasetRequest):
    """What `exporter classify` may be asked for."""

    bundle: Annotated[
        Path,
        Option(
            positional=True,
            metavar="BUNDLE",
            help="What `exporter pack` wrote, folder or archive.",
        ),
    ] = field(converter=converters.path, kw_only=False)
    out: Annotated[
        Path,
        Option(
            metavar="FOLDER",
            help="The predictions: a folder of Parquet files, as in predictions.parquet.",
        ),
    ] = field(converter=converters.path)
    top: Annotated[int, Option(minimum=1, metavar="K", help="Labels of each picture.")] = 1
    engine: Annotated[
        str | None,
        Option(metavar="ID", help="One engine's id (default: the bundle's best for this machine)."),
    ] = None
