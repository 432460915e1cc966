# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Channels, rings, coalescing, pause, EEE and private flags over the kernel's ethtool netlink family: each parameter typed, and only those
that the driver has.

Source: Documentation/networking/ethtool-netlink.rst, include/uapi/linux/ethtool_netlink.h.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Mapping

from ..model.nic_parameters import CHANNELS, COALESCE, EEE, NAMES, PAUSE, PRIVATE_FLAGS, RINGS, Parameter
from .netlink import NESTED, Netlink, attribute, attribute_list, attributes, number, text_attribute

FAMILY, VERSION = "ethtool", 1
HEADER, DEVICE_NAME = 1, 2
# {group: (message that asks, message that sets)}
MESSAGES = {PRIVATE_FLAGS: (13, 14), RINGS: (15, 16), CHANNELS: (17, 18), COALESCE: (19, 20), PAUSE: (21, 22), EEE: (23, 24)}
_PLAIN, _SWITCH = 4, 1
# {group: {parameter: (attribute of its value, of its maximum or 0, bytes)}}
_COALESCE = (
    "rx-usecs", "rx-frames", "rx-usecs-irq", "rx-frames-irq", "tx-usecs", "tx-frames", "tx-usecs-irq", "tx-frames-irq", "stats-block-usecs", "adaptive-rx",
    "adaptive-tx", "pkt-rate-low", "rx-usecs-low", "rx-frames-low", "tx-usecs-low", "tx-frames-low", "pkt-rate-high", "rx-usecs-high", "rx-frames-high",
    "tx-usecs-high", "tx-frames-high", "sample-interval", "cqe-mode-tx", "cqe-mode-rx", "tx-aggr-max-bytes", "tx-aggr-max-frames", "tx-aggr-time-usecs")
_WIDE = {"adaptive-rx", "adaptive-tx", "cqe-mode-tx", "cqe-mode-rx"}
ATTRIBUTES = {
    RINGS: {"rx": (6, 2, _PLAIN), "rx-mini": (7, 3, _PLAIN), "rx-jumbo": (8, 4, _PLAIN), "tx": (9, 5, _PLAIN), "rx-buf-len": (10, 0, _PLAIN),
            "cqe-size": (12, 0, _PLAIN), "tx-push": (13, 0, _SWITCH), "rx-push": (14, 0, _SWITCH), "tx-push-buf-len": (15, 16, _PLAIN)},
    CHANNELS: {"rx": (6, 2, _PLAIN), "tx": (7, 3, _PLAIN), "other": (8, 4, _PLAIN), "combined": (9, 5, _PLAIN)},
    COALESCE: {name: (kind, 0, _SWITCH if name in _WIDE else _PLAIN) for kind, name in enumerate(_COALESCE, start=2)},
    PAUSE: {"autoneg": (2, 0, _SWITCH), "rx": (3, 0, _SWITCH), "tx": (4, 0, _SWITCH)},
    EEE: {"enabled": (5, 0, _SWITCH), "tx-lpi": (6, 0, _SWITCH), "tx-timer": (7, 0, _PLAIN)},
}
_FLAGS = 2
_NO_MASK, _SIZE, _BITS = 1, 2, 3
_BIT, _BIT_NAME, _BIT_VALUE = 1, 2, 3


def read_group(link: Netlink, interface: str, group: str) -> dict[str, Parameter]:
    """``{parameter: Parameter}`` of those the driver has; raises ``OSError`` (EOPNOTSUPP where it has none of the group)."""
    answers = link.request(link.family(FAMILY), MESSAGES[group][0], VERSION, _header(interface))
    held = attributes(answers[0]) if answers else {}
    if group == PRIVATE_FLAGS:
        return _flags(held.get(_FLAGS, b""))
    return {name: Parameter(number(held[kind]), number(held[most]) if most in held else None)
            for name, (kind, most, _width) in ATTRIBUTES[group].items() if kind in held and not _absent(held, most)}


def _absent(held: Mapping[int, bytes], most: int) -> bool:
    """A maximum of 0 is the driver's way to say that it has no such ring or channel."""
    return most in held and number(held[most]) == 0


def write_group(link: Netlink, interface: str, group: str, values: Mapping[str, int]) -> None:
    """Set parameters of one group in one request; raises ``OSError`` with the kernel's errno and words."""
    if group == PRIVATE_FLAGS:
        asked = attribute(_FLAGS | NESTED, attribute(_BITS | NESTED, b"".join(_bit(name, on=bool(on)) for name, on in values.items())))
    else:
        asked = b"".join(_value(*ATTRIBUTES[group][name], values[name]) for name in NAMES[group] if name in values)
    link.request(link.family(FAMILY), MESSAGES[group][1], VERSION, _header(interface) + asked)


def _value(kind: int, _most: int, width: int, value: int) -> bytes:
    if value >> 8 * width:
        raise OSError(errno.ERANGE, f"{value} is more than the kernel's interface can say")
    return attribute(kind, struct.pack("=B" if width == _SWITCH else "=I", value))


def _header(interface: str) -> bytes:
    return attribute(HEADER | NESTED, text_attribute(DEVICE_NAME, interface))


def _bit(name: str, *, on: bool) -> bytes:
    return attribute(_BIT | NESTED, text_attribute(_BIT_NAME, name) + (attribute(_BIT_VALUE, b"") if on else b""))


def _flags(bitset: bytes) -> dict[str, Parameter]:
    """Private flags from a bitset in its long form: every bit with its name, and a value where it is set."""
    bits = [attributes(bit) for kind, bit in attribute_list(attributes(bitset).get(_BITS, b"")) if kind == _BIT]
    return {bit[_BIT_NAME].rstrip(b"\0").decode("utf-8", "replace"): Parameter(int(_BIT_VALUE in bit)) for bit in bits if _BIT_NAME in bit}
