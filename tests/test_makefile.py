"""`make help` is the whole truth: every command has a target, every variable a line."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from exporter.cli import app

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def make(*arguments: str) -> str:
    """What make prints; the variables of the `make test` that runs this are not its business."""
    env = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME"}}
    return subprocess.check_output(
        ["make", "--no-print-directory", *arguments], cwd=ROOT, text=True, env=env
    )


def last_command(*arguments: str) -> str:
    """What a target would run at the end."""
    return make("--dry-run", *arguments).splitlines()[-1].rstrip()


def test_every_command_has_a_target_of_its_name() -> None:
    listed = set(re.findall(r"^  make ([\w-]+)", make("help"), re.MULTILINE))
    names = {one.callback.__name__ for one in app.registered_commands if one.callback}
    assert len(names) > 9
    assert names <= listed
    for name in names:
        variables = ("OLD=old",) if name == "compare" else ()
        assert last_command(name, *variables).startswith(f".venv/bin/exporter {name}")


def test_every_target_that_the_prose_names_exists() -> None:
    listed = set(re.findall(r"^  make ([\w-]+)", make("help"), re.MULTILINE))
    for page in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        named = {name for spans in re.findall(r"`make ([a-z -]+)", text) for name in spans.split()}
        named |= set(re.findall(r"^    make ([\w-]+)", text, re.MULTILINE))
        assert named
        assert named <= listed, f"{page} names {named - listed}"


def test_help_tells_every_variable_that_a_user_may_set() -> None:
    told = set(re.findall(r"^  ([A-Z_ ]+?)  ", make("help"), re.MULTILINE))
    told = {name for names in told for name in names.split()}
    used = set(re.findall(r"\$\((?:if |or )?\$?\(?([A-Z_]+)\)", MAKEFILE))
    used |= set(re.findall(r"^([A-Z_]+) \?=", MAKEFILE, re.MULTILINE))
    own = set(re.findall(r"^([A-Z_]+) :?= ", MAKEFILE, re.MULTILINE)) | {"MAKEFILE_LIST"}
    assert used - own == told


@pytest.mark.parametrize("command", ["validate", "benchmark", "report", "pack", "explain"])
def test_the_model_is_handed_on_as_it_is(command: str) -> None:
    run = f".venv/bin/exporter {command}"
    model = "timm:resnet10t.c3_in1k"
    assert last_command(command, f"MODEL={model}") == f'{run} "{model}"'
    assert last_command(command, f"MODEL={model}", "OUT=else/where") == f'{run} "else/where"'
    assert last_command(command) == f'{run} "resnet20-digits"'


def test_what_the_prose_packs_is_ignored_by_git() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    prose = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    out = set(re.findall(r"exporter pack [^\n]*--out ([\w./-]+)", prose))
    assert len(out) > 3
    out |= {"bundle.tar.zst", "private.pem", "public.pem"}
    for name in sorted(out):
        ignored = subprocess.run(["git", "check-ignore", "-q", f"{name}/x"], cwd=ROOT, check=False)
        assert ignored.returncode == 0, f"git would add {name}"
