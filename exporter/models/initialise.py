"""Random weights that exercise an engine as trained ones do.

Convolutions: He et al.'s normal initialisation (fan-in). BatchNorm: gamma 1, beta 1, and running
statistics measured by one forward pass over images with natural spectra, so that every activation
is of order one and FP16 and INT8 meet realistic ranges.

Why beta = 1. BatchNorm with beta = 0 centres what the ReLU then cuts in half; each such layer
magnifies a small error against the signal by 1.21 (sqrt(P(z > 0) / Var(relu(z))) for z ~ N(0, 1)),
a factor of 30,000 over 55 layers, and a deep network without shortcuts would amplify FP32's own
rounding past any useful limit. With z ~ N(1, 1) the factor is 1.06. Trained networks are
well-conditioned too; this is the simplest random network that is.
"""

from __future__ import annotations

import torch
from torch import nn

from exporter.models.input_shapes import Shapes
from exporter.models.inputs import Tensors, statistics_tensors

BATCHNORM_BIAS = 1.0
"""The beta of every BatchNorm; the module's docstring says why it is not 0."""
STATISTICS_IMAGES = 16
"""How many images the running statistics are measured over."""


def initialise(module: nn.Module, images: Tensors, seed: int) -> None:
    """Fills a network's parameters and statistics, in place, and leaves it in eval mode.

    `images` is (N, ...) of each input as the model takes them. The same seed gives the same bytes.
    """
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            fan_in = part.weight[0].numel()
            part.weight.data.normal_(0.0, (2.0 / fan_in) ** 0.5, generator=generator)
        elif isinstance(part, nn.Linear):
            part.weight.data.normal_(0.0, 0.01, generator=generator)
        elif isinstance(part, nn.BatchNorm2d) and part.affine:
            part.weight.data.fill_(1.0)
            part.bias.data.fill_(BATCHNORM_BIAS)
        if isinstance(part, (nn.Conv2d, nn.Linear)) and part.bias is not None:
            part.bias.data.zero_()
    calibrate_batchnorm(module, images)


def calibrate_batchnorm(module: nn.Module, images: Tensors) -> None:
    """Measures the running statistics of every BatchNorm over one batch of images, in place.

    The module is left in eval mode; only its BatchNorms learn, so dropout draws nothing.
    """
    module.eval()
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = 1.0  # the statistics of this batch, whole
        norm.train()
    threads = torch.get_num_threads()
    # One thread: the order of a sum, and so the weights' bytes, must not depend on the machine.
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            module(*images)
    finally:
        torch.set_num_threads(threads)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()


def statistics_images(shapes: Shapes, seed: int) -> Tensors:
    """(16, ...) of each input with natural spectra, to measure the statistics on."""
    return statistics_tensors(shapes, STATISTICS_IMAGES, seed)
