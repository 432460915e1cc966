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

from .setting import ERROR, UNSUPPORTED, OwnedFile, Plan, Setting, unsupported

OWNED_FILE = "/etc/sysctl.d/80-lowlatency.conf"

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
    "kernel.sched_rt_runtime_us": (-1, 2**31 - 1),
    "kernel.timer_migration": (0, 1),
    "kernel.watchdog": (0, 1),
    "net.core.busy_poll": (0, 2**31 - 1),
    "net.core.busy_read": (0, 2**31 - 1),
    "net.core.netdev_budget": (0, 2**31 - 1),
    "net.core.netdev_max_backlog": (0, 2**31 - 1),
    "net.core.rmem_default": (2304, 2**31 - 1),
    "net.core.rmem_max": (2304, 2**31 - 1),
    "net.core.somaxconn": (0, 2**31 - 1),
    "net.core.wmem_default": (4608, 2**31 - 1),
    "net.core.wmem_max": (4608, 2**31 - 1),
    "net.ipv4.tcp_autocorking": (0, 1),
    "net.ipv4.tcp_dsack": (0, 255),
    "net.ipv4.tcp_fin_timeout": (0, 2**31 // 1000),
    "net.ipv4.tcp_keepalive_intvl": (1, 32767),
    "net.ipv4.tcp_keepalive_probes": (1, 127),
    "net.ipv4.tcp_keepalive_time": (1, 32767),
    "net.ipv4.tcp_mtu_probing": (0, 2),
    "net.ipv4.tcp_no_metrics_save": (0, 255),
    "net.ipv4.tcp_notsent_lowat": (0, 2**32 - 1),
    "net.ipv4.tcp_retries2": (0, 255),
    "net.ipv4.tcp_sack": (0, 1),
    "net.ipv4.tcp_slow_start_after_idle": (0, 1),
    "net.ipv4.tcp_timestamps": (0, 2),
    "net.ipv4.tcp_tw_reuse": (0, 2),
    "net.ipv4.tcp_window_scaling": (0, 1),
    "vm.compaction_proactiveness": (0, 100),
    "vm.stat_interval": (0, 2**31 - 1),
    "vm.swappiness": (0, 200),
    "vm.zone_reclaim_mode": (0, 7),
}

# minimum, default and maximum in bytes; Linux 6.1 and 6.12 enforce the floor, later ones do not.
BUFFER_TRIPLES = ("net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem")
BUFFER_FLOOR = 4096

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
    """The keys asked for, the sysctl.d files in the order they are read, and what limits this host."""

    live: Mapping[str, Tunable]
    files: tuple[tuple[str, str], ...] = ()
    container: str = ""
    algorithms: frozenset[str] = field(default_factory=frozenset)


def normalised(value: object) -> str:
    """A value as the kernel prints it, vectors with single blanks."""
    return " ".join(str(value).split())


def dotted(key: str) -> str:
    """A key in the form sysctl(8) prints: ``net/ipv4/conf/eth0.7/rp_filter`` -> ``net.ipv4.conf.eth0/7.rp_filter``."""
    key = key.strip()
    first = next((char for char in key if char in "./"), ".")
    return key.translate(str.maketrans("./", "/.")) if first == "/" else key


def proc_path(key: str) -> str:
    """The file of a dotted key: ``net.ipv4.conf.eth0/7.rp_filter`` -> ``/proc/sys/net/ipv4/conf/eth0.7/rp_filter``."""
    return "/proc/sys/" + key.translate(str.maketrans("./", "/."))


def problems(spec: Mapping[str, Any]) -> list[str]:
    """What is wrong with the values asked for on any host: key, value, rule and remedy, one sentence each."""
    values = spec.get("values", {})
    return [problem for key, value in sorted(values.items()) for problem in _problem(str(key), value)] + _said_twice(values)


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
    if key in BUFFER_TRIPLES:
        return _triple_problem(value, shown)
    if key in RANGES:
        low, high = RANGES[key]
        if not _is_number(value) or not low <= int(value) <= high:
            return [f"{shown}: the kernel takes a whole number from {low} to {high}; choose one"]
    return []


def _triple_problem(value: str, shown: str) -> list[str]:
    words = value.split()
    if len(words) != 3 or not all(_is_number(word) for word in words):
        return [f"{shown}: three whole numbers belong here (minimum, default and maximum in bytes)"]
    low, middle, high = (int(word) for word in words)
    if not BUFFER_FLOOR <= low <= middle <= high <= 2**31 - 1:
        return [f"{shown}: must be {BUFFER_FLOOR} <= minimum <= default <= maximum < 2 GiB"]
    return []


def _is_number(word: str) -> bool:
    return word.removeprefix("-").isdecimal() and word.isascii()


def assignments(text: str) -> dict[str, str]:
    """Keys and values of a sysctl.d file; comments, ignored-error marks, exclusions and patterns are understood."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        line = line.strip()
        key, equals, value = line.partition("=")
        key = dotted(key.strip().lstrip("-"))
        if equals and key and line[0] not in "#;" and "*" not in key:
            found[key] = normalised(value)
    return found


def at_boot(files: Iterable[tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """``{key: (value, path)}`` that boot leaves, from ``(path, text)`` in the order they are read: the last one wins."""
    winners: dict[str, tuple[str, str]] = {}
    for path, text in files:
        winners.update({key: (value, path) for key, value in assignments(text).items()})
    return winners


def machine_wide(key: str) -> bool:
    """Whether a key has one value for the whole machine, whatever the container."""
    return not key.startswith(CONTAINER_OWN)


def plan(state: TunablesState, spec: Mapping[str, Any]) -> Plan:
    """The settings of all keys in sorted order, and the one owned file with those that this kernel has."""
    wanted = {dotted(str(key)): normalised(value) for key, value in spec.get("values", {}).items()}
    boot = at_boot(state.files)
    settings = tuple(_setting(key, wanted[key], state, boot) for key in sorted(wanted))
    if not settings:
        return Plan()
    return Plan(settings, (OwnedFile("sysctl.file", OWNED_FILE, _rendered(settings)),))


def _setting(key: str, desired: str, state: TunablesState, boot: Mapping[str, tuple[str, str]]) -> Setting:
    tunable = state.live[key]
    if state.container and machine_wide(key):
        return unsupported(key, key, desired, f"belongs to the machine, not to this container ({state.container})")
    if tunable.unreadable:
        return Setting(key, key, desired, state=ERROR, reason=f"could not be read: {tunable.unreadable}")
    if tunable.current is None:
        return unsupported(key, key, desired, "this kernel has no such key here")
    current = normalised(tunable.current)
    if current != desired and not tunable.writable:
        return unsupported(key, key, desired, "read-only on this kernel or in this namespace", current)
    if key == CONGESTION_CONTROL and desired not in state.algorithms:
        return unsupported(key, key, desired, "this kernel has no such congestion control algorithm, nor a module for it", current)
    persisted, where = boot.get(key, (None, ""))
    lost = where != OWNED_FILE and persisted not in (None, desired) and key in _own(state)
    return Setting(key, key, desired, current, persisted, reason=f"{where} is read later and wins; remove the key there" if lost else "")


def _own(state: TunablesState) -> dict[str, str]:
    return assignments("\n".join(text for path, text in state.files if path == OWNED_FILE))


def _rendered(settings: Iterable[Setting]) -> bytes:
    lines = ["# Owned by lowlatency.fleet: rewritten as a whole. Change the inventory instead."]
    for setting in settings:
        if setting.state == UNSUPPORTED:
            lines.append(f"# {setting.name} = {setting.desired}  ({setting.reason})")
        else:
            lines.append(f"{setting.name} = {setting.desired}")
    return ("\n".join(lines) + "\n").encode()
