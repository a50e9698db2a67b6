"""From JPEG bytes to labels and from `uint8` images to logits, ours against the peers' pipelines.

Ours is a packed bundle with its preprocessing compiled in (`--bake-preprocess`), asked through
`exporter.runtime`. A peer is what its users write (`picture_pipelines`): Pillow or OpenCV, then
PyTorch's or numpy's arithmetic or OpenVINO's PrePostProcessor, then the runtime. All are measured
in one interleaved run, and each of ours is compared with the fastest of

    best       all peers, of any precision and with any pixels: the hardest to beat
    alike      those that compute in the same precision and on the same pixels (Pillow's)
    runtime    those of the same runtime library in float32: what somebody has who quantizes nothing
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.markup import escape
from rich.table import Table

from benchmarks import artifacts
from benchmarks.artifacts import CACHE, CALIBRATION, Artifacts
from benchmarks.groups import Group, groups_of
from benchmarks.jpegs import make_jpegs
from benchmarks.options import RESULTS, Cache, Lives, Out, Rounds, Seed, Threads, show_progress
from benchmarks.picture_pipelines import Decode, Normalise, Runtime
from benchmarks.record import Event, Recorder, described
from benchmarks.sampling import Conditions, Contender, sample
from benchmarks.settings import Settings, free_path, header, settings_of
from benchmarks.statistics import median_ms, speedup, versus_best
from benchmarks.suite import Role
from benchmarks.tables import headline, missing_and_busy
from exporter.artifact import Precision, Preprocessing, Skipped
from exporter.builds.codec import plain
from exporter.builds.request import ExportRequest
from exporter.errors import UsageError, install_command
from exporter.images import opencv
from exporter.pack.formats import pack
from exporter.pack.request import PackRequest
from exporter.pipeline import export_model
from exporter.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console

KIND: Final = "pictures"
PICTURES: Final = 4
"""JPEGs, each of another photograph."""
BATCHES: Final = (1, 8)
"""Of `uint8` images; JPEGs come one at a time."""
OURS: Final = (
    ("ort-cpu.fp32", Runtime.ONNXRUNTIME), ("ort-cpu.int8", Runtime.ONNXRUNTIME),
    ("openvino.fp32", Runtime.OPENVINO), ("openvino.int8", Runtime.OPENVINO),
)  # fmt: skip


@dataclass(frozen=True)
class Pipeline:
    """A peer's way; from `uint8` images, the decoder has no part in it."""

    engine: str
    role: Role
    precision: str
    artifact: str
    """A key of `artifacts.BUILDERS`."""
    runtime: Runtime
    decode: Decode
    normalise: Normalise
    hint: str = "f32"
    """OpenVINO's inference precision."""


def _ways(
    engine: str, precision: str, artifact: str, runtime: Runtime, hint: str = "f32"
) -> tuple[Pipeline, ...]:
    ways = [(Decode.PILLOW, Normalise.TORCH), (Decode.OPENCV, Normalise.NUMPY)]
    if runtime is Runtime.OPENVINO:
        ways += [(decode, Normalise.OPENVINO) for decode in Decode]
    return tuple(
        Pipeline(engine, Role.PEER, precision, artifact, runtime, decode, normalise, hint)
        for decode, normalise in ways
    )


PEERS: Final = (
    Pipeline("torch-eager", Role.BASELINE, "fp32", "eager", Runtime.TORCH, Decode.PILLOW,
             Normalise.TORCH),
    *_ways("onnxruntime", "fp32", "plain", Runtime.ONNXRUNTIME),
    *_ways("openvino", "fp32", "plain", Runtime.OPENVINO),
    *_ways("onnxruntime-quantized", "int8", "ort-quantized", Runtime.ONNXRUNTIME),
    *_ways("openvino-nncf", "int8", "nncf", Runtime.OPENVINO, "default"),
)  # fmt: skip


def command(
    model: Annotated[str, typer.Argument(help="With random weights; it resizes pictures.")] = (
        "resnet50"
    ),
    side: Annotated[
        int, typer.Option(min=64, max=8000, help="Longer side of the JPEGs; ImageNet's are 500.")
    ] = 500,
    rounds: Rounds = 30,
    lives: Lives = 2,
    threads: Threads = None,
    seed: Seed = 0,
    cache: Cache = CACHE,
    out: Out = RESULTS,
) -> Path:
    """From JPEG bytes to labels and from uint8 images to logits, against the peers' pipelines.

    Example: python -m benchmarks pictures --threads 2
    """
    settings = replace(settings_of(threads, seed), cache=cache)
    raw = free_path(out, KIND, settings)
    conditions = Conditions(settings.threads, rounds, seed, lives)
    measure(model, side, conditions, settings, raw, show_progress())
    return raw


def measure(
    model: str, side: int, conditions: Conditions, settings: Settings, raw: Path, progress: Progress
) -> None:
    """Measures both ways into the raw file, the JPEGs `side` pixels long.

    Raises:
        UsageError: the model's preprocessing does not resize RGB pictures.
    """
    keys = [one.artifact for one in PEERS]
    files = artifacts.build(
        model, keys, seed=settings.seed, cache=settings.cache, progress=progress
    )
    contract = files.spec.preprocessing
    if not isinstance(contract, Preprocessing) or contract.resize is None:
        raise UsageError(f"{model} resizes no pictures; give a model that does, as resnet50")
    bundle = _bundle(model, files, settings, progress)
    folder = settings.cache / f"jpegs-{PICTURES}-of-{side}-{settings.seed}"
    make_jpegs(folder, PICTURES, settings.seed, (side, side))
    with Recorder(raw, header(KIND, conditions.rounds, conditions.lives, settings)) as recorder:
        facts = {"kind": KIND, "model": model, "threads": conditions.threads}
        for kind, batches in (("jpeg", (1,)), ("uint8", BATCHES)):
            pictures = folder if kind == "jpeg" else None
            for batch in batches:
                recorder.write(
                    "group", group=f"{kind} b{batch}", batch=batch, side=pictures and side,
                    pictures=PICTURES if pictures else batch, **facts,
                )  # fmt: skip
            everyone = contenders(files, contract, bundle, pictures)
            sample(kind, everyone, batches, conditions, recorder, progress)


def contenders(
    files: Artifacts, contract: Preprocessing, bundle: Path, pictures: Path | None
) -> list[Contender]:
    """Everyone from JPEGs in a folder of `pictures`, or from `uint8` images."""
    common: dict[str, Any] = {
        "shape": (*contract.crop_size, 3), "dtype": "uint8", "contract": plain(contract),
    }  # fmt: skip
    if pictures is not None:
        common["pictures"] = str(pictures)
    found: dict[str, Contender] = {}
    for one in PEERS:
        path = files.files[one.artifact]
        if pictures is not None and one.decode is Decode.OPENCV and not opencv.is_installed():
            path = Skipped(f"OpenCV is not installed; run: {install_command('opencv')}")
        name = ", ".join(
            (one.engine, *((one.decode,) if pictures is not None else ()), one.normalise)
        )
        facts = {"runtime": one.runtime, "decode": one.decode if pictures is not None else None}
        job = {"kind": "benchmarks.picture_pipelines:load_peer", "path": str(path), **common}
        job |= {"runtime": one.runtime, "normalise": one.normalise, "hint": one.hint}
        job |= {"decode": one.decode}
        given = path if isinstance(path, Skipped) else job
        found.setdefault(name, Contender(name, one.role, one.precision, given, facts))
    for engine, runtime in OURS:
        job = {"kind": "benchmarks.picture_pipelines:load_ours", "path": str(bundle), **common}
        facts = {"runtime": runtime, "decode": Decode.PILLOW if pictures is not None else None}
        precision = engine.rpartition(".")[2]
        name = f"ours/{engine}"
        found[name] = Contender(name, Role.OURS, precision, job | {"engine": engine}, facts)
    return list(found.values())


def _bundle(model: str, files: Artifacts, settings: Settings, progress: Progress) -> Path:
    """Our engines with their preprocessing in them, packed; built once."""
    bundle = files.folder / "baked-bundle"
    if not bundle.exists():
        request = ExportRequest(
            source=model, weights="random", targets=artifacts.TOGETHER,
            precisions=(Precision.FP32, Precision.INT8), out=files.folder / "baked",
            seed=settings.seed, samples=8, calibration_samples=CALIBRATION, measure=False,
            bake_preprocess=True,
        )  # fmt: skip
        build = export_model(request, progress).folder
        pack(PackRequest(build, out=bundle, allow_untrained=True), progress)
    return bundle


def analyse(events: Sequence[Event]) -> dict[str, Any]:
    """The result of a raw file."""
    head, groups = events[0], groups_of(events)
    missing = [(name, one) for name, group in groups.items() for one in group.missing]
    return {
        "kind": KIND,
        **described(head),
        "model": next(iter(groups.values())).facts["model"],
        "others": max(group.footer["others"] for group in groups.values()),
        "missing": [f"{name}: {one['name']}: {one['why']}" for name, one in missing],
        "groups": [_group(group, head["seed"]) for group in groups.values()],
    }


def _group(group: Group, seed: int) -> dict[str, Any]:
    pictures = group.facts["pictures"]
    rows = []
    for name, event in group.engines.items():
        milliseconds = median_ms(group.rounds[name], seed)
        middle, low, high = (value / pictures for value in milliseconds)
        rows.append(
            {
                "name": name,
                "role": event["role"],
                "precision": event["precision"],
                "ms_an_image": middle,
                "ms_ci95": [low, high],
                "over_eager": asdict(
                    speedup(group.rounds[name], group.rounds[group.baseline], seed)
                ),
                "over": _over(group, name, seed) if event["role"] == Role.OURS else {},
            }
        )
    facts = {key: group.facts[key] for key in ("group", "batch", "pictures", "side")}
    return {**facts, "rows": rows}


def _over(group: Group, name: str, seed: int) -> dict[str, Any]:
    """The gain over the best peer of each set of the module's docstring that is not empty."""
    own = group.engines[name]
    peers = {one: group.engines[one] for one in group.of(Role.PEER, Role.BASELINE)}
    sets = {
        "best": list(peers),
        "alike": [
            one
            for one, event in peers.items()
            if (event["precision"], event["decode"]) == (own["precision"], own["decode"])
        ],
        "runtime": [
            one
            for one, event in peers.items()
            if event["precision"] == "fp32" and event["runtime"] == own["runtime"]
        ],
    }
    found = {}
    for what, names in sets.items():
        if names:
            rounds = {one: group.rounds[one] for one in names}
            peer, ratio = versus_best(group.rounds[name], rounds, seed)
            found[what] = {"peer": peer, **asdict(ratio)}
    return found


def show(found: Mapping[str, Any], console: Console) -> None:
    """A table for each group."""
    console.print(headline(found))
    for group in found["groups"]:
        console.print(_table(found["model"], group))
    missing_and_busy(found, console)


def _table(model: str, group: Mapping[str, Any]) -> Table:
    given = f"JPEGs of {group['side']} pixels to labels" if group["side"] else "uint8 to logits"
    table = Table(title=escape(f"{model}, {given}, batch {group['batch']}"), title_justify="left")
    table.add_column("pipeline")
    table.add_column("arithmetic")
    for heading in (
        "ms an image (95 %)", "over eager", "over the best peer", "over the best alike",
        "over its runtime in FP32",
    ):  # fmt: skip
        table.add_column(heading, justify="right")
    for row in group["rows"]:
        low, high = row["ms_ci95"]
        gains = (row["over"].get(what) for what in ("best", "alike", "runtime"))
        name = escape(row["name"])
        table.add_row(
            f"[bold]{name}[/]" if row["role"] == Role.OURS else name,
            row["precision"],
            f"{row['ms_an_image']:.2f} ({low:.2f} to {high:.2f})",
            _ratio(row["over_eager"]),
            *("" if one is None else f"{_ratio(one)} {escape(one['peer'])}" for one in gains),
        )
    return table


def _ratio(given: Mapping[str, Any]) -> str:
    low, high = given["ci95"]
    return f"{given['median']:.2f} ({low:.2f} to {high:.2f})"
