# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes that come or change, as the kernel tells of them, and the mark that is left where one lacks what is wanted.

udev knows nothing of routes. This is a service of its own (docs/decisions/0014-route-metrics.md): it listens, and sets nothing.

Source: include/uapi/linux/rtnetlink.h, Documentation/userspace-api/netlink/intro.rst.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..model.route_events import TABLES, Interest, RouteEvent, features_in_words, interests, is_missed
from ..model.setting import SpecError, merged_spec
from .deployment import DESIRED, MARKS, PROGRAM, ROUTES_DOMAIN, kept
from .machine import Host
from .netlink import DUMP, REQUEST, attribute_list, attributes, number

NEW_ROUTE, GET_ROUTE, UNICAST, ROUTER_ADVERTISEMENT = 24, 26, 1, 9
IPV4_ROUTES, IPV6_ROUTES = 0x40, 0x400
DESTINATION, DEVICE, METRICS, SEVERAL, TABLE = 1, 4, 8, 9, 15
LOCKS, RTO_MIN, FEATURES, ALGORITHM = 1, 13, 12, 16
_NUMBERS = {11: "initcwnd", 14: "initrwnd", 15: "quickack"}
_HEADER = struct.Struct("=IHHII")
_ROUTE = struct.Struct("=BBBBBBBBI")
_HOP = struct.Struct("=HBBi")
_BUFFER = 1 << 20


def watch(host: Host) -> bool:
    """Leave a mark for every route that lacks something, until the program or the desired state is another one.

    False where no routes are wanted, at once. Raises ``OSError`` and ``Unreadable``.
    """
    wishes, stamp = wanted_of(host), _stamp(host)
    if not wishes:
        return False
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        link.bind((0, IPV4_ROUTES | IPV6_ROUTES))
        # what came before we listened is told by the same messages
        link.send(_HEADER.pack(_HEADER.size + _ROUTE.size, GET_ROUTE, REQUEST | DUMP, 1, 0) + bytes(_ROUTE.size))
        while _stamp(host) == stamp:
            if _is_missed(link, wishes):
                leave_mark(host)
    return True


def _is_missed(link: socket.socket, wishes: tuple[Interest, ...]) -> bool:
    """Whether the next messages tell of a route that lacks something; or that some were lost, which may have."""
    try:
        return any(is_missed(event, wishes) for event in events(link.recv(1 << 16)))
    except OSError as error:
        if error.errno != errno.ENOBUFS:
            raise
        return True


def wanted_of(host: Host) -> tuple[Interest, ...]:
    """What the host keeps of routes; raises ``Unreadable``."""
    try:
        return interests(merged_spec({part: dict(spec) for part, spec in kept(host).get(ROUTES_DOMAIN, {}).items()}), _tables(host))
    except SpecError:
        return ()


def _tables(host: Host) -> dict[str, int]:
    """Numbers of the routing tables that have names: iproute2's files, one "number name" a line."""
    found = dict(TABLES)
    for path in ("/usr/share/iproute2/rt_tables", "/etc/iproute2/rt_tables"):
        lines = (line.split("#")[0].split() for line in (host.read_if_there(path) or "").splitlines())
        found.update({words[1]: int(words[0]) for words in lines if len(words) == 2 and words[0].isdecimal()})
    return found


def _stamp(host: Host) -> tuple[int, ...]:
    """What changes when the program or the desired state is replaced."""
    return tuple(os.stat(host.path(path)).st_mtime_ns if host.exists(path) else 0 for path in (PROGRAM, DESIRED))


def leave_mark(host: Host) -> None:
    """Tell the watch for NICs; raises ``OSError``."""
    mark = Path(host.path(MARKS)) / "event"
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()


def events(data: bytes) -> Iterator[RouteEvent]:
    """The unicast routes that messages tell of, new and changed ones; those of router advertisements, which stay as they are, left out."""
    while len(data) >= _HEADER.size:
        length, kind, _flags, _sequence, _port = _HEADER.unpack_from(data)
        if not _HEADER.size <= length <= len(data):
            return
        message, data = data[_HEADER.size:length], data[length + (-length % 4):]
        if kind == NEW_ROUTE and len(message) >= _ROUTE.size:
            family, bits, _source, _tos, table, protocol, _scope, route_type, _bits = _ROUTE.unpack_from(message)
            if route_type == UNICAST and family in (socket.AF_INET, socket.AF_INET6) and not (family == socket.AF_INET6 and protocol == ROUTER_ADVERTISEMENT):
                yield _event(4 if family == socket.AF_INET else 6, bits, table, attributes(message[_ROUTE.size:]))


def _event(family: int, length: int, table: int, told: Mapping[int, bytes]) -> RouteEvent:
    hops = [number(told[DEVICE])] if DEVICE in told else []
    several = told.get(SEVERAL, b"")
    while len(several) >= _HOP.size:
        size, _flags, _hops, device = _HOP.unpack_from(several)
        hops.append(device)
        several = several[max(size, _HOP.size) + (-size % 4):]
    return RouteEvent(family, number(told[TABLE]) if TABLE in told else table, int.from_bytes(told.get(DESTINATION, b""), "big"), length,
                      frozenset(map(_device, hops)), _metrics(told.get(METRICS, b"")))


def _device(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return ""


def _metrics(data: bytes) -> dict[str, str]:
    """Metrics in the words in which they are wanted."""
    told = dict(attribute_list(data))
    found = {name: str(number(told[kind])) for kind, name in _NUMBERS.items() if kind in told}
    locks = number(told[LOCKS]) if LOCKS in told else 0
    if RTO_MIN in told and locks & 1 << RTO_MIN:
        found["rto_min"] = f"{number(told[RTO_MIN])}ms"
    if ALGORITHM in told:
        found["congctl"] = os.fsdecode(told[ALGORITHM].rstrip(b"\0"))
    if FEATURES in told:
        found["features"] = features_in_words(number(told[FEATURES]))
    return found
