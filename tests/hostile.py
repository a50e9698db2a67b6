"""Markup in every text of a record, as somebody may have it who edits a manifest."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any

import attrs

HOSTILE = "</title><script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7*7 }}&amp;"


def hostile(value: Any) -> Any:
    """Every text of a manifest (or of a part of one) with markup in front of it."""
    if isinstance(value, str) and not isinstance(value, Enum):
        return HOSTILE + value
    if isinstance(value, tuple):
        return tuple(map(hostile, value))
    if isinstance(value, dict):
        return {key: hostile(item) for key, item in value.items()}
    if attrs.has(type(value)):
        changes = {name: hostile(item) for name, item in attrs.asdict(value, recurse=False).items()}
        return attrs.evolve(value, **changes)
    if is_dataclass(value) and not isinstance(value, type):
        changes = {field.name: hostile(getattr(value, field.name)) for field in fields(value)}
        return replace(value, **changes)
    return value
