"""What a GPU says of this project, in one archive: `make gpu-report`, under 25 minutes.

    python -m benchmarks.gpu_report --model resnet50

It builds, proves and measures the model on every target of the GPU, asks NVIDIA's trtexec for the
same plans, runs the GPU tests and the GPU's part of the suite, and samples the GPU all the while.
Each step is a process of its own with a time limit; one that fails or takes too long costs itself
alone. `summary.md` in the archive answers: does it load, is it right, is each receipt what was
predicted, how far are we from trtexec.

Engines and ONNX files stay behind (`build/gpu-report`): the archive has what was said about them.
No host name, user name or path of this machine is in it.

With `--device cpu` the same is rehearsed on a CPU's targets.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from benchmarks.command_line import finish_alone
from benchmarks.gpu_summary import TRTEXEC_LOG, summarize
from benchmarks.options import sizes, words
from exporter import host
from exporter.artifact import Skipped
from exporter.builds import manifest as manifests
from exporter.errors import InputError, UsageError
from exporter.measure.nvml import GpuWatch, open_gpu
from exporter.progress import Progress, Terminal, make_console
from exporter.targets import TARGETS, MachineKind, folder_name, target_class
from exporter.targets.diagnosis import Status

OUT: Final = Path("build/gpu-report")
MINUTES: Final = 24.0
"""Of the whole, so that the archive is there in less than 25."""
ROOT: Final = Path(__file__).parents[1]
KEPT: Final = (
    "*.log", "*.json", "*.jsonl", "*.jsonl.partial", "tests.xml", "*.md", "*.html", "*.svg",
    "*.layers.txt",
)  # fmt: skip
"""What goes into the archive: everything but the engines, the graphs and the goldens."""
PEERS: Final = (
    "torch-cuda-graph", "torch-cuda-channels-last", "torch-cuda-tf32", "torch-cuda-autocast",
    "torch-cuda-compile-half", "torch-tensorrt", "onnxruntime-cuda", "ours/tensorrt.fp16",
)  # fmt: skip
"""Whom the suite measures on a GPU, since there is time for these; the exports have all of ours."""
CACHE: Final = "cache"
"""The suite's engines and what belongs to them; it stays out of the archive."""


class Ending(StrEnum):
    """How a step ended."""

    DONE = "done"
    FAILED = "failed"
    OUT_OF_TIME = "out of time"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Step:
    """One command of the report."""

    name: str
    command: tuple[str, ...]
    limit_s: float


@dataclass(frozen=True)
class Outcome:
    """What became of a step; its output is in NAME.log."""

    name: str
    command: str
    ending: Ending
    exit_code: int | None
    seconds: float
    why: str = ""


@dataclass(frozen=True)
class Request:
    """What a report is made of."""

    device: MachineKind
    model: str
    targets: tuple[str, ...]
    batches: tuple[int, ...]
    rounds: int
    tests: tuple[str, ...]
    """Files or folders of tests; those that need a GPU are run."""
    peers: tuple[str, ...] = ()
    """Of the suite; none: PEERS on a GPU, all of them on a CPU."""


def run(
    device: Annotated[MachineKind, typer.Option(help="cpu: a rehearsal.")] = MachineKind.GPU,
    model: Annotated[str, typer.Option(help="As exporter export's.")] = "resnet50",
    target: Annotated[
        str, typer.Option(metavar="LIST", help="Targets, instead of all of the device.")
    ] = "",
    batches: Annotated[str, typer.Option(metavar="LIST", help="Batch sizes.")] = "1,8,32",
    rounds: Annotated[int, typer.Option(min=5, help="Interleaved rounds.")] = 15,
    minutes: Annotated[float, typer.Option(min=0.1, help="What is not done by then is not.")] = (
        MINUTES
    ),
    peers: Annotated[str, typer.Option(metavar="LIST", help="As `benchmarks run --peers`.")] = "",
    tests: Annotated[str, typer.Option(help="Where the GPU tests are.")] = "tests/gpu",
    out: Annotated[Path, typer.Option(help="Folder; the archive is beside it.")] = OUT,
) -> None:
    """Make the archive; it is there whatever failed, and then the exit code is 1."""
    if device is MachineKind.GPU and host.describe_host().gpu is None:
        raise UsageError(
            "no NVIDIA driver answers here; --device cpu rehearses the report on a CPU's targets"
        )
    request = Request(
        device=device,
        model=model,
        targets=words(target) or targets_of(device),
        batches=sizes(batches),
        rounds=rounds,
        tests=words(tests),
        peers=words(peers),
    )
    outcomes = report(request, out, minutes * 60, Terminal(make_console(stderr=True)))
    archive = pack(out)
    console = make_console()
    console.print((out / "summary.md").read_text(encoding="utf-8"), markup=False, soft_wrap=True)
    console.print(f"{archive}: attach it to an issue", soft_wrap=True)
    if any(outcome.ending is not Ending.DONE for outcome in outcomes):
        raise typer.Exit(1)


def targets_of(device: MachineKind) -> tuple[str, ...]:
    """Those that compute on that device, and run here or should on such a machine."""
    here = host.describe_host()
    classes = {name: target_class(name) for name in TARGETS}
    return tuple(
        name
        for name, cls in classes.items()
        if cls.runs_on is device
        and (
            cls.default_for(device)
            or any(found.status is Status.AVAILABLE for found in cls.diagnose(here))
        )
    )


def report(
    request: Request, folder: Path, budget_s: float, progress: Progress
) -> tuple[Outcome, ...]:
    """Runs every step into `folder`, which is emptied first, and writes the summary.

    Raises:
        InputError: the folder cannot be emptied or written.
    """
    try:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}") from None
    folder = folder.resolve()  # the steps run elsewhere
    deadline = time.monotonic() + budget_s
    outcomes: list[Outcome] = []
    gpu = open_gpu() if request.device is MachineKind.GPU else Skipped("rehearsed on the CPU")
    with GpuWatch(gpu) as watch:
        for make in (first_steps, trtexec_steps, last_steps):
            for step in make(request, folder):
                with progress.stage(step.name):
                    outcomes.append(run_step(step, folder, deadline))
    write_json(folder / "steps.json", [asdict(outcome) for outcome in outcomes])
    write_json(folder / "host.json", asdict(host.describe_host()))
    trace = [json.dumps(row) for row in watch.rows()] or [json.dumps({"missing": watch.failure})]
    (folder / "nvml.jsonl").write_text("\n".join(trace) + "\n", encoding="utf-8")
    steps = {o.name: (o.ending, f"{o.seconds:.0f} s", o.why) for o in outcomes}
    text = summarize(folder, request.device, request.model, steps, watch.samples)
    (folder / "summary.md").write_text(text, encoding="utf-8")
    return tuple(outcomes)


def first_steps(request: Request, folder: Path) -> Iterator[Step]:
    """The machine, and an export of the model on each target."""
    python = sys.executable
    yield Step("doctor", (python, "-m", "exporter", "doctor", "--json"), 120)
    yield Step("packages", (python, "-m", "pip", "list", "--format=freeze"), 60)
    if request.device is MachineKind.GPU:
        yield Step("nvidia-smi", ("nvidia-smi",), 30)
    for target in request.targets:
        command = (
            *(python, "-m", "exporter", "export", request.model, "--weights", "random"),
            *("--target", target, "--batches", _list(request.batches)),
            *("--rounds", str(request.rounds), "--out", str(build_of(folder, target))),
        )
        yield Step(f"export-{folder_name(target)}", command, 420)


def trtexec_steps(request: Request, folder: Path) -> Iterator[Step]:
    """NVIDIA's own measurement of each plan that was built, where trtexec is in PATH."""
    if shutil.which("trtexec") is None:
        return
    for target in request.targets:
        build = build_of(folder, target)
        if not (build / manifests.FILE_NAME).exists():
            continue
        for engine in manifests.read(build).engines:
            lines = engine.requires.get("trtexec", {})
            for batch, line in lines.items():
                name = TRTEXEC_LOG.format(target=folder_name(target), precision=engine.precision)
                plan = str(build / engine.path)
                words = shlex.split(line)
                command = [
                    f"--loadEngine={plan}" if word.startswith("--loadEngine=") else word
                    for word in words
                ]
                yield Step(f"{name}-b{batch}", tuple(command), 60)


def last_steps(request: Request, folder: Path) -> Iterator[Step]:
    """The tests that need a GPU, and the suite's part of the device."""
    python = sys.executable
    peers = request.peers or (PEERS if request.device is MachineKind.GPU else ())
    options = ("-m", "gpu", "-rs", "-p", "no:cacheprovider", f"--junit-xml={folder / 'tests.xml'}")
    yield Step("tests", (python, "-m", "pytest", *options, *request.tests), 420)
    command = (
        *(python, "-m", "benchmarks", "run", "--device", str(request.device)),
        *("--models", request.model, "--batches", _list(request.batches[:2])),
        *("--rounds", str(request.rounds), "--lives", "1", "--out", str(folder / "suite")),
        *("--cache", str(folder / CACHE)),
        *(("--peers", _list(peers)) if peers else ()),
    )
    yield Step("suite", command, 600)


def build_of(folder: Path, target: str) -> Path:
    """Where the build of one target lies."""
    return folder / "builds" / folder_name(target)


def run_step(step: Step, folder: Path, deadline: float) -> Outcome:
    """Runs a step's command, its output to NAME.log; whatever happens is its outcome."""
    begin = time.monotonic()
    limit = min(step.limit_s, deadline - begin)
    shown = shlex.join(step.command)
    if limit <= 0:
        return Outcome(step.name, shown, Ending.NOT_RUN, None, 0.0, "the time was over")
    why = ""
    with (folder / f"{step.name}.log").open("wb") as log:
        try:
            process = subprocess.Popen(
                step.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                start_new_session=True,
            )
        except OSError as error:
            why = f"{step.command[0]} does not start: {error.strerror}"
            return Outcome(step.name, shown, Ending.FAILED, None, 0.0, why)
        try:
            code = process.wait(timeout=limit)
            ending = Ending.DONE if code == 0 else Ending.FAILED
        except subprocess.TimeoutExpired:
            _kill(process)
            code, ending = process.wait(), Ending.OUT_OF_TIME
            why = f"stopped after {limit:.0f} s"
        except BaseException:
            _kill(process)
            raise
    if ending is Ending.FAILED:
        why = last_words(folder / f"{step.name}.log") or f"exit code {code}"
    return Outcome(step.name, shown, ending, code, round(time.monotonic() - begin, 1), why)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Ends a step and all processes that it started."""
    if os.name == "posix":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def last_words(log: Path) -> str:
    """The last error line of a log, or its last line."""
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines()]
    lines = [line for line in lines if line]
    errors = [line for line in lines if line.lower().startswith("error")]
    return scrubbed((errors or lines or [""])[-1])[:300]


def pack(folder: Path) -> Path:
    """The archive of what was said, beside the folder; texts without this machine's names."""
    archive = folder.with_name(f"{folder.name}-{datetime.now(UTC).date().isoformat()}.zip")
    found = {path for pattern in KEPT for path in folder.rglob(pattern)}
    files = sorted(path for path in found if not _left_out(path.relative_to(folder)))
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in files:
            text = path.read_text(encoding="utf-8", errors="replace")
            file.writestr(f"{folder.name}/{path.relative_to(folder).as_posix()}", scrubbed(text))
    return archive


def _left_out(path: Path) -> bool:
    """Whether a file belongs to the suite's cache, or to a build that was stopped."""
    return any(part == CACHE or part.startswith(".") for part in path.parts)


def scrubbed(text: str) -> str:
    """A text without the paths, the user and the host that it was written on."""
    for own, instead in private_words():
        text = text.replace(own, instead)
    return re.sub(r'hostname="[^"]*"', 'hostname=""', text)


def private_words() -> Sequence[tuple[str, str]]:
    """What names this machine or its user, the longest first, and what stands for it."""
    found = {str(ROOT): ".", sys.prefix: "VENV", sys.base_prefix: "PYTHON"}
    home = str(Path.home())
    if len(home) > 1:
        found.setdefault(home, "~")
    return sorted(found.items(), key=lambda pair: -len(pair[0]))


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _list(values: Sequence[object]) -> str:
    return ",".join(map(str, values))


if __name__ == "__main__":
    finish_alone(run, hint="(python -m benchmarks.gpu_report --help)")
