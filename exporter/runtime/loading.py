"""`load`: from a bundle on disk to an engine that has proved itself."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from exporter.runtime.bundle_files import BundleFiles
from exporter.runtime.choice import choose
from exporter.runtime.description import (
    GOLDEN,
    LABELS,
    Description,
    EngineEntry,
)
from exporter.runtime.engine import Engine, whole_number
from exporter.runtime.errors import BundleError, GoldenError, InputError, NoEngineError
from exporter.runtime.goldens import Goldens, read_goldens, replay
from exporter.runtime.machine import usable_threads
from exporter.runtime.sessions import backend_of
from exporter.runtime.threads import Threads

MAX_THREADS: Final = 4096
"""Of one engine: more than any machine has."""

_log = logging.getLogger("exporter.runtime")


def load(
    bundle: str | Path,
    *,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    engine: str | None = None,
    threads: int | None = None,
    streams: int = 1,
    shared: bool = False,
    on_mismatch: Literal["fail", "next"] = "fail",
    public_key: str | Path | None = None,
) -> Engine:
    """Loads the best engine of a bundle for this machine, once it has proved itself.

    Every file's hash is checked (and the signature, where `public_key` names a PEM file), then the
    golden inputs are asked. `engine` picks one by its id ("ort-cpu.int8"); `threads`, of one call,
    defaults to the physical cores that this process is granted. With `streams` so many calls from
    as many threads are computed side by side. `shared=True` is for a host where other processes
    compute, too: threads without work sleep, and `threads` defaults to what was measured best for
    several processes (`Engine.advice`). With `on_mismatch="next"` an engine that does
    not load or misses its goldens is passed over with a warning (logger "exporter.runtime", and
    `Engine.passed_over`); altered files are refused whatever it says.

    Raises:
        BundleError: the bundle is damaged, altered or wrongly signed.
        NoEngineError: no engine of it can run here.
        GoldenError: an engine (with "next": every one) answers the goldens wrongly.
        InputError: an argument is none of those above.
    """
    if on_mismatch not in ("fail", "next"):
        raise InputError(f"on_mismatch is {on_mismatch!r}; give 'fail' or 'next'")
    if threads is not None:
        threads = whole_number("threads", threads, MAX_THREADS)
    streams = whole_number("streams", streams, MAX_THREADS)
    if not isinstance(shared, bool):
        raise InputError(f"shared is {shared!r}; give True or False")
    key = None if public_key is None else _read_key(_path("public_key", public_key))
    files = BundleFiles(_path("bundle", bundle), key)
    description = files.description
    goldens = read_goldens(files.read(GOLDEN))
    labels = _read_labels(files.read(LABELS))
    _check_widths(description, labels, goldens)
    candidates, others = choose(description.engines, device, engine)
    contents = [files.read(name) for name in candidates[0].files]
    files.check_rest()
    failures: list[tuple[EngineEntry, GoldenError | NoEngineError]] = []
    for entry in candidates:
        passed_over = tuple(others) + tuple((e.id, str(error)) for e, error in failures)
        if failures:
            contents = [files.read(name) for name in entry.files]
        try:
            each = threads or _threads_of_a_call(entry, streams, shared)
            given = Threads(each, streams, shared)
            loaded = open_engine(entry, description, labels, contents, given, passed_over)
            replay(loaded, goldens, entry)
        except (GoldenError, NoEngineError) as error:
            if on_mismatch == "fail":
                raise
            _log.warning("passing over %s: %s", entry.id, error)
            failures.append((entry, error))
            continue
        return loaded
    reasons = "; ".join(str(error) for _, error in failures)
    raise type(failures[-1][1])(f"no engine of {bundle} is fit to serve here: {reasons}")


def _check_widths(description: Description, labels: tuple[str, ...], goldens: Goldens) -> None:
    """Refuses labels or goldens of other outputs than the manifest's."""
    values, classes = goldens.outputs.shape[1], goldens.outputs.shape[1]
    if description.outputs:
        sizes = [output.size for output in description.outputs]
        classes = 0 if description.scores is None else sizes[description.scores]
        if sum(sizes) != values:
            raise BundleError(
                f"{GOLDEN} has {values} values for {sum(sizes)} outputs; pack the build again"
            )
    if len(labels) != classes:
        raise BundleError(
            f"{LABELS} has {len(labels)} lines for {classes} outputs; pack the build again"
        )


def open_engine(
    entry: EngineEntry,
    description: Description,
    labels: tuple[str, ...],
    contents: Sequence[bytes],
    threads: Threads | None = None,
    passed_over: tuple[tuple[str, str], ...] = (),
) -> Engine:
    """An engine from the contents of its files, not asked anything yet.

    Raises:
        NoEngineError: its runtime library refuses it.
        BundleError: it does not take what the manifest describes.
    """
    backend = backend_of(entry.target)
    assert backend is not None, "`choose` passes over what nothing here runs"
    threads = threads or Threads(usable_threads())
    session = backend.session(contents, entry.precision, entry.requires, threads, backend.providers)
    return Engine(entry, description, labels, session, threads, passed_over)


def _threads_of_a_call(entry: EngineEntry, streams: int, shared: bool) -> int:
    """Where the program does not say."""
    usable = max(1, usable_threads() // streams)
    advice = entry.advice
    return min(usable, advice.threads) if shared and advice is not None else usable


def _read_labels(contents: bytes) -> tuple[str, ...]:
    try:
        return tuple(contents.decode("utf-8").splitlines())
    except UnicodeDecodeError as error:
        raise BundleError(f"{LABELS} is not UTF-8 text ({error}); pack the build again") from None


def _path(name: str, value: object) -> Path:
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(path, str):
        raise InputError(f"{name} is a {type(value).__name__}; give a path, as text or as a Path")
    return Path(path)


def _read_key(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the public key {path}: {error.strerror}") from None
