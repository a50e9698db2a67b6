"""What `exporter compare` may be asked for; each option stands here once (`option.py`)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from attrs import field, frozen

from exporter.builds import converters
from exporter.builds.option import Option, Values


@frozen(kw_only=True)
class CompareRequest:
    """What `exporter compare` may be asked for; the defaults are those of the command line."""

    old: Annotated[
        Path,
        Option(
            positional=True,
            metavar="OLD",
            help="A build folder, its MODEL, its manifest.json, a sweep's folder, or a result of "
            "benchmarks/.",
            values=Values.BUILDS,
        ),
    ] = field(converter=converters.path, kw_only=False)
    new: Annotated[
        Path, Option(positional=True, metavar="NEW", help="The one to judge.", values=Values.BUILDS)
    ] = field(converter=converters.path, kw_only=False)
    max_slowdown: Annotated[
        float | None, Option(help="Fail where an engine is slower by more than this (0.05).")
    ] = None
    max_error_growth: Annotated[
        float | None, Option(help="Fail where rel_l2 grows by more than this (0.1).")
    ] = None
    require: Annotated[
        tuple[str, ...],
        Option(
            metavar="LIST|all",
            help="Fail where NEW lacks one of these engines, or has it rejected; all: of OLD's.",
        ),
    ] = field(default=(), converter=converters.words)
    allow_other_host: Annotated[bool, Option(help="Compare timings although the hosts differ.")] = (
        False
    )
