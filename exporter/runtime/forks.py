"""Sessions that a forked child inherits are never destroyed there.

A runtime library joins its threads when a session is destroyed, and a child has none of its
parent's threads: it would wait for ever, be it when it drops the engine or when it ends. So the
child keeps every session of its parent, as long as it lives; that costs it no memory, the pages are
the parent's.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final
from weakref import WeakSet

_sessions: Final[WeakSet[object]] = WeakSet()
"""Of this process: a hook of a fork is given nothing, and cannot be taken back."""


def keep_in_children(session: object) -> None:
    """Makes every process that is forked from now on keep the session, while it is in use here."""
    _sessions.add(session)


def _keep_all() -> None:
    for session in _sessions:
        # A reference that nobody holds: also the end of the interpreter, which clears every
        # module, leaves the session alone.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))


if hasattr(os, "register_at_fork"):  # there is no fork on Windows
    os.register_at_fork(after_in_child=_keep_all)
