"""Runs pages' programs one after another, each as a main program: PyTorch is imported once.

Each line of the standard input is a folder with a `page.py`, which is run there; each line of the
standard output says how it went. A page finds the package as unimported as its reader does.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import runpy
import sys
import traceback


def run(folder: str) -> dict[str, str]:
    """`error` is empty where nothing was raised."""
    os.chdir(folder)
    sys.path[0] = folder
    printed, error = io.StringIO(), ""
    before = set(sys.modules)
    with contextlib.redirect_stdout(printed):
        try:
            runpy.run_path("page.py", run_name="__main__")
        except BaseException:
            error = traceback.format_exc()
    own = ("exporter", "my_network")
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in own:
            del sys.modules[name]
    return {"printed": printed.getvalue(), "error": error}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    for line in sys.stdin:
        print(json.dumps(run(line.rstrip("\n"))), file=answers, flush=True)


if __name__ == "__main__":
    main()
