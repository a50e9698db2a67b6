"""What `exporter pack` may be asked for; each option stands here once (`builds/option.py`)."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from attrs import field, frozen

from exporter.builds import converters
from exporter.builds.option import Option, Values
from exporter.builds.request import Folder


class Concern(StrEnum):
    """What an option may be about; `formats.py` says which format has it."""

    SIGNATURE = "signatures"
    TRITON = "Triton"
    KSERVE = "KServe"


@frozen
class PackRequest:
    """What `exporter pack` may be asked for; the defaults are those of the command line."""

    build: Folder = field(converter=converters.path)
    format: Annotated[
        str,
        Option(help="bundle, triton, kserve, mlflow, ovms, node or web.", values=Values.FORMATS),
    ] = "bundle"
    out: Annotated[
        Path | None,
        Option(help="Default: dist/MODEL-FORMAT. A bundle named *.tar.zst is one file."),
    ] = field(default=None, converter=converters.optional_path)
    engines: Annotated[
        tuple[str, ...],
        Option(
            flags=("--engine",),
            metavar="LIST",
            help="Engine ids (default: all that passed). A format that serves one takes the "
            "fastest of them that it can serve.",
        ),
    ] = field(default=(), converter=converters.words, kw_only=True)
    labels: Annotated[Path | None, Option(help="A text file, one class a line.")] = field(
        default=None, converter=converters.optional_path, kw_only=True
    )
    allow_untrained: Annotated[
        bool, Option(help="Pack random weights all the same; the bundle says so.")
    ] = field(default=False, kw_only=True)
    require_gate: Annotated[
        bool, Option(help="Refuse engines that `exporter gate` has not passed.")
    ] = field(default=False, kw_only=True)
    sign: Annotated[
        Path | None,
        Option(
            help="An Ed25519 private key (PEM) to sign a bundle with.", concerns=Concern.SIGNATURE
        ),
    ] = field(default=None, converter=converters.optional_path, kw_only=True)
    backend: Annotated[
        str | None,
        Option(
            help="Triton's: python, onnxruntime, openvino or tensorrt.", concerns=Concern.TRITON
        ),
    ] = field(default=None, kw_only=True)
    container: Annotated[
        str | None,
        Option(
            metavar="TAG",
            help="Triton's container, as in 25.11-py3 (default: the newest that loads the engine); "
            "one that cannot load it is refused.",
            concerns=Concern.TRITON,
        ),
    ] = field(default=None, kw_only=True)
    slo_ms: Annotated[
        float | None,
        Option(
            help="Latency that a request may take; limits Triton's batches.",
            concerns=Concern.TRITON,
        ),
    ] = field(default=None, kw_only=True)
    storage_uri: Annotated[
        str | None,
        Option(
            help="Where KServe finds the repository: s3://..., gs://..., pvc://...",
            concerns=Concern.KSERVE,
        ),
    ] = field(default=None, kw_only=True)
