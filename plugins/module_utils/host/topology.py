# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what a machine is made of from sysfs: CPUs, cores, sockets, NUMA nodes, PCI network devices.

Starts no program. What cannot be read is said in ``gaps``, never guessed silently.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from errno import EINVAL, ENOENT
from typing import TypeVar

from ..model.cpuset import format_cpulist, parse_cpulist, parse_mask
from ..model.setting import SpecError
from ..model.topology import Memory, Nic, Topology, TopologyError
from .machine import Host

T = TypeVar("T")
K = TypeVar("K")

CPU = "/sys/devices/system/cpu"
NODE = "/sys/devices/system/node"
PCI = "/sys/bus/pci/devices"

_CPU_NAME = re.compile(r"cpu([0-9]{1,6})")
_NODE_NAME = re.compile(r"node([0-9]{1,6})")
_CPU_PATH = re.compile(re.escape(CPU) + r"/cpu([0-9]+)/")
_INDEX_NAME = re.compile(r"index([0-9]{1,3})")
_QUEUE_NAME = re.compile(r"rx-([0-9]{1,6})")
_NUMBER = re.compile(r"([0-9]{1,9})")
_MEMINFO = re.compile(r"\b(MemTotal|MemFree):\s*([0-9]+) kB")

# Newest name first: the kernel keeps the old ones as aliases, Documentation/admin-guide/cputopology.rst.
_CORE = ("core_cpus_list", "thread_siblings_list", "core_cpus", "thread_siblings")
_PACKAGE = ("package_cpus_list", "core_siblings_list", "package_cpus", "core_siblings")


def read_topology(host: Host) -> Topology:
    """The topology of the machine, from files alone.

    Raises ``TopologyError`` when the tree describes no CPU at all; everything less is a line in ``gaps``.
    """
    files = _Files(host)
    present, online, nr_cpus = _cpus(files)
    nodes = _nodes(files, online)
    memory = _memory(files, nodes)
    return Topology(
        online=online,
        offline=present - online,
        nodes=nodes,
        siblings=_siblings(files, online),
        sockets=_sockets(files, online),
        nics=_nics(files, online, nodes),
        nr_cpus=nr_cpus,
        l3=_l3(files, online),
        distances=_distances(files, nodes),
        memory=memory,
        memory_nodes=_memory_nodes(files, nodes, memory),
        gaps=files.gaps(),
    )


class _Files:
    """The files of one machine. An absent file tells nothing; one that should tell something and does not is a gap."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._gaps: set[str] = set()
        self._gaps_of_cpus: dict[tuple[str, str], set[int]] = {}

    def gap(self, name: str, why: str) -> None:
        """Remembers what could not be read. The same fault of many CPUs becomes one line."""
        of_cpu = _CPU_PATH.match(name)
        if of_cpu:
            self._gaps_of_cpus.setdefault((name[of_cpu.end():], why), set()).add(int(of_cpu[1]))
        else:
            self._gaps.add(f"{name}: {why}")

    def gaps(self) -> tuple[str, ...]:
        of_cpus = [f"{CPU}/cpuN/{name} of CPU {format_cpulist(cpus)}: {why}" for (name, why), cpus in self._gaps_of_cpus.items()]
        return tuple(sorted([*self._gaps, *of_cpus]))

    def text(self, name: str) -> str | None:
        """The text of a file (a bare newline is one), or None."""
        try:
            text = self.host.attribute(name)
        except OSError as error:
            # EINVAL is how the kernel says that this device has no such thing.
            if error.errno not in (ENOENT, EINVAL):
                self.gap(name, error.strerror or str(error))
            return None
        if not text:
            self.gap(name, "empty")
        return text or None

    def parsed(self, name: str, parse: Callable[[str], T]) -> T | None:
        """What the file says, or None."""
        text = self.text(name)
        if text is None:
            return None
        try:
            return parse(text)
        except SpecError as error:
            self.gap(name, str(error))
        except ValueError:
            self.gap(name, f"{text.strip()!r:.60} is no number")
        return None

    def cpus(self, folder: str, names: Iterable[str]) -> frozenset[int] | None:
        """The CPU set of the first of these files that tells one; names that do not end in ``list`` are masks."""
        for name in names:
            cpus = self.parsed(f"{folder}/{name}", parse_cpulist if name.endswith("list") else parse_mask)
            if cpus is not None:
                return cpus
        return None

    def names(self, folder: str) -> list[str]:
        """The sorted names in a folder; none when it is absent."""
        try:
            return sorted(os.listdir(self.host.followed(folder)))
        except OSError as error:
            if error.errno != ENOENT:
                self.gap(folder, error.strerror or str(error))
            return []

    def numbered(self, folder: str, pattern: re.Pattern[str]) -> list[int]:
        """The numbers of the entries such as ``cpu7``, ascending."""
        matches = (pattern.fullmatch(name) for name in self.names(folder))
        return sorted(int(match[1]) for match in matches if match)


def _cpus(files: _Files) -> tuple[frozenset[int], frozenset[int], int]:
    """Present CPUs, online CPUs and the highest possible CPU + 1.

    Documentation/admin-guide/cputopology.rst and Documentation/core-api/cpu_hotplug.rst. Old kernels lack the
    three lists, and captures may hold them blank; then the ``cpuN`` folders and their ``online`` files tell.
    """
    folders = frozenset(files.numbered(CPU, _CPU_NAME))
    listed = {name: files.parsed(f"{CPU}/{name}", parse_cpulist) for name in ("online", "present", "possible")}
    for name, cpus in listed.items():
        if cpus is not None and not cpus:
            files.gap(f"{CPU}/{name}", "blank")
    online = listed["online"] or frozenset()
    doubtful = folders - online
    online |= frozenset(cpu for cpu in doubtful if _is_online(files, cpu, assumed=not online))
    if doubtful & online and listed["online"]:
        files.gap(f"{CPU}/online", f"lacks {format_cpulist(doubtful & online)}, whose own online files say 1; those are believed")
    if not online:
        raise TopologyError(
            f"{files.host.path(CPU)}: no online CPU is described there, and a topology begins with the CPUs; "
            "mount sysfs, or name as sysroot the folder that holds the machine's sys and proc"
        )
    if folders and online - folders:
        files.gap(f"{CPU}/online", f"names {format_cpulist(online - folders)}, which have no folder")
    present = online | (listed["present"] or folders)
    return present, online, max(present | (listed["possible"] or frozenset())) + 1


def _is_online(files: _Files, cpu: int, *, assumed: bool) -> bool:
    """What the CPU's own ``online`` file says; a CPU that cannot be put offline has none."""
    name = f"{CPU}/cpu{cpu}/online"
    state = files.parsed(name, int)
    if state is None and assumed and files.host.exists(name):
        files.gap(name, "does not tell whether the CPU is online; taken as online")
    return assumed if state is None else state == 1


def _siblings(files: _Files, online: frozenset[int]) -> dict[int, frozenset[int]]:
    """The online CPUs of each online CPU's physical core, itself included.

    Every CPU is asked: taken from one CPU's word alone, a core would be split where a file is cut short.
    """
    told = (_told(files, cpu, _CORE) for cpu in sorted(online))
    cores = _joined(files, "cores", [cpus & online for cpus in told if cpus])
    unknown = [cpu for cpu in sorted(online) if cpu not in cores]
    for cpus in _grouped(unknown, lambda cpu: _core_id(files, cpu)).values():
        cores.update(dict.fromkeys(cpus, cpus))
    for cpu in unknown:
        if cpu not in cores:
            files.gap(f"{CPU}/cpu{cpu}/topology", "does not tell the CPU's core; taken as a core of its own")
            cores[cpu] = frozenset({cpu})
    return {cpu: cores[cpu] for cpu in sorted(cores)}


def _sockets(files: _Files, online: frozenset[int]) -> dict[str, frozenset[int]]:
    """The online CPUs of each socket by the kernel's package id, ``?N`` for the N-th socket where it has none of its own."""
    told: list[frozenset[int]] = []
    known: set[int] = set()
    for cpu in sorted(online):
        cpus = None if cpu in known else _told(files, cpu, _PACKAGE)
        if cpus:
            told.append(cpus & online)
            known.update(told[-1])
    groups = list(set(_joined(files, "sockets", told).values()))
    by_id = _grouped(sorted(online - known), lambda cpu: _package_id(files, cpu))
    for package, cpus in by_id.items():
        same = [group for group in groups if _package_id(files, min(group)) == package]
        groups = [group for group in groups if group not in same] + [cpus.union(*same)]
    for cpu in sorted(online - known - frozenset().union(*by_id.values())):
        files.gap(f"{CPU}/cpu{cpu}/topology", "does not tell the CPU's socket")
    sockets: dict[str, frozenset[int]] = {}
    for number, group in enumerate(sorted(groups, key=min)):
        package_id = _package_id(files, min(group))
        sockets[f"?{number}" if package_id is None or str(package_id) in sockets else str(package_id)] = group
    return sockets


def _l3(files: _Files, online: frozenset[int]) -> dict[int, frozenset[int]]:
    """The online CPUs that share each CPU's level 3 cache. Documentation/ABI/testing/sysfs-devices-system-cpu."""
    told: list[frozenset[int]] = []
    known: set[int] = set()
    for cpu in sorted(online):
        cpus = None if cpu in known else _l3_of(files, f"{CPU}/cpu{cpu}/cache")
        if cpus and cpu in cpus:
            told.append(cpus & online)
            known.update(told[-1])
    shared = _joined(files, "level 3 caches", told)
    return {cpu: shared[cpu] for cpu in sorted(shared)}


def _l3_of(files: _Files, cache: str) -> frozenset[int] | None:
    """The CPUs that share the level 3 cache in this folder; index3 nearly everywhere, so it is asked first."""
    if files.parsed(f"{cache}/index3/level", int) == 3:
        return files.cpus(f"{cache}/index3", ("shared_cpu_list", "shared_cpu_map"))
    for index in files.numbered(cache, _INDEX_NAME):
        if index != 3 and files.parsed(f"{cache}/index{index}/level", int) == 3:
            return files.cpus(f"{cache}/index{index}", ("shared_cpu_list", "shared_cpu_map"))
    return None


def _told(files: _Files, cpu: int, names: Iterable[str]) -> frozenset[int] | None:
    """The CPU set that the CPU's topology folder tells, which must hold the CPU itself."""
    folder = f"{CPU}/cpu{cpu}/topology"
    cpus = files.cpus(folder, names)
    if cpus is not None and cpu not in cpus:
        files.gap(folder, f"a set that should hold the CPU itself is {format_cpulist(cpus)!r}")
        return None
    return cpus


def _joined(files: _Files, what: str, sets: Iterable[frozenset[int]]) -> dict[int, frozenset[int]]:
    """The set of each CPU; sets that overlap are joined, because to split what belongs together does harm."""
    distinct = set(sets)
    owner: dict[int, frozenset[int]] = {}
    for cpus in distinct:
        joined = cpus.union(*(owner[cpu] for cpu in cpus if cpu in owner))
        owner.update(dict.fromkeys(joined, joined))
    if sum(map(len, distinct)) != len(owner):
        files.gap(CPU, f"CPUs disagree about their {what}; those that share a CPU are taken as one")
    return owner


def _grouped(cpus: Iterable[int], key: Callable[[int], K | None]) -> dict[K, frozenset[int]]:
    """The CPUs by key; those without a key are left out."""
    groups: dict[K, frozenset[int]] = {}
    for cpu in cpus:
        name = key(cpu)
        if name is not None:
            groups[name] = groups.get(name, frozenset()) | {cpu}
    return groups


def _package_id(files: _Files, cpu: int) -> int | None:
    """The kernel's number of the CPU's socket; -1 is its word for unknown."""
    number = files.parsed(f"{CPU}/cpu{cpu}/topology/physical_package_id", int)
    return number if number is not None and number >= 0 else None


def _core_id(files: _Files, cpu: int) -> tuple[int, int] | None:
    """Socket and core number, which together name a core where no list does."""
    core = files.parsed(f"{CPU}/cpu{cpu}/topology/core_id", int)
    package = _package_id(files, cpu)
    return None if core is None or core < 0 or package is None else (package, core)


def _nodes(files: _Files, online: frozenset[int]) -> dict[int, frozenset[int]]:
    """The online CPUs of each NUMA node. Documentation/ABI/stable/sysfs-devices-node."""
    nodes: dict[int, frozenset[int]] = {}
    for node in files.numbered(NODE, _NODE_NAME):
        folder = f"{NODE}/node{node}"
        cpus = files.cpus(folder, ("cpulist", "cpumap"))
        if cpus is None:
            cpus = frozenset(files.numbered(folder, _CPU_NAME))
            if not cpus:
                files.gap(folder, "does not tell the node's CPUs; taken as a node without CPUs")
        nodes[node] = cpus & online
    together = frozenset().union(*nodes.values())
    if sum(map(len, nodes.values())) != len(together):
        files.gap(NODE, "nodes share CPUs")
    if nodes and online - together:
        files.gap(NODE, f"CPU {format_cpulist(online - together)} belongs to no node")
    return nodes


def _memory(files: _Files, nodes: Iterable[int]) -> dict[int, Memory]:
    """The memory of each node that tells it."""
    memory = {}
    for node in nodes:
        told = files.parsed(f"{NODE}/node{node}/meminfo", _meminfo)
        if told is None:
            files.gap(f"{NODE}/node{node}", "does not tell the node's memory")
        else:
            memory[node] = told
    return memory


def _meminfo(text: str) -> Memory:
    """``Node 0 MemTotal:  65673560 kB`` and ``MemFree`` likewise, Documentation/filesystems/proc.rst (meminfo)."""
    values = {name: int(kib) for name, kib in _MEMINFO.findall(text)}
    if "MemTotal" not in values:
        raise TopologyError("has no MemTotal in kB")
    return Memory(values["MemTotal"], values.get("MemFree"))


def _memory_nodes(files: _Files, nodes: dict[int, frozenset[int]], memory: dict[int, Memory]) -> frozenset[int]:
    """The nodes that have memory; kernels before 3.8 do not list them."""
    listed = files.parsed(f"{NODE}/has_memory", parse_cpulist) if nodes else None
    return (listed & nodes.keys() if listed else None) or frozenset(node for node in memory if memory[node].total_kib)


def _distances(files: _Files, nodes: Iterable[int]) -> dict[int, dict[int, int]]:
    """The distance from each node to each, in the kernel's order, which is ascending."""
    order = sorted(nodes)
    distances = {}
    for node in order:
        name = f"{NODE}/node{node}/distance"
        row = files.parsed(name, lambda text: [int(value) for value in text.split()])
        if row is not None and len(row) == len(order):
            distances[node] = dict(zip(order, row))
        elif row is not None:
            files.gap(name, f"tells {len(row)} distances for {len(order)} nodes")
    return distances


def _nics(files: _Files, online: frozenset[int], nodes: dict[int, frozenset[int]]) -> tuple[Nic, ...]:
    """The PCI Ethernet devices, by address. Documentation/ABI/testing/sysfs-bus-pci.

    Class 0200, and those of the other network classes that drive an Ethernet interface (ConnectX-3 says 0280).
    """
    nics = []
    for pci in files.names(PCI):
        pci_class = (files.text(f"{PCI}/{pci}/class") or "").strip()
        if pci_class.startswith("0x02"):
            interfaces = _interfaces(files, f"{PCI}/{pci}")
            if pci_class.startswith("0x0200") or any(_is_ethernet(files, path) for path in interfaces.values()):
                nics.append(_nic(files, pci, pci_class, interfaces, _local(files, pci, online, nodes)))
    return tuple(nics)


def _local(files: _Files, pci: str, online: frozenset[int], nodes: dict[int, frozenset[int]]) -> tuple[int, str]:
    """The device's NUMA node (-1 where the firmware tells none) and its local online CPUs as a list."""
    folder = f"{PCI}/{pci}"
    told = files.parsed(f"{folder}/numa_node", int)
    node = -1 if told is None or told < 0 else told
    if node >= 0 and node not in nodes:
        files.gap(f"{folder}/numa_node", f"names node {node}, which the machine does not have")
    cpus = files.cpus(folder, ("local_cpulist", "local_cpus"))
    return node, format_cpulist(nodes.get(node, frozenset()) if cpus is None else cpus & online)


def _nic(files: _Files, pci: str, pci_class: str, interfaces: dict[str, str], local: tuple[int, str]) -> Nic:
    """The device with its interfaces (name to folder) and what is local to it (node, CPU list)."""
    folder = f"{PCI}/{pci}"
    addresses = [files.text(f"{path}/address") or "" for path in interfaces.values()]
    return Nic(
        pci=pci,
        numa_node=local[0],
        local_cpulist=local[1],
        driver=files.host.link_name(f"{folder}/driver") or "",
        interfaces=tuple(interfaces),
        mac=addresses[0].strip() if addresses else "",
        link_width=_link_width(files, f"{folder}/current_link_width"),
        link_width_max=_link_width(files, f"{folder}/max_link_width"),
        link_speed=_link_speed(files, f"{folder}/current_link_speed"),
        link_speed_max=_link_speed(files, f"{folder}/max_link_speed"),
        interrupts=tuple(files.numbered(f"{folder}/msi_irqs", _NUMBER)),
        queues=sum(len(files.numbered(f"{path}/queues", _QUEUE_NAME)) for path in interfaces.values()),
        pci_class=pci_class[2:6],
        pci_id=":".join((files.text(f"{folder}/{part}") or "").strip()[2:] for part in ("vendor", "device")),
    )


def _is_ethernet(files: _Files, path: str) -> bool:
    """Whether the interface in this folder is a wired Ethernet one: ARPHRD_ETHER is 1, and Wi-Fi claims it too."""
    return files.parsed(f"{path}/type", int) == 1 and not files.host.exists(f"{path}/phy80211")


def _interfaces(files: _Files, folder: str) -> dict[str, str]:
    """Where each interface of the device lies. virtio has a device of its own between; old kernels write ``net:eth0``."""
    entries = files.names(folder)
    holders = [folder] if "net" in entries else [f"{folder}/{entry}" for entry in entries if entry.startswith("virtio")]
    found = {name: f"{holder}/net/{name}" for holder in holders for name in files.names(f"{holder}/net")}
    found.update({entry[4:]: f"{folder}/{entry}" for entry in entries if entry.startswith("net:")})
    return {name: found[name] for name in sorted(found)}


def _link_width(files: _Files, name: str) -> int:
    """PCIe lanes; 0 where the device has no such link. The kernel's word for unknown is 255."""
    lanes = files.parsed(name, int)
    return lanes if lanes is not None and 0 < lanes < 255 else 0


def _link_speed(files: _Files, name: str) -> str:
    """The kernel's words for a link speed (``8.0 GT/s PCIe``); empty where it does not know."""
    speed = (files.text(name) or "").strip()
    return "" if speed.startswith("Unknown") else speed
