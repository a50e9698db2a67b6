"""What OpenVINO Model Server's own JSON Schema says of a configuration of models.

The facts of `MODELS_CONFIG_SCHEMA` in src/schema.cpp of openvinotoolkit/model_server at v2026.3
(f4a2934a05d20aae3947c5f70bea3a95026b5d38; Apache-2.0), without its pipelines and graphs, of which a
package has none.
"""

from __future__ import annotations

from typing import Any, Final

_TEXTS: Final = {"type": "object", "additionalProperties": {"type": "string"}}
_SHAPE: Final = {"oneOf": [_TEXTS, {"type": "string"}]}
_COUNT: Final = {"type": "integer", "minimum": 0}
_VERSION: Final = {"type": "integer", "minimum": 1}


def _one_of_its_keys(**kinds: dict[str, Any]) -> dict[str, Any]:
    """An object of exactly one of the keys."""
    return {"oneOf": [_exactly({name: kind}) for name, kind in kinds.items()]}


def _exactly(kinds: dict[str, Any], **required: Any) -> dict[str, Any]:
    """An object of these keys and no other, all required unless `required` says which."""
    return {
        "type": "object",
        "properties": kinds,
        "required": required.get("required", [*kinds]),
        "additionalProperties": False,
    }


_MODEL: Final = _exactly(
    {
        "name": {"type": "string"},
        "base_path": {"type": "string"},
        "batch_size": {"type": ["integer", "string"], "minimum": 0},
        "graph_path": {"type": "string"},
        "subconfig": {"type": "string"},
        "model_version_policy": _one_of_its_keys(
            all=_exactly({}),
            specific=_exactly({"versions": {"type": "array", "items": _VERSION}}),
            latest=_exactly({"num_versions": _VERSION}),
        ),
        "shape": _SHAPE,
        "layout": _SHAPE,
        "nireq": _COUNT,
        "target_device": {"type": "string"},
        "allow_cache": {"type": "boolean"},
        "plugin_config": {
            "type": "object",
            "additionalProperties": {"type": ["string", "boolean", "number"]},
        },
        "custom_loader_options": {
            "type": "object",
            "required": ["loader_name"],
            "properties": {"loader_name": {"type": "string"}},
        },
    },
    required=["name"],
)

SCHEMA: Final = _exactly(
    {
        "model_config_list": {"type": "array", "items": _exactly({"config": _MODEL})},
        "custom_loader_config_list": {"type": "array"},
        "pipeline_config_list": {"type": "array"},
        "mediapipe_config_list": {"type": "array"},
        "custom_node_library_config_list": {"type": "array"},
        "monitoring": {"type": "object"},
    },
    required=["model_config_list"],
)
