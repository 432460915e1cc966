# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Live TCP connections of named services: what may be expected of them, and the findings. Pure: no I/O.

Socket options belong to the application: a host can look at them and cannot set them. All settings of this domain are findings.

Source: tcp(7), socket(7), epoll(7), include/uapi/linux/inet_diag.h, include/uapi/linux/tcp.h.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Union

from .setting import DRIFTED, ERROR, Plan, Setting, unsupported

YES_OR_NO, WORD, AT_LEAST, AT_MOST, EXACTLY = "yes or no", "word", "at least", "at most", "exactly"

# tcpi_options of struct tcp_info
TIMESTAMPS, SACK = 1, 2
# idiag_timer of struct inet_diag_msg: the kernel tells one timer only, that of keepalive when no other runs
NO_TIMER, KEEPALIVE_TIMER = 0, 2

# What a socket tells only to who holds it, by the name of the expectation it is for.
KEEPALIVE, NODELAY, CORK, BUSY_POLL, USER_TIMEOUT = "keepalive", "nodelay", "cork", "busy_poll", "user_timeout_ms"
GROWS, EDGE = "send_queue_grows", "edge_triggered"

# systemd.unit(5): up to 255 characters; a template (name@.service) is no service that could run.
_SERVICE = re.compile(r"(?!.*@\.service)(?=.{1,255}$)[A-Za-z0-9_][A-Za-z0-9_.@:\\-]*\.service")
_ALGORITHM = re.compile(r"[a-z0-9_-]{1,15}")
_SHOWN = 4  # distinct values that are told one by one

Value = Union[int, str]


@dataclass(frozen=True)
class Connection:
    """One established connection as the kernel tells of it; None for what it did not tell.

    Queues and buffers are in bytes, buffers as the kernel counts them: twice of what SO_RCVBUF and SO_SNDBUF asked for.
    ``edge`` is whether every epoll set that has it has it edge-triggered, ``grew`` by how much the send queue grew while it was
    watched, ``inside`` what the socket itself answered.
    """

    local: str
    peer: str
    timer: int = NO_TIMER
    congestion: str | None = None
    cwnd: int | None = None
    options: int | None = None
    receive_queue: int = 0
    send_queue: int = 0
    receive_buffer: int | None = None
    send_buffer: int | None = None
    edge: bool | None = None
    grew: int | None = None
    inside: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Service:
    """The connections of one entry of the specification. ``silent`` says why nothing can be told of them, ``unreadable`` what went
    wrong, ``refused`` why the sockets themselves could not be asked, ``partly`` what of the service was left out."""

    connections: tuple[Connection, ...] = ()
    silent: str = ""
    unreadable: str = ""
    refused: str = ""
    partly: str = ""


@dataclass(frozen=True)
class SocketsState:
    """One ``Service`` for each entry of the specification, in its order."""

    services: tuple[Service, ...] = ()


@dataclass(frozen=True)
class Expectation:
    """What may be expected of each connection of a service. ``untold`` says when the kernel does not tell ``value``; ``inside`` marks
    what only the socket itself tells."""

    kind: str
    value: Callable[[Connection], Value | None]
    remedy: str
    untold: str = "the kernel does not tell"
    unit: str = ""
    inside: bool = False


def _option(flag: int) -> Callable[[Connection], Value | None]:
    return lambda connection: None if connection.options is None else bool(connection.options & flag)


def _inside(name: str) -> Callable[[Connection], Value | None]:
    return lambda connection: connection.inside.get(name)


def _inside_flag(name: str) -> Callable[[Connection], Value | None]:
    return lambda connection: bool(connection.inside[name]) if name in connection.inside else None


def _keepalive(connection: Connection) -> Value | None:
    """Whether SO_KEEPALIVE is on. Where the socket was not asked: its timer runs. Another timer hides it while data is in flight."""
    if KEEPALIVE in connection.inside:
        return bool(connection.inside[KEEPALIVE])
    return {NO_TIMER: False, KEEPALIVE_TIMER: True}.get(connection.timer)


EXPECTATIONS: dict[str, Expectation] = {
    KEEPALIVE: Expectation(YES_OR_NO, _keepalive, "the application sets SO_KEEPALIVE; no host setting does",
                           "the kernel shows no keepalive timer while data is in flight"),
    "congestion_control": Expectation(WORD, lambda connection: connection.congestion,
                                      "only new connections take the host's or the route's algorithm; the application may set TCP_CONGESTION"),
    "cwnd_at_least": Expectation(AT_LEAST, lambda connection: connection.cwnd,
                                 "loss or idle time made it small, or the route has no initcwnd (route_metrics, net.ipv4.tcp_slow_start_after_idle)",
                                 unit="segments"),
    "sack": Expectation(YES_OR_NO, _option(SACK), "agreed by both ends when they connect (net.ipv4.tcp_sack, sack_filter)"),
    "timestamps": Expectation(YES_OR_NO, _option(TIMESTAMPS), "agreed by both ends when they connect (net.ipv4.tcp_timestamps)"),
    "receive_buffer_at_least": Expectation(AT_LEAST, lambda connection: connection.receive_buffer,
                                           "net.ipv4.tcp_rmem, or the application sets SO_RCVBUF, which ends autotuning", unit="bytes"),
    "receive_buffer_at_most": Expectation(AT_MOST, lambda connection: connection.receive_buffer,
                                          "net.ipv4.tcp_rmem, or the application sets SO_RCVBUF", unit="bytes"),
    "send_buffer_at_least": Expectation(AT_LEAST, lambda connection: connection.send_buffer,
                                        "net.ipv4.tcp_wmem, or the application sets SO_SNDBUF, which ends autotuning", unit="bytes"),
    "send_buffer_at_most": Expectation(AT_MOST, lambda connection: connection.send_buffer,
                                       "net.ipv4.tcp_wmem, or the application sets SO_SNDBUF", unit="bytes"),
    "receive_queue_at_most": Expectation(AT_MOST, lambda connection: connection.receive_queue,
                                         "the application reads slower than data arrives", unit="bytes"),
    "send_queue_at_most": Expectation(AT_MOST, lambda connection: connection.send_queue,
                                      "the peer or the path takes less than the application writes", unit="bytes"),
    GROWS: Expectation(YES_OR_NO, lambda connection: None if connection.grew is None else connection.grew > 0,
                       "the peer or the path takes less than the application writes", "it was not there for both readings"),
    EDGE: Expectation(YES_OR_NO, lambda connection: connection.edge, "the application adds EPOLLET in epoll_ctl()",
                      "no epoll set of the service has it: it blocks, spins or uses io_uring"),
    NODELAY: Expectation(YES_OR_NO, _inside_flag(NODELAY), "the application sets TCP_NODELAY; no host setting does", inside=True),
    CORK: Expectation(YES_OR_NO, _inside_flag(CORK), "the application sets TCP_CORK; no host setting does", inside=True),
    BUSY_POLL: Expectation(EXACTLY, _inside(BUSY_POLL), "the application sets SO_BUSY_POLL; new sockets begin with net.core.busy_read",
                           unit="us", inside=True),
    USER_TIMEOUT: Expectation(EXACTLY, _inside(USER_TIMEOUT), "the application sets TCP_USER_TIMEOUT; without it net.ipv4.tcp_retries2 decides",
                              unit="ms", inside=True),
}

# What is asked for and cannot be told of a connection, and what can be said instead.
NOT_TOLD = {
    "quickack": "the kernel turns it on and off by itself all the time (tcp(7)); set quickack of the route (route_metrics)",
    "initcwnd": "a connection does not tell the window it began with; say cwnd_at_least here, and set initcwnd of the route (route_metrics)",
}


CONTROL = "socket"  # of an entry as a whole; its expectations have theirs below it


def control_of(name: str) -> str:
    """The stable id of an expectation: ``socket.keepalive``."""
    return f"{CONTROL}.{name}"


def wanted_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What an entry expects, without what it left out."""
    return {name: value for name, value in (entry.get("expects") or {}).items() if value is not None}


def asks_inside(entry: Mapping[str, Any]) -> bool:
    """Whether the sockets of an entry are to be asked themselves: the site allows it, and something it expects needs it."""
    return bool(entry.get("look_inside")) and any(name == KEEPALIVE or EXPECTATIONS[name].inside for name in wanted_of(entry))


# --- what can be refused without the host -----------------------------------------------------------------------------


def problems(spec: Mapping[str, Any]) -> list[str]:
    """What is wrong with the services on any host: the service, the value, the rule and the remedy."""
    found: list[str] = []
    seen: set[str] = set()
    for entry in spec.get("services") or []:
        who = f"service {subject(entry)}"
        if not _SERVICE.fullmatch(str(entry.get("unit") or "")):
            found.append(f"{who}: not the name of a systemd service; write it like order-entry.service")
        if who in seen:
            found.append(f"{who}: named twice; put all it expects into one entry, or give peers to tell them apart")
        seen.add(who)
        found += [f"{who}: {problem}" for problem in (*_peer_problems(entry), *_expectation_problems(wanted_of(entry)))]
    return found


def _peer_problems(entry: Mapping[str, Any]) -> Iterator[str]:
    for peer in entry.get("peers") or []:
        try:
            ipaddress.ip_network(str(peer))
        except ValueError as error:
            yield f"peers: {error}; write a prefix like 192.0.2.0/24"


def _expectation_problems(wanted: Mapping[str, Any]) -> Iterator[str]:
    if not wanted:
        yield f"expects nothing; there are: {', '.join(EXPECTATIONS)}"
    for name, value in wanted.items():
        if name not in EXPECTATIONS:
            yield f"expects {name}: {NOT_TOLD.get(name, 'no such expectation; there are: ' + ', '.join(EXPECTATIONS))}"
        else:
            yield from (f"expects {name}: {value!r}: {problem}" for problem in _value_problem(name, value))
    for buffer in ("receive_buffer", "send_buffer"):
        low, high = wanted.get(f"{buffer}_at_least"), wanted.get(f"{buffer}_at_most")
        if isinstance(low, int) and isinstance(high, int) and low > high:
            yield f"expects {buffer}: no size is both at least {low} and at most {high}; exchange the two"


def _value_problem(name: str, value: Any) -> list[str]:
    kind = EXPECTATIONS[name].kind
    if kind == YES_OR_NO:
        if not isinstance(value, bool):
            return ["give true or false"]
        return ["nobody wants a queue that grows; give false"] if name == GROWS and value else []
    if kind == WORD:
        return [] if isinstance(value, str) and _ALGORITHM.fullmatch(value) else ["not the name of a congestion control algorithm; write it like cubic"]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        return ["give a whole number from 0 to 2147483647"]
    return []


def subject(entry: Mapping[str, Any]) -> str:
    """An entry in words: the service, and its peers where it names them."""
    peers = ", ".join(str(peer) for peer in entry.get("peers") or [])
    return f"{entry.get('unit')} to {peers}" if peers else str(entry.get("unit"))


# --- which connections count ------------------------------------------------------------------------------------------


def counted_peers(entry: Mapping[str, Any]) -> Callable[[str], bool]:
    """Whether a connection to an address (text, IPv4-mapped ones as IPv4) counts: one to ``peers``, or to any but this host's loopback."""
    prefixes = [ipaddress.ip_network(str(peer)) for peer in entry.get("peers") or []]

    def counts(address: str) -> bool:
        peer = ipaddress.ip_address(address)
        return any(peer in prefix for prefix in prefixes) if prefixes else not peer.is_loopback

    return counts


# --- the findings -----------------------------------------------------------------------------------------------------


def plan(state: SocketsState, spec: Mapping[str, Any]) -> Plan:
    """A finding for each expectation of each entry, in the order of ``EXPECTATIONS``; one error for an entry that could not be read."""
    return Plan(tuple(setting for entry, service in zip(spec.get("services") or [], state.services) for setting in _findings(entry, service)))


def _findings(entry: Mapping[str, Any], service: Service) -> Iterator[Setting]:
    if service.unreadable:
        yield Setting(CONTROL, subject(entry), None, state=ERROR, reason=service.unreadable, finding=True)
        return
    wanted = wanted_of(entry)
    yield from (_finding(entry, service, name, wanted[name]) for name in EXPECTATIONS if name in wanted)


def _finding(entry: Mapping[str, Any], service: Service, name: str, wish: Any) -> Setting:
    expectation, control = EXPECTATIONS[name], control_of(name)
    who, desired = f"{subject(entry)} {name}", _wish(expectation, wish)
    if not service.connections:
        partly = f"; {service.partly}" if service.partly else ""
        return unsupported(control, who, desired, (service.silent or "could not tell: the service has no such connection") + partly)
    told = [(value, connection) for connection in service.connections for value in [expectation.value(connection)] if value is not None]
    untold = _untold(entry, service, expectation)
    if not told:
        return unsupported(control, who, desired, f"could not tell: {untold}")
    current = _summary(expectation, [value for value, _connection in told])
    wrong = [(value, connection) for value, connection in told if not _is_right(expectation.kind, value, wish)]
    missing = len(service.connections) - len(told)
    notes = [*([f"{missing} of {len(service.connections)} could not be told: {untold}"] if missing else []), *([service.partly] if service.partly else [])]
    if not wrong:
        return Setting(control, who, current, current, reason="; ".join(notes), finding=True)
    reason = "; ".join([_worst(expectation, wrong, len(service.connections)), expectation.remedy, *notes])
    return Setting(control, who, desired, current, state=DRIFTED, reason=reason, finding=True)


def _untold(entry: Mapping[str, Any], service: Service, expectation: Expectation) -> str:
    if not expectation.inside:
        return expectation.untold
    if not entry.get("look_inside"):
        return "the kernel shows this option to the process alone; say look_inside: true to ask through pidfd_getfd"
    return service.refused or "the sockets closed while they were asked"


def _is_right(kind: str, value: Value, wish: Any) -> bool:
    if kind == AT_LEAST:
        return bool(int(value) >= wish)
    if kind == AT_MOST:
        return bool(int(value) <= wish)
    return bool(value == wish)


def _wish(expectation: Expectation, wish: Any) -> str:
    limit = f"{expectation.kind} " if expectation.kind in (AT_LEAST, AT_MOST) else ""
    return limit + _shown(expectation, wish)


def _shown(expectation: Expectation, value: Value) -> str:
    if expectation.kind == YES_OR_NO:
        return "yes" if value else "no"
    return f"{value} {expectation.unit}".strip()


def _summary(expectation: Expectation, values: Sequence[Value]) -> str:
    """The values of all connections: one for all, a few with how many have each, or the range."""
    found = sorted(Counter(values).items())
    if len(found) == 1:
        return _shown(expectation, found[0][0])
    if len(found) <= _SHOWN or expectation.kind == WORD:
        return ", ".join(f"{_shown(expectation, value)} ({number})" for value, number in found)
    return f"{found[0][0]} to {_shown(expectation, found[-1][0])}"


def _worst(expectation: Expectation, wrong: Sequence[tuple[Value, Connection]], connections: int) -> str:
    """How many connections are not as expected, and the worst of them."""
    order = sorted(wrong, key=lambda item: (item[0], item[1].peer, item[1].local), reverse=expectation.kind == AT_MOST)
    value, connection = order[0]
    grew = f" (by {connection.grew} bytes)" if connection.grew and expectation is EXPECTATIONS[GROWS] else ""
    return f"{len(wrong)} of {connections} connections, {connection.local} -> {connection.peer} has {_shown(expectation, value)}{grew}"
