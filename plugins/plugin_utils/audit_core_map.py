# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine as it is drawn: sockets, NUMA nodes, cores and their threads, each with its use in the plan. No I/O, and no Ansible."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.lowlatency.fleet.plugins.module_utils.model.cpuset import format_cpulist, parse_cpulist
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import SpecError
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.topology import Topology, socket_order

# No machine has more CPUs: what says so is no description of one.
MOST_CPUS = 8192

HOUSEKEEPING, IRQ, ISOLATED, IDLE, PLAIN = "housekeeping", "irq", "isolated", "idle", "cpu"
_SETS = ("housekeeping", "isolated", "pin_cpus")


def machine_of(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a report keeps of the ``topology``, ``partition`` and ``services`` of a result, or of the ``machine`` of another report; None where that
    describes no machine, or one that cannot be drawn. CPU sets are lists like ``0-3,8``."""
    try:
        kept = result.get("machine")
        machine = _checked(kept) if isinstance(kept, Mapping) else _machine(result)
    except (SpecError, TypeError, ValueError, AttributeError, KeyError):
        return None
    return machine if machine and 0 < len(parse_cpulist(machine["online"])) <= MOST_CPUS else None


def _machine(result: Mapping[str, Any]) -> dict[str, Any]:
    topology = Topology.from_dict(result["topology"])
    partition = result.get("partition") or {}
    planned = partition.get("nics") or {}
    services = result.get("services") or []
    return _checked({
        "online": format_cpulist(topology.online),
        "offline": format_cpulist(topology.offline),
        "sockets": {name: format_cpulist(cpus) for name, cpus in topology.sockets.items()},
        "nodes": {str(node): format_cpulist(cpus) for node, cpus in sorted(topology.nodes.items())},
        "cores": sorted({format_cpulist(cpus) for cpus in topology.siblings.values()}, key=lambda core: min(parse_cpulist(core), default=-1)),
        **{key: partition.get(key) or "" for key in _SETS},
        "nics": [{"pci": nic.pci, "interfaces": list(nic.interfaces), "node": nic.numa_node, "driver": nic.driver,
                  "irq_cpus": (planned.get(nic.pci) or {}).get("irq_cpus") or "", "cores": (planned.get(nic.pci) or {}).get("cores") or ""}
                 for nic in topology.nics],
        "services": [{"unit": service["unit"], "cpus": service.get("cpus") or ""}
                     for service in services if isinstance(service, Mapping) and "unit" in service],
    })


def _checked(machine: Mapping[str, Any]) -> dict[str, Any]:
    """The machine with its parts in one order and every CPU list well formed; raises where it is not."""
    def cpus(text: Any) -> str:
        return format_cpulist(parse_cpulist(str(text)))
    return {
        **{key: cpus(machine[key]) for key in ("online", "offline")},
        **{key: {str(name): cpus(machine[key][name]) for name in sorted(machine[key], key=socket_order)} for key in ("sockets", "nodes")},
        "cores": [cpus(core) for core in machine["cores"]],
        **{key: cpus(machine[key]) for key in _SETS},
        "nics": [{"pci": str(nic["pci"]), "interfaces": [str(name) for name in nic["interfaces"]], "node": int(nic["node"]), "driver": str(nic["driver"]),
                  "irq_cpus": cpus(nic["irq_cpus"]), "cores": cpus(nic["cores"])} for nic in machine["nics"]],
        "services": [{"unit": str(service["unit"]), "cpus": cpus(service["cpus"])} for service in machine["services"]],
    }


def core_map(machine: Mapping[str, Any]) -> dict[str, Any]:
    """What the picture shows: ``{sockets: [{name, nodes: [{name, cores: [[{cpu, use, of}]], nics: [text]}]}], elsewhere: [text], services: [text]}``.

    ``of`` names the NICs and services that a CPU works for. CPUs without a socket or node of their own are in one called ``?``.
    """
    uses, owners = _uses(machine), _owners(machine)
    cores = [sorted(parse_cpulist(core)) for core in machine["cores"]]
    listed = {cpu for core in cores for cpu in core}
    cores += [[cpu] for cpu in sorted(parse_cpulist(machine["online"]) - listed)]
    sockets: dict[str, dict[str, list[Any]]] = {}
    for core in cores:
        socket, node = (_home(core, machine[key]) for key in ("sockets", "nodes"))
        threads = [{"cpu": cpu, "use": uses.get(cpu, PLAIN), "of": owners.get(cpu, [])} for cpu in core]
        sockets.setdefault(socket, {}).setdefault(node, []).append(threads)
    shown = {node for nodes in sockets.values() for node in nodes}
    nics = {node: [_nic(nic) for nic in machine["nics"] if str(nic["node"]) == node] for node in shown}
    return {
        "sockets": [{"name": name, "nodes": [{"name": node, "cores": sockets[name][node], "nics": nics[node]}
                                             for node in sorted(sockets[name], key=socket_order)]}
                    for name in sorted(sockets, key=socket_order)],
        "elsewhere": [_nic(nic) for nic in machine["nics"] if str(nic["node"]) not in shown],
        "services": [f"{service['unit']}: CPUs {service['cpus'] or 'any'}" for service in machine["services"]],
        "offline": machine["offline"],
    }


def _home(core: Iterable[int], places: Mapping[str, str]) -> str:
    first = min(core)
    return next((name for name, cpus in places.items() if first in parse_cpulist(cpus)), "?")


def _uses(machine: Mapping[str, Any]) -> dict[int, str]:
    """The use of each CPU. An isolated one that nobody is pinned to is the idle thread of an application core."""
    housekeeping, isolated, pins = (parse_cpulist(machine[key]) for key in _SETS)
    uses = dict.fromkeys(housekeeping, HOUSEKEEPING)
    for nic in machine["nics"]:
        uses.update(dict.fromkeys(parse_cpulist(nic["irq_cpus"]), IRQ))
    uses.update({cpu: ISOLATED if cpu in pins or not pins else IDLE for cpu in isolated})
    return uses


def _owners(machine: Mapping[str, Any]) -> dict[int, list[str]]:
    owners: dict[int, list[str]] = {}
    for nic in machine["nics"]:
        name = " ".join(nic["interfaces"]) or nic["pci"]
        for what, cpus in (("interrupts of", nic["irq_cpus"]), ("cores of", nic["cores"])):
            for cpu in parse_cpulist(cpus):
                owners.setdefault(cpu, []).append(f"{what} {name}")
    for service in machine["services"]:
        for cpu in parse_cpulist(service["cpus"]):
            owners.setdefault(cpu, []).append(service["unit"])
    return owners


def _nic(nic: Mapping[str, Any]) -> str:
    return " ".join([" ".join(nic["interfaces"]) or "(no interface)", nic["pci"], *([nic["driver"]] if nic["driver"] else [])])
