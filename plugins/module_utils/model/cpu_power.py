# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Frequency and idle states of CPUs: what may be asked for, and the plan. Pure: no I/O.

Settings are by kind, not by CPU: a machine of 256 CPUs has a dozen of them. Source: Documentation/admin-guide/pm/{cpufreq,intel_pstate,amd-pstate,
intel_epb,cpuidle,intel_uncore_frequency_scaling}.rst, Documentation/ABI/testing/sysfs-devices-system-cpu.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .competitors import Competitor, findings
from .cpuset import CpusetError, format_cpulist, parse_cpulist
from .setting import ERROR, Plan, Setting, unsupported
from .tuned import TunedUnit

GOVERNOR = "cpu.governor"
MINIMUM = "cpu.minimum_performance"
PREFERENCE = "cpu.energy_performance_preference"
BIAS = "cpu.energy_perf_bias"
TURBO = "cpu.turbo"
UNCORE = "cpu.uncore"
IDLE = "cpu.idle_state"
COMPETITOR = "cpu.competitor"

ON, OFF = "on", "off"
MAX = "max"
# arch/x86/kernel/cpu/intel_epb.c: the kernel takes these words and shows numbers.
BIASES = {"performance": "0", "balance-performance": "4", "normal": "6", "balance-power": "8", "power": "15"}
_WORD = re.compile(r"[a-z][a-z_]*")

ByValue = Mapping[str, frozenset[int]]

# What else sets frequencies or idle states for as long as it runs, and how it is turned off.
SERVICES = {
    "cpupower.service": "sets the governor", "cpufrequtils.service": "sets the governor", "loadcpufreq.service": "sets the governor",
    "power-profiles-daemon.service": "sets energy preference and turbo", "tlp.service": "sets governor, energy preference and turbo",
    "auto-cpufreq.service": "sets governor and turbo by load", "thermald.service": "lowers frequencies by temperature", "ondemand.service": "sets the governor",
}
_TUNED = {"governor": ("governor",), "energy_performance_preference": ("energy_performance_preference",), "energy_perf_bias": ("energy_perf_bias",),
          "minimum_performance": ("min_perf_pct",), "turbo": ("no_turbo", "boost"), "idle_latency_us": ("force_latency", "pm_qos_resume_latency_us")}


@dataclass(frozen=True)
class IdleState:
    """One idle state by its name: exit latency in microseconds, the CPUs that have it, and those of them on which it is off."""

    name: str
    latency: int
    cpus: frozenset[int]
    off: frozenset[int] = frozenset()

    @property
    def on(self) -> frozenset[int]:
        return self.cpus - self.off


@dataclass(frozen=True)
class Uncore:
    """The frequencies of one uncore domain in kHz, as text: the lowest and highest that it may have."""

    minimum: str
    maximum: str


@dataclass(frozen=True)
class PowerState:
    """What the CPUs of a machine do: ``{value: online CPUs}`` for what each has of its own, empty where the kernel shows none.

    ``guest`` says in words that the machine is virtual. ``offered`` are the words that a file of this name takes. ``turbo`` is ``on``, ``off`` or as
    ``by_value`` tells it where CPUs differ.
    """

    container: str = ""
    guest: str = ""
    online: frozenset[int] = frozenset()
    governors: ByValue = field(default_factory=dict)
    preferences: ByValue = field(default_factory=dict)
    biases: ByValue = field(default_factory=dict)
    minimum: str = ""
    turbo: str = ""
    offered: Mapping[str, frozenset[str]] = field(default_factory=dict)
    idle: tuple[IdleState, ...] = ()
    idle_driver: str = ""
    uncore: Mapping[str, Uncore] = field(default_factory=dict)
    competitors: tuple[Competitor, ...] = ()


def by_value(groups: ByValue) -> str:
    """``performance``, or ``performance on 0-3, powersave on 4-7`` where CPUs differ."""
    if len(groups) < 2:
        return next(iter(groups), "")
    return ", ".join(f"{value} on {format_cpulist(cpus)}" for value, cpus in sorted(groups.items(), key=lambda item: min(item[1])))


def from_value(text: str, online: frozenset[int]) -> dict[int, str]:
    """``{CPU: value}`` of what ``by_value`` wrote, the way back for originals."""
    if " on " not in text:
        return dict.fromkeys(sorted(online), text)
    found = {}
    for part in text.split(", "):  # a cpulist has commas, but no blanks
        value, _on, cpus = part.partition(" on ")
        found.update(dict.fromkeys(sorted(parse_cpulist(cpus) & online), value))
    return found


# --- what is asked for ------------------------------------------------------------------------------------------------


def problems(spec: Mapping[str, Any]) -> list[str]:
    """What is wrong with the wishes on any host."""
    found = []
    for name in ("governor", "energy_performance_preference"):
        value = spec.get(name)
        if value is not None and not _WORD.fullmatch(str(value)):
            found.append(f"{name}: {value!r} is no word of the kernel's, such as performance")
    if spec.get("energy_perf_bias") is not None and bias(spec["energy_perf_bias"]) is None:
        found.append(f"energy_perf_bias: {spec['energy_perf_bias']!r} is neither a number from 0 to 15 nor one of {', '.join(BIASES)}")
    minimum = spec.get("minimum_performance")
    if minimum is not None and not (str(minimum).isdigit() and 1 <= int(minimum) <= 100):
        found.append(f"minimum_performance: {minimum!r} is no percentage from 1 to 100")
    latency = spec.get("idle_latency_us")
    if latency is not None and int(latency) < 0:
        found.append(f"idle_latency_us: {latency!r} is below 0; it is in microseconds, and 0 leaves polling alone")
    if latency is not None and int(latency) == 0 and not spec.get("idle_cpus"):
        found.append("idle_latency_us: 0 has CPUs poll while they are idle; name them (idle_cpus), all CPUs of a machine would heat it for nothing")
    try:
        parse_cpulist(str(spec.get("idle_cpus") or ""))
    except CpusetError as error:
        found.append(f"idle_cpus: {error}")
    return found


def bias(value: Any) -> str | None:
    """A wish for the energy bias as the kernel shows it; None for what it does not take."""
    text = BIASES.get(str(value), str(value))
    return text if text.isdigit() and int(text) <= 15 else None


# --- the plan ---------------------------------------------------------------------------------------------------------


def plan(state: PowerState, spec: Mapping[str, Any]) -> Plan:
    """One setting for each kind asked for: the governor first, which decides what energy preference may be."""
    wanted = {key: value for key, value in spec.items() if value is not None and key != "idle_cpus"}
    if not wanted:
        return Plan()
    settings = [*_frequencies(state, wanted), *_turbo(state, wanted), *_uncore(state, wanted), *_idle(state, wanted, str(spec.get("idle_cpus") or ""))]
    if state.container:
        reason = f"belongs to the machine, not to this container ({state.container})"
        return Plan(tuple(unsupported(setting.control, setting.name, setting.desired, reason) for setting in settings))
    return Plan((*settings, *findings(state.competitors)))


def _frequencies(state: PowerState, wanted: Mapping[str, Any]) -> Iterator[Setting]:
    if "governor" in wanted:
        yield _each(state, GOVERNOR, str(wanted["governor"]), state.governors, "no frequencies to govern (no driver of cpufreq)")
    if "minimum_performance" in wanted:
        text = str(wanted["minimum_performance"])
        yield Setting(MINIMUM, "minimum_performance", text, state.minimum) if state.minimum else unsupported(
            MINIMUM, "minimum_performance", text, state.guest or "only intel_pstate has a minimum in percent")
    if "energy_performance_preference" in wanted:
        yield _each(state, PREFERENCE, str(wanted["energy_performance_preference"]), state.preferences, "this frequency driver takes no energy preference")
    if "energy_perf_bias" in wanted:
        yield _each(state, BIAS, str(bias(wanted["energy_perf_bias"])), state.biases, "this CPU has no energy bias, or its kernel does not show it")


def _each(state: PowerState, control: str, desired: str, values: ByValue, absent: str) -> Setting:
    """A setting that each CPU has of its own."""
    name = control.partition(".")[2]
    if not values:
        return unsupported(control, name, desired, state.guest or absent)
    offered = state.offered.get(name, frozenset())
    if offered and desired not in offered:
        return unsupported(control, name, desired, f"this driver takes {', '.join(sorted(offered))}", by_value(values))
    return Setting(control, name, desired, by_value(values))


def _turbo(state: PowerState, wanted: Mapping[str, Any]) -> Iterator[Setting]:
    if "turbo" in wanted:
        desired = str(wanted["turbo"])
        yield Setting(TURBO, "turbo", desired, state.turbo) if state.turbo else unsupported(
            TURBO, "turbo", desired, state.guest or "this kernel shows no turbo or boost: the CPU has none, the BIOS has it off, or no driver is loaded")


def _uncore(state: PowerState, wanted: Mapping[str, Any]) -> Iterator[Setting]:
    if "uncore" not in wanted:
        return
    if not state.uncore:
        yield unsupported(UNCORE, "uncore", MAX, state.guest or "this kernel shows no uncore frequencies (intel_uncore_frequency)")
    for name, now in sorted(state.uncore.items()):
        if not (now.minimum.isdigit() and now.maximum.isdigit()):
            yield Setting(UNCORE, name, MAX, state=ERROR, reason="its frequencies could not be read")
            continue
        yield Setting(UNCORE, name, f"{now.maximum} kHz at least", f"{now.minimum} kHz at least")


def _idle(state: PowerState, wanted: Mapping[str, Any], cpus: str) -> Iterator[Setting]:
    if "idle_latency_us" not in wanted:
        return
    limit = int(wanted["idle_latency_us"])
    watched = (parse_cpulist(cpus) & state.online) or state.online
    if not state.idle:
        yield unsupported(IDLE, "idle states", f"none above {limit} us",
                          f"this kernel has no idle states (driver: {state.idle_driver or 'none'}); {state.guest or 'nothing sleeps deeply'}")
    for name in dict.fromkeys(idle.name for idle in state.idle):
        same = [idle for idle in state.idle if idle.name == name]  # cores of different kinds take different times to leave it
        deep = [idle for idle in same if idle.latency > limit and idle.cpus & watched]
        if deep:
            off = frozenset().union(*(idle.off for idle in same))
            slow = max(idle.latency for idle in deep)
            # On other CPUs it stays as it is.
            yield Setting(IDLE, name, off_text(off.union(*(idle.cpus & watched for idle in deep))), off_text(off), reason=f"it takes {slow} us to leave")


def off_text(cpus: Collection[int]) -> str:
    """Where a state is off, in words."""
    return f"off on {format_cpulist(cpus)}" if cpus else ON


def off_cpus(text: str) -> frozenset[int]:
    """The CPUs that ``off_text`` names."""
    return parse_cpulist(text.partition("off on ")[2])


# --- who else does the same -------------------------------------------------------------------------------------------


def tuned_competitor(units: Iterable[TunedUnit], active: str, wanted: Iterable[str]) -> list[Competitor]:
    """What the active profiles of tuned set of the same."""
    keys = [key for name in wanted for key in _TUNED.get(name, ())]
    said = [f"{key} ({unit.options[key]})" for unit in units if unit.plugin == "cpu" and unit.enabled for key in keys if unit.options.get(key)]
    if not said:
        return []
    remedy = "have one of the two do it: take it out of the profile's section [cpu], or out of this role's variables"
    return [Competitor(COMPETITOR, "tuned.service", f"tuned profile {active} sets {', '.join(said)}", remedy)]
