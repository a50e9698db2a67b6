"""The files of a bundle, each checked against its SHA-256 before a byte of it is used.

A bundle is a folder or one `.tar.zst` archive of it. `SHA256SUMS` lists every other file (in
the form that `sha256sum -c` reads), and `SHA256SUMS.sig` may hold an Ed25519 signature of it. What
is hashed is what is used: a file is read once, into memory, so that it cannot change in between.

The list comes first, then its signature, then `manifest.json`, which says how large an engine is.
What is not listed, or larger than it may be, is refused before it is read.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Final

from exporter.runtime.bundle_sources import SourceFile, in_archive, in_folder
from exporter.runtime.description import MANIFEST, Description, read_description
from exporter.runtime.errors import BundleError, missing_package

SUMS: Final = "SHA256SUMS"
SIGNATURE: Final = "SHA256SUMS.sig"
FIRST: Final = (SUMS, SIGNATURE, MANIFEST)
"""The order in which an archive begins."""
MAX_BYTES: Final[Mapping[str, int]] = {SUMS: 1 << 20, SIGNATURE: 1 << 10, MANIFEST: 64 << 20}
MAX_OTHER_BYTES: Final = 1 << 30
"""Of a file that is no engine's: the goldens are the largest."""

_LINE: Final = re.compile(r"([0-9a-f]{64})  (\S(?:.*\S)?)")


class BundleFiles:
    """The files of a bundle; `read` and `check_rest` refuse whatever is not what was packed."""

    description: Description
    """What the manifest says."""

    def __init__(self, path: Path, public_key: bytes | None = None) -> None:
        """Checks the list of hashes, its signature where a key is given, and the manifest.

        Raises:
            BundleError: not a bundle, files missing, unlisted or too large, or the signature or
                the manifest is wrong.
        """
        self.path = path
        self._readers: dict[str, Callable[[], bytes]] = {}
        self._checked: set[str] = set()
        is_archive = path.is_file()
        with closing(in_archive(path) if is_archive else in_folder(path, FIRST)) as found:
            self.sums, files = self._read_list(found, public_key)
            largest: Mapping[str, int] = MAX_BYTES
            for file in files:
                if file.name not in self.sums:
                    raise BundleError(
                        f"{path}: {file.name} is not in {SUMS}; remove it, "
                        "a bundle holds nothing else"
                    )
                self._check_size(file, largest.get(file.name, MAX_OTHER_BYTES))
                # An archive is gone through once; a folder's files are read when they are needed.
                self._readers[file.name] = partial(bytes, file.read()) if is_archive else file.read
                if file.name == MANIFEST:
                    self.description = read_description(self.read(MANIFEST))
                    largest = {**MAX_BYTES, **self.description.sizes}
        missing = sorted(self.sums.keys() - self._readers.keys())
        if missing:
            raise BundleError(
                f"{path}: {missing[0]} is missing, {SUMS} lists it; copy the bundle again, whole"
            )
        self.read(MANIFEST)

    def read(self, name: str) -> bytes:
        """The contents of a file, checked.

        Raises:
            BundleError: the bundle has no such file, or its hash is another.
        """
        if name not in self.sums:
            raise BundleError(f"{self.path}: {name} is not in {SUMS}; pack the build again")
        contents = self._readers[name]()
        if hashlib.sha256(contents).hexdigest() != self.sums[name]:
            raise BundleError(
                f"{self.path}: {name} is not the file that was packed (its SHA-256 differs); "
                "copy the bundle again"
            )
        self._checked.add(name)
        return contents

    def check_rest(self) -> None:
        """Checks every file that was not read yet."""
        for name in sorted(self.sums.keys() - self._checked):
            self.read(name)

    def _read_list(
        self, files: Iterator[SourceFile], public_key: bytes | None
    ) -> tuple[Mapping[str, str], Iterator[SourceFile]]:
        """The hashes by name, and the files that follow."""
        first = next(files, None)
        if first is None or first.name != SUMS:
            raise BundleError(
                f"{self.path} holds no {SUMS}, or not as its first file; "
                "give a bundle that `exporter pack` wrote, whole"
            )
        self._check_size(first, MAX_BYTES[SUMS])
        sums, signature, second = first.read(), None, next(files, None)
        if second is not None and second.name == SIGNATURE:
            self._check_size(second, MAX_BYTES[SIGNATURE])
            signature, second = second.read(), None
        if public_key is not None:
            _check_signature(self.path, sums, signature, public_key)
        return _parse_sums(self.path, sums), chain([second] if second else [], files)

    def _check_size(self, file: SourceFile, largest: int) -> None:
        if file.size > largest:
            raise BundleError(
                f"{self.path}: {file.name} has {file.size:,} bytes, at most {largest:,} are "
                "expected; copy the bundle again"
            )


def _parse_sums(path: Path, contents: bytes) -> Mapping[str, str]:
    try:
        text = contents.decode("utf-8")
    except UnicodeDecodeError:
        raise BundleError(f"{path}: {SUMS} is not text; copy the bundle again") from None
    sums: dict[str, str] = {}
    *lines, rest = text.split("\n")
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise BundleError(
                f"{path}: line {number} of {SUMS} is malformed; copy the bundle again"
            )
        sums[match[2]] = match[1]
    if rest or not sums:
        raise BundleError(f"{path}: {SUMS} is cut off; copy the bundle again")
    return sums


def _check_signature(path: Path, sums: bytes, signature: bytes | None, public_key: bytes) -> None:
    """Raises BundleError unless `signature` is that of `sums` by the key in `public_key` (PEM)."""
    if signature is None:
        raise BundleError(
            f"{path} is not signed (no {SIGNATURE}), and a public key was given; "
            "pack it with --sign, or load it without a key"
        )
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ModuleNotFoundError:
        raise BundleError(missing_package("checking a signature", "cryptography")) from None
    try:
        key = load_pem_public_key(public_key)
    except ValueError:
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise BundleError(
            "the public key is not an Ed25519 key in PEM form; make one with "
            "`openssl pkey -in private.pem -pubout -out public.pem`"
        )
    try:
        key.verify(signature, sums)
    except InvalidSignature:
        raise BundleError(
            f"{path}: {SIGNATURE} is not this key's signature of {SUMS}; "
            "get the bundle again from its publisher, or the publisher's key"
        ) from None
