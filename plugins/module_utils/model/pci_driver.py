# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which driver has a port of a NIC: the kernel's own, or the one that hands it to user space. Pure: no I/O.

Source: Documentation/ABI/testing/sysfs-bus-pci (driver_override), Documentation/driver-api/vfio.rst, DPDK's guide on Linux drivers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .setting import OwnedFile, Plan, Setting, SpecError, unsupported

VFIO = "vfio-pci"
DRIVERS = (VFIO,)

DRIVER = "pci.driver"
ACCESS = "pci.access"
RECORD_CONTROL = "pci.record"
RULES_CONTROL = "pci.rules"
# The ports that are ours: what is in it and no longer wanted is given back.
RECORD = "/etc/lowlatency/ports"
RULES = "/etc/udev/rules.d/90-lowlatency-vfio.rules"
ROOT_ONLY = "root alone"

DEVICE_KEYS = ("pci", "driver", "supported")
_PCI = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]")
_GROUP = re.compile(r"[a-z_][a-z0-9_-]{0,31}")

# The kernel drivers of NICs that DPDK drives by itself once vfio-pci has the port, and those that it drives beside the kernel, which keeps the port.
SUPPORTED = frozenset(
    ("atlantic", "bnx2x", "bnxt_en", "cxgb4", "e1000", "e1000e", "ena", "enic", "gve", "hinic", "hns3", "i40e", "iavf", "ice", "igb", "igbvf", "igc", "ionic",
     "ixgbe", "ixgbevf", "liquidio", "nfp", "octeontx2", "qede", "sfc", "thunder-nicvf", "txgbe", "virtio-pci", "vmxnet3"))
BIFURCATED = frozenset(("mlx4_core", "mlx5_core", "mana"))


@dataclass(frozen=True)
class Device:
    """A PCI device as its kernel shows it.

    ``driver`` is the one that has it now, ``management`` and ``used`` say why it must not be taken from the kernel. ``group`` is its IOMMU group ("" for
    none), ``neighbours`` are the other devices of that group that the kernel drives, ``node`` who may open the group's device, ``holders`` the processes that
    have it open (told of ports that go back). ``silent`` says why ``node`` cannot be told.
    """

    pci: str
    present: bool = True
    kind: str = "0x020000"
    driver: str = ""
    interfaces: tuple[str, ...] = ()
    management: str = ""
    used: tuple[str, ...] = ()
    functions: int = 0
    group: str = ""
    neighbours: tuple[str, ...] = ()
    node: str = ""
    holders: tuple[str, ...] = ()
    silent: str = ""


@dataclass(frozen=True)
class PciState:
    """The devices that are wanted or were ours. ``iommu`` says whether one is at work, ``table`` what the firmware tells of one (DMAR, IVRS), ``module``
    whether this kernel has vfio-pci; ``container`` is the kind of container this is, ``record`` has the ports that were ours, None where none ever was."""

    devices: Mapping[str, Device] = field(default_factory=dict)
    iommu: bool = False
    table: str = ""
    module: bool = True
    container: str = ""
    record: tuple[str, ...] | None = None


def problems(spec: Mapping[str, Any]) -> list[str]:
    """What is wrong with the devices on any host."""
    found = []
    seen: set[str] = set()
    for device in spec.get("devices") or []:
        address = str(device.get("pci", ""))
        if not _PCI.fullmatch(address):
            found.append(f"device {address!r:.40}: is no PCI address; write it as lspci -D does, like 0000:81:00.0")
        if address in seen:
            found.append(f"device {address}: is there twice; leave one of the two out")
        seen.add(address)
        if device.get("driver") not in (None, *DRIVERS):
            found.append(f"device {address}: driver {device['driver']!r:.40}; there is {', '.join(DRIVERS)}")
    group = spec.get("group")
    if group is not None and not _GROUP.fullmatch(str(group)):
        found.append(f"group {group!r:.40}: is no name of a group; write it like dpdk")
    if spec.get("noiommu_waiver") is not None and not str(spec["noiommu_waiver"]).strip():
        found.append("noiommu_waiver: is empty; without an IOMMU a port can write to all memory: give the id of the decision that allows it, or leave it out")
    return found


def wanted(spec: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """``{address: device}`` of a specification."""
    return {str(device["pci"]): device for device in spec.get("devices") or []}


def plan(state: PciState, spec: Mapping[str, Any]) -> Plan:
    """The ports that come, who may open them, and those that go back; raises ``SpecError`` for one that must not be taken."""
    devices = wanted(spec)
    if state.container:
        reason = f"belongs to the machine, not to this container ({state.container})"
        return Plan(tuple(unsupported(DRIVER, pci, VFIO, reason) for pci in sorted(devices)))
    going = [state.devices[pci] for pci in state.record or () if pci not in devices and pci in state.devices and state.devices[pci].driver == VFIO]
    refusals = [f"{device.pci}: goes back to the kernel, but {', '.join(device.holders)} has it open; stop that first" for device in going if device.holders]
    refusals += [problem for pci in sorted(devices) for problem in _refusals(state, spec, state.devices[pci])]
    if refusals:
        raise SpecError("; ".join(refusals))
    back = [Setting(DRIVER, device.pci, None, VFIO, reason="goes back to the kernel's own driver") for device in going]
    settings = [setting for pci in sorted(devices) for setting in _settings(state, spec, state.devices[pci])]
    return Plan((*back, *settings), _files(devices, spec) if devices or state.record is not None else ())


def _files(devices: Iterable[str], spec: Mapping[str, Any]) -> tuple[OwnedFile, ...]:
    """The record of what is ours, and the rule for who may open it at every boot."""
    head = "# Owned by lowlatency.fleet: rewritten as a whole.\n"
    record = head + "# Ports that belong to user space; without this file none is given back.\n" + "".join(f"{pci}\n" for pci in sorted(devices))
    group = spec.get("group")
    rule = f'SUBSYSTEM=="vfio", GROUP="{group}", MODE="0660"\n' if group and devices else ""
    return (OwnedFile(RULES_CONTROL, RULES, (head + rule).encode()), OwnedFile(RECORD_CONTROL, RECORD, record.encode()))


def _settings(state: PciState, spec: Mapping[str, Any], device: Device) -> list[Setting]:
    waits = device.driver != VFIO and not state.iommu and not spec.get("noiommu_waiver")
    reason = "the IOMMU is off until the next boot" if waits else ""
    driver = Setting(DRIVER, device.pci, VFIO, device.driver or None, reason=reason, needs_reboot=waits)
    group = spec.get("group")
    if device.driver == VFIO and group and device.silent:
        return [driver, unsupported(ACCESS, device.pci, f"group {group}", device.silent)]
    if device.driver != VFIO or not device.node or not group:
        return [driver]
    return [driver, Setting(ACCESS, device.pci, f"group {group}", device.node)]


# --- what must not be taken --------------------------------------------------------------------------------------------


def _refusals(state: PciState, spec: Mapping[str, Any], device: Device) -> list[str]:
    """Why a device must not be given to user space, one sentence each; nothing for one that user space has already."""
    if not device.present:
        return [f"{device.pci}: no such PCI device on this host; lspci -D shows those there are"]
    if not device.kind.startswith("0x02"):
        return [f"{device.pci}: is no network controller (class {device.kind}); only ports of NICs are given to user space"]
    if device.driver == VFIO:
        return []
    whose = f"{device.pci}{f' ({device.interfaces[0]})' if device.interfaces else ''}"
    found = []
    if device.management:
        found.append(f"{whose}: {device.management}; the management NIC is never taken from the kernel (R6)")
    found += [f"{whose}: {use}; take it out of that first" for use in device.used]
    if device.functions:
        found.append(f"{whose}: has {device.functions} virtual functions, which would go with it; remove them first (sriov_numvfs)")
    found += _driver_refusals(spec, device, whose)
    neighbours = [other for other in device.neighbours if other not in wanted(spec)]
    if neighbours:
        found.append(f"{whose}: its IOMMU group {device.group} has {', '.join(neighbours)} too, and goes to user space only as a whole; "
                     "put the NIC into a slot with a group of its own (ACS), or name those ports too")
    if not state.module:
        found.append(f"{whose}: this kernel has no module {VFIO}; install the one that has it")
    if not state.iommu and not state.table and not spec.get("noiommu_waiver"):
        found.append(f"{whose}: this host has no IOMMU at work, and the firmware tells of none; turn it on in the BIOS (VT-d, AMD-Vi), "
                     "or name the decision to go without (noiommu_waiver)")
    return found


def _driver_refusals(spec: Mapping[str, Any], device: Device, whose: str) -> list[str]:
    if device.driver in BIFURCATED:
        return [f"{whose}: DPDK drives NICs of {device.driver} beside the kernel, which keeps the port; leave it out here and give the service its address"]
    if device.driver and device.driver not in SUPPORTED and not wanted(spec)[device.pci].get("supported"):
        return [f"{whose}: DPDK is not known to have a driver for NICs of {device.driver}; say supported: true of it if yours has"]
    return []
