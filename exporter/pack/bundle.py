"""The bundle: one folder, or one `.tar.zst` of it, that a production runtime loads and that proves
itself at load.

    manifest.json     the build's, with the packed engines and what their goldens may be off by
    engines/...       each engine's files, under the names they have in the build
    golden.npz        inputs, the reference's outputs, and the images they came from
    labels.txt        a class a line
    MODEL_CARD.md     provenance, accuracy, limits, intended use
    sbom.cdx.json     CycloneDX machine-learning bill of materials
    SHA256SUMS        every other file's hash; SHA256SUMS.sig: its Ed25519 signature

The same build packs to the same bytes.
"""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Final

from exporter.errors import InputError, MissingDependencyError, UsageError
from exporter.pack.checksums import write_sums
from exporter.pack.destination import packed_file, packed_folder
from exporter.pack.model_card import model_card
from exporter.pack.packable import Release, Written
from exporter.pack.request import PackRequest
from exporter.pack.sbom import bill_of_materials
from exporter.runtime import BundleError, load
from exporter.runtime.bundle_files import FIRST, SIGNATURE, SUMS, BundleFiles
from exporter.runtime.description import GOLDEN, LABELS, MANIFEST

ARCHIVE: Final = ".tar.zst"
MODEL_CARD: Final = "MODEL_CARD.md"
BILL: Final = "sbom.cdx.json"
_LEVEL: Final = 10
"""Of zstd: weights hardly shrink, a higher level only takes longer."""


def pack_bundle(release: Release, request: PackRequest, out: Path) -> Written:
    """Writes a bundle, whole or not at all: a file where `out` ends in `.tar.zst`, else a folder.

    Raises:
        UsageError: `out` holds something else, or the key is no Ed25519 private key.
        InputError: an engine's file was changed, or `out` cannot be written.
        MissingDependencyError: zstandard or cryptography is not installed.
    """
    if not out.name.endswith(ARCHIVE):
        with packed_folder(out) as folder:
            write_bundle(release, folder, request.sign)
            _check(release, folder)
        return Written(release.ids)
    with packed_file(out) as file:
        folder = file.with_name(out.name.removesuffix(ARCHIVE))
        folder.mkdir()
        write_bundle(release, folder, request.sign)
        _archive(folder, file)
        _check(release, file)
    return Written(release.ids)


def write_bundle(release: Release, folder: Path, private_key: Path | None = None) -> None:
    """Writes a bundle's files into an empty folder."""
    for engine in release.engines:
        for file in engine.files:
            path = folder / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(release.read(file))
    texts = {
        MANIFEST: release.manifest_text,
        LABELS: "".join(f"{label}\n" for label in release.labels),
        MODEL_CARD: model_card(release),
        BILL: bill_of_materials(release),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    (folder / GOLDEN).write_bytes(release.golden_file())
    write_sums(folder)
    if private_key is not None:
        (folder / SIGNATURE).write_bytes(_sign((folder / SUMS).read_bytes(), private_key))


def _check(release: Release, path: Path) -> None:
    """Reads the bundle back as a server will, and loads it where one of its engines runs here."""
    try:
        BundleFiles(path).check_rest()
        if any(release.runs_here(engine.id) for engine in release.engines):
            load(path).close()
    except BundleError as error:
        raise InputError(f"the bundle was not written as it was meant: {error}") from None


def _sign(message: bytes, private_key: Path) -> bytes:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ModuleNotFoundError:
        raise MissingDependencyError(
            "--sign needs the package cryptography; run `pip install cryptography`"
        ) from None
    try:
        key = load_pem_private_key(private_key.read_bytes(), password=None)
    except OSError as error:
        raise UsageError(f"cannot read --sign {private_key}: {error.strerror}") from None
    except (ValueError, TypeError):  # TypeError: it is encrypted
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(
            f"--sign {private_key} is no unencrypted Ed25519 private key (PEM); make one with "
            "`openssl genpkey -algorithm ed25519 -out private.pem`"
        )
    return key.sign(message)


def _archive(folder: Path, file: Path) -> None:
    """A tar of the folder: names, contents, nothing of this machine; always the same bytes."""
    try:
        import zstandard
    except ModuleNotFoundError:
        raise MissingDependencyError(
            f"writing {ARCHIVE} needs the package zstandard; run `pip install zstandard`"
        ) from None
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
    with (
        file.open("wb") as stream,
        compressor.stream_writer(stream) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        first = [folder / name for name in FIRST]  # so that a reader knows what comes
        for path in sorted(files, key=lambda file: first.index(file) if file in first else 9):
            member = tarfile.TarInfo(path.relative_to(folder.parent).as_posix())
            member.size = path.stat().st_size
            member.mode = 0o644
            with path.open("rb") as contents:
                archive.addfile(member, contents)
