"""How far BF16 and INT8 are from float32 on trained networks, on the same images.

    python -m benchmarks.photographs build/photographs
    python -m benchmarks.rounding_errors build/photographs --out FILE.json

Of the trained networks inside the package and of the thin ResNet-50 of `photographs`: the rms error
of the logits of our engines, judged on images that calibrated nothing (`int8_accuracy` compares
INT8's quantizers).
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.markup import escape
from rich.table import Table

from benchmarks.command_line import finish_alone
from benchmarks.int8_accuracy import compare, without_softmax, write
from benchmarks.int8_data import draws_of
from benchmarks.int8_recipes import BF16, ON_OPENVINO, OURS, RECIPES, bf16
from benchmarks.logit_errors import ratio_of
from benchmarks.peers import require_bf16
from exporter import host
from exporter.artifact import Model
from exporter.errors import InputError
from exporter.graph.optimize import optimize
from exporter.graph.to_onnx import export
from exporter.images.contract import with_contract
from exporter.images.contract_file import read_contract
from exporter.images.embedded import EMBEDDED
from exporter.images.samples import Data, open_data
from exporter.models.sources import define
from exporter.progress import Progress, Terminal, make_console

KIND: Final = "rounding-errors"
ENGINES: Final = {
    BF16: bf16,
    "INT8 on OpenVINO": RECIPES[ON_OPENVINO],
    "INT8 on ONNX Runtime": RECIPES[OURS],
}


def networks(photographs: Path, seed: int, progress: Progress) -> list[tuple[Model, Data]]:
    """The trained networks with their images.

    Raises:
        InputError: the folder is not one that `benchmarks.photographs` wrote.
    """
    file = photographs / "thin_resnet50.onnx"
    if not file.exists():
        raise InputError(f"{file} is missing; run: python -m benchmarks.photographs {photographs}")
    own = [define(name, "auto", seed=seed, progress=progress) for name in EMBEDDED]
    thin = define(str(file), "auto", seed=seed, progress=progress)
    contract = read_contract(photographs / "preprocessing.json")
    thin = replace(thin, spec=with_contract(thin.spec, contract))
    return [
        (model, open_data(model.spec, data, seed=seed, progress=progress))
        for model, data in (*((one, None) for one in own), (thin, photographs / "held-out"))
    ]


def errors_of(
    model: Model, data: Data, draws: int, size: int, threads: int, seed: int, progress: Progress
) -> dict[str, Any]:
    """Every engine's figures, and INT8's error over BF16's."""
    graph = without_softmax(optimize(export(model))[0])
    with tempfile.TemporaryDirectory(prefix="rounding-errors-") as folder:
        answers, _ = compare(
            graph, draws_of(data.calibration, draws, size, seed), data.evaluation, recipes=ENGINES,
            threads=threads, folder=Path(folder), progress=progress,
        )  # fmt: skip
    own = answers[BF16].squared()
    return {
        "model": model.spec.name,
        "weights": asdict(model.spec.weights),
        "calibration": {"source": data.calibration.source, "draws": draws, "samples": size},
        "evaluation": {"source": data.evaluation.source, "samples": data.evaluation.count},
        "engines": {
            name: one.figures() | {"over_bf16": asdict(ratio_of(one.squared(), own, seed))}
            for name, one in answers.items()
        },
    }


def table_of(found: dict[str, Any]) -> Table:
    """A row for each engine."""
    calibrated, judged = found["calibration"], found["evaluation"]["samples"]
    title = (
        f"{found['model']}: {calibrated['draws']} draws of {calibrated['samples']} images to "
        f"calibrate INT8, {judged} others to judge"
    )
    table = Table(title=escape(title), title_justify="left")
    table.add_column("engine")
    for heading in ("rms", "over BF16's (95 %)", "SQNR dB", "top-1 agreement", "top-1"):
        table.add_column(heading, justify="right")
    for name, one in found["engines"].items():
        ratio = one["over_bf16"]
        low, high = ratio["ci95"]
        table.add_row(
            escape(name),
            f"{one['rms']:.4f}",
            f"{ratio['value']:.2f} ({low:.2f} to {high:.2f})",
            f"{one['sqnr_db']:.1f}",
            f"{one['top1_agreement']:.4f}",
            "-" if one["top1"] is None else f"{one['top1']:.4f}",
        )
    return table


def run(
    photographs: Annotated[Path, typer.Argument(help="What `benchmarks.photographs` wrote.")],
    draws: Annotated[int, typer.Option(min=1, help="Disjoint calibration sets.")] = 2,
    calibration_samples: Annotated[int, typer.Option(min=1, help="Images of each draw.")] = 128,
    seed: Annotated[int, typer.Option(help="Seeds draws and resampling.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="Default: the cores granted.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON with every figure.")] = None,
) -> None:
    """BF16's error beside INT8's, on the trained networks."""
    require_bf16()
    progress = Terminal(make_console(stderr=True))
    threads = threads or host.usable_threads()
    found = [
        errors_of(model, data, draws, calibration_samples, threads, seed, progress)
        for model, data in networks(photographs, seed, progress)
    ]
    console = make_console(pipe_width=160)
    for one in found:
        console.print(table_of(one))
    if out is not None:
        conditions = {"threads": threads, "seed": seed}
        date = datetime.now(UTC).date().isoformat()
        described = {"kind": KIND, "date": date, "host": asdict(host.describe_host())}
        write(out, {**described, **conditions, "networks": found})


if __name__ == "__main__":
    finish_alone(run)
