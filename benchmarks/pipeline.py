"""How near `exporter evaluate` comes to what the machine can do, and to PyTorch's DataLoader.

    python -m benchmarks.pipeline build/resnet50 --engine ort-cpu.int8

JPEGs of 300 to 2,000 pixels are made of photographs that scikit-image ships. One run, interleaved
in rounds of a seeded random order, over the same files each time:

    decode      decoding and preparing alone, on all cores
    engine      the engine alone, on all cores, on one batch in memory
    evaluate    both, as `exporter evaluate --no-reference` does it
    engines     the engine and the float32 reference, on one batch in memory
    paired      both and decoding, as `exporter evaluate` does it
    dataloader  PyTorch's DataLoader with a process a core, the same preprocessing, eager in float32

Decoding and computing share the cores, so both together cannot be as fast as the slower one:
`at_most` is 1 / (1 / decode + 1 / engine). The peak memory is that of processes of their own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.jpegs import make_jpegs
from benchmarks.machine import snapshot
from exporter import host
from exporter.artifact import ModelSpec, Preprocessing
from exporter.cluster.here import answers
from exporter.cluster.job import BATCH, Job
from exporter.commands.evaluate import EvaluateJob
from exporter.commands.gated_engines import opened_subject
from exporter.disk.writing import write_whole
from exporter.images.preprocess import prepare
from exporter.images.samples import picture_contract, read_picture
from exporter.images.sources.opening import open_source
from exporter.images.sources.source import Encoded, Source
from exporter.measure.statistics import orders
from exporter.models.sources import define
from exporter.progress import Silent
from exporter.runtime.pictures import opened

EAGER_BATCH: Final = 32
_PEAK = """
import sys
from pathlib import Path
from exporter.builds.dataset_request import EvaluateRequest
from exporter.commands.evaluate import evaluate
from exporter.progress import Silent
evaluate(EvaluateRequest(sys.argv[1], data=sys.argv[2], engines=(sys.argv[3],)), Silent())
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


@dataclass(frozen=True)
class DecodeJob:
    """Makes the model's inputs, and nothing of them."""

    contract: Preprocessing
    spec: ModelSpec

    @contextmanager
    def opened(self, workers: int) -> Iterator[Callable[[tuple[Encoded, ...]], int]]:  # noqa: ARG002
        """Nothing is loaded."""
        yield self._decode

    def _decode(self, batch: tuple[Encoded, ...]) -> int:
        inputs = []
        for one in batch:
            assert isinstance(one.content, bytes)
            with opened(BytesIO(one.content)) as image:
                inputs.append(prepare(image, self.contract, self.spec))
        return len(np.stack(inputs))


@dataclass(frozen=True)
class EngineJob:
    """Asks the engine the same batch in memory, whatever it is given."""

    build: Path
    engine: str
    with_reference: bool
    batch: Any

    @contextmanager
    def opened(self, workers: int) -> Iterator[Callable[[tuple[Encoded, ...]], int]]:
        """The engine on one thread, and the reference."""
        with opened_subject(self.build, (self.engine,), 1, workers) as subject:
            asked = list(subject.engines.values())
            asked += [subject.answers_of_reference] if self.with_reference else []

            def answer(batch: tuple[Encoded, ...]) -> int:
                return sum(len(run(self.batch[: len(batch)])) for run in asked)

            yield answer


def timed(work: Callable[[tuple[Encoded, ...]], Any], source: Source, workers: int) -> float:
    """Seconds that it takes for all pictures."""
    start = time.perf_counter()
    for _ in answers(work, list(enumerate(source.parts)), workers, lambda _count: None):
        pass
    return time.perf_counter() - start


class Pictures:
    """A dataset of PyTorch: the same files, prepared as the model takes them."""

    def __init__(self, paths: Sequence[Path], contract: Preprocessing, spec: ModelSpec) -> None:
        self._of = paths, contract, spec

    def __len__(self) -> int:
        return len(self._of[0])

    def __getitem__(self, index: int) -> Any:
        paths, contract, spec = self._of
        return read_picture(paths[index], contract, spec)


def dataloader(module: Any, pictures: Pictures, workers: int) -> float:
    """Seconds that PyTorch takes for all pictures; its processes are started before."""
    import torch

    loader: Any = torch.utils.data.DataLoader(
        pictures,  # type: ignore[arg-type]
        batch_size=EAGER_BATCH,
        num_workers=workers,
        persistent_workers=True,
    )
    iterator = iter(loader)
    start = time.perf_counter()
    with torch.inference_mode():
        for batch in iterator:
            module(batch).argmax(1)
    return time.perf_counter() - start


def peaks(build: Path, engine: str, paths: Sequence[Path], counts: Sequence[int]) -> dict[str, Any]:
    """MiB that a process of its own has at most, for so many pictures."""
    found = {}
    for count in counts:
        listed = paths[0].parent.with_suffix(f".{count}.txt")
        listed.write_text("\n".join(str(path) for path in paths[:count]))
        command = [sys.executable, "-c", _PEAK, str(build), str(listed), engine]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[str(count)] = round(int(done.stdout.split()[-1]) / 1024)
    return found


def measure(build: Path, engine: str, paths: Sequence[Path], rounds: int, seed: int) -> Any:
    """Images a second of each way in each round."""
    workers = host.usable_threads()
    listed = paths[0].parent.with_suffix(".measured.txt")
    listed.write_text("\n".join(map(str, paths)))
    source = open_source(str(listed))
    with opened_subject(build, (engine,), 1) as subject:
        spec, contract = subject.model, picture_contract(subject.model, build)
    module = define(spec.source, "random", progress=Silent()).module
    batch = np.stack([read_picture(path, contract, spec) for path in paths[:BATCH]])
    with ExitStack() as stack:
        jobs: tuple[tuple[str, Job[Any]], ...] = (
            ("decode", DecodeJob(contract, spec)),
            ("engine", EngineJob(build, engine, False, batch)),
            ("evaluate", EvaluateJob(build, (engine,), 1, False, None)),
            ("engines", EngineJob(build, engine, True, batch)),
            ("paired", EvaluateJob(build, (engine,), 1, True, None)),
        )
        ways: dict[str, Callable[[], float]] = {
            name: partial(timed, stack.enter_context(job.opened(workers)), source, workers)
            for name, job in jobs
        }
        pictures = Pictures(paths, contract, spec)
        ways["dataloader"] = partial(dataloader, module, pictures, workers)
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for order in orders(len(ways), rounds, seed):
            for name in (list(ways)[index] for index in order):
                rates[name].append(len(paths) / ways[name]())
    return rates


def summary(rates: dict[str, list[float]]) -> dict[str, float]:
    """Medians of ratios within a round."""

    def ratio(over: Callable[[dict[str, float]], float]) -> float:
        rounds = [
            dict(zip(rates, values, strict=True)) for values in zip(*rates.values(), strict=True)
        ]
        return round(statistics.median(over(one) for one in rounds), 3)

    return {
        "evaluate_of_slower": ratio(lambda r: r["evaluate"] / min(r["decode"], r["engine"])),
        "evaluate_of_at_most": ratio(lambda r: r["evaluate"] * (1 / r["decode"] + 1 / r["engine"])),
        "paired_of_slower": ratio(lambda r: r["paired"] / min(r["decode"], r["engines"])),
        "paired_of_at_most": ratio(lambda r: r["paired"] * (1 / r["decode"] + 1 / r["engines"])),
        "evaluate_over_dataloader": ratio(lambda r: r["evaluate"] / r["dataloader"]),
        "paired_over_dataloader": ratio(lambda r: r["paired"] / r["dataloader"]),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("build", type=Path)
    parser.add_argument("--engine", default="ort-cpu.int8")
    parser.add_argument("--images", type=int, default=200, help="measured in each round")
    parser.add_argument("--peaks", type=int, nargs="*", default=[200, 1000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jpegs", type=Path, default=Path("build/jpegs"))
    parser.add_argument("--out", type=Path, default=Path("build/pipeline.json"))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    paths = make_jpegs(given.jpegs, max([given.images, *given.peaks]), given.seed)
    before = snapshot()
    rates = measure(given.build, given.engine, paths[: given.images], given.rounds, given.seed)
    result = {
        "kind": "pipeline",
        "date": time.strftime("%Y-%m-%d"),
        "engine": given.engine,
        "images": given.images,
        "cpu": host.describe_host().cpu,
        "workers": host.usable_threads(),
        "machine": {"before": before, "after": snapshot()},
        "images_per_s": {n: [round(v, 2) for v in values] for n, values in rates.items()},
        "ratios": summary(rates),
        "peak_mib": peaks(given.build, given.engine, paths, given.peaks),
        "versions": host.versions(),
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(given.out, json.dumps(result, indent=1) + "\n")
    print(json.dumps({**result, "versions": None}, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
