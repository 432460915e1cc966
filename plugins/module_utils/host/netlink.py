# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Netlink: typed questions to the kernel and its answers, with the errno and the words of a refusal. No library, no fork.

Source: Documentation/userspace-api/netlink/intro.rst, include/uapi/linux/netlink.h, include/uapi/linux/genetlink.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from types import TracebackType

ROUTE, GENERIC = 0, 16
CONTROL_FAMILY, GET_FAMILY = 0x10, 3
FAMILY_ID, FAMILY_NAME = 1, 2
REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
REPLACE, CREATE = 0x100, 0x400
ERROR, DONE = 2, 3
CAPPED, HAS_WORDS = 0x100, 0x200
WORDS = 1
SOL_NETLINK, CAP_ACK, EXT_ACK = 270, 10, 11
ATTRIBUTE_TYPE = 0x3FFF
NESTED = 0x8000
_HEADER = struct.Struct("=IHHII")
_GENERIC_HEADER = struct.Struct("=BBxx")
_TIME_LIMIT = 10


class NetlinkRefusal(OSError):
    """The kernel said no: its errno, and its own words where it gives any."""


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to four bytes; a nested one has the attributes inside as payload and ``kind | NESTED``."""
    return struct.pack("=HH", 4 + len(payload), kind) + payload + b"\0" * (-len(payload) % 4)


def text_attribute(kind: int, text: str) -> bytes:
    """One attribute that holds a string."""
    return attribute(kind, os.fsencode(text) + b"\0")


def attributes(data: bytes) -> dict[int, bytes]:
    """``{kind: payload}`` of the attributes in ``data``; of several of one kind, the last. Stops where the data is cut."""
    return dict(attribute_list(data))


def attribute_list(data: bytes) -> list[tuple[int, bytes]]:
    """``(kind, payload)`` of every attribute in ``data``, in order. Stops where the data is cut."""
    found = []
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if not 4 <= length <= len(data):
            break
        found.append((kind & ATTRIBUTE_TYPE, data[4:length]))
        data = data[length + (-length % 4):]
    return found


def number(payload: bytes) -> int:
    """An unsigned number of one to eight bytes in the byte order of this machine."""
    return int.from_bytes(payload, sys.byteorder)


class Netlink:
    """A netlink socket of one protocol, for use in a ``with`` statement; every method raises ``OSError``."""

    def __init__(self, protocol: int = GENERIC) -> None:
        self._protocol = protocol
        self._families: dict[str, int] = {}
        self._sequence = 0

    def __enter__(self) -> Netlink:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, self._protocol)
        self._socket.settimeout(_TIME_LIMIT)
        for option in (CAP_ACK, EXT_ACK):
            self._socket.setsockopt(SOL_NETLINK, option, 1)
        self._socket.bind((0, 0))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.close()

    def family(self, name: str) -> int:
        """Number of a generic netlink family; raises ``OSError`` (ENOENT) where this kernel has none of that name."""
        if name not in self._families:
            answers = self.request(CONTROL_FAMILY, GET_FAMILY, 1, text_attribute(FAMILY_NAME, name))
            self._families[name] = number(attributes(answers[0])[FAMILY_ID])
        return self._families[name]

    def request(self, family: int, command: int, version: int, asked: bytes, *, dump: bool = False) -> list[bytes]:
        """The attributes of every generic message the kernel answers with; raises ``NetlinkRefusal``."""
        answers = self.exchange(family, DUMP if dump else ACK, _GENERIC_HEADER.pack(command, version) + asked)
        return [answer[_GENERIC_HEADER.size:] for answer in answers]

    def exchange(self, kind: int, flags: int, body: bytes) -> list[bytes]:
        """Every message the kernel answers with, behind its header; ``flags`` has ``ACK`` or ``DUMP``. Raises ``NetlinkRefusal``."""
        self._sequence += 1
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, REQUEST | flags, self._sequence, 0) + body)
        answers: list[bytes] = []
        while not self._received(answers):
            pass
        return answers

    def _received(self, answers: list[bytes]) -> bool:
        """Take one datagram; whether it ended the answer."""
        data = self._socket.recv(1 << 17)
        while len(data) >= _HEADER.size:
            length, kind, flags, sequence, _port = _HEADER.unpack_from(data)
            if not _HEADER.size <= length <= len(data):
                raise OSError(errno.EBADMSG, "netlink: a message of the kernel is cut")
            message, data = data[_HEADER.size:length], data[length + (-length % 4):]
            if sequence != self._sequence:
                continue
            if kind in (ERROR, DONE):
                _raise_refusal(kind, message, flags)
                return True
            answers.append(message)
        return False


def _raise_refusal(kind: int, message: bytes, flags: int) -> None:
    """Raise what the end of an answer says; a zero is the kernel's yes. An error repeats the request, or its header, before the words."""
    code = -struct.unpack_from("=i", message)[0] if len(message) >= 4 else 0
    if not code:
        return
    said = b""
    if flags & HAS_WORDS and (kind == DONE or len(message) >= 4 + _HEADER.size):
        skipped = 0 if kind == DONE else _HEADER.size if flags & CAPPED else _HEADER.unpack_from(message, 4)[0]
        said = attributes(message[4 + skipped + (-skipped % 4):]).get(WORDS, b"")
    words = said.rstrip(b"\0").decode("utf-8", "replace")
    raise NetlinkRefusal(code, f"{os.strerror(code)}: {words}" if words else os.strerror(code))
