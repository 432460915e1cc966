# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steering rules byte for byte as include/uapi/linux/ethtool.h lays them out, there and back."""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.flow_spec import SPEC_SIZE, packed, unpacked
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import SpecError
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.steering import DROP, FIELDS, Rule, parse_rule
from hypothesis import given
from hypothesis import strategies as st

# struct ethtool_rx_flow_spec: flow_type, h_u, h_ext, m_u, m_ext, ring_cookie, location
H_U, H_EXT, M_U, M_EXT, COOKIE, LOCATION = 4, 56, 76, 128, 152, 160
FLOW_EXT, FLOW_MAC_EXT, FLOW_RSS = 0x80000000, 0x40000000, 0x20000000


def spec(flow_type: int, value: bytes, mask: bytes, *, value_ext: bytes = b"", mask_ext: bytes = b"", cookie: int = 0, location: int = 0) -> bytes:
    """The kernel's struct, put together place by place."""
    made = bytearray(168)
    struct.pack_into("=I", made, 0, flow_type)
    for start, data in ((H_U, value), (H_EXT, value_ext), (M_U, mask), (M_EXT, mask_ext)):
        made[start:start + len(data)] = data
    struct.pack_into("=Q", made, COOKIE, cookie)
    struct.pack_into("=I", made, LOCATION, location)
    return bytes(made)


def rule(**words: Any) -> Rule:
    return parse_rule({name.replace("_", "-"): value for name, value in words.items()})


# --- by hand ----------------------------------------------------------------------------------------------------------

TCP4 = (  # struct ethtool_tcpip4_spec: ip4src, ip4dst, psrc, pdst, tos
    rule(flow_type="tcp4", src_ip="10.1.2.0/24", dst_ip="192.168.0.9", src_port=80, dst_port=26400, tos=16, action=3),
    spec(0x01, bytes.fromhex("0a010200 c0a80009 0050 6720 10"), bytes.fromhex("ffffff00 ffffffff ffff ffff ff"), cookie=3, location=7))
UDP6 = (  # struct ethtool_tcpip6_spec: ip6src[4], ip6dst[4], psrc, pdst, tclass
    rule(flow_type="udp6", dst_ip="ff0e::1", dst_port=26400, action=-1),
    spec(0x06, bytes(16) + bytes.fromhex("ff0e0000000000000000000000000001") + bytes.fromhex("0000 6720"),
         bytes(16) + b"\xff" * 16 + bytes.fromhex("0000 ffff"), cookie=0xFFFFFFFFFFFFFFFF, location=7))
IP4 = (  # struct ethtool_usrip4_spec: ip4src, ip4dst, l4_4_bytes, tos, ip_ver (ETH_RX_NFC_IP4), proto
    rule(flow_type="ip4", dst_ip="233.54.12.1", l4proto=17, action=0),
    spec(0x0D, bytes.fromhex("00000000 e9360c01 00000000 00 01 11"), bytes.fromhex("00000000 ffffffff 00000000 00 00 ff"), location=7))
IP6 = (  # struct ethtool_usrip6_spec: ip6src[4], ip6dst[4], l4_4_bytes, tclass, l4_proto
    rule(flow_type="ip6", src_ip="2001:db8::/32", tos=184, l4proto=6, action=1),
    spec(0x0E, bytes.fromhex("20010db8") + bytes(32) + bytes.fromhex("b8 06"), bytes.fromhex("ffffffff") + bytes(32) + b"\xff\xff", cookie=1, location=7))
ETHER = (  # struct ethhdr: h_dest, h_source, h_proto
    rule(flow_type="ether", src="02:00:00:00:00:0A", dst="01:00:5e:36:0c:01", proto="0x88f7", action=2),
    spec(0x12, bytes.fromhex("01005e360c01 02000000000a 88f7"), b"\xff" * 14, cookie=2, location=7))
VLAN = (  # struct ethtool_flow_ext: padding, h_dest, vlan_etype, vlan_tci, data
    rule(flow_type="tcp4", dst_port=80, vlan=101, action=5),
    spec(FLOW_EXT | 0x01, bytes(10) + bytes.fromhex("0050"), bytes(10) + b"\xff\xff", value_ext=bytes(10) + b"\x00\x65", mask_ext=bytes(10) + b"\xff\xff",
         cookie=5, location=7))
BY_HAND = {"tcp4": TCP4, "udp6": UDP6, "ip4": IP4, "ip6": IP6, "ether": ETHER, "vlan": VLAN}


@pytest.mark.parametrize("name", sorted(BY_HAND))
def test_the_bytes_of_a_rule(name: str) -> None:
    wanted, wire = BY_HAND[name]
    assert SPEC_SIZE == len(wire) == 168
    assert packed(wanted, 7) == wire


@pytest.mark.parametrize("name", sorted(BY_HAND))
def test_a_rule_that_a_driver_holds_has_the_words_of_the_one_wanted(name: str) -> None:
    wanted, wire = BY_HAND[name]
    held = unpacked(wire)
    assert (held.flow, held.target, held.location) == (wanted.flow, wanted.target, 7)


@pytest.mark.parametrize(
    ("flow_type", "code"),
    [("tcp4", 1), ("udp4", 2), ("sctp4", 3), ("tcp6", 5), ("udp6", 6), ("sctp6", 7), ("ip4", 0x0D), ("ip6", 0x0E), ("ether", 0x12)],
)
def test_types_have_the_numbers_of_the_kernel_s_header(flow_type: str, code: int) -> None:
    match = {"proto": 1} if flow_type == "ether" else {"tos": 1}
    assert struct.unpack_from("=I", packed(parse_rule({"flow-type": flow_type, "action": 0, **match}), 0))[0] == code


# --- there and back ---------------------------------------------------------------------------------------------------


def field(name: str, flow_type: str) -> st.SearchStrategy[str]:
    if name in ("src-ip", "dst-ip"):
        bits = 32 if flow_type.endswith("4") else 128
        address = ipaddress.IPv4Address if bits == 32 else ipaddress.IPv6Address
        return st.tuples(st.integers(0, (1 << bits) - 1), st.integers(1, bits)).map(
            lambda pair: str(ipaddress.ip_network((address(pair[0]), pair[1]), strict=False)))
    if name in ("src", "dst"):
        return st.binary(min_size=6, max_size=6).map(lambda data: data.hex(":"))
    most = {"tos": 255, "l4proto": 255, "vlan": 4095}.get(name, 65535)
    return st.integers(0, most).map(str) | st.integers(0, most).map(hex)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    flow_type = draw(st.sampled_from(sorted(FIELDS)))
    names = draw(st.lists(st.sampled_from((*FIELDS[flow_type], "vlan")), unique=True, min_size=1))
    said = {name: draw(field(name, flow_type)) for name in names}
    return parse_rule({"flow-type": flow_type, "action": draw(st.integers(-1, 99999)), **said})


@given(rules(), st.integers(0, 0xFFFFFFFF))
def test_every_rule_comes_back_as_it_was_sent(wanted: Rule, location: int) -> None:
    assert unpacked(packed(wanted, location)) == Rule(wanted.flow_type, wanted.matches, wanted.action, location)


@given(st.binary(min_size=SPEC_SIZE, max_size=SPEC_SIZE))
def test_whatever_a_driver_holds_it_is_read(data: bytes) -> None:
    held = unpacked(data)
    assert held.flow and held.target


# --- what the model has no words for ----------------------------------------------------------------------------------

PLAIN = rule(flow_type="tcp4", dst_port=80, action=1)


def changed(wire: bytes, start: int, data: str, *, flags: int = 0) -> bytes:
    made = bytearray(wire)
    made[start:start + len(data) // 2] = bytes.fromhex(data)
    struct.pack_into("=I", made, 0, struct.unpack_from("=I", made)[0] | flags)
    return bytes(made)


@pytest.mark.parametrize(
    ("wire", "words"),
    [
        (changed(packed(PLAIN, 0), M_U + 10, "ff00"), "tcp4 dst-port 80 m 0xff00"),
        (changed(packed(rule(flow_type="tcp4", dst_ip="10.0.0.1", action=1), 0), M_U + 4, "ff00ff00"), "tcp4 dst-ip 10.0.0.1 m 255.0.255.0"),
        (changed(packed(rule(flow_type="ether", dst="01:00:5e:00:00:01", action=1), 0), M_U, "ff0000000000"),
         "ether dst 01:00:5e:00:00:01 m ff:00:00:00:00:00"),
        (changed(packed(rule(flow_type="tcp4", vlan=5, action=1), 0), M_EXT + 10, "0fff"), "tcp4 vlan 5 m 0xfff"),
    ],
)
def test_a_mask_that_a_rule_cannot_ask_for_is_told(wire: bytes, words: str) -> None:
    assert unpacked(wire).flow == words


@pytest.mark.parametrize(
    "wire",
    [
        changed(packed(PLAIN, 0), M_EXT + 2, "ffffffffffff", flags=FLOW_MAC_EXT),  # dst-mac
        changed(packed(PLAIN, 0), M_EXT + 12, "ffffffff", flags=FLOW_EXT),  # user-def
        changed(packed(PLAIN, 0), M_EXT + 8, "ffff", flags=FLOW_EXT),  # vlan-etype
        changed(packed(PLAIN, 0), M_U + 20, "ff"),
        changed(packed(PLAIN, 0), 0, "", flags=FLOW_RSS),
        changed(packed(PLAIN, 0), 0, "10"),
    ],
    ids=["dst-mac", "user-def", "vlan-etype", "beyond the struct", "rss context", "other type"],
)
def test_a_rule_that_asks_for_more_equals_no_rule_of_ours(wire: bytes) -> None:
    held = unpacked(wire)
    assert held.flow != PLAIN.flow
    with pytest.raises(SpecError):
        parse_rule({"flow-type": held.flow_type, **dict(held.matches), "action": 1})


def test_two_rules_that_the_model_has_no_words_for_are_two() -> None:
    one, other = (unpacked(spec(0x09, bytes([number]), b"\xff")) for number in (1, 2))
    assert one.flow != other.flow


def test_extensions_count_only_where_the_type_says_so() -> None:
    assert unpacked(changed(packed(PLAIN, 0), M_EXT + 10, "ffff")).flow == PLAIN.flow
    assert unpacked(changed(packed(PLAIN, 0), 0, "", flags=FLOW_EXT)).flow == PLAIN.flow, "as drivers do that set the flag always"


@pytest.mark.parametrize("cookie", [1 << 32 | 1, 0xFFFFFFFFFFFFFFFE])
def test_a_virtual_function_or_a_wake_up_is_no_queue_of_this_nic(cookie: int) -> None:
    held = unpacked(changed(packed(PLAIN, 0), COOKIE, struct.pack("=Q", cookie).hex()))
    assert held.target != PLAIN.target and held.action not in (DROP, *range(1 << 16))
