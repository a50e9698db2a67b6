"""Where a URI leads: fsspec's file systems, with errors of one line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from exporter.errors import InputError, MissingDependencyError, UsageError, install_command
from exporter.images.sources.source import Encoded, Unread
from exporter.runtime.errors import reason_of

READ_AHEAD: Final = 16
"""Files that are asked for at once; a store that is far away answers them side by side."""


def is_local(uri: str) -> bool:
    """Whether it is a path of this machine."""
    return "://" not in uri and "::" not in uri


def resolved(uri: str, named: str = "--data") -> tuple[Any, str]:
    """The file system of a URI, and its path there; `named`: what gave it.

    Raises:
        MissingDependencyError: fsspec, or what it needs for this protocol, is not installed.
        UsageError: no protocol that fsspec knows.
    """
    try:
        import fsspec
    except ModuleNotFoundError:
        raise MissingDependencyError(
            f"{named} {uri} is read by fsspec, which is not installed; "
            f"run: {install_command('data')}"
        ) from None
    try:
        system, path = fsspec.core.url_to_fs(str(Path(uri).absolute()) if is_local(uri) else uri)
    except ImportError as error:  # it names the package that the protocol needs
        raise MissingDependencyError(f"{uri}: {reason_of(error)}") from None
    except ValueError as error:
        raise UsageError(f"{uri}: {error}; give a path, or a URI that fsspec knows") from None
    except Exception as error:  # of the store's own library
        raise _unreachable(error, f"{named} {uri} cannot be read") from None
    return system, path


def _unreachable(error: Exception, problem: str) -> InputError:
    text = getattr(error, "strerror", None) or reason_of(error) or type(error).__name__
    return InputError(f"{problem} ({text}); check the address and the access")


@contextmanager
def reaching(uri: str, problem: str = "") -> Iterator[None]:
    """Whatever a store's library raises becomes one line that names the URI, or says the problem.

    They raise their own dozens of kinds: no such bucket, no access, no network.
    """
    try:
        yield
    except (UsageError, MissingDependencyError):
        raise
    except Exception as error:
        raise _unreachable(error, problem or f"--data {uri} cannot be read") from None


@contextmanager
def opened_file(uri: str) -> Iterator[IO[bytes]]:
    """A file of any store, to read and to seek in.

    Raises:
        InputError: it is not there, or cannot be reached.
    """
    system, path = resolved(uri)
    with reaching(uri), system.open(path, "rb") as stream:
        yield stream


def read_each(
    uri: str, files: Sequence[tuple[str, str]], labels: Sequence[str | None]
) -> Iterator[Encoded]:
    """The files of (name, path) in the store of a URI, READ_AHEAD at a time, in order."""
    system, _ = resolved(uri)
    for start in range(0, len(files), READ_AHEAD):
        some = files[start : start + READ_AHEAD]
        found = _contents(system, [path for _, path in some])
        for (name, path), label in zip(some, labels[start : start + READ_AHEAD], strict=True):
            yield Encoded(name, found[path], label)


def _contents(system: Any, paths: Sequence[str]) -> dict[str, bytes | Unread]:
    try:
        found = system.cat(list(paths), on_error="return") if paths else {}
    except Exception as error:  # some stores raise whatever they are told
        found = dict.fromkeys(paths, error)
    if isinstance(found, bytes):  # one file alone
        found = {paths[0]: found}
    contents: dict[str, bytes | Unread] = {}
    for path in paths:
        one = found.get(path, FileNotFoundError("not there"))
        contents[path] = one if isinstance(one, bytes) else Unread(_why(one))
    return contents


def _why(error: Exception) -> str:
    text = getattr(error, "strerror", None) or reason_of(error) or type(error).__name__
    return f"cannot be read ({text})"
