"""A model repository for NVIDIA Triton Inference Server.

    <model>/config.pbtxt        batching and instances, from what was measured
    <model>/labels.txt          for Triton's classification extension
    <model>/1/...               the engine under the name that its backend looks for
    <model>/warmup/...          golden inputs, run before the model is ready
    probe.py, probe.json        asks the server a golden input, and loads the model again
    <model>/onnx/model.onnx     of a plan: the graph that it was built from
    README.md                   how to start it, and to build a plan again where it does not load

`triton_backends.py` says which engine is served by which backend.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from exporter.builds.records import EngineRecord
from exporter.pack.batching import Batching, plan_batching
from exporter.pack.bundle import write_bundle
from exporter.pack.checksums import write_sums
from exporter.pack.destination import packed_folder
from exporter.pack.packable import Release, Written
from exporter.pack.probe import golden_probe
from exporter.pack.rebuild import graph_of, rebuilding
from exporter.pack.request import PackRequest
from exporter.pack.runtime_copy import write_runtime
from exporter.pack.served import Served, served_model
from exporter.pack.template_files import render, shipped
from exporter.pack.triton_backends import BACKENDS, PYTHON, choose_engine, largest_batch, on_gpu
from exporter.pack.triton_config import LABELS, VERSION, WarmUp, config_text
from exporter.pack.triton_container import Choice, choose_container
from exporter.targets import target_class


def pack_triton(release: Release, request: PackRequest, out: Path) -> Written:
    """Writes a model repository, whole or not at all.

    Raises:
        UsageError: no such backend, no engine that it serves, a container that does not load it,
            or a limit that cannot be met.
    """
    with packed_folder(out) as folder:
        written = write_repository(release, request, folder)
        write_sums(folder)
    return written


def write_repository(release: Release, request: PackRequest, folder: Path) -> Written:
    """Writes the repository into a new folder.

    Raises:
        UsageError: as `pack_triton`.
    """
    engine, backend = choose_engine(release, request.backend)
    server = choose_container(engine, backend, request.container)
    batching = plan_of(release, engine, request.slo_ms)
    served = served_model(release, by_runtime=backend == PYTHON)
    model = folder / release.name
    version = model / VERSION
    version.mkdir(parents=True)
    if backend == PYTHON:
        _write_python_model(release, version)
    else:
        # TensorRT's second file is the builder's account of the plan, which nobody serves.
        for target, file in zip(BACKENDS[backend].files, engine.files, strict=False):
            (version / target).write_bytes(release.read(file))
    warmups = _write_warmups(model / "warmup", served, batching)
    asked = [f"{release.name}/warmup/{file}" for file in warmups[0].files]
    again = rebuilding(release, request, engine, server.tag)
    if again is not None:
        (model / "onnx").mkdir()
        (model / "onnx" / "model.onnx").write_bytes(graph_of(release, engine))
    options = target_class(engine.target).triton_options(engine.requires)
    notes = _notes(backend, server)
    texts = {
        model / "config.pbtxt": config_text(
            release.name, engine, backend, served, batching, warmups
        ),
        folder / "probe.json": golden_probe(release, engine, served, asked).to_text(),
        folder / "probe.py": shipped("probe.py"),
        folder / "README.md": render(
            "triton_readme.md.j2",
            model=release.name,
            backend=backend,
            engine="the bundle's best engine for the server" if backend == PYTHON else engine.id,
            reason=batching.reason,
            served=served,
            max_batch=None if served.fixed else batching.max_batch,
            image=server.image,
            gpu=on_gpu(engine),
            options="".join(f" {option}" for option in options),
            again=again,
            notes=notes,
        ),
    }
    if release.labels:
        texts[model / LABELS] = "".join(f"{label}\n" for label in release.labels)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8", newline="\n")
    engines = release.ids if backend == PYTHON else (engine.id,)
    return Written(engines, (batching.reason, *notes))


def plan_of(release: Release, engine: EngineRecord, slo_ms: float | None) -> Batching:
    """How an engine of the release is batched.

    Raises:
        UsageError: the limit in time cannot be met.
    """
    threads = release.manifest.host.threads
    return plan_batching(
        engine,
        threads,
        slo_ms=slo_ms,
        limit=largest_batch(release, engine),
        measured=release.manifest.throughput,
    )


def _write_python_model(release: Release, version: Path) -> None:
    """model.py, a copy of `exporter.runtime`, and the bundle that it serves."""
    (version / "model.py").write_text(shipped("triton_model.py"), encoding="utf-8", newline="\n")
    write_runtime(version)
    (version / "bundle").mkdir()
    write_bundle(release, version / "bundle")


def _write_warmups(folder: Path, served: Served, batching: Batching) -> list[WarmUp]:
    """Golden inputs for the smallest and the largest batch."""
    folder.mkdir()
    warmups = []
    for batch in sorted({1, batching.max_batch}) if served.fixed is None else [served.fixed]:
        files = []
        for number, given in enumerate(served.inputs):
            # Numbered, for an input's name may be no file's.
            which = f"-input-{number}" if len(served.inputs) > 1 else ""
            files.append(f"golden-batch-{batch}{which}")
            samples = np.resize(given.samples, (batch, *given.samples.shape[1:]))
            (folder / files[-1]).write_bytes(np.ascontiguousarray(samples).tobytes())
        warmups.append(WarmUp(batch, tuple(files)))
    return warmups


def _notes(backend: str, server: Choice) -> tuple[str, ...]:
    """What the person who starts the server must know."""
    python = (
        "the server's Python needs numpy and the engine's runtime library; where they are not "
        "on its path, name their site-packages in EXPORTER_SITE_PACKAGES"
    )
    first = python if backend == PYTHON else BACKENDS[backend].note
    return tuple(note for note in (first, server.note) if note)
