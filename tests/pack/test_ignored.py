"""What the commands of README.md write into the checkout is not taken for part of it by git."""

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
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    written = set(re.findall(r"exporter pack \S+ .*?--out (\S+)", readme))
    written |= set(re.findall(r"\S+\.(?:pem|tar\.zst)", readme))
    assert {"bundle", "bundle.tar.zst", "private.pem"} <= {name.strip(",`") for name in written}
    for name in written:
        # A file in it, since a pattern for a folder fits nothing that is not there.
        inside = name.strip(",`") if "." in name else f"{name}/manifest.json"
        command = ["git", "check-ignore", "--quiet", "--no-index", inside]
        done = subprocess.run(command, cwd=REPOSITORY, check=False)
        assert done.returncode == 0, f"{inside} is not ignored"
