# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services on their CPUs: drop-ins of systemd, and what their live threads say. Pure: no I/O.

Source: systemd.exec(5), systemd.resource-control(5), systemd-system.conf(5), proc_pid_status(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .cpuset import CpusetError, format_cpulist, parse_cpulist
from .setting import OwnedFile, Plan, Setting, unsupported

UNITS = "/etc/systemd/system"
DROP_IN = "80-lowlatency.conf"
MANAGER_FILE = f"/etc/systemd/system.conf.d/{DROP_IN}"

FILE = "service.file"
LOADED = "service.loaded"
CPUS = "service.cpus"
MEMORY = "service.memory"
RUNNING = "service.running"
BYPASS = "service.bypass"
ALONE = "service.alone"
GONE = "service.gone"
MANAGER = "service.manager"
MANAGER_CONTROL = "service.manager_file"
CONTROLS = (FILE, LOADED, CPUS, MEMORY, RUNNING, BYPASS, ALONE, GONE, MANAGER, MANAGER_CONTROL)

AS_WRITTEN, OUTDATED = "as written", "outdated"
POLICIES = ("other", "batch", "idle", "fifo", "rr")
_REAL_TIME = ("fifo", "rr")
_UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]{1,240}\.service")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MEMLOCK = re.compile(r"infinity|[0-9]+[KMGT]?")
_SHOWN = 5


@dataclass(frozen=True)
class Thread:
    """A thread: its process, its name, the CPUs and memory nodes it may use, the CPU it ran on last."""

    pid: int
    name: str
    cpus: frozenset[int]
    nodes: frozenset[int] = frozenset()
    last: int = -1


@dataclass(frozen=True)
class Unit:
    """A service as systemd and the kernel show it: LoadState, ActiveState, Result, whether its files changed since they were loaded, what its drop-in holds,
    its threads, the libraries it has mapped and the ports it has open."""

    load: str = "loaded"
    active: str = "inactive"
    result: str = ""
    reload: bool = False
    drop_in: bytes | None = None
    threads: tuple[Thread, ...] = ()
    libraries: frozenset[str] = frozenset()
    ports: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ServicesState:
    """The units asked for, units that have a drop-in of ours and are not asked for, threads of others that were placed on application CPUs, the CPUs of the
    service manager and what its file holds; ``without`` says why there is no service manager to ask; of a ``captured`` tree, the files are
    judged all the same."""

    units: Mapping[str, Unit] = field(default_factory=dict)
    left: tuple[str, ...] = ()
    others: tuple[Thread, ...] = ()
    manager: frozenset[int] = frozenset()
    manager_file: bytes | None = None
    without: str = ""
    captured: bool = False


# --- the specification -------------------------------------------------------------------------------------------------


def problems(spec: Mapping[str, Any]) -> list[str]:
    """What is wrong with services on any host: value, rule and remedy; two that claim one CPU among it."""
    found: list[str] = []
    owner: dict[int, str] = {}
    names: set[str] = set()
    for service in spec.get("services") or []:
        unit = str(service.get("unit", ""))
        wrong = _service_problems(service)
        if unit in names:
            wrong.append("is there twice; leave one of the two out")
        names.add(unit)
        cpus = _cpus(service.get("cpus"))
        claimed = sorted({owner[cpu] for cpu in cpus or () if cpu in owner})
        if claimed:
            wrong.append(f"cpus {service['cpus']} are {', '.join(claimed)}'s in part; no two services share a CPU")
        owner.update(dict.fromkeys(cpus or (), unit))
        found += [f"service {unit or service!s:.80}: {problem}" for problem in wrong]
    for option in ("manager_cpus", "application_cpus"):
        if spec.get(option) and _cpus(spec[option]) is None:
            found.append(f"{option} {spec[option]!r:.40}: is no list of CPUs; write it like 0-3,8")
    return found


def _service_problems(service: Mapping[str, Any]) -> list[str]:
    found = []
    if not _UNIT.fullmatch(str(service.get("unit", ""))):
        found.append("is not the name of a systemd service; write it like feed-handler.service")
    if not _cpus(service.get("cpus")):
        found.append(f"cpus {service.get('cpus')!r:.40}; give a list of CPUs, like 4-5")
    if service.get("memory_nodes") and _cpus(service["memory_nodes"]) is None:
        found.append(f"memory_nodes {service['memory_nodes']!r:.40}; give a list of nodes, like 0 or 0-1")
    for name, value in (service.get("environment") or {}).items():
        if not _VARIABLE.fullmatch(str(name)):
            found.append(f"environment {name!s:.40}: is no name of a variable")
        if isinstance(value, (dict, list)) or "\n" in str(value):
            found.append(f"environment {name!s:.40}: its value is no single line of text")
    if service.get("memlock") is not None and not _MEMLOCK.fullmatch(str(service["memlock"])):
        found.append(f"memlock {service['memlock']!r:.40}; give infinity, or bytes with K, M, G or T")
    return found + _scheduling_problems(service)


def _scheduling_problems(service: Mapping[str, Any]) -> list[str]:
    policy, priority = service.get("scheduling_policy"), service.get("scheduling_priority")
    if policy is not None and policy not in POLICIES:
        return [f"scheduling_policy {policy!r:.40}; there are: {', '.join(POLICIES)}"]
    if priority is None:
        return []
    if policy not in _REAL_TIME:
        return [f"scheduling_priority belongs to {' and '.join(_REAL_TIME)}; give one of them as scheduling_policy, or leave it out"]
    # 99 is for the kernel's own threads, which must be able to interrupt the service
    return [] if 1 <= int(priority) <= 98 else [f"scheduling_priority {priority}; give 1 to 98"]


def _cpus(text: Any) -> frozenset[int] | None:
    try:
        return parse_cpulist(str(text)) if text is not None else frozenset()
    except CpusetError:
        return None


# --- the files ---------------------------------------------------------------------------------------------------------


def drop_in(unit: str) -> str:
    """The owned file of a service."""
    return f"{UNITS}/{unit}.d/{DROP_IN}"


def drop_in_text(service: Mapping[str, Any]) -> bytes:
    """What makes a service run where it is planned, from its next start on."""
    nodes = str(service.get("memory_nodes") or "")
    # empty first: what other files say of the same is not added to
    lines = ["CPUAffinity=", f"CPUAffinity={_blanks(str(service['cpus']))}"]
    if nodes:
        lines += ["NUMAPolicy=bind", f"NUMAMask={_blanks(nodes)}"]
    if service.get("control_group"):
        lines += [f"AllowedCPUs={_blanks(str(service['cpus']))}", *([f"AllowedMemoryNodes={_blanks(nodes)}"] if nodes else [])]
    if service.get("scheduling_policy"):
        lines.append(f"CPUSchedulingPolicy={service['scheduling_policy']}")
    if service.get("scheduling_priority") is not None:
        lines.append(f"CPUSchedulingPriority={service['scheduling_priority']}")
    if service.get("memlock"):
        lines.append(f"LimitMEMLOCK={service['memlock']}")
    lines += [f"Environment={_quoted(name, value)}" for name, value in sorted((service.get("environment") or {}).items())]
    head = "# Owned by lowlatency.fleet: rewritten as a whole. In force from the next start of the service on.\n[Service]\n"
    return (head + "\n".join(lines) + "\n").encode()


def _blanks(text: str) -> str:
    return text.replace(",", " ")


def _quoted(name: str, value: Any) -> str:
    """An assignment as systemd reads it: in quotes, its own characters escaped (systemd.syntax(7), specifiers)."""
    text = f"{name}={value}".replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text}"'


def manager_text(cpus: str) -> bytes:
    """What keeps all services that say nothing themselves off the application CPUs."""
    return f"# Owned by lowlatency.fleet: rewritten as a whole.\n[Manager]\nCPUAffinity={_blanks(cpus)}\n".encode()


# --- the plan ----------------------------------------------------------------------------------------------------------


def plan(state: ServicesState, spec: Mapping[str, Any]) -> Plan:
    """The drop-ins and whether they are loaded, then what the live threads say of each service, and who else is on its CPUs."""
    services = sorted(spec.get("services") or [], key=lambda service: str(service["unit"]))
    manager = str(spec.get("manager_cpus") or "")
    files = [OwnedFile(FILE, drop_in(service["unit"]), drop_in_text(service)) for service in services]
    if state.without:
        files += [OwnedFile(MANAGER_CONTROL, MANAGER_FILE, manager_text(manager))] if manager else []
        told = tuple(unsupported(CPUS, service["unit"], service["cpus"], state.without) for service in services)
        return Plan(told, tuple(files) if state.captured else ())
    settings = [Setting(GONE, unit, None, drop_in(unit), drop_in(unit), reason="no service of the plan any more") for unit in state.left]
    settings += [setting for service in services for setting in _of_service(state, service, _cpus(spec.get("application_cpus")) or frozenset())]
    if manager:
        files.append(OwnedFile(MANAGER_CONTROL, MANAGER_FILE, manager_text(manager)))
        lasts = state.manager_file == manager_text(manager)
        settings.append(Setting(MANAGER, "systemd", manager, format_cpulist(state.manager), manager if lasts else None))
    return Plan(tuple(settings), tuple(files))


def _of_service(state: ServicesState, service: Mapping[str, Any], application: frozenset[int]) -> list[Setting]:
    name = str(service["unit"])
    unit = state.units.get(name, Unit("not-found"))
    same = unit.drop_in == drop_in_text(service) and not unit.reload
    loaded = Setting(LOADED, f"{name} {DROP_IN}", AS_WRITTEN, AS_WRITTEN if same else OUTDATED, AS_WRITTEN)
    if unit.load == "not-found":
        return [loaded, Setting(RUNNING, name, "installed", "not installed", finding=True,
                                reason="no such service on this host; install it, or correct its name (lowlatency_services)")]
    if unit.active == "failed":
        return [loaded, Setting(RUNNING, name, "running", f"failed ({unit.result})", finding=True, reason=f"systemd says so; systemctl status {name} has more")]
    if not unit.threads:
        return [loaded]
    return [loaded, *_threads(unit, service), *_acceleration(unit, service), *_alone(state, unit, service, application)]


def _threads(unit: Unit, service: Mapping[str, Any]) -> list[Setting]:
    """Where the threads of a service may run now. One that keeps itself to fewer of its CPUs is right."""
    name, wanted = str(service["unit"]), parse_cpulist(str(service["cpus"]))
    wrong = [thread for thread in unit.threads if not thread.cpus <= wanted]
    current = format_cpulist(frozenset(cpu for thread in wrong for cpu in thread.cpus)) if wrong else str(service["cpus"])
    may = bool(service.get("restart"))
    why = "" if not wrong else f"{_told(wrong)} may run there" + ("" if may else f"; restart it when its hour has come: systemctl restart {name}")
    found = [Setting(CPUS, f"{name} threads", str(service["cpus"]), current, str(service["cpus"]), reason=why, finding=not may)]
    if service.get("control_group") and service.get("memory_nodes"):
        nodes = parse_cpulist(str(service["memory_nodes"]))
        astray = [thread for thread in unit.threads if thread.nodes and not thread.nodes <= nodes]
        held = format_cpulist(frozenset(node for thread in astray for node in thread.nodes)) if astray else str(service["memory_nodes"])
        found.append(Setting(MEMORY, f"{name} memory", str(service["memory_nodes"]), held, str(service["memory_nodes"]), finding=True,
                             reason=f"{_told(astray)} may take memory there; restart it when its hour has come" if astray else ""))
    return found


def _acceleration(unit: Unit, service: Mapping[str, Any]) -> list[Setting]:
    """Whether a service that is to bypass the kernel does so: its library is mapped, its ports are open."""
    name, found = str(service["unit"]), []
    library = str(service.get("library") or "")
    if library:
        there = any(mapped.startswith(library) for mapped in unit.libraries)
        found.append(Setting(BYPASS, f"{name} {library}", library, library if there else "the kernel's stack", finding=True,
                             reason="" if there else "it runs without the library, on the kernel's stack; restart it, and look at what it was started with"))
    for port in service.get("ports") or []:
        there = port in unit.ports
        found.append(Setting(BYPASS, f"{name} {port}", "open", "open" if there else "not open", finding=True,
                             reason="" if there else "it runs, and does not have the port; look at its EAL arguments and its log"))
    return found


def _alone(state: ServicesState, unit: Unit, service: Mapping[str, Any], application: frozenset[int]) -> list[Setting]:
    """Who else was placed on the CPUs of a service; only on isolated ones does that tell anything."""
    cpus = parse_cpulist(str(service["cpus"])) & application
    if not cpus:
        return []
    own = {thread.pid for thread in unit.threads}
    others = [thread for thread in state.others if thread.pid not in own and (thread.last in cpus or (thread.cpus <= application and thread.cpus & cpus))]
    return [Setting(ALONE, f"{service['unit']} CPUs", "alone", _told(others) if others else "alone", finding=True,
                    reason="they share its CPUs; move them, or stop them" if others else "")]


def _told(threads: Iterable[Thread]) -> str:
    """Some threads in words."""
    names = sorted({f"{thread.name} ({thread.pid})" for thread in threads})
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
