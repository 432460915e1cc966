# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine is made of: CPUs, cores, sockets, NUMA nodes and network devices, as values.

Pure: no I/O. Decides nothing about how any of it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .cpuset import format_cpulist, parse_cpulist
from .setting import SpecError

T = TypeVar("T")


class TopologyError(SpecError):
    """A machine, or a description of one, that cannot be understood; names the value, the rule and the remedy."""


@dataclass(frozen=True)
class Nic:
    """One PCI network device. ``local_cpulist`` holds online CPUs; speeds are the kernel's text (``8.0 GT/s PCIe``)."""

    pci: str
    numa_node: int = -1
    local_cpulist: str = ""
    driver: str = ""
    interfaces: tuple[str, ...] = ()
    mac: str = ""
    link_width: int = 0
    link_width_max: int = 0
    link_speed: str = ""
    link_speed_max: str = ""
    interrupts: tuple[int, ...] = ()
    queues: int = 0
    pci_class: str = ""
    pci_id: str = ""

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Nic:
        """The NIC of one entry of ``nics``; only ``pci`` must be there. Raises ``TopologyError``."""
        if not isinstance(data, Mapping) or not isinstance(data.get("pci"), str):
            raise TopologyError(f"topology nics: {data!r:.80} has no pci; every NIC needs its PCI address, as topology_info returns it")
        node = data.get("numa_node")
        return Nic(
            pci=data["pci"],
            numa_node=-1 if node is None else _number(node, "numa_node"),
            local_cpulist=format_cpulist(parse_cpulist(data.get("local_cpulist") or "")),
            driver=data.get("driver") or "",
            interfaces=tuple(data.get("interfaces") or ()),
            mac=data.get("mac") or "",
            link_width=_number(data.get("link_width") or 0, "link_width"),
            link_width_max=_number(data.get("link_width_max") or 0, "link_width_max"),
            link_speed=data.get("link_speed") or "",
            link_speed_max=data.get("link_speed_max") or "",
            interrupts=tuple(_number(irq, "interrupts") for irq in data.get("interrupts") or ()),
            queues=_number(data.get("queues") or 0, "queues"),
            pci_class=data.get("class") or "",
            pci_id=data.get("id") or "",
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values; ``class`` and ``id`` are hexadecimal as lspci prints them (``0200``, ``8086:1521``)."""
        return {
            "pci": self.pci,
            "class": self.pci_class,
            "id": self.pci_id,
            "numa_node": self.numa_node,
            "local_cpulist": self.local_cpulist,
            "driver": self.driver,
            "interfaces": list(self.interfaces),
            "mac": self.mac,
            "link_width": self.link_width,
            "link_width_max": self.link_width_max,
            "link_speed": self.link_speed,
            "link_speed_max": self.link_speed_max,
            "interrupts": list(self.interrupts),
            "queues": self.queues,
        }


@dataclass(frozen=True)
class Memory:
    """The memory of one NUMA node, in KiB; ``free_kib`` is None where the node does not tell it."""

    total_kib: int
    free_kib: int | None = None


@dataclass(frozen=True)
class Topology:
    """One machine. ``nodes``, ``siblings``, ``sockets`` and ``l3`` name online CPUs only.

    ``nodes`` is ``{}`` for a kernel without NUMA, and a node without CPUs has the empty set; ``sockets`` are keyed by
    the kernel's package id, or ``?N`` (N counts them) where it has none; ``nr_cpus`` is the highest possible CPU + 1;
    ``distances`` are the kernel's (10 is local); ``gaps`` says in words what could not be read.
    """

    online: frozenset[int]
    offline: frozenset[int] = frozenset()
    nodes: dict[int, frozenset[int]] = field(default_factory=dict)
    siblings: dict[int, frozenset[int]] = field(default_factory=dict)
    sockets: dict[str, frozenset[int]] = field(default_factory=dict)
    nics: tuple[Nic, ...] = ()
    nr_cpus: int = 0
    l3: dict[int, frozenset[int]] = field(default_factory=dict)
    distances: dict[int, dict[int, int]] = field(default_factory=dict)
    memory: dict[int, Memory] = field(default_factory=dict)
    memory_nodes: frozenset[int] = frozenset()
    gaps: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.nr_cpus == 0:
            object.__setattr__(self, "nr_cpus", max(self.online | self.offline, default=-1) + 1)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Topology:
        """The topology of a ``topology_info`` result; only ``cpus_online`` must be there. Raises ``SpecError``."""
        if not isinstance(data, Mapping) or not isinstance(data.get("cpus_online"), str):
            raise TopologyError("topology: cpus_online is missing; give the topology as topology_info returns it")
        return Topology(
            online=parse_cpulist(data["cpus_online"]),
            offline=parse_cpulist(data.get("cpus_offline") or ""),
            nodes=_numbered(data, "nodes", parse_cpulist),
            siblings=_numbered(data, "siblings", parse_cpulist),
            sockets={str(key): parse_cpulist(cpus) for key, cpus in _mapping(data, "sockets").items()},
            nics=tuple(Nic.from_dict(nic) for nic in data.get("nics") or ()),
            nr_cpus=_number(data.get("nr_cpus") or 0, "nr_cpus"),
            l3=_numbered(data, "l3", parse_cpulist),
            distances=_numbered(data, "distances", _distances),
            memory=_numbered(data, "memory", _memory),
            memory_nodes=parse_cpulist(data.get("memory_nodes") or ""),
            gaps=tuple(data.get("gaps") or ()),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, sorted: mappings have text keys, CPU sets (and ``memory_nodes``) are lists like ``0-3,8``."""
        return {
            "cpus_online": format_cpulist(self.online),
            "cpus_offline": format_cpulist(self.offline),
            "nodes": _cpulists(self.nodes),
            "siblings": _cpulists(self.siblings),
            "sockets": {key: format_cpulist(self.sockets[key]) for key in sorted(self.sockets, key=socket_order)},
            "nics": [nic.to_dict() for nic in self.nics],
            "nr_cpus": self.nr_cpus,
            "l3": _cpulists(self.l3),
            "distances": {str(node): {str(to): row[to] for to in sorted(row)} for node, row in sorted(self.distances.items())},
            "memory": {
                str(node): {"total_kib": memory.total_kib, "free_kib": memory.free_kib} for node, memory in sorted(self.memory.items())
            },
            "memory_nodes": format_cpulist(self.memory_nodes),
            "gaps": list(self.gaps),
        }


def socket_order(key: str) -> tuple[bool, int, str]:
    """Sorts socket keys: the kernel's numbers first, ascending, then the counted ones (``?0``, ``?1``)."""
    digits = key.lstrip("?")
    return (key != digits, int(digits) if digits.isdecimal() and len(digits) < 20 else -1, key)


def _cpulists(sets: Mapping[int, Iterable[int]]) -> dict[str, str]:
    """The sets as lists. Siblings share their set object, so each set is formatted once."""
    texts: dict[int, str] = {}
    result = {}
    for key in sorted(sets):
        cpus = sets[key]
        if id(cpus) not in texts:
            texts[id(cpus)] = format_cpulist(cpus)
        result[str(key)] = texts[id(cpus)]
    return result


def _mapping(data: Mapping[str, Any], name: str) -> Mapping[Any, Any]:
    """The mapping of that name; absent and null are empty."""
    value = data.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TopologyError(f"topology {name}: {value!r:.80} is no mapping; give it as topology_info returns it")
    return value


def _numbered(data: Mapping[str, Any], name: str, parsed: Callable[[Any], T]) -> dict[int, T]:
    """A mapping with number keys (text in the plain form), each value parsed; equal cpulists share one set."""
    known: dict[str, T] = {}
    result: dict[int, T] = {}
    for key, value in _mapping(data, name).items():
        text = str(value)
        if text not in known:
            known[text] = parsed(value)
        result[_number(key, name)] = known[text]
    return result


def _distances(row: Any) -> dict[int, int]:
    return _numbered({"distances": row}, "distances", lambda value: _number(value, "distances"))


def _memory(data: Any) -> Memory:
    values = _mapping({"memory": data}, "memory")
    free = values.get("free_kib")
    return Memory(_number(values.get("total_kib"), "total_kib"), None if free is None else _number(free, "free_kib"))


def _number(value: Any, name: str) -> int:
    """A number, or its text as templates deliver it."""
    try:
        if isinstance(value, (int, str)) and not isinstance(value, bool):
            return int(value)
    except ValueError:
        pass
    raise TopologyError(f"topology {name}: {value!r:.80} is no whole number; give it as topology_info returns it")
