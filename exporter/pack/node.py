"""An npm package for Node.js: the engine on `onnxruntime-node`."""

from __future__ import annotations

from pathlib import Path

from exporter.pack.javascript import write_javascript
from exporter.pack.packable import PackRequest, Release
from exporter.pack.packed_folder import staged_folder


def pack_node(
    release: Release,
    request: PackRequest,  # noqa: ARG001
    out: Path,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Writes the package, whole or not at all.

    Raises:
        UsageError: the build has no engine that ONNX Runtime runs on CPUs.
    """
    with staged_folder(out) as folder:
        engine = write_javascript(
            release,
            folder,
            index="node.js",
            dependency="onnxruntime-node",
            readme="node_readme.md.j2",
        )
    return (engine,), (
        "run `npm install --ignore-scripts` in it: the install script would fetch GPU parts",
    )
