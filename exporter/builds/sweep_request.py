"""What `exporter sweep` may be asked for; each option stands here once (`option.py`)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from attrs import field, frozen

from exporter.builds import converters
from exporter.builds.option import Option


@frozen(kw_only=True)
class SweepRequest:
    """What `exporter sweep` may be asked for; the defaults are those of the command line."""

    spec: Annotated[
        Path,
        Option(
            positional=True,
            metavar="SPEC.yaml",
            help="Which models, precisions and targets on which hardware, and where builds are "
            "kept.",
        ),
    ] = field(converter=converters.path, kw_only=False)
    on: Annotated[
        str | None,
        Option(
            metavar="ADDRESS",
            help="The Ray cluster whose nodes are the hardware (HOST:PORT), instead of this "
            "machine.",
        ),
    ] = None
    out: Annotated[
        Path | None,
        Option(
            metavar="DIR", help="fleet.html and sweep.json go there (default: build/sweeps/SPEC)."
        ),
    ] = field(default=None, converter=converters.optional_path)
