"""The names of published classes in everything that is packed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from exporter import export
from exporter.runtime import load
from tests.packed import pack_build

FIRST = ["tench", "goldfish", "great white shark"]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of 1000 classes whose manifest says that its weights are ImageNet's."""
    build = export(
        "resnet18", weights="random", image_size=32, targets=["ort-cpu"], precisions=["fp32"],
        measure=False, out=tmp_path_factory.mktemp("builds") / "build",
    )  # fmt: skip
    path = build.path / "manifest.json"
    manifest = json.loads(path.read_text())
    assert manifest["model"]["weights"]["classes"] is None  # they are random
    manifest["model"]["weights"].update(trained=True, classes="imagenet-1k", licence="BSD | MIT")
    path.write_text(json.dumps(manifest))
    return build.path


def test_random_weights_name_their_classes_by_number(published: Path, tmp_path: Path) -> None:
    path = published / "manifest.json"
    manifest = path.read_text()
    unknown: dict[str, Any] = json.loads(manifest)
    unknown["model"]["weights"]["classes"] = None
    path.write_text(json.dumps(unknown))
    try:
        bundle = pack_build(published, tmp_path / "bundle")
    finally:
        path.write_text(manifest)
    assert (bundle / "labels.txt").read_text().splitlines() == [str(i) for i in range(1000)]


def test_the_bundle_and_its_card_have_them(published: Path, tmp_path: Path) -> None:
    bundle = pack_build(published, tmp_path / "bundle")
    with load(bundle, threads=1) as engine:
        assert engine.labels[:3] == tuple(FIRST)
        assert engine.labels[999] == "toilet tissue"
    card = (bundle / "MODEL_CARD.md").read_text()
    assert "| classes | 1000 (tench, goldfish, great white shark, tiger shark, " in card
    assert "| licence of the weights | BSD \\| MIT |" in card
    bill = json.loads((bundle / "sbom.cdx.json").read_text())
    assert bill["metadata"]["component"]["licenses"] == [{"license": {"name": "BSD | MIT"}}]


@pytest.mark.parametrize("kind", ["node", "web", "triton"])
def test_the_other_packages_have_them(published: Path, tmp_path: Path, kind: str) -> None:
    folder = pack_build(published, tmp_path / kind, format=kind)
    if kind == "triton":
        names = (folder / "resnet18" / "labels.txt").read_text().splitlines()
    else:
        names = json.loads((folder / "model.json").read_text())["labels"]
    assert names[:3] == FIRST
    assert len(names) == 1000


def test_the_users_own_names_come_first(published: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("".join(f"class {i}\n" for i in range(1000)))
    bundle = pack_build(published, tmp_path / "bundle", labels=mine)
    assert (bundle / "labels.txt").read_text() == mine.read_text()
