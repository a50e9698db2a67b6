"""How far each quantizer's INT8 is from float32, on the same images, and at what speed.

    python -m benchmarks.int8_accuracy resnet20-digits
    python -m benchmarks.int8_accuracy model.onnx --data photos/ --preprocessing caffe.json

Judged by logits: where the model ends in a softmax, everything is compared before it (on a trained
network a few images carry most of the error of the probabilities). `--draws` repeats everything on
other calibration images: differences of a tenth between draws are noise, and flips, which are few,
take ten draws or more. Needs the extra `bench`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmarks.command_line import finish_alone
from benchmarks.int8_data import draws_of
from benchmarks.int8_recipes import OURS, RECIPES, STATIC, Draw, Quantized, Recipe
from benchmarks.int8_verdict import goals_of, table_of
from benchmarks.logit_errors import Answers, Floats, more_flips, ratio_of, stack
from exporter import host
from exporter.artifact import Model
from exporter.disk.writing import write_whole
from exporter.errors import BuildError
from exporter.graph.files import save
from exporter.graph.optimize import optimize
from exporter.graph.to_onnx import export
from exporter.images.contract import with_contract
from exporter.images.contract_file import read_contract
from exporter.images.samples import Samples, open_data
from exporter.measure.interleaved import EngineToMeasure, OnnxBaseline, measure
from exporter.measure.timing import Conditions, Latency
from exporter.models.sources import define
from exporter.passes.values import is_op
from exporter.progress import Progress, Terminal, make_console
from exporter.prove.reference import run_all
from exporter.targets.ort.session import OrtSession, make_session, session_options

if TYPE_CHECKING:
    import onnx_ir as ir


def without_softmax(graph: ir.Model) -> ir.Model:
    """A copy that ends in the logits."""
    copy = graph.clone()
    last = copy.graph.outputs[0].producer()
    if last is not None and is_op(last, "Softmax"):
        before = last.inputs[0]
        assert before is not None
        copy.graph.outputs[0] = before
        copy.graph.remove(last, safe=True)
    return copy


def compare(
    graph: ir.Model,
    draws: Sequence[Samples],
    evaluation: Samples,
    *,
    recipes: Mapping[str, Recipe] = RECIPES,
    threads: int,
    folder: Path,
    progress: Progress,
) -> tuple[dict[str, Answers], dict[str, Quantized]]:
    """Every recipe's answers on the evaluation images, and the files of the last draw."""
    save(graph, folder / "fp32.onnx")
    shape = graph.graph.inputs[0].shape
    fixed_batch = shape[0] if shape is not None and isinstance(shape[0], int) else None
    with OrtSession(make_session(folder / "fp32.onnx", session_options(threads))) as session:
        expected = run_all(session.run, evaluation, fixed_batch)
    logits: dict[str, list[Floats]] = {name: [] for name in recipes}
    files: dict[str, Quantized] = {}
    for number, samples in enumerate(draws):
        inner = folder / str(number)
        inner.mkdir()
        draw = Draw(graph, folder / "fp32.onnx", samples, inner, threads, progress)
        for name, recipe in recipes.items():
            progress.note(f"draw {number + 1} of {len(draws)}: {name}")
            files[name] = recipe(draw)
            with files[name].open() as session:
                logits[name].append(run_all(session.run, evaluation, fixed_batch))
    answers = {
        name: Answers(stack(found), expected, evaluation.labels) for name, found in logits.items()
    }
    return answers, files


def latency_of(
    model: Model, files: dict[str, Quantized], threads: int, progress: Progress
) -> Latency:
    """Ours against `quantize_static` as it comes, batch 1, interleaved."""
    baseline = OnnxBaseline(files[STATIC].path.read_bytes(), model.spec.input)
    fixed = model.spec.input.shape[0]
    size = fixed if isinstance(fixed, int) else 1
    conditions = Conditions(threads=threads, rounds=30, seed=0, batches=(size,))
    engine = EngineToMeasure(OURS, "ort-cpu", files[OURS].path)
    found = measure([engine], baseline, conditions, progress).latencies[OURS][size]
    if not isinstance(found, Latency):
        raise BuildError(f"ours could not be measured: {found.skipped}")
    return found


def run(
    model_source: Annotated[str, typer.Argument(metavar="MODEL", help="As exporter export's.")],
    weights: Annotated[str, typer.Option(help="As exporter export's.")] = "auto",
    data: Annotated[
        Path | None, typer.Option(help="Folder of images, .npz or .npy; as exporter export's.")
    ] = None,
    calibration_samples: Annotated[int, typer.Option(min=1, help="Images of each draw.")] = 128,
    draws: Annotated[int, typer.Option(min=1, help="How many disjoint calibration sets.")] = 3,
    samples: Annotated[int, typer.Option(min=2, help="Evaluation images at most.")] = 512,
    preprocessing: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="As exporter export's.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seeds weights, draws and resampling.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="Default: the cores granted.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON with every figure.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 1 on a goal that is missed.")
    ] = False,
) -> None:
    """Compare INT8 quantizers on a model and images of yours."""
    progress = Terminal(make_console(stderr=True))
    model = define(model_source, weights, seed=seed, progress=progress)
    if preprocessing is not None:
        model = replace(model, spec=with_contract(model.spec, read_contract(preprocessing)))
    opened = open_data(model.spec, data, seed=seed, progress=progress)
    for note in (*model.notes, *opened.notes):
        progress.note(note)
    threads = threads or host.usable_threads()
    graph = without_softmax(optimize(export(model))[0])
    evaluation = opened.evaluation
    if evaluation.labels is None:  # labelled ones are used whole
        evaluation = evaluation.take(samples)
    with tempfile.TemporaryDirectory(prefix="int8-accuracy-") as folder:
        answers, files = compare(
            graph,
            draws_of(opened.calibration, draws, calibration_samples, seed),
            evaluation,
            threads=threads,
            folder=Path(folder),
            progress=progress,
        )
        latency = latency_of(model, files, threads, progress)
    own = answers[OURS].squared()
    ratios = {name: ratio_of(own, answer.squared(), seed) for name, answer in answers.items()}
    flips = {name: more_flips(answers[OURS], answer, seed) for name, answer in answers.items()}
    goals = goals_of(ratios, latency, trained=model.spec.weights.trained)
    console = make_console(pipe_width=160)
    title = (
        f"{model.spec.name}: INT8 logits against float32, {draws} draws of {calibration_samples} "
        f"images to calibrate, {evaluation.count} others to evaluate"
    )
    console.print(table_of(answers, ratios, flips, title))
    for goal in goals:
        verdict = "met   " if goal.met else "MISSED"
        console.print(f"{verdict}  {goal.text}: {goal.found}", markup=False)
    if out is not None:
        result: dict[str, Any] = {
            "kind": "int8_accuracy",
            "model": model.spec.name,
            "weights": asdict(model.spec.weights),
            "calibration": {
                "source": opened.calibration.source,
                "draws": draws,
                "samples": calibration_samples,
                "sha256": opened.calibration.sha256,
            },
            "evaluation": {
                "source": evaluation.source,
                "samples": evaluation.count,
                "sha256": evaluation.sha256,
            },
            "host": asdict(host.describe_host()),
            "threads": threads,
            "seed": seed,
            "recipes": {
                name: answer.figures()
                | {"ours_over_it": asdict(ratios[name]), "ours_flips_more": asdict(flips[name])}
                for name, answer in answers.items()
            },
            "latency": asdict(latency),
            "goals": [asdict(goal) for goal in goals],
        }
        write(out, result)
    if strict and not all(goal.met for goal in goals):
        raise typer.Exit(1)


def write(path: Path, result: dict[str, Any]) -> None:
    """As JSON; the file appears whole or not at all."""
    write_whole(path, json.dumps(result, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    finish_alone(run)
