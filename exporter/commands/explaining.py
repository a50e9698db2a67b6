"""`exporter explain`: which of its three explanations is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from exporter.builds import manifest as manifests
from exporter.builds.explain_request import ExplainRequest
from exporter.builds.folder import find_build
from exporter.commands import explain as of_build
from exporter.commands import explain_error as of_error
from exporter.commands import explain_file as of_file
from exporter.commands.engine_causes import causes_of
from exporter.errors import InputError, UsageError
from exporter.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console

Explained = of_build.Explanation | of_error.ErrorExplanation | of_file.ExplainedFile


def explain(request: ExplainRequest, progress: Progress) -> Explained:
    """Of a file where `target` is given, of a build's error where `error` is, else of a build.

    Raises:
        UsageError: an option that is about another of the three.
        InputError: the build or the file cannot be used.
        BuildError: the target's runtime refuses the file.
    """
    _refuse_unused(request)
    if request.target:
        return of_file.explain_file(request, progress)
    folder = _build_of(request)
    manifest = manifests.read(folder)
    if request.error:
        return of_error.explain_error(folder, manifest, request, progress)
    known = of_build.explain(manifest, request.engine)  # refuses an engine that is not there
    if not known.engines:
        return known
    causes = causes_of(folder, manifest, request.engine, request.threads, progress)
    return of_build.explain(manifest, request.engine, causes)


def _refuse_unused(request: ExplainRequest) -> None:
    if request.target:
        if request.engine or request.error:
            option = "--engine" if request.engine else "--error"
            raise UsageError(f"{option} is about builds, and --target about an ONNX file")
        return
    if request.save_float is not None or not request.own_build:
        option = "--save-float" if request.save_float is not None else "--no-own-build"
        raise UsageError(f"{option} is about an ONNX file; say with --target what loads it")


def _build_of(request: ExplainRequest) -> Path:
    """The build's folder; of a file that was exported, too."""
    try:
        return find_build(request.build)
    except InputError:
        if not request.build.is_file():
            raise
        raise UsageError(
            f"{request.build} is a file: say with --target which runtime loads it; of a build, "
            "give its folder"
        ) from None


def render(explained: Explained, console: Console) -> None:
    """Each of the three as tables and sentences."""
    match explained:
        case of_build.Explanation():
            of_build.render(explained, console)
        case of_error.ErrorExplanation():
            of_error.render(explained, console)
        case of_file.ExplainedFile():
            of_file.render(explained, console)
        case _:
            assert_never(explained)
