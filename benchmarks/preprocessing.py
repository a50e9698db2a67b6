"""What baked preprocessing gains from uint8 images to logits, through `exporter.runtime`.

    python -m benchmarks.preprocessing BUNDLE BAKED_BUNDLE [--rounds 9] [--threads 2]

Each round loads each engine of each bundle in a fresh process, one after the other in an order that
turns by one every round, warms up, and takes the median of `engine(images)` at batch 1. Processes
of their own, since an idle session's thread pool slows its neighbour. The gain is the median over
the rounds of the paired ratio (two steps / baked), beside its smallest and largest.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from exporter.runtime import load

WARM_UP = 20
CALLS = 60

Case = tuple[str, Path]
"""(engine, bundle)."""


def time_engine(bundle: Path, engine: str, threads: int) -> float:
    """The median of one call on one uint8 image, in milliseconds."""
    import time

    with load(bundle, engine=engine, threads=threads) as loaded:
        height, width, channels = loaded.image_shape
        assert height is not None
        assert width is not None
        assert channels is not None
        images = np.random.default_rng(0).integers(0, 256, (1, height, width, channels), np.uint8)
        for _ in range(WARM_UP):
            loaded(images)
        samples = []
        for _ in range(CALLS):
            start = time.perf_counter()
            loaded(images)
            samples.append(time.perf_counter() - start)
    return 1000 * statistics.median(samples)


def in_a_process(bundle: Path, engine: str, threads: int) -> float:
    """`time_engine` in a process that ends with it."""
    command = [sys.executable, "-m", "benchmarks.preprocessing", str(bundle), "--time", engine]
    command += ["--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def compare(two_step: Path, baked: Path, rounds: int, threads: int) -> list[str]:
    """A line of figures for each engine that both bundles have."""
    engines = [name for name in engines_of(two_step) if name in engines_of(baked)]
    cases: list[Case] = [(name, bundle) for name in engines for bundle in (two_step, baked)]
    taken: dict[Case, list[float]] = {case: [] for case in cases}
    for number in range(rounds):
        start = number % len(cases)
        for case in cases[start:] + cases[:start]:
            taken[case].append(in_a_process(case[1], case[0], threads))
    lines = [f"{'engine':16}{'two steps ms':>14}{'baked ms':>10}{'gain':>8}   smallest to largest"]
    for name in engines:
        before, after = taken[name, two_step], taken[name, baked]
        ratios = [a / b for a, b in zip(before, after, strict=True)]
        lines.append(
            f"{name:16}{statistics.median(before):14.2f}{statistics.median(after):10.2f}"
            f"{statistics.median(ratios):7.3f}x   {min(ratios):.3f} to {max(ratios):.3f}"
        )
    return lines


def engines_of(bundle: Path) -> list[str]:
    """The engines' ids, in the manifest's order."""
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    return [engine["id"] for engine in manifest["engines"]]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("bundle", type=Path, help="engines that take normalised tensors")
    parser.add_argument("baked", type=Path, nargs="?", help="the same with --bake-preprocess")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--time", metavar="ENGINE", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.time:
        print(time_engine(options.bundle, options.time, options.threads))  # noqa: T201
        return
    if options.baked is None:
        parser.error("give two bundles: one of engines that take tensors, one of baked ones")
    lines = compare(options.bundle, options.baked, options.rounds, options.threads)
    print("\n".join(lines))  # noqa: T201


if __name__ == "__main__":
    main()
