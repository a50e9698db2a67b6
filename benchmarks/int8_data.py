"""Which images of the comparison calibrate."""

from __future__ import annotations

import numpy as np

from exporter.errors import InputError
from exporter.images.samples import Samples


def draws_of(samples: Samples, count: int, size: int, seed: int) -> list[Samples]:
    """`count` disjoint seeded selections of `size` images.

    Raises:
        InputError: there are too few images.
    """
    if count * size > samples.count:
        raise InputError(
            f"{samples.source} has {samples.count} images, {count} draws of {size} need "
            f"{count * size}; lower --draws or --calibration-samples"
        )
    order = np.random.default_rng(seed).permutation(samples.count)
    return [samples.select(order[i * size : (i + 1) * size].tolist()) for i in range(count)]
