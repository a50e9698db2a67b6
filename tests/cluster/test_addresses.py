"""Where no cluster is: one line, soon; and without Ray, how to install it."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from exporter.cluster.on_ray import run_on
from exporter.errors import MissingDependencyError, UsageError
from tests.cluster.test_here import Counting, Naming

has_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


class Wanted:
    threads, workers = 1, None


def run(address: str) -> None:
    list(run_on(address, Naming(), [(0, Counting(1))], Wanted(), lambda _: None, print))


def test_without_ray_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"--on head:6379 needs Ray.*\[ray\]"):
        run("head:6379")


@has_ray
@pytest.mark.parametrize("address", ["127.0.0.1:1", "no.such.host.invalid:6379", "127.0.0.1:99999"])
def test_where_nobody_listens_it_says_so(address: str) -> None:
    with pytest.raises(UsageError, match=r"no Ray cluster answers there within 10 s"):
        run(address)


@has_ray
@pytest.mark.parametrize("address", ["head", "ray://head:10001", "head:port"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="give the address of a Ray cluster, HOST:PORT"):
        run(address)
