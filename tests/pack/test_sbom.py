"""The bill of materials, judged by CycloneDX's own library."""

from __future__ import annotations

import hashlib
import json

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.packed import digits_bundle


def test_the_bill_of_materials_is_valid_cyclonedx() -> None:
    text = (digits_bundle() / "sbom.cdx.json").read_text()
    for version in (SchemaVersion.V1_6, SchemaVersion.V1_7):
        assert JsonStrictValidator(version).validate_str(text) is None
    bill = json.loads(text)
    assert bill["metadata"]["component"]["type"] == "machine-learning-model"
    engines = {c["name"]: c for c in bill["components"] if c["bom-ref"].startswith("engine:")}
    int8 = digits_bundle() / "engines/ort-cpu/int8.onnx"
    assert engines["ort-cpu.int8"]["components"][0]["hashes"] == [
        {"alg": "SHA-256", "content": hashlib.sha256(int8.read_bytes()).hexdigest()}
    ]
    libraries = {c["purl"] for c in bill["components"] if c["type"] == "library"}
    assert any(purl.startswith("pkg:pypi/onnxruntime@") for purl in libraries)
    assert "timestamp" not in bill["metadata"]
