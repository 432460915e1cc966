# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Generic netlink: attributes byte for byte, what ends an answer, and the kernel of this very machine."""

from __future__ import annotations

import errno
import itertools
import os
import socket
import struct
import sys
from collections.abc import Iterator

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import netlink
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.ethtool_netlink import DEVICE_NAME, FAMILY, HEADER
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.netlink import (
    CAPPED,
    CONTROL_FAMILY,
    DONE,
    ERROR,
    GET_FAMILY,
    HAS_WORDS,
    NESTED,
    WORDS,
    Netlink,
    NetlinkRefusal,
    attribute,
    attribute_list,
    attributes,
    number,
    text_attribute,
)
from hypothesis import given
from hypothesis import strategies as st

LITTLE = pytest.mark.skipif(sys.byteorder != "little", reason="the bytes are those of a little-endian machine")
KINDS = st.integers(1, 0x3FFF)
PAYLOADS = st.binary(max_size=40)


# --- attributes -------------------------------------------------------------------------------------------------------


@LITTLE
@pytest.mark.parametrize(
    ("kind", "payload", "wire"),
    [(1, b"pci\0", b"\x08\x00\x01\x00pci\0"), (2, b"", b"\x04\x00\x02\x00"), (3, b"ab\0", b"\x07\x00\x03\x00ab\0\0"),
     (4 | NESTED, b"\x04\x00\x05\x00", b"\x08\x00\x04\x80\x04\x00\x05\x00")],
)
def test_an_attribute_on_the_wire(kind: int, payload: bytes, wire: bytes) -> None:
    assert attribute(kind, payload) == wire
    assert attributes(wire) == {kind & ~NESTED: payload}


@LITTLE
def test_a_text_on_the_wire_ends_with_a_zero() -> None:
    assert text_attribute(2, "lo") == b"\x07\x00\x02\x00lo\0\0"


@given(st.lists(st.tuples(KINDS, PAYLOADS), max_size=8))
def test_attributes_come_back_in_order(items: list[tuple[int, bytes]]) -> None:
    wire = b"".join(attribute(kind, payload) for kind, payload in items)
    assert len(wire) % 4 == 0
    assert attribute_list(wire) == items
    assert attributes(wire) == dict(items), "of several of one kind, the last"


@given(KINDS, st.lists(st.tuples(KINDS, PAYLOADS), max_size=4))
def test_nested_attributes_come_back_without_their_flag(kind: int, items: list[tuple[int, bytes]]) -> None:
    inside = b"".join(attribute(*item) for item in items)
    [(outer, payload)] = attribute_list(attribute(kind | NESTED, inside))
    assert outer == kind and attribute_list(payload) == items


@given(st.binary(max_size=80))
def test_whatever_the_bytes_are_they_are_read(data: bytes) -> None:
    found = attribute_list(data)
    assert sum(4 + len(payload) for _kind, payload in found) <= len(data)


@given(st.lists(st.tuples(KINDS, PAYLOADS), min_size=1, max_size=4), st.integers(1, 40))
def test_of_data_cut_short_what_is_whole_is_read(items: list[tuple[int, bytes]], cut: int) -> None:
    wire = b"".join(attribute(kind, payload) for kind, payload in items)
    found = attribute_list(wire[:-cut])
    assert found == items[:len(found)] and len(found) >= sum(
        end <= max(len(wire) - cut, 0) for end in itertools.accumulate(len(attribute(kind, payload)) for kind, payload in items))


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x00\x00\x01\x00", b"\x40\x00\x01\x00ab"])
def test_what_is_cut_short_is_no_attribute(data: bytes) -> None:
    assert attributes(data) == {}


@pytest.mark.parametrize(("code", "value"), [("=B", 200), ("=H", 50000), ("=I", 4000000000), ("=Q", 1 << 60)])
def test_numbers_of_every_width(code: str, value: int) -> None:
    assert number(struct.pack(code, value)) == value


# --- answers ----------------------------------------------------------------------------------------------------------


class Kernel:
    """The kernel's end of a socket: sends the datagrams it was given, and keeps what it was asked."""

    def __init__(self, *datagrams: bytes) -> None:
        self.datagrams = list(datagrams)
        self.asked: list[bytes] = []

    def send(self, data: bytes) -> int:
        self.asked.append(data)
        return len(data)

    def recv(self, size: int) -> bytes:
        return self.datagrams.pop(0)


def message(kind: int, body: bytes, *, flags: int = 0, sequence: int = 1) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body + b"\0" * (-len(body) % 4)


def answer(payload: bytes, *, sequence: int = 1, family: int = 20) -> bytes:
    return message(family, struct.pack("=BBxx", 1, 1) + payload, sequence=sequence)


def yes(sequence: int = 1) -> bytes:
    return message(ERROR, struct.pack("=i", 0) + struct.pack("=IHHII", 36, 20, 5, sequence, 0), flags=CAPPED, sequence=sequence)


def no(code: int, words: str = "", *, capped: bool = True, sequence: int = 1, request: bytes = b"") -> bytes:
    """A refusal: the header of what was asked, and the rest of it where it is not capped, then the words."""
    asked = struct.pack("=IHHII", 16 + len(request), 20, 5, sequence, 0) + (b"" if capped else request + b"\0" * (-len(request) % 4))
    said = text_attribute(WORDS, words) if words else b""
    return message(ERROR, struct.pack("=i", -code) + asked + said, flags=(CAPPED if capped else 0) | (HAS_WORDS if words else 0), sequence=sequence)


def asking(*datagrams: bytes, dump: bool = False) -> list[bytes]:
    link = Netlink()
    link._socket = Kernel(*datagrams)  # type: ignore[assignment]
    return link.request(20, 1, 1, b"", dump=dump)


def refusal(*datagrams: bytes, dump: bool = False) -> NetlinkRefusal:
    with pytest.raises(NetlinkRefusal) as caught:
        asking(*datagrams, dump=dump)
    return caught.value


def test_an_answer_and_the_kernel_s_yes() -> None:
    assert asking(answer(b"abcd"), yes()) == [b"abcd"]
    assert asking(answer(b"abcd") + yes()) == [b"abcd"], "both in one datagram"
    assert asking(yes()) == []


def test_a_dump_is_all_that_comes_before_its_end() -> None:
    assert asking(answer(b"one1") + answer(b"two2"), answer(b"3333"), message(DONE, struct.pack("=i", 0)), dump=True) == [b"one1", b"two2", b"3333"]


def test_answers_to_other_questions_are_skipped() -> None:
    """As after a question whose answer nobody waited for."""
    assert asking(answer(b"late", sequence=0), no(errno.EIO, sequence=0), answer(b"mine"), yes()) == [b"mine"]


def test_every_question_has_a_number_of_its_own() -> None:
    link = Netlink()
    kernel = Kernel(yes(1), yes(2))
    link._socket = kernel  # type: ignore[assignment]
    for _question in range(2):
        link.request(20, 7, 1, attribute(1, b"abcd"))
    assert [struct.unpack_from("=IHHII", data) for data in kernel.asked] == [(28, 20, 0x5, 1, 0), (28, 20, 0x5, 2, 0)]
    assert kernel.asked[0][16:] == struct.pack("=BBxx", 7, 1) + attribute(1, b"abcd")


@pytest.mark.parametrize("capped", [True, False])
@pytest.mark.parametrize("request_", [b"", b"12345678", b"12345"], ids=["short", "long", "padded"])
@pytest.mark.parametrize("words", ["", "requested channel count exceeds maximum"])
def test_a_refusal_has_its_errno_and_the_kernel_s_words(capped: bool, request_: bytes, words: str) -> None:
    error = refusal(no(errno.EINVAL, words, capped=capped, request=request_))
    assert error.errno == errno.EINVAL
    assert error.strerror == (f"{os.strerror(errno.EINVAL)}: {words}" if words else os.strerror(errno.EINVAL))


def test_a_dump_that_fails_has_its_words_too() -> None:
    end = message(DONE, struct.pack("=i", -errno.EMSGSIZE) + text_attribute(WORDS, "no room"), flags=HAS_WORDS)
    error = refusal(answer(b"some"), end, dump=True)
    assert (error.errno, error.strerror) == (errno.EMSGSIZE, f"{os.strerror(errno.EMSGSIZE)}: no room")


def test_words_that_are_no_text_do_no_harm() -> None:
    said = struct.pack("=i", -errno.EINVAL) + struct.pack("=IHHII", 16, 20, 5, 1, 0) + attribute(WORDS, b"\xff\xfe\0")
    assert "\ufffd" in refusal(message(ERROR, said, flags=CAPPED | HAS_WORDS)).strerror
    cut = struct.pack("=i", -errno.EINVAL) + b"\0\0"
    assert refusal(message(ERROR, cut, flags=HAS_WORDS)).strerror == os.strerror(errno.EINVAL)


@pytest.mark.parametrize("length", [0, 15, 400])
def test_an_answer_cut_short_is_an_error_and_no_shorter_answer(length: int) -> None:
    with pytest.raises(OSError, match="is cut") as caught:
        asking(struct.pack("=IHHII", length, 20, 0, 1, 0) + b"abcd")
    assert caught.value.errno == errno.EBADMSG


def test_a_family_is_asked_for_once() -> None:
    link = Netlink()
    kernel = Kernel(answer(attribute(1, struct.pack("=H", 21)) + text_attribute(2, "ethtool"), family=CONTROL_FAMILY) + yes())
    link._socket = kernel  # type: ignore[assignment]
    assert (link.family("ethtool"), link.family("ethtool")) == (21, 21)
    assert len(kernel.asked) == 1 and text_attribute(2, "ethtool") in kernel.asked[0]


# --- the kernel of this machine ---------------------------------------------------------------------------------------


@pytest.fixture
def link() -> Iterator[Netlink]:
    try:
        opened = Netlink().__enter__()
    except OSError as error:
        pytest.skip(f"this sandbox has no generic netlink: {error}")
    yield opened
    opened.__exit__(None, None, None)


@pytest.fixture
def ethtool(link: Netlink) -> int:
    try:
        return link.family(FAMILY)
    except OSError as error:
        pytest.skip(f"this kernel has no ethtool family: {error}")


def test_the_kernel_knows_its_controller_and_none_of_another_name(link: Netlink) -> None:
    assert link.family("nlctrl") == CONTROL_FAMILY
    with pytest.raises(NetlinkRefusal) as caught:
        link.family("no_such")
    assert caught.value.errno == errno.ENOENT


def test_the_kernel_dumps_its_families(link: Netlink, ethtool: int) -> None:
    found = [attributes(family) for family in link.request(CONTROL_FAMILY, GET_FAMILY, 1, b"", dump=True)]
    names = {family[netlink.FAMILY_NAME].rstrip(b"\0").decode(): number(family[netlink.FAMILY_ID]) for family in found}
    assert names["nlctrl"] == CONTROL_FAMILY and names[FAMILY] == ethtool


def test_the_kernel_refuses_an_interface_that_is_not_there(link: Netlink, ethtool: int) -> None:
    with pytest.raises(NetlinkRefusal) as caught:
        link.request(ethtool, 17, 1, attribute(HEADER | NESTED, text_attribute(DEVICE_NAME, "none0")))
    assert caught.value.errno == errno.ENODEV
    assert caught.value.strerror.startswith(os.strerror(errno.ENODEV))


def test_the_kernel_says_why_it_refuses(link: Netlink, ethtool: int) -> None:
    with pytest.raises(NetlinkRefusal) as caught:
        link.request(ethtool, 17, 1, attribute(HEADER | NESTED, b""))
    assert caught.value.errno == errno.EINVAL
    assert caught.value.strerror.partition(": ")[2] == "neither ifindex nor name specified", "the kernel's own words"


def test_the_socket_is_closed_in_the_end(link: Netlink) -> None:
    with Netlink() as other:
        inner: socket.socket = other._socket
    assert inner.fileno() == -1
