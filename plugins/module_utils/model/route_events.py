# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which routes that come or change lack a metric that is wanted. Pure: no I/O.

Asked for every route the kernel tells of, so it is cheap; in doubt it says yes, and the plan decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .routes import ANY, entry_problems, families, network_of, wanted
from .setting import SpecError

# As iproute2 has them in /etc/iproute2/rt_tables, which may name more.
TABLES = {"default": 253, "main": 254, "local": 255}
_FEATURES = {"ecn": 1, "tcp_usec_ts": 16}


@dataclass(frozen=True)
class RouteEvent:
    """A unicast route as the kernel tells of it: ``destination`` as a number of ``family``'s width, ``metrics`` in the words of ``ip route``."""

    family: int
    table: int
    destination: int
    length: int
    devices: frozenset[str]
    metrics: Mapping[str, str]


@dataclass(frozen=True)
class Interest:
    """One entry of the specification, ready to be asked: a route to ``prefix``/``length``, or ``inside`` of it, with these ``metrics``."""

    families: tuple[int, ...]
    table: int
    prefix: int
    length: int
    inside: bool
    interface: str
    metrics: Mapping[str, str]

    def lacking(self, event: RouteEvent) -> bool:
        """Whether a route is meant and has not what is wanted of it."""
        if event.table != self.table or event.family not in self.families or (self.interface and self.interface not in event.devices):
            return False
        if event.length < self.length or (event.length > self.length and not self.inside):
            return False
        away = (32 if event.family == 4 else 128) - self.length
        if event.destination >> away != self.prefix >> away:
            return False
        return any(event.metrics.get(name) != value for name, value in self.metrics.items())


def interests(spec: Mapping[str, Any], tables: Mapping[str, int]) -> tuple[Interest, ...]:
    """The entries of a specification that can be served; ``tables`` has the numbers of named routing tables."""
    found = []
    for entry in spec.get("routes") or []:
        named = str(entry.get("table") or "main")
        table = int(named) if named.isdecimal() else tables.get(named)
        metrics = {**(spec.get("metrics") or {}), **(entry.get("metrics") or {})}
        if table is None or entry_problems(entry):
            continue
        to, within = str(entry.get("to") or ANY), entry.get("within")
        network = network_of(str(within or ANY)) if to == ANY else network_of(to)
        try:
            words = {name: wanted(name, value) for name, value in metrics.items()}
        except SpecError:
            continue
        found.append(Interest(families(entry), table, int(network.network_address) if network else 0, network.prefixlen if network else 0,
                              to == ANY, str(entry.get("interface") or ""), words))
    return tuple(found)


def features_in_words(bits: int) -> str:
    """The features of a route as they are wanted."""
    return " ".join(sorted(name for name, bit in _FEATURES.items() if bits & bit))


def is_missed(event: RouteEvent, wishes: Iterable[Interest]) -> bool:
    """Whether any entry misses something of a route."""
    return any(wish.lacking(event) for wish in wishes)
