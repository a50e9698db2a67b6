"""The JSON Schema of manifest.json takes what the codec takes, and refuses what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from exporter.builds import manifest
from exporter.builds.json_schema import manifest_schema
from exporter.builds.records import Manifest
from exporter.cli import main
from exporter.errors import InputError
from tests import manifests
from tests.builds.test_edited_manifest import GONE, VALUES, edited, places, small
from tests.packed import digits_build

SCHEMA = manifest_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def as_json(content: Manifest) -> Any:
    return json.loads(json.dumps(manifest.to_json(content)))


def test_it_is_a_schema_and_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    VALIDATOR.check_schema(SCHEMA)
    with pytest.raises(SystemExit) as done:
        main(["schema"])
    assert done.value.code == 0
    assert json.loads(capsys.readouterr().out) == SCHEMA


def test_every_kind_of_build_is_valid() -> None:
    assert not list(
        VALIDATOR.iter_errors(json.loads((digits_build() / "manifest.json").read_text()))
    )
    for content in (
        manifests.resnet50(trained=True),
        manifests.resnet50(drift=False),
        manifests.failed(),
        manifests.not_finite(),
        manifests.unmeasured(),
        manifests.without_blocks(manifests.unmeasured()),
    ):
        VALIDATOR.validate(as_json(content))


def test_every_field_is_described_as_it_is_in_the_source() -> None:
    share = SCHEMA["$defs"]["BlockTime"]["properties"]["share"]
    assert share == {"$ref": "#/$defs/number", "description": "Of the time of all kernels."}
    assert SCHEMA["$defs"]["ExportRequest"]["properties"]["samples"]["description"].startswith(
        "Evaluation inputs"
    )
    assert "out" not in SCHEMA["$defs"]["ExportRequest"]["properties"]


def accepted(content: Any) -> bool:
    try:
        manifest.from_json(content, "manifest.json")
    except InputError as error:
        return "leads out of the build" in str(error)  # which a schema cannot say
    return True


def test_both_agree_on_every_edit() -> None:
    """In one entry of each list, with what JSON and a schema tell apart: 1e308 is whole there.

    A third of the values at each place, in turn; every one takes half a minute and agrees, too.
    """
    content = as_json(small())
    each = {
        tuple(key for key in path if not isinstance(key, int)): path for path in places(content)
    }
    changed = {
        (path, repr(value)): edited(content, path, value)
        for number, path in enumerate(each.values())
        for value in VALUES[number % 3 :: 3]
        if value != "\ud800" and not isinstance(value, float)
        if not (value is GONE and isinstance(path[-1], int))
    }
    assert len(changed) > 700
    assert not [
        place for place, edit in changed.items() if VALIDATOR.is_valid(edit) != accepted(edit)
    ]


def test_a_new_field_is_refused() -> None:
    content = as_json(replace(small(), timings={}))
    VALIDATOR.validate(content)
    content["engines"][0]["colour"] = "red"
    with pytest.raises(jsonschema.ValidationError, match="'colour' was unexpected"):
        VALIDATOR.validate(content)
