# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which application CPUs, memory and ports each service of a site gets from the one plan of its host. Pure: no I/O.

Services are served in the order of the inventory: first those that name their CPUs, then those that count cores of their NICs. What one has, no other gets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from .bypass_stack import LIBRARIES, profile_settings
from .cpuset import CpusetError, format_cpulist, parse_cpulist
from .eal import DPDK, EAL_KEYS, Claim, PageBudget, eal_arguments
from .nic import identity
from .partition import Partition, physical_cores
from .setting import SpecError
from .topology import Nic, Topology

KEYS = ("unit", "nics", "cores", "cpus", "memory_nodes", "environment", "eal", "profile", "memlock", "scheduling_policy", "scheduling_priority",
        "control_group", "restart")
# What the service_pinning domain takes as it is said.
_AS_SAID = ("environment", "memlock", "scheduling_policy", "scheduling_priority", "control_group", "restart")
UNLIMITED = "infinity"

Pair = tuple[Mapping[str, Any], Optional[Nic]]


@dataclass(frozen=True)
class _Service:
    """An entry of the inventory with the NICs that it names."""

    entry: Mapping[str, Any]
    nics: tuple[Pair, ...]

    @property
    def unit(self) -> str:
        return str(self.entry["unit"])

    @property
    def ports(self) -> tuple[str, ...]:
        """The PCI addresses that it drives from user space."""
        return tuple(nic.pci for entry, nic in self.nics if nic is not None and entry.get("bypass") == DPDK)

    @property
    def library(self) -> str:
        """The library by which it bypasses the kernel's sockets, if one of its NICs is for that."""
        return next((LIBRARIES[entry["bypass"]] for entry, _nic in self.nics if entry.get("bypass") in LIBRARIES), "")


def service_plan(services: Iterable[Any], nics: Sequence[Pair], cores: Partition, topology: Topology, pages: Iterable[Mapping[str, Any]],
                 profiles: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The services as the service_pinning domain takes them, in the order of the inventory.

    ``services`` is the inventory's ``lowlatency_services``, ``nics`` its NICs with what they are, ``pages`` the planned huge pages (``size``, ``node``,
    ``count``), ``profiles`` the site's sets of EF_ settings by name. Raises ``SpecError`` with all that is wrong
    with the entries, or with the first service that finds no room.
    """
    known = _known(list(services), nics)
    cpus = _cpus_of_all(known, cores, topology)
    budget = PageBudget(pages)
    claims = {service.unit: Claim(service.unit, dict(service.entry.get("eal") or {}), service.ports, cpus[service.unit], _port_nodes(service, cores))
              for service in known if service.ports}
    memory = budget.shares(claims.values())
    plans = []
    for service in known:
        plan = _with_library(_planned(service, cpus[service.unit], topology), service, profiles)
        if service.unit in claims:
            claim = claims[service.unit]
            plan = _with_eal(plan, claim, eal_arguments(claim, memory[service.unit], budget.size_for(claim)))
        plans.append(plan)
    return plans


def _known(entries: list[Any], nics: Sequence[Pair]) -> list[_Service]:
    wrong: list[str] = []
    found: list[_Service] = []
    by_name = {str(entry[key]).lower(): (entry, nic) for entry, nic in nics for key in ("interface", "pci", "mac") if entry.get(key)}
    for entry in entries:
        problems = _entry_problems(entry)
        names = [str(name) for name in (entry.get("nics") or [] if isinstance(entry, Mapping) else [])]
        problems += [f"NIC {name} is not in lowlatency_nics; there are: {', '.join(identity(other) for other, _nic in nics) or 'none'}"
                     for name in names if name.lower() not in by_name]
        if not problems and any(service.unit == str(entry["unit"]) for service in found):
            problems = ["is there twice; leave one of the two entries out"]
        unit = entry.get("unit", entry) if isinstance(entry, Mapping) else entry
        wrong += [f"service {unit!s:.80}: {problem}" for problem in problems]
        if not problems:
            found.append(_Service(entry, tuple(by_name[name.lower()] for name in names)))
    if wrong:
        raise SpecError("; ".join(wrong))
    for service in found:
        _refuse_useless(service)
    return found


def _entry_problems(entry: Any) -> list[str]:
    if not isinstance(entry, Mapping) or not entry.get("unit"):
        return [f"has no unit; its keys are {', '.join(KEYS)}"]
    problems = [f"no such key {key}; there are: {', '.join(KEYS)}" for key in entry if key not in KEYS]
    if entry.get("cores") is not None and entry.get("cpus"):
        problems.append("has both cores and cpus; say one of the two")
    eal = entry.get("eal") or {}
    problems += [f"eal: no such key {key}; there are: {', '.join(EAL_KEYS)}" for key in eal if key not in EAL_KEYS]
    return problems


def _refuse_useless(service: _Service) -> None:
    if service.entry.get("eal") and not service.ports:
        raise SpecError(f"service {service.unit}: has eal, but none of its NICs has bypass: {DPDK}; name the NIC (nics) and give that bypass in "
                        "lowlatency_nics")
    if service.entry.get("profile") and not service.library:
        raise SpecError(f"service {service.unit}: has a profile, but none of its NICs has bypass: {' or '.join(LIBRARIES)}; name the NIC (nics) and give that "
                        "bypass in lowlatency_nics")


# --- CPUs -------------------------------------------------------------------------------------------------------------


def _cpus_of_all(services: list[_Service], cores: Partition, topology: Topology) -> dict[str, frozenset[int]]:
    """The CPUs of each service; raises ``SpecError`` where two claim one, or there are too few."""
    owner: dict[int, str] = {}
    chosen: dict[str, frozenset[int]] = {}
    for service in [service for service in services if service.entry.get("cpus")]:
        chosen[service.unit] = _named_cpus(service, cores, topology)
        for cpu in sorted(chosen[service.unit]):
            if cpu in owner:
                raise SpecError(f"service {service.unit}: CPU {cpu} is {owner[cpu]}'s already; no two services share a CPU, name others")
            owner[cpu] = service.unit
    for service in [service for service in services if not service.entry.get("cpus")]:
        chosen[service.unit] = _counted_cpus(service, cores, topology, owner)
        owner.update(dict.fromkeys(chosen[service.unit], service.unit))
    return chosen


def _named_cpus(service: _Service, cores: Partition, topology: Topology) -> frozenset[int]:
    text = str(service.entry["cpus"])
    try:
        cpus = parse_cpulist(text)
    except CpusetError as error:
        raise SpecError(f"service {service.unit}: cpus: {error}") from error
    online = topology.online
    if not cpus or cpus - online:
        raise SpecError(f"service {service.unit}: cpus {text} are not all online on this host; choose among {format_cpulist(online)}")
    if cores.isolated and cpus & cores.isolated and cpus - cores.isolated:
        raise SpecError(f"service {service.unit}: cpus {text} are application CPUs and others, between which the kernel balances no load; "
                        f"choose among {format_cpulist(cores.pin_cpus)}, or none of {format_cpulist(cores.isolated)}")
    idle = cpus & (cores.isolated - cores.pin_cpus)
    if idle:
        raise SpecError(f"service {service.unit}: cpus {text} have the second threads of cores, {format_cpulist(idle)}, which stay idle; "
                        f"choose among {format_cpulist(cores.pin_cpus)}, or share them (lowlatency_smt_policy: share)")
    return cpus


def _counted_cpus(service: _Service, cores: Partition, topology: Topology, owner: Mapping[int, str]) -> frozenset[int]:
    """So many free application cores of its NICs, or of the host's own; all that are free where no count is said."""
    pools = _pools(service, cores)
    free = [core for pool in pools for core in _cores_of(pool, cores, topology) if not owner.keys() & set(core)]
    wanted = service.entry.get("cores")
    count = len(free) if wanted is None else _count(service, wanted)
    whose = f"its NICs ({', '.join(identity(entry) for entry, _nic in service.nics)})" if service.nics else "the host"
    if not count or count > len(free):
        others = sorted({unit for cpu, unit in owner.items() if any(cpu in pool for pool in pools)})
        taken = f" beside {', '.join(others)}" if others else ""
        where = "application_cores of the NIC" if service.nics else "lowlatency_application_cores"
        asked = "an application core" if wanted is None else f"{count} application core{'' if count == 1 else 's'}"
        raise SpecError(f"service {service.unit}: wants {asked} of {whose}, which has {len(free)} free{taken}; raise {where}, or ask for less")
    return frozenset(cpu for core in free[:count] for cpu in core)


def _pools(service: _Service, cores: Partition) -> list[frozenset[int]]:
    if service.nics:
        return [cores.nic_cores.get(nic.pci, frozenset()) if nic is not None else _own(cores) for _entry, nic in service.nics]
    return [_own(cores)]


def _own(cores: Partition) -> frozenset[int]:
    """The application CPUs of the host that are no NIC's."""
    return cores.isolated - frozenset(cpu for cpus in cores.nic_cores.values() for cpu in cpus)


def _cores_of(pool: frozenset[int], cores: Partition, topology: Topology) -> list[tuple[int, ...]]:
    """The CPUs to pin to of each physical core of a pool."""
    pinned = (tuple(cpu for cpu in core if cpu in pool and cpu in cores.pin_cpus) for core in physical_cores(topology))
    return [core for core in pinned if core]


def _count(service: _Service, wanted: Any) -> int:
    try:
        if not isinstance(wanted, bool) and int(wanted) > 0:
            return int(wanted)
    except (TypeError, ValueError):
        pass
    raise SpecError(f"service {service.unit}: cores {wanted!r:.40}; give a whole number of at least 1")


# --- what the domain takes ---------------------------------------------------------------------------------------------


def _port_nodes(service: _Service, cores: Partition) -> frozenset[int]:
    return frozenset(cores.nic_node[pci] for pci in service.ports)


def _planned(service: _Service, cpus: frozenset[int], topology: Topology) -> dict[str, Any]:
    nodes = service.entry.get("memory_nodes")
    return {"unit": service.unit, "cpus": format_cpulist(cpus), "memory_nodes": _nodes_of(cpus, topology) if nodes is None else str(nodes),
            **{key: service.entry[key] for key in _AS_SAID if service.entry.get(key) is not None}}


def _with_library(plan: dict[str, Any], service: _Service, profiles: Mapping[str, Any]) -> dict[str, Any]:
    """The service with its library, as its wrapper would start it: preloaded, with the settings of the profile. What its own environment says wins."""
    if not service.library:
        return plan
    name = service.entry.get("profile")
    settings = profile_settings(str(name), profiles) if name else {}
    return {"memlock": UNLIMITED, **plan, "library": service.library,
            "environment": {"LD_PRELOAD": service.library, **settings, **plan.get("environment", {})}}


def _with_eal(plan: dict[str, Any], claim: Claim, said: tuple[str, str]) -> dict[str, Any]:
    """The service with its ports, its EAL arguments (what its own environment says of them wins), and memory that may be locked."""
    variable, arguments = said
    return {"memlock": UNLIMITED, **plan, "ports": list(claim.ports), "environment": {variable: arguments, **plan.get("environment", {})}}


def _nodes_of(cpus: frozenset[int], topology: Topology) -> str:
    """The nodes of some CPUs that have memory; empty on a machine without nodes."""
    return format_cpulist(node for node, of_node in topology.nodes.items() if of_node & cpus and node in topology.memory_nodes)


def services_in_words(services: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each service."""
    return [f"service {service['unit']}: CPUs {service['cpus']}" + (f", memory of node {service['memory_nodes']}" if service["memory_nodes"] else "")
            + (f", ports {', '.join(service['ports'])}" if service.get("ports") else "") + (f", by {service['library']}" if service.get("library") else "")
            for service in services]
