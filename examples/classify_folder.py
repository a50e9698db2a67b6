"""Classify the pictures of a folder with a bundle: a line a picture, the best label first.

    python examples/classify_folder.py BUNDLE PICTURES --top 3

A picture that cannot be read is named, and the others are classified; the exit code is then 1.
Needs numpy, Pillow and the engine's runtime library (the extra `serve`); no PyTorch.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from exporter.runtime import InputError, ServingError, load

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".tif", ".tiff"}


def main() -> int:
    """The command line; returns its exit code."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("bundle", type=Path, help="a bundle's folder or .tar.zst file")
    parser.add_argument("pictures", type=Path, help="a folder")
    parser.add_argument("--top", type=int, default=1, help="how many labels a picture gets")
    options = parser.parse_args()
    try:
        paths = sorted(p for p in options.pictures.iterdir() if p.suffix.lower() in SUFFIXES)
        engine = load(options.bundle)
    except (OSError, ServingError) as error:
        parser.error(str(error))
    broken = 0
    with engine:
        for path in paths:
            try:
                (best,) = engine.predict(path, top=options.top)
            except InputError as error:
                print(f"error: {error}", file=sys.stderr)
                broken += 1
                continue
            labels = "  ".join(f"{one.label} {one.probability:.1%}" for one in best)
            print(f"{path.name}: {labels}")
    if broken:
        print(f"{broken} of {len(paths)} pictures were not classified", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
