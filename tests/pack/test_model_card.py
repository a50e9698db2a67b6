"""The model card says what the manifest says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from exporter import export
from tests.packed import digits_build, digits_bundle, edited_build, loaded, measured, pack_build


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


def test_it_keeps_intervals_and_says_what_was_unstable(tmp_path: Path) -> None:
    def timed(manifest: dict[str, Any]) -> None:
        measured(manifest, fp32={1: 2.0}, int8={1: 1.0})
        for entry in manifest["engines"]:
            if entry["precision"] == "int8":
                entry["latency"].update(stable=False, speedup={"median": 5.0, "ci95": [3.0, 7.25]})
            if entry["precision"] == "fp32":
                entry["latency"].update(stable=True, speedup={"median": 2.5, "ci95": [2.4, 2.6]})

    packed = pack_build(edited_build(tmp_path, timed), tmp_path / "b")
    card = (packed / "MODEL_CARD.md").read_text()
    assert "| 2.50x (2.40 to 2.60) |" in card
    assert "| 5.00x (3.00 to 7.25, unstable) |" in card
    bill = (packed / "sbom.cdx.json").read_text()
    assert bill.count('"speedup over eager PyTorch (unstable)"') == 1
    assert bill.count('"speedup over eager PyTorch"') == 1


def test_it_says_what_answered_most_under_load(tmp_path: Path) -> None:
    card = (
        pack_build(edited_build(tmp_path, loaded), tmp_path / "b") / "MODEL_CARD.md"
    ).read_text()
    assert "the best that was measured of each engine on 3 cores, 3 callers at once" in card
    row = "| 3 | 1 | 1 | 8 | 93.0 | 21.00 ms | 24.00 ms | 1.20x (1.10 to 1.30) |"
    assert card.count(row) == 2
    assert f"| ort-cpu.int8 {row}" in card
    assert "callers at once" not in (digits_bundle() / "MODEL_CARD.md").read_text()


def test_a_licence_is_said_to_be_unknown_where_nothing_says_it(tmp_path: Path) -> None:
    def unknown(manifest: dict[str, Any]) -> None:
        manifest["model"]["weights"]["licence"] = None

    card = (
        pack_build(edited_build(tmp_path, unknown), tmp_path / "b") / "MODEL_CARD.md"
    ).read_text()
    assert "| licence of the weights | not known: whoever made them says so |" in card
    shipped = (digits_bundle() / "MODEL_CARD.md").read_text()
    assert "| licence of the weights | Apache-2.0, as this package |" in shipped


def test_a_build_of_an_onnx_file_names_what_it_was_compared_with(tmp_path: Path) -> None:
    source = digits_build() / "onnx" / "resnet20-digits.fp32.onnx"
    build = export(
        source, targets=["ort-cpu"], precisions=["fp32"], out=tmp_path / "build", rounds=5,
        samples=8,
    )  # fmt: skip
    packed = pack_build(build.path, tmp_path / "b")
    for name in ("MODEL_CARD.md", "sbom.cdx.json"):
        text = (packed / name).read_text()
        assert "PyTorch" not in text
        assert "the given ONNX file, onnxruntime" in text
        assert "over the given file in ONNX Runtime, all optimizations on" in text
