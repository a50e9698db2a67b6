"""Runs the builder process and turns its end, however it comes, into a plan or one clear error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import psutil

import exporter
from exporter.errors import BuildError
from exporter.targets.tensorrt.request import BuildRequest

Report = Callable[[str], None]

IDLE_LIMIT_S = 60.0
"""A builder that uses no processor time for this long is stuck. TensorRT-RTX 1.7 can be: when one
of its threads finds no memory, the others wait for it for ever."""


def run_builder(request: BuildRequest, what: str, report: Report) -> dict[str, Any]:
    """Builds in a process of its own; returns the answer of `build.build`.

    `what` names the build in errors ("tensorrt-rtx:sm89 fp16"); `report` is told what goes on.

    Raises:
        BuildError: the builder refused, was killed, ran out of memory, crashed or got stuck.
    """
    with tempfile.TemporaryFile() as complaints:
        # -P: a polygraphy.py in the working directory is not run.
        command = [sys.executable, "-P", "-m", "exporter.targets.tensorrt.build"]
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env=_environment(request.library),
            text=True,
            encoding="utf-8",
        ) as process:
            watch = _Watch(process, IDLE_LIMIT_S)
            try:
                events = _converse(process, request, what, report)
            except BaseException:
                process.kill()
                raise
            finally:
                watch.end()
        complaints.seek(0)
        last_words = complaints.read().decode("utf-8", "replace")
    done = [event for event in events if event["event"] == "done"]
    if process.returncode == 0 and done:
        return done[0]
    refusals = [event["message"] for event in events if event["event"] == "error"]
    if watch.stuck:
        refusals = [f"the builder was stuck (no processor time for {IDLE_LIMIT_S:.0f} s)"]
    raise BuildError(
        f"{what}: {_reason(process.returncode, refusals, last_words)}{_memory(request, events)}"
    )


class _Watch:
    """Kills a process that uses no processor time."""

    def __init__(self, process: subprocess.Popen[str], idle_limit_s: float) -> None:
        self.stuck = False
        self._process = process
        self._idle_limit_s = idle_limit_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        used, idle_s, step_s = -1.0, 0.0, min(1.0, self._idle_limit_s / 4)
        while not self._ended.wait(step_s):
            try:
                times = psutil.Process(self._process.pid).cpu_times()
            except psutil.Error:
                return  # it ended
            now = times.user + times.system
            idle_s = idle_s + step_s if now == used else 0.0
            used = now
            if idle_s >= self._idle_limit_s:
                self.stuck = True
                self._process.kill()
                return


def _environment(library: str) -> dict[str, str]:
    """Ours, with Polygraphy's choice of library made and this very package importable."""
    root = str(Path(exporter.__file__).parents[1])
    # An empty entry, as a trailing colon makes one, would be the working directory.
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {
        **os.environ,
        "POLYGRAPHY_USE_TENSORRT_RTX": "1" if library == "tensorrt_rtx" else "0",
        "PYTHONPATH": os.pathsep.join(paths),
    }


def _converse(
    process: subprocess.Popen[str], request: BuildRequest, what: str, report: Report
) -> list[dict[str, Any]]:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        json.dump(asdict(request), process.stdin)
        process.stdin.close()
    except BrokenPipeError:
        return []  # it is dead; its exit code says why
    return _events(process.stdout, what, report)


def _events(stream: IO[str], what: str, report: Report) -> list[dict[str, Any]]:
    events = []
    for line in stream:
        try:
            event = json.loads(line)
        except ValueError:
            break  # cut off by the end of the process
        events.append(event)
        if event["event"] == "progress":
            report(f"{what}: {event['text']}")
    return events


def _reason(returncode: int, refusals: Sequence[str], last_words: str) -> str:
    if refusals:
        return refusals[0]
    if returncode < 0:
        known = {int(number): number.name for number in signal.Signals}
        name = known.get(-returncode, f"signal {-returncode}")
        if name == "SIGKILL":
            return "the builder was killed (SIGKILL), as the system does when memory runs out"
        said = _last_line(last_words)
        return f"the builder crashed ({name}){said}"
    return f"the builder ended with exit code {returncode}{_last_line(last_words)}"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f": {lines[-1][:300]}" if lines else ""


def _memory(request: BuildRequest, events: Sequence[Mapping[str, Any]]) -> str:
    """What is known of the memory, where memory may have been the reason."""
    peaks = [event["memory_mb"] for event in events if event.get("memory_mb")]
    refused = any(event["event"] == "error" for event in events)
    if request.memory_mb is None and (refused or not peaks):
        return ""
    used = f" (it had used {max(peaks)} MiB)" if peaks else ""
    if request.memory_mb is None:
        return used
    return f"{used}; --setting memory_mb={request.memory_mb} may be too little"
