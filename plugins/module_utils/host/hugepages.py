# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading and allocating huge pages by NUMA node below /sys/devices/system/node, and mounting hugetlbfs.

Source: Documentation/admin-guide/mm/hugetlbpage.rst, proc(5) (mounts), systemd.mount(5).
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from typing import Any

from ..model.grub import LoaderError
from ..model.hugepages import BOOT, SIZE_KIB, HugepagesState, Mount, NodeMemory, pages_of, unit_name, unit_path
from ..model.setting import Setting
from .bootloader import configured_tokens
from .container import container_kind
from .files import write_kernel_file
from .machine import Host, Unreadable
from .programs import ProgramFailed, output_of
from .units import without_systemd

_NODES = "/sys/devices/system/node"
# The kernel gathers what it finds at once; what other processes give back, and what compaction frees, comes later.
ATTEMPTS, PAUSE = 10, 0.5


def read_hugepages(host: Host, spec: Mapping[str, Any]) -> HugepagesState:
    """The pages and the memory of every node, what the next boot reserves, and the mounts asked for."""
    container = container_kind(host)
    if container:
        return HugepagesState(container=container)
    nodes = [int(name[len("node"):]) for name in host.names(_NODES) if re.fullmatch(r"node\d+", name)]
    if not nodes:
        return HugepagesState(without="this kernel shows no NUMA nodes")
    pages = {(size, node): int(text) for node in nodes for size in SIZE_KIB
             for text in [host.read_if_there(_pages_file(size, node)) or ""] if text.isdecimal()}
    at_boot = any(page.get("at") == BOOT for page in spec.get("pages") or [])
    return HugepagesState(pages, {node: _memory(host, node) for node in nodes}, _next_boot(host) if at_boot else None,
                          {str(mount["path"]): _mount(host, str(mount["path"])) for mount in spec.get("mounts") or []})


def _pages_file(size: str, node: int) -> str:
    return f"{_NODES}/node{node}/hugepages/hugepages-{SIZE_KIB[size]}kB/nr_hugepages"


def _memory(host: Host, node: int) -> NodeMemory:
    text = host.read_if_there(f"{_NODES}/node{node}/meminfo") or ""
    held = {match[1]: int(match[2]) for match in re.finditer(r"^Node \d+ ([\w()]+):\s+(\d+) kB", text, re.MULTILINE)}
    return NodeMemory(held.get("MemTotal", 0), sum(held.get(name, 0) for name in ("MemFree", "Active(file)", "Inactive(file)")))


def _next_boot(host: Host) -> Mapping[tuple[str, int | None], int] | None:
    try:
        return pages_of(configured_tokens(host))
    except (LoaderError, Unreadable):
        return None


def _mount(host: Host, path: str) -> Mount:
    unit = unit_name(path)
    folders = (f"/etc/systemd/system/{target}.wants" for target in ("sysinit.target", "multi-user.target"))
    return Mount(_page_size(host, path), host.read(unit_path(path)) if host.exists(unit_path(path)) else None,
                 any(os.path.lexists(host.path(f"{folder}/{unit}")) for folder in folders))


def _page_size(host: Host, path: str) -> str | None:
    """``2M`` or ``1G`` where huge pages are mounted there, another word for another page size, None where nothing is."""
    for line in (host.read_if_there("/proc/mounts") or "").splitlines():
        words = line.split()
        if len(words) > 3 and words[1] == path and words[2] == "hugetlbfs":
            found = re.search(r"pagesize=(\w+)", words[3])
            return {"1024M": "1G"}.get(found[1], found[1]) if found else "unknown"
    return None


def write_hugepages(host: Host, state: HugepagesState, setting: Setting) -> None:
    """Allocate pages, or start a mount whose unit file is there; raises ``OSError`` or ``ProgramFailed``."""
    if setting.control == "hugepages.mount":
        _start(host, unit_name(setting.name.partition(" ")[2]))
        return
    if setting.needs_reboot:
        return
    node, size = setting.name.split()
    name, wanted = _pages_file(size, int(node[len("node"):])), int(str(setting.desired))
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE)
        write_kernel_file(host, name, str(wanted))
        got = int(host.read(name))
        if got == wanted:
            return
    few = "in use and cannot be given back" if got > wanted else "all it could find in one piece; have them reserved at boot (at: boot)"
    raise ProgramFailed(f"{name}: {wanted} pages are wanted, the kernel has {got}, {few}")


def _start(host: Host, unit: str) -> None:
    reason = without_systemd(host)
    if reason:
        raise ProgramFailed(f"{unit}: {reason}")
    output_of("systemctl", "daemon-reload")
    output_of("systemctl", "enable", "--now", "--", unit)
