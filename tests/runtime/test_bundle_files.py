"""A bundle's files: signatures, and archives that were made to do harm."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from exporter.runtime import BundleError, bundle_sources, load
from exporter.runtime.bundle_files import FIRST, SIGNATURE, SUMS
from exporter.runtime.bundle_sources import is_safe_name
from tests.packed import copy_of, digits_bundle, files_of, pack_digits, resum


def write_keys(folder: Path, name: str = "release") -> tuple[Path, Path]:
    """A new Ed25519 key pair: (private, public), PEM."""
    key = ed25519.Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def test_a_signature_is_checked_against_the_key(tmp_path: Path) -> None:
    private, public = write_keys(tmp_path)
    _, other = write_keys(tmp_path, "other")
    bundle = pack_digits(tmp_path / "signed", sign=private).path
    load(bundle, public_key=public).close()
    load(bundle).close()
    with pytest.raises(BundleError, match="not this key's signature"):
        load(bundle, public_key=other)


def test_a_signed_archive_is_checked(tmp_path: Path) -> None:
    private, public = write_keys(tmp_path)
    _, other = write_keys(tmp_path, "other")
    archive = pack_digits(tmp_path / "signed.tar.zst", sign=private).path
    load(archive, public_key=public).close()
    with pytest.raises(BundleError, match="not this key's signature"):
        load(archive, public_key=other)


def test_whoever_lists_altered_files_again_cannot_sign_them(tmp_path: Path) -> None:
    private, public = write_keys(tmp_path)
    bundle = pack_digits(tmp_path / "signed", sign=private).path
    (bundle / "labels.txt").write_text("".join(f"{n}\n" for n in reversed(range(10))))
    resum(bundle)
    load(bundle).close()  # without a key, nothing tells
    with pytest.raises(BundleError, match="not this key's signature"):
        load(bundle, public_key=public)


def test_every_flipped_byte_of_a_signature_is_found(tmp_path: Path) -> None:
    private, public = write_keys(tmp_path)
    bundle = pack_digits(tmp_path / "signed", sign=private).path
    path = bundle / SIGNATURE
    whole = path.read_bytes()
    assert len(whole) == 64
    for changed in [*(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :] for i in range(64)), b""]:
        path.write_bytes(changed)
        with pytest.raises(BundleError, match=SIGNATURE):
            load(bundle, public_key=public)


def test_an_unsigned_bundle_does_not_pass_for_a_signed_one(tmp_path: Path) -> None:
    _, public = write_keys(tmp_path)
    with pytest.raises(BundleError, match=r"is not signed \(no SHA256SUMS\.sig\)"):
        load(digits_bundle(), public_key=public)


def test_what_is_no_ed25519_key_is_refused(tmp_path: Path) -> None:
    private, _ = write_keys(tmp_path)
    bundle = pack_digits(tmp_path / "signed", sign=private).path
    foreign = tmp_path / "rsa.pem"
    foreign.write_bytes(
        rsa.generate_private_key(65537, 2048)
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("-----BEGIN PUBLIC KEY-----\n!\n")
    for key in (foreign, nonsense, private):
        with pytest.raises(BundleError, match="not an Ed25519 key"):
            load(bundle, public_key=key)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl(1) is not installed")
def test_openssl_makes_the_keys_and_checks_the_signature(tmp_path: Path) -> None:
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    for command in (
        ["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(private)],
        ["openssl", "pkey", "-in", str(private), "-pubout", "-out", str(public)],
    ):
        subprocess.run(command, check=True, capture_output=True)
    bundle = pack_digits(tmp_path / "signed", sign=private).path
    load(bundle, public_key=public).close()
    check = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(public), "-rawin"]
    files = ["-in", str(bundle / SUMS), "-sigfile", str(bundle / SIGNATURE)]
    assert subprocess.run([*check, *files], check=False, capture_output=True).returncode == 0


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum(1) is not installed")
def test_sha256sum_reads_the_list() -> None:
    subprocess.run(
        ["sha256sum", "--check", "--strict", SUMS],
        cwd=digits_bundle(),
        check=True,
        capture_output=True,
    )


def make_archive(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    """A `.tar.zst` with these members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member, contents in members:
            member.size = len(contents)
            archive.addfile(member, io.BytesIO(contents))
    path.write_bytes(zstandard.compress(buffer.getvalue()))
    return path


def members_of(bundle: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    """A whole bundle, as members of an archive, in the order that it must have."""
    found = sorted(path for path in bundle.rglob("*") if path.is_file())
    first = [bundle / name for name in FIRST if (bundle / name).exists()]
    return [
        (tarfile.TarInfo(f"bundle/{path.relative_to(bundle).as_posix()}"), path.read_bytes())
        for path in [*first, *(path for path in found if path not in first)]
    ]


def link(name: str, kind: bytes, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    member.linkname = target
    return member


@pytest.mark.parametrize(
    "name",
    ["../evil", "bundle/../../evil", "/etc/evil", "bundle/./evil", "bundle//evil", "c:evil",
     "bundle\\..\\evil"],
)  # fmt: skip
def test_unsafe_paths_are_refused(tmp_path: Path, name: str) -> None:
    members = members_of(digits_bundle())
    archive = make_archive(tmp_path / "a.tar.zst", [*members, (tarfile.TarInfo(name), b"evil")])
    with pytest.raises(BundleError, match="unsafe path"):
        load(archive)
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        (tarfile.SYMTYPE, "manifest.json"),
        (tarfile.SYMTYPE, "/etc/passwd"),
        (tarfile.LNKTYPE, "bundle/manifest.json"),
        (tarfile.CHRTYPE, ""),
        (tarfile.FIFOTYPE, ""),
    ],
)
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes, target: str) -> None:
    members = [*members_of(digits_bundle()), (link("bundle/other", kind, target), b"")]
    with pytest.raises(BundleError, match="bundle/other is a link or a device"):
        load(make_archive(tmp_path / "a.tar.zst", members))


def test_a_member_given_twice_or_beside_the_bundle_is_refused(tmp_path: Path) -> None:
    members = members_of(digits_bundle())
    twice = [*members, (tarfile.TarInfo("bundle/manifest.json"), b"{}")]
    beside = [*members, (tarfile.TarInfo("other/manifest.json"), b"{}")]
    bare = [(tarfile.TarInfo("manifest.json"), b"{}")]
    for number, wrong in enumerate((twice, beside, bare)):
        with pytest.raises(BundleError, match="twice or outside"):
            load(make_archive(tmp_path / f"{number}.tar.zst", wrong))


def test_an_archive_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = make_archive(tmp_path / "a.tar.zst", [(tarfile.TarInfo("bundle/x"), bytes(1 << 24))])
    assert bomb.stat().st_size < 1 << 16
    monkeypatch.setattr(bundle_sources, "MAX_ARCHIVE_BYTES", 1 << 20)
    with pytest.raises(BundleError, match="unpacks to more than"):
        load(bomb)


def test_a_small_archive_does_not_become_a_large_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_sources, "MAX_SMALL_BYTES", 1 << 20)
    bomb = make_archive(tmp_path / "a.tar.zst", [(tarfile.TarInfo("bundle/x"), bytes(1 << 24))])
    with pytest.raises(BundleError, match="unpacks to more than 1 MiB"):
        load(bomb)
    load(pack_digits(tmp_path / "digits.tar.zst").path).close()  # larger, but not for its size


BOMB = 256 << 20
"""What must not be read: bytes."""


def refused_unread(bundle: Path, message: str, **options: Any) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(BundleError, match=message):
            load(bundle, **options)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < BOMB // 4


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("engines/ort-cpu/int8.onnx", r"int8\.onnx has 268,435,456 bytes, at most [\d,]{7} are"),
        ("SHA256SUMS", "SHA256SUMS has 268,435,456 bytes, at most 1,048,576 are expected"),
        ("SHA256SUMS.sig", r"SHA256SUMS\.sig has 268,435,456 bytes, at most 1,024"),
        ("manifest.json", r"manifest\.json has 268,435,456 bytes, at most 67,108,864"),
        ("another", "another is not in SHA256SUMS"),
    ],
)
@pytest.mark.parametrize("archived", [True, False])
def test_a_file_of_another_size_is_refused_unread(
    tmp_path: Path, name: str, message: str, archived: bool
) -> None:
    private, public = write_keys(tmp_path)
    bundle = pack_digits(tmp_path / "bundle", sign=private).path
    if archived:
        members = {member.name: contents for member, contents in members_of(bundle)}
        members[f"bundle/{name}"] = bytes(BOMB)
        given = make_archive(
            tmp_path / "a.tar.zst", [(tarfile.TarInfo(n), c) for n, c in members.items()]
        )
        del members
        assert given.stat().st_size < 2 << 20
    else:
        with (bundle / name).open("r+b" if (bundle / name).exists() else "wb") as stream:
            stream.truncate(BOMB)
        given = bundle
    refused_unread(given, message, public_key=public)


def test_the_list_and_its_signature_come_first(tmp_path: Path) -> None:
    """Of a wrong signature nothing more is read: here nothing more is there."""
    private, _ = write_keys(tmp_path)
    _, other = write_keys(tmp_path, "other")
    members = members_of(pack_digits(tmp_path / "signed", sign=private).path)
    with pytest.raises(BundleError, match="holds no SHA256SUMS, or not as its first file"):
        load(make_archive(tmp_path / "last.tar.zst", [*members[1:], members[0]]))
    with pytest.raises(BundleError, match="not this key's signature"):
        load(make_archive(tmp_path / "begun.tar.zst", members[:2]), public_key=other)
    with pytest.raises(BundleError, match="is not signed"):
        load(make_archive(tmp_path / "late.tar.zst", [members[0], *members[2:], members[1]]),
             public_key=other)  # fmt: skip


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this operating system has no such files")
def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    bundle = copy_of(digits_bundle(), tmp_path)
    (bundle / "labels.txt").unlink()
    os.mkfifo(bundle / "labels.txt")
    with pytest.raises(BundleError, match=r"labels\.txt is no regular file"):
        load(bundle)


def attribute(size: int, kind: bytes) -> bytes:
    """The header of an attribute or a name of so many bytes, which follow it."""
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = kind, size
    return member.tobuf(format=tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_what_stands_before_a_file_is_not_read_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: bytes
) -> None:
    """tarfile holds a name or an attribute in memory, however large its header says that it is."""
    archive = tmp_path / "a.tar.zst"
    archive.write_bytes(zstandard.compress(attribute(1 << 40, kind) + bytes(64 << 20)))
    assert archive.stat().st_size < 1 << 16
    tracemalloc.start()
    with pytest.raises(BundleError, match="more than 1 MiB between two files"):
        load(archive)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20


def sparse(value: str) -> bytes:
    """The attribute of a file with holes; the file follows it."""
    record = f" GNU.sparse.map={value}\n"
    record = f"{len(record) + 2}{record}"
    return attribute(len(record), tarfile.XHDTYPE) + record.encode() + bytes(-len(record) % 512)


MALFORMED = {
    "letters": sparse("a,b"),
    "a name of a name": 900 * (attribute(1, tarfile.GNUTYPE_LONGNAME) + bytes(512)),
}


@pytest.mark.parametrize("contents", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_headers_are_refused(tmp_path: Path, contents: bytes) -> None:
    archive = tmp_path / "a.tar.zst"
    members = io.BytesIO()
    with tarfile.open(fileobj=members, mode="w") as whole:
        whole.addfile(tarfile.TarInfo("bundle/x"))
    archive.write_bytes(zstandard.compress(contents + members.getvalue()))
    with pytest.raises(BundleError):
        load(archive)


def test_a_linked_folder_is_said_to_be_one(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    for path in digits_bundle().iterdir():
        (tmp_path / "a" / path.name).symlink_to(path)
    with pytest.raises(BundleError, match=r"(engines|onnx) is a link to a folder.*cp -rL"):
        load(tmp_path / "a")
    (tmp_path / "linked").symlink_to(digits_bundle())
    load(tmp_path / "linked").close()
    for name in [*files_of(digits_bundle()), SUMS]:
        link = tmp_path / "b" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(digits_bundle() / name)
    load(tmp_path / "b").close()


def test_a_truncated_or_altered_archive_is_refused(tmp_path: Path) -> None:
    archive = pack_digits(tmp_path / "digits.tar.zst").path
    whole = archive.read_bytes()
    rng = np.random.default_rng(0)
    last = len(whole) - 5  # then comes zstd's own checksum; ours are in SHA256SUMS
    for size in [0, 1, 100, *rng.integers(0, last, 10)]:
        archive.write_bytes(whole[:size])
        with pytest.raises(BundleError):
            load(archive)
    for position in [0, 4, *rng.integers(0, last, 20)]:
        changed = bytearray(whole)
        changed[position] ^= int(rng.integers(1, 256))
        archive.write_bytes(changed)
        with pytest.raises(BundleError):
            load(archive)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    bundle = copy_of(digits_bundle(), tmp_path)
    (bundle / "labels.txt").unlink()
    (bundle / "labels.txt").symlink_to("nowhere")
    with pytest.raises(BundleError, match=r"cannot read labels\.txt"):
        load(bundle)


@given(st.text(st.sampled_from("ab./\\:\n "), max_size=12))
def test_a_safe_name_stays_inside_its_folder(name: str) -> None:
    if is_safe_name(name):
        folder = Path("/somewhere/bundle")
        landed = Path(os.path.normpath(folder / name))
        assert folder in landed.parents
        assert landed.relative_to(folder).as_posix() == name
