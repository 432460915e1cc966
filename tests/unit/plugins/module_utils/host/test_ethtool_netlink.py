# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parameters of drivers over netlink: what recorded answers mean, and the bytes that a write sends."""

from __future__ import annotations

import errno
import os
import struct
import sys
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.ethtool_netlink import (
    ATTRIBUTES,
    FAMILY,
    MESSAGES,
    read_group,
    write_group,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.netlink import (
    NESTED,
    NetlinkRefusal,
    attribute,
    attribute_list,
    attributes,
    text_attribute,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.nic_parameters import (
    CHANNELS,
    COALESCE,
    EEE,
    NAMES,
    PAUSE,
    PRIVATE_FLAGS,
    RINGS,
    SWITCHES,
    Parameter,
)
from hypothesis import given
from hypothesis import strategies as st

LITTLE = pytest.mark.skipif(sys.byteorder != "little", reason="the bytes are those of a little-endian machine")
# As Linux 6.18 answers, header first: the channels of a veth pair with four queues, rings and coalescing of virtio_net.
VETH_CHANNELS = "14000180080001000300000007000200766100000800020004000000080006000400000008000300040000000800070004000000"
VIRTIO_RINGS = ("18000180080001000400000009000200657468300000000008000200000100000800060000010000080005000001000008000900000100000"
                "5000d000000000005000e0000000000")
VIRTIO_COALESCE = ("180001800800010004000000090002006574683000000000080002000000000008000300010000000800060000000000080007000100000"
                   "005000b0000000000")
HEADER_OF_ETH0 = attribute(1 | NESTED, text_attribute(2, "eth0"))


class Link:
    """Answers as the ethtool family does: a message's attributes or an errno, and keeps what it was asked."""

    def __init__(self, answer: bytes = b"", error: int = 0) -> None:
        self.answer, self.error = answer, error
        self.asked: list[tuple[int, int, int, bytes]] = []

    def family(self, name: str) -> int:
        assert name == FAMILY
        return 21

    def request(self, family: int, command: int, version: int, asked: bytes, *, dump: bool = False) -> list[bytes]:
        self.asked.append((family, command, version, asked))
        if self.error:
            raise NetlinkRefusal(self.error, os.strerror(self.error))
        return [self.answer] if self.answer else []


def numbers(**values: int) -> bytes:
    """Attributes ``a<kind>`` of four bytes, ``b<kind>`` of one."""
    return b"".join(attribute(int(name[1:]), struct.pack("=I" if name[0] == "a" else "=B", value)) for name, value in values.items())


def read(group: str, answer: bytes) -> dict[str, Parameter]:
    link: Any = Link(answer)
    return read_group(link, "eth0", group)


def sent(group: str, **values: int) -> bytes:
    """What a write sends after its header."""
    link: Any = Link()
    write_group(link, "eth0", group, {name.replace("_", "-"): value for name, value in values.items()})
    [(family, command, version, asked)] = link.asked
    assert (family, command, version) == (21, MESSAGES[group][1], 1)
    assert asked.startswith(HEADER_OF_ETH0)
    return bytes(asked[len(HEADER_OF_ETH0):])


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "message"),
    [(PRIVATE_FLAGS, 13), (RINGS, 15), (CHANNELS, 17), (COALESCE, 19), (PAUSE, 21), (EEE, 23)],
)
def test_each_group_has_its_message_and_the_one_that_sets_follows_it(group: str, message: int) -> None:
    link: Any = Link(attribute(99, b""))
    read_group(link, "eth0", group)
    assert link.asked == [(21, message, 1, HEADER_OF_ETH0)]
    assert MESSAGES[group] == (message, message + 1)


@LITTLE
@pytest.mark.parametrize(
    ("group", "recorded", "parameters"),
    [
        (CHANNELS, VETH_CHANNELS, {"rx": Parameter(4, 4), "tx": Parameter(4, 4)}),
        (RINGS, VIRTIO_RINGS, {"rx": Parameter(256, 256), "tx": Parameter(256, 256), "tx-push": Parameter(0), "rx-push": Parameter(0)}),
        (COALESCE, VIRTIO_COALESCE, {"rx-usecs": Parameter(0), "rx-frames": Parameter(1), "tx-usecs": Parameter(0), "tx-frames": Parameter(1),
                                     "adaptive-rx": Parameter(0)}),
    ],
    ids=[CHANNELS, RINGS, COALESCE],
)
def test_answers_that_were_recorded(group: str, recorded: str, parameters: dict[str, Parameter]) -> None:
    assert read(group, bytes.fromhex(recorded)) == parameters


def test_rings_with_their_maxima() -> None:
    found = read(RINGS, numbers(a2=4096, a3=0, a4=0, a5=8192, a6=512, a7=0, a8=0, a9=1024, a10=2048, a12=64, b13=1, b14=0, a15=96, a16=128))
    assert found == {"rx": Parameter(512, 4096), "tx": Parameter(1024, 8192), "rx-buf-len": Parameter(2048), "cqe-size": Parameter(64),
                     "tx-push": Parameter(1), "rx-push": Parameter(0), "tx-push-buf-len": Parameter(96, 128)}


@pytest.mark.parametrize("group", [RINGS, CHANNELS])
def test_a_maximum_of_zero_means_that_there_is_no_such_thing(group: str) -> None:
    with_maximum = {name: entry for name, entry in ATTRIBUTES[group].items() if entry[1]}
    for name, (kind, most, _width) in with_maximum.items():
        none = numbers(**{f"a{kind}": 0})
        assert read(group, numbers(**{f"a{most}": 0}) + none) == {}
        assert read(group, numbers(**{f"a{most}": 8}) + none) == {name: Parameter(0, 8)}, "none in use, but there could be"
        assert read(group, numbers(**{f"a{kind}": 3})) == {name: Parameter(3)}, "a driver that tells no maximum"


def test_coalescing_that_the_driver_leaves_out_is_not_there_and_zero_is() -> None:
    assert read(COALESCE, numbers(a2=0, b12=1)) == {"rx-usecs": Parameter(0), "adaptive-tx": Parameter(1)}


@pytest.mark.parametrize(
    ("name", "kind"),
    [("rx-usecs", 2), ("rx-frames", 3), ("rx-usecs-irq", 4), ("tx-usecs", 6), ("tx-frames", 7), ("adaptive-rx", 11), ("adaptive-tx", 12),
     ("tx-frames-high", 22), ("sample-interval", 23), ("cqe-mode-tx", 24), ("cqe-mode-rx", 25), ("tx-aggr-time-usecs", 28)],
)
def test_coalescing_has_the_numbers_of_the_kernel_s_header(name: str, kind: int) -> None:
    """enum ETHTOOL_A_COALESCE_* of include/uapi/linux/ethtool_netlink.h."""
    assert ATTRIBUTES[COALESCE][name][0] == kind
    assert read(COALESCE, numbers(**{f"a{kind}": 7})) == {name: Parameter(7)}


def test_pause_and_eee() -> None:
    assert read(PAUSE, numbers(b2=1, b3=0, b4=1)) == {"autoneg": Parameter(1), "rx": Parameter(0), "tx": Parameter(1)}
    assert read(EEE, numbers(b4=1, b5=1, b6=0, a7=17)) == {"enabled": Parameter(1), "tx-lpi": Parameter(0), "tx-timer": Parameter(17)}


def flags(*bits: tuple[str | None, bool]) -> bytes:
    """Private flags as the kernel answers them: a bitset in its long form."""
    inside = b"".join(attribute(1 | NESTED, struct_index(place) + (text_attribute(2, name) if name is not None else b"") + (attribute(3, b"") if on else b""))
                      for place, (name, on) in enumerate(bits))
    return attribute(2 | NESTED, attribute(2, struct.pack("=I", len(bits))) + attribute(3 | NESTED, inside))


def struct_index(place: int) -> bytes:
    return attribute(1, struct.pack("=I", place))


def test_private_flags_by_their_names() -> None:
    assert read(PRIVATE_FLAGS, flags(("legacy-rx", False), ("disable-fw-lldp", True))) == {
        "legacy-rx": Parameter(0), "disable-fw-lldp": Parameter(1)}
    assert read(PRIVATE_FLAGS, flags(("legacy-rx", False), (None, True))) == {"legacy-rx": Parameter(0)}, "a bit without a name"
    assert read(PRIVATE_FLAGS, flags()) == {} == read(PRIVATE_FLAGS, attribute(2 | NESTED, b"")) == read(PRIVATE_FLAGS, attribute(99, b""))


def test_an_answer_without_anything_is_no_parameter() -> None:
    assert [read(group, b"") for group in MESSAGES] == [{}] * len(MESSAGES)


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENODEV])
def test_what_the_kernel_refuses_is_raised(code: int) -> None:
    link: Any = Link(error=code)
    with pytest.raises(OSError) as caught:
        read_group(link, "eth0", RINGS)
    assert caught.value.errno == code


@given(st.sampled_from(sorted(MESSAGES)), st.binary(max_size=120))
def test_whatever_a_driver_answers_it_is_read(group: str, answer: bytes) -> None:
    assert all(isinstance(parameter, Parameter) for parameter in read(group, answer).values())


# --- writing ----------------------------------------------------------------------------------------------------------


@LITTLE
def test_the_bytes_of_a_write() -> None:
    assert sent(COALESCE, rx_usecs=0, rx_frames=1, adaptive_rx=0) == bytes.fromhex(
        "05000b0000000000"  # ETHTOOL_A_COALESCE_USE_ADAPTIVE_RX, one byte and three of padding
        "0800020000000000"  # ETHTOOL_A_COALESCE_RX_USECS
        "0800030001000000")  # ETHTOOL_A_COALESCE_RX_MAX_FRAMES
    assert sent(RINGS, rx=4096) == bytes.fromhex("0800060000100000")
    assert sent(CHANNELS, combined=4) == bytes.fromhex("0800090004000000")
    assert sent(PAUSE, rx=0, tx=1) == bytes.fromhex("0500030000000000 0500040001000000")
    assert sent(EEE, enabled=0) == bytes.fromhex("0500050000000000")


@LITTLE
def test_the_bytes_of_private_flags() -> None:
    assert sent(PRIVATE_FLAGS, legacy_rx=1, x=0) == bytes.fromhex(
        "2c000280 28000380"  # ETHTOOL_A_PRIVFLAGS_FLAGS, ETHTOOL_A_BITSET_BITS, both nested; no ETHTOOL_A_BITSET_NOMASK: all others stay
        "18000180 0e000200 6c65676163792d727800 0000 04000300"  # the name and ETHTOOL_A_BITSET_BIT_VALUE: set
        "0c000180 06000200 7800 0000")  # no value: cleared


def test_only_what_is_named_is_sent() -> None:
    assert sent(RINGS) == b"" and len(attribute_list(sent(COALESCE, tx_usecs=5))) == 1


@pytest.mark.parametrize("group", sorted(NAMES))
def test_every_parameter_is_sent_as_it_is_read(group: str) -> None:
    """The answer of a driver that took over what was sent."""
    values = {name: 1 if name in SWITCHES.get(group, ()) else 200 + place for place, name in enumerate(NAMES[group])}
    link: Any = Link()
    write_group(link, "eth0", group, values)
    echoed = link.asked[0][3]
    assert {name: parameter.value for name, parameter in read(group, echoed).items()} == values
    widths = {kind: len(payload) for kind, payload in attributes(echoed[len(HEADER_OF_ETH0):]).items()}
    assert widths == {kind: width for kind, _most, width in ATTRIBUTES[group].values()}
    assert set(ATTRIBUTES[group]) == set(NAMES[group]) and set(NAMES[group]) >= set(SWITCHES.get(group, ()))


@given(st.dictionaries(st.from_regex(r"[a-z][a-z0-9 _-]{0,30}", fullmatch=True), st.booleans(), max_size=6))
def test_private_flags_come_back_as_they_were_sent(wanted: dict[str, bool]) -> None:
    link: Any = Link()
    write_group(link, "eth0", PRIVATE_FLAGS, {name: int(on) for name, on in wanted.items()})
    held = {name: Parameter(int(on)) for name, on in wanted.items()}
    assert read(PRIVATE_FLAGS, link.asked[0][3][len(HEADER_OF_ETH0):]) == held


@pytest.mark.parametrize(("group", "name", "value"), [(RINGS, "rx", 1 << 32), (COALESCE, "rx-usecs", 1 << 40), (PAUSE, "rx", 256), (RINGS, "rx", -1)])
def test_a_number_that_the_interface_cannot_say_is_refused_and_not_cut(group: str, name: str, value: int) -> None:
    link: Any = Link()
    with pytest.raises(OSError, match=str(value)) as caught:
        write_group(link, "eth0", group, {name: value})
    assert caught.value.errno == errno.ERANGE and link.asked == []


def test_a_refusal_of_a_write_is_raised() -> None:
    link: Any = Link(error=errno.EINVAL)
    with pytest.raises(OSError) as caught:
        write_group(link, "eth0", CHANNELS, {"combined": 99})
    assert caught.value.errno == errno.EINVAL
