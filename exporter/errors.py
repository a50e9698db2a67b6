"""Everything this package raises on purpose.

    ExporterError
    ├── UsageError          the request cannot be carried out as asked        exit code 2
    │   ├── InputError      a file or a folder that was given is unusable     exit code 2
    │   ├── UnknownEngineError   a build has no such engine (a KeyError, too)  exit code 2
    │   └── MissingDependencyError   an optional library or device is absent  exit code 2
    ├── BuildError          a stage or a vendor's builder failed              exit code 1
    └── NotReproducedError  an engine no longer answers as it was validated  exit code 1

A message is one line that names the thing, says what was expected and how to fix it.
Exit codes are turned into process exits in `cli.py` alone.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlparse

_DISTRIBUTION: Final = "resnet-exporter"
_LISTED: Final = 40
"""Names that a message lists at most: timm has a thousand models."""


class ExporterError(Exception):
    """Base of every error that this package raises on purpose."""

    exit_code = 1


class UsageError(ExporterError):
    """The request cannot be carried out as asked."""

    exit_code = 2


class InputError(UsageError):
    """A file or folder that was given is missing, malformed or unsafe."""


class UnknownEngineError(UsageError, KeyError):
    """A build has no engine of that name, or building it failed."""

    __str__ = Exception.__str__  # KeyError's own quotes the message


class MissingDependencyError(UsageError):
    """An optional library or a device that the request needs is absent."""


class BuildError(ExporterError):
    """A stage or a vendor's builder failed on a request that looked valid."""


class NotReproducedError(ExporterError):
    """An engine no longer answers as it did when it was validated."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that is in no registry, with the nearest names that are."""
    names = sorted(known)
    # In lower case, so that INT8 is near to int8.
    lower = {known.lower(): known for known in names}
    near = [lower[n] for n in difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)]
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    listed = f"known: {', '.join(names[:_LISTED])}{more}"
    hint = f"did you mean {' or '.join(near)}?" if near else listed
    return UsageError(f"unknown {kind} {name!r}; {hint}")


def unused_option(option: str, concerns: str, remedy: str = "") -> UsageError:
    """The error for an option that nothing uses; `remedy` is what would give it something."""
    first = f"{remedy}, or " if remedy else ""
    return UsageError(f"{option} concerns {concerns}; {first}leave out {option}")


def install_command(extras: str) -> str:
    """A line for the shell, as in "pip install -e '.[cpu]'  # in the checkout".

    `extras` are those of `pyproject.toml`, between commas. The package is in no index unless
    somebody published it there, and no path of this machine is named: manifests hold such a line.
    """
    if (Path(__file__).parents[1] / "pyproject.toml").is_file():
        return f"pip install -e '.[{extras}]'  # in the checkout"
    return _installed_from(_origin(), extras)


def _installed_from(origin: dict[str, Any] | None, extras: str) -> str:
    """The same for an installed package, from what pip recorded of where it came (PEP 610)."""
    match origin:
        case {"vcs_info": {"vcs": str(vcs), "commit_id": str(commit)}, "url": str(url)}:
            return f"pip install '{_DISTRIBUTION}[{extras}] @ {vcs}+{url}@{commit}'"
        case {"dir_info": _}:
            return f"pip install '.[{extras}]'  # in the folder that this came from"
        case {"url": str(url)} if url.startswith("file:"):
            file = Path(urlparse(url).path).name
            return f"pip install './{file}[{extras}]'  # where that file is"
        case {"url": str(url)}:
            return f"pip install '{_DISTRIBUTION}[{extras}] @ {url}'"
    return f"pip install '{_DISTRIBUTION}[{extras}]'"


def _origin() -> dict[str, Any] | None:
    """Where pip got the package; None: from an index, or nobody knows."""
    from importlib import metadata

    try:
        text = metadata.distribution(_DISTRIBUTION).read_text("direct_url.json")
        return json.loads(text) if text else None
    except (metadata.PackageNotFoundError, ValueError):
        return None


class Interrupted(KeyboardInterrupt):
    """Raised in place of Ctrl-C's own, with a message that says what was kept, and where."""
