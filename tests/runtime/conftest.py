"""What the tests of serving share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.packed import copy_of, digits_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle of this test's own."""
    return copy_of(digits_bundle(), tmp_path)
