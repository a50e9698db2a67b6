"""`exporter explain FILE.onnx --target TARGET`: why another tool's engine is not faster.

The file is loaded by the target's runtime as it stands, read back and profiled; what our own build
of the network that it stands for would reach is measured beside it.
"""

from __future__ import annotations

import shlex
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from exporter import host
from exporter.artifact import Precision, Skipped
from exporter.builds.codec import json_text
from exporter.builds.explain_request import ExplainRequest
from exporter.causes.examine import Examined, Specimen, examine, examine_refused
from exporter.commands.own_build import OwnBuild, build_own
from exporter.commands.tables import receipt_summary
from exporter.errors import BuildError
from exporter.graph.files import save
from exporter.measure.layers import layers_of
from exporter.measure.profile import Network
from exporter.measure.timing import Profile
from exporter.measure.worker import make_batch
from exporter.models.lowered_file import LoweredFile, load_lowered
from exporter.passes.forms.float_biases import float_biases
from exporter.progress import Progress
from exporter.targets import Target, get_target

if TYPE_CHECKING:
    import onnx_ir as ir
    from rich.console import Console


@dataclass(frozen=True)
class ExplainedFile:
    """What `exporter explain FILE.onnx --target TARGET` tells."""

    file: str
    target: str
    precision: Precision
    engine: Examined
    own_build: OwnBuild | Skipped
    """What our own build of the same network reaches."""
    notes: tuple[str, ...] = ()
    """How what was loaded differs from the file."""

    def to_json(self) -> str:
        """The same, for programs."""
        return json_text(self)


def explain_file(request: ExplainRequest, progress: Progress) -> ExplainedFile:
    """Loads, reads back, profiles, looks for causes, and compares with our own build.

    Raises:
        UsageError: there is no such target, or it has not the file's precision.
        InputError: the file cannot be used.
        BuildError: the target's runtime refuses it, for no cause that is known.
    """
    target = get_target(request.target)
    threads = request.threads or host.usable_threads()
    with progress.stage(f"read {request.build}"):
        given = load_lowered(request.build)
    target.dialect(given.precision)  # which says why it does not have the precision
    with tempfile.TemporaryDirectory(prefix="exporter-explain-") as scratch:
        folder = Path(scratch)
        network_path = folder / "network.onnx"
        save(given.network, network_path)
        if request.save_float is not None:
            save(given.network, request.save_float)
        graph, notes = _to_load(given, target)
        specimen = Specimen(
            folder / "given.onnx",
            given.precision,
            given.graph,
            given.facts,
            command=_command(request, given, target),
        )
        save(graph, specimen.engine)
        engine: Path | None = None
        try:
            with progress.stage(f"load it with {target.name}"):
                engine = target.load_given(specimen.engine, given.precision, folder / "given")
        except BuildError as error:
            examined = examine_refused(target, specimen, str(error))
            if examined is None:
                raise
        else:
            with progress.stage("read it back and profile it"):
                network = _network_of(given, network_path)
                examined = examine(target, replace(specimen, engine=engine), network, threads)
        own: OwnBuild | Skipped = Skipped("not asked for (--no-own-build)")
        if request.own_build:
            own = build_own(target, given.precision, network_path, engine, threads, progress)
    return ExplainedFile(str(request.build), target.name, given.precision, examined, own, notes)


def _to_load(given: LoweredFile, target: Target) -> tuple[ir.Model, tuple[str, ...]]:
    """The file under names that tie its kernels to the network, and what else changed of it."""
    notes = []
    graph = given.written
    if given.qlinear and not target.reads_qlinear:
        graph = given.graph
        notes.append(
            f"{target.name} is given the Q/DQ that the file's {given.qlinear} QLinear operators "
            "mean, which only ONNX Runtime's CPU provider computes as they are written"
        )
    if not target.dequantizes_int32:
        graph = graph.clone()
        biases = float_biases(graph).fired
        if biases:
            notes.append(
                f"{target.name} is given {biases} int32 biases as the float32 numbers that they "
                "stand for, which is equal: it dequantizes no int32"
            )
    return graph, tuple(notes)


def _network_of(given: LoweredFile, network_path: Path) -> Network:
    first = given.inputs[0]
    size = first.shape[0]
    several = [(one.name, one.dtype, one.sample) for one in given.inputs]
    batch = make_batch(
        size if isinstance(size, int) else 1,
        {
            "shape": first.sample,
            "dtype": first.dtype,
            "inputs": several if len(several) > 1 else [],
            "seed": 0,
        },
    )
    blocks = tuple(block.name for block in given.facts.blocks)
    return Network(layers_of(network_path), blocks, batch)


def _command(request: ExplainRequest, given: LoweredFile, target: Target) -> str:
    """What compiles the network that the file stands for."""
    kept = request.save_float or request.build.with_name(f"{request.build.stem}.float32.onnx")
    name = shlex.quote(str(kept))
    export = f"exporter export {name} --target {target.name} --precision {given.precision}"
    if given.precision.quantized:
        export += " --data IMAGES"
    if request.save_float is not None:
        return export
    source = shlex.quote(str(request.build))
    return f"exporter explain {source} --target {target.name} --save-float {name}; {export}"


def render(explained: ExplainedFile, console: Console) -> None:
    """The verdict, the causes in their order, and what our own build reaches."""
    from rich.markup import escape

    from exporter.commands.findings_table import render_findings

    receipt, profile = explained.engine.receipt, explained.engine.profile
    console.print(
        f"[bold]{escape(explained.file)}[/]  {explained.precision} on {explained.target}  "
        f"{receipt_summary(receipt)}"
    )
    for note in explained.notes:
        console.print(f"  note: {escape(note)}")
    console.print(f"  read from: {escape(receipt.source)}")
    if receipt.reason:
        console.print(f"  reason: {escape(receipt.reason)}")
    if isinstance(profile, Profile):
        console.print(
            f"  {profile.total_us / 1000:.2f} ms in its kernels: {escape(profile.source)}, batch "
            f"{profile.batch}, {profile.threads} threads, median of {profile.runs} runs"
        )
    else:
        console.print(f"  no time per kernel: {escape(profile.skipped)}")
    render_findings(explained.engine.findings, console)
    own = explained.own_build
    if isinstance(own, Skipped):
        console.print(f"our own build: {escape(own.skipped)}")
    else:
        console.print(f"our own build: {escape(own.in_words)}")
