"""A model for MLflow: the bundle behind its generic Python flavour, `python_function`.

    MLmodel               what MLflow reads: the loader, its options, the signature
    bundle/               the bundle (see `bundle.py`), which proves itself at load
    code/                 the loader and a copy of `exporter.runtime`
    input_example.json    a golden input; serving_input_example.json: as a request
    register.py           logs and registers it on a tracking server
    requirements.txt, conda.yaml, python_env.yaml

Written by the layout that MLflow documents, without MLflow: the same build packs to the same bytes.
https://mlflow.org/docs/latest/ml/model/
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeAlias

from exporter.builds.records import EngineRecord
from exporter.errors import UsageError
from exporter.pack.bundle import write_bundle
from exporter.pack.checksums import write_sums
from exporter.pack.destination import packed_folder
from exporter.pack.packable import Release, Written, with_engines
from exporter.pack.request import PackRequest
from exporter.pack.runtime_copy import write_runtime
from exporter.pack.served import Served, served_model
from exporter.pack.template_files import render, shipped
from exporter.runtime.sessions import BACKENDS, Backend, backend_of

LOADER: Final = "exporter_mlflow"
"""The module that MLflow imports; no package has that name."""

Spec: TypeAlias = dict[str, object]


def pack_mlflow(release: Release, request: PackRequest, out: Path) -> Written:  # noqa: ARG001
    """Writes a model, whole or not at all.

    Raises:
        UsageError: the build has no engine that `exporter.runtime` runs.
    """
    chosen = _served_engines(release)
    alone = with_engines(release, chosen, "exporter.runtime does not run it")
    with packed_folder(out) as folder:
        write_model(alone, folder)
        write_sums(folder)
    advice = "README.md has the commands; MLFLOW_DISABLE_TELEMETRY=true keeps MLflow quiet"
    return Written(alone.ids, (advice,))


def write_model(release: Release, folder: Path) -> None:
    """Writes the files of a model into an empty folder."""
    (folder / "bundle").mkdir()
    write_bundle(release, folder / "bundle")
    write_runtime(folder / "code")
    served = served_model(release, by_runtime=True)
    inputs, outputs = signature(served)
    first = {given.name: given.samples[:1].tolist() for given in served.inputs}
    example = first if len(first) > 1 else next(iter(first.values()))
    requirements = _requirements(release)
    python = release.manifest.host.versions["python"]
    texts = {
        "MLmodel": render(
            "mlmodel.yaml.j2",
            loader=LOADER,
            python=python,
            engines=release.ids,
            labels=len(release.labels),
            version=release.bundle.version,
            weights_sha256=release.manifest.model.weights.sha256,
            inputs=inputs,
            outputs=outputs,
        ),
        f"code/{LOADER}.py": shipped("mlflow_model.py"),
        "register.py": shipped("mlflow_register.py"),
        "input_example.json": json.dumps(example) + "\n",
        "serving_input_example.json": json.dumps({"inputs": example}) + "\n",
        "requirements.txt": "".join(f"{line}\n" for line in requirements),
        "conda.yaml": _conda(python, requirements),
        "python_env.yaml": f'python: "{python}"\ndependencies:\n- -r requirements.txt\n',
        "README.md": render(
            "mlflow_readme.md.j2",
            model=release.name,
            name=shlex.quote(release.name),
            engines=release.ids,
            served=served,
        ),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def signature(served: Served) -> tuple[list[Spec], list[Spec]]:
    """MLflow's tensor specifications of inputs and outputs; one alone needs no name."""
    inputs = [(one.name, one.samples.dtype.name, one.samples.shape[1:]) for one in served.inputs]
    outputs = [(output.name, "float32", output.shape) for output in served.outputs]
    return _specs(inputs), _specs(outputs)


def _specs(tensors: Sequence[tuple[str, str, Sequence[int]]]) -> list[Spec]:
    return [
        {
            **({"name": name} if len(tensors) > 1 else {}),
            "type": "tensor",
            "tensor-spec": {"dtype": kind, "shape": [-1, *shape]},
        }
        for name, kind, shape in tensors
    ]


def _served_engines(release: Release) -> tuple[EngineRecord, ...]:
    """Those that `exporter.runtime` runs somewhere.

    Raises:
        UsageError: there is none.
    """
    chosen = tuple(engine for engine in release.engines if backend_of(engine.target) is not None)
    if not chosen:
        served = " or ".join(BACKENDS)
        raise UsageError(
            f"an MLflow model runs {served} engines, the build has {', '.join(release.ids)}; "
            f"export it with --target {next(iter(BACKENDS))}, or pack it as bundle or triton"
        )
    return chosen


def _requirements(release: Release) -> list[str]:
    """What pip installs where the model is served: MLflow, numpy, the libraries as proved with."""
    libraries: dict[str, tuple[Backend, str]] = {}
    for engine in release.engines:
        backend = backend_of(engine.target)
        assert backend is not None, "others were left out"
        version = str(engine.requires["versions"][backend.module])
        # A library's package for GPUs excludes the one for CPUs, and has what that has.
        if backend.module not in libraries or backend.device == "cuda":
            libraries[backend.module] = backend, version
    numpy = f"numpy=={release.manifest.host.versions['numpy']}"
    return [
        "mlflow>=3",
        numpy,
        *(f"{backend.package}=={version}" for backend, version in libraries.values()),
    ]


def _conda(python: str, requirements: Sequence[str]) -> str:
    """The text of conda.yaml."""
    lines = ["channels:", "- conda-forge", "dependencies:", f"- python={python}", "- pip", "- pip:"]
    return "".join(f"{line}\n" for line in [*lines, *(f"  - {one}" for one in requirements)])
