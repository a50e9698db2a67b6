"""JPEGs to measure pipelines on, made of the photographs that scikit-image ships."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from exporter.errors import MissingDependencyError, install_command

PHOTOGRAPHS: Final = (
    "astronaut.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "ihc.png",
    "motorcycle_left.png", "motorcycle_right.png", "retina.jpg", "rocket.jpg",
)  # fmt: skip


def make_jpegs(
    folder: Path, count: int, seed: int, sides: tuple[int, int] = (300, 2000)
) -> list[Path]:
    """JPEGs of photographs, the longer side within `sides` pixels; those there are kept.

    Raises:
        MissingDependencyError: scikit-image is not installed.
    """
    found = importlib.util.find_spec("skimage")
    if found is None or found.origin is None:
        raise MissingDependencyError(
            f"scikit-image, whose photographs are used, is not installed; run: "
            f"{install_command('bench')}"
        )
    shipped = Path(found.origin).parent / "data"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:05}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        if path.exists():
            continue
        draw = np.random.default_rng((seed, number))
        with Image.open(shipped / PHOTOGRAPHS[number % len(PHOTOGRAPHS)]) as photograph:
            picture = photograph.convert("RGB")
        scale = int(draw.integers(sides[0], sides[1] + 1)) / max(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture.resize(size).save(path, quality=int(draw.integers(75, 96)))
    return paths
