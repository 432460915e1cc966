# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Generic netlink: attributes byte for byte, and the family that every kernel has."""

from __future__ import annotations

import errno
import sys

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import netlink

LITTLE = pytest.mark.skipif(sys.byteorder != "little", reason="the bytes are those of a little-endian machine")


@LITTLE
@pytest.mark.parametrize(
    ("kind", "payload", "wire"),
    [(1, b"pci\0", b"\x08\x00\x01\x00pci\0"), (2, b"", b"\x04\x00\x02\x00"), (3, b"ab\0", b"\x07\x00\x03\x00ab\0\0")],
)
def test_an_attribute_on_the_wire(kind: int, payload: bytes, wire: bytes) -> None:
    assert netlink.attribute(kind, payload) == wire
    assert netlink.attributes(wire) == {kind: payload}


def test_attributes_come_back_in_order_and_without_their_flags() -> None:
    data = netlink.attribute(1, b"a") + netlink.attribute(0x8000 | 2, netlink.attribute(5, b"bc")) + netlink.attribute(1, b"d")
    assert list(netlink.each_attribute(data)) == [(1, b"a"), (2, netlink.attribute(5, b"bc")), (1, b"d")]
    assert netlink.attributes(data)[1] == b"d"


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x00\x00\x01\x00", b"\x40\x00\x01\x00ab"])
def test_what_is_cut_short_is_no_attribute(data: bytes) -> None:
    assert netlink.attributes(data) == {}


def test_the_kernel_knows_its_controller_and_no_other_of_that_name() -> None:
    with netlink.Netlink() as link:
        assert link.family("nlctrl") == netlink.CONTROL
        with pytest.raises(OSError) as caught:
            link.family("no such family")
        assert caught.value.errno in (errno.ENOENT, errno.EINVAL, errno.ERANGE)
        assert len(link.request(netlink.CONTROL, netlink.GETFAMILY, 1, dump=True)) >= 1


def test_the_kernel_s_own_words_come_with_its_error() -> None:
    with netlink.Netlink() as link, pytest.raises(OSError) as caught:
        link.request(netlink.CONTROL, netlink.GETFAMILY, 1, netlink.attribute(netlink.FAMILY_NAME, b"x" * 99 + b"\0"))
    assert caught.value.errno in (errno.EINVAL, errno.ERANGE) and caught.value.strerror
