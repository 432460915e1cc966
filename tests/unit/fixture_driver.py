# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NICs without a kernel: a driver that answers the ethtool ioctl with bytes, and an ethtool netlink family of plain numbers."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Mapping
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import ethtool
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.ethtool_ioctl import (
    GDRVINFO,
    GFEATURES,
    GRSSH,
    GRXCLSRLALL,
    GRXCLSRLCNT,
    GRXCLSRULE,
    GRXFH,
    GSSET_INFO,
    GSTRINGS,
    SFEATURES,
    SPECIAL_LOCATIONS,
    SRSSH,
    SRXCLSRLDEL,
    SRXCLSRLINS,
    SRXFH,
    SS_FEATURES,
    Ioctl,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.netlink import NetlinkRefusal
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.nic_parameters import Parameter

# 40 features, so that they take two words; an empty name is a bit the kernel keeps for itself.
NAMES = ["tx-scatter-gather", "rx-gro", "", "rx-lro", *(f"bit-{index}" for index in range(4, 32)), "tx-tcp-segmentation", "tx-tcp6-segmentation",
         *(f"bit-{index}" for index in range(34, 40))]
GRO, LRO, TCP4, TCP6 = (NAMES.index(name) for name in ("rx-gro", "rx-lro", "tx-tcp-segmentation", "tx-tcp6-segmentation"))
# struct ethtool_rxnfc: cmd, flow_type, data, fs, rule_cnt, rule_locs[]
FLOW_TYPE, DATA, FS, RULE_COUNT, RULE_LOCATIONS, RXNFC = 4, 8, 16, 184, 188, 192
LOCATION = FS + 160


def refused(code: int) -> OSError:
    return OSError(code, os.strerror(code))


class Driver:
    """Answers as net/ethtool/ioctl.c does. ``error`` is its answer to everything, ``errors`` to single commands."""

    def __init__(self, interface: str = "lo") -> None:
        self.interface = interface
        self.active = 1 << GRO | 1 << TCP4
        self.available = (1 << 40) - 1 & ~(1 << TCP6)
        self.never = 1 << LRO
        self.sent: list[tuple[int, int]] = []
        self.obeys = True
        self.error = 0
        self.errors: dict[int, int] = {}
        self.table: list[int] = []
        self.key = b""
        self.symmetric = 0
        self.old_rxfh = False
        self.hashes: dict[int, int] = {}
        self.rules: dict[int, bytes] = {}
        self.places = 0
        self.special = False
        self.chosen = 0

    def __call__(self, interface: str, request: bytes) -> bytes:
        assert interface == self.interface
        command = struct.unpack_from("=I", request)[0]
        if self.error or command in self.errors:
            raise refused(self.error or self.errors[command])
        answer = {GRSSH: self._rss, SRSSH: self._set_rss, GRXFH: self._hash, SRXFH: self._set_hash}.get(command, self._old)
        if command in (GRXCLSRLCNT, GRXCLSRLALL, GRXCLSRULE, SRXCLSRLDEL, SRXCLSRLINS):
            return self._rule(command, bytearray(request))
        return answer(command, request)

    def _old(self, command: int, request: bytes) -> bytes:
        if command == GDRVINFO:
            assert len(request) == 196
            return struct.pack("=I32s32s32s96x", GDRVINFO, b"igb", b"5.19.0", b"1.63, 0x800009fa")
        if command == GSSET_INFO:
            assert struct.unpack_from("=Q", request, 8)[0] == 1 << SS_FEATURES
            return struct.pack("=IIQI", GSSET_INFO, 0, 1 << SS_FEATURES, len(NAMES))
        if command == GSTRINGS:
            assert len(request) == 12 + 32 * len(NAMES), "the kernel writes this much"
            return request[:12] + b"".join(name.encode().ljust(32, b"\0") for name in NAMES)
        if command == GFEATURES:
            assert struct.unpack_from("=I", request, 4)[0] == 2 and len(request) == 8 + 2 * 16
            words = [[value >> 32 * block & 0xFFFFFFFF for value in (self.available, self.active, self.active, self.never)] for block in (0, 1)]
            return request[:8] + struct.pack("=8I", *words[0], *words[1])
        assert command == SFEATURES and len(request) == 8 + 2 * 8
        valid0, wanted0, valid1, wanted1 = struct.unpack_from("=4I", request, 8)
        valid, wanted = valid0 | valid1 << 32, wanted0 | wanted1 << 32
        self.sent.append((valid, wanted))
        if self.obeys:
            self.active = self.active & ~valid | wanted & valid
        return request

    def _rss(self, command: int, request: bytes) -> bytes:
        """struct ethtool_rxfh: cmd, rss_context, indir_size, key_size, hfunc, input_xfrm, reserved, table, key."""
        _command, context, entries, key, *_rest = struct.unpack_from("=IIIIBBBBI", request)
        head = struct.pack("=IIIIBBBBI", command, context, len(self.table), len(self.key), 1, self.symmetric, 0, 0, 0)
        assert context == 0
        if not entries and not key:
            return head + request[24:]
        if (entries, key) != (len(self.table), len(self.key)):
            raise refused(errno.EINVAL)
        assert len(request) == 24 + 4 * entries + key, "the kernel writes this much"
        return head + struct.pack(f"={entries}I", *self.table) + self.key

    def _set_rss(self, command: int, request: bytes) -> bytes:
        _command, context, entries, key, function, symmetric, *reserved = struct.unpack_from("=IIIIBBBBI", request)
        assert (context, key, function) == (0, 0, 0), "key and hash function stay"
        if any(reserved) or entries != len(self.table) or (self.old_rxfh and symmetric):
            raise refused(errno.EINVAL)
        self.symmetric = symmetric
        self.table = list(struct.unpack_from(f"={entries}I", request, 24))
        return request

    def _hash(self, command: int, request: bytes) -> bytes:
        kind = struct.unpack_from("=I", request, FLOW_TYPE)[0]
        if kind not in self.hashes:
            raise refused(errno.EINVAL)
        return request[:DATA] + struct.pack("=Q", self.hashes[kind]) + request[FS:]

    def _set_hash(self, command: int, request: bytes) -> bytes:
        kind, bits = struct.unpack_from("=IQ", request, FLOW_TYPE)
        self.hashes[kind] = bits
        return request

    def _rule(self, command: int, buffer: bytearray) -> bytes:
        assert len(buffer) >= RXNFC
        location = struct.unpack_from("=I", buffer, LOCATION)[0]
        if command == GRXCLSRLCNT:
            struct.pack_into("=Q", buffer, DATA, self.places | (SPECIAL_LOCATIONS if self.special else 0))
            struct.pack_into("=I", buffer, RULE_COUNT, len(self.rules))
        elif command == GRXCLSRLALL:
            room = struct.unpack_from("=I", buffer, RULE_COUNT)[0]
            assert len(buffer) >= RULE_LOCATIONS + 4 * room, "the kernel writes this much"
            if room < len(self.rules):
                raise refused(errno.EMSGSIZE)
            struct.pack_into("=Q", buffer, DATA, self.places)
            struct.pack_into(f"={len(self.rules)}I", buffer, RULE_LOCATIONS, *sorted(self.rules))
            struct.pack_into("=I", buffer, RULE_COUNT, len(self.rules))
        elif command == GRXCLSRULE:
            if location not in self.rules:
                raise refused(errno.ENOENT)
            buffer[FS:LOCATION + 8] = self.rules[location]
        elif command == SRXCLSRLDEL:
            if location not in self.rules:
                raise refused(errno.ENOENT)
            del self.rules[location]
        else:
            self._insert(location, bytes(buffer[FS:LOCATION + 8]))
        return bytes(buffer)

    def _insert(self, location: int, spec: bytes) -> None:
        if location == 0xFFFFFFFF:
            assert self.special
            location = self.chosen
        if location >= self.places:
            raise refused(errno.EINVAL)
        self.rules[location] = spec[:160] + struct.pack("=I4x", location)


class Family:
    """The ethtool netlink family: ``{group: {parameter: Parameter}}`` of one interface, written one request at a time.

    A group that is not there, or that is an errno, is refused; ``refuses`` has an errno for single parameters when they are written.
    """

    def __init__(self, **groups: Any) -> None:
        self.groups: dict[str, Any] = groups
        self.refuses: dict[str, int] = {}
        self.forgets: set[str] = set()
        self.writes: list[tuple[str, dict[str, int]]] = []

    def read_group(self, link: Any, interface: str, group: str) -> dict[str, Parameter]:
        held = self.groups.get(group, errno.EOPNOTSUPP)
        if isinstance(held, int):
            raise NetlinkRefusal(held, os.strerror(held))
        return dict(held)

    def write_group(self, link: Any, interface: str, group: str, values: Mapping[str, int]) -> None:
        self.writes.append((group, dict(values)))
        held = self.groups.get(group, errno.EOPNOTSUPP)
        code = held if isinstance(held, int) else next((self.refuses[name] for name in values if name in self.refuses), 0)
        if code:
            raise NetlinkRefusal(code, f"{os.strerror(code)}: the driver's own words")
        for name, value in values.items():
            if name not in self.forgets:
                held[name] = Parameter(value, held[name].maximum if name in held else None)


class Opened:
    """A socket that is none."""

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def family(self, name: str) -> int:
        return 21


def installed(monkeypatch: pytest.MonkeyPatch, driver: Driver | None = None, family: Family | None = None) -> None:
    """Have ``host.ethtool`` speak to these instead of the kernel."""
    if driver is not None:
        monkeypatch.setattr(Ioctl, "ask", lambda link, interface, request: driver(interface, request))
    if family is not None:
        monkeypatch.setattr(ethtool, "Netlink", Opened)
        monkeypatch.setattr(ethtool, "read_group", family.read_group)
        monkeypatch.setattr(ethtool, "write_group", family.write_group)
