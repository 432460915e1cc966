# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NIC features through the kernel's SIOCETHTOOL ioctl: typed bits for all interfaces from one process, no text to parse.

Source: include/uapi/linux/ethtool.h, net/ethtool/ioctl.c.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from ..model.nic import EthtoolState, Feature, NicState, bits_of, identity
from ..model.setting import Setting
from .links import guard, interface_of, management_interfaces
from .machine import Host

SIOCETHTOOL = 0x8946
GDRVINFO, GSTRINGS, GSSET_INFO, GFEATURES, SFEATURES = 0x03, 0x1B, 0x37, 0x3A, 0x3B
SS_FEATURES = 4
STRING = 32


def read_ethtool(host: Host, spec: Mapping[str, Any]) -> EthtoolState:
    """The features of every NIC of ``spec['nics']``, in that order; what is wrong with one is told in its state."""
    protected = management_interfaces(host)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        return EthtoolState(tuple(_nic_state(host, nic, protected, link) for nic in spec.get("nics") or []))


def _nic_state(host: Host, nic: Mapping[str, Any], protected: Mapping[str, str], link: socket.socket) -> NicState:
    interface = interface_of(host, nic)
    if interface is None:
        known = ", ".join(host.names("/sys/class/net")) or "none"
        return NicState(identity(nic), unreadable=f"no such interface on this host; there are: {known}")
    if not host.live:
        return NicState(interface, unreadable="a captured tree does not hold NIC features")
    try:
        driver = _driver(link, interface)
        return NicState(interface, driver, _features(link, interface), guard(host, interface, protected))
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL):
            return NicState(interface, features=None, guard=guard(host, interface, protected))
        return NicState(interface, unreadable=f"{error.strerror} while its features were read")


def write_feature(host: Host, state: EthtoolState, setting: Setting) -> None:
    """Switch one feature of one NIC; raises ``OSError``. The caller reads back: the kernel may accept and not obey."""
    interface, _dot, name = setting.name.rpartition(".")
    nic = next(nic for nic in state.nics if nic.interface == interface)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        names = list(_feature_names(link, interface))
        wanted = {bit for bit, feature in bits_of(name, nic.features or {}).items() if not feature.fixed}
        blocks = (len(names) + 31) // 32
        words = [0] * (2 * blocks)
        for index, bit in enumerate(names):
            if bit in wanted:
                words[index // 32 * 2] |= 1 << index % 32
                words[index // 32 * 2 + 1] |= (setting.desired == "on") << index % 32
        _ioctl(link, interface, struct.pack(f"=II{2 * blocks}I", SFEATURES, blocks, *words))


def _driver(link: socket.socket, interface: str) -> str:
    """Driver name from struct ethtool_drvinfo; empty where the driver tells nothing."""
    try:
        answer = _ioctl(link, interface, struct.pack("=I192x", GDRVINFO))
    except OSError:
        return ""
    return answer[4:36].split(b"\0")[0].decode("ascii", "replace")


def _features(link: socket.socket, interface: str) -> dict[str, Feature]:
    """struct ethtool_get_features_block: available, requested, active, never_changed, 32 features each."""
    names = list(_feature_names(link, interface))
    blocks = (len(names) + 31) // 32
    answer = _ioctl(link, interface, struct.pack(f"=II{16 * blocks}x", GFEATURES, blocks))
    words = struct.unpack_from(f"={4 * blocks}I", answer, 8)
    found = {}
    for index, name in enumerate(names):
        available, _requested, active, never = (word >> index % 32 & 1 for word in words[index // 32 * 4:index // 32 * 4 + 4])
        if name:
            found[name] = Feature(bool(active), fixed=bool(never) or not available)
    return found


def _feature_names(link: socket.socket, interface: str) -> Iterator[str]:
    answer = _ioctl(link, interface, struct.pack("=IIQI", GSSET_INFO, 0, 1 << SS_FEATURES, 0))
    count = struct.unpack_from("=I", answer, 16)[0]
    answer = _ioctl(link, interface, struct.pack(f"=III{count * STRING}x", GSTRINGS, SS_FEATURES, count))
    for index in range(count):
        yield answer[12 + index * STRING:12 + (index + 1) * STRING].split(b"\0")[0].decode("ascii", "replace")


def _ioctl(link: socket.socket, interface: str, request: bytes) -> bytes:
    """One SIOCETHTOOL round: ``request`` begins with the command and is large enough for the answer."""
    name = os.fsencode(interface)
    if len(name) > 15:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
    buffer = array.array("B", request)
    fcntl.ioctl(link.fileno(), SIOCETHTOOL, struct.pack("16sP16x", name, buffer.buffer_info()[0]))
    return buffer.tobytes()
