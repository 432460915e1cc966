# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to families of generic netlink and their answers, as bytes. Knows no family's own words, and starts no program.

Source: include/uapi/linux/netlink.h, include/uapi/linux/genetlink.h, Documentation/userspace-api/netlink/intro.rst.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

NETLINK_GENERIC = 16
SOL_NETLINK, CAP_ACK, EXT_ACK = 270, 10, 11
ERROR, DONE = 2, 3
REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
CAPPED, ACK_TLVS = 0x100, 0x200
CONTROL, GETFAMILY, FAMILY_ID, FAMILY_NAME = 0x10, 3, 1, 2
ACK_MESSAGE = 1
TYPE_MASK = 0x3FFF
_HEADER, _GENERIC, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=BBH"), struct.Struct("=HH")
_SECONDS = 10
_BUFFER = 1 << 16


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute as it goes over the wire, padded to four bytes."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(payload), kind) + payload + b"\0" * (-len(payload) % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """``{type: payload}`` of the attributes in ``data``; the last one counts where a type comes twice."""
    return dict(each_attribute(data))


def each_attribute(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes in ``data`` in their order, those of one type as often as they come."""
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if not _ATTRIBUTE.size <= length <= len(data):
            return
        yield kind & TYPE_MASK, data[_ATTRIBUTE.size:length]
        data = data[(length + 3) & ~3:]


class Netlink:
    """A socket to generic netlink, for a ``with`` statement."""

    def __init__(self) -> None:
        self._sequence = 0

    def __enter__(self) -> Netlink:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_GENERIC)
        self._socket.settimeout(_SECONDS)
        for option in (CAP_ACK, EXT_ACK):
            try:
                self._socket.setsockopt(SOL_NETLINK, option, 1)
            except OSError:
                pass  # an old kernel, whose errors have a number but no words
        self._socket.bind((0, 0))
        return self

    def __exit__(self, *_exception: object) -> None:
        self._socket.close()

    def family(self, name: str) -> int:
        """The number of a family; raises ``OSError`` (ENOENT where this kernel has none of that name)."""
        for answer in self.request(CONTROL, GETFAMILY, 1, attribute(FAMILY_NAME, name.encode() + b"\0")):
            number = attributes(answer).get(FAMILY_ID)
            if number is not None:
                return int(struct.unpack_from("=H", number)[0])
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), name)

    def request(self, family: int, command: int, version: int, attributes: bytes = b"", *, dump: bool = False) -> list[bytes]:
        """The attributes of each message of the answer; raises ``OSError`` with the kernel's own words where it gives any."""
        self._sequence += 1
        flags = REQUEST | (DUMP if dump else ACK)
        body = _GENERIC.pack(command, version, 0) + attributes
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), family, flags, self._sequence, 0) + body)
        answers: list[bytes] = []
        while True:
            data = self._socket.recv(_BUFFER)
            while len(data) >= _HEADER.size:
                length, kind, flags, sequence, _port = _HEADER.unpack_from(data)
                message, data = data[_HEADER.size:length], data[(length + 3) & ~3:]
                if sequence != self._sequence:
                    continue
                if kind in (ERROR, DONE):
                    _raise_error(message, flags)
                    return answers
                answers.append(message[_GENERIC.size:])


def _raise_error(message: bytes, flags: int) -> None:
    """Raises the error of an NLMSG_ERROR or NLMSG_DONE message; an acknowledgement has number 0."""
    number = -struct.unpack_from("=i", message)[0] if len(message) >= 4 else 0
    if not number:
        return
    words = ""
    if flags & ACK_TLVS:
        # the request's header follows, and its body too unless the kernel cut it off
        asked = struct.unpack_from("=I", message, 4)[0] if len(message) >= 4 + _HEADER.size else 0
        start = 4 + (_HEADER.size if flags & CAPPED else (asked + 3) & ~3)
        words = attributes(message[start:]).get(ACK_MESSAGE, b"").split(b"\0")[0].decode("utf-8", "replace")
    raise OSError(number, words or os.strerror(number))
