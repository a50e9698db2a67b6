"""The process that builds one TensorRT plan: `python -m exporter.targets.tensorrt.build`.

It reads a `BuildRequest` as JSON from standard input and answers with one JSON object a line:

    {"event": "progress", "text": "...", "memory_mb": 212}
    {"event": "error", "message": "..."}        exit code 1; nothing was left behind
    {"event": "done", "version": "1.7.1.116", "seconds": 0.5, "memory_mb": 310, "inputs": {...}}

A process of its own, because Polygraphy picks TensorRT or TensorRT-RTX once a process, because
the builder's log can only be read by the logger that was there first, and because a builder that
is killed or runs out of memory must not take the compiler with it.

TensorRT-RTX builds with no GPU and no driver; full TensorRT needs the GPU that it builds for.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from exporter.targets.tensorrt.request import BuildRequest, RefusedError, Tell


def main() -> int:
    """Builds what standard input asks for; returns the exit code."""
    # Only our events go to standard output: the vendor's prints are sent to standard error.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as events:
        os.dup2(2, 1)

        def tell(event: dict[str, Any]) -> None:
            events.write(json.dumps({**event, "memory_mb": peak_memory_mb()}) + "\n")
            events.flush()

        request = BuildRequest(**json.load(sys.stdin))
        try:
            _limit_memory(request.memory_mb)
            done = build(request, tell)
        except RefusedError as error:
            tell({"event": "error", "message": str(error)})
            return 1
        except MemoryError:
            tell({"event": "error", "message": "out of memory"})
            return 1
        tell({"event": "done", **done})
    return 0


def build(request: BuildRequest, tell: Tell) -> dict[str, Any]:
    """Writes PLAN and the layer list into the request's folder; says what was built.

    Raises:
        RefusedError: the library does not import, its parser or builder refuses the graph, or
            there is no GPU.
    """
    try:
        from exporter.targets.tensorrt import builder
    except ImportError as error:
        # Its message may start with where the library lies on this machine.
        reason = re.sub(r"^/\S*/", "", " ".join(str(error).split()))
        raise RefusedError(f"{request.library} does not import: {reason}") from None
    return builder.build(request, tell)


def peak_memory_mb() -> int | None:
    """This process's largest resident size so far, MiB; None where the system does not tell."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss: Linux hands the parent's peak on to a child.
        lines = status.read_text().splitlines()
        peaks = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
        return int(peaks[0]) >> 10 if peaks else None
    with contextlib.suppress(ImportError):  # Windows has no such module
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 20  # macOS counts in bytes
    return None


def _limit_memory(megabytes: int | None) -> None:
    if megabytes is None:
        return
    try:
        import resource

        # RLIMIT_AS would count the libraries' mapped files as well.
        resource.setrlimit(resource.RLIMIT_DATA, (megabytes << 20, megabytes << 20))
    except (ImportError, ValueError, OSError) as error:
        raise RefusedError(f"memory_mb cannot be set on this system: {error}") from None


if __name__ == "__main__":
    sys.exit(main())
