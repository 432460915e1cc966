# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading and setting governor, energy preference, turbo, uncore and idle states of CPUs below /sys (model/cpu_power.py has the sources)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..model.competitors import Competitor
from ..model.cpu_power import (
    BIAS,
    COMPETITOR,
    GOVERNOR,
    IDLE,
    MINIMUM,
    OFF,
    ON,
    PREFERENCE,
    SERVICES,
    TURBO,
    UNCORE,
    IdleState,
    PowerState,
    Uncore,
    by_value,
    from_value,
    off_cpus,
    tuned_competitor,
)
from ..model.cpuset import CpusetError, parse_cpulist
from ..model.setting import Setting
from .competitors import active_tuned, booted_units
from .container import container_kind
from .facts import hypervisor
from .files import write_kernel_file
from .machine import Host

CPU = "/sys/devices/system/cpu"
_UNCORE = f"{CPU}/intel_uncore_frequency"
_NO_TURBO, _BOOST = f"{CPU}/intel_pstate/no_turbo", f"{CPU}/cpufreq/boost"
_MINIMUM = f"{CPU}/intel_pstate/min_perf_pct"
# The file of each CPU for a control.
_FILES = {GOVERNOR: "cpufreq/scaling_governor", PREFERENCE: "cpufreq/energy_performance_preference", BIAS: "power/energy_perf_bias"}
# Stands for a value that could not be read; it is never what is wanted.
UNREADABLE = "(unreadable)"
_OFFERED = {"governor": "cpufreq/scaling_available_governors", "energy_performance_preference": "cpufreq/energy_performance_available_preferences"}


def read_power(host: Host, spec: Mapping[str, Any]) -> PowerState:
    """What the CPUs do of what is asked for; nothing is read in a container."""
    wanted = [key for key, value in spec.items() if value is not None and key != "idle_cpus"]
    container = container_kind(host)
    if container or not wanted:
        return PowerState(container)
    online = online_cpus(host)
    kind = hypervisor(host)
    return PowerState(
        guest=f"this machine is virtual ({kind}): that is the hypervisor's" if kind not in ("none", "unknown") else "",
        online=online,
        governors=per_cpu(host, online, _FILES[GOVERNOR]),
        preferences=per_cpu(host, online, _FILES[PREFERENCE]),
        biases=per_cpu(host, online, _FILES[BIAS]),
        minimum=host.read_if_there(_MINIMUM) or "",
        turbo=turbo(host, online),
        offered={name: _offered(host, online, file) for name, file in _OFFERED.items()},
        idle=idle_states(host, online),
        idle_driver=host.read_if_there(f"{CPU}/cpuidle/current_driver") or "",
        uncore={name: _uncore(host, name) for name in host.names(_UNCORE) if host.exists(f"{_UNCORE}/{name}/min_freq_khz")},
        competitors=_competitors(host, wanted),
    )


def online_cpus(host: Host) -> frozenset[int]:
    try:
        return parse_cpulist(host.read_if_there(f"{CPU}/online") or "")
    except CpusetError:
        return frozenset()


def per_cpu(host: Host, cpus: Iterable[int], name: str) -> dict[str, frozenset[int]]:
    """``{text: CPUs}`` of a file that each CPU has of its own; CPUs without it are left out, not those whose file cannot be read."""
    found: dict[str, set[int]] = {}
    for cpu in sorted(cpus):
        path = f"{CPU}/cpu{cpu}/{name}"
        text = host.read_if_there(path)
        if text or host.exists(path):
            found.setdefault(text or UNREADABLE, set()).add(cpu)
    return {text: frozenset(members) for text, members in found.items()}


def _offered(host: Host, cpus: Iterable[int], name: str) -> frozenset[str]:
    """The words that this file takes on every CPU that has it."""
    words = [frozenset(text.split()) for text in per_cpu(host, cpus, name)]
    return frozenset.intersection(*words) if words else frozenset()


def idle_states(host: Host, cpus: Iterable[int]) -> tuple[IdleState, ...]:
    """The idle states of all CPUs by name and exit latency, shallowest first. Documentation/admin-guide/pm/cpuidle.rst."""
    found: dict[tuple[int, str], tuple[set[int], set[int]]] = {}
    for cpu in sorted(cpus):
        for name, latency, folder in _states_of(host, cpu):
            there, off = found.setdefault((latency, name), (set(), set()))
            there.add(cpu)
            if host.read_if_there(f"{folder}/disable") not in (None, "0"):
                off.add(cpu)
    return tuple(IdleState(name, latency, frozenset(there), frozenset(off)) for (latency, name), (there, off) in sorted(found.items()))


def _states_of(host: Host, cpu: int) -> list[tuple[str, int, str]]:
    """``(name, exit latency, folder)`` of the idle states of a CPU."""
    found = []
    folder = f"{CPU}/cpu{cpu}/cpuidle"
    for state in host.names(folder):
        name, latency = (host.read_if_there(f"{folder}/{state}/{file}") for file in ("name", "latency"))
        if name and latency is not None and latency.isdigit():
            found.append((name, int(latency), f"{folder}/{state}"))
    return found


def turbo(host: Host, cpus: Iterable[int]) -> str:
    """``on`` or ``off``. Intel's file says the opposite of the others'; newer drivers have one for each CPU, and none for all."""
    intel = host.read_if_there(_NO_TURBO)
    if intel is not None:
        return {"0": ON, "1": OFF}.get(intel, "")
    boost = host.read_if_there(_BOOST)
    if boost is not None:
        return {"1": ON, "0": OFF}.get(boost, "")
    words = {"1": ON, "0": OFF}
    return by_value({words[text]: members for text, members in per_cpu(host, cpus, "cpufreq/boost").items() if text in words})


def _uncore(host: Host, name: str) -> Uncore:
    return Uncore(*(host.read_if_there(f"{_UNCORE}/{name}/{file}") or "" for file in ("min_freq_khz", "max_freq_khz")))


def _competitors(host: Host, wanted: Iterable[str]) -> tuple[Competitor, ...]:
    """Services that a boot starts and that set the same. Files alone."""
    booted = booted_units(host)
    units, active, _main = active_tuned(host, booted)
    found = tuned_competitor(units, active, wanted)
    for unit, what in SERVICES.items():
        if unit in booted:
            found.append(Competitor(COMPETITOR, unit, what, f"systemctl disable --now {unit}, or the role noisy_services"))
    return tuple(found)


# --- writing ----------------------------------------------------------------------------------------------------------


def write_power(host: Host, state: PowerState, setting: Setting) -> None:
    """Set one kind on all CPUs that differ; raises ``OSError`` of the first that refuses, after all have been tried."""
    text = str(setting.desired)
    if setting.control in _FILES:
        _write_each(host, _FILES[setting.control], from_value(text, state.online))
    elif setting.control == MINIMUM:
        write_kernel_file(host, _MINIMUM, text)
    elif setting.control == TURBO:
        _write_turbo(host, text, state.online)
    elif setting.control == UNCORE:
        write_kernel_file(host, f"{_UNCORE}/{setting.name}/min_freq_khz", text.split()[0])
    elif setting.control == IDLE:
        _write_idle(host, state, setting)


def _write_each(host: Host, name: str, wanted: Mapping[int, str]) -> None:
    _write_files(host, {f"{CPU}/cpu{cpu}/{name}": value for cpu, value in wanted.items()})


def _write_files(host: Host, wanted: Mapping[str, str]) -> None:
    """Write the files that are there and say something else."""
    refused: list[OSError] = []
    for path, value in wanted.items():
        if host.exists(path) and host.read_if_there(path) != value:
            try:
                write_kernel_file(host, path, value)
            except OSError as error:
                refused.append(error)
    if refused:
        raise refused[0]


def _write_turbo(host: Host, text: str, online: frozenset[int]) -> None:
    if host.exists(_NO_TURBO):
        write_kernel_file(host, _NO_TURBO, "0" if text == ON else "1")
    elif host.exists(_BOOST):
        write_kernel_file(host, _BOOST, "1" if text == ON else "0")
    else:
        _write_each(host, "cpufreq/boost", {cpu: "1" if word == ON else "0" for cpu, word in from_value(text, online).items()})


def _write_idle(host: Host, state: PowerState, setting: Setting) -> None:
    """Switch a state off on the CPUs that the setting names, and on on all others."""
    off = off_cpus(str(setting.desired))
    having = frozenset().union(*(idle.cpus for idle in state.idle if idle.name == setting.name))
    _write_files(host, {f"{folder}/disable": "1" if cpu in off else "0"
                        for cpu in sorted(having) for name, _latency, folder in _states_of(host, cpu) if name == setting.name})
