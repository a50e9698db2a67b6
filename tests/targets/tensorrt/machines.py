"""A machine with a GPU, as `host.describe_host` tells of one."""

from __future__ import annotations

from exporter import host


def machine(gpu: str | None = "NVIDIA L4", driver: str = "580.1", **versions: str) -> host.Host:
    return host.Host(
        cpu="CPU",
        system="Linux x86_64",
        logical_cpus=2,
        threads=2,
        cpu_flags=(),
        gpu=gpu,
        driver=driver,
        compute_capability="8.9",
        versions={"tensorrt": "10.13.3.9", **versions},
    )
