"""The container that serves an engine: the one asked for, checked, or the newest that loads it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from exporter.builds.records import EngineRecord
from exporter.errors import UsageError
from exporter.pack.triton_backends import PYTHON
from exporter.targets import target_class
from exporter.targets.triton_containers import IMAGE, Container, find, newest

_REFERENCE: Final = re.compile(r"[A-Za-z0-9][\w./:@-]*")


@dataclass(frozen=True)
class Choice:
    """What a repository says of its server."""

    image: str | None
    """As docker names it; None: nothing was asked for, and none is known that loads the engine."""
    tag: str
    """Of NVIDIA's images; "": it is another's, or none."""
    note: str
    """What must be said of it, in a sentence; "": nothing."""


def choose_container(engine: EngineRecord, backend: str, asked: str | None) -> Choice:
    """The container for an engine behind a backend.

    Raises:
        UsageError: what was asked for is known not to serve it, or is no image's name.
    """
    if asked is None:
        return _newest(engine, backend)
    name = asked.removeprefix(f"{IMAGE}:")
    if not _REFERENCE.fullmatch(name):
        raise UsageError(f"--container {asked!r}: give a tag of {IMAGE}, as in 25.11-py3")
    container = find(name)
    if container is None:
        tag = "" if {"/", ":"} & set(name) else name
        image = f"{IMAGE}:{tag}" if tag else name
        needed = _needed(engine, backend)
        return Choice(image, tag, f"what {image} holds is not known here: {needed}")
    if not container.complete and backend != PYTHON:
        raise UsageError(
            f"--container {asked} serves language models and has no backend {backend}; "
            f"take {container.tag.partition('-')[0]}-py3"
        )
    return _checked(engine, backend, container)


def _checked(engine: EngineRecord, backend: str, container: Container) -> Choice:
    target, image = target_class(engine.target), f"{IMAGE}:{container.tag}"
    version = container.versions.get(target.library)
    if backend == PYTHON:
        return Choice(image, container.tag, "")
    if version is None:
        note = f"which {target.library} {image} has is not known here: {_needed(engine, backend)}"
        return Choice(image, container.tag, note)
    problem = target.why_not_loaded(engine.requires, version)
    if problem is not None:
        fitting = _newest(engine, backend).tag
        hint = f" (the newest container that loads it is {fitting})" if fitting else ""
        raise UsageError(
            f"--container {container.tag} does not load {engine.id}: "
            f"it has {target.library} {version}, and {problem}{hint}"
        )
    return Choice(image, container.tag, _compared(engine, container.tag, version))


def _newest(engine: EngineRecord, backend: str) -> Choice:
    target = target_class(engine.target)
    if backend == PYTHON:
        return Choice(None, "", "")
    found = newest(
        target.library, lambda version: target.why_not_loaded(engine.requires, version) is None
    )
    if found is None:
        return Choice(None, "", f"no container is known to load it: {_needed(engine, backend)}")
    note = _compared(engine, found.tag, found.versions[target.library])
    return Choice(f"{IMAGE}:{found.tag}", found.tag, note)


def _compared(engine: EngineRecord, tag: str, version: str) -> str:
    library = target_class(engine.target).library
    validated = engine.requires.get("versions", {}).get(library, "a version that is not recorded")
    return f"container {tag} has {library} {version}; {engine.id} was validated with {validated}"


def _needed(engine: EngineRecord, backend: str) -> str:
    """What a server must have of which nothing is known."""
    versions = ", ".join(f"{name} {v}" for name, v in engine.requires.get("versions", {}).items())
    return (
        f"it must have Triton's backend {backend}, and {engine.id} was validated with "
        f"{versions or 'versions that are not recorded'}; its log names its own when it loads it"
    )
