"""PyTorch's own INT8 on CPUs: torchao's `X86InductorQuantizer`, then torch.compile, frozen.

Its kernels are oneDNN's, as OpenVINO's are. Quantizing takes half a minute and is kept as a
`torch.export` program; each process that loads it compiles it.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers import Place, compiled
from exporter.artifact import Model
from exporter.disk.writing import whole_file
from exporter.errors import MissingDependencyError, install_command
from exporter.images.samples import Samples
from exporter.quantize.one_at_a_time import images


def quantize(model: Model, samples: Samples, out: Path) -> Path:
    """Writes `out` (.pt2): the module in INT8, as torchao's documentation does it.

    Raises:
        MissingDependencyError: torchao is not installed.
    """
    if importlib.util.find_spec("torchao") is None:
        raise MissingDependencyError(f"torchao is not installed; run: {install_command('bench')}")
    logging.getLogger("torchao").setLevel(logging.ERROR)  # its kernels for GPUs do not load
    from torchao.quantization.pt2e import move_exported_model_to_eval
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    assert model.module is not None
    shape = model.spec.image_shape
    example, batch = (torch.zeros(2, *shape),), ({0: torch.export.Dim("batch")},)
    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
    with torch.no_grad():
        # By Dynamo: it tells the calls of a shared ReLU apart, which the patterns are found by.
        program = torch.export.export(model.module, example, dynamic_shapes=batch, strict=True)
        prepared = prepare_pt2e(program.module(), quantizer)
        for image in images(samples, (1, *shape)):
            prepared(torch.from_numpy(image))
        quantized = convert_pt2e(prepared)
        move_exported_model_to_eval(quantized)
        program = torch.export.export(quantized, example, dynamic_shapes=batch)
    with whole_file(out) as file:
        torch.export.save(program, file)
    return out


def load(job: Mapping[str, Any]) -> Place:
    """The program of `quantize`; compiled at the first inference."""
    logging.getLogger("torchao").setLevel(logging.ERROR)
    import torchao.quantization.pt2e.quantize_pt2e  # noqa: F401 - registers its operators

    torch.set_num_threads(job["threads"])
    torch.set_num_interop_threads(1)
    return compiled(torch.export.load(job["path"]).module())
