"""The model card says what the manifest says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.packed import digits_bundle, edited_build, pack_build


def test_the_model_card_says_what_was_measured() -> None:
    card = (digits_bundle() / "MODEL_CARD.md").read_text()
    manifest = json.loads((digits_bundle() / "manifest.json").read_text())
    for entry in manifest["engines"]:
        row = next(line for line in card.splitlines() if line.startswith(f"| {entry['id']} |"))
        assert entry["sha256"][:16] in row
        assert f"{entry['parity']['rel_l2']:.2g}" in row
        assert entry["receipt"]["verdict"] in row
    assert "mean 0.306, 0.306, 0.306 and std 0.323, 0.323, 0.323" in card
    assert manifest["model"]["weights"]["sha256"] in card
    assert "Untrained" not in card
    assert "Not measured: the evaluation data carries no labels" in card
    for section in ("Intended use and limits", "Data", "Accuracy", "Engines", "Preprocessing"):
        assert f"## {section}\n" in card


def test_text_of_the_manifest_cannot_break_out_of_a_table(tmp_path: Path) -> None:
    def hostile(manifest: dict[str, Any]) -> None:
        manifest["model"]["weights"]["source"] = "x | y\n# Certified safe <script>"

    card = (
        pack_build(edited_build(tmp_path, hostile), tmp_path / "b") / "MODEL_CARD.md"
    ).read_text()
    assert "| weights | x \\| y # Certified safe &lt;script> |" in card
