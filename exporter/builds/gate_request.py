"""What `exporter gate` may be asked for; each option stands here once (`option.py`)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from attrs import field, frozen

from exporter.builds import converters
from exporter.builds.option import Option, Values
from exporter.builds.request import Threads


@frozen(kw_only=True)
class GateRequest:
    """What `exporter gate` may be asked for; the defaults are those of the command line."""

    build: Annotated[
        Path,
        Option(
            positional=True,
            metavar="DIR|MODEL|BUNDLE",
            help="A build or its MODEL, or a bundle that `exporter pack` wrote, folder or archive.",
            values=Values.BUILDS,
        ),
    ] = field(converter=converters.path, kw_only=False)
    data: Annotated[
        Path | None,
        Option(
            metavar="PATH",
            help="Images that calibration did not see: a folder, each picture in a sub-folder of "
            "its class, or an .npz of tensors with an array `labels` (default: the model's own).",
        ),
    ] = field(default=None, converter=converters.optional_path)
    labels: Annotated[
        Path | None,
        Option(metavar="FILE", help="A .csv or .json of FILE and LABEL, instead of sub-folders."),
    ] = field(default=None, converter=converters.optional_path)
    max_drop: Annotated[
        str, Option(metavar="SHARE", help="The accuracy that may be lost against labels.")
    ] = field(default="0.5%", converter=converters.share)
    max_flips: Annotated[
        str, Option(metavar="SHARE", help="Images that may get another class than the reference's.")
    ] = field(default="1%", converter=converters.share)
    confidence: Annotated[
        float, Option(metavar="SHARE", help="Of each bound, exact and one-sided.")
    ] = field(default=0.95, converter=converters.confidence)
    engines: Annotated[
        tuple[str, ...],
        Option(
            flags=("--engine",), metavar="LIST", help="Engine ids (default: all that run here)."
        ),
    ] = field(default=(), converter=converters.words)
    skip_unreadable: Annotated[
        bool, Option(help="Images that cannot be decoded are no failure; they are named.")
    ] = False
    threads: Threads = None
