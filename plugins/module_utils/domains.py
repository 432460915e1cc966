# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registry: which domains there are, in the one order in which they may be applied.

What the firmware decided is looked at first, and written never. Huge pages come before anything takes memory; services that move interrupts next, since
what they moved is set after; driver and firmware of NICs are looked at before what lies on them; a stack in user space next, since a driver that is loaded
anew makes its interfaces anew; ports change hands before any NIC is tuned; channels before features, features before interrupts (a
NIC reset recreates them), then power of CPUs, switches of /sys and sysctl, and queueing disciplines after the channels they lie on and the default that
sysctl sets, then metrics of routes, which may name an algorithm that sysctl had loaded. Services are placed when ports and pages are there. Live sockets
are looked at when all of it is set. The kernel command line comes last, after the host agent even: a boot is only tried on a host where all else went well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .host import cmdline as host_cmdline
from .host.bios import read_bios
from .host.bypass_stack import read_stack, write_stack
from .host.cpu_power import read_power, write_power
from .host.ethtool import batch_of, read_ethtool, write_ethtool
from .host.hugepages import read_hugepages, write_hugepages
from .host.irq import read_irqs, write_irq
from .host.machine import Host
from .host.nic_firmware import read_nic_firmware, write_nothing
from .host.pci_driver import read_pci, write_pci
from .host.qdisc import read_qdiscs, write_qdisc
from .host.routes import batch_of as route_batch
from .host.routes import read_routes, write_routes
from .host.sack_filter import read_sack_filter, write_sack_filter
from .host.service_pinning import read_services, write_service
from .host.sockets import read_sockets
from .host.sysfs import read_sysfs, write_sysfs
from .host.tunables import read_tunables, write_tunable
from .host.units import read_units, write_unit
from .model import (
    bios,
    bypass_stack,
    cmdline,
    cpu_power,
    hugepages,
    irq,
    nic,
    nic_firmware,
    pci_driver,
    qdisc,
    routes,
    sack_filter,
    service_pinning,
    sockets,
    sysfs,
    tunables,
    units,
)
from .model.setting import OwnedFile, Plan, Setting

Spec = Mapping[str, Any]

_NIC_MAPPINGS: dict[str, Any] = {name: {"type": "dict"} for name in nic.MAPPINGS}
_NIC_NAMES = {"interface": {"type": "str"}, "pci": {"type": "str"}, "mac": {"type": "str"}}


@dataclass(frozen=True)
class BootSteps:
    """How a domain whose values come with a boot gets there: ``arm`` has them tried by the next boot, ``settle`` makes those
    that run now the ones of every later boot, ``tidy`` removes what a failed trial left. ``files`` are those that they write,
    for the journal."""

    arm: Callable[[Host, Any, Spec, int, str], None]
    settle: Callable[[Host, Any, Spec], None]
    tidy: Callable[[Host, Any], None]
    files: Callable[[Host, Any], tuple[OwnedFile, ...]]


@dataclass(frozen=True)
class Batches:
    """How settings that belong together are written at once: ``key`` is equal for those, ``write`` takes them all."""

    key: Callable[[Setting], str]
    write: Callable[[Host, Any, Sequence[Setting]], None]


@dataclass(frozen=True)
class Domain:
    """One kind of thing a host has.

    ``persistence`` says what makes it last: a ``file`` of its own, the ``write`` itself, the host ``agent`` at boot,
    where Linux has no file for it, or a ``boot`` that brings all of it at once (``boot`` says how); ``none`` where all is findings. ``files_first`` is for a
    domain whose writes need its owned files in their places. ``each_alone`` is for one whose settings concern things that have
    nothing to do with each other: an error of one refuses no other. ``batches`` writes several at once, one by one where that
    fails. ``resets`` is for one in which a write may undo others. What a ``network`` domain writes could cut the host off: it waits to be confirmed.
    """

    name: str
    options: Mapping[str, Any]
    problems: Callable[[Spec], list[str]]
    read: Callable[[Host, Spec], Any]
    plan: Callable[[Any, Spec], Plan]
    write: Callable[[Host, Any, Setting], None]
    persistence: str
    boot: BootSteps | None = None
    files_first: bool = False
    each_alone: bool = False
    batches: Batches | None = None
    network: bool = False
    resets: bool = False


BIOS_INFO = Domain(
    "bios_info",
    {"policy": {"type": "dict", "default": {}}, "application_cpus": {"type": "str"}, "smi_seconds": {"type": "float"},
     "nics": {"type": "list", "elements": "dict", "default": [],
              "options": {**_NIC_NAMES, "application_cpus": {"type": "str"}, "numa_node": {"type": "int"}},
              "required_one_of": [["interface", "pci", "mac"]]}},
    bios.problems, read_bios, bios.plan, write_nothing, persistence="none", each_alone=True,
)
HUGEPAGES = Domain(
    "hugepages",
    {"pages": {"type": "list", "elements": "dict", "default": [],
               "options": {"size": {"type": "str", "required": True, "choices": list(hugepages.SIZES)}, "node": {"type": "int", "required": True},
                           "count": {"type": "int", "required": True}, "at": {"type": "str", "choices": [hugepages.BOOT, hugepages.RUNTIME]}}},
     "mounts": {"type": "list", "elements": "dict", "default": [],
                "options": {"path": {"type": "str", "required": True}, "size": {"type": "str", "required": True, "choices": list(hugepages.SIZES)},
                            "group": {"type": "str"}}}},
    hugepages.problems, read_hugepages, hugepages.plan, write_hugepages, persistence="agent", files_first=True,
)
UNITS = Domain(
    "units",
    {"removed": {"type": "list", "elements": "str", "required": True}},
    units.problems, read_units, units.plan, write_unit, persistence="write",
)
NIC_FIRMWARE = Domain(
    "nic_firmware",
    {"policy": {"type": "dict", "default": {}},
     "nics": {"type": "list", "elements": "dict", "required": True,
              "options": {**_NIC_NAMES, "application_cpus": {"type": "str"}, "numa_node": {"type": "int"}},
              "required_one_of": [["interface", "pci", "mac"]]}},
    nic_firmware.problems, read_nic_firmware, nic_firmware.plan, write_nothing, persistence="none", each_alone=True,
)
BYPASS_STACK = Domain(
    "bypass_stack",
    {"stack": {"type": "str", "choices": ["", *bypass_stack.LIBRARIES]}, "state": {"type": "str", "choices": [bypass_stack.PRESENT, bypass_stack.ABSENT]},
     "prebuilt": {"type": "bool"}, "options": {"type": "dict"}, "load": {"type": "list", "elements": "str"}, "profiles": {"type": "dict"},
     "versions": {"type": "dict"},
     "combinations": {"type": "list", "elements": "dict", "options": {part: {"type": "str"} for part in bypass_stack.PARTS}},
     "nics": {"type": "list", "elements": "dict",
              "options": {**_NIC_NAMES, "af_xdp": {"type": "bool"}, "application_cpus": {"type": "str"}, "numa_node": {"type": "int"}},
              "required_one_of": [["interface", "pci", "mac"]]}},
    bypass_stack.problems, read_stack, bypass_stack.plan, write_stack, persistence="agent", files_first=True,
)
PCI_DRIVER = Domain(
    "pci_driver",
    {"devices": {"type": "list", "elements": "dict", "default": [],
                 "options": {"pci": {"type": "str", "required": True}, "driver": {"type": "str", "choices": list(pci_driver.DRIVERS)},
                             "supported": {"type": "bool"}}},
     "group": {"type": "str"}, "noiommu_waiver": {"type": "str"}},
    pci_driver.problems, read_pci, pci_driver.plan, write_pci, persistence="agent", files_first=True, network=True,
)
ETHTOOL = Domain(
    "ethtool",
    {**_NIC_MAPPINGS, "required": {"type": "list", "elements": "str", "default": []},
     "nics": {"type": "list", "elements": "dict", "required": True,
              "options": {**_NIC_NAMES, "management": {"type": "bool", "default": False}, "irq_cpus": {"type": "str"}, **_NIC_MAPPINGS,
                          "rules": {"type": "list", "elements": "dict"}, "only_these_rules": {"type": "bool", "default": False}},
              "required_one_of": [["interface", "pci", "mac"]]}},
    nic.problems, read_ethtool, nic.plan, lambda host, state, setting: write_ethtool(host, state, [setting]), persistence="agent",
    each_alone=True, resets=True, batches=Batches(batch_of, write_ethtool), network=True,
)
IRQ_AFFINITY = Domain(
    "irq_affinity",
    {"isolated": {"type": "str", "default": ""}, "housekeeping": {"type": "str", "default": ""}, "watch_seconds": {"type": "int", "default": 0},
     "nics": {"type": "list", "elements": "dict", "default": [],
              "options": {**_NIC_NAMES, "cpus": {"type": "str", "required": True}},
              "required_one_of": [["interface", "pci", "mac"]]}},
    irq.problems, read_irqs, irq.plan, write_irq, persistence="agent", each_alone=True,
)
CPU_POWER = Domain(
    "cpu_power",
    {"governor": {"type": "str"}, "energy_performance_preference": {"type": "str"}, "energy_perf_bias": {"type": "str"},
     "minimum_performance": {"type": "str"}, "turbo": {"type": "str", "choices": [cpu_power.ON, cpu_power.OFF]},
     "uncore": {"type": "str", "choices": [cpu_power.MAX]}, "idle_latency_us": {"type": "int"}, "idle_cpus": {"type": "str"}},
    cpu_power.problems, read_power, cpu_power.plan, write_power, persistence="agent",
)
SYSFS = Domain(
    "sysfs",
    {"values": {"type": "dict", "default": {}}, "housekeeping": {"type": "str"}},
    sysfs.problems, read_sysfs, sysfs.plan, write_sysfs, persistence="agent",
)
TUNABLES = Domain(
    "tunables",
    {"values": {"type": "dict", "default": {}}, "overrides": {"type": "dict", "default": {}}, "housekeeping": {"type": "str"},
     "paths": {"type": "list", "elements": "dict",
               "options": {"bandwidth": {"type": "str", "required": True}, "round_trip_ms": {"type": "float", "required": True}}},
     "small_buffers": {"type": "bool"}, "traffic": {"type": "str"}},
    tunables.problems, read_tunables, tunables.plan, write_tunable, persistence="file",
)
QDISC = Domain(
    "qdisc",
    {"qdisc": {"type": "dict", "default": {}},
     "nics": {"type": "list", "elements": "dict", "required": True,
              "options": {**_NIC_NAMES, "management": {"type": "bool", "default": False}, "qdisc": {"type": "dict"}},
              "required_one_of": [["interface", "pci", "mac"]]}},
    qdisc.problems, read_qdiscs, qdisc.plan, write_qdisc, persistence="agent", each_alone=True, network=True,
)
SACK_FILTER = Domain(
    "sack_filter",
    {"prefixes": {"type": "list", "elements": "str", "default": []}, "traffic": {"type": "str", "default": ""}},
    sack_filter.problems, read_sack_filter, sack_filter.plan, write_sack_filter, persistence="write", files_first=True,
)
ROUTE_METRICS = Domain(
    "route_metrics",
    {"metrics": {"type": "dict", "default": {}},
     "routes": {"type": "list", "elements": "dict", "default": [],
                "options": {"to": {"type": "str", "default": routes.ANY}, "within": {"type": "str"}, "interface": {"type": "str"},
                            "table": {"type": "str", "default": routes.MAIN}, "management": {"type": "bool", "default": False},
                            "metrics": {"type": "dict", "default": {}}}}},
    routes.problems, read_routes, routes.plan, lambda host, state, setting: write_routes(host, state, [setting]), persistence="agent",
    each_alone=True, batches=Batches(route_batch, write_routes), network=True,
)
SERVICE_PINNING = Domain(
    "service_pinning",
    {"services": {"type": "list", "elements": "dict", "default": [],
                  "options": {"unit": {"type": "str", "required": True}, "cpus": {"type": "str", "required": True}, "memory_nodes": {"type": "str"},
                              "environment": {"type": "dict"}, "memlock": {"type": "str"},
                              "scheduling_policy": {"type": "str", "choices": list(service_pinning.POLICIES)}, "scheduling_priority": {"type": "int"},
                              "control_group": {"type": "bool"}, "restart": {"type": "bool"}, "library": {"type": "str"},
                              "ports": {"type": "list", "elements": "str"}}},
     "manager_cpus": {"type": "str"}, "application_cpus": {"type": "str"}},
    service_pinning.problems, read_services, service_pinning.plan, write_service, persistence="file", files_first=True,
)
SOCKETS = Domain(
    "sockets",
    {"services": {"type": "list", "elements": "dict", "default": [],
                  "options": {"unit": {"type": "str", "required": True}, "peers": {"type": "list", "elements": "str"},
                              "look_inside": {"type": "bool", "default": False},
                              "expects": {"type": "dict", "required": True}}}},
    sockets.problems, read_sockets, sockets.plan, write_nothing, persistence="none", each_alone=True,
)

KERNEL_CMDLINE = Domain(
    "kernel_cmdline",
    {"arguments": {"type": "dict", "default": {}}, "planned": {"type": "dict", "default": {}},
     "hugepages": {"type": "list", "elements": "dict", "default": []}, "security_waiver": {"type": "str"}},
    cmdline.problems, host_cmdline.read_cmdline, cmdline.plan, host_cmdline.write_cmdline, persistence="boot",
    boot=BootSteps(host_cmdline.arm, host_cmdline.settle, host_cmdline.tidy, host_cmdline.boot_files),
)

DOMAINS = {domain.name: domain for domain in (BIOS_INFO, HUGEPAGES, UNITS, NIC_FIRMWARE, BYPASS_STACK, PCI_DRIVER, ETHTOOL, IRQ_AFFINITY, CPU_POWER,
                                              SYSFS, TUNABLES, QDISC, SACK_FILTER, ROUTE_METRICS, SERVICE_PINNING, SOCKETS, KERNEL_CMDLINE)}
