# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The established TCP connections of services, as the kernel tells of them. Reads only; stops, traces and changes nothing.

Which sockets are a service's: the processes of its control group (cgroups(7)), and their descriptors. What a socket is like: sock_diag(7),
one question for each address family. What only its process may ask: ``host/held_sockets.py``, where the site allows that.

Source: include/uapi/linux/inet_diag.h, sock_diag.h, tcp.h; Documentation/filesystems/proc.rst (fdinfo of eventpoll files); proc(5).
"""

from __future__ import annotations

import errno
import os
import re
import socket
import struct
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..model.sockets import EDGE, GROWS, Connection, Service, SocketsState, asks_inside, counted_peers, wanted_of
from .held_sockets import ask_sockets
from .machine import Host, Unreadable
from .netlink import DUMP, Netlink, attributes, number
from .programs import output_of
from .units import without_systemd

PROPERTIES = ("LoadState", "ActiveState", "ControlGroup")
# Where control groups of systemd may be: version 2, hybrid and version 1 (systemd's own hierarchy).
CGROUPS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd")
EPOLL = "anon_inode:[eventpoll]"
# TCP stacks in user space, whose sockets no kernel knows, by the library that a process has mapped.
BYPASSES = {"libonload": "Onload", "libvma": "VMA", "libxlio": "XLIO", "librte_eal": "DPDK"}
# Between the two readings of a send queue, in seconds.
WATCHED = 0.1

SOCK_DIAG, BY_FAMILY = 4, 20
INFO, CONG, SKMEMINFO = 2, 4, 7
ESTABLISHED = 1
_REQUEST = struct.Struct("=BBBxI48s")
# family, state, timer, source and destination port, source and destination address, receive and send queue, inode
_MESSAGE = struct.Struct("=BBBx 2s2s 16s16s 12x 4x II 4x I")
_RECEIVE_BUFFER, _SEND_BUFFER = 4, 12  # in SKMEMINFO
_OPTIONS, _CWND = 5, 80  # in struct tcp_info
_NO_SOCK_DIAG = (errno.ENOENT, errno.EPROTONOSUPPORT)
_SOCKET = re.compile(r"socket:\[([0-9]+)\]")
_WATCH = re.compile(r"^tfd: +[0-9]+ events: +([0-9a-f]+) .*?ino:([0-9a-f]+)", re.MULTILINE)
_EDGE_TRIGGERED = 1 << 31


@dataclass(frozen=True)
class Held:
    """The descriptors of a service's processes: ``sockets`` is ``{inode: (process, descriptor)}``, ``edge`` ``{inode: edge-triggered everywhere}``."""

    sockets: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    edge: Mapping[int, bool] = field(default_factory=dict)
    silent: str = ""
    unreadable: str = ""
    partly: str = ""
    processes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Found:
    """One connection of the kernel's answer, with what tells which one it is."""

    inode: int
    address: str
    connection: Connection


def read_sockets(host: Host, spec: Mapping[str, Any]) -> SocketsState:
    """The connections of every entry of ``spec['services']`` in that order; what is wrong with one service is told in its state."""
    entries = spec.get("services") or []
    reason = without_systemd(host)
    if reason or not entries:
        return SocketsState(tuple(Service(silent=reason) for _entry in entries))
    held = _held_by_services(host, entries)
    wanted = frozenset(inode for one in held.values() for inode in one.sockets)
    try:
        found = _connections(wanted) if wanted else {}
        grew = _growth(wanted, found) if found and any(GROWS in wanted_of(entry) for entry in entries) else {}
    except OSError as error:
        why = f"nothing is told of TCP sockets: {error.strerror or error}"
        told = Service(silent=f"could not tell: {why} (a kernel without tcp_diag)") if error.errno in _NO_SOCK_DIAG else Service(unreadable=why)
        return SocketsState((told,) * len(entries))
    return SocketsState(tuple(_service(host, entry, held[str(entry["unit"])], found, grew) for entry in entries))


def _service(host: Host, entry: Mapping[str, Any], held: Held, found: Mapping[int, Found], grew: Mapping[int, int]) -> Service:
    if held.silent or held.unreadable:
        return Service(silent=held.silent, unreadable=held.unreadable)
    counts = counted_peers(entry)
    ours = [one for one in (found[inode] for inode in held.sockets if inode in found) if counts(one.address)]
    if not ours:
        bypass = bypass_of(host, held.processes)
        return Service(silent=f"could not tell: it has {bypass} loaded, whose sockets the kernel does not know" if bypass else "", partly=held.partly)
    answers, refused = ask_sockets({one.inode: held.sockets[one.inode] for one in ours}) if asks_inside(entry) else ({}, "")
    connections = (replace(one.connection, edge=held.edge.get(one.inode), grew=grew.get(one.inode), inside=answers.get(one.inode, {})) for one in ours)
    return Service(tuple(connections), refused=refused, partly=held.partly)


# --- whose sockets ----------------------------------------------------------------------------------------------------


def _held_by_services(host: Host, entries: Iterable[Mapping[str, Any]]) -> dict[str, Held]:
    """What each unit holds; epoll sets are only looked at for those that are asked for them."""
    epoll: dict[str, bool] = {}
    for entry in entries:
        unit = str(entry["unit"])
        epoll[unit] = epoll.get(unit, False) or EDGE in wanted_of(entry)
    text = output_of("systemctl", "show", "--no-pager", f"--property={','.join(PROPERTIES)}", "--", *epoll)
    blocks = dict(zip(epoll, text.strip().split("\n\n")))
    return {unit: _held(host, dict(line.partition("=")[::2] for line in blocks.get(unit, "").splitlines()), epoll=epoll[unit]) for unit in epoll}


def _held(host: Host, unit: Mapping[str, str], *, epoll: bool) -> Held:
    if unit.get("LoadState") == "not-found":
        return Held(silent="could not tell: this host has no such service")
    processes = processes_of(host, unit.get("ControlGroup", ""))
    if not processes:
        return Held(silent=f"could not tell: the service does not run ({unit.get('ActiveState') or 'unknown'})")
    try:
        return held_by(host, processes, epoll=epoll)
    except PermissionError:
        return Held(unreadable="needs root to see which sockets are the service's")


def processes_of(host: Host, group: str) -> list[int]:
    """The processes of a control group and of all groups below it; empty where there is none."""
    if not group.strip("/"):
        return []
    folder = next((f"{root}{group}" for root in CGROUPS if host.is_dir(f"{root}{group}")), "")
    found: set[int] = set()
    for place, _folders, _files in os.walk(host.followed(folder)) if folder else ():
        try:
            with open(os.path.join(place, "cgroup.procs"), encoding="ascii") as stream:
                found |= {int(line) for line in stream}
        except OSError:
            continue  # gone meanwhile, or threaded: its processes are told above
    return sorted(found - {0})  # those of other PID namespaces are 0


def held_by(host: Host, processes: Iterable[int], *, epoll: bool) -> Held:
    """The sockets of processes in our network namespace; raises ``PermissionError`` where a process may not be looked at."""
    here, ours, others = _link(host, "/proc/self/ns/net"), [], 0
    for process in processes:
        namespace = _link(host, f"/proc/{process}/ns/net")
        if namespace == here:
            ours.append(process)
        elif namespace:
            others += 1
    apart = "in a network namespace of its own, whose sockets cannot be seen from here"
    if others and not ours:
        return Held(silent=f"could not tell: the service is {apart}")
    sockets: dict[int, tuple[int, int]] = {}
    edge: dict[int, bool] = {}
    for process in ours:
        for descriptor, target in _descriptors(host, process):
            match = _SOCKET.fullmatch(target)
            if match:
                sockets.setdefault(int(match[1]), (process, descriptor))
            elif epoll and target == EPOLL:
                for inode, triggered in watched_in(_text(host, f"/proc/{process}/fdinfo/{descriptor}")):
                    edge[inode] = edge.get(inode, True) and triggered
    return Held(sockets, edge, partly=f"{others} of its processes are {apart}" if others else "", processes=tuple(ours))


def watched_in(text: str) -> list[tuple[int, bool]]:
    """Inode, and whether it is edge-triggered, of every file that an epoll set watches; ``text`` is its fdinfo."""
    return [(int(inode, 16), bool(int(events, 16) & _EDGE_TRIGGERED)) for events, inode in _WATCH.findall(text)]


def _descriptors(host: Host, process: int) -> list[tuple[int, str]]:
    folder = host.path(f"/proc/{process}/fd")
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [(int(name), target) for name in names for target in [_link(host, f"/proc/{process}/fd/{name}")] if target]


def _link(host: Host, name: str) -> str:
    """What a link of /proc points to, nothing where it is gone; raises ``PermissionError``."""
    try:
        return os.readlink(host.path(name))
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _text(host: Host, name: str) -> str:
    try:
        return host.read(name)
    except Unreadable:
        return ""


def bypass_of(host: Host, processes: Iterable[int]) -> str:
    """The TCP stack in user space that a process has mapped, if any."""
    for process in processes:
        maps = _text(host, f"/proc/{process}/maps")
        for library, name in BYPASSES.items():
            if f"/{library}" in maps:
                return name
    return ""


# --- what the kernel tells of them ------------------------------------------------------------------------------------


def _connections(wanted: frozenset[int]) -> dict[int, Found]:
    """The established connections of this network namespace whose inodes are ``wanted``; raises ``OSError``."""
    answers = (message for family in (socket.AF_INET, socket.AF_INET6) for message in _dump(family, 1 << INFO - 1 | 1 << CONG - 1 | 1 << SKMEMINFO - 1))
    return {found.inode: found for found in (found_in(message, wanted) for message in answers) if found}


def _growth(wanted: frozenset[int], before: Mapping[int, Found]) -> dict[int, int]:
    """By how many bytes each send queue that held something grew while it was watched, by inode."""
    time.sleep(WATCHED)
    messages = (found_in(message, wanted) for family in (socket.AF_INET, socket.AF_INET6) for message in _dump(family, 0))
    queues = {found.inode: found.connection.send_queue for found in messages if found}
    return {inode: queues[inode] - found.connection.send_queue if found.connection.send_queue else 0
            for inode, found in before.items() if inode in queues}


def _dump(family: int, extensions: int) -> list[bytes]:
    with Netlink(SOCK_DIAG) as netlink:
        return netlink.exchange(BY_FAMILY, DUMP, _REQUEST.pack(family, socket.IPPROTO_TCP, extensions, 1 << ESTABLISHED, bytes(48)))


def found_in(message: bytes, wanted: frozenset[int]) -> Found | None:
    """A message of sock_diag (``struct inet_diag_msg`` and attributes), where its socket is ``wanted``; None for others."""
    if len(message) < _MESSAGE.size:
        return None
    family, _state, timer, source, target, local, peer, receive, send, inode = _MESSAGE.unpack_from(message)
    if inode not in wanted:
        return None
    told = attributes(message[_MESSAGE.size:])
    info, memory = told.get(INFO, b""), told.get(SKMEMINFO, b"")
    address = _address(family, peer)
    return Found(inode, address, Connection(
        _endpoint(_address(family, local), source), _endpoint(address, target), timer,
        told[CONG].split(b"\0")[0].decode("ascii", "replace") if CONG in told else None,
        number(info[_CWND:_CWND + 4]) if len(info) >= _CWND + 4 else None, info[_OPTIONS] if len(info) > _OPTIONS else None,
        receive, send, _size(memory, _RECEIVE_BUFFER), _size(memory, _SEND_BUFFER),
    ))


def _size(memory: bytes, offset: int) -> int | None:
    return number(memory[offset:offset + 4]) if len(memory) >= offset + 4 else None


def _address(family: int, packed: bytes) -> str:
    """An address in text; an IPv4 one that an IPv6 socket has, as IPv4."""
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, packed[:4])
    if packed.startswith(bytes(10) + b"\xff\xff"):
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return socket.inet_ntop(socket.AF_INET6, packed)


def _endpoint(address: str, port: bytes) -> str:
    host = f"[{address}]" if ":" in address else address
    return f"{host}:{int.from_bytes(port, 'big')}"
