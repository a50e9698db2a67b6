"""Type stubs of one version's bindings, by pybind11-stubgen, as a type checker can read them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tests.rehearsal.conftest import run

MODULE: Final = "tensorrt_bindings/tensorrt.pyi"
FIXES: Final = (
    # Parameters with a name that Python has for itself, and one without a default after some with.
    (r"(?<=[(,] )in: |\(in: ", lambda found: found[0].replace("in", "in_")),
    (r"(?<=, )channel_axis: [\w.]+(?=\) ->)", lambda found: f"{found[0]} = ..."),
    # By its `__len__` and `__getitem__`, Python iterates over it.
    (
        r"(?<=\n)class Dims:\n",
        lambda found: f"{found[0]}    def __iter__(self) -> typing.Iterator[int]: ...\n",
    ),
)
"""What is not valid Python in them, or not the whole truth."""


def write_stubs(folder: Path, variables: dict[str, str]) -> Path:
    """Writes stubs of the bindings that these variables lead to, and of the module `tensorrt`."""
    ran = run(
        "-m", "pybind11_stubgen", "tensorrt_bindings", "--ignore-all-errors", "-o", str(folder),
        **variables,
    )  # fmt: skip
    assert ran.code == 0, ran.err
    path = folder / MODULE
    text = path.read_text(encoding="utf-8")
    for pattern, fix in FIXES:
        text = re.sub(pattern, fix, text)
    path.write_text(text, encoding="utf-8")
    (folder / "tensorrt").mkdir()
    (folder / "tensorrt" / "__init__.pyi").write_text(
        "from tensorrt_bindings import *\n__version__: str\n", encoding="utf-8"
    )
    return folder
