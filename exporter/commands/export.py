"""`exporter.export`: a model that is named or handed over, made into a build."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from exporter.builds.option import narrowed, refuse_unusable
from exporter.builds.request import ExportRequest
from exporter.commands.build import Build
from exporter.commands.calls import ExportCall, shown, takes
from exporter.errors import unused_option

if TYPE_CHECKING:
    import torch


@takes(ExportCall)
def export(  # noqa: D417
    model: str | os.PathLike[str] | torch.nn.Module | torch.export.ExportedProgram,
    request_for: Callable[[str], ExportCall],
) -> Build:
    """Compile a model: engines, a fusion receipt and a parity certificate each, latency, a report.

    A module's own state stays as it is: everything is done to a copy, on the CPU and in eval mode.
    The options are those of the command line. A list may be a text with commas; settings are a
    mapping of mappings, as in {"tensorrt": {"memory_mb": 4096}}.

    Args:
        model: a built-in name (`exporter models` lists them), "timm:NAME",
            "package.module:factory", the path of an .onnx file, a torch.nn.Module, or a program of
            torch.export with a dynamic batch.
        example: for a module: one input (N, C, H, W), a float tensor or array; its shape says what
            the engines take, N excepted. Of several inputs, a mapping by the names of forward's
            parameters, or a tuple. Instead of it, `image_size` alone: the channels are then those
            of its first convolution.
        {options}
        progress: "auto": bars on standard error where that is a terminal, else nothing; True or
            False; or a `Progress` of yours. Notes are in `Build.notes` whatever is shown.

    Returns:
        The finished build. What did not pass is in its `failures`; nothing is raised for that.

    Raises:
        UsageError: the request cannot be carried out as asked; nothing was written.
        InputError: a file, the data or the module cannot be used; nothing was written.
        BuildError: a step that all engines need failed; nothing was written.

    >>> import exporter, torch
    >>> class Net(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.conv = torch.nn.Conv2d(1, 8, 3, padding=1)
    ...         self.fc = torch.nn.Linear(8, 5)
    ...     def forward(self, x):  # (N, 1, H, W)
    ...         return self.fc(self.conv(x).relu().mean((2, 3)))  # (N, 5)
    >>> build = exporter.export(Net(), example=torch.zeros(1, 1, 28, 28), targets=["ort-cpu"],
    ...                         precisions=["fp32", "int8"], measure=False)
    >>> list(build), build.path.as_posix()
    (['ort-cpu.fp32', 'ort-cpu.int8'], 'build/Net')
    """
    from exporter.models.live_module import LiveModule, as_module, input_shapes
    from exporter.pipeline import export_model

    named = os.fspath(model) if isinstance(model, str | os.PathLike) else None
    call = request_for(named or type(model).__name__)
    request = narrowed(ExportRequest, call)
    refuse_unusable(request)
    live = None
    if named is None:
        module = as_module(model)
        if call.num_classes is not None:
            raise unused_option("num_classes", "built-in and timm models, and a module is given")
        shapes = input_shapes(module, call.example, call.image_size, call.inputs)
        live = LiveModule(module, shapes)
    elif call.example is not None:
        raise unused_option("example", "modules that are handed over, and a name is given")
    progress = shown(call.progress)
    outcome = export_model(request, progress, live)
    return Build(outcome.folder, outcome.manifest, progress.notes)
