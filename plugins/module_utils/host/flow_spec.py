# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steering rules as the kernel holds them: struct ethtool_rx_flow_spec, to and from the model's rule.

Source: include/uapi/linux/ethtool.h. A bit set in the mask is one that has to match.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable

from ..model.steering import DROP, FIELDS, Rule

# flow_type, h_u, h_ext, m_u, m_ext, padding, ring_cookie, location, padding
_SPEC = struct.Struct("=I52s20s52s20s4xQI4x")
SPEC_SIZE = _SPEC.size
FLOW_EXT, FLOW_MAC_EXT = 0x80000000, 0x40000000
CODES = {"tcp4": 0x01, "udp4": 0x02, "sctp4": 0x03, "tcp6": 0x05, "udp6": 0x06, "sctp6": 0x07, "ip4": 0x0D, "ip6": 0x0E, "ether": 0x12}
DISCARD = (1 << 64) - 1
_VLAN = (10, 2)
_PORTS4 = {"src-ip": (0, 4), "dst-ip": (4, 4), "src-port": (8, 2), "dst-port": (10, 2), "tos": (12, 1)}
_PORTS6 = {"src-ip": (0, 16), "dst-ip": (16, 16), "src-port": (32, 2), "dst-port": (34, 2), "tos": (36, 1)}
# {type: {field: (offset, bytes)}} in h_u and m_u: ethtool_tcpip4_spec, ethtool_usrip4_spec, their IPv6 kin, ethhdr
_PLACES = {
    **dict.fromkeys(("tcp4", "udp4", "sctp4"), _PORTS4), **dict.fromkeys(("tcp6", "udp6", "sctp6"), _PORTS6),
    "ip4": {"src-ip": (0, 4), "dst-ip": (4, 4), "tos": (12, 1), "l4proto": (14, 1)},
    "ip6": {"src-ip": (0, 16), "dst-ip": (16, 16), "tos": (36, 1), "l4proto": (37, 1)},
    "ether": {"dst": (0, 6), "src": (6, 6), "proto": (12, 2)},
}
_IP_VERSION = (13, 1)
_IP4 = 1


def packed(rule: Rule, location: int) -> bytes:
    """The kernel's form of a rule, at a location."""
    value, mask, value_ext, mask_ext = bytearray(52), bytearray(52), bytearray(20), bytearray(20)
    code = CODES[rule.flow_type]
    for name, text in rule.matches:
        bits, care = _bytes_of(name, text)
        if name == "vlan":
            code |= FLOW_EXT
            value_ext[_VLAN[0]:sum(_VLAN)], mask_ext[_VLAN[0]:sum(_VLAN)] = bits, care
            continue
        start, width = _PLACES[rule.flow_type][name]
        value[start:start + width], mask[start:start + width] = bits, care
    if rule.flow_type == "ip4":
        value[_IP_VERSION[0]] = _IP4
    cookie = DISCARD if rule.action == DROP else rule.action
    return _SPEC.pack(code, bytes(value), bytes(value_ext), bytes(mask), bytes(mask_ext), cookie, location)


def unpacked(spec: bytes) -> Rule:
    """The rule that a driver holds. Masks and targets that the model has no words for are part of the text, so that such a rule equals no other."""
    code, value, value_ext, mask, mask_ext, cookie, location = _SPEC.unpack(spec)
    names = {number: name for name, number in CODES.items()}
    flow_type = names.get(code & ~(FLOW_EXT | FLOW_MAC_EXT), f"type-{code & ~(FLOW_EXT | FLOW_MAC_EXT):#x}")
    matches = [(name, _text_of(name, value[start:start + width], mask[start:start + width]))
               for name in FIELDS.get(flow_type, ()) for start, width in [_PLACES[flow_type][name]] if any(mask[start:start + width])]
    if code & FLOW_EXT and any(mask_ext[_VLAN[0]:sum(_VLAN)]):
        matches.append(("vlan", _text_of("vlan", value_ext[_VLAN[0]:sum(_VLAN)], mask_ext[_VLAN[0]:sum(_VLAN)])))
    known = [*_PLACES.get(flow_type, {}).values(), *([_IP_VERSION] if flow_type == "ip4" else [])]
    if _goes_beyond(mask, known) or (code & (FLOW_EXT | FLOW_MAC_EXT) and _goes_beyond(mask_ext, [_VLAN])):
        matches.append(("other-fields", f"{value.hex()}{value_ext.hex()} m {mask.hex()}{mask_ext.hex()}"))
    return Rule(flow_type, tuple(matches), DROP if cookie == DISCARD else cookie, location)


def _goes_beyond(mask: bytes, known: Iterable[tuple[int, int]]) -> bool:
    """Whether a mask asks for bits outside of the known fields."""
    places = {place for start, width in known for place in range(start, start + width)}
    return any(byte for place, byte in enumerate(mask) if place not in places)


def _bytes_of(name: str, text: str) -> tuple[bytes, bytes]:
    """Value and mask of a field."""
    if name in ("src-ip", "dst-ip"):
        network = ipaddress.ip_network(text)
        return network.network_address.packed, network.netmask.packed
    if name in ("src", "dst"):
        return bytes.fromhex(text.replace(":", "")), b"\xff" * 6
    width = 1 if name in ("tos", "l4proto") else 2
    return int(text, 0).to_bytes(width, "big"), b"\xff" * width


def _text_of(name: str, value: bytes, mask: bytes) -> str:
    whole = all(byte == 0xFF for byte in mask)
    if name in ("src-ip", "dst-ip"):
        address, care = ipaddress.ip_address(value), ipaddress.ip_address(mask)
        bits = bin(int(care)).count("1")
        contiguous = int(care) == ((1 << bits) - 1) << (8 * len(mask) - bits)
        return str(address) if whole else f"{address}/{bits}" if contiguous else f"{address} m {care}"
    if name in ("src", "dst"):
        text, care_text = value.hex(":"), mask.hex(":")
    else:
        number = int.from_bytes(value, "big")
        text, care_text = f"{number:#06x}" if name == "proto" else str(number), f"{int.from_bytes(mask, 'big'):#x}"
    return text if whole else f"{text} m {care_text}"
