"""Git takes nothing for part of the checkout that the documentation's commands write into it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import exporter

REPOSITORY = Path(exporter.__file__).parent.parent


@pytest.mark.skipif(
    shutil.which("git") is None or not (REPOSITORY / ".git").exists(), reason="no git checkout"
)
def test_packages_and_keys_of_the_commands_are_ignored() -> None:
    pages = [REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")]
    commands = "\n".join(
        line
        for page in pages
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith(("$ ", "    exporter"))
    )
    written = set(re.findall(r"exporter pack \S+ .*?--out (\S+)", commands))
    written |= set(re.findall(r"\S+\.(?:pem|tar\.zst)", commands))
    assert {"dist/bundle", "dist/bundle.tar.zst", "private.pem"} <= written
    for name in written:
        # A file in it, since a pattern for a folder fits nothing that is not there.
        inside = name if "." in name else f"{name}/manifest.json"
        command = ["git", "check-ignore", "--quiet", "--no-index", inside]
        done = subprocess.run(command, cwd=REPOSITORY, check=False)
        assert done.returncode == 0, f"{inside} is not ignored"
