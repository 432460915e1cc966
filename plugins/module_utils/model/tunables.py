# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel tunables (sysctl): what may be asked for, what sysctl.d files will do at boot, and the plan. Pure: no I/O.

Source: Documentation/admin-guide/sysctl/{kernel,vm,net}.rst, Documentation/networking/ip-sysctl.rst, sysctl.d(5).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import buffers
from .competitors import Competitor, findings
from .cpuset import CpusetError, format_cpulist, parse_cpulist, planned_cpulist
from .setting import ERROR, UNSUPPORTED, OwnedFile, Plan, Setting, SpecError, unsupported
from .sysctl_files import Later, assignments, dotted, normalised, value_at_boot

OWNED_FILE = "/etc/sysctl.d/80-lowlatency.conf"
MODULES_FILE = "/etc/modules-load.d/lowlatency.conf"
_HEADER = "# Owned by lowlatency.fleet: rewritten as a whole. Change the inventory instead."

# Keys that no supported kernel has, or that it has and ignores; and what does the work instead.
NO_SUCH_TUNABLE = {
    "net.ipv4.tcp_tw_recycle": "removed in Linux 4.12; net.ipv4.tcp_tw_reuse is what is left",
    "net.ipv4.tcp_init_cwnd": "never existed; the initial window is a route metric (ip route ... initcwnd N)",
    "net.ipv4.tcp_low_latency": "does nothing since Linux 4.14; leave it out",
    "net.ipv4.tcp_fack": "does nothing since Linux 4.15; leave it out",
    "net.ipv4.tcp_frto_response": "removed in Linux 3.10; leave it out",
}

# Lowest and highest value the kernel takes; keys not listed are left to the kernel to judge.
RANGES: dict[str, tuple[int, int]] = {
    "kernel.hung_task_timeout_secs": (0, 2**63 // 1000),
    "kernel.nmi_watchdog": (0, 1),
    "kernel.numa_balancing": (0, 3),
    "kernel.sched_rt_period_us": (1, 2**31 - 1),
    "kernel.sched_rt_runtime_us": (-1, 2**31 - 1),
    "kernel.soft_watchdog": (0, 1),
    "kernel.softlockup_panic": (0, 1),
    "kernel.timer_migration": (0, 1),
    "kernel.watchdog": (0, 1),
    "kernel.watchdog_thresh": (0, 60),
    "net.core.busy_poll": (0, 2**31 - 1),
    "net.core.busy_read": (0, 2**31 - 1),
    "net.core.dev_weight": (1, 2**31 - 1),
    "net.core.netdev_budget": (0, 2**31 - 1),
    "net.core.netdev_budget_usecs": (1, 2**31 - 1),
    "net.core.netdev_max_backlog": (0, 2**31 - 1),
    "net.core.optmem_max": (0, 2**31 - 1),
    "net.core.rmem_default": (2304, 2**31 - 1),
    "net.core.rmem_max": (2304, 2**31 - 1),
    "net.core.rps_sock_flow_entries": (0, 2**29),
    "net.core.somaxconn": (0, 2**31 - 1),
    "net.core.wmem_default": (4608, 2**31 - 1),
    "net.core.wmem_max": (4608, 2**31 - 1),
    "net.ipv4.tcp_adv_win_scale": (-31, 31),
    "net.ipv4.tcp_autocorking": (0, 1),
    "net.ipv4.tcp_base_mss": (0, 2**31 - 1),
    "net.ipv4.tcp_dsack": (0, 255),
    "net.ipv4.tcp_early_retrans": (0, 4),
    "net.ipv4.tcp_fin_timeout": (0, 2**31 // 1000),
    "net.ipv4.tcp_keepalive_intvl": (1, 32767),
    "net.ipv4.tcp_keepalive_probes": (1, 127),
    "net.ipv4.tcp_keepalive_time": (1, 32767),
    "net.ipv4.tcp_limit_output_bytes": (0, 2**31 - 1),
    "net.ipv4.tcp_max_orphans": (0, 2**31 - 1),
    "net.ipv4.tcp_max_syn_backlog": (0, 2**31 - 1),
    "net.ipv4.tcp_max_tw_buckets": (0, 2**31 - 1),
    "net.ipv4.tcp_min_snd_mss": (48, 65535),
    "net.ipv4.tcp_moderate_rcvbuf": (0, 255),
    "net.ipv4.tcp_mtu_probing": (0, 2),
    "net.ipv4.tcp_no_metrics_save": (0, 255),
    "net.ipv4.tcp_notsent_lowat": (0, 2**32 - 1),
    "net.ipv4.tcp_orphan_retries": (0, 255),
    "net.ipv4.tcp_recovery": (0, 255),
    "net.ipv4.tcp_retries1": (0, 255),
    "net.ipv4.tcp_retries2": (0, 255),
    "net.ipv4.tcp_rto_min_us": (1, 2**31 - 1),
    "net.ipv4.tcp_sack": (0, 1),
    "net.ipv4.tcp_slow_start_after_idle": (0, 1),
    "net.ipv4.tcp_syn_retries": (1, 127),
    "net.ipv4.tcp_synack_retries": (0, 255),
    "net.ipv4.tcp_syncookies": (0, 2),
    "net.ipv4.tcp_timestamps": (0, 2),
    "net.ipv4.tcp_tw_reuse": (0, 2),
    "net.ipv4.tcp_window_scaling": (0, 1),
    "vm.compaction_proactiveness": (0, 100),
    "vm.dirty_background_ratio": (0, 100),
    "vm.dirty_ratio": (0, 100),
    "vm.max_map_count": (0, 2**31 - 1),
    "vm.overcommit_memory": (0, 2),
    "vm.stat_interval": (0, 2**31 // 1000),
    "vm.swappiness": (0, 200),
    "vm.zone_reclaim_mode": (0, 7),
}

BUFFER_FLOOR = 4096


@dataclass(frozen=True)
class Vector:
    """Numbers that rise from the first to the last: what each is, their unit, and the lowest and the highest that may be."""

    names: tuple[str, ...]
    unit: str
    low: int
    high: int


# For tcp_rmem and tcp_wmem Linux 6.1 and 6.12 enforce the floor, later ones do not.
_BUFFER = Vector(("minimum", "default", "maximum"), "bytes", BUFFER_FLOOR, 2**31 - 1)
_PAGES = Vector(("low", "pressure", "high"), "pages", 0, 2**63 - 1)
VECTORS = {
    "net.ipv4.ip_local_port_range": Vector(("first", "last"), "ports", 1, 65535),
    "net.ipv4.tcp_mem": _PAGES,
    "net.ipv4.tcp_rmem": _BUFFER,
    "net.ipv4.tcp_wmem": _BUFFER,
    "net.ipv4.udp_mem": _PAGES,
}
_COUNTS = {2: "two", 3: "three"}

# Sets of CPUs, which the kernel prints in its own spelling.
CPU_SETS = ("kernel.watchdog_cpumask",)

CONGESTION_CONTROL = "net.ipv4.tcp_congestion_control"

# Outside net.*, what a container has for itself; all the rest belongs to the machine (namespaces(7)).
CONTAINER_OWN = ("net.", "kernel.hostname", "kernel.domainname", "kernel.msg", "kernel.sem", "kernel.shm", "fs.mqueue.")


@dataclass(frozen=True)
class Tunable:
    """One key as a kernel has it: ``current`` is None where it has no such key."""

    current: str | None
    writable: bool = True
    unreadable: str = ""


@dataclass(frozen=True)
class TunablesState:
    """The keys asked for, the sysctl.d files in the order they are read, and what limits this host.

    ``algorithms`` are those of congestion control that this kernel has or has a module for, ``modules`` the latter; ``module_file`` is the text of
    the owned file that loads one. ``later`` is what a boot sets after the files, ``competitors`` what else may set the keys otherwise.
    """

    live: Mapping[str, Tunable]
    files: tuple[tuple[str, str], ...] = ()
    container: str = ""
    algorithms: frozenset[str] = field(default_factory=frozenset)
    modules: frozenset[str] = field(default_factory=frozenset)
    module_file: str | None = None
    later: tuple[Later, ...] = ()
    competitors: tuple[Competitor, ...] = ()


def proc_path(key: str) -> str:
    """The file of a dotted key: ``net.ipv4.conf.eth0/7.rp_filter`` -> ``/proc/sys/net/ipv4/conf/eth0.7/rp_filter``."""
    return "/proc/sys/" + key.translate(str.maketrans("./", "/."))


def problems(spec: Mapping[str, Any]) -> list[str]:
    """What is wrong with the values asked for on any host: key, value, rule and remedy, one sentence each."""
    found: list[str] = []
    for values in (spec.get("values") or {}, spec.get("overrides") or {}):
        found += [problem for key, value in sorted(values.items()) for problem in _problem(str(key), value)] + _said_twice(values)
    return found or _problems_together(spec)


def _problems_together(spec: Mapping[str, Any]) -> list[str]:
    """What is wrong with values that are right one by one."""
    asked = _asked(spec)
    found = [f"tunable {key}: {asked[key]!r}: {problem}" for key in CPU_SETS if key in asked for problem in _cpu_set_problem(asked[key], spec)]
    overrides = {dotted(str(key)): normalised(value) for key, value in (spec.get("overrides") or {}).items()}
    found += buffers.path_problems(spec.get("paths") or [], asked, overrides)
    if spec.get("small_buffers"):
        found += [f"tunable {key}: {overrides[key]!r}: small_buffers says {value}; leave one of them out"
                  for key, value in sorted(buffers.SMALL.items()) if overrides.get(key, value) != value]
        found += ["small_buffers: true: a long path (paths) needs large ones; leave one of them out (R11)"] if spec.get("paths") else []
    return found + buffers.small_buffer_problems(asked, str(spec.get("traffic") or ""), small_buffers=bool(spec.get("small_buffers")))


def _cpu_set_problem(value: str, spec: Mapping[str, Any]) -> list[str]:
    try:
        planned_cpulist(value, spec.get("housekeeping"))
    except CpusetError as error:
        return [str(error)]
    return []


def _asked(spec: Mapping[str, Any]) -> dict[str, str]:
    """``{key: value}`` as asked for, the site's over the profile's."""
    return {dotted(str(key)): normalised(value) for values in (spec.get("values") or {}, spec.get("overrides") or {}) for key, value in values.items()}


def wanted(spec: Mapping[str, Any]) -> dict[str, str]:
    """``{key: value}`` that is set: with the named small buffers, the maxima that the paths need, and sets of CPUs as the kernel prints them."""
    values = {**_asked(spec), **(buffers.SMALL if spec.get("small_buffers") else {})}
    values = buffers.raised(values, buffers.needed(spec.get("paths") or []))
    return {key: planned_cpulist(value, spec.get("housekeeping")) if key in CPU_SETS else value for key, value in values.items()}


def _said_twice(values: Mapping[str, Any]) -> list[str]:
    spellings: dict[str, list[str]] = {}
    for key in sorted(values):
        spellings.setdefault(dotted(str(key)), []).append(str(key))
    return [f"tunable {' and '.join(keys)}: one key in two spellings; leave one of them out" for keys in spellings.values() if len(keys) > 1]


def _problem(key: str, value: object) -> list[str]:
    shown = f"tunable {key}: {value!r}"
    parts = dotted(key).split(".")
    if len(parts) < 2 or any(part.strip("/") in ("", "..") for part in parts) or any(char in key for char in "\n\0 *="):
        return [f"{shown}: the key is not a sysctl name; write it like net.ipv4.tcp_sack"]
    if dotted(key) in NO_SUCH_TUNABLE:
        return [f"{shown}: {NO_SUCH_TUNABLE[dotted(key)]}"]
    if isinstance(value, bool):
        return [f"{shown}: a YAML boolean is no sysctl value; write {int(value)} (unquoted yes, no, on, off are booleans too)"]
    if not isinstance(value, (int, str)) or not normalised(value) or "\n" in str(value).strip():
        return [f"{shown}: a sysctl value is a number or a line of text; write it as one"]
    return _range_problem(dotted(key), normalised(value), shown)


def _range_problem(key: str, value: str, shown: str) -> list[str]:
    if key in VECTORS:
        return _vector_problem(VECTORS[key], value, shown)
    if key in RANGES:
        low, high = RANGES[key]
        if not _is_number(value) or not low <= int(value) <= high:
            return [f"{shown}: the kernel takes a whole number from {low} to {high}; choose one"]
    return []


def _vector_problem(vector: Vector, value: str, shown: str) -> list[str]:
    words, count = value.split(), len(vector.names)
    if len(words) != count or not all(_is_number(word) for word in words):
        return [f"{shown}: {_COUNTS[count]} whole numbers belong here ({', '.join(vector.names[:-1])} and {vector.names[-1]} in {vector.unit})"]
    numbers = [vector.low, *map(int, words), vector.high]
    if numbers != sorted(numbers):
        return [f"{shown}: must be {' <= '.join([str(vector.low), *vector.names, str(vector.high)])}"]
    return []


def _is_number(word: str) -> bool:
    return word.removeprefix("-").isdecimal() and word.isascii()


def machine_wide(key: str) -> bool:
    """Whether a key has one value for the whole machine, whatever the container."""
    return not key.startswith(CONTAINER_OWN)


def plan(state: TunablesState, spec: Mapping[str, Any]) -> Plan:
    """The settings of all keys in sorted order, what else sets them, and the owned files. Raises ``SpecError`` for an algorithm that this kernel has not."""
    values = wanted(spec)
    settings = tuple(_setting(key, values[key], state) for key in sorted(values))
    if not settings:
        return Plan()
    told = [*([buffers.finding()] if spec.get("small_buffers") else []), *findings(state.competitors)]
    return Plan((*settings, *told), (OwnedFile("sysctl.file", OWNED_FILE, _rendered(settings)), *_module_files(values, state)))


def _setting(key: str, desired: str, state: TunablesState) -> Setting:
    tunable = state.live[key]
    if state.container and machine_wide(key):
        return unsupported(key, key, desired, f"belongs to the machine, not to this container ({state.container})")
    if tunable.unreadable:
        return Setting(key, key, desired, state=ERROR, reason=f"could not be read: {tunable.unreadable}")
    if tunable.current is None:
        return unsupported(key, key, desired, "this kernel has no such key here")
    current = _as_set(key, normalised(tunable.current))
    if current != desired and not tunable.writable:
        return unsupported(key, key, desired, "read-only on this kernel or in this namespace", current)
    if key == CONGESTION_CONTROL and desired not in state.algorithms:
        missing = "has no such congestion control algorithm, nor a module for it"
        if state.container:
            return unsupported(key, key, desired, f"this kernel {missing} here", current)
        raise SpecError(f"tunable {key}: {desired}: this kernel {missing}; it has {', '.join(sorted(state.algorithms)) or 'none'}")
    persisted, reason = _at_boot(key, desired, state)
    return Setting(key, key, desired, current, persisted, reason=reason)


def _at_boot(key: str, desired: str, state: TunablesState) -> tuple[str | None, str]:
    """What the next boot leaves of a key, and what is to be done where that is somebody else's value."""
    value, where = value_at_boot(state.files, key)
    persisted = None if value is None else _as_set(key, value)
    reason = f"{where} is read later and wins; remove the key there" if where != OWNED_FILE and value is not None and key in _own(state) else ""
    for late in state.later:
        if late.key == key:
            persisted, reason = _as_set(key, late.value), f"{late.who} sets it after the files of sysctl.d; {late.remedy}"
    return persisted, reason if persisted != desired else ""


def _as_set(key: str, value: str) -> str:
    """A set of CPUs in one spelling, any other value as it is."""
    try:
        return format_cpulist(parse_cpulist(value)) if key in CPU_SETS else value
    except CpusetError:
        return value


def _own(state: TunablesState) -> dict[str, str]:
    return assignments("\n".join(text for path, text in state.files if path == OWNED_FILE))


def _module_files(values: Mapping[str, str], state: TunablesState) -> list[OwnedFile]:
    """The file that loads the module of the algorithm at boot, before anything sets sysctl; one that no algorithm needs any more is emptied."""
    algorithm = values.get(CONGESTION_CONTROL, "")
    needed = [f"tcp_{algorithm}"] if algorithm in state.modules and not state.container else []
    if not needed and state.module_file is None:
        return []
    return [OwnedFile("modules.file", MODULES_FILE, "\n".join([_HEADER, *needed, ""]).encode())]


def _rendered(settings: Iterable[Setting]) -> bytes:
    lines = [_HEADER]
    for setting in settings:
        if setting.state == UNSUPPORTED:
            lines.append(f"# {setting.name} = {setting.desired}  ({setting.reason})")
        else:
            lines.append(f"{setting.name} = {setting.desired}")
    return ("\n".join(lines) + "\n").encode()
