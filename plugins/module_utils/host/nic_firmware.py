# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What NICs tell of their driver, firmware, PCIe link and NUMA node. Reads only, and starts no program.

Source: include/uapi/linux/devlink.h (DEVLINK_CMD_INFO_GET),
Documentation/ABI/testing/sysfs-bus-pci, sysfs-module.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from typing import Any

from ..model.cpuset import CpusetError, parse_cpulist
from ..model.nic import identity
from ..model.nic_firmware import Card, Driver, Firmware, Link, NicFirmwareState
from ..model.setting import Setting
from .ethtool_ioctl import Ioctl, driver_info
from .links import NET, interface_of, not_an_interface, pci_of
from .machine import Host
from .netlink import Netlink, attribute_list, attributes, text_attribute

PCI = "/sys/bus/pci/devices"
NODES = "/sys/devices/system/node"
MODULES = "/sys/module"

INFO_GET = 51
BUS_NAME, DEV_NAME, FIXED, RUNNING, STORED, VERSION_NAME, VERSION_VALUE = 1, 2, 100, 101, 102, 103, 104

OUT_OF_TREE = "O"  # Documentation/admin-guide/tainted-kernels.rst
_LANES = (1, 2, 4, 8, 12, 16, 32)
_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?GT/s")
_NODE_NAME = re.compile(r"node([0-9]{1,6})")

Info = Mapping[int, Mapping[str, str]]


def read_nic_firmware(host: Host, spec: Mapping[str, Any]) -> NicFirmwareState:
    """Every NIC of ``spec['nics']`` in that order, and the nodes of the machine; what is wrong with one NIC is told in its state."""
    with contextlib.ExitStack() as stack:
        asks = _Asks(host, stack)
        cards = tuple(_card(host, nic, asks) for nic in spec.get("nics") or [])
    nodes = _nodes(host)
    return NicFirmwareState(cards, nodes, {node: _distances(host, node, sorted(nodes)) for node in nodes})


def write_nothing(host: Host, state: NicFirmwareState, setting: Setting) -> None:
    """All settings of this domain are findings: the runner never writes one."""
    raise NotImplementedError(f"{setting.subject} is a finding")


class _Asks:
    """The ways to ask the kernel of a live machine, opened once for all NICs; devlink only where the kernel has it."""

    def __init__(self, host: Host, stack: contextlib.ExitStack) -> None:
        self.link = stack.enter_context(Ioctl()) if host.live else None
        self.netlink: Netlink | None = None
        self.devlink = 0
        if host.live:
            with contextlib.suppress(OSError):
                self.netlink = stack.enter_context(Netlink())
                self.devlink = self.netlink.family("devlink")

    def drvinfo(self, interface: str) -> tuple[str, str, str]:
        """Driver, its version and the firmware's; empty where the driver tells nothing."""
        return driver_info(self.link, interface) if self.link else ("", "", "")

    def info(self, device: str) -> Info:
        """Versions that devlink knows of a device, by kind and component; empty where it knows no such device."""
        bus, _slash, name = device.partition("/")
        if not (self.netlink and self.devlink and name):
            return {}
        wanted = text_attribute(BUS_NAME, bus) + text_attribute(DEV_NAME, name)
        try:
            answers = self.netlink.request(self.devlink, INFO_GET, 1, wanted)
        except OSError:
            return {}
        return versions_in(b"".join(answers))


def versions_in(answer: bytes) -> dict[int, dict[str, str]]:
    """``{FIXED, RUNNING or STORED: {component: version}}`` of an answer to DEVLINK_CMD_INFO_GET, in which each version is one attribute."""
    found: dict[int, dict[str, str]] = {FIXED: {}, RUNNING: {}, STORED: {}}
    for kind, payload in attribute_list(answer):
        if kind in found:
            pair = attributes(payload)
            name, value = (pair.get(part, b"").split(b"\0")[0].decode("utf-8", "replace") for part in (VERSION_NAME, VERSION_VALUE))
            found[kind][name] = value
    return found


def _card(host: Host, nic: Mapping[str, Any], asks: _Asks) -> Card:
    interface = interface_of(host, nic)
    if interface is None:
        return Card(identity(nic), unreadable=not_an_interface(host, nic))
    pci = pci_of(host, interface) or ""
    device = device_of(host, interface)
    name, version, text = asks.drvinfo(interface)
    info = asks.info(device)
    return Card(
        interface, pci, pci_id_of(host, pci), device, _driver(host, interface, name, version),
        Firmware("" if text == "N/A" else text, info.get(FIXED, {}), info.get(RUNNING, {}), info.get(STORED, {})),
        _link(host, pci) if pci else Link(), node_of(host, pci) if pci else None,
        silent="" if host.live else "a captured tree does not tell of drivers and firmware",
    )


def device_of(host: Host, interface: str) -> str:
    """The device behind an interface as devlink names it, ``pci/0000:3b:00.0``; empty for an interface without one."""
    folder = f"{NET}/{interface}/device"
    bus = host.link_name(f"{folder}/subsystem")
    return f"{bus}/{os.path.basename(os.path.realpath(host.followed(folder)))}" if bus else ""


def pci_id_of(host: Host, pci: str) -> str:
    """Vendor and device of a PCI function, ``15b3:101d``; empty where they are not told."""
    parts = [(host.read_if_there(f"{PCI}/{pci}/{part}") or "")[2:] for part in ("vendor", "device")] if pci else [""]
    return ":".join(parts) if all(parts) else ""


def module_of(host: Host, interface: str) -> str:
    """The kernel module of an interface's driver; empty for one without a device, or with a driver that is built in."""
    return host.link_name(f"{NET}/{interface}/device/driver/module") or ""


def _driver(host: Host, interface: str, told: str, version: str) -> Driver:
    """The driver: its module's own version where it has one, else what it tells, which is the kernel's for one of the kernel's tree."""
    name = told or host.link_name(f"{NET}/{interface}/device/driver") or ""
    module = f"{MODULES}/{module_of(host, interface) or name}"
    taint = host.read_if_there(f"{module}/taint") or "" if name else ""
    own = host.read_if_there(f"{module}/version") or "" if name else ""
    return Driver(name, own or version, OUT_OF_TREE in taint)


def _link(host: Host, pci: str) -> Link:
    folder = f"{PCI}/{pci}"
    port = os.path.basename(os.path.dirname(os.path.realpath(host.followed(folder))))
    above = f"{PCI}/{port}"
    return Link(
        _width(host, f"{folder}/current_link_width"), _width(host, f"{folder}/max_link_width"),
        _speed(host, f"{folder}/current_link_speed"), _speed(host, f"{folder}/max_link_speed"),
        _width(host, f"{above}/max_link_width"), _speed(host, f"{above}/max_link_speed"),
    )


def _width(host: Host, name: str) -> int:
    """Lanes of a link; 0 where there is no file, or it holds none of PCIe's widths (0 and 255 mean unknown)."""
    text = host.read_if_there(name) or ""
    return int(text) if text.isdigit() and int(text) in _LANES else 0


def _speed(host: Host, name: str) -> float:
    """GT/s of a link: ``8.0 GT/s PCIe``, ``8 GT/s``; 0 for ``Unknown`` and where there is no file."""
    match = _RATE.match(host.read_if_there(name) or "")
    return float(match.group(1)) if match else 0.0


def node_of(host: Host, pci: str) -> int:
    """The NUMA node of a PCI device; -1 where the firmware tells none."""
    try:
        return int(host.read_if_there(f"{PCI}/{pci}/numa_node") or -1)
    except ValueError:
        return -1


def _nodes(host: Host) -> dict[int, frozenset[int]]:
    """The online CPUs of each NUMA node; empty for a kernel without NUMA. Documentation/ABI/stable/sysfs-devices-node."""
    found = {}
    for match in filter(None, map(_NODE_NAME.fullmatch, host.names(NODES))):
        try:
            found[int(match[1])] = parse_cpulist(host.read_if_there(f"{NODES}/{match[0]}/cpulist") or "")
        except CpusetError:
            found[int(match[1])] = frozenset()
    return found


def _distances(host: Host, node: int, nodes: list[int]) -> dict[int, int]:
    row = (host.read_if_there(f"{NODES}/node{node}/distance") or "").split()
    return dict(zip(nodes, map(int, row))) if len(row) == len(nodes) and all(word.isdigit() for word in row) else {}
