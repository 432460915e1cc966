# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a NIC's driver lets be set by number or switch: names as ethtool has them, wanted values, and what is wrong with those. Pure: no I/O.

Source: Documentation/networking/ethtool-netlink.rst, ethtool(8).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .cpuset import CpusetError, parse_cpulist
from .setting import SpecError

ON, OFF = "on", "off"
MAX = "max"
# As many channels as the NIC has CPUs for its interrupts.
IRQ_CPUS = "irq-cpus"
# Combined channels where the driver has those, otherwise rx and tx channels, that many of each.
QUEUES = "queues"

# Groups in the order of writing: each resets what comes later, and nothing that comes earlier.
PRIVATE_FLAGS, CHANNELS, RINGS, COALESCE, PAUSE, EEE = "private_flags", "channels", "rings", "coalesce", "pause", "eee"
NAMES = {
    CHANNELS: ("combined", "rx", "tx", "other"),
    RINGS: ("rx", "rx-mini", "rx-jumbo", "tx", "rx-buf-len", "cqe-size", "tx-push", "rx-push", "tx-push-buf-len"),
    COALESCE: (
        "adaptive-rx", "adaptive-tx", "cqe-mode-rx", "cqe-mode-tx", "rx-usecs", "rx-frames", "rx-usecs-irq", "rx-frames-irq", "tx-usecs", "tx-frames",
        "tx-usecs-irq", "tx-frames-irq", "stats-block-usecs", "pkt-rate-low", "rx-usecs-low", "rx-frames-low", "tx-usecs-low", "tx-frames-low",
        "pkt-rate-high", "rx-usecs-high", "rx-frames-high", "tx-usecs-high", "tx-frames-high", "sample-interval", "tx-aggr-max-bytes", "tx-aggr-max-frames",
        "tx-aggr-time-usecs"),
    PAUSE: ("autoneg", "rx", "tx"),
    EEE: ("enabled", "tx-lpi", "tx-timer"),
}
SWITCHES = {RINGS: {"tx-push", "rx-push"}, COALESCE: {"adaptive-rx", "adaptive-tx", "cqe-mode-rx", "cqe-mode-tx"},
            PAUSE: {"autoneg", "rx", "tx"}, EEE: {"enabled", "tx-lpi"}}
# How a parameter is called in a setting's name, where its own name alone would not say what it is of.
LABELS = {PRIVATE_FLAGS: "flag-", CHANNELS: "channels-", RINGS: "ring-", PAUSE: "pause-", EEE: "eee-", COALESCE: ""}
CONTROLS = {PRIVATE_FLAGS: "net.private_flag", CHANNELS: "net.channels", RINGS: "net.ring.rx_tx", PAUSE: "net.pause", EEE: "net.eee"}


@dataclass(frozen=True)
class Parameter:
    """What a driver holds of one parameter; switches are 0 and 1. ``maximum`` is None where the driver names none."""

    value: int
    maximum: int | None = None


def control_of(group: str, name: str) -> str:
    """The stable id of a parameter's kind."""
    if group == COALESCE:
        return "net.coalesce.adaptive" if name.startswith("adaptive-") else f"net.coalesce.{name.replace('-', '_')}"
    return CONTROLS[group]


def is_switch(group: str, name: str) -> bool:
    """Whether a parameter is either on or off."""
    return group == PRIVATE_FLAGS or name in SWITCHES.get(group, ())


def shown(group: str, name: str, value: int) -> str:
    """A value as people write it."""
    return (OFF, ON)[bool(value)] if is_switch(group, name) else str(value)


def switched(value: Any) -> bool | None:
    """Whether a value means on; None when it is no switch. YAML reads ``on`` as true."""
    return value if isinstance(value, bool) else {ON: True, OFF: False}.get(str(value))


def name_problems(group: str, wanted: Iterable[str]) -> list[str]:
    """Names that no driver has, with the one that was probably meant."""
    if group == PRIVATE_FLAGS:
        return []
    known = (*NAMES[group], *([QUEUES] if group == CHANNELS else []))
    found = []
    for name in wanted:
        likely = str(name).replace("_", "-")
        hint = f"write {likely}" if likely in known else f"there are: {', '.join(known)}"
        found += [] if name in known else [f"{group}: no parameter {name!r}; {hint}"]
    return found


def value_problems(group: str, wanted: Mapping[str, Any]) -> list[str]:
    """Values that can be right on no NIC."""
    found = [problem for name, value in wanted.items() for problem in _value_problem(group, str(name), value)]
    if group == COALESCE:
        found += [f"coalesce: {way}-usecs 0 and {way}-frames 0 together would never raise an interrupt; give {way}-frames 1 (R13)"
                  for way in ("rx", "tx") if _is_zero(wanted.get(f"{way}-usecs")) and _is_zero(wanted.get(f"{way}-frames"))]
    if group == CHANNELS and QUEUES in wanted and len(wanted) > 1:
        found.append(f"channels: {QUEUES} stands for combined, or for rx and tx; give it alone")
    return found


def _value_problem(group: str, name: str, value: Any) -> list[str]:
    if is_switch(group, name):
        return [] if switched(value) is not None else [f"{group}: {name}: {value!r} is neither on nor off; write one of them"]
    if (value == MAX and group in (RINGS, CHANNELS)) or (value == IRQ_CPUS and group == CHANNELS):
        return []
    if isinstance(value, bool) or not str(value).isdecimal():
        return [f"{group}: {name}: {value!r} is not a number"]
    if group == CHANNELS and name in ("combined", QUEUES) and int(value) == 0:
        return [f"channels: {name} 0 would leave the NIC without queues; give 1 at least"]
    return []


def _is_zero(value: Any) -> bool:
    return not isinstance(value, bool) and str(value) == "0"


def resolved(group: str, wanted: Mapping[str, Any], held: Mapping[str, Parameter], irq_cpus: str) -> dict[str, int]:
    """``{parameter: number}`` for one NIC, from what is wanted and what its driver has; raises ``SpecError``.

    A parameter that the driver has not keeps its number, or 0 where that would be its maximum: it will be told as unsupported.
    """
    wanted = _queues_resolved(wanted, held) if group == CHANNELS else wanted
    found = {str(name): _number(group, str(name), value, held.get(str(name)), irq_cpus) for name, value in wanted.items()}
    over = [f"{group}: {name} {value} is more than the {held[name].maximum} this NIC can have"
            for name, value in found.items() if name in held and held[name].maximum is not None and value > (held[name].maximum or 0)]
    if group == CHANNELS and held and not over:
        over = _no_queues({**{name: parameter.value for name, parameter in held.items()}, **{name: found[name] for name in found if name in held}})
    if over:
        raise SpecError("; ".join(over))
    return found


def _queues_resolved(wanted: Mapping[str, Any], held: Mapping[str, Parameter]) -> Mapping[str, Any]:
    if QUEUES not in wanted:
        return wanted
    return dict.fromkeys(("rx", "tx") if "combined" not in held and "rx" in held else ("combined",), wanted[QUEUES])


def _number(group: str, name: str, value: Any, held: Parameter | None, irq_cpus: str) -> int:
    maximum = held.maximum if held else None
    if is_switch(group, name):
        return int(bool(switched(value)))
    if value == MAX:
        return maximum or (held.value if held else 0)
    if value == IRQ_CPUS:
        count = _count(irq_cpus)
        return count if maximum is None else min(count, maximum)
    return int(value)


def _count(irq_cpus: str) -> int:
    try:
        count = len(parse_cpulist(irq_cpus))
    except CpusetError as error:
        raise SpecError(f"irq_cpus: {error}") from error
    return count


def _no_queues(counts: Mapping[str, int]) -> list[str]:
    for way in ("rx", "tx"):
        if counts.get("combined", 0) + counts.get(way, 0) == 0:
            return [f"channels: this would leave the NIC without {way} queues; give 1 at least"]
    return []
