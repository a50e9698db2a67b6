"""Classify the pictures of a folder with a bundle: a line a picture, the best label first.

    python examples/classify_folder.py BUNDLE PICTURES --top 3

Needs numpy, Pillow and the engine's runtime library; no PyTorch.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from pictures import open_picture, prepare

from exporter.runtime import load

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
BATCH = 16


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--top", type=int, default=1)
    options = parser.parse_args()
    manifest = json.loads((options.bundle / "manifest.json").read_text(encoding="utf-8"))
    contract = manifest["model"]["preprocessing"]
    paths = sorted(p for p in options.pictures.iterdir() if p.suffix.lower() in SUFFIXES)
    with load(options.bundle) as engine:
        for start in range(0, len(paths), BATCH):
            part = paths[start : start + BATCH]
            images = np.stack([prepare(open_picture(path), contract) for path in part])
            for path, best in zip(part, engine.predict(images, top=options.top), strict=True):
                labels = "  ".join(f"{one.label} {one.probability:.1%}" for one in best)
                print(f"{path.name}: {labels}")


if __name__ == "__main__":
    main()
