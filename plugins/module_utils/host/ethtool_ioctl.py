# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NIC features, versions, RSS and steering rules through the SIOCETHTOOL ioctl, which has what ethtool's netlink family has not or not everywhere.

Source: include/uapi/linux/ethtool.h, net/ethtool/ioctl.c.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence

from ..model.nic import Feature
from ..model.steering import HASH_LETTERS, Rule
from .flow_spec import SPEC_SIZE, packed, unpacked

SIOCETHTOOL = 0x8946
GDRVINFO, GSTRINGS, GSSET_INFO, GFEATURES, SFEATURES = 0x03, 0x1B, 0x37, 0x3A, 0x3B
GRXFH, SRXFH, GRXCLSRLCNT, GRXCLSRULE, GRXCLSRLALL, SRXCLSRLDEL, SRXCLSRLINS, GRSSH, SRSSH = 0x29, 0x2A, 0x2E, 0x2F, 0x30, 0x31, 0x32, 0x46, 0x47
SS_FEATURES = 4
STRING = 32
HASH_CODES = {"tcp4": 0x01, "udp4": 0x02, "sctp4": 0x03, "ah4": 0x04, "tcp6": 0x05, "udp6": 0x06, "sctp6": 0x07, "ah6": 0x08}
# struct ethtool_rxnfc: cmd, flow_type, data, fs (SPEC_SIZE bytes), rule_cnt, rule_locs[]
_RXNFC = struct.Struct(f"=IIQ{SPEC_SIZE}sI")
_RXNFC_SIZE = 192
ANY_LOCATION, SPECIAL_LOCATIONS = 0xFFFFFFFF, 0x80000000
# struct ethtool_rxfh: cmd, rss_context, indir_size, key_size, hfunc (0: stays), input_xfrm, reserved, then the table
_RXFH = struct.Struct("=IIIIBBxxI")


class Ioctl:
    """A socket for SIOCETHTOOL, for use in a ``with`` statement; every method raises ``OSError``."""

    def __enter__(self) -> Ioctl:
        self._link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        return self

    def __exit__(self, *_error: object) -> None:
        self._link.close()

    def ask(self, interface: str, request: bytes) -> bytes:
        """One round: ``request`` begins with the command and is large enough for the answer."""
        name = os.fsencode(interface)
        if len(name) > 15:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        buffer = array.array("B", request)
        fcntl.ioctl(self._link.fileno(), SIOCETHTOOL, struct.pack("16sP16x", name, buffer.buffer_info()[0]))
        return buffer.tobytes()


def driver_info(link: Ioctl, interface: str) -> tuple[str, str, str]:
    """Driver, its version and the firmware's (struct ethtool_drvinfo); empty where the driver tells nothing."""
    try:
        answer = link.ask(interface, struct.pack("=I192x", GDRVINFO))
    except OSError:
        return "", "", ""
    driver, version, firmware = (answer[start:start + 32].split(b"\0")[0].decode("ascii", "replace").strip() for start in (4, 36, 68))
    return driver, version, firmware


def features(link: Ioctl, interface: str) -> dict[str, Feature]:
    """``{kernel's name: Feature}`` (struct ethtool_get_features_block: available, requested, active, never_changed, 32 each)."""
    names = list(_feature_names(link, interface))
    blocks = (len(names) + 31) // 32
    answer = link.ask(interface, struct.pack(f"=II{16 * blocks}x", GFEATURES, blocks))
    words = struct.unpack_from(f"={4 * blocks}I", answer, 8)
    found = {}
    for index, name in enumerate(names):
        available, _requested, active, never = (word >> index % 32 & 1 for word in words[index // 32 * 4:index // 32 * 4 + 4])
        if name:
            found[name] = Feature(bool(active), fixed=bool(never) or not available)
    return found


def set_features(link: Ioctl, interface: str, wanted: Mapping[str, bool]) -> None:
    """Switch feature bits, all in one request. The caller reads back: the kernel may accept and not obey."""
    names = list(_feature_names(link, interface))
    blocks = (len(names) + 31) // 32
    words = [0] * (2 * blocks)
    for index, bit in enumerate(names):
        if bit in wanted:
            words[index // 32 * 2] |= 1 << index % 32
            words[index // 32 * 2 + 1] |= wanted[bit] << index % 32
    link.ask(interface, struct.pack(f"=II{2 * blocks}I", SFEATURES, blocks, *words))


def _feature_names(link: Ioctl, interface: str) -> Iterator[str]:
    answer = link.ask(interface, struct.pack("=IIQI", GSSET_INFO, 0, 1 << SS_FEATURES, 0))
    count = struct.unpack_from("=I", answer, 16)[0]
    answer = link.ask(interface, struct.pack(f"=III{count * STRING}x", GSTRINGS, SS_FEATURES, count))
    for index in range(count):
        yield answer[12 + index * STRING:12 + (index + 1) * STRING].split(b"\0")[0].decode("ascii", "replace")


def indirection(link: Ioctl, interface: str) -> tuple[int, ...]:
    """The RSS indirection table: the queue of each entry."""
    size, key = _RXFH.unpack(link.ask(interface, _RXFH.pack(GRSSH, 0, 0, 0, 0, 0, 0)))[2:4]
    if not size:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    answer = link.ask(interface, _RXFH.pack(GRSSH, 0, size, key, 0, 0, 0) + bytes(4 * size + key))
    return struct.unpack_from(f"={size}I", answer, _RXFH.size)


def set_indirection(link: Ioctl, interface: str, entries: Sequence[int]) -> None:
    """Write the RSS indirection table; key and hash function stay, and whether the hash is symmetric, which has no value for "as it is" before Linux 6.8."""
    symmetric = _RXFH.unpack(link.ask(interface, _RXFH.pack(GRSSH, 0, 0, 0, 0, 0, 0)))[5]
    link.ask(interface, _RXFH.pack(SRSSH, 0, len(entries), 0, 0, symmetric, 0) + struct.pack(f"={len(entries)}I", *entries))


def hash_fields(link: Ioctl, interface: str, flow_type: str) -> str:
    """Which fields of a packet type are hashed, in ethtool's letters."""
    answer = link.ask(interface, _rxnfc(GRXFH, HASH_CODES[flow_type]))
    bits = _RXNFC.unpack_from(answer)[2]
    return "".join(letter for bit, letter in enumerate(HASH_LETTERS, start=1) if bits >> bit & 1)


def set_hash_fields(link: Ioctl, interface: str, flow_type: str, letters: str) -> None:
    """Choose the hashed fields of a packet type."""
    link.ask(interface, _rxnfc(SRXFH, HASH_CODES[flow_type], sum(1 << HASH_LETTERS.index(letter) + 1 for letter in letters)))


def rules(link: Ioctl, interface: str) -> tuple[Rule, ...]:
    """The steering rules in place, each with its location."""
    count = _RXNFC.unpack_from(link.ask(interface, _rxnfc(GRXCLSRLCNT)))[4]
    _size, places = _places(link, interface, count)
    return tuple(unpacked(_RXNFC.unpack_from(link.ask(interface, _rxnfc(GRXCLSRULE, fs=struct.pack(f"={SPEC_SIZE - 8}xI4x", place))))[3])
                 for place in places)


def insert_rule(link: Ioctl, interface: str, rule: Rule) -> None:
    """Add a steering rule, at its own location, or where the driver wants it, or at the last free one."""
    answer = _RXNFC.unpack_from(link.ask(interface, _rxnfc(GRXCLSRLCNT)))
    location = rule.location
    if location is None:
        location = ANY_LOCATION if answer[2] & SPECIAL_LOCATIONS else _last_free(link, interface, answer[4])
    link.ask(interface, _rxnfc(SRXCLSRLINS, fs=packed(rule, location)))


def _places(link: Ioctl, interface: str, count: int) -> tuple[int, tuple[int, ...]]:
    """How many places for rules there are, and which of them are taken; no more than ``count``, and fewer where one went meanwhile."""
    answer = link.ask(interface, _rxnfc(GRXCLSRLALL, count=count, room=4 * count))
    _command, _flow, size, _spec, found = _RXNFC.unpack_from(answer)
    return size, struct.unpack_from(f"={min(count, found)}I", answer, _RXNFC.size)


def _last_free(link: Ioctl, interface: str, count: int) -> int:
    size, taken = _places(link, interface, count)
    free = next((place for place in range(size - 1, -1, -1) if place not in taken), None)
    if free is None:
        raise OSError(errno.ENOSPC, f"all {size} places for steering rules are taken")
    return free


def delete_rule(link: Ioctl, interface: str, location: int) -> None:
    """Remove the steering rule at a location."""
    link.ask(interface, _rxnfc(SRXCLSRLDEL, fs=struct.pack(f"={SPEC_SIZE - 8}xI4x", location)))


def _rxnfc(command: int, flow_type: int = 0, data: int = 0, *, fs: bytes = b"", count: int = 0, room: int = 0) -> bytes:
    return _RXNFC.pack(command, flow_type, data, fs.ljust(SPEC_SIZE, b"\0"), count).ljust(_RXNFC_SIZE + room, b"\0")
