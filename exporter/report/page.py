"""report.html: the manifest as one page.

The page holds its style, its script and its drawings: it opens from disk and asks no network. Its
content security policy allows exactly that one style and that one script, by their hashes, so a
value that slipped through escaping could still not run. The same manifest gives the same bytes.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import math
import shlex
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final

import attrs

# Not on first use: an export that finds it missing must not find that at its end.
import jinja2

from exporter.artifact import ModelKind, Skipped
from exporter.builds import manifest as manifests
from exporter.builds.benchmark_request import BenchmarkRequest
from exporter.builds.option import command_line, keywords
from exporter.builds.records import Manifest
from exporter.builds.unused import fixed_batch
from exporter.measure.timing import BlockTime, Profile
from exporter.report import charts
from exporter.report.advice import advise, limits
from exporter.report.engines import views
from exporter.report.gpu_bounds import bound_rows, gpu_ceilings_of
from exporter.report.load import load_chart
from exporter.report.mixed_fronts import front_panels
from exporter.report.roofline import ceilings_of, roofline_panels, why_no_roofline
from exporter.report.traced import FILTERS, Traced, images_per_second, is_skipped
from exporter.targets import TARGETS, target_class

TEMPLATE: Final = "page.html.j2"
FIRST_SCREEN: Final = "first_screen.html.j2"
DRIFT_BUCKETS: Final = 7
"""Shades of the heat map: below 1e-6, one for each decade up to 1e-1, and more than that."""


def render(manifest: Manifest) -> str:
    """The page. Every value is escaped: a model's name may be anything."""
    return _fill(TEMPLATE, manifest)


def render_embedded(manifest: Manifest) -> str:
    """The first screen of the page in a frame, which leaves the page around it alone."""
    from markupsafe import Markup

    frame = Markup(
        '<iframe title="{}" sandbox srcdoc="{}" '
        'style="width: 100%; height: 40rem; border: 0; resize: vertical"></iframe>'
    )
    page = str(_fill(FIRST_SCREEN, manifest))
    return str(frame.format(f"{manifest.model.name}: engines", page))


def _fill(template: str, manifest: Manifest) -> str:
    traced = Traced(manifest)
    engines = views(traced)
    return filled(
        template,
        m=traced,
        schema=Traced(manifests.SCHEMA, "schema"),
        baseline_on=manifest.baseline_on,
        engines=engines,
        advice=advise(manifest, engines),
        speeds=charts.speed_charts(engines),
        latency=charts.latency_chart(engines),
        scatter=charts.scatter_chart(engines),
        fronts=front_panels(engines),
        panels=charts.drift_panels(engines),
        roofline=roofline_panels(traced, engines),
        why_no_roofline=why_no_roofline(manifest),
        ceilings=ceilings_of(traced),
        gpu_ceilings=gpu_ceilings_of(traced),
        bounds=bound_rows(traced, engines),
        scaling=charts.scaling_chart(engines),
        load=load_chart(traced, engines),
        commands=commands(manifest),
        prediction_example=_prediction_example(),
    )


def filled(template: str, /, **values: object) -> str:
    """A page: a template with its values, the style and the script that all pages have.

    Every value is escaped; style and script are ours.
    """
    from markupsafe import Markup

    style, script = _text("style.css"), _text("page.js")
    return drawing(
        template,
        **values,
        style=Markup(style),  # noqa: S704
        script=Markup(script),  # noqa: S704
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


@functools.cache
def _environment() -> jinja2.Environment:
    """The templates, compiled once."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("exporter.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(FILTERS)
    environment.tests["skipped"] = is_skipped
    environment.globals.update(
        drift_bucket=drift_bucket,
        time_width=time_width,
        images_per_second=images_per_second,
        limits=limits,
        needs=needs,
    )
    return environment


def drawing(name: str, /, **values: object) -> str:
    """A template with its values, such as a drawing of its own; what is text in it stays text."""
    return _environment().get_template(name).render(**values)


def commands(manifest: Manifest) -> dict[str, str]:
    """The command line behind each part of the page; DIR stands for the build's folder.

    "scaling" is empty for a model that takes one batch size only. For a model that a program
    handed over it is the program's line, where MODULE is that model.
    """
    request = manifest.request
    again = BenchmarkRequest(
        Path("DIR"),
        weights=request.weights,
        batches=request.batches,
        threads=request.threads,
        rounds=request.rounds,
    )
    scaled = attrs.evolve(again, batches=(1, 2, 4, 8, 16))
    is_fixed = fixed_batch(manifest.model) is not None
    return {
        "export": _export_line(manifest),
        "benchmark": _benchmark_line(manifest, again),
        "scaling": "" if is_fixed else _benchmark_line(manifest, scaled),
        "throughput": _benchmark_line(manifest, _loaded(manifest, again)),
        "drift": "exporter validate DIR --blocks",
        "validate": "exporter validate DIR",
        "gate": "exporter gate DIR --data FOLDER",
        "receipts": "exporter explain DIR",
        "compare": "exporter compare OLD NEW --max-slowdown 0.05",
        "report": "exporter report DIR",
    }


def _loaded(manifest: Manifest, again: BenchmarkRequest) -> BenchmarkRequest:
    """The request that measures throughput, within the limit that it had last."""
    measured = manifest.throughput
    limit = None if isinstance(measured, Skipped) else measured.max_p99_ms
    return attrs.evolve(again, throughput=True, max_p99=limit)


def _prediction_example() -> str:
    """Options of `export` that build an engine whose cost is predicted."""
    return next(filter(None, (target_class(name).prediction_example for name in TARGETS)))


def _export_line(manifest: Manifest) -> str:
    if manifest.model.kind is ModelKind.LIVE:
        inputs = manifest.model.inputs
        zeros = [f"torch.zeros{(1, *given.sample)}" for given in inputs]
        named = (f"{given.name!r}: {one}" for given, one in zip(inputs, zeros, strict=True))
        example = f"example={zeros[0]}" if len(zeros) == 1 else f"example={{{', '.join(named)}}}"
        words = [example, *keywords(manifest.request, but=("source", "image_size", "inputs"))]
        return f"exporter.export(MODULE, {', '.join(words)})"
    return shlex.join(["exporter", "export", *command_line(manifest.request)])


def _benchmark_line(manifest: Manifest, request: BenchmarkRequest) -> str:
    if manifest.model.kind is ModelKind.LIVE:
        words = ["model=MODULE", *keywords(request, but=("build",))]
        return f"exporter.open_build('DIR').benchmark({', '.join(words)})"
    return shlex.join(["exporter", "benchmark", *command_line(request)])


def drift_bucket(error: float) -> str:
    """The shade of a block's error: 0 for less than 1e-6, one more each decade; "" for nan."""
    if math.isnan(error):
        return ""
    return str(sum(error >= 10.0**-power for power in range(1, DRIFT_BUCKETS)))


def time_width(profile: Profile, block: BlockTime) -> str:
    """How long a block's bar is: its time in percent of that of the engine's slowest block."""
    most = max(other.microseconds for other in profile.blocks)
    share = block.microseconds / most if most else 0.0
    return f"{100 * min(max(share, 0.0), 1.0):.1f}%" if math.isfinite(share) else "0%"


def needs(requires: Mapping[str, Any]) -> str:
    """What an engine requires of the machine that serves it, in words; nothing that is empty."""
    found = []
    for key, value in sorted(requires.items()):
        if isinstance(value, Mapping):
            value = ", ".join(f"{name} {of}" for name, of in sorted(value.items()))
        elif isinstance(value, list | tuple):
            value = " ".join(map(str, value))
        if value not in ("", None):
            found.append(f"{key.replace('_', ' ')}: {value}")
    return "; ".join(found)


def _text(name: str) -> str:
    """A file of the page, between newlines, as it will stand in its element."""
    path = resources.files("exporter.report") / "templates" / name
    return f"\n{path.read_text(encoding='utf-8')}"


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"sha256-{digest}"
