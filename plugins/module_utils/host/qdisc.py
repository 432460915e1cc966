# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The queueing disciplines of interfaces by rtnetlink: typed values, one dump for all interfaces, no program and no text to parse.

Source: include/uapi/linux/rtnetlink.h (tcmsg, TCA_*), include/uapi/linux/pkt_sched.h (TCA_FQ_*, TCA_FQ_CODEL_*), net/sched/sch_api.c.
Why not tc: docs/decisions/0015-qdisc.md.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from collections.abc import Mapping
from typing import Any

from ..model.nic import identity
from ..model.qdisc import (
    FQ,
    FQ_CODEL,
    KINDS,
    MQ,
    PFIFO_FAST,
    Link,
    Qdisc,
    QdiscState,
    codel_time_told,
    leaf_text,
    tree_from,
    wanted_of,
)
from ..model.setting import Setting, SpecError, Unsupported
from .container import container_kind
from .links import guard, interface_of, management_interfaces, not_an_interface
from .machine import Host
from .netlink import ACK, CREATE, DUMP, NESTED, REPLACE, ROUTE, Netlink, attribute, attributes, number, text_attribute

_LINK = struct.Struct("=BxHiII")
_QDISC = struct.Struct("=BxxxiIII")
_GET_LINK, _NEW_QDISC, _DEL_QDISC, _GET_QDISC = 18, 36, 37, 38
_NAME, _TX_QUEUES = 3, 31
_KIND, _OPTIONS = 1, 2
ROOT = 0xFFFFFFFF
_MAJOR, _MINOR = 0xFFFF0000, 0x0000FFFF
# {kind: {option: attribute}}; all are 32 bits.
ATTRIBUTES = {
    FQ: {"limit": 1, "flow_limit": 2, "quantum": 3, "initial_quantum": 4, "pacing": 5, "maxrate": 7, "buckets": 8, "orphan_mask": 10,
         "low_rate_threshold": 11, "ce_threshold": 12, "horizon": 14},
    FQ_CODEL: {"target": 1, "limit": 2, "interval": 3, "ecn": 4, "quantum": 6, "ce_threshold": 7, "drop_batch": 8, "memory_limit": 9},
}
_LOGARITHM = {(FQ, "buckets")}
_ROUNDED = {(FQ_CODEL, "target"), (FQ_CODEL, "interval")}
DEFAULT = "/proc/sys/net/core/default_qdisc"


def read_qdiscs(host: Host, spec: Mapping[str, Any]) -> QdiscState:
    """The interfaces of ``spec['nics']``, in that order, as far as something is wanted of them."""
    nics = list(spec.get("nics") or [])
    if not any(wanted_of(spec, nic) for nic in nics):
        return QdiscState(tuple(Link(identity(nic)) for nic in nics))
    release = host.read_if_there("/proc/sys/kernel/osrelease") or ""
    if not host.live:
        return QdiscState(tuple(_captured_link(host, nic) for nic in nics), kernel=release)
    protected = management_interfaces(host)
    with Netlink(ROUTE) as wire:
        tables, trees = _links(wire), _trees(wire)
    links = tuple(_link(host, nic, protected, tables, trees) for nic in nics)
    seen = {qdisc.kind for tree in trees.values() for qdisc in tree.values()}
    return QdiscState(links, _kinds(host, release, seen), release, container_kind(host))


def _captured_link(host: Host, nic: Mapping[str, Any]) -> Link:
    """An interface that is there, of which no kernel can be asked."""
    interface = interface_of(host, nic)
    if interface is None:
        return Link(identity(nic), unreadable=not_an_interface(host, nic))
    return Link(interface, silent="a captured tree does not hold queueing disciplines", guard=guard(host, interface, management_interfaces(host)))


def _link(host: Host, nic: Mapping[str, Any], protected: Mapping[str, str], links: Mapping[str, tuple[int, int]],
          trees: Mapping[int, Mapping[int, Qdisc]]) -> Link:
    interface = interface_of(host, nic)
    if interface is None or interface not in links:
        return Link(identity(nic), unreadable=not_an_interface(host, nic))
    index, queues = links[interface]
    tree = trees.get(index, {})
    if ROOT not in tree:
        return Link(interface, unreadable="the kernel tells no queueing discipline of it")
    return Link(interface, index, queues > 1, tree[ROOT], _queues(host, interface, tree), guard(host, interface, protected))


def _queues(host: Host, interface: str, tree: Mapping[int, Qdisc]) -> dict[int, Qdisc]:
    """The qdisc of each transmit queue in use, from 1; those of queues that channels took away stay in the kernel's list."""
    root = tree[ROOT]
    if root.kind != MQ:
        return {}
    count = sum(name.startswith("tx-") for name in host.names(f"/sys/class/net/{interface}/queues"))
    below = {parent & _MINOR: qdisc for parent, qdisc in tree.items() if parent != ROOT and parent & _MAJOR == root.handle}
    return {queue: below[queue] for queue in range(1, count + 1) if queue in below}


def _links(wire: Netlink) -> dict[str, tuple[int, int]]:
    """``{interface: (index, transmit queues its driver can have)}``."""
    found = {}
    for answer in wire.exchange(_GET_LINK, DUMP, _LINK.pack(0, 0, 0, 0, 0)):
        told = attributes(answer[_LINK.size:])
        name = os.fsdecode(told.get(_NAME, b"").rstrip(b"\0"))
        found[name] = (_LINK.unpack_from(answer)[2], number(told.get(_TX_QUEUES, b"\1")))
    return found


def _trees(wire: Netlink) -> dict[int, dict[int, Qdisc]]:
    """``{index of an interface: {parent: qdisc}}`` of the whole host, without the ingress side."""
    found: dict[int, dict[int, Qdisc]] = {}
    for answer in wire.exchange(_GET_QDISC, DUMP, _QDISC.pack(0, 0, 0, 0, 0)):
        _family, index, handle, parent, _info = _QDISC.unpack_from(answer)
        told = attributes(answer[_QDISC.size:])
        kind = told.get(_KIND, b"").rstrip(b"\0").decode("utf-8", "replace")
        found.setdefault(index, {})[parent] = Qdisc(kind, handle, _options(kind, told.get(_OPTIONS, b"")))
    return found


def _options(kind: str, data: bytes) -> dict[str, int]:
    # without a known kind its options are no attributes: those of pfifo_fast are a struct
    told = attributes(data) if kind in ATTRIBUTES else {}
    return {name: _told(kind, name, number(told[code])) for name, code in ATTRIBUTES.get(kind, {}).items() if code in told}


def _told(kind: str, name: str, value: int) -> int:
    if (kind, name) in _LOGARITHM:
        return 1 << value
    return codel_time_told(value) if (kind, name) in _ROUNDED else value


def _kinds(host: Host, release: str, seen: set[str]) -> frozenset[str] | None:
    """The kinds that this kernel has, or has a module for, which it loads by itself; None where nothing tells."""
    known = {PFIFO_FAST, *seen, host.read_if_there(DEFAULT) or ""}
    loaded = {line.partition(" ")[0] for line in (host.read_if_there("/proc/modules") or "").splitlines()}
    indexes = [text for text in (host.read_if_there(f"/lib/modules/{release}/{index}") for index in ("modules.dep", "modules.builtin")) if text is not None]
    if not indexes and not container_kind(host):
        return None
    return frozenset(kind for kind in KINDS if kind in known or f"sch_{kind}" in loaded or any(f"/sch_{kind}.ko" in index for index in indexes))


def write_qdisc(host: Host, state: QdiscState, setting: Setting) -> None:
    """Make the tree of one interface. Raises ``OSError`` with the kernel's words, or ``Unsupported``."""
    link = next((link for link in state.links if link.interface == setting.name and not link.unreadable), None)
    if link is None:
        raise OSError(errno.ENODEV, f"{setting.name}: {os.strerror(errno.ENODEV)}")
    try:
        with Netlink(ROUTE) as wire:
            try:
                _make(host, wire, link, str(setting.desired))
            except OSError:
                if not link.root.handle:  # the kernel's own choice comes back whole, not half of ours
                    with contextlib.suppress(OSError):
                        wire.exchange(_DEL_QDISC, ACK, _QDISC.pack(0, link.index, 0, ROOT, 0))
                raise
    except SpecError as error:
        raise OSError(errno.EINVAL, str(error)) from error
    except OSError as error:
        if error.errno == errno.ENOENT and state.container:
            raise Unsupported(f"this kernel has it not: {error.strerror}") from error
        raise


def _make(host: Host, wire: Netlink, link: Link, desired: str) -> None:
    root, leaves = tree_from(desired)
    if not leaves:
        _replace(wire, link.index, ROOT, root)
        return
    if link.root.kind != MQ or not link.root.handle:
        # below a root without a handle no queue can be addressed
        _replace(wire, link.index, ROOT, root)
    tree = _trees(wire)[link.index]
    for queue, held in _queues(host, link.interface, tree).items():
        leaf = leaves[0] if len(leaves) == 1 else leaves[min(queue, len(leaves)) - 1]
        names = list(leaf.options)
        if leaf_text(held.kind, held.options, names) != leaf_text(leaf.kind, leaf.options, names):
            _replace(wire, link.index, tree[ROOT].handle | queue, leaf)


def _replace(wire: Netlink, index: int, parent: int, qdisc: Qdisc) -> None:
    """Put a qdisc in the place of what is there; of one of the same kind, which somebody made, only the options change."""
    body = _QDISC.pack(0, index, 0, parent, 0) + text_attribute(_KIND, qdisc.kind)
    values = b"".join(attribute(ATTRIBUTES[qdisc.kind][name], struct.pack("=I", _written(qdisc.kind, name, value)))
                      for name, value in qdisc.options.items())
    wire.exchange(_NEW_QDISC, ACK | CREATE | REPLACE, body + (attribute(_OPTIONS | NESTED, values) if values else b""))


def _written(kind: str, name: str, value: int) -> int:
    return value.bit_length() - 1 if (kind, name) in _LOGARITHM else value
