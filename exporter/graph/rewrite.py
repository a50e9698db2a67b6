"""Passes that must not change what a graph answers: they are run, and the graph proves it.

The first graph is compared with the last one. Only where they differ is each pass looked at alone,
to say which one changed the numbers, and from where on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from exporter.artifact import PassReport
from exporter.errors import BuildError
from exporter.graph.equality import LIMIT, Answers, Array, alike, answer, answers, difference
from exporter.graph.files import check
from exporter.models.difference import relative_difference

if TYPE_CHECKING:
    import onnx_ir as ir

Pass = Callable[["ir.Model"], PassReport]


def rewrite(graph: ir.Model, passes: Sequence[Pass]) -> tuple[ir.Model, tuple[PassReport, ...]]:
    """The graph after the passes, and what each did; the given one stays.

    Raises:
        BuildError: the result is not valid ONNX; the message has the checker's.
    """
    rewritten = graph.clone()
    reports = tuple(run(rewritten) for run in passes)
    check(rewritten)
    return rewritten, reports


def prove_equal(
    graph: ir.Model,
    rewritten: ir.Model,
    passes: Sequence[Pass],
    images: Array,
    limit: float = LIMIT,
) -> None:
    """Compares what passes made of a graph with the graph itself.

    `limit` is the relative difference that needs no explanation.

    Raises:
        BuildError: it answers differently; the message names the pass and the first tensor.
    """
    expected = answer(graph, images)
    found = answer(rewritten, images)
    if alike(found, expected, graph, images, limit):
        return
    off = f"relative difference {difference(found, expected):.2g} on random images"
    before = graph
    for run in passes:
        after = before.clone()
        name = run(after).name
        tensors = _tensors(before) & _tensors(after)
        was, became = (answers(stage, images, tensors) for stage in (before, after))
        found, expected = (
            tuple(of[str(output.name)] for output in after.graph.outputs) for of in (became, was)
        )
        if not alike(found, expected, before, images, limit):
            endless = _first_not_finite(before, was)
            if endless is not None:
                raise BuildError(
                    f"{endless} is not finite for random images, so that nothing shows whether "
                    "the rewrites of the graph keep its answers; keep its numbers finite (a Clip)"
                )
            first = _first_changed(after, was, became, limit)
            raise BuildError(
                f"the pass {name} changes the numbers of the graph ({off}), first in {first}; "
                "this is a fault of the exporter, report it"
            )
        before = after
    raise BuildError(
        f"the passes {passes[0].__name__} to {passes[-1].__name__} together change the numbers of "
        f"the graph ({off}); this is a fault of the exporter, report it"
    )


def _tensors(graph: ir.Model) -> set[str]:
    return {str(value.name) for node in graph.graph for value in node.outputs}


def _first_not_finite(graph: ir.Model, was: Answers) -> str | None:
    """The first tensor that holds infinity or NaN."""
    names = [str(value.name) for node in graph.graph for value in node.outputs]
    kept = [name for name in names if name in was and was[name].dtype.kind == "f"]
    return next((name for name in kept if not np.isfinite(was[name]).all()), None)


def _first_changed(graph: ir.Model, was: Answers, became: Answers, limit: float) -> str:
    """The first tensor from which on everything differs.

    A tensor that differs and is read by one that does not has got another meaning under the same
    name, as a convolution has that took in its BatchNormalization.
    """
    changed: list[str] = []
    differing: set[ir.Node] = set()
    for node in reversed(graph.graph):
        names = [str(value.name) for value in node.outputs]
        known = [name for name in names if name in was and name in became]
        same = any(relative_difference(became[name], was[name]) <= limit for name in known)
        readers = {reader for value in node.outputs for reader in value.consumers()}
        if not same and readers <= differing:
            differing.add(node)
            changed += known
    return changed[-1]
