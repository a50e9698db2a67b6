"""What a plan leaves in a folder: itself, its plot, Triton's values, and an autoscaler.

capacity.json     the plan
capacity.svg      one machine's p50 and p99 over the rate that comes to it, with the limit
config.pbtxt      the fields of Triton's model configuration that the plan decides
autoscaler.yaml   a HorizontalPodAutoscaler for the InferenceService of `pack --format kserve`
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from exporter.builds.records import EngineRecord
from exporter.capacity.record import Plan
from exporter.disk.writing import write_whole
from exporter.pack.batching import Batching
from exporter.pack.kserve import service_name
from exporter.pack.template_files import render
from exporter.pack.triton_config import scheduling
from exporter.report import scales
from exporter.report.page import drawing

METRIC: Final = "nv_inference_requests_per_second"
"""What the autoscaler asks of each pod."""
MOST_REPLICAS: Final = 2.0
"""Of the planned machines, the most that the autoscaler starts."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 60.0, 700.0, 60.0, 366.0
"""Of the drawing, in its own units."""


def write_plan(
    plan: Plan, engine: EngineRecord, folder: Path, text: str, *, cold_start_s: float, growth: float
) -> list[Path]:
    """Writes all four; `text` is the plan as JSON, `growth` the share that the rate gains a minute.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "capacity.json": text + "\n",
        "capacity.svg": plot(plan),
        "config.pbtxt": scheduling(engine, batching(plan)),
        "autoscaler.yaml": autoscaler(plan, cold_start_s, growth),
    }
    for name, content in contents.items():
        write_whole(folder / name, content)
    return [folder / name for name in contents]


def batching(plan: Plan) -> Batching:
    """The plan in the words of Triton's configuration."""
    serving = plan.serving
    return Batching(
        max_batch=serving.max_batch,
        preferred=serving.preferred,
        delay_us=round(1e3 * serving.delay_ms),
        timeout_us=round(1e3 * serving.timeout_ms),
        threads=serving.layout.threads,
        instances=serving.layout.processes * serving.layout.streams,
        reason=f"{plan.most:.4g} images/s within {plan.slo_ms:g} ms (p99), simulated",
    )


def autoscaler(plan: Plan, cold_start_s: float, growth: float) -> str:
    """A HorizontalPodAutoscaler on the requests a second of each replica."""
    average = plan.most / (1 + growth * cold_start_s / 60)
    return render(
        "autoscaler.yaml.j2",
        name=service_name(plan.model),
        metric=METRIC,
        slo=f"{plan.slo_ms:g}",
        most=f"{plan.most:.4g} images/s",
        growth=f"{100 * growth:g} %",
        cold_start=math.ceil(cold_start_s),
        least=plan.machines,
        largest=math.ceil(MOST_REPLICAS * plan.machines),
        # Kubernetes takes thousandths: "35950m".
        average=f"{math.floor(1e3 * average)}m",
    )


def plot(plan: Plan) -> str:
    """The curve of one machine, as SVG."""
    x = scales.linear([point.rate for point in plan.curve])
    shown = [point for point in plan.curve if point.p99_ms <= 20 * plan.slo_ms]
    y = scales.spread([plan.slo_ms, *(p for one in shown for p in (one.p50_ms, one.p99_ms))])

    def line(values: Sequence[tuple[float, float]]) -> str:
        places = ((_across(x, rate), _up(y, ms)) for rate, ms in values)
        return " ".join(f"{across:.1f},{up:.1f}" for across, up in places)

    return drawing(
        "capacity.svg.j2",
        title=f"{plan.engine} of {plan.model}: {plan.serving}",
        subtitle=f"{plan.arrivals}; {plan.machine}",
        x=[{"place": _between(_LEFT, _RIGHT, one.place), "label": one.label} for one in x.ticks],
        y=[{"place": _between(_BOTTOM, _TOP, one.place), "label": one.label} for one in y.ticks],
        slo=_up(y, plan.slo_ms),
        slo_words=f"{plan.slo_ms:g} ms",
        planned=_across(x, plan.rate / plan.needed),
        lines=[
            ("p99", "#1f5fa8", line([(one.rate, one.p99_ms) for one in shown])),
            ("p50", "#7a7a7a", line([(one.rate, one.p50_ms) for one in shown])),
        ],
    )


def _across(scale: scales.Scale, value: float) -> float:
    return _between(_LEFT, _RIGHT, scale.place(value))


def _up(scale: scales.Scale, value: float) -> float:
    return _between(_BOTTOM, _TOP, scale.place(value))


def _between(start: float, end: float, percent: float) -> float:
    return round(start + (end - start) * percent / 100, 1)
