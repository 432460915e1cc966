# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The structures that a BIOS describes its machine with: memory devices and slots. Pure: no I/O.

Source: DMTF DSP0134 (System Management BIOS Reference Specification), sections 6.1.2, 7.10 (System Slots, type 9), 7.18 (Memory Device, type 17).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_SLOT, _MEMORY_DEVICE, _END = 9, 17, 127
_SIZE_UNKNOWN, _SIZE_IN_EXTENDED = 0xFFFF, 0x7FFF
_SOCKET = re.compile(r"(?:CPU|PROC|PROCESSOR|SOCKET|NODE|P)[ _-]?([0-9])", re.IGNORECASE)
_LETTER = re.compile(r"([A-H])[0-9]{1,2}")


@dataclass(frozen=True)
class MemoryDevice:
    """One slot for memory: ``mib`` is 0 where it is empty, ``rated`` and ``configured`` are MT/s, 0 where not told."""

    locator: str
    bank: str
    mib: int
    rated: int = 0
    configured: int = 0

    @property
    def socket(self) -> str:
        """The CPU socket it belongs to, as its name tells (``CPU1_DIMM_A1``, ``PROC 2 DIMM 3``, ``P0_Node1_Channel0_Dimm0``, ``B4``); empty
        where it does not."""
        for text in (self.locator, self.bank):
            told = _SOCKET.search(text)
            if told:
                return told[1]
        letter = _LETTER.fullmatch(self.locator)
        return letter[1] if letter else ""


@dataclass(frozen=True)
class Slot:
    """One expansion slot: what it is called, and the PCI address of what sits in it (empty where not told)."""

    designation: str
    pci: str


@dataclass(frozen=True)
class Structure:
    """One structure: its formatted area from the type byte on, and its strings."""

    kind: int
    area: bytes
    strings: tuple[str, ...]

    def byte(self, offset: int) -> int:
        return self.area[offset] if offset < len(self.area) else 0

    def word(self, offset: int) -> int:
        return int.from_bytes(self.area[offset:offset + 2], "little") if offset + 2 <= len(self.area) else 0

    def double(self, offset: int) -> int:
        return int.from_bytes(self.area[offset:offset + 4], "little") if offset + 4 <= len(self.area) else 0

    def text(self, offset: int) -> str:
        """The string that the byte at ``offset`` numbers from 1; empty where there is none."""
        number = self.byte(offset)
        return self.strings[number - 1] if 0 < number <= len(self.strings) else ""


def structures(table: bytes) -> Iterator[Structure]:
    """The structures of ``/sys/firmware/dmi/tables/DMI``; ends where the table does, or where it is cut."""
    at = 0
    while at + 4 <= len(table):
        kind, length = table[at], table[at + 1]
        end = table.find(b"\0\0", at + length)
        if length < 4 or end < 0:
            return
        texts = tuple(text.decode("latin-1").strip() for text in table[at + length:end].split(b"\0") if text)
        yield Structure(kind, table[at:at + length], texts)
        if kind == _END:
            return
        at = end + 2


def memory_devices(table: bytes) -> tuple[MemoryDevice, ...]:
    """All slots for memory, empty ones too, in the order of the table."""
    return tuple(MemoryDevice(item.text(0x10), item.text(0x11), _mib(item), item.word(0x15), item.word(0x20))
                 for item in structures(table) if item.kind == _MEMORY_DEVICE)


def _mib(item: Structure) -> int:
    size = item.word(0x0C)
    if size in (0, _SIZE_UNKNOWN):
        return 0
    if size == _SIZE_IN_EXTENDED:
        return item.double(0x1C) & 0x7FFFFFFF
    return (size & 0x7FFF) >> 10 if size & 0x8000 else size


def slots(table: bytes) -> tuple[Slot, ...]:
    """The expansion slots, in the order of the table."""
    return tuple(Slot(item.text(0x04), _address(item)) for item in structures(table) if item.kind == _SLOT)


def _address(item: Structure) -> str:
    segment, bus, function = item.word(0x0D), item.byte(0x0F), item.byte(0x10)
    known = len(item.area) > 0x10 and segment != 0xFFFF and bus != 0xFF and function != 0xFF
    return f"{segment:04x}:{bus:02x}:{function >> 3:02x}.{function & 7}" if known else ""
