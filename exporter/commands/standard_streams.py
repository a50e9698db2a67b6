"""The console script's standard streams: there, and ours alone."""

from __future__ import annotations

import logging
import os
import sys
import warnings


def open_closed_streams() -> None:
    """Gives a service's closed streams somewhere to go.

    Else the first file that is opened has their number, and what a C++ library prints goes there.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # It takes the lowest number that is free: this one. Programs that we start have it.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115 - until the end


def silence_third_parties() -> None:
    """A good run prints our lines only. What matters of theirs is read from return values."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    logging.getLogger().setLevel(logging.ERROR)
    os.environ.setdefault("TORCH_LOGS", "-all")
