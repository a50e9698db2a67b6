"""The network is exported and calibrated once for all tests of the search."""

from __future__ import annotations

import pytest

from tests.search.engines import Engines, hurt


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Engines:
    return Engines.of(hurt(), tmp_path_factory.mktemp("search"))
