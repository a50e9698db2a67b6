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
from exporter.pack.packable import Release, Written
from exporter.pack.request import PackRequest
from exporter.pack.template_files import render
from exporter.pack.triton import plan_of, write_repository
from exporter.pack.triton_backends import choose_engine, on_gpu
from exporter.pack.triton_container import choose_container

_URI: Final = re.compile(r"(s3|gs|gcs|pvc|hdfs|webhdfs|https?|oci|hf)://[^\s\"]+")
_LONGEST_NAME: Final = 63 - len("-predictor-") - 20
"""Of a DNS label's 63 characters, with 20 left for the namespace."""
_BASE_MEMORY: Final = 1 << 30
"""What Triton and its Python process take by themselves, in bytes, generously."""
_WEIGHTS_COPIES: Final = 4
"""Weights in memory per byte of engine: read, optimized, prepacked."""


def pack_kserve(release: Release, request: PackRequest, out: Path) -> Written:
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
        written = write_repository(release, request, folder / "repository")
        text = inference_service(release, request, uri)
        (folder / "inferenceservice.yaml").write_text(text, encoding="utf-8", newline="\n")
        write_sums(folder)
    advice = f"copy repository/ to {uri}, then `kubectl apply -f inferenceservice.yaml`"
    return Written(written.engines, (*written.notes, advice))


def inference_service(release: Release, request: PackRequest, uri: str) -> str:
    """The text of inferenceservice.yaml."""
    engine, backend = choose_engine(release, request.backend)
    server = choose_container(engine, backend, request.container)
    batching = plan_of(release, engine, request.slo_ms)
    memory = _BASE_MEMORY + _WEIGHTS_COPIES * batching.instances * engine.bytes
    return render(
        "inferenceservice.yaml.j2",
        name=service_name(release.name),
        version=release.bundle.version,
        uri=uri,
        engine=engine.id,
        tag=server.tag,
        gpu=on_gpu(engine),
        cpus=batching.threads * batching.instances,
        memory_mib=math.ceil(memory / (1 << 20)),
    )


def service_name(model: str) -> str:
    """A DNS label (RFC 1035) for a model: small letters, digits, hyphens, a letter first.

    Short enough for the label that KServe makes of it, NAME-predictor-NAMESPACE.
    """
    name = re.sub(r"[^a-z0-9-]+", "-", model.lower()).strip("-")
    name = name if name[:1].isalpha() else f"model-{name}"
    return name[:_LONGEST_NAME].rstrip("-")
