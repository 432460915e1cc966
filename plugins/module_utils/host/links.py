# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which interface a NIC of the inventory is, and which interfaces keep this host reachable."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Mapping
from typing import Any

from .machine import Host

SIOCGIFADDR = 0x8915
NET = "/sys/class/net"


def interface_of(host: Host, nic: Mapping[str, Any]) -> str | None:
    """The interface name of a NIC given by ``interface``, ``pci`` or ``mac``; None when there is none."""
    if nic.get("interface"):
        name = str(nic["interface"])
        return name if "/" not in name and name not in (".", "..") and host.exists(f"{NET}/{name}") else None
    if nic.get("pci"):
        return next((name for name in host.names(NET) if pci_of(host, name) == str(nic["pci"]).lower()), None)
    wanted = str(nic.get("mac", "")).lower()
    return next((name for name in host.names(NET) if wanted and (host.read_if_there(f"{NET}/{name}/address") or "").lower() == wanted
                 and host.exists(f"{NET}/{name}/device")), None)


def not_an_interface(host: Host, nic: Mapping[str, Any]) -> str:
    """Why an entry is none of this host's interfaces."""
    address = str(nic.get("pci") or "").lower()
    kind = host.read_if_there(f"/sys/bus/pci/devices/{address}/class") if address and "/" not in address else None
    if kind is not None and not kind.startswith("0x02"):
        return f"PCI device {address} is no network controller (class {kind}, driver {host.link_name(f'/sys/bus/pci/devices/{address}/driver') or 'none'})"
    if kind is not None:
        bound = host.link_name(f"/sys/bus/pci/devices/{address}/driver")
        return f"PCI device {address} has no interface: {f'driver {bound} gives it none' if bound else 'no driver is bound to it'}"
    return f"no such interface on this host; there are: {', '.join(host.names(NET)) or 'none'}"


def pci_of(host: Host, interface: str) -> str | None:
    """The PCI address behind an interface, None for a virtual one."""
    device = os.path.realpath(host.followed(f"{NET}/{interface}/device"))
    # virtio: the interface's device is the virtio one, the PCI function is its parent
    for path in (device, os.path.dirname(device)):
        address = os.path.basename(path)
        if address and host.exists(f"/sys/bus/pci/devices/{address}"):
            return address
    return None


def management_interfaces(host: Host) -> dict[str, str]:
    """``{interface: why}`` for the interfaces of default routes and of this SSH session, and what lies below them."""
    found = dict.fromkeys(_default_route_interfaces(host), "carries the default route")
    session = _session_interface(host)
    if session:
        found[session] = "carries this SSH connection"
    for upper, why in list(found.items()):
        for lower in _lowers(host, upper):
            found.setdefault(lower, f"{why} (below {upper})")
    return found


def guard(host: Host, interface: str, protected: Mapping[str, str]) -> str:
    """Why ``interface`` must not be reconfigured, or nothing."""
    return f"{interface} {protected[interface]}" if interface in protected else ""


def _default_route_interfaces(host: Host) -> list[str]:
    """Interfaces of up default routes (Documentation/filesystems/proc.rst: /proc/net/route, ipv6_route)."""
    found = []
    for line in (host.read_if_there("/proc/net/route") or "").splitlines()[1:]:
        words = line.split()
        if len(words) > 7 and words[1] == words[7] == "00000000" and int(words[3], 16) & 1:
            found.append(words[0])
    for line in (host.read_if_there("/proc/net/ipv6_route") or "").splitlines():
        words = line.split()
        if len(words) == 10 and words[0] == "0" * 32 and words[1] == "00" and words[9] != "lo":
            found.append(words[9])
    return found


def _lowers(host: Host, interface: str) -> list[str]:
    found = [name[len("lower_"):] for name in host.names(f"{NET}/{interface}") if name.startswith("lower_")]
    return found + [deeper for name in found for deeper in _lowers(host, name)]


def _session_interface(host: Host) -> str | None:
    """The interface that holds the server address of the SSH session we run in; None outside one."""
    address = _session_address() if host.live else None
    if not address or ":" in address:
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        for name in host.names(NET):
            try:
                answer = fcntl.ioctl(link.fileno(), SIOCGIFADDR, struct.pack("40s", os.fsencode(name)))
            except OSError:
                continue
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    return None


def _session_address() -> str | None:
    """Third word of SSH_CONNECTION, looked for in our parents too, since sudo drops it."""
    pid = os.getpid()
    while pid > 1:
        try:
            with open(f"/proc/{pid}/environ", "rb") as stream:
                for variable in stream.read().split(b"\0"):
                    if variable.startswith(b"SSH_CONNECTION="):
                        return variable.partition(b"=")[2].split()[2].decode()
            with open(f"/proc/{pid}/stat", "rb") as stream:
                pid = int(stream.read().rpartition(b")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            return None
    return None
