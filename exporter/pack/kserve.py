"""A KServe InferenceService on a Triton model repository.

    repository/             to copy to the storage URI (see `triton.py`)
    inferenceservice.yaml   to apply with kubectl

The golden input is the readiness and the liveness probe: a pod gets traffic once it answers
rightly, and is started again when it no longer does. https://kserve.github.io/website/
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Final

from exporter.errors import UsageError
from exporter.pack.checksums import write_sums
from exporter.pack.destination import packed_folder
from exporter.pack.packable import Release
from exporter.pack.request import PackRequest
from exporter.pack.template_files import render
from exporter.pack.triton import choose_engine, on_gpu, plan_of, write_repository

_URI: Final = re.compile(r"(s3|gs|gcs|pvc|hdfs|webhdfs|https?|oci|hf)://[^\s\"]+")
_BASE_MEMORY: Final = 1 << 30
"""What Triton and its Python process take by themselves, in bytes, generously."""
_WEIGHTS_COPIES: Final = 4
"""Weights in memory per byte of engine: read, optimized, prepacked."""


def pack_kserve(
    release: Release, request: PackRequest, out: Path
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Writes repository and YAML, whole or not at all.

    Raises:
        UsageError: no --storage-uri, or what `pack_triton` refuses.
    """
    uri = request.storage_uri
    if uri is None or not _URI.fullmatch(uri):
        raise UsageError(
            f"--storage-uri {uri!r}: say where KServe will find the repository, "
            "as in s3://bucket/path, gs://bucket/path or pvc://claim/path"
        )
    with packed_folder(out) as folder:
        engines, notes = write_repository(release, request, folder / "repository")
        text = inference_service(release, request, uri)
        (folder / "inferenceservice.yaml").write_text(text, encoding="utf-8", newline="\n")
        write_sums(folder)
    advice = f"copy repository/ to {uri}, then `kubectl apply -f inferenceservice.yaml`"
    return engines, (*notes, advice)


def inference_service(release: Release, request: PackRequest, uri: str) -> str:
    """The text of inferenceservice.yaml."""
    entry, _ = choose_engine(release, request.backend)
    batching = plan_of(release, entry, request.slo_ms)
    size = sum(file["bytes"] for file in entry["files"])
    memory = _BASE_MEMORY + _WEIGHTS_COPIES * batching.instances * size
    return render(
        "inferenceservice.yaml.j2",
        name=service_name(release.name),
        model=release.name,
        version=release.manifest["bundle"]["version"],
        uri=uri,
        engine=entry["id"],
        gpu=on_gpu(entry),
        cpus=batching.threads * batching.instances,
        memory_mib=math.ceil(memory / (1 << 20)),
    )


def service_name(model: str) -> str:
    """A DNS label (RFC 1035) for a model: small letters, digits, hyphens, a letter first."""
    name = re.sub(r"[^a-z0-9-]+", "-", model.lower()).strip("-")
    name = name if name[:1].isalpha() else f"model-{name}"
    return name[:50].rstrip("-")  # KServe appends to it, and 63 is the end
