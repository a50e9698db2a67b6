"""What `exporter benchmark` may be asked for; each option stands here once (`option.py`)."""

from __future__ import annotations

from typing import Annotated

from attrs import field, frozen

from exporter.builds import converters
from exporter.builds.option import Option
from exporter.builds.request import Batches, Concern, Folder, Panel, Rounds, Threads, Weights
from exporter.measure.throughput import BATCHES


@frozen(kw_only=True)
class MeasuringRequest:
    """What measuring a build again needs, besides the model that it was made of."""

    build: Folder = field(converter=converters.path, kw_only=False)
    weights: Weights = "auto"
    batches: Batches = field(default=(1,), converter=converters.batches)
    threads: Threads = None
    rounds: Rounds = 30
    throughput: Annotated[
        bool,
        Option(
            help="Also how many images a second several processes, streams and threads answer, "
            "and which of them is best.",
            panel=Panel.THROUGHPUT,
        ),
    ] = False
    cores: Annotated[
        int | None,
        Option(
            metavar="N",
            minimum=1,
            help="Cores to use (default: those that this process may use).",
            panel=Panel.THROUGHPUT,
            concerns=Concern.THROUGHPUT,
        ),
    ] = None
    throughput_batches: Annotated[
        tuple[int, ...],
        Option(
            metavar="LIST",
            help="Batch sizes to try.",
            panel=Panel.THROUGHPUT,
            concerns=Concern.THROUGHPUT,
        ),
    ] = field(default=BATCHES, converter=converters.batches)
    max_p99: Annotated[
        float | None,
        Option(
            metavar="MS",
            help="The best is that within this latency of 99 % of the calls.",
            panel=Panel.THROUGHPUT,
            concerns=Concern.THROUGHPUT,
        ),
    ] = None


@frozen(kw_only=True)
class BenchmarkRequest(MeasuringRequest):
    """What `exporter benchmark` may be asked for; the defaults are those of the command line."""

    model: Annotated[
        str | None,
        Option(
            metavar="MODEL",
            help="Where the model is, if it was a file or is not importable from here.",
        ),
    ] = None
