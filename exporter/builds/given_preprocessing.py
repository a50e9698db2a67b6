"""A request's preprocessing: its file's contents become the options that they stand for."""

from __future__ import annotations

from dataclasses import fields

import attrs

from exporter.builds.request import ExportRequest
from exporter.images.contract import GivenPreprocessing
from exporter.images.contract_file import read_contract


def with_file_read(request: ExportRequest) -> ExportRequest:
    """The request with what its file says, where no option says something else.

    Raises:
        UsageError: the file cannot be used.
    """
    if request.preprocessing is None:
        return request
    from_file = read_contract(request.preprocessing)
    unset = GivenPreprocessing()
    changes = {
        one.name: getattr(from_file, one.name)
        for one in fields(GivenPreprocessing)
        if getattr(request, one.name) == getattr(unset, one.name)
    }
    return attrs.evolve(request, preprocessing=None, **changes)


def given_preprocessing(request: ExportRequest) -> GivenPreprocessing:
    """What the request's options say of the preprocessing."""
    return GivenPreprocessing(
        **{one.name: getattr(request, one.name) for one in fields(GivenPreprocessing)}
    )
