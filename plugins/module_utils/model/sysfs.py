# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Switches of the kernel below /sys that are no sysctl: what may be asked for, and the plan. Pure: no I/O.

Source: Documentation/admin-guide/mm/{transhuge,ksm}.rst, Documentation/core-api/workqueue.rst (Affinity Scopes, cpumask).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .cpuset import CpusetError, format_cpulist, parse_mask, planned_cpulist
from .setting import ERROR, Plan, Setting, unsupported


@dataclass(frozen=True)
class Switch:
    """One file below /sys: the words it takes, none where it takes a set of CPUs."""

    path: str
    words: tuple[str, ...] = ()


_THP = "/sys/kernel/mm/transparent_hugepage"
SWITCHES = {
    "transparent_hugepage": Switch(f"{_THP}/enabled", ("always", "madvise", "never")),
    "transparent_hugepage_defrag": Switch(f"{_THP}/defrag", ("always", "defer", "defer+madvise", "madvise", "never")),
    "khugepaged_defrag": Switch(f"{_THP}/khugepaged/defrag", ("0", "1")),
    # 2 stops it and takes apart what it merged, which costs a copy of each page
    "ksm": Switch("/sys/kernel/mm/ksm/run", ("0", "1", "2")),
    "workqueue_cpumask": Switch("/sys/devices/virtual/workqueue/cpumask"),
}


@dataclass(frozen=True)
class SysfsState:
    """The text of each file asked for, None where this kernel has none; ``unreadable`` says why one could not be read."""

    live: Mapping[str, str | None]
    unreadable: Mapping[str, str]
    container: str = ""


def control_of(name: str) -> str:
    return f"sysfs.{name}"


def problems(spec: Mapping[str, Any]) -> list[str]:
    """What is wrong with the values asked for on any host."""
    return [problem for name, value in sorted((spec.get("values") or {}).items()) for problem in _problem(str(name), value, spec)]


def _problem(name: str, value: object, spec: Mapping[str, Any]) -> list[str]:
    shown = f"switch {name}: {value!r}"
    if name not in SWITCHES:
        return [f"{shown}: there are: {', '.join(SWITCHES)}; a sysctl key belongs into the values of tunables"]
    if isinstance(value, bool):
        return [f"{shown}: a YAML boolean is no value here; write the word between quotes"]
    words = SWITCHES[name].words
    if words:
        return [] if str(value) in words else [f"{shown}: the kernel takes {', '.join(words)}; choose one"]
    try:
        planned_cpulist(str(value), spec.get("housekeeping"))
    except CpusetError as error:
        return [f"{shown}: {error}"]
    return []


def current_of(name: str, text: str) -> str:
    """What a file says, in the form in which it is asked for: the word between brackets, a mask as a cpulist. Raises ``CpusetError``."""
    if not SWITCHES[name].words:
        return format_cpulist(parse_mask(text.strip()))
    return next((word[1:-1] for word in text.split() if word.startswith("[") and word.endswith("]")), text.strip())


def plan(state: SysfsState, spec: Mapping[str, Any]) -> Plan:
    """One setting for each switch asked for, in the order of ``SWITCHES``."""
    wanted = {str(name): str(value) for name, value in (spec.get("values") or {}).items()}
    return Plan(tuple(_setting(name, wanted[name], state, spec) for name in SWITCHES if name in wanted))


def _setting(name: str, value: str, state: SysfsState, spec: Mapping[str, Any]) -> Setting:
    control = control_of(name)
    desired = value if SWITCHES[name].words else planned_cpulist(value, spec.get("housekeeping"))
    if state.container:
        return unsupported(control, name, desired, f"belongs to the machine, not to this container ({state.container})")
    if name in state.unreadable:
        return Setting(control, name, desired, state=ERROR, reason=f"could not be read: {state.unreadable[name]}")
    text = state.live.get(name)
    if text is None:
        return unsupported(control, name, desired, f"this kernel has no {SWITCHES[name].path}")
    try:
        return Setting(control, name, desired, current_of(name, text))
    except CpusetError as error:
        return Setting(control, name, desired, state=ERROR, reason=f"could not be read: {error}")
