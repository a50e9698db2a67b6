"""What `exporter capacity` may be asked for; each option stands here once (`option.py`)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from attrs import field, frozen

from exporter.builds import converters
from exporter.builds.option import Option
from exporter.builds.request import Folder


@frozen(kw_only=True)
class CapacityRequest:
    """What `exporter capacity` may be asked for; the defaults are those of the command line."""

    build: Folder = field(converter=converters.path, kw_only=False)
    rate: Annotated[float, Option(metavar="R", help="Images a second of the whole service.")]
    slo_ms: Annotated[
        float, Option(metavar="MS", help="99 % of the images are answered within this.")
    ]
    engine: Annotated[
        str | None,
        Option(metavar="ID", help="An engine id (default: the one with the most images a second)."),
    ] = None
    arrivals: Annotated[
        str,
        Option(
            metavar="poisson|bursts|FILE.csv",
            help="How requests come: at random, in bursts, or as in a trace, whose column `time_s` "
            "has the seconds at which they came.",
        ),
    ] = "poisson"
    availability: Annotated[
        str, Option(metavar="N|N-1|N-2", help="How many machines may be lost within the limit.")
    ] = "N"
    overhead_ms: Annotated[
        float,
        Option(metavar="MS", help="What the server adds to an answer, over the engine's own time."),
    ] = 0.0
    busy_overhead_ms: Annotated[
        float,
        Option(
            metavar="MS", help="What the server's work for a request takes from a busy instance."
        ),
    ] = 0.0
    price: Annotated[
        float | None, Option(metavar="PRICE", help="Of a machine for an hour: costs are said.")
    ] = None
    cold_start_s: Annotated[
        float,
        Option(metavar="S", help="Until a new machine answers: the autoscaler starts it earlier."),
    ] = 60.0
    growth: Annotated[
        str, Option(metavar="SHARE", help="By how much the rate may grow in a minute.")
    ] = field(default="10%", converter=converters.share)
    out: Annotated[
        Path | None,
        Option(
            metavar="DIR",
            help="Writes capacity.json, capacity.svg, Triton's values and a Kubernetes autoscaler.",
        ),
    ] = field(default=None, converter=converters.optional_path)
    seed: Annotated[int, Option(metavar="N", help="Of the simulation.")] = 0
