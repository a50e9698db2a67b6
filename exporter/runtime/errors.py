"""Everything that serving raises on purpose.

    ServingError
    ├── BundleError    a bundle is damaged, altered, wrongly signed or not a bundle at all
    ├── NoEngineError  the bundle is intact, but none of its engines can run on this machine
    ├── GoldenError    an engine ran here and did not answer as it did when it was validated
    ├── InputError     images or tensors that the engine cannot take (a ValueError, too)
    └── ClosedError    the engine was closed, or loaded by a process that this one was forked from

A message is one line that names the thing, says what was expected and how to fix it.
"""

from __future__ import annotations

import re
from typing import Final

_PLACES: Final = (
    r"(?:static )?(?:std::)?conditional_t<.*?\[with [^\]]*\] ",
    r" ; GPU=-?\d+ ; hostname=.*$",
    r"\[ONNXRuntimeError\] : \d+ : \w+ : ",
    r"(?:Exception from|Check '[^']*' failed at) \S+\.\w+:\d+: ?",
    r"(?<!\S)\S*/\S+\.(?:cc|cpp|cu|h|hpp):\d+:? ?",
    r"(?:[\w:&*<>]+ )?onnxruntime::[\w:~]+\((?:[^()]|\([^()]*\))*\)(?: const)?(?: |$)",
    r"(?:\w+: )?Assertion `[^`]*` failed: ",
)
"""What C++ libraries say of their own source (files, lines, signatures, conditions), and of us."""


class ServingError(Exception):
    """Base of every error that `exporter.runtime` raises on purpose."""


class BundleError(ServingError):
    """The bundle is damaged, altered, wrongly signed, or not a bundle."""


class NoEngineError(ServingError):
    """The bundle is intact, but this machine can run none of its engines."""


class GoldenError(ServingError):
    """The engine's answers to the golden inputs are not those that were validated."""


class InputError(ServingError, ValueError):
    """The given images or tensors have another type, shape or range than the engine takes."""


class ClosedError(ServingError):
    """The engine is closed, or belongs to the parent of this forked process."""


def missing_package(purpose: str, package: str) -> str:
    """The message where a package that only some servers need is not installed."""
    return (
        f"{purpose} needs the package {package}; run `pip install {package}`, "
        "or install resnet-exporter with its extra `serve`, which has all of them"
    )


def reason_of(error: BaseException, longest: int = 500) -> str:
    """Another library's message, fit to be quoted in one line of ours: without its own source.

    Its kind alone where it says nothing.
    """
    text = re.sub("|".join(_PLACES), "", " ".join(str(error).split())).strip()
    text = text or type(error).__name__
    return text if len(text) <= longest else text[: longest - 3] + "..."
