"""The way to a Ray cluster: an address where one answers in time, or one line."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Final

from exporter.errors import MissingDependencyError, UsageError, install_command
from exporter.runtime.errors import reason_of

ANSWERS_WITHIN_S: Final = 10
"""A cluster that takes longer to say that it is there is none."""
_LISTENS_WITHIN_S: Final = 4
_ASK: Final = """
import sys
from ray._raylet import GcsClient
print(flush=True)
GcsClient(address=sys.argv[1])
"""
"""In a process that can be ended: Ray tries for minutes, whatever it is told."""


@contextlib.contextmanager
def connected(address: str) -> Iterator[Any]:
    """Ray, connected to the cluster.

    Meanwhile standard output is standard error: Ray prints the errors of its nodes there, between
    what a command answers.

    Raises:
        MissingDependencyError: Ray is not installed.
        UsageError: no cluster answers at the address.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise MissingDependencyError(
            f"--on {address} needs Ray, which is not installed; run: {install_command('ray')}"
        ) from None
    _check_answers(address)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # Ray's, gRPC's and the system's own
        raise UsageError(f"--on {address}: {reason_of(error, 300)}") from None
    with contextlib.redirect_stdout(sys.stderr):
        try:
            yield ray
        finally:
            ray.shutdown()  # ends the thread that prints them


def _check_answers(address: str) -> None:
    """Refuses an address where no cluster answers in time; Ray itself tries for minutes."""
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdecimal()) or "/" in host:
        raise UsageError(f"--on {address!r}: give the address of a Ray cluster, HOST:PORT")
    nobody = UsageError(
        f"--on {address}: no Ray cluster answers there within {ANSWERS_WITHIN_S} s; start one "
        "with `ray start --head`, or leave --on out"
    )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_LISTENS_WITHIN_S).close()
    except (OSError, OverflowError):
        raise nobody from None
    asked = [sys.executable, "-P", "-c", _ASK, address]
    with subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.readline()  # Ray's own start is not the cluster's time
        try:
            code = process.wait(ANSWERS_WITHIN_S - _LISTENS_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = None
    if code != 0:
        raise nobody
