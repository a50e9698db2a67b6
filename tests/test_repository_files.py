"""What stands beside the code for GitHub, Docker and citations: valid, and true of the code."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from datetime import date
from pathlib import Path

import pytest
import yaml

import exporter
from exporter.targets.triton_containers import find

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))


@pytest.mark.parametrize(
    ("schema", "pattern"),
    [
        ("github-workflows", ".github/workflows/*.yml"),
        ("github-issue-forms", ".github/ISSUE_TEMPLATE/[!c]*.yml"),
        ("github-issue-config", ".github/ISSUE_TEMPLATE/config.yml"),
        ("citation-file-format", "CITATION.cff"),
    ],
)
def test_it_fits_its_published_schema(schema: str, pattern: str) -> None:
    files = [str(path) for path in ROOT.glob(pattern)]
    assert files
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    done = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_citation_names_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == exporter.__version__ == PROJECT["version"]
    assert cited["license"] == PROJECT["license"]


def test_the_workflow_tests_every_python_that_is_supported() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))
    job = workflow["jobs"]["test"]
    assert PROJECT["requires-python"] == ">=3.11,<3.14"
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert job["steps"][-1]["run"].startswith("make test ")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_a_dockerfile_copies_and_installs_what_is_there(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    copied = [name for line in re.findall(r"^COPY (.*) \S+$", text, re.M) for name in line.split()]
    assert ({"pyproject.toml", "exporter"} <= set(copied)) is ("pip install" in text)
    assert not [name for name in copied if not (ROOT / name).exists()]
    assert set(re.findall(r"'\.\[(\w+)\]'", text)) <= PROJECT["optional-dependencies"].keys()
    assert re.search(r"^USER [1-9]\d*$", text, re.M), "it runs as root"
    default = re.search(r"^ARG TAG=(\S+)$", text, re.M)
    tag = default[1] if default else ""
    bases = [base.replace("${TAG}", tag) for base in re.findall(r"^FROM (\S+)$", text, re.M)]
    assert bases
    assert all(re.search(r":\d+\.\d+\S*$", base) for base in bases), "its base has no version"


def test_the_containers_of_plans_are_known() -> None:
    """Their default TAG is one whose TensorRT the packer can name."""
    for name in ("triton", "rebuild"):
        text = (ROOT / "docker" / f"{name}.Dockerfile").read_text(encoding="utf-8")
        (tag,) = re.findall(r"^ARG TAG=(\S+)$", text, re.M)
        container = find(tag)
        assert container is not None
        assert "tensorrt" in container.versions


def test_the_changelog_has_its_days_newest_first() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    days = [date.fromisoformat(day) for day in re.findall(r"^### (.*)$", text, re.M)]
    assert days == sorted(set(days), reverse=True)
    assert len(days) >= 3
