# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables as a BIOS writes them, whole and broken."""

from __future__ import annotations

import struct

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.smbios import (
    MemoryDevice,
    Slot,
    memory_devices,
    slots,
)
from hypothesis import given
from hypothesis import strategies as st


def structure(kind: int, body: bytes, *texts: str) -> bytes:
    """One structure as DSP0134 6.1.2 has it: header, formatted area, strings, two NULs."""
    strings = b"".join(text.encode() + b"\0" for text in texts) or b"\0"
    return struct.pack("<BBH", kind, 4 + len(body), 0x1000 + kind) + body + strings + b"\0"


def memory(size: int, locator: str, bank: str = "", *, extended: int = 0, rated: int = 0, configured: int = 0) -> bytes:
    """Memory Device, table 7.18, up to the configured speed."""
    body = struct.pack("<HHHHHBBBBBHHBBBBBIH", 0x1000, 0xFFFE, 72, 64, size, 9, 0, 1, 2 if bank else 0, 0x1A, 0, rated, 0, 0, 0, 0, 0, extended, configured)
    return structure(17, body, locator, *([bank] if bank else []))


def slot(name: str, segment: int, bus: int, function: int) -> bytes:
    return structure(9, struct.pack("<BBBBBHBBHBB", 1, 0xA5, 0x0D, 4, 4, 1, 0, 0, segment, bus, function), name)


END = structure(127, b"")


def test_modules_in_every_way_of_writing_their_size() -> None:
    table = (structure(0, b"\1\2", "Dell Inc.", "2.21.2") + memory(16384, "A1", rated=3200, configured=2933) + memory(0, "A2")
             + memory(0x7FFF, "CPU2_DIMM_B1", "NODE 1", extended=65536, rated=4800) + memory(0xFFFF, "X1") + memory(0x8000 | 2048, "P1-DIMMA1") + END)
    assert memory_devices(table) == (
        MemoryDevice("A1", "", 16384, 3200, 2933), MemoryDevice("A2", "", 0), MemoryDevice("CPU2_DIMM_B1", "NODE 1", 65536, 4800), MemoryDevice("X1", "", 0),
        MemoryDevice("P1-DIMMA1", "", 2))


@pytest.mark.parametrize(("locator", "bank", "socket"), [
    ("A1", "", "A"), ("B12", "", "B"), ("CPU1_DIMM_A1", "", "1"), ("PROC 2 DIMM 3", "", "2"), ("P0_Node1_Channel0_Dimm0", "", "0"), ("P1-DIMMA1", "", "1"),
    ("DIMM 7", "", ""), ("DIMM_A1", "CPU0 Channel A", "0"), ("", "", "")])
def test_the_socket_of_a_module_is_in_its_name(locator: str, bank: str, socket: str) -> None:
    assert MemoryDevice(locator, bank, 1024).socket == socket


def test_slots_and_what_sits_in_them() -> None:
    table = slot("PCIe Slot 3", 0, 0x3B, 0) + slot("PCIe Slot 4", 0, 0xFF, 0xFF) + slot("OCP", 2, 0xC1, 0x09) + END + slot("after the end", 0, 1, 0)
    assert slots(table) == (Slot("PCIe Slot 3", "0000:3b:00.0"), Slot("PCIe Slot 4", ""), Slot("OCP", "0002:c1:01.1"))


def test_an_old_and_short_slot_tells_no_address() -> None:
    assert slots(structure(9, struct.pack("<BBBBBHBB", 1, 0xA5, 0x0D, 3, 4, 1, 0, 0), "J6B2")) == (Slot("J6B2", ""),)


def test_a_table_that_is_cut_tells_what_is_whole() -> None:
    whole = memory(1024, "A1") + memory(2048, "A2")
    for length in range(len(whole)):
        found = memory_devices(whole[:length])
        assert [device.locator for device in found] == (["A1"] if length >= len(memory(1024, "A1")) else [])


@given(st.binary(max_size=400))
def test_nothing_makes_it_fail_or_run_for_ever(table: bytes) -> None:
    assert all(device.mib >= 0 for device in memory_devices(table))
    assert isinstance(slots(table), tuple)
