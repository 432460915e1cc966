# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what is true of the site to what the domains need: which NICs are tuned, which are user space's, where interrupts and services go.

Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .bypass_stack import LIBRARIES
from .cpuset import format_cpulist
from .eal import DPDK, mount_of
from .hugepages import BOOT, pages_per_node, per_node_boot
from .nic import MAPPINGS, RULES, identity
from .nic_parameters import CHANNELS, QUEUES
from .partition import OFF_BY_KERNEL, Intent, Partition, partition
from .service_plan import service_plan, services_in_words
from .setting import SpecError
from .topology import Nic, Topology

MANAGEMENT = "management"
_TUNING = ("interface", "pci", "mac", "management", *MAPPINGS, RULES, "only_these_rules")
QDISC = "qdisc"
BYPASS = "bypass"
BYPASSES = (DPDK, *LIBRARIES)
AF_XDP = "af_xdp"
# The driver that gives a port to user space.
VFIO = "vfio-pci"
NIC_KEYS = ("interface", "pci", "mac", "carries", "application_cores", "numa_node", "queues", BYPASS, AF_XDP, *_TUNING[3:], QDISC)
_NOT_OF_CORES = ("nics", "all_nics", "hugepages", "services", "bypass_profiles")


def host_plan(topology: Topology, interfaces: Iterable[str], site: Mapping[str, Any], *, kernel: str = "") -> dict[str, Any]:
    """``partition`` (plain values), ``nics``, ``qdisc_nics``, ``card_nics``, ``irq_nics``, ``hugepages`` and ``cmdline`` as the ethtool, qdisc,
    nic_firmware, irq_affinity, hugepages and kernel_cmdline domains take them, ``pci_devices`` and ``services`` as pci_driver and service_pinning do,
    ``dpdk_mounts`` (path and size), ``stack`` and ``stack_nics`` as bypass_stack does, ``summary`` and ``explanation`` (sentences).

    ``site`` has the keys of ``Intent`` with ``nics`` as the inventory has them, ``hugepages``, ``services`` and ``bypass_profiles``; ``kernel`` is the
    release that runs. Raises ``SpecError``.
    """
    entries = [dict(entry) for entry in site.get("nics") or []]
    if site.get("all_nics"):
        entries = [{"pci": nic.pci, "management": True} for nic in topology.nics if nic.interfaces]
    entries = [entry for entry in entries if entry.get("carries") != MANAGEMENT or entry.get("management")]
    found = _found(topology, frozenset(interfaces), entries)
    intent = {key: value for key, value in site.items() if key not in _NOT_OF_CORES and value is not None}
    virtual_cores = sum(int(entry.get("application_cores") or 0) for entry, nic in found if nic is None)
    intent["application_cores"] = int(intent.get("application_cores") or 0) + virtual_cores
    intent["nics"] = [_nic_intent(entry, nic) for entry, nic in found if nic is not None]
    intent.setdefault("l3_align", several_l3(topology))
    cores = partition(topology, Intent.from_dict(intent))
    pages = pages_per_node(site.get("hugepages") or [], cores.nic_node.values(), topology, per_node_boot(kernel))
    services = service_plan(site.get("services") or [], found, cores, topology, pages, site.get("bypass_profiles") or {})
    ports = [{"pci": nic.pci, "driver": VFIO} for entry, nic in found if nic is not None and entry.get(BYPASS) == DPDK]
    kernels = [(entry, nic) for entry, nic in found if entry.get(BYPASS) != DPDK]
    return {
        "partition": cores.to_dict(),
        "nics": [_tuned(entry, _irq_cpulist(cores, nic) if nic is not None else "") for entry, nic in kernels],
        "qdisc_nics": [{key: entry[key] for key in (*_TUNING[:4], QDISC) if entry.get(key) is not None} for entry, _nic in kernels],
        "card_nics": [_placed(entry, nic, cores, topology) for entry, nic in kernels],
        "irq_nics": [{"pci": nic.pci, "cpus": _irq_cpulist(cores, nic)} for _entry, nic in kernels if nic is not None and cores.irq_cpus[nic.pci]],
        "pci_devices": ports,
        "dpdk_mounts": [{"path": mount_of(size), "size": size} for size in sorted({page["size"] for page in pages})] if ports else [],
        "stack": _stack(found),
        "stack_nics": [{**_placed(entry, nic, cores, topology), AF_XDP: bool(entry.get(AF_XDP))} for entry, nic in kernels if entry.get(BYPASS)],
        "hugepages": pages,
        "services": services,
        "cmdline": _planned_arguments(cores, site),
        "summary": [*_summary(cores), *_argument_line(cores, site),
                    *(f"huge pages on node {page['node']}: {page['count']} x {page['size']} at {page['at']}" for page in pages),
                    *services_in_words(services)],
        "explanation": [*cores.reasons, *_remarks(found), *_page_remarks(pages, kernel), *topology.gaps],
    }


def _planned_arguments(cores: Partition, site: Mapping[str, Any]) -> dict[str, Any]:
    """What the partition says of kernel arguments, as the kernel_cmdline domain takes it; empty values where nothing is isolated."""
    plain = cores.to_dict()
    return {**{key: plain[key] for key in ("isolcpus", "nohz_full", "rcu_nocbs", "irqaffinity")}, "workqueue.unbound_cpus": plain["irqaffinity"],
            "nosmt": site.get("smt_policy") == OFF_BY_KERNEL}


def _argument_line(cores: Partition, site: Mapping[str, Any]) -> list[str]:
    planned = [key if value is True else f"{key}={value}" for key, value in _planned_arguments(cores, site).items() if value]
    return [f"kernel arguments, as far as the profile asks for them: {' '.join(planned)}"] if planned else []


def several_l3(topology: Topology) -> bool:
    """Whether a node has more than one L3 cache, as AMD's have: there, cores of one application should share one."""
    return any(len({topology.l3[cpu] for cpu in cpus if cpu in topology.l3}) > 1 for cpus in topology.nodes.values())


def _summary(cores: Partition) -> list[str]:
    plain = cores.to_dict()
    lines = [f"housekeeping CPUs: {plain['housekeeping']}", f"isolated CPUs: {plain['isolated'] or 'none'}"]
    if plain["pin_cpus"]:
        lines.append(f"CPUs to pin applications to: {plain['pin_cpus']}")
    for pci, nic in plain["nics"].items():
        lines.append(f"NIC {pci} on node {nic['node']}: interrupts on CPUs {nic['irq_cpus'] or 'none'}, application CPUs {nic['cores'] or 'none'}")
    return lines


def _found(topology: Topology, interfaces: frozenset[str], entries: list[dict[str, Any]]) -> list[tuple[dict[str, Any], Nic | None]]:
    """Each entry with its PCI NIC, None for a virtual interface; raises ``SpecError`` naming all that are wrong."""
    wrong = []
    pairs: list[tuple[dict[str, Any], Nic | None]] = []
    for entry in entries:
        unknown = sorted(set(entry) - set(NIC_KEYS))
        nic = next((nic for nic in topology.nics if _is(entry, nic)), None)
        if unknown:
            wrong.append(f"NIC {identity(entry) or entry}: no such key {', '.join(unknown)}; there are: {', '.join(NIC_KEYS)}")
        elif not identity(entry):
            wrong.append(f"NIC {entry}: has no name; give interface, pci or mac")
        elif nic is None and str(entry.get("interface")) not in interfaces:
            known = [*sorted(interfaces), *(nic.pci for nic in topology.nics)]
            wrong.append(f"NIC {identity(entry)}: no such NIC on this host; there are: {', '.join(known) or 'none'}")
        elif _bypass_problem(entry, nic):
            wrong.append(f"NIC {identity(entry)}: {_bypass_problem(entry, nic)}")
        elif nic is not None and any(other is nic for _entry, other in pairs):
            wrong.append(f"NIC {identity(entry)}: {nic.pci} is named twice; leave one of the two entries out")
        pairs.append((entry, nic))
    if wrong:
        raise SpecError("; ".join(wrong))
    return pairs


def _bypass_problem(entry: Mapping[str, Any], nic: Nic | None) -> str:
    """What is wrong with the bypass of a NIC, or nothing."""
    bypass = entry.get(BYPASS)
    if entry.get(AF_XDP) and bypass not in LIBRARIES:
        return f"af_xdp is a way of {', '.join(LIBRARIES)}; give one of them as bypass, or take af_xdp out"
    if bypass is None:
        return ""
    if bypass not in BYPASSES:
        return f"bypass {bypass!r:.40}; there is {', '.join(BYPASSES)}"
    if entry.get("carries") == MANAGEMENT or entry.get("management"):
        return "keeps the host reachable, and is never given to user space; take bypass out"
    if bypass == DPDK and not entry.get("pci"):
        known = f" ({nic.pci})" if nic is not None else ""
        return f"bypass {bypass} takes the port from the kernel and its interface with it; name it by its PCI address{known}"
    return ""


def _stack(found: Iterable[tuple[Mapping[str, Any], Nic | None]]) -> str:
    """The one stack in user space of a host, empty for none; raises ``SpecError`` for several."""
    stacks = sorted({str(entry[BYPASS]) for entry, _nic in found if entry.get(BYPASS) in LIBRARIES})
    if len(stacks) > 1:
        raise SpecError(f"NICs want {' and '.join(stacks)}; a host has one stack in user space, give its NICs the same bypass")
    return stacks[0] if stacks else ""


def _is(entry: Mapping[str, Any], nic: Nic) -> bool:
    if entry.get("interface"):
        return entry["interface"] in nic.interfaces
    if entry.get("pci"):
        return str(entry["pci"]).lower() == nic.pci
    return bool(entry.get("mac")) and str(entry["mac"]).lower() == nic.mac.lower()


def _nic_intent(entry: Mapping[str, Any], nic: Nic) -> dict[str, Any]:
    asked = {key: entry[key] for key in ("application_cores", "numa_node", "queues") if entry.get(key) is not None}
    return {"pci": nic.pci, **asked, **({"interrupts": False} if entry.get(BYPASS) == DPDK else {})}


def _tuned(entry: Mapping[str, Any], irq_cpus: str) -> dict[str, Any]:
    """A NIC for the ethtool domain. The queues that the site gives it are its channels, unless it says more of those itself."""
    tuned = {key: entry[key] for key in _TUNING if entry.get(key) is not None}
    if entry.get("queues"):
        tuned.setdefault(CHANNELS, {QUEUES: entry["queues"]})
    return {**tuned, "irq_cpus": irq_cpus} if irq_cpus else tuned


def _placed(entry: Mapping[str, Any], nic: Nic | None, cores: Partition, topology: Topology) -> dict[str, Any]:
    """The NIC with the application CPUs that it serves: its own; where it has none, those of its node; where that has none, all of the host."""
    own: frozenset[int] = frozenset()
    near: frozenset[int] = frozenset()
    if nic is not None:
        own, near = cores.nic_cores[nic.pci], cores.isolated & topology.nodes.get(cores.nic_node[nic.pci], frozenset())
    named = {key: entry[key] for key in ("interface", "pci", "mac", "numa_node") if entry.get(key) is not None}
    return {**named, "application_cpus": format_cpulist(own or near or cores.isolated)}


def _irq_cpulist(cores: Partition, nic: Nic) -> str:
    return str(cores.to_dict()["nics"][nic.pci]["irq_cpus"])


def _remarks(found: list[tuple[dict[str, Any], Nic | None]]) -> list[str]:
    remarks = [f"{identity(entry)} is no PCI device: no node and no interrupts follow from it" for entry, nic in found if nic is None]
    return remarks if found else ["the inventory names no NICs (lowlatency_nics): none is tuned"]


def _page_remarks(pages: list[dict[str, Any]], kernel: str) -> list[str]:
    """Why pages come later than one would think."""
    if not pages or per_node_boot(kernel):
        return []
    return [f"No huge page comes at {BOOT}, because Linux {kernel} does not take huge pages per node on its command line"]
