"""What `exporter pack` may be asked for; each option stands here once (`builds/option.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from exporter.builds.option import Option
from exporter.builds.request import Folder


class Concern(StrEnum):
    """What an option may be about; `formats.py` says which format has it."""

    SIGNATURE = "signatures"
    TRITON = "Triton"
    KSERVE = "KServe"


@dataclass(frozen=True)
class PackRequest:
    """What `exporter pack` may be asked for; the defaults are those of the command line."""

    build: Folder
    format: Annotated[str, Option(help="bundle, triton, kserve, node or web.")] = "bundle"
    out: Annotated[
        Path | None,
        Option(help="Default: dist/MODEL-FORMAT. A bundle named *.tar.zst is one file."),
    ] = None
    engines: Annotated[
        tuple[str, ...],
        Option(
            flags=("--engine",),
            metavar="LIST",
            help="Engine ids (default: all that passed). A format that serves one takes the "
            "fastest of them that it can serve.",
        ),
    ] = ()
    labels: Annotated[Path | None, Option(help="A text file, one class a line.")] = None
    allow_untrained: Annotated[
        bool, Option(help="Pack random weights all the same; the bundle says so.")
    ] = False
    sign: Annotated[
        Path | None,
        Option(
            help="An Ed25519 private key (PEM) to sign a bundle with.", concerns=Concern.SIGNATURE
        ),
    ] = None
    backend: Annotated[
        str | None,
        Option(
            help="Triton's: python, onnxruntime, openvino or tensorrt.", concerns=Concern.TRITON
        ),
    ] = None
    slo_ms: Annotated[
        float | None,
        Option(
            help="Latency that a request may take; limits Triton's batches.",
            concerns=Concern.TRITON,
        ),
    ] = None
    storage_uri: Annotated[
        str | None,
        Option(
            help="Where KServe finds the repository: s3://..., gs://..., pvc://...",
            concerns=Concern.KSERVE,
        ),
    ] = None
