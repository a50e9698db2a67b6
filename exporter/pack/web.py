"""A folder for the browser: the engine on `onnxruntime-web` (WebAssembly), and a demo page."""

from __future__ import annotations

from pathlib import Path

from exporter.pack.javascript import write_javascript
from exporter.pack.packable import PackRequest, Release
from exporter.pack.packed_folder import staged_folder

DEMO = ("index.html", "demo.js", "demo.css")


def pack_web(
    release: Release,
    request: PackRequest,  # noqa: ARG001
    out: Path,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Writes the folder, whole or not at all.

    Raises:
        UsageError: the build has no engine that ONNX Runtime runs on CPUs.
    """
    with staged_folder(out) as folder:
        engine = write_javascript(
            release,
            folder,
            index="web.js",
            dependency="onnxruntime-web",
            readme="web_readme.md.j2",
            extra={name: name for name in DEMO},
        )
    return (engine,), (
        "run `npm install --ignore-scripts` in it, then serve it with any static server",
    )
