"""probe.json: one golden request, its answer, and how far from it an answer may be.

`shipped/probe.py` asks it of a running server.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from exporter.builds.records import EngineRecord
from exporter.pack.packable import Release
from exporter.pack.served import Served
from exporter.pack.tolerances import ROUNDING, reference_tolerance
from exporter.runtime.goldens import worst_error
from exporter.runtime.outputs import columns


@dataclass(frozen=True)
class ProbeInput:
    """One input of the golden request."""

    name: str
    datatype: str
    shape: list[int]
    data: str
    """Its bytes: a file, relative to probe.json."""


@dataclass(frozen=True)
class Probe:
    """What probe.json holds."""

    model: str
    inputs: list[ProbeInput]
    output: str
    expected: list[float]
    tolerance: float
    """Relative L2."""

    def to_text(self) -> str:
        """The text of the file."""
        return json.dumps(asdict(self)) + "\n"


def golden_probe(
    release: Release, engine: EngineRecord, served: Served, files: Sequence[str]
) -> Probe:
    """Asks the first golden (of a fixed batch: so many) and allows any engine's own answer to it.

    `files` hold each input's bytes.
    """
    asked = np.arange(served.fixed or 1) % len(release.goldens.inputs)
    # One answer tells: the classes' where there are any, else the smallest.
    sizes = [output.size for output in served.outputs]
    index = sizes.index(min(sizes)) if served.scores is None else served.scores
    place = list(columns(served.outputs))[index]
    expected, tolerance = release.goldens.outputs[asked, place], reference_tolerance(engine)
    own = {name: answers[asked, place] for name, answers in release.goldens.answers.items()}
    if all(name in own for name in release.ids):
        expected = own[engine.id]
        images = served.inputs[0].samples is release.goldens.images
        others = own.values() if images else [expected]
        spread = max(worst_error(answer, expected) for answer in others)
        tolerance = spread + max(ROUNDING[other.precision] for other in release.engines)
    return Probe(
        model=release.name,
        inputs=[
            ProbeInput(
                given.name,
                given.datatype,
                [*(() if served.fixed else (1,)), *served.shape_of_input(given)],
                data=file,
            )
            for given, file in zip(served.inputs, files, strict=True)
        ],
        output=served.outputs[index].name,
        expected=expected.ravel().astype(float).tolist(),
        tolerance=tolerance,
    )
