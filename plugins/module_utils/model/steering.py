# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Flow-steering rules (ntuple, Intel's Flow Director) and the spreading of all other packets over the queues. Pure: no I/O.

Source: ethtool(8) (-N, -X), include/uapi/linux/ethtool.h (struct ethtool_rx_flow_spec, RXH_*).
"""

from __future__ import annotations

import ipaddress
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .setting import SpecError

DROP = -1
_IP4 = ("src-ip", "dst-ip", "tos")
_PORTS = ("src-port", "dst-port")
# What a rule of each type may name, in the order in which it is written down.
FIELDS = {
    "tcp4": (*_IP4, *_PORTS), "udp4": (*_IP4, *_PORTS), "sctp4": (*_IP4, *_PORTS), "ip4": (*_IP4, "l4proto"),
    "tcp6": (*_IP4, *_PORTS), "udp6": (*_IP4, *_PORTS), "sctp6": (*_IP4, *_PORTS), "ip6": (*_IP4, "l4proto"),
    "ether": ("src", "dst", "proto"),
}
_LIMITS = {"tos": 255, "l4proto": 255, "src-port": 65535, "dst-port": 65535, "proto": 65535, "vlan": 4095}
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
# The letters of ethtool -N rx-flow-hash, in the order of their bits.
HASH_LETTERS = "mvtsdfn"
HASH_TYPES = ("tcp4", "udp4", "sctp4", "ah4", "tcp6", "udp6", "sctp6", "ah6")


@dataclass(frozen=True)
class Rule:
    """One steering rule: packets of a type with these fields go to a queue (``action``), or nowhere (``DROP``)."""

    flow_type: str
    matches: tuple[tuple[str, str], ...]
    action: int
    location: int | None = None

    @property
    def flow(self) -> str:
        """Which packets, in ethtool's words."""
        return " ".join([self.flow_type, *(f"{name} {value}" for name, value in self.matches)])

    @property
    def target(self) -> str:
        """Where they go."""
        return "drop" if self.action == DROP else f"queue {self.action}"


def parse_rule(rule: Mapping[str, Any]) -> Rule:
    """A rule as the inventory has it (ethtool's words: flow-type, src-ip, dst-ip, dst-port, action, loc, ...); raises ``SpecError``."""
    flow_type = str(rule.get("flow-type", ""))
    if flow_type not in FIELDS:
        raise SpecError(f"rule: flow-type {flow_type or 'is missing'}; there are: {', '.join(FIELDS)}")
    allowed = (*FIELDS[flow_type], "vlan")
    unknown = sorted(set(rule) - {*allowed, "flow-type", "action", "loc"})
    if unknown:
        raise SpecError(f"rule {flow_type}: no field {', '.join(unknown)}; there are: {', '.join(allowed)}, action, loc")
    matches = tuple((name, _value(name, rule[name], flow_type)) for name in allowed if rule.get(name) is not None)
    if not matches:
        raise SpecError(f"rule {flow_type}: would match every packet; give one of {', '.join(allowed)}")
    action = rule.get("action")
    if isinstance(action, bool) or not re.fullmatch(r"-1|\d{1,5}", str(action)):
        raise SpecError(f"rule {flow_type}: action {action!r} is neither a queue number nor -1 (drop)")
    location = rule.get("loc")
    if location is not None and (isinstance(location, bool) or not re.fullmatch(r"\d{1,9}", str(location))):
        raise SpecError(f"rule {flow_type}: loc {location!r} is not a number")
    return Rule(flow_type, matches, int(str(action)), None if location is None else int(location))


def _value(name: str, value: Any, flow_type: str) -> str:
    if name in ("src-ip", "dst-ip"):
        try:
            network = ipaddress.ip_network(str(value), strict=True)
        except ValueError as error:
            raise SpecError(f"rule {flow_type}: {name} {value}: {error}") from error
        if network.version != int(flow_type[-1]):
            raise SpecError(f"rule {flow_type}: {name} {value} is of IP version {network.version}")
        if network.prefixlen == 0:
            raise SpecError(f"rule {flow_type}: {name} {value} is every address; leave it out")
        return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)
    if name in ("src", "dst"):
        if not _MAC.fullmatch(str(value).lower()):
            raise SpecError(f"rule {flow_type}: {name} {value!r} is not a MAC address")
        return str(value).lower()
    try:
        number = int(str(value), 0)
    except ValueError:
        number = -1
    if isinstance(value, bool) or not 0 <= number <= _LIMITS[name]:
        raise SpecError(f"rule {flow_type}: {name} {value!r} is not a number up to {_LIMITS[name]}")
    return f"{number:#06x}" if name == "proto" else str(number)


def rule_from(flow: str, target: str, location: int | None = None) -> Rule:
    """The rule whose ``flow`` and ``target`` were written down; raises ``SpecError``."""
    flow_type, *words = flow.split()
    action = DROP if target == "drop" else int(target.rpartition(" ")[2])
    return parse_rule({"flow-type": flow_type, **dict(zip(words[::2], words[1::2])), "action": action, "loc": location})


def table(spread: Mapping[str, Any], size: int, queues: int) -> tuple[int, ...]:
    """The indirection table of ``size`` entries that ``equal`` or ``weight`` ask for, on a NIC of that many queues; raises ``SpecError``."""
    if "weight" in spread:
        weights = [int(weight) for weight in spread["weight"]]
    else:
        weights = [1] * (queues if spread["equal"] == "channels" else int(spread["equal"]))
    if len(weights) > queues:
        raise SpecError(f"rss: {len(weights)} queues, but the NIC has {queues}")
    return _weighted(weights, size) if "weight" in spread else tuple(entry % len(weights) for entry in range(size))


def _weighted(weights: Sequence[int], size: int) -> tuple[int, ...]:
    """Entries in proportion to the weights, as ethtool -X weight spreads them."""
    entries, queue, share, total = [], -1, 0, sum(weights)
    for entry in range(size):
        while entry >= size * share // total:
            queue += 1
            share += weights[queue]
        entries.append(queue)
    return tuple(entries)


def table_text(entries: Sequence[int]) -> str:
    """An indirection table in a few words: to how many queues it spreads evenly, or the queue of each entry, as ``queue*times``."""
    queues = max(entries, default=-1) + 1
    if queues and all(queue == index % queues for index, queue in enumerate(entries)):
        return f"equal {queues}"
    return " ".join(f"{queue}*{len(list(run))}" for queue, run in itertools.groupby(entries))


def table_from(text: str, size: int) -> tuple[int, ...]:
    """The table of ``size`` entries that ``table_text`` wrote down; raises ``SpecError`` where it had another size."""
    words = text.split()
    if words[:1] == ["equal"]:
        return tuple(entry % int(words[1]) for entry in range(size))
    entries = tuple(int(queue) for queue, _star, times in (word.partition("*") for word in words) for _time in range(int(times)))
    if len(entries) != size:
        raise SpecError(f"a table of {len(entries)} entries, but the NIC has {size}")
    return entries


def spread_problems(spread: Mapping[str, Any]) -> list[str]:
    """What is wrong with a ``rss`` mapping on any NIC."""
    unknown = sorted(set(spread) - {"equal", "weight", "hash"})
    found = [f"rss: no option {', '.join(unknown)}; there are: equal, weight, hash"] if unknown else []
    if "equal" in spread and "weight" in spread:
        found.append("rss: equal and weight exclude each other")
    equal, weights = spread.get("equal", 1), spread.get("weight", [1])
    if isinstance(equal, bool) or (equal != "channels" and not re.fullmatch(r"[1-9]\d{0,4}", str(equal))):
        found.append(f"rss: equal {equal!r} is neither a number of queues nor channels")
    if not isinstance(weights, list) or not all(re.fullmatch(r"\d{1,6}", str(weight)) for weight in weights) or not sum(map(int, weights)):
        found.append(f"rss: weight {weights!r} is not a list of numbers, one of them above 0")
    fields = spread.get("hash") or {}
    if not isinstance(fields, dict):
        return [*found, "rss: hash is a mapping of packet types to ethtool's letters, such as udp4: sdfn"]
    found += [f"rss: hash: no packet type {name}; there are: {', '.join(HASH_TYPES)}" for name in fields if name not in HASH_TYPES]
    found += [f"rss: hash {name}: {letters!r} has other letters than {HASH_LETTERS}" for name, letters in fields.items()
              if not str(letters) or set(str(letters)) - set(HASH_LETTERS)]
    return found


def hash_text(letters: Any) -> str:
    """Hash letters in one order, each once."""
    return "".join(letter for letter in HASH_LETTERS if letter in str(letters))
