"""What `exporter explain` may be asked for; each option stands here once (`option.py`)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from attrs import field, frozen

from exporter.builds import converters
from exporter.builds.option import Option, Values
from exporter.builds.request import Threads
from exporter.targets import TARGETS


@frozen(kw_only=True)
class ExplainRequest:
    """What `exporter explain` may be asked for; the defaults are those of the command line."""

    build: Annotated[
        Path,
        Option(
            positional=True,
            metavar="DIR|MODEL|FILE.onnx",
            help="A build or its MODEL, or an ONNX file that any tool made (with --target).",
            values=Values.BUILDS,
        ),
    ] = field(converter=converters.path, kw_only=False)
    engine: Annotated[
        str, Option(help=f"Of a build: one engine's id, for example {next(iter(TARGETS))}.fp32.")
    ] = ""
    target: Annotated[
        str,
        Option(
            help=f"Of a file: the runtime that loads it: {', '.join(TARGETS)}.",
            values=Values.TARGETS,
        ),
    ] = ""
    error: Annotated[
        bool, Option(help="Of a build: where the error comes from, block by block.")
    ] = False
    own_build: Annotated[
        bool, Option(help="Of a file: measure our own build of the same network beside it.")
    ] = True
    save_float: Annotated[
        Path | None,
        Option(
            metavar="FILE.onnx",
            help="Of a file: write the float32 network that it stands for, weights dequantized.",
        ),
    ] = field(default=None, converter=converters.optional_path)
    threads: Threads = None
