"""The parent's side of a process that times one engine or the baseline; `worker.py` is the child's.

A child imports what is installed, never what happens to lie in the working directory: a `numpy.py`
there is not run. Where a job names something of the user's, the working directory comes last.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

import exporter
from exporter.errors import BuildError


def import_path(*, own_modules: bool) -> list[str]:
    """This process's `sys.path` for a child: without what Python put there for the main program.

    That is the working directory (`python -m`, `-c`) or the program's own folder. With
    `own_modules` both come last, so that a name is the user's only if nothing installed has it.
    """
    here = Path.cwd().resolve()
    program = getattr(sys.modules["__main__"], "__file__", None)
    own = [here, Path(program).resolve().parent] if program else [here]
    installed = [entry for entry in sys.path if Path(entry).resolve() not in own]
    package = Path(exporter.__file__).resolve().parents[1]
    if package not in [Path(entry).resolve() for entry in installed]:
        installed.insert(0, str(package))  # a checkout that is the working directory
    return [*installed, *map(str, own)] if own_modules else installed


class WorkerProcess:
    """The parent's side of one `worker`; a context manager that leaves no process behind.

    The child is in a process group of its own, so that Ctrl-C on a terminal reaches the parent
    alone, which then kills it. If the parent is killed outright, Linux kills the child.
    """

    def __init__(self, name: str, folder: Path, *, own_modules: bool = False) -> None:
        """`own_modules`: the job names a module or a class of the user's (see `import_path`)."""
        self.name = name
        path = import_path(own_modules=own_modules)
        start = (
            f"import sys; sys.path[:] = {path!r}; from exporter.measure.worker import main; main()"
        )
        self._log = folder / f"{name.replace(':', '-')}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", start],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
                process_group=0 if os.name == "posix" else None,
            )
        self.pid = self._process.pid
        self._handle = psutil.Process(self.pid)

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()

    def end(self) -> None:
        """Kills the process; ending it twice is no error."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def suspend(self) -> None:
        """Stops the process and its threads until `wake` or `ask`."""
        try:
            self._handle.suspend()
        except psutil.NoSuchProcess:
            raise self._died() from None

    def wake(self) -> None:
        """Lets a stopped process go on."""
        try:
            self._handle.resume()
        except psutil.NoSuchProcess:
            raise self._died() from None

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Wakes the process, has one request answered and stops it again."""
        self.wake()
        self.send(request)
        reply = self.receive()
        self.suspend()
        return reply

    def send(self, message: Mapping[str, Any]) -> None:
        """Writes one message; `receive` waits for the answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None

    def receive(self) -> dict[str, Any]:
        """The answer to the last request.

        Raises:
            BuildError: the process reports a failure, or died.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._died()
        reply: dict[str, Any] = json.loads(line)
        if reply.get("unloadable"):
            raise BuildError(f"{reply['error']}; define its class in a module that is importable")
        if "error" in reply:
            raise BuildError(f"measuring {self.name} failed: {reply['error']}")
        return reply

    def _died(self) -> BuildError:
        code = self._process.wait()
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        if code == -getattr(signal, "SIGKILL", 9):
            how += ", perhaps out of memory"
        last = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        said = f": {' '.join(last[-1].split())}" if last else ""
        return BuildError(f"the process that measures {self.name} died ({how}){said}")
