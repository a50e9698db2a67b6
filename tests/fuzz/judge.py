"""What becomes of a random network in `exporter.export`, in words that many networks share."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx

import exporter
from tests.independent import RIGHT, check_line, judged, of_file


def outcomes(model: onnx.ModelProto, folder: Path, **options: Any) -> Iterator[str]:
    """Exports a model from an empty folder and checks what comes.

    It is built and its certificates are true, or it is refused in one line and leaves nothing.
    """
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    try:
        build = exporter.export(path, out=folder / "build", measure=False, threads=1, **options)
    except exporter.ExporterError as error:
        check_line(str(error))
        assert sorted(folder.iterdir()) == [path], "a refusal left something behind"
        yield f"refused: {_general(str(error).replace(str(path), 'net.onnx'))}"
        return
    for engine, outcome in judged(build, of_file(model)).items():
        yield f"{engine}: {outcome if outcome == RIGHT else _general(outcome)}"


def _general(message: str) -> str:
    """The message without the names and numbers of one network."""
    message = re.sub(r"'[^']*'|\"[^\"]*\"|\[[^\]]*\]|\([^)]*\)", "_", message)
    return re.sub(r"\S*\d\S*", "#", message)[:160]
