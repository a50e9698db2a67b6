"""Which nodes are the hardware of a spec: told by what the doctor sees on each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from exporter.errors import UsageError
from exporter.fleet.spec import Hardware
from exporter.host import Host


@dataclass(frozen=True)
class Node:
    """A machine that can do jobs, and what it is."""

    id: str
    address: str
    host: Host
    labels: Mapping[str, str]

    def __str__(self) -> str:
        host = self.host
        words = [host.cpu, f"{host.threads} cores", host.gpu or "no GPU", *host.cpu_flags]
        labels = ", ".join(f"{key}={value}" for key, value in sorted(self.labels.items()))
        return f"{self.address} ({', '.join(words)}{f'; labels {labels}' if labels else ''})"


@dataclass(frozen=True)
class Kind:
    """A kind of machine, and the nodes that are it."""

    hardware: Hardware
    nodes: tuple[Node, ...]

    @property
    def host(self) -> Host:
        """What each of them is."""
        return self.nodes[0].host


def kinds_of(wanted: Sequence[Hardware], nodes: Sequence[Node]) -> tuple[Kind, ...]:
    """The nodes of each hardware; of no hardware: every kind that there is.

    Raises:
        UsageError: no node is the hardware (the message lists what the nodes are), or several are
            that differ.
    """
    if not wanted:
        return _every_kind(nodes)
    return tuple(_kind(hardware, nodes) for hardware in wanted)


def _kind(hardware: Hardware, nodes: Sequence[Node]) -> Kind:
    found = tuple(node for node in nodes if _is(hardware, node))
    if not found:
        raise UsageError(
            f"no node is hardware {hardware.name} ({_asked(hardware)}); there "
            f"{'is' if len(nodes) == 1 else 'are'} {'; '.join(map(str, nodes)) or 'none'}"
        )
    first = found[0].host
    other = next((node for node in found if node.host != first), None)
    if other is not None:
        differ = [key for key, value in vars(first).items() if vars(other.host)[key] != value]
        raise UsageError(
            f"hardware {hardware.name} is nodes that differ in {', '.join(differ)} "
            f"({found[0].address} and {other.address}): a figure would be of either; ask for one "
            "of them (cpu, flags, gpu, cores, labels), and install the same versions on all"
        )
    return Kind(hardware, found)


def _is(hardware: Hardware, node: Node) -> bool:
    host = node.host
    return (
        hardware.cpu.lower() in host.cpu.lower()
        and hardware.gpu.lower() in (host.gpu or "").lower()
        and set(hardware.flags) <= set(host.cpu_flags)
        and hardware.cores in (None, host.threads)
        and hardware.labels.items() <= node.labels.items()
    )


def _asked(hardware: Hardware) -> str:
    words = {
        "cpu": hardware.cpu,
        "gpu": hardware.gpu,
        "flags": " ".join(hardware.flags),
        "cores": hardware.cores,
        "labels": " ".join(f"{key}={value}" for key, value in hardware.labels.items()),
    }
    return ", ".join(f"{key} {value}" for key, value in words.items() if value)


def _every_kind(nodes: Sequence[Node]) -> tuple[Kind, ...]:
    kinds: list[tuple[Host, list[Node]]] = []
    for node in nodes:
        same = next((members for host, members in kinds if host == node.host), None)
        if same is None:
            kinds.append((node.host, [node]))
        else:
            same.append(node)
    named: list[Kind] = []
    for host, members in kinds:
        name = f"{host.gpu or host.cpu}, {host.threads} cores"
        times = sum(one.hardware.name.startswith(name) for one in named)
        name += f" ({times + 1})" if times else ""
        named.append(Kind(Hardware(name=name), tuple(members)))
    return tuple(named)
