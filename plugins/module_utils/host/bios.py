# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what the firmware of a machine decided, as the running system shows it. Reads only, and starts no program.

Source: Documentation/ABI/testing/sysfs-devices-system-cpu, sysfs-firmware-dmi-tables, sysfs-class-iommu,
Documentation/admin-guide/kernel-parameters.txt (clocksource), msr(4).
"""

from __future__ import annotations

import ctypes
import os
import re
import struct
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ..model.bios import BARE_METAL, BiosState, Firmware, iso_date
from ..model.cpuset import CpusetError, parse_cpulist
from ..model.nic import identity
from ..model.nic_firmware import Card
from ..model.smbios import memory_devices, slots
from ..model.topology import Topology, TopologyError
from .container import container_kind
from .cpu_power import CPU, idle_states, per_cpu, turbo
from .facts import hypervisor
from .links import interface_of, not_an_interface, pci_of
from .machine import Host
from .nic_firmware import node_of
from .topology import read_topology

DMI = "/sys/class/dmi/id"
TABLE = "/sys/firmware/dmi/tables/DMI"
SLOTS = "/sys/bus/pci/slots"
_CLOCKS = "/sys/devices/system/clocksource/clocksource0"
_CPUINFO_START = 16384  # the first CPU's entry is enough

_PMU = "/sys/bus/event_source/devices/msr"
_IOMMUS = "/sys/class/iommu"
# Intel SDM volume 4: IA32_APIC_BASE (bit 10: x2APIC mode).
_APIC_BASE, _X2APIC_BIT = 0x1B, 10
# arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/linux/perf_event.h
_PERF_EVENT_OPEN, _ATTR_SIZE, _FD_CLOEXEC = 298, 64, 8

_PCI_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")


def read_bios(host: Host, spec: Mapping[str, Any]) -> BiosState:
    """The state of the machine; what cannot be read is told in it."""
    container = container_kind(host)
    if container:
        return BiosState(container=container)
    try:
        topology = read_topology(host)
    except TopologyError as error:
        return BiosState(silent=str(error))
    virtual = hypervisor(host)
    wanted = (spec.get("policy") or {}).get("smis") is not None and virtual in (BARE_METAL, "unknown")
    # Counted while all else is read, so that the wait is shorter.
    counting = _SmiCount(host, topology, float(spec.get("smi_seconds") or 0) if wanted else 0.0)
    cards = tuple(_card(host, nic) for nic in spec.get("nics") or [])
    state = BiosState(virtual=virtual, topology=topology, cards=cards, **_board(host, cards), **_smt(host), **_power(host, topology))
    state = replace(state, **_processor(host, topology), **_clock(host))
    smis, uncounted = counting.read()
    return replace(state, smis=smis, smis_problem=uncounted, smi_seconds=counting.seconds)


# --- CPUs -------------------------------------------------------------------------------------------------------------


def _smt(host: Host) -> dict[str, Any]:
    cpuinfo = _first_cpu(host)
    return {"smt_control": host.read_if_there(f"{CPU}/smt/control") or "", "without_smt": _without_smt(host), "isolated": _cpulist(host, f"{CPU}/isolated"),
            "hidden_threads": _number(cpuinfo.get("siblings")) > _number(cpuinfo.get("cpu cores")) > 0}


def _power(host: Host, topology: Topology) -> dict[str, Any]:
    return {"idle": idle_states(host, topology.online), "idle_driver": host.read_if_there(f"{CPU}/cpuidle/current_driver") or "",
            "drivers": per_cpu(host, topology.online, "cpufreq/scaling_driver"), "governors": per_cpu(host, topology.online, "cpufreq/scaling_governor"),
            "preferences": per_cpu(host, topology.online, "cpufreq/energy_performance_preference"), "turbo": turbo(host, topology.online)}


def _processor(host: Host, topology: Topology) -> dict[str, Any]:
    cpuinfo = _first_cpu(host)
    x2apic, hidden = _x2apic(host, cpuinfo)
    return {"microcode": per_cpu(host, topology.online, "microcode/version") or _told_microcode(cpuinfo, topology), "signature": _signature(cpuinfo),
            "flags": frozenset(cpuinfo["flags"].split()) if "flags" in cpuinfo else None, "x2apic": x2apic, "x2apic_problem": hidden,
            "iommus": tuple(host.names(_IOMMUS)) if host.live or host.is_dir(_IOMMUS) else None,
            "iommu_table": next((name for name in ("DMAR", "IVRS") if host.exists(f"/sys/firmware/acpi/tables/{name}")), "")}


def _clock(host: Host) -> dict[str, Any]:
    return {"clocksource": host.read_if_there(f"{_CLOCKS}/current_clocksource") or "",
            "clocksources": tuple((host.read_if_there(f"{_CLOCKS}/available_clocksource") or "").split())}


def _cpulist(host: Host, name: str) -> frozenset[int]:
    try:
        return parse_cpulist(host.read_if_there(name) or "")
    except CpusetError:
        return frozenset()


def _without_smt(host: Host) -> str:
    """Who has the kernel keep siblings offline; empty where nothing tells."""
    for token in (host.read_if_there("/proc/cmdline") or "").split():
        key, _equals, value = token.partition("=")
        if key == "nosmt" or (key == "mitigations" and "nosmt" in value.split(",")):
            return f"by the kernel argument {token}"
    return ""


def _first_cpu(host: Host) -> dict[str, str]:
    """What /proc/cpuinfo says of the first CPU; all of them take long on a large machine."""
    try:
        text = host.attribute("/proc/cpuinfo", limit=_CPUINFO_START)
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _colon, value in pairs}


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdigit() else 0


def _signature(cpuinfo: Mapping[str, str]) -> str:
    """Family, model and stepping as the kernel's microcode files are named: ``06-55-07``."""
    parts = [cpuinfo.get(name, "") for name in ("cpu family", "model", "stepping")]
    return "-".join(f"{int(part):02x}" for part in parts) if all(part.isdigit() for part in parts) else ""


def _told_microcode(cpuinfo: Mapping[str, str], topology: Topology) -> dict[str, frozenset[int]]:
    """The first CPU's word for all of them, where sysfs has none."""
    return {cpuinfo["microcode"]: topology.online} if cpuinfo.get("microcode") else {}


def _x2apic(host: Host, cpuinfo: Mapping[str, str]) -> tuple[bool | None, str]:
    """Whether the APIC of the boot CPU is in x2APIC mode, or why that is not told: the register is read by the module msr."""
    if cpuinfo.get("vendor_id") not in ("GenuineIntel", "AuthenticAMD"):
        return None, "only x86 CPUs have one"
    if not host.live:
        return None, "a captured tree has no registers"
    try:
        descriptor = os.open("/dev/cpu/0/msr", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None, "the module msr is not loaded (modprobe msr)"
    except OSError as error:
        return None, f"/dev/cpu/0/msr: {error.strerror}"
    try:
        return bool(int.from_bytes(os.pread(descriptor, 8, _APIC_BASE), "little") >> _X2APIC_BIT & 1), ""
    except OSError as error:
        return None, f"the register IA32_APIC_BASE: {error.strerror}"
    finally:
        os.close(descriptor)


class _SmiCount:
    """Counts system management interrupts from its making to ``read``, on one CPU of each socket: an SMI comes to all of them.

    By the kernel's own counter of them, which needs no module (arch/x86/events/msr.c; perf_event_open(2)).
    """

    def __init__(self, host: Host, topology: Topology, seconds: float) -> None:
        self.seconds = seconds
        self.began = time.monotonic()
        self.counters: list[int] = []
        self.problem = "they are counted where a policy speaks of them (smis)" if not seconds else "a captured tree counts nothing" if not host.live else ""
        event = re.fullmatch(r"event=(0x[0-9a-f]+)", host.read_if_there(f"{_PMU}/events/smi") or "")
        if not self.problem and event is None:
            self.problem = "this CPU or kernel does not count them"
        if self.problem or event is None:
            return
        kind = _number(host.read_if_there(f"{_PMU}/type"))
        try:
            for cpu in sorted(min(cpus) for cpus in topology.sockets.values() if cpus):
                self.counters.append(_perf_event(kind, int(event[1], 16), cpu))
        except OSError as error:
            self.problem = f"perf_event_open: {error.strerror}"

    def read(self) -> tuple[int | None, str]:
        """The most that came to a CPU, or why it is not told."""
        try:
            if self.problem or not self.counters:
                return None, self.problem or "no CPU could be asked"
            time.sleep(max(0.0, self.began + self.seconds - time.monotonic()))
            return max(int.from_bytes(os.read(counter, 8), sys.byteorder) for counter in self.counters), ""
        finally:
            for counter in self.counters:
                os.close(counter)


def _perf_event(kind: int, config: int, cpu: int) -> int:
    """A counter of one event on one CPU, counting; the descriptor. Raises ``OSError``. perf_event_open(2), PERF_ATTR_SIZE_VER0."""
    attributes = ctypes.create_string_buffer(struct.pack("=IIQ", kind, _ATTR_SIZE, config), _ATTR_SIZE)
    library = ctypes.CDLL(None, use_errno=True)
    descriptor = int(library.syscall(_PERF_EVENT_OPEN, attributes, -1, cpu, -1, _FD_CLOEXEC))
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return descriptor


# --- board ------------------------------------------------------------------------------------------------------------


def _board(host: Host, cards: Iterable[Card]) -> dict[str, Any]:
    table, problem = _table(host)
    return {"firmware": _firmware(host), "memory": memory_devices(table), "memory_problem": problem, "slots": _slots(host, cards, table)}


def _firmware(host: Host) -> Firmware:
    vendor, maker, product, version, release, date = (
        host.read_if_there(f"{DMI}/{name}") or "" for name in ("sys_vendor", "bios_vendor", "product_name", "bios_version", "bios_release", "bios_date"))
    return Firmware(vendor or maker, product, version, release, iso_date(date))


def _table(host: Host) -> tuple[bytes, str]:
    """The BIOS's own description of the board, or why there is none."""
    try:
        return host.read_bytes(TABLE), ""
    except PermissionError:
        return b"", f"{TABLE} is for root only"
    except OSError as error:
        return b"", f"{TABLE}: {error.strerror}"


def _card(host: Host, nic: Mapping[str, Any]) -> Card:
    """A NIC by its place alone: one that was given to a driver in user space has no interface."""
    interface = interface_of(host, nic)
    pci = (pci_of(host, interface) or "") if interface else str(nic.get("pci") or "").lower()
    if interface is None and not (pci and "/" not in pci and host.exists(f"/sys/bus/pci/devices/{pci}")):
        return Card(identity(nic), unreadable=not_an_interface(host, nic))
    return Card(interface or pci, pci, node=node_of(host, pci) if pci else None)


def _slots(host: Host, cards: Iterable[Card], table: bytes) -> dict[str, str]:
    """``{PCI address: slot}`` of the NICs: the slot of the device, or of the nearest bridge above it that has one.

    Documentation/ABI/testing/sysfs-bus-pci (slots); the BIOS's own description where the kernel has none.
    """
    known = {slot.pci.rpartition(".")[0]: slot.designation for slot in slots(table) if slot.pci and slot.designation}
    for name in host.names(SLOTS):
        known[host.read_if_there(f"{SLOTS}/{name}/address") or ""] = name
    found = {}
    for card in cards:
        path = os.path.realpath(host.followed(f"/sys/bus/pci/devices/{card.pci}")) if card.pci else ""
        above = [part.rpartition(".")[0] for part in reversed(path.split("/")) if _PCI_ADDRESS.fullmatch(part)]
        slot = next((known[part] for part in above if part in known), "")
        if slot:
            found[card.pci] = slot
    return found
