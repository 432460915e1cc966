# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's routes through iproute2: its JSON, and its text for the locks of metrics, which the JSON does not have."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..model.routes import (
    ANY,
    MAIN,
    Found,
    Route,
    RoutesState,
    change,
    entry_problems,
    families,
    metric_of,
    parsed,
    route_of,
    selected,
    without_twins,
)
from ..model.setting import Setting
from .links import NET, management_interfaces
from .machine import Host
from .programs import ProgramFailed, output_of

# There is one where the kernel has IPv6 at all.
IPV6 = "/proc/net/if_inet6"
# A route that changes between the two looks at it is looked at again.
_LOOKS = 5


def read_routes(host: Host, spec: Mapping[str, Any]) -> RoutesState:
    """What every entry of ``spec['routes']`` selects; raises ``ProgramFailed``."""
    return RoutesState(tuple(_found(host, entry) for entry in spec.get("routes") or []), management_interfaces(host))


def _found(host: Host, entry: Mapping[str, Any]) -> Found:
    if entry_problems(entry):
        return Found()  # the plan tells
    if not host.live:
        return Found(silent="a captured tree does not hold the kernel's routes")
    interface = entry.get("interface")
    if interface and str(interface) not in host.names(NET):
        return Found(unreadable=f"no interface {interface} on this host; there are: {', '.join(host.names(NET))}")
    table = str(entry.get("table") or MAIN)
    here = [family for family in families(entry) if family == 4 or host.exists(IPV6)]
    there = tuple(route for family in here for route in routes(family, table, _filter(entry)))
    chosen = selected(entry, there)
    if not chosen and _filter(entry):
        return Found(there=tuple(route for family in here for route in routes(family, table, ())))
    return Found(chosen, there)


def _filter(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """What iproute2 is to show for an entry: with all of a large table, it takes long."""
    to = str(entry.get("to") or ANY)
    if to != ANY:
        return ("exact", to)
    return ("root", str(entry["within"])) if entry.get("within") else ()


def routes(family: int, table: str, chosen: Sequence[str]) -> tuple[Route, ...]:
    """The routes of one family and table, as far as ``chosen`` (words of ``ip route show``); raises ``ProgramFailed``."""
    shown = (f"-{family}", "route", "show", "table", table, *chosen)
    for _look in range(_LOOKS):
        try:
            entries, lines = _entries(output_of("ip", "-j", "-d", *shown)), output_of("ip", "-d", "-o", *shown).splitlines()
        except ProgramFailed as error:
            if "FIB table does not exist" in str(error):
                return ()
            raise
        # the lines of a next hop object begin with a tab, -o or not
        words = [line.split() for line in lines if not line[:1].isspace()]
        if [[entry.get("type"), entry.get("dst")] for entry in entries] == [line[:2] for line in words]:
            return without_twins(Route(family, table, entry, parsed(line)) for entry, line in zip(entries, words))
    raise ProgramFailed(f"ip {' '.join(shown)}: the routes change faster than they can be read")


def _entries(text: str) -> list[dict[str, Any]]:
    # an encapsulation repeats keys of the route, which come first
    entries: list[dict[str, Any]] = json.loads(text or "[]", object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    return entries


def batch_of(setting: Setting) -> str:
    """What is written at once: the metrics of one route."""
    return route_of(setting)


def write_routes(host: Host, state: RoutesState, settings: Sequence[Setting]) -> None:
    """Give one route its metrics; raises ``ProgramFailed`` where it is not the one any more that was read, or is not afterwards."""
    name = route_of(settings[0])
    before = state.route(name)
    now = None if before is None else _again(before)
    if before is None or now is None:
        raise ProgramFailed(f"{name}: the route is gone since it was read; nothing was written")
    if now.itself != before.itself:
        raise ProgramFailed(f"{name}: the route is another one since it was read ({_differs(before, now)}); nothing was written")
    output_of("ip", *change(now, {metric_of(setting): _locked(setting) for setting in settings}))
    after = _again(now)
    if after is None or after.itself != now.itself:
        raise ProgramFailed(f"{name}: the route is {'gone' if after is None else _differs(now, after)} after its metrics were set")


def _again(route: Route) -> Route | None:
    """The route at the same place, as it is now."""
    there = routes(route.family, route.table, ("exact", route.destination))
    return next((other for other in there if other.place == route.place), None)


def _differs(one: Route, other: Route) -> str:
    keys = sorted(key for key in {*one.itself, *other.itself} if one.itself.get(key) != other.itself.get(key))
    return ", ".join(f"{key} {one.itself.get(key)} became {other.itself.get(key)}" for key in keys)


def _locked(setting: Setting) -> str | None:
    """A value in the words of ``ip route``; of a timer, as it was shown, for the one that is put back."""
    if setting.desired is None or metric_of(setting) != "rto_min":
        return setting.desired
    return setting.desired.split(",")[0]
