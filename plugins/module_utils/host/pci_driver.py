# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which driver has a PCI device, what it is used for, and giving it to another driver by driver_override.

Source: Documentation/ABI/testing/sysfs-bus-pci, sysfs-kernel-iommu_groups, Documentation/driver-api/vfio.rst.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from typing import Any

from ..model.pci_driver import ACCESS, RECORD, ROOT_ONLY, VFIO, Device, PciState, wanted
from ..model.setting import Setting
from .container import container_kind
from .files import write_kernel_file
from .hugepages import group_name
from .links import NET, management_interfaces
from .machine import Host
from .programs import ProgramFailed, output_of

PCI = "/sys/bus/pci"
DEVICES = f"{PCI}/devices"
GROUPS = "/sys/kernel/iommu_groups"
TABLES = "/sys/firmware/acpi/tables"
NOIOMMU = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"
# Of a route that makes an interface one in use; these are the kernel's own.
_NO_USE = ("local", "broadcast", "multicast", "anycast")


def read_pci(host: Host, spec: Mapping[str, Any]) -> PciState:
    """The devices that are wanted or in the record; raises ``ProgramFailed`` where the kernel's routes cannot be read."""
    devices = wanted(spec)
    text = host.read_if_there(RECORD)
    record = None if text is None else tuple(line for line in text.splitlines() if line and not line.startswith("#"))
    container = container_kind(host)
    if container or not (devices or record):
        return PciState(container=container, record=record)
    management = management_interfaces(host)
    routes = _routed(host)
    return PciState(
        devices={pci: _device(host, pci, management, routes, held=pci not in devices) for pci in {*devices, *(record or ())}},
        iommu=bool(host.names(GROUPS)),
        table=next((name for name in ("DMAR", "IVRS") if host.exists(f"{TABLES}/{name}")), ""),
        module=_has_module(host),
        record=record,
    )


def _device(host: Host, pci: str, management: Mapping[str, str], routes: Mapping[str, str], *, held: bool) -> Device:
    """One device; who has it open is looked for only where it is ``held`` against the wish."""
    folder = f"{DEVICES}/{pci}"
    kind = host.read_if_there(f"{folder}/class")
    if kind is None:
        return Device(pci, present=False)
    # virtio: the interface is below the virtio device of the function
    below = [f"{folder}/net", *(f"{folder}/{name}/net" for name in host.names(folder) if name.startswith("virtio"))]
    interfaces = tuple(name for place in below for name in host.names(place))
    group = host.link_name(f"{folder}/iommu_group") or ""
    functions = host.read_if_there(f"{folder}/sriov_numvfs") or "0"
    return Device(
        pci, kind=kind, driver=host.link_name(f"{folder}/driver") or "", interfaces=interfaces,
        management=next((f"{name} {management[name]}" for name in interfaces if name in management), ""),
        used=tuple(use for name in interfaces for use in _uses(host, name, routes)),
        functions=int(functions) if functions.isdecimal() else 0,
        group=group, neighbours=_neighbours(host, pci, group), node=_who_may_open(host, group),
        holders=tuple(_holders(host, group)) if held and group else (),
        silent="a captured tree has no devices" if host.captured else "",
    )


def _uses(host: Host, interface: str, routes: Mapping[str, str]) -> list[str]:
    """What else than the kernel itself counts on an interface."""
    names = host.names(f"{NET}/{interface}")
    master = host.link_name(f"{NET}/{interface}/master")
    found = [f"{interface} is part of {master} (bond, bridge or team)"] if master else []
    found += [f"{name[len('upper_'):]} lies on {interface}" for name in names if name.startswith("upper_") and name[len("upper_"):] != master]
    return found + ([f"{interface} is used by the route {routes[interface]}"] if interface in routes else [])


def _routed(host: Host) -> dict[str, str]:
    """``{interface: one of its routes}`` of all tables, but for those that every interface has; raises ``ProgramFailed``."""
    if not host.live:
        lines = [line.split() for line in (host.read_if_there("/proc/net/route") or "").splitlines()[1:]]
        return {words[0]: words[1] for words in lines if len(words) > 1}
    found: dict[str, str] = {}
    for family in ("-4", "-6"):
        try:
            entries = json.loads(output_of("ip", "-j", family, "route", "show", "table", "all") or "[]")
        except ProgramFailed:
            if family == "-4":
                raise
            continue  # a kernel without IPv6
        for entry in entries:
            own = entry.get("type") in _NO_USE or str(entry.get("dst", "")).startswith(("fe80:", "ff00:"))
            for hop in [entry, *entry.get("nexthops", [])]:
                if not own and hop.get("dev"):
                    found.setdefault(hop["dev"], str(entry.get("dst", "")))
    return found


def _neighbours(host: Host, pci: str, group: str) -> tuple[str, ...]:
    """The other devices of an IOMMU group that drivers of the kernel have; bridges and devices without a driver do not count."""
    others = [name for name in host.names(f"{GROUPS}/{group}/devices") if name != pci] if group else []
    drivers = {name: host.link_name(f"{DEVICES}/{name}/driver") for name in others}
    return tuple(name for name, driver in drivers.items() if driver not in (None, VFIO, "pcieport"))


def _who_may_open(host: Host, group: str) -> str:
    """Who may open the device of an IOMMU group: the group of users, or root alone; empty where there is no such device."""
    for name in (group, f"noiommu-{group}"):
        try:
            found = os.stat(host.followed(f"/dev/vfio/{name}"))
        except OSError:
            continue
        if group:
            return f"group {group_name(host, str(found.st_gid))}" if found.st_mode & stat.S_IRGRP and found.st_gid else ROOT_ONLY
    return ""


def _holders(host: Host, group: str) -> Iterator[str]:
    """The processes that have the device of an IOMMU group open."""
    nodes = (f"/dev/vfio/{group}", f"/dev/vfio/noiommu-{group}")
    for pid in host.names("/proc"):
        if pid.isdecimal() and any(open_file(host, pid, number) in nodes for number in host.names(f"/proc/{pid}/fd")):
            yield f"{host.read_if_there(f'/proc/{pid}/comm')} (process {pid})"


def open_file(host: Host, pid: str, number: str) -> str:
    """What a file descriptor of a process is; empty where that cannot be told."""
    try:
        return os.readlink(host.path(f"/proc/{pid}/fd/{number}"))
    except OSError:
        return ""


def _has_module(host: Host) -> bool:
    """Whether the kernel that runs has vfio-pci, loaded, built in or to be loaded."""
    if host.exists(f"{PCI}/drivers/{VFIO}"):
        return True
    release = host.read_if_there("/proc/sys/kernel/osrelease") or ""
    folder = f"/lib/modules/{release}"
    return any("/vfio-pci.ko" in (host.read_if_there(f"{folder}/{name}") or "") for name in ("modules.dep", "modules.builtin"))


# --- writing ----------------------------------------------------------------------------------------------------------


def write_pci(host: Host, state: PciState, setting: Setting) -> None:
    """Give a device to the driver of the setting, or open it to a group; any driver but vfio-pci means the kernel's own.

    Raises ``OSError`` or ``ProgramFailed``.
    """
    if setting.control == ACCESS:
        _open_to(host, setting.name, str(setting.desired).rpartition(" ")[2])
    elif setting.desired == VFIO:
        if host.live:
            output_of("modprobe", VFIO)
        if not host.names(GROUPS):
            write_kernel_file(host, NOIOMMU, "Y")
        _rebind(host, setting.name, VFIO)
    else:
        _rebind(host, setting.name, "")


def _rebind(host: Host, pci: str, override: str) -> None:
    """Let go of a device, and have the kernel look for its driver anew."""
    folder = f"{DEVICES}/{pci}"
    driver = host.link_name(f"{folder}/driver")
    holders = list(_holders(host, host.link_name(f"{folder}/iommu_group") or "")) if driver == VFIO and override != VFIO else []
    if holders:
        # the kernel would wait for them, for ever
        raise OSError(f"{', '.join(holders)} has {pci} open; stop that first")
    # a newline is how the kernel forgets it
    write_kernel_file(host, f"{folder}/driver_override", override or "\n")
    if driver and driver != override:
        write_kernel_file(host, f"{folder}/driver/unbind", pci)
    write_kernel_file(host, f"{PCI}/drivers_probe", pci)
    if host.live and not override:
        # the interface gets its name from udev
        output_of("udevadm", "settle", "--timeout=30")


def _open_to(host: Host, pci: str, group: str) -> None:
    """Let a group open the device of an IOMMU group, as udev's rule does from the next boot on."""
    number = host.link_name(f"{DEVICES}/{pci}/iommu_group") or ""
    for name in (number, f"noiommu-{number}"):
        path = host.path(f"/dev/vfio/{name}")
        if os.path.exists(path):
            try:
                shutil.chown(path, group=group)
            except LookupError as error:
                raise OSError(f"{error}; the role dpdk makes the group") from error
            os.chmod(path, 0o660)
