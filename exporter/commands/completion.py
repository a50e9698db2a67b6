"""What a shell completes an option's value to, looked up when it asks and not before."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path

from exporter.builds.option import Declaration, Values


def completer(declared: Declaration) -> Callable[[str], list[str]] | None:
    """From what was typed of a value to what it may become; None: the shell finds files itself.

    Of a list the last item is completed.
    """
    names = _names_of(declared)
    if names is None:
        return None

    def complete(incomplete: str) -> list[str]:
        before = ""
        if declared.item is not None:
            before, comma, incomplete = incomplete.rpartition(",")
            before += comma
        return [before + name for name in names() if name.startswith(incomplete)]

    return complete


def _names_of(declared: Declaration) -> Callable[[], Iterable[str]] | None:
    item = declared.item
    if isinstance(item, type) and issubclass(item, StrEnum):
        return lambda: list(item)
    match declared.option.values:
        case Values.MODELS:
            return _models
        case Values.BUILDS:
            return _builds
        case Values.TARGETS:
            return _targets
        case Values.FORMATS:
            return _formats
        case None:
            return None


def _models() -> Iterable[str]:
    from exporter.models.variants import VARIANTS

    return VARIANTS


def _builds() -> Iterable[str]:
    """The default folders of builds."""
    from exporter.builds.folder import default_folder
    from exporter.builds.manifest import FILE_NAME

    found = Path().glob(f"{default_folder('*').as_posix()}/{FILE_NAME}")
    return sorted(path.parent.as_posix() for path in found)


def _targets() -> Iterable[str]:
    """Each target, and the variants that are built by default."""
    from exporter.targets import TARGETS, MachineKind, target_class

    for family in TARGETS:
        built = [target_class(family).default_for(kind) for kind in MachineKind]
        variants = {variant for engines in built for variant, _ in engines if variant}
        yield from (family, *(f"{family}:{variant}" for variant in sorted(variants)))


def _formats() -> Iterable[str]:
    from exporter.pack.formats import FORMATS

    return FORMATS
