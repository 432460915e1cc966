# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wanted of routes: initial windows, quick acknowledgements, the shortest retransmission timer, congestion control. Pure: no I/O.

A route is never typed anew: what a change says of it is what iproute2 showed of it, with other metrics. What cannot be given back
unchanged is left alone (docs/decisions/0014-route-metrics.md).

Source: ip-route(8); iproute2, ip/iproute.c (print_route, parse_metrics); Documentation/networking/ip-sysctl.rst; net/ipv4/fib_trie.c
(fib_table_insert), net/ipv6/ip6_fib.c (fib6_add_rt2node).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Union

from .setting import ERROR, Plan, Setting, SpecError, item_name, unsupported

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

METRICS = ("initcwnd", "initrwnd", "quickack", "rto_min", "congctl", "features")
FEATURES = ("ecn", "tcp_usec_ts")
# Beyond it a first flight can overrun the buffer of a switch port.
MUCH, MOST = 20, 40
ANY, DEFAULT, MAIN = "any", "default", "main"
CONTROL = "route"

# Every metric that iproute2 shows; each is followed by "lock" where that is set, and by its value.
_SHOWN = ("mtu", "window", "rtt", "rttvar", "ssthresh", "cwnd", "advmss", "reordering", "hoplimit", "fastopen_no_cookie", *METRICS)
# What a change can say again, in words that take the value of the field as it is.
_SAID_AGAIN = {"tos": "tos", "from": "from", "protocol": "proto", "scope": "scope", "prefsrc": "src", "metric": "metric", "pref": "pref", "nhid": "nhid"}
_KNOWN = frozenset({*_SAID_AGAIN, "type", "dst", "gateway", "via", "dev", "flags", "metrics", "nexthops", "nh_info", "table"})
# What the kernel tells of the state of a route, which is no part of it.
_PASSING = frozenset({"linkdown", "dead", "offload", "trap", "offload_failed", "rt_offload", "rt_trap", "rt_offload_failed"})


@dataclass(frozen=True)
class Route:
    """One route as iproute2 shows it: the fields of its JSON, and its metrics in words, ``("rto_min", "lock", "5ms")``, since the JSON has no locks."""

    family: int
    table: str
    fields: Mapping[str, Any]
    metrics: tuple[tuple[str, ...], ...] = ()

    @property
    def name(self) -> str:
        """How the route is told from every other one, in the words of ``ip route``."""
        words = [self.destination if self.destination != DEFAULT or self.family == 4 else "::/0"]
        words += [f"{key} {self.fields[key]}" for key in ("tos", "metric", "dev") if key in self.fields]
        return " ".join([*words, *([f"table {self.table}"] if self.table != MAIN else [])])

    @property
    def destination(self) -> str:
        return str(self.fields["dst"])

    @property
    def network(self) -> Network:
        """Where it leads."""
        nowhere = "0.0.0.0/0" if self.family == 4 else "::/0"
        return ipaddress.ip_network(nowhere if self.destination == DEFAULT else self.destination)

    @property
    def devices(self) -> tuple[str, ...]:
        """The interfaces it leads out of."""
        hops = (self.fields, *(self.fields.get("nexthops") or ()))
        return tuple(str(hop["dev"]) for hop in hops if hop.get("dev"))

    @property
    def place(self) -> tuple[Any, ...]:
        """What the kernel finds a route by that is to be changed: routes that agree in it cannot be told apart in a change."""
        return (self.family, self.table, self.destination, self.fields.get("tos"), self.fields.get("metric", 0), self.fields.get("from"))

    @property
    def itself(self) -> dict[str, Any]:
        """All of it but its metrics and what passes: equal for the same route before and after a change."""
        kept = {key: value for key, value in self.fields.items() if key not in ("metrics", "nh_info", "flags", "nexthops")}
        hops = [{**hop, "flags": _lasting(hop)} for hop in self.fields.get("nexthops") or ()]
        return {**kept, "flags": _lasting(self.fields), **({"nexthops": hops} if hops else {})}

    def value(self, metric: str) -> str | None:
        """A metric as it is wanted; None where the route has none. A timer that is not locked is none: the kernel takes no notice of it."""
        words = next((words for words in self.metrics if words[0] == metric), None)
        if words is None:
            return None
        if metric == "rto_min" and "lock" not in words:
            return f"{words[-1]}, not locked"
        return " ".join(sorted(words[1:])) if metric == "features" else words[-1]


def _lasting(hop: Mapping[str, Any]) -> list[str]:
    return sorted(flag for flag in hop.get("flags") or () if flag not in _PASSING)


@dataclass(frozen=True)
class Found:
    """What one entry of the specification selects, or why that could not be told: ``unreadable`` where it went wrong, ``silent`` where nobody can be asked.

    ``there`` are the routes it was chosen from.
    """

    routes: tuple[Route, ...] = ()
    there: tuple[Route, ...] = ()
    unreadable: str = ""
    silent: str = ""


@dataclass(frozen=True)
class RoutesState:
    """What each entry of ``spec['routes']`` selects, in its order; ``protected`` has the interfaces that keep the host reachable, and why."""

    found: tuple[Found, ...]
    protected: Mapping[str, str] = field(default_factory=dict)

    def route(self, name: str) -> Route | None:
        """The selected route of a name."""
        return next((route for found in self.found for route in found.routes if route.name == name), None)


def parsed(words: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The metrics in a line of ``ip -d -o route show``, in words.

    >>> parsed("unicast 10.1.0.0/16 via 10.0.0.3 dev eth0 proto boot scope global mtu lock 1400 features ecn initcwnd 20".split())
    (('mtu', 'lock', '1400'), ('features', 'ecn'), ('initcwnd', '20'))
    """
    found: list[tuple[str, ...]] = []
    # names of interfaces come before the scope, or after the backslash of several next hops
    words = words[:words.index("\\")] if "\\" in words else words
    at = words.index("scope") + 2 if "scope" in words else len(words)
    while at < len(words):
        taken = 1
        if words[at] in _SHOWN:
            lock = at + 1 < len(words) and words[at + 1] == "lock"
            taken = 3 if lock else 2
            while words[at] == "features" and at + taken < len(words) and words[at + taken] in FEATURES:
                taken += 1
            found.append(tuple(words[at:at + taken]))
        at += taken
    return tuple(found)


def understood(route: Route) -> bool:
    """Whether the words have as many metrics as the JSON, where each feature is a key of its own."""
    told = sum(len(metrics) for metrics in route.fields.get("metrics") or ())
    return told == sum(len(words) - 1 if words[0] == "features" else 1 for words in route.metrics)


def without_twins(routes: Iterable[Route]) -> tuple[Route, ...]:
    """The routes without IPv4 ones that differ from an earlier one by their metrics only: the kernel uses, and changes, the first.

    NetworkManager adds its connected route again beside one whose metrics somebody set.
    """
    found: list[Route] = []
    for route in routes:
        if route.family == 6 or not any(other.place == route.place and other.itself == route.itself for other in found):
            found.append(route)
    return tuple(found)


def problems(spec: Mapping[str, Any]) -> list[str]:
    """What is wrong with the metrics wanted of all routes. What is wrong with one entry is told in the plan, and stops no other."""
    return [f"metrics: {problem}" for problem in _metric_problems(spec.get("metrics") or {})]


def _metric_problems(metrics: Mapping[str, Any]) -> list[str]:
    found = []
    for name, value in metrics.items():
        try:
            wanted(str(name), value)
        except SpecError as error:
            found.append(str(error))
    return found


def wanted(name: str, value: Any) -> str:
    """A metric's value as a route shows it; raises ``SpecError``."""
    if name not in METRICS:
        raise SpecError(f"no metric {name!r}; there are: {', '.join(METRICS)}")
    text = " ".join(sorted(str(word) for word in value)) if isinstance(value, list) else str(value)
    if name in ("initcwnd", "initrwnd"):
        right, rule = text.isdecimal() and 1 <= int(text) <= MOST, f"a number of segments from 1 to {MOST}"
    elif name == "quickack":
        right, rule = text in ("0", "1") and not isinstance(value, bool), "0 or 1"
    elif name == "rto_min":
        number = text[:-2] if text.endswith("ms") else ""
        right, rule = number.isdecimal() and 1 <= int(number) <= 120000, "whole milliseconds, such as 5ms"
    elif name == "features":
        right, rule = bool(text) and set(text.split()) <= set(FEATURES), f"one or more of {', '.join(FEATURES)}"
    else:
        right, rule = bool(text) and len(text) < 16 and all(char.isalnum() or char in "_-" for char in text) and not text.startswith("-"), "an algorithm's name"
    if not right:
        raise SpecError(f"{name} {value!r} is not {rule}")
    return f"{int(text[:-2])}ms" if name == "rto_min" else str(int(text)) if text.isdecimal() else text


def entry_problems(entry: Mapping[str, Any]) -> list[str]:
    """What is wrong with one entry, without the host."""
    found = []
    for key in ("to", "within"):
        value = str(entry.get(key) or ANY)
        try:
            network_of(value)
        except ValueError as error:
            found.append(f"{key}: {value!r} is no prefix ({error}); write it as 10.64.0.0/24, 2001:db8::/32{', default or any' if key == 'to' else ''}")
    if not found and entry.get("within") and network_of(str(entry["within"])) is None:
        found.append(f"within: {entry['within']!r} is no prefix")
    if str(entry.get("to") or ANY) == ANY and not entry.get("within") and not entry.get("interface"):
        found.append("selects every route of the host; say to, within or interface")
    return found + _metric_problems(entry.get("metrics") or {})


def network_of(text: str) -> Network | None:
    """The prefix a selector names; None for ``any`` and ``default``. Raises ``ValueError``."""
    return None if text in (ANY, DEFAULT) else ipaddress.ip_network(text)


def families(entry: Mapping[str, Any]) -> tuple[int, ...]:
    """Which of IPv4 and IPv6 an entry can select."""
    networks = [network_of(str(entry.get(key) or ANY)) for key in ("to", "within")]
    return tuple(family for family in (4, 6) if all(network is None or network.version == family for network in networks))


def selected(entry: Mapping[str, Any], routes: Iterable[Route]) -> tuple[Route, ...]:
    """The routes an entry speaks of. Those to link-local addresses are none of a general one."""
    to, within = str(entry.get("to") or ANY), network_of(str(entry.get("within") or ANY))
    exactly, interface = network_of(to), entry.get("interface")

    def is_meant(route: Route) -> bool:
        if route.fields.get("type") != "unicast" or (interface and interface not in route.devices):
            return False
        if to != ANY:
            return route.network == exactly if exactly is not None else route.network.prefixlen == 0
        # mypy cannot see that both are of one family where the first is true
        return not route.network.is_link_local and (
            within is None or (route.network.version == within.version and route.network.subnet_of(within)))  # type: ignore[arg-type]

    return tuple(route for route in routes if is_meant(route))


def obstacle(route: Route, there: Iterable[Route], metrics: Iterable[str] = ()) -> str:
    """Why a route cannot be given these metrics without losing something of it, or nothing."""
    strange = sorted(set(route.fields) - _KNOWN) + [flag for flag in _lasting(route.fields) if flag != "onlink"]
    if route.family == 6 and ("expires" in route.fields or route.fields.get("protocol") == "ra"):
        return "it comes from router advertisements, and a change would cut it off from them"
    if strange:
        return f"it has {', '.join(strange)}, which cannot be given back unchanged"
    if route.family == 6 and route.fields.get("nexthops"):
        return "the kernel changes an IPv6 route of several next hops in steps, in which it could be lost; set its metrics where it is made"
    if not understood(route):
        return "iproute2 shows metrics of it that are not understood, and would be lost"
    if "rto_min" not in metrics and "locked" in str(route.value("rto_min")):
        return "its rto_min is not locked, and a change would lock it; say which rto_min is wanted"
    if sum(other.place == route.place for other in there) > 1:
        return "there is another one of the same destination and metric, and the kernel would change any of them; give them metrics of their own"
    return ""


def plan(state: RoutesState, spec: Mapping[str, Any]) -> Plan:
    """Every wanted metric of every selected route; of two entries that select one route, the more specific says. What cannot be served is told."""
    settings: list[Setting] = []
    meant: dict[str, dict[str, str]] = {}
    routes: dict[str, tuple[Route, Found]] = {}
    for entry, found in sorted(zip(spec.get("routes") or [], state.found), key=lambda pair: _specific(pair[0])):
        if found.silent:
            settings.append(unsupported(CONTROL, item_name(entry), None, found.silent))
            continue
        metrics, reasons = _wanted_of(spec, entry, found)
        if reasons:
            settings.append(Setting(CONTROL, item_name(entry), None, state=ERROR, reason="; ".join(dict.fromkeys(reasons))))
            continue
        for route in found.routes:
            against = _against(route, entry, found, state, metrics)
            if against is not None:
                settings.append(against)
                continue
            routes[route.name] = (route, found)
            meant.setdefault(route.name, {}).update(metrics)
    settings += [_metric_setting(routes[name][0], metric, values[metric]) for name, values in meant.items() for metric in METRICS if metric in values]
    return Plan(tuple({setting.key: setting for setting in settings}.values()))


def _specific(entry: Mapping[str, Any]) -> tuple[bool, int, bool]:
    """How closely an entry selects, to sort by; a prefix that is none counts as none."""
    try:
        within = network_of(str(entry.get("within") or ANY))
    except ValueError:
        within = None
    return (str(entry.get("to") or ANY) != ANY, within.prefixlen if within else -1, bool(entry.get("interface")))


def _wanted_of(spec: Mapping[str, Any], entry: Mapping[str, Any], found: Found) -> tuple[dict[str, str], list[str]]:
    """The metrics one entry wants, and why it cannot be served at all."""
    reasons = entry_problems(entry) or ([found.unreadable] if found.unreadable else [])
    metrics = {**(spec.get("metrics") or {}), **(entry.get("metrics") or {})}
    if not reasons and not metrics:
        reasons = ["no metrics are wanted of it; give metrics here or for all routes"]
    if not reasons and not found.routes:
        there = ", ".join(sorted({route.name for route in found.there})[:10])
        reasons = [f"selects no unicast route of this host; there are: {there or 'none'}"]
    return ({} if reasons else {name: wanted(name, value) for name, value in metrics.items()}, reasons)


def _against(route: Route, entry: Mapping[str, Any], found: Found, state: RoutesState, metrics: Mapping[str, str]) -> Setting | None:
    """What keeps one selected route from being served, told: an error where it was asked for by its prefix, or where it keeps the host reachable."""
    guards = [f"{device} {state.protected[device]}" for device in route.devices if device in state.protected]
    if guards and not entry.get("management"):
        return Setting(CONTROL, route.name, None, state=ERROR, reason=f"{guards[0]}; its routes are not changed unless the entry says management: true")
    reason = obstacle(route, found.there, metrics)
    if reason and network_of(str(entry.get("to") or ANY)) is not None:
        return Setting(CONTROL, route.name, None, state=ERROR, reason=reason)
    return unsupported(CONTROL, route.name, None, reason) if reason else None


def _metric_setting(route: Route, metric: str, value: str) -> Setting:
    reason = f"more than {MUCH} segments at once can overrun the buffer of a switch port" if metric == "initcwnd" and int(value) > MUCH else ""
    return Setting(f"{CONTROL}.{metric}", f"{route.name} {metric}", value, route.value(metric), reason=reason)


def metric_of(setting: Setting) -> str:
    """The metric that a setting is of."""
    return setting.control[len(CONTROL) + 1:]


def route_of(setting: Setting) -> str:
    """The name of the route that a setting is of."""
    return setting.name.rpartition(" ")[0]


def change(route: Route, values: Mapping[str, str | None]) -> tuple[str, ...]:
    """The words of ``ip route`` that give a route these metrics (None: none) and leave everything else of it as it is."""
    fields = route.fields
    words = [f"-{route.family}", "route", "change", route.destination, "table", route.table]
    words += [word for key, said in _SAID_AGAIN.items() if key in fields for word in (said, str(fields[key]))]
    if "nhid" not in fields:
        words += [] if fields.get("nexthops") else _hop(fields)
    for metric in route.metrics:
        # iproute2 locks this one by itself, and has no word for it
        words += [] if metric[0] in values else [word for word in metric if metric[0] != "rto_min" or word != "lock"]
    if "nhid" in fields and not any(values.values()) and {metric[0] for metric in route.metrics} <= set(values):
        # without any, the kernel keeps those of the route that is there (fib_create_info looks for one with the same next hop)
        words += [METRICS[0], "0"]
    locked = {metric[0] for metric in route.metrics if "lock" in metric} - {"rto_min"}
    for name, value in values.items():
        words += [] if value is None else [name, *(["lock"] if name in locked else []), *value.split()]
    for hop in fields.get("nexthops") or ():
        words += ["nexthop", *_hop(hop), "weight", str(hop["weight"])]
    return tuple(words)


def _hop(hop: Mapping[str, Any]) -> list[str]:
    via = hop.get("via") or {}
    gateway = ["via", str(hop["gateway"])] if "gateway" in hop else ["via", str(via["family"]), str(via["host"])] if via else []
    return [*gateway, "dev", str(hop["dev"]), *(["onlink"] if "onlink" in (hop.get("flags") or ()) else [])]
