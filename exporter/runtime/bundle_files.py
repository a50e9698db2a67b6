"""The files of a bundle, each checked against its SHA-256 before a byte of it is used.

A bundle is a folder or one `.tar.zst` archive of it. `SHA256SUMS` lists every other file (in
the form that `sha256sum -c` reads), and `SHA256SUMS.sig` may hold an Ed25519 signature of it. What
is hashed is what is used: a file is read once, into memory, so that it cannot change in between.
An archive is read into memory and never unpacked, so that no name in it can reach a disk.
"""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Final, Protocol, cast

from exporter.runtime.errors import BundleError, missing_package

SUMS: Final = "SHA256SUMS"
SIGNATURE: Final = "SHA256SUMS.sig"
MAX_ARCHIVE_BYTES: Final = 8 << 30
"""An archive that unpacks to more than this is refused: no bundle of ours comes near."""
MAX_HEADER_BYTES: Final = 1 << 20
"""What may stand between two files of an archive: their names, at most a few kilobytes in ours."""

_DAMAGED: Final = (tarfile.TarError, EOFError, ValueError, LookupError, RecursionError)
"""What tarfile raises for malformed headers."""
_LINE: Final = re.compile(r"([0-9a-f]{64})  (\S(?:.*\S)?)")


class Source(Protocol):
    """Where a bundle's files come from."""

    def names(self) -> frozenset[str]:
        """The paths of all files, relative, with forward slashes."""
        ...

    def read(self, name: str) -> bytes: ...


class BundleFiles:
    """The files of a bundle; `read` and `check_rest` refuse whatever is not what was packed."""

    def __init__(self, path: Path, public_key: bytes | None = None) -> None:
        """Reads and checks the list of hashes, and its signature where a key is given.

        Raises:
            BundleError: not a bundle, files missing or unlisted, or the signature is wrong.
        """
        self.path = path
        self._source: Source = _Archive(path) if path.is_file() else _Folder(path)
        names = self._source.names()
        if SUMS not in names:
            raise BundleError(
                f"{path} holds no {SUMS}; give a bundle that `exporter pack` wrote, whole"
            )
        sums = self._source.read(SUMS)
        if public_key is not None:
            signature = self._source.read(SIGNATURE) if SIGNATURE in names else None
            _check_signature(path, sums, signature, public_key)
        self.sums = _parse_sums(path, sums)
        unlisted = sorted(names - self.sums.keys() - {SUMS, SIGNATURE})
        missing = sorted(self.sums.keys() - names)
        if missing:
            raise BundleError(
                f"{path}: {missing[0]} is missing, {SUMS} lists it; copy the bundle again, whole"
            )
        if unlisted:
            raise BundleError(
                f"{path}: {unlisted[0]} is not in {SUMS}; remove it, a bundle holds nothing else"
            )
        self._checked: set[str] = set()

    def read(self, name: str) -> bytes:
        """The contents of a file, checked.

        Raises:
            BundleError: the bundle has no such file, or its hash is another.
        """
        if name not in self.sums:
            raise BundleError(f"{self.path}: {name} is not in {SUMS}; pack the build again")
        contents = self._source.read(name)
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


def is_safe_name(name: str) -> bool:
    """Whether a path stays inside the folder it is relative to, on every operating system."""
    parts = PurePosixPath(name).parts
    return (
        bool(parts)
        and not name.startswith("/")
        and ".." not in parts
        and not any(character in name for character in "\\:\0\r\n")
        and name == "/".join(parts)
    )


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


class _Folder:
    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise BundleError(f"{path} does not exist; give a bundle's folder or .tar.zst file")
        self._path = path

    def names(self) -> frozenset[str]:
        found: set[str] = set()
        for folder, folders, files in os.walk(self._path):
            for name in folders:
                if (Path(folder) / name).is_symlink():
                    raise BundleError(
                        f"{self._path}: {name} is a link to a folder, and those are not followed; "
                        "copy the bundle with its links resolved, as `cp -rL` does"
                    )
            found.update((Path(folder) / file).relative_to(self._path).as_posix() for file in files)
        return frozenset(found)

    def read(self, name: str) -> bytes:
        try:
            return (self._path / name).read_bytes()
        except OSError as error:
            raise BundleError(f"{self._path}: cannot read {name}: {error.strerror}") from None


class _Metered:
    """A stream of an archive that ends with an error where more comes than was announced.

    tarfile holds a name or an attribute of any size in memory before it is asked about it.
    """

    def __init__(self, stream: IO[bytes], path: Path) -> None:
        self._stream = stream
        self._path = path
        self._left = MAX_HEADER_BYTES

    def expect(self, size: int) -> None:
        """A file's contents come, then the next header."""
        self._left = size + MAX_HEADER_BYTES

    def read(self, size: int) -> bytes:
        contents = self._stream.read(size)
        self._left -= len(contents)
        if self._left < 0:
            raise BundleError(
                f"{self._path} has more than {MAX_HEADER_BYTES >> 20} MiB between two files; "
                "this is no bundle of ours"
            )
        return contents


class _Archive:
    """A `.tar.zst` file, held in memory."""

    def __init__(self, path: Path) -> None:
        try:
            import zstandard
        except ModuleNotFoundError:
            hint = missing_package(f"reading {path.name}", "zstandard")
            raise BundleError(f"{hint}; or unpack it: tar --zstd -xf {path.name}") from None
        self._path = path
        self._files: dict[str, bytes] = {}
        try:
            with (
                path.open("rb") as stream,
                zstandard.ZstdDecompressor().stream_reader(stream) as unpacked,
            ):
                metered = _Metered(unpacked, path)
                # A Metered has all that tarfile asks of a stream.
                with tarfile.open(fileobj=cast(IO[bytes], metered), mode="r|") as archive:
                    self._take(archive, metered)
        except (*_DAMAGED, zstandard.ZstdError) as error:
            raise BundleError(
                f"{path} is not a whole .tar.zst archive ({error}); copy it again"
            ) from None
        except OSError as error:
            raise BundleError(f"cannot read {path}: {error.strerror or error}") from None

    def _take(self, archive: tarfile.TarFile, stream: _Metered) -> None:
        total = 0
        roots = set()
        for member in archive:
            root, _, name = member.name.partition("/")
            if not is_safe_name(member.name):
                raise BundleError(
                    f"{self._path}: the archive holds the unsafe path {member.name!r}; "
                    "this is no bundle of ours"
                )
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                raise BundleError(
                    f"{self._path}: {member.name} is a link or a device; a bundle holds files only"
                )
            total += member.size
            if total > MAX_ARCHIVE_BYTES:
                raise BundleError(
                    f"{self._path} unpacks to more than {MAX_ARCHIVE_BYTES >> 30} GiB; "
                    "this is no bundle of ours"
                )
            roots.add(root)
            if len(roots) > 1 or not name or name in self._files:
                raise BundleError(
                    f"{self._path}: {member.name} is there twice or outside the bundle's folder; "
                    "this is no bundle of ours"
                )
            stream.expect(member.size)
            contents = archive.extractfile(member)
            assert contents is not None  # a regular file has contents
            self._files[name] = contents.read()

    def names(self) -> frozenset[str]:
        return frozenset(self._files)

    def read(self, name: str) -> bytes:
        return self._files[name]
