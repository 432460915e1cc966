# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The queueing discipline (qdisc) of each transmit queue: what may be asked for, whose a tree is, and the plan. Pure: no I/O.

A tree is told in one line: ``fq`` at the root, or ``mq + fq`` for ``mq`` with ``fq`` in every transmit queue; where the queues differ, each of
them in turn: ``mq + fq | pfifo_fast``. Options that are wanted follow their kind: ``mq + fq limit=20000 maxrate=1000000000bit``.

Source: tc-fq(8), tc-fq_codel(8), tc-mq(8), tc(8) UNITS, net/sched/sch_fq.c, net/sched/sch_fq_codel.c, net/sched/sch_mq.c.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .nic import identity
from .setting import ERROR, Plan, Setting, SpecError, unsupported

CONTROL = "net.qdisc"
FQ, FQ_CODEL, PFIFO_FAST, NOQUEUE, MQ = "fq", "fq_codel", "pfifo_fast", "noqueue", "mq"
KINDS = (FQ, FQ_CODEL, PFIFO_FAST)
# What may be replaced though somebody put it there: it holds no classes and no filters of a site.
PLAIN = (*KINDS, NOQUEUE, MQ)
KEYS = ("kind", "options", "replace")

MOST = 2**32 - 1
UNLIMITED = "unlimited"
_RATE_UNITS = {"": 1, "bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9, "tbit": 10**12}
_TIME_UNITS = {"": 1, "us": 1, "ms": 10**3, "s": 10**6}
_SWITCHES = {"on": 1, "off": 0}


def _quantity(text: str, units: Mapping[str, int], rule: str) -> int:
    match = re.fullmatch(r"([0-9]+)([a-z]*)", text)
    if match is None or match[2] not in units:
        raise ValueError(rule)
    return int(match[1]) * units[match[2]]


def _count(text: str) -> int:
    return _quantity(text, {"": 1}, "a whole number belongs here")


def _power(text: str) -> int:
    number = _count(text)
    if number < 1 or number & (number - 1):
        raise ValueError("a power of two belongs here")
    return number


def _rate(text: str) -> int:
    """Bytes per second."""
    return MOST if text == UNLIMITED else _quantity(text, _RATE_UNITS, "a rate such as 800mbit, or unlimited, belongs here") // 8


def _time(text: str) -> int:
    """Microseconds."""
    return _quantity(text, _TIME_UNITS, "a time such as 500us or 5ms belongs here")


def codel_time(microseconds: int) -> int:
    """The microseconds that CoDel keeps, which counts in units of 1.024 us and rounds both ways (include/net/codel.h)."""
    units = microseconds * 1000 >> 10
    return -(-units * 1024 // 1000)


def codel_time_told(microseconds: int) -> int:
    """As ``codel_time``, from what the kernel tells of it, which it rounds down once more."""
    units = -(-microseconds * 1000 // 1024)
    return -(-units * 1024 // 1000)


def _switch(text: str) -> int:
    if text not in _SWITCHES:
        raise ValueError('"on" or "off" belongs here, between quotes')
    return _SWITCHES[text]


@dataclass(frozen=True)
class Option:
    """One option of a kind: how its text becomes the number that is compared, and how that is told."""

    number: Callable[[str], int]
    text: Callable[[int], str] = str


_COUNT, _POWER = Option(_count), Option(_power)
_RATE = Option(_rate, lambda rate: UNLIMITED if rate == MOST else f"{rate * 8}bit")
_TIME = Option(_time, "{}us".format)
_CODEL_TIME = Option(lambda text: codel_time(_time(text)), "{}us".format)
_SWITCH = Option(_switch, lambda number: "on" if number else "off")

OPTIONS: dict[str, dict[str, Option]] = {
    FQ: {"limit": _COUNT, "flow_limit": _COUNT, "quantum": _COUNT, "initial_quantum": _COUNT, "pacing": _SWITCH, "maxrate": _RATE, "buckets": _POWER,
         "orphan_mask": _COUNT, "low_rate_threshold": _RATE, "ce_threshold": _TIME, "horizon": _TIME},
    FQ_CODEL: {"target": _CODEL_TIME, "limit": _COUNT, "interval": _CODEL_TIME, "ecn": _SWITCH, "quantum": _COUNT, "drop_batch": _COUNT,
               "memory_limit": _COUNT},
    PFIFO_FAST: {},
    NOQUEUE: {},
}


@dataclass(frozen=True)
class Qdisc:
    """One queueing discipline; ``handle`` 0 is one that the kernel chose by itself, ``options`` are numbers in the units of ``OPTIONS``."""

    kind: str
    handle: int = 0
    options: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Link:
    """One interface: its root, and below ``mq`` the qdisc of each transmit queue, from 1. ``several`` says whether its driver can have
    several, ``guard`` why it must not be reconfigured, ``unreadable`` why it could not be read, ``silent`` why nobody can be asked."""

    interface: str
    index: int = 0
    several: bool = False
    root: Qdisc = field(default_factory=lambda: Qdisc(NOQUEUE))
    queues: Mapping[int, Qdisc] = field(default_factory=dict)
    guard: str = ""
    unreadable: str = ""
    silent: str = ""


@dataclass(frozen=True)
class QdiscState:
    """The links of the specification's NICs, in its order; ``kinds`` are those that this kernel has (None: not known)."""

    links: tuple[Link, ...] = ()
    kinds: frozenset[str] | None = None
    kernel: str = ""
    container: str = ""


def wanted_of(spec: Mapping[str, Any], nic: Mapping[str, Any]) -> dict[str, Any]:
    """What is wanted of one NIC, its own words over those for all; empty where no kind is. Another kind does not have the options for all."""
    general, own = dict(spec.get("qdisc") or {}), dict(nic.get("qdisc") or {})
    if own.get("kind", general.get("kind")) != general.get("kind"):
        general.pop("options", None)
    wanted = {**general, **own}
    return wanted if wanted.get("kind") else {}


def problems(spec: Mapping[str, Any]) -> list[str]:
    """What is wrong with what is wanted of all NICs: value, rule and remedy. What is wrong with one is told by the plan, of that NIC alone."""
    found = ["a NIC of the list has no name; give interface, pci or mac" for nic in spec.get("nics") or [] if not identity(nic)]
    return [*_mapping_problems(spec.get("qdisc") or {}), *found]


def _mapping_problems(wanted: Any) -> list[str]:
    if not isinstance(wanted, Mapping):
        return [f"qdisc {wanted!r:.80}: is no mapping; write it like {{kind: fq}}"]
    found = [f"qdisc: no such key {key}; there are: {', '.join(KEYS)}" for key in wanted if key not in KEYS]
    kind, options = wanted.get("kind"), wanted.get("options") or {}
    if kind is None:
        return [*found, *(["qdisc: options without a kind; say which one they belong to"] if options else [])]
    if kind not in KINDS:
        return [*found, f"qdisc kind {kind!r:.80}: there are: {', '.join(KINDS)}"]
    if not isinstance(wanted.get("replace", False), bool):
        found.append(f"qdisc replace {wanted['replace']!r:.80}: true or false belongs here")
    if not isinstance(options, Mapping):
        return [*found, f"qdisc options {options!r:.80}: is no mapping; write it like {{limit: 20000}}"]
    return [*found, *(problem for name, value in options.items() for problem in _option_problems(kind, str(name), value))]


def _option_problems(kind: str, name: str, value: Any) -> list[str]:
    shown = f"qdisc {kind} {name}: {value!r:.80}"
    if name not in OPTIONS[kind]:
        return [f"{shown}: {kind} has no such option; there are: {', '.join(OPTIONS[kind]) or 'none'}"]
    try:
        number = OPTIONS[kind][name].number(str(value))
    except ValueError as error:
        return [f"{shown}: {error}"]
    return [] if number <= MOST else [f"{shown}: is more than the kernel can be told; give less"]


def plan(state: QdiscState, spec: Mapping[str, Any]) -> Plan:
    """One setting a NIC that something is wanted of, in the order of the specification."""
    wishes = ((link, nic, wanted_of(spec, nic)) for link, nic in zip(state.links, spec.get("nics") or []))
    return Plan(tuple(_setting(state, link, nic, wanted) for link, nic, wanted in wishes if wanted))


def _setting(state: QdiscState, link: Link, nic: Mapping[str, Any], wanted: Mapping[str, Any]) -> Setting:
    reasons = [link.unreadable] if link.unreadable else list(_reasons_against(state, link, nic, wanted))
    if reasons:
        return Setting(CONTROL, identity(nic), None, state=ERROR, reason="; ".join(reasons))
    kind, options = str(wanted["kind"]), wanted.get("options") or {}
    if link.silent:
        return unsupported(CONTROL, link.interface, kind, link.silent)
    names = [str(name) for name in options]
    leaf = leaf_text(kind, {name: OPTIONS[kind][name].number(str(value)) for name, value in options.items()}, names)
    desired, current = f"{MQ} + {leaf}" if link.several else leaf, tree_text(link, names)
    if current != desired and state.container and state.kinds is not None and kind not in state.kinds:
        return unsupported(CONTROL, link.interface, desired, f"this kernel has no {kind} (module sch_{kind})", current)
    return Setting(CONTROL, link.interface, desired, current)


def _reasons_against(state: QdiscState, link: Link, nic: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    yield from _mapping_problems(wanted)
    if [other.interface for other in state.links].count(link.interface) > 1:
        yield f"{link.interface} is named by several entries; leave one of them"
    if link.guard and not nic.get("management"):
        yield f"{link.guard}; its queueing discipline is not changed unless its entry says management: true"
    others = foreign(link)
    if others and wanted.get("replace") is not True:
        yield f"{others}, which somebody put there and which would be lost; take it away, or say replace: true in its qdisc"
    kind = wanted.get("kind")
    if kind in KINDS and state.kinds is not None and kind not in state.kinds and not state.container:
        yield f"kernel {state.kernel} has no {kind} (module sch_{kind}); install the package with all modules of this kernel, or choose another kind"


def foreign(link: Link) -> str:
    """What of a tree is a site's own, in words, or nothing. A handle of 0 is the kernel's own choice (``net.core.default_qdisc``)."""
    found = [f"{qdisc.kind} {qdisc.handle >> 16:x}:" for qdisc in (link.root, *link.queues.values()) if qdisc.handle and qdisc.kind not in PLAIN]
    return f"{link.interface} has {', '.join(found)}" if found else ""


def leaf_text(kind: str, options: Mapping[str, int], names: list[str]) -> str:
    """A kind with those of its options that are among ``names``, in the order of ``OPTIONS``."""
    known = OPTIONS.get(kind, {})
    return " ".join([kind, *(f"{name}={known[name].text(options[name])}" for name in known if name in names and name in options)])


def tree_text(link: Link, names: list[str]) -> str:
    """The tree of an interface in one line, with the options of ``names``."""
    root = leaf_text(link.root.kind, link.root.options, names)
    if link.root.kind != MQ:
        return root
    leaves = [leaf_text(link.queues[queue].kind, link.queues[queue].options, names) for queue in sorted(link.queues)]
    return f"{root} + {leaves[0] if len(set(leaves)) == 1 else ' | '.join(leaves)}"


def tree_from(text: str) -> tuple[Qdisc, list[Qdisc]]:
    """Root and transmit queues from the line ``tree_text`` tells; one queue stands for all. Raises ``SpecError`` for a kind that is not ours to make."""
    root, _plus, leaves = text.partition(" + ")
    return _leaf_from(root), [_leaf_from(leaf) for leaf in leaves.split(" | ") if leaf]


def _leaf_from(text: str) -> Qdisc:
    kind, *options = text.split()
    if kind not in PLAIN:
        raise SpecError(f"{kind}: was a site's own and is not known well enough to be made again; let the site's own scripts make it")
    pairs = (option.partition("=")[::2] for option in options)
    return Qdisc(kind, options={name: OPTIONS[kind][name].number(value) for name, value in pairs})
