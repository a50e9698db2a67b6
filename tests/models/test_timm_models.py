"""What stands between us and timm's downloads; timm itself is no library of the tests."""

from __future__ import annotations

import logging
import sys
from types import ModuleType

import pytest

from exporter.models.timm_models import _impatient_hub


def test_without_a_network_the_hub_neither_waits_nor_talks(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hub, constants = ModuleType("huggingface_hub"), ModuleType("huggingface_hub.constants")
    vars(constants).update(ENDPOINT="http://127.0.0.1:9", HF_HUB_OFFLINE=False)
    vars(hub).update(constants=constants)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    logger = logging.getLogger("huggingface_hub")
    logger.setLevel(logging.WARNING)
    with pytest.raises(KeyError), _impatient_hub():
        assert vars(constants)["HF_HUB_OFFLINE"] is True
        logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 1s [Retry 1/5].")
        raise KeyError
    assert vars(constants)["HF_HUB_OFFLINE"] is False
    assert logger.level == logging.WARNING
    assert caplog.records == []
