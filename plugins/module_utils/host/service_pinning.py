# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services as systemd has them, and their live threads as the kernel has them.

Source: systemctl(1), Documentation/filesystems/proc.rst (status, stat), Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..model.cpuset import CpusetError, parse_cpulist
from ..model.service_pinning import (
    CPUS,
    DROP_IN,
    GONE,
    LOADED,
    MANAGER,
    MANAGER_FILE,
    UNITS,
    ServicesState,
    Thread,
    Unit,
    drop_in,
)
from ..model.setting import Setting
from .machine import Host
from .pci_driver import DEVICES, open_file
from .programs import output_of
from .units import without_systemd

PROPERTIES = ("LoadState", "ActiveState", "Result", "NeedDaemonReload", "ControlGroup")
# Where the tree of systemd's control groups is: alone, beside version 1, or in version 1.
_TREES = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd")
_KERNEL_THREAD = 0x00200000  # PF_KTHREAD, include/linux/sched.h
_FLAGS, _PROCESSOR = 6, 36  # fields 9 and 39 of proc_pid_stat(5), counted from the state (field 3)
_LIBRARY = re.compile(r"/(lib(?:onload|xlio|vma)\.so[^/\s]*)")


def read_services(host: Host, spec: Mapping[str, Any]) -> ServicesState:
    """The services of ``spec['services']`` and their threads, and threads that others placed on application CPUs; raises ``ProgramFailed``."""
    services = {str(service["unit"]): service for service in spec.get("services") or []}
    left = tuple(name[:-2] for name in host.names(UNITS) if name.endswith(".service.d") and name[:-2] not in services
                 and host.exists(f"{UNITS}/{name}/{DROP_IN}"))
    reason = without_systemd(host)
    if reason or not (services or left or spec.get("manager_cpus")):
        return ServicesState(left=left, without=reason, captured=host.captured)
    shown = _shown(list(services)) if services else {}
    ports = {port: host.link_name(f"{DEVICES}/{port}/iommu_group") or "" for service in services.values() for port in service.get("ports") or []}
    units = {name: _unit(host, name, values, services[name], ports) for name, values in shown.items()}
    own = {thread.pid for unit in units.values() for thread in unit.threads}
    application = _cpus(str(spec.get("application_cpus") or ""))
    others = tuple(_others(host, application, own)) if application and any(unit.threads for unit in units.values()) else ()
    return ServicesState(units, left, others, _status(host, "/proc/1/status")[1], host.content_and_mode(MANAGER_FILE)[0])


def _shown(names: list[str]) -> dict[str, dict[str, str]]:
    """What systemd says of units, by name."""
    text = output_of("systemctl", "show", "--no-pager", f"--property={','.join(PROPERTIES)}", "--", *names)
    blocks = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in text.strip().split("\n\n")]
    return dict(zip(names, blocks))


def _unit(host: Host, name: str, values: Mapping[str, str], service: Mapping[str, Any], ports: Mapping[str, str]) -> Unit:
    pids = _processes(host, values.get("ControlGroup", ""))
    opened = {open_file(host, pid, number) for pid in pids for number in host.names(f"/proc/{pid}/fd")} if service.get("ports") else set()
    libraries = {library for pid in pids for library in _LIBRARY.findall(host.read_if_there(f"/proc/{pid}/maps") or "")} if service.get("library") else set()
    return Unit(
        values.get("LoadState", ""), values.get("ActiveState", ""), values.get("Result", ""), values.get("NeedDaemonReload") == "yes",
        host.content_and_mode(drop_in(name))[0],
        threads=tuple(thread for pid in pids for thread in _threads(host, pid)),
        libraries=frozenset(libraries),
        ports=frozenset(port for port, group in ports.items() if group and {f"/dev/vfio/{group}", f"/dev/vfio/noiommu-{group}"} & opened),
    )


def _processes(host: Host, group: str) -> list[str]:
    """The processes of a control group and of those below it."""
    tree = next((tree for tree in _TREES if group and host.exists(f"{tree}{group}/cgroup.procs")), None)
    if tree is None:
        return []
    found = []
    for folder, _folders, files in os.walk(host.path(f"{tree}{group}")):
        if "cgroup.procs" in files:
            with open(f"{folder}/cgroup.procs", encoding="ascii") as stream:
                found += stream.read().split()
    return found


def _threads(host: Host, pid: str) -> Iterator[Thread]:
    """The threads of a process; one that ends meanwhile is left out."""
    for number in host.names(f"/proc/{pid}/task"):
        name, cpus, nodes = _status(host, f"/proc/{pid}/task/{number}/status")
        if name:
            yield Thread(int(pid), name, cpus, nodes)


def _status(host: Host, path: str) -> tuple[str, frozenset[int], frozenset[int]]:
    """Name, CPUs and memory nodes of a thread; empty where it is gone."""
    said = dict(line.partition(":")[::2] for line in (host.read_if_there(path) or "").splitlines())
    return said.get("Name", "").strip(), _cpus(said.get("Cpus_allowed_list", "")), _cpus(said.get("Mems_allowed_list", ""))


def _others(host: Host, application: frozenset[int], own: set[int]) -> Iterator[Thread]:
    """Threads of programs (no kernel threads) that ran on an application CPU last, or may run on no other CPUs."""
    for pid in host.names("/proc"):
        if not pid.isdecimal() or int(pid) in own:
            continue
        for number in host.names(f"/proc/{pid}/task"):
            fields = (host.read_if_there(f"/proc/{pid}/task/{number}/stat") or "").rpartition(")")[2].split()
            if len(fields) <= _PROCESSOR or int(fields[_FLAGS]) & _KERNEL_THREAD:
                continue
            name, cpus, nodes = _status(host, f"/proc/{pid}/task/{number}/status")
            last = int(fields[_PROCESSOR])
            if name and (last in application or (cpus and cpus <= application)):
                yield Thread(int(pid), name, cpus, nodes, last)


def _cpus(text: str) -> frozenset[int]:
    try:
        return parse_cpulist(text.strip())
    except CpusetError:
        return frozenset()


def write_service(host: Host, state: ServicesState, setting: Setting) -> None:
    """Load what is written, restart a service that may be restarted, take a drop-in away, or keep systemd itself to its CPUs.

    Raises ``OSError`` or ``ProgramFailed``.
    """
    if setting.control == GONE:
        path = host.path(drop_in(setting.name))
        os.unlink(path)
        if not os.listdir(os.path.dirname(path)):
            os.rmdir(os.path.dirname(path))
    if setting.control in (GONE, LOADED):
        output_of("systemctl", "daemon-reload")
    elif setting.control == CPUS:
        output_of("systemctl", "restart", "--", setting.name.partition(" ")[0])
    elif setting.control == MANAGER:
        # systemd reads its file at boot only, not when it executes itself anew
        os.sched_setaffinity(1, parse_cpulist(str(setting.desired)))
