"""`exporter classify`: a label for each of many pictures, into a folder of Parquet files.

A file holds the pictures of SHARD parts and appears whole or not at all, so a second run does what
is missing, and nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from exporter.builds.codec import json_text
from exporter.builds.dataset_request import ClassifyRequest
from exporter.builds.option import narrowed, refuse_unusable
from exporter.cluster.in_turn import made_in_turn
from exporter.commands.calls import ClassifyCall, shown, takes
from exporter.commands.dataset import answered, pictures_of
from exporter.disk.writing import whole_file, write_whole
from exporter.errors import InputError, MissingDependencyError, UsageError, install_command
from exporter.images.sources.source import Encoded, Source, Unread
from exporter.progress import Progress
from exporter.runtime import Engine, Prediction, load
from exporter.runtime.bundle_files import BundleFiles
from exporter.runtime.description import EngineEntry
from exporter.runtime.errors import ServingError
from exporter.runtime.pictures import opened, pixels
from exporter.runtime.sessions import backend_of

if TYPE_CHECKING:
    import os

    from rich.console import Console

Images: TypeAlias = np.ndarray[Any, Any]
Predict: TypeAlias = Callable[[Images], list[list[Prediction]]]

SHARD: Final = 64
"""Parts of one file: 4,096 pictures, where they are files of their own."""
JOB: Final = "_job.json"
"""Says what the folder holds the predictions of; what reads Parquet passes over names with _."""


@dataclass(frozen=True)
class Row:
    """What is written of one picture."""

    path: str
    label: str | None
    """Of the best class; None: the picture could not be read."""
    index: int | None
    probability: float | None
    margin: float | None
    """By how much the best class is likelier than the second."""
    top: tuple[tuple[str, int, float], ...]
    """(label, index, probability) of the best ones."""
    error: str | None = None


@dataclass(frozen=True)
class Classification:
    """What `exporter classify` did, now and in the runs before."""

    out: Path
    images: int
    unreadable: tuple[str, ...]
    """Every picture that could not be read, and why; it has a row, too."""
    files: int
    done_before: int
    """Files that were there already."""
    failures: tuple[str, ...]

    def to_json(self) -> str:
        """All of it, for programs."""
        return json_text(self)


@dataclass(frozen=True)
class ClassifyJob:
    """Asks one engine of a bundle, which each worker loads and which proves itself."""

    bundle: Path
    engine: str
    threads: int
    top: int
    on_gpu: bool

    @contextmanager
    def opened(self, workers: int) -> Iterator[Callable[[tuple[Encoded, ...]], list[Row]]]:
        """The engine: once for each worker, on a GPU for all."""
        with ExitStack() as stack:
            loaded: list[Engine] = []

            def make() -> Predict:
                engine = load(self.bundle, engine=self.engine, threads=self.threads)
                loaded.append(stack.enter_context(engine))
                return lambda images: engine.predict(images, max(2, self.top))

            try:
                predict = made_in_turn(make, 1 if self.on_gpu else workers)
            except ServingError as error:
                raise InputError(str(error)) from None
            like = loaded[0]
            yield lambda batch: self._rows(like, predict, batch)

    def _rows(self, engine: Engine, predict: Predict, batch: Sequence[Encoded]) -> list[Row]:
        images: list[Images] = []
        errors: list[str | None] = []
        for one in batch:
            try:
                if isinstance(one.content, Unread):
                    errors.append(one.content.reason)
                    continue
                with opened(BytesIO(one.content)) as image:
                    images.append(pixels("", image, engine.framing, engine.image_shape))
                errors.append(None)
            except ServingError as error:
                errors.append(str(error).strip())
        found = iter(predict(np.stack(images)) if images else [])
        rows = []
        for one, reason in zip(batch, errors, strict=True):
            if reason is not None:
                rows.append(Row(one.name, None, None, None, None, (), reason))
                continue
            best = next(found)
            first, second = best[0], best[1].probability if len(best) > 1 else 0.0
            top = tuple((p.label, p.index, p.probability) for p in best[: self.top])
            margin = first.probability - second
            rows.append(Row(one.name, first.label, first.index, first.probability, margin, top))
        return rows


def label(request: ClassifyRequest, progress: Progress) -> Classification:
    """Labels each picture, and writes what is not there yet.

    Raises:
        UsageError: the bundle has no such engine, `out` holds something else, or no cluster is
            there.
        InputError: the bundle or the pictures cannot be used.
        MissingDependencyError: pyarrow is not installed.
    """
    _pyarrow()
    engine = _checked(request)
    source = pictures_of(request, progress)
    _keep_job(request, engine.id, source)
    job = ClassifyJob(
        # A cluster's workers have other working directories.
        request.bundle.absolute(), engine.id, request.threads, request.top,
        _on_gpu(engine),
    )  # fmt: skip
    numbered = list(enumerate(source.parts))
    shards = [numbered[at : at + SHARD] for at in range(0, len(numbered), SHARD)]
    files = [request.out / f"part-{number:05}.parquet" for number in range(len(shards))]
    missing = [number for number, file in enumerate(files) if not file.is_file()]
    if len(missing) < len(files):
        progress.note(f"{len(files) - len(missing)} of {len(files)} files are there already")
    parts = [one for number in missing for one in shards[number]]
    waiting = {number: len(shards[number]) for number in missing}
    rows: dict[int, list[Row]] = {}
    for place, some in answered(job, source, parts, request, progress) if parts else ():
        rows[place] = [row for batch in some for row in batch]
        number = place // SHARD
        waiting[number] -= 1
        if not waiting[number]:
            _write(files[number], [row for at, _ in shards[number] for row in rows.pop(at)],
                   request.top)  # fmt: skip
    return _outcome(request, source, files, len(files) - len(missing))


def _checked(request: ClassifyRequest) -> EngineEntry:
    """The engine, once it is known to take pictures.

    It is loaded here, so that what is wrong with it is said at once; but not one of a GPU that a
    cluster's nodes may have and this machine need not.
    """
    try:
        description = BundleFiles(request.bundle).description
        entries = {entry.id: entry for entry in description.engines}
        named = entries.get(request.engine or "")
        if named is None or request.on is None or not _on_gpu(named):
            with load(request.bundle, engine=request.engine, threads=request.threads) as engine:
                named = entries[engine.id]
    except ServingError as error:
        raise InputError(str(error)) from None
    if len(description.inputs) > 1 or description.scores is None:
        raise UsageError(
            f"{request.bundle}: {description.model} gives no class to one picture; "
            "`exporter.load` runs it on tensors"
        )
    return named


def _on_gpu(engine: EngineEntry) -> bool:
    backend = backend_of(engine.target)
    return backend is not None and backend.device != "cpu"


def _keep_job(request: ClassifyRequest, engine: str, source: Source) -> None:
    """Writes down what the folder is for, or refuses one that is for something else."""
    job = {
        "bundle": _digest(sorted(BundleFiles(request.bundle).sums.items())),
        "engine": engine,
        "threads": request.threads,
        "top": request.top,
        "data": source.name,
        "pictures": _digest(source.parts),
    }
    path = request.out / JOB
    if request.out.exists() and not request.out.is_dir():
        raise UsageError(f"--out {request.out} is a file; give a folder")
    if path.is_file():
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            kept = None
        differ = [name for name in job if not isinstance(kept, dict) or kept.get(name) != job[name]]
        if differ:
            raise UsageError(
                f"--out {request.out} holds the predictions of another run (other "
                f"{', '.join(differ)}); give another folder, or remove it"
            )
        return
    if request.out.is_dir() and any(request.out.iterdir()):
        raise UsageError(f"--out {request.out} is not empty and no folder of predictions")
    request.out.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(job, indent=1))


def _digest(values: Sequence[object]) -> str:
    return hashlib.sha256("\n".join(map(repr, values)).encode()).hexdigest()


def _schema(top: int) -> Any:
    import pyarrow as pa

    fields = [
        ("path", pa.string()), ("label", pa.string()), ("index", pa.int32()),
        ("probability", pa.float64()), ("margin", pa.float64()),
    ]  # fmt: skip
    if top > 1:
        fields += [
            ("top_labels", pa.list_(pa.string())), ("top_indices", pa.list_(pa.int32())),
            ("top_probabilities", pa.list_(pa.float64())),
        ]  # fmt: skip
    return pa.schema([*fields, ("error", pa.string())])


def _write(file: Path, rows: Sequence[Row], top: int) -> None:
    import pyarrow as pa

    records = [asdict(row) for row in rows]
    for record in records:
        best = record.pop("top")
        if top > 1:
            for place, name in enumerate(("top_labels", "top_indices", "top_probabilities")):
                record[name] = [one[place] for one in best]
    with whole_file(file) as partial:
        _pyarrow().write_table(pa.Table.from_pylist(records, schema=_schema(top)), partial)


def _outcome(
    request: ClassifyRequest, source: Source, files: Sequence[Path], before: int
) -> Classification:
    images, unreadable = 0, list(source.unreadable)
    for file in files:
        table = _pyarrow().read_table(file, columns=["path", "error"])
        images += table.num_rows
        bad = table.filter(table["error"].is_valid())
        unreadable += [f"{row['path']} {row['error']}" for row in bad.to_pylist()]
    failures = []
    if unreadable and not request.skip_unreadable:
        failures.append(
            f"{len(unreadable)} images cannot be read (their rows have no label); "
            f"--skip-unreadable makes that no failure: {unreadable[0]}"
        )
    return Classification(
        request.out, images, tuple(unreadable), len(files), before, tuple(failures)
    )


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise MissingDependencyError(
            f"Parquet is written by pyarrow, which is not installed; run: {install_command('data')}"
        ) from None
    return pyarrow.parquet


def render(found: Classification, console: Console) -> None:
    """Where the predictions are, and what could not be read."""
    before = f", {found.done_before} of them before" if found.done_before else ""
    console.print(
        f"{found.out}: {found.images} images in {found.files} files{before}",
        markup=False, soft_wrap=True,
    )  # fmt: skip
    for file in found.unreadable:
        console.print(f"not read: {file}", markup=False, soft_wrap=True)


@takes(ClassifyCall)
def classify(  # noqa: D417
    bundle: str | os.PathLike[str], request_for: Callable[[Path], ClassifyCall]
) -> Classification:
    """Label many pictures with a bundle, into a folder of Parquet files; resumed where it stopped.

    Args:
        bundle: what `Build.pack` wrote, folder or archive.
        {options}
        progress: see `exporter.export`.

    Returns:
        How many pictures there are in how many files, and those that could not be read.

    Raises:
        UsageError: the bundle has no such engine, `out` holds something else, or no cluster is
            there.
        InputError: the bundle or the pictures cannot be used.
    """
    call = request_for(Path(bundle))
    request = narrowed(ClassifyRequest, call)
    refuse_unusable(request)
    return label(request, shown(call.progress))
