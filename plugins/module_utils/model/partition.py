# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which CPUs of a machine serve the system, the NICs' interrupts and the applications, and why each of them.

Pure: no I/O. Never splits a physical core, never isolates all of a node, and never guesses where it can refuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from .cpuset import CpusetError, format_cpulist, format_mask, parse_cpulist
from .setting import SpecError
from .topology import Nic, Topology

# Whose work it is that no two threads of a core are busy: the firmware's, the kernel's (nosmt), the plan's (one thread of a core works),
# or nobody's. With ``off`` the plan leaves siblings idle for as long as the firmware still shows them.
OFF = "off"
OFF_BY_KERNEL = "off-by-kernel"
SIBLINGS_IDLE = "siblings-idle"
SHARE = "share"
SMT_POLICIES = (OFF, OFF_BY_KERNEL, SIBLINGS_IDLE, SHARE)

# The rule of a refusal that none of the numbered mistakes covers: the intent contradicts itself or the machine.
INTENT = "intent"

_FLAGS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}

Core = tuple[int, ...]


class PartitionError(SpecError):
    """A partition that must not be; ``rule`` is the id of the mistake (``R1`` ...), or ``intent``."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message if rule == INTENT else f"{message} ({rule})")
        self.rule = rule


@dataclass(frozen=True)
class NicIntent:
    """What one NIC needs. ``queues`` 0 means as many as the topology says; ``numa_node`` overrides the topology. One that is polled from user
    space has no ``interrupts``."""

    pci: str
    application_cores: int = 0
    queues: int = 0
    numa_node: int | None = None
    interrupts: bool = True

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> NicIntent:
        """The intent of one entry of ``nics``; unknown keys are refused. Raises ``PartitionError``."""
        given = _known(data, NicIntent, "nics")
        if not isinstance(given.get("pci"), str):
            raise PartitionError(INTENT, f"nics: {data!r:.80} has no pci; name the NIC by its PCI address, like 0000:81:00.0")
        interrupts = _flag(given.pop("interrupts", True), "nics interrupts")
        return NicIntent(interrupts=interrupts, **{"pci": given.pop("pci"), **{key: _number(value, f"nics {key}") for key, value in given.items()}})


@dataclass(frozen=True)
class Intent:
    """What is wanted of a host. Cores are physical cores; ``application_cpulist`` stands in place of all counts.

    ``housekeeping_cores`` is per node, ``irq_cores`` per NIC, ``application_cores`` what the host needs beyond its NICs.
    """

    nics: tuple[NicIntent, ...] = ()
    application_cores: int = 0
    application_cpulist: str = ""
    isolate: bool = True
    smt_policy: str = SIBLINGS_IDLE
    housekeeping_cores: int = 2
    irq_cores: int = 2
    l3_align: bool = False
    spill: bool = False
    allow_cpu0: bool = False

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Intent:
        """The intent of plain values (numbers and truth values also as text); unknown keys are refused."""
        given = _known(data, Intent, "intent")
        nics = given.pop("nics", ())
        if given.get("smt_policy") is False:  # as YAML reads the word off
            given["smt_policy"] = OFF
        if not isinstance(nics, (list, tuple)):
            raise PartitionError(INTENT, f"nics: {nics!r:.80} is no list; give a list of mappings with pci")
        for key in ("application_cores", "housekeeping_cores", "irq_cores"):
            if key in given:
                given[key] = _number(given[key], key)
        for key in ("isolate", "l3_align", "spill", "allow_cpu0"):
            if key in given:
                given[key] = _flag(given[key], key)
        return Intent(nics=tuple(NicIntent.from_dict(nic) for nic in nics), **given)


@dataclass(frozen=True)
class Partition:
    """The CPUs of one machine by use. ``nic_cores`` holds all threads of a NIC's application cores, ``pin_cpus`` those to run on.

    NICs on one node share their ``nic_cores`` when the application CPUs were listed, not counted.
    """

    housekeeping: frozenset[int]
    isolated: frozenset[int]
    pin_cpus: frozenset[int]
    nic_cores: dict[str, frozenset[int]]
    irq_cpus: dict[str, tuple[int, ...]]
    queue_cpus: dict[str, tuple[int, ...]]
    nic_node: dict[str, int]
    nr_cpus: int
    reasons: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values: CPU sets as lists and masks, and the values of the kernel arguments (empty when nothing is isolated)."""
        housekeeping, isolated = format_cpulist(self.housekeeping), format_cpulist(self.isolated)
        return {
            "housekeeping": housekeeping,
            "isolated": isolated,
            "pin_cpus": format_cpulist(self.pin_cpus),
            "housekeeping_mask": format_mask(self.housekeeping, self.nr_cpus),
            "isolated_mask": format_mask(self.isolated, self.nr_cpus),
            "isolcpus": f"managed_irq,domain,{isolated}" if isolated else "",
            "nohz_full": isolated,
            "rcu_nocbs": isolated,
            "irqaffinity": housekeeping if isolated else "",
            "nics": {pci: self._nic(pci) for pci in sorted(self.nic_node)},
            "reasons": list(self.reasons),
        }

    def _nic(self, pci: str) -> dict[str, Any]:
        return {
            "node": self.nic_node[pci],
            "cores": format_cpulist(self.nic_cores[pci]),
            "irq_cpus": format_cpulist(self.irq_cpus[pci]),
            "irq_masks": [format_mask([cpu], self.nr_cpus) for cpu in self.irq_cpus[pci]],
            "queue_cpus": list(self.queue_cpus[pci]),
        }


@dataclass(frozen=True)
class _Seat:
    """A NIC of the intent, the node it is planned on, and why that node."""

    pci: str
    node: int
    because: str
    application_cores: int
    queues: int
    interrupts: bool


@dataclass
class _Board:
    """The physical cores of each node that has CPUs, which of them are taken, and the reasons told so far."""

    cores: dict[int, tuple[Core, ...]]
    distances: Mapping[int, Mapping[int, int]]
    taken: set[Core] = field(default_factory=set)
    reasons: list[str] = field(default_factory=list)

    def free(self, node: int) -> list[Core]:
        """The cores of the node nobody has taken, ascending."""
        return [core for core in self.cores.get(node, ()) if core not in self.taken]

    def nearest(self, node: int) -> list[int]:
        """The other nodes with CPUs, nearest first; unknown distances count as the farthest."""
        row = self.distances.get(node, {})
        return sorted((other for other in self.cores if other != node), key=lambda other: (row.get(other, 1 << 16), other))


def partition(topology: Topology, intent: Intent) -> Partition:
    """The CPUs of the machine by use, each choice with its reason. Raises ``PartitionError``.

    Lowest cores first: housekeeping on every node, then interrupts of each NIC, then applications, NICs in PCI order.
    """
    _check_values(topology, intent)
    if intent.smt_policy == OFF_BY_KERNEL:
        topology = without_smt(topology)
    board = _board(topology)
    seats = _seats(topology, intent, board)
    listed = _listed_cores(topology, intent, board, seats)
    board.taken.update(listed)
    basic = _housekeeping_cores(board, intent.housekeeping_cores)
    irq = {seat.pci: _irq_cpus(board, seat, intent.irq_cores, basic[seat.node]) for seat in seats}
    chosen = _cores_by_nic(board, seats, listed) if listed else _application_cores(topology, intent, board, seats)
    applications = [core for cores in chosen.values() for core in cores]
    isolated = _threads(applications)
    refuse_irq_overlap(irq, isolated)
    housekeeping = topology.online - isolated
    pins = isolated if intent.smt_policy == SHARE else _first_threads(applications)
    _explain_rest(board, intent, housekeeping, isolated, pins)
    return Partition(
        housekeeping=housekeeping,
        isolated=isolated,
        pin_cpus=pins,
        nic_cores={seat.pci: _threads(chosen[seat.pci]) for seat in seats},
        irq_cpus=irq,
        queue_cpus={seat.pci: tuple(irq[seat.pci][queue % len(irq[seat.pci])] for queue in range(seat.queues)) for seat in seats},
        nic_node={seat.pci: seat.node for seat in seats},
        nr_cpus=topology.nr_cpus,
        reasons=tuple(board.reasons),
    )


def refuse_irq_overlap(irq_cpus: Mapping[str, Iterable[int]], isolated: Iterable[int]) -> None:
    """Raises ``PartitionError`` (R7) when interrupts of any NIC go to isolated CPUs."""
    closed = frozenset(isolated)
    for pci in sorted(irq_cpus):
        overlap = closed.intersection(irq_cpus[pci])
        if overlap:
            raise PartitionError(
                "R7", f"interrupts of {pci} go to {_cpus(overlap)}, isolated for applications; use housekeeping CPUs for them, or isolate less"
            )


def physical_cores(topology: Topology) -> list[Core]:
    """The physical cores as their online threads, ascending; a CPU without known siblings is a core of its own."""
    seen: set[int] = set()
    cores: list[Core] = []
    for cpu in sorted(topology.online):
        if cpu not in seen:
            core = (topology.siblings.get(cpu, frozenset()) | {cpu}) & topology.online - seen
            seen |= core
            cores.append(tuple(sorted(core)))
    return cores


def without_smt(topology: Topology) -> Topology:
    """The machine as ``nosmt`` leaves it: the first online thread of every core."""
    left = _first_threads(physical_cores(topology))

    def kept(sets: Mapping[Any, frozenset[int]]) -> dict[Any, frozenset[int]]:
        return {key: cpus & left for key, cpus in sets.items()}

    nics = tuple(replace(nic, local_cpulist=format_cpulist(parse_cpulist(nic.local_cpulist) & left)) for nic in topology.nics)
    l3 = {cpu: cpus for cpu, cpus in kept(topology.l3).items() if cpu in left}
    return replace(topology, online=left, offline=topology.offline | topology.online - left, nodes=kept(topology.nodes), sockets=kept(topology.sockets),
                   siblings={cpu: frozenset({cpu}) for cpu in left}, nics=nics, l3=l3)


def _board(topology: Topology) -> _Board:
    """The cores by node; a core outside every node, or across two, is housekeeping and never anybody's choice."""
    nodes = {node: cpus for node, cpus in topology.nodes.items() if cpus}
    board = _Board({}, topology.distances)
    if not nodes:
        nodes = {0: topology.online}
        board.reasons.append("All CPUs count as node 0, because the kernel shows no NUMA nodes with CPUs")
    home = {cpu: node for node in sorted(nodes, reverse=True) for cpu in nodes[node]}
    for core in physical_cores(topology):
        where = {home.get(cpu) for cpu in core}
        node = home.get(core[0])
        if node is None or len(where) > 1:
            board.reasons.append(f"{_cpus(core)} {_stay(core)} housekeeping, because this core is in no single node")
        else:
            board.cores[node] = (*board.cores.get(node, ()), core)
    return board


def _check_values(topology: Topology, intent: Intent) -> None:
    """Refuses what no machine could satisfy."""
    if not topology.online:
        raise PartitionError(INTENT, "the topology has no online CPU; read it again with topology_info")
    counts = {"application_cores": intent.application_cores, "irq_cores": intent.irq_cores}
    for nic in intent.nics:
        counts.update({f"{nic.pci} application_cores": nic.application_cores, f"{nic.pci} queues": nic.queues})
    for name, count in counts.items():
        if count < 0:
            raise PartitionError(INTENT, f"{name} is {count}; a count is 0 or more")
    if intent.housekeeping_cores < 1:
        raise PartitionError("R1", f"housekeeping_cores is {intent.housekeeping_cores}; the system needs at least 1 core on every node")
    if intent.smt_policy not in SMT_POLICIES:
        raise PartitionError(INTENT, f"smt_policy is {intent.smt_policy!r}; use {' or '.join(SMT_POLICIES)}")


def _seats(topology: Topology, intent: Intent, board: _Board) -> list[_Seat]:
    """The NICs of the intent in PCI order, each on its node."""
    known = {nic.pci.lower(): nic for nic in topology.nics}
    seats: list[_Seat] = []
    for wanted in sorted(intent.nics, key=lambda nic: nic.pci.lower()):
        nic = known.get(wanted.pci.lower())
        if nic is None:
            names = ", ".join(sorted(nic.pci for nic in topology.nics)) or "none"
            raise PartitionError(INTENT, f"{wanted.pci} is no NIC of this host; its NICs are: {names}")
        if any(seat.pci == nic.pci for seat in seats):
            raise PartitionError(INTENT, f"{nic.pci} is there twice; name each NIC once")
        node, because = _nic_node(nic, wanted.numa_node, topology, board)
        queues = wanted.queues or nic.queues
        seats.append(_Seat(nic.pci, node, because, wanted.application_cores, queues if wanted.interrupts else 0, wanted.interrupts))
    return seats


def _nic_node(nic: Nic, override: int | None, topology: Topology, board: _Board) -> tuple[int, str]:
    """The node with CPUs that the NIC is planned on, and why; refuses to guess among several (R22)."""
    populated = sorted(board.cores)
    remedy = f"set numa_node of this NIC to one of {format_cpulist(populated)}"
    if override is not None:
        if override not in topology.nodes and override not in board.cores:
            raise PartitionError("R22", f"{nic.pci}: numa_node {override} is no node of this host; {remedy}")
        node, because = override, f"the intent puts the NIC on node {override}"
    elif nic.numa_node in topology.nodes:
        node, because = nic.numa_node, f"the NIC is on node {nic.numa_node}"
    elif len(populated) == 1:
        return populated[0], f"node {populated[0]} is the only one with CPUs"
    else:
        local = parse_cpulist(nic.local_cpulist) & topology.online
        around = [node for node in populated if local and local <= _threads(board.cores[node])]
        if not around:
            raise PartitionError("R22", f"{nic.pci}: its NUMA node is unknown ({nic.numa_node}) and the host has several; {remedy}")
        return around[0], f"its local CPUs {format_cpulist(local)} are all of node {around[0]}"
    if node in board.cores:
        return node, because
    near = board.nearest(node)
    if len(near) == 1:
        return near[0], f"{because}, which has no CPUs, and node {near[0]} is the only one with CPUs"
    distance = board.distances.get(node, {}).get(near[0]) if near else None
    if distance is None:
        raise PartitionError("R22", f"{nic.pci}: node {node} has no CPUs and the nearest node is unknown; {remedy}")
    return near[0], f"{because}, which has no CPUs, and node {near[0]} is the nearest (distance {distance})"


def _listed_cores(topology: Topology, intent: Intent, board: _Board, seats: list[_Seat]) -> list[Core]:
    """The cores of ``application_cpulist``, refused when they are not sound; none when there is no list or no isolation."""
    text = intent.application_cpulist
    cpus = _listed_cpus(topology, text)
    if not cpus or not intent.isolate:
        return []
    if cpus == topology.online:
        raise PartitionError("R1", f"application_cpulist {text} is every CPU of the host; leave {_cores(intent.housekeeping_cores)} of each node out")
    cores = physical_cores(topology)
    if not intent.allow_cpu0:
        # CPU 0; where it is offline, the lowest CPU did its work.
        boot = next(core for core in cores if min(topology.online) in core)
        if cpus.intersection(boot):
            raise PartitionError(
                "R2", f"application_cpulist {text} contains {_cpus(cpus.intersection(boot))} of the boot CPU's core; remove {_cpus(boot)}, or set allow_cpu0"
            )
    listed = [core for core in cores if cpus.intersection(core)]
    missing = _threads(listed) - cpus
    if missing:
        raise PartitionError("R4", f"application_cpulist {text} splits physical cores; add their other threads, {_cpus(missing)}, or remove those cores")
    _check_nodes(intent, board, seats, listed)
    return listed


def _listed_cpus(topology: Topology, text: str) -> frozenset[int]:
    """The CPUs of the list; refuses another spelling than the kernel's, and CPUs that are not online (R3)."""
    try:
        cpus = parse_cpulist(text)
    except CpusetError as error:
        raise PartitionError("R3", f"application_cpulist: {error}") from error
    if format_cpulist(cpus) != text:
        raise PartitionError("R3", f"application_cpulist {text!r} is not how the kernel writes it; write {format_cpulist(cpus)!r}")
    absent = cpus - topology.online
    if absent:
        raise PartitionError(
            "R3", f"application_cpulist {text} contains {_cpus(absent)}, not online on this host; choose among {format_cpulist(topology.online)}"
        )
    return cpus


def _check_nodes(intent: Intent, board: _Board, seats: list[_Seat], listed: list[Core]) -> None:
    """Refuses a list that leaves a node too little (R1) or lies away from every NIC (R23)."""
    text = intent.application_cpulist
    for node, cores in sorted(board.cores.items()):
        left = len([core for core in cores if core not in listed])
        if left < min(intent.housekeeping_cores, len(cores)):
            raise PartitionError(
                "R1", f"application_cpulist {text} leaves {_cores(left)} of node {node} for housekeeping, {intent.housekeeping_cores} must stay; "
                f"remove CPUs of node {node}, or lower housekeeping_cores"
            )
    near = {core for seat in seats for core in board.cores[seat.node]}
    far = [core for core in listed if core not in near]
    if seats and far and not intent.spill:
        nodes = format_cpulist({seat.node for seat in seats})
        raise PartitionError(
            "R23", f"application_cpulist {text}: {_cpus(_threads(far))} not on a node of the NICs; choose CPUs of node {nodes}, or set spill"
        )


def _housekeeping_cores(board: _Board, wanted: int) -> dict[int, list[Core]]:
    """The lowest cores of every node, for the system. The boot CPU is in the lowest core of its node."""
    basic: dict[int, list[Core]] = {}
    for node in sorted(board.cores):
        basic[node] = board.free(node)[:wanted]
        why = f"every node keeps {_cores(wanted)} for the system"
        if len(basic[node]) < wanted:
            why = f"the node has no more than these for the system, where {_cores(wanted)} are wanted"
        kept = _threads(basic[node])
        board.reasons.append(f"{_cpus(kept)} of node {node} {_stay(kept)} housekeeping, because {why}")
    for cores in basic.values():
        board.taken.update(cores)
    return basic


def _irq_cpus(board: _Board, seat: _Seat, wanted: int, basic: list[Core]) -> tuple[int, ...]:
    """The first threads of the cores for the NIC's interrupts; filled up from the node's housekeeping where none are free."""
    if not seat.interrupts:
        board.reasons.append(f"No CPU takes interrupts of {seat.pci}, because it is polled from user space")
        return ()
    own = board.free(seat.node)[:wanted]
    board.taken.update(own)
    if own:
        board.reasons.append(f"{_cpus(_first_threads(own))} of node {seat.node} {_take(own)} the interrupts of {seat.pci}, because {seat.because}")
    missing = wanted - len(own) if wanted else len(basic)
    shared = basic[-missing:] if missing else []
    if shared:
        why = f"node {seat.node} has only {_cores(len(own))} free for them, where {wanted} are wanted" if wanted else "irq_cores is 0"
        on = "" if own else f" ({seat.because})"
        board.reasons.append(
            f"{_cpus(_first_threads(shared))} of node {seat.node}, kept for the system, also {_take(shared)} interrupts of {seat.pci}{on}, because {why}"
        )
    if not seat.queues:
        board.reasons.append(f"No queue of {seat.pci} gets a CPU of its own, because it shows no queues and the intent names none")
    return tuple(sorted(_first_threads([*own, *shared])))


def _cores_by_nic(board: _Board, seats: list[_Seat], listed: list[Core]) -> dict[str, list[Core]]:
    """The listed cores by owner: each NIC has those on its node, the host has them all."""
    board.reasons.append(
        f"{_cpus(_threads(listed))} {_are(_threads(listed))} for applications, because application_cpulist says so; no counts of cores apply"
    )
    return {"": listed, **{seat.pci: [core for core in listed if core in board.cores[seat.node]] for seat in seats}}


@dataclass(frozen=True)
class _Request:
    """Application cores somebody wants; ``pci`` is empty for the host itself."""

    pci: str
    node: int
    wanted: int
    because: str

    @property
    def owner(self) -> str:
        return self.pci or "the host"


def _application_cores(topology: Topology, intent: Intent, board: _Board, seats: list[_Seat]) -> dict[str, list[Core]]:
    """The application cores by owner. All local choices come before any spill: no NIC loses its own node to another's overflow."""
    l3 = topology.l3 if intent.l3_align else None
    chosen: dict[str, list[Core]] = {}
    if not intent.isolate:
        return {seat.pci: [] for seat in seats}
    requests = [_Request(seat.pci, seat.node, seat.application_cores, seat.because) for seat in seats]
    for request in requests:
        chosen[request.pci] = _local_cores(board, request, l3, intent.spill)
    if intent.application_cores:
        host = _host_request(intent, board, seats)
        requests.append(host)
        chosen[""] = _local_cores(board, host, l3, intent.spill)
    for request in requests:
        chosen[request.pci] += _spilled_cores(board, request, request.wanted - len(chosen[request.pci]))
    return chosen


def _host_request(intent: Intent, board: _Board, seats: list[_Seat]) -> _Request:
    """Where the host's own application cores come from: the first NIC's node, else the lowest node with enough free cores."""
    wanted = intent.application_cores
    if seats:
        return _Request("", seats[0].node, wanted, f"the first NIC, {seats[0].pci}, is planned there")
    enough = [node for node in sorted(board.cores) if len(board.free(node)) >= wanted]
    if enough:
        return _Request("", enough[0], wanted, f"it is the lowest node with {_cores(wanted)} free")
    most = max(sorted(board.cores), key=lambda node: len(board.free(node)), default=0)
    return _Request("", most, wanted, "no node has enough free cores and this one has the most")


def _local_cores(board: _Board, request: _Request, l3: Mapping[int, frozenset[int]] | None, spill: bool) -> list[Core]:
    """The cores of the owner's own node; refuses when they are too few (R23), unless they may spill to other nodes."""
    node, wanted = request.node, request.wanted
    free = board.free(node)
    if len(free) < wanted and not spill:
        raise PartitionError(
            "R23", f"{request.owner} wants {_cores(wanted)} for applications on node {node}, which has {len(free)} of its {len(board.cores.get(node, ()))} "
            f"free beside housekeeping, interrupts and other applications; ask for at most {len(free)}, or set spill"
        )
    aligned = _l3_cores(board, node, wanted, l3) if l3 is not None else []
    cores = aligned or free[:wanted]
    board.taken.update(cores)
    if cores:
        where = ""
        if l3 is not None:
            where = "; they have an L3 cache for themselves" if aligned else f"; no unused L3 cache of the node serves {_cores(wanted)}"
        cpus = _threads(cores)
        board.reasons.append(f"{_cpus(cpus)} of node {node} {_are_cores(cores)} of {request.owner}, because {request.because}{where}")
    return cores


def _l3_cores(board: _Board, node: int, wanted: int, l3: Mapping[int, frozenset[int]]) -> list[Core]:
    """The cores of the first L3 cache of the node that has enough of them and serves no taken core."""
    domains: dict[frozenset[int], list[Core]] = {}
    for core in board.cores.get(node, ()):
        domains.setdefault(l3.get(core[0], frozenset()), []).append(core)
    for shared, cores in domains.items():
        if shared and len(cores) >= wanted and not board.taken.intersection(cores):
            return cores[:wanted]
    return []


def _spilled_cores(board: _Board, request: _Request, missing: int) -> list[Core]:
    """The cores the owner's node lacks, from other nodes, nearest first."""
    spilled: list[Core] = []
    for node in board.nearest(request.node):
        cores = board.free(node)[:missing - len(spilled)]
        if cores:
            board.taken.update(cores)
            spilled += cores
            cpus = _threads(cores)
            board.reasons.append(f"{_cpus(cpus)} of node {node} {_are_cores(cores)} of {request.owner}, because node {request.node} is full")
    if len(spilled) < missing:
        raise PartitionError(
            "R23", f"{request.owner} wants {_cores(request.wanted)} for applications, {missing - len(spilled)} more than the whole host has free; ask for less"
        )
    return spilled


def _explain_rest(board: _Board, intent: Intent, housekeeping: frozenset[int], isolated: frozenset[int], pins: frozenset[int]) -> None:
    """The reasons for what follows from the choices: what is left over, what is pinned to, why nothing is isolated."""
    left = _threads(core for node in sorted(board.cores) for core in board.free(node))
    if left:
        why = f"nothing asks for {'it' if len(left) == 1 else 'them'}" if intent.isolate else "isolate is false"
        board.reasons.append(f"{_cpus(left)} {_stay(left)} housekeeping, because {why}")
    if not isolated:
        board.reasons.append(f"No CPU is isolated, because {'no application cores are asked for' if intent.isolate else 'isolate is false'}")
    elif pins != isolated:
        board.reasons.append(f"Applications run on {_cpus(pins)} and the other threads of these cores stay idle, because {_idle_why(intent)}")
    if 0 in isolated:
        board.reasons.append("The kernel takes CPU 0 out of nohz_full by itself, because one CPU must keep the time; allow_cpu0 isolates it all the same")


def _idle_why(intent: Intent) -> str:
    return "the firmware still has hyper-threading on, which smt_policy wants off" if intent.smt_policy == OFF else f"smt_policy is {intent.smt_policy}"


def _known(data: Mapping[str, Any], shape: type, what: str) -> dict[str, Any]:
    """The entries that are set; refuses keys the shape does not have, by name."""
    names = [item.name for item in fields(shape)]
    if not isinstance(data, Mapping):
        raise PartitionError(INTENT, f"{what}: {data!r:.80} is no mapping; its keys are {', '.join(names)}")
    unknown = sorted(str(key) for key in data if key not in names)
    if unknown:
        raise PartitionError(INTENT, f"{what}: unknown {', '.join(unknown)}; the keys are {', '.join(names)}")
    return {str(key): value for key, value in data.items() if value is not None}


def _number(value: Any, name: str) -> int:
    """A number, or its text as templates deliver it."""
    try:
        if isinstance(value, (int, str)) and not isinstance(value, bool):
            return int(value)
    except ValueError:
        pass
    raise PartitionError(INTENT, f"{name} is {value!r:.80}; give a whole number")


def _flag(value: Any, name: str) -> bool:
    """A truth value, or its word as templates and the command line deliver it."""
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value.lower() not in _FLAGS:
        raise PartitionError(INTENT, f"{name} is {value!r:.80}; give true or false")
    return _FLAGS[value.lower()]


def _threads(cores: Iterable[Core]) -> frozenset[int]:
    return frozenset(cpu for core in cores for cpu in core)


def _first_threads(cores: Iterable[Core]) -> frozenset[int]:
    return frozenset(core[0] for core in cores)


def _cores(count: int) -> str:
    return f"{count} core" if count == 1 else f"{count} cores"


def _cpus(cpus: Iterable[int]) -> str:
    """The CPUs in a sentence."""
    unique = frozenset(cpus)
    return f"{'CPU' if len(unique) == 1 else 'CPUs'} {format_cpulist(unique)}"


def _are(cpus: Iterable[int]) -> str:
    return "is" if len(frozenset(cpus)) == 1 else "are"


def _are_cores(cores: list[Core]) -> str:
    if len(cores) > 1:
        return "are application cores"
    return f"{_are(cores[0])} an application core"


def _stay(cpus: Iterable[int]) -> str:
    return "stays" if len(frozenset(cpus)) == 1 else "stay"


def _take(cores: list[Core]) -> str:
    return "takes" if len(cores) == 1 else "take"
