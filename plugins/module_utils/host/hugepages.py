# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading and setting huge pages of each NUMA node below /sys, and hugetlbfs mounts as units of systemd.

Source: Documentation/admin-guide/mm/hugetlbpage.rst, Documentation/filesystems/proc.rst (meminfo).
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Mapping
from typing import Any

from ..model.hugepages import (
    BOOT,
    MOUNT,
    SIZE_KIB,
    HugepagesState,
    Mount,
    Node,
    pages_of,
    size_of,
    unit_file,
    unit_name,
    wanted_pages,
    wants_link,
)
from ..model.setting import Setting, SpecError
from .bootloader import configured_tokens
from .container import container_kind
from .files import write_kernel_file
from .machine import Host, Unreadable
from .programs import output_of
from .units import without_systemd

NODES = "/sys/devices/system/node"
KERNEL_PAGES = "/sys/kernel/mm/hugepages"
# The kernel allocates what it can and says nothing of the rest; while it makes room, asking again gets more.
PATIENCE_SECONDS = 5.0
PAUSE_SECONDS = 0.25


class PagesMissed(OSError):
    """The kernel holds another number of pages than it was asked for; the message has both."""


def read_hugepages(host: Host, spec: Mapping[str, Any]) -> HugepagesState:
    """The state of all nodes and of the mount points of ``spec['mounts']``; nothing is read where nothing is asked for."""
    pages, paths = wanted_pages(spec), [str(mount["path"]) for mount in spec.get("mounts") or []]
    container = container_kind(host) if pages or paths else ""
    if container or not (pages or paths):
        return HugepagesState(container=container)
    boot, unknown = _next_boot(host) if any(page.at == BOOT for page in pages) else (None, "")
    numbers = sorted(int(name[4:]) for name in host.names(NODES) if re.fullmatch(r"node[0-9]+", name))
    return HugepagesState(
        nodes={number: _node(host, number) for number in numbers} if pages else {},
        boot=boot,
        boot_unknown=unknown,
        mounts=_mounts(host, paths) if paths else {},
        sizes=frozenset(size for size, kib in SIZE_KIB.items() if host.is_dir(f"{KERNEL_PAGES}/hugepages-{kib}kB")),
        default_size=size_of(f"{_amounts(host, '/proc/meminfo').get('Hugepagesize', 0)}K"),
        without=without_systemd(host) if host.live and paths else "",
        captured=host.captured,
    )


def _next_boot(host: Host) -> tuple[Mapping[tuple[str, int | None], int] | None, str]:
    """What the next boot's command line asks for, or why that is not known."""
    try:
        return pages_of(configured_tokens(host)), ""
    except (SpecError, Unreadable) as error:
        return None, str(error)


def _node(host: Host, number: int) -> Node:
    folder = f"{NODES}/node{number}"
    told = _amounts(host, f"{folder}/meminfo")
    held = {size: host.read_if_there(f"{folder}/hugepages/hugepages-{kib}kB/nr_hugepages") for size, kib in SIZE_KIB.items()}
    return Node(told.get("MemTotal", 0), told.get("MemFree", 0), told.get("Active(file)", 0) + told.get("Inactive(file)", 0),
                {size: int(text) for size, text in held.items() if text is not None and text.isdecimal()})


def _amounts(host: Host, name: str) -> dict[str, int]:
    """``{name: KiB}`` of a meminfo file; those of a node begin their lines with ``Node 0``."""
    text = host.read_if_there(name) or ""
    return {match[1]: int(match[2]) for match in re.finditer(r"^\s*(?:Node \d+ )?(\S+):\s+(\d+) kB$", text, re.MULTILINE)}


def _mounts(host: Host, paths: list[str]) -> dict[str, Mount]:
    """What is at each path; of mounts on top of one another the last one counts."""
    there: dict[str, tuple[str, str]] = {}
    for line in host.read("/proc/mounts").splitlines():
        words = line.split()
        if len(words) >= 4:
            there[words[1]] = (words[2], words[3])
    return {path: _mount(host, path, *there.get(path, ("", ""))) for path in paths}


def _mount(host: Host, path: str, filesystem: str, options: str) -> Mount:
    said = dict(word.partition("=")[::2] for word in options.split(","))
    size = size_of(said.get("pagesize", "")) if filesystem == "hugetlbfs" else ""
    return Mount(filesystem, size, host.content_and_mode(unit_file(path))[0], os.path.lexists(host.path(wants_link(path))),
                 group_name(host, said.get("gid", "")))


def group_name(host: Host, number: str) -> str:
    """The name of a group by its number (group(5)); the number where it has none."""
    entries = (line.split(":") for line in (host.read_if_there("/etc/group") or "").splitlines())
    return next((entry[0] for entry in entries if len(entry) > 2 and entry[2] == number), number)


def write_hugepages(host: Host, state: HugepagesState, setting: Setting) -> None:
    """Allocate or return pages, or mount; raises ``OSError``, ``PagesMissed`` or ``ProgramFailed``."""
    if setting.control == MOUNT:
        _mount_now(host, state.mounts[setting.name], setting)
    else:
        _allocate(host, setting)


def _allocate(host: Host, setting: Setting) -> None:
    """Ask for the pages until they are there, for a few seconds."""
    node, _blank, size = setting.name.partition(" ")
    name = f"{NODES}/{node}/hugepages/hugepages-{SIZE_KIB[size]}kB/nr_hugepages"
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            write_kernel_file(host, name, str(setting.desired))
        except OSError as error:
            if error.errno != errno.ENOMEM:
                raise
        got = int(host.read(name))
        if str(got) == setting.desired:
            return
        if time.monotonic() >= end:
            raise PagesMissed(_missed(setting, got))
        time.sleep(PAUSE_SECONDS)


def _missed(setting: Setting, got: int) -> str:
    figures = f"{setting.desired} pages asked for, the kernel has {got}"
    if got > int(str(setting.desired)):
        return f"{figures}: some are in use; stop the applications that hold them and run again"
    return f"{figures}: the memory of the node is broken up or taken; state the need with at: boot and reboot, or ask for less"


def _mount_now(host: Host, mount: Mount, setting: Setting) -> None:
    """Have the unit, whose file is there, mounted now and by every boot."""
    unit = unit_name(setting.name)
    if not host.live:
        output_of("systemctl", f"--root={host.root}", "enable", "--", unit)
        return
    output_of("systemctl", "daemon-reload")
    output_of("systemctl", "enable", "--", unit)
    # what is mounted with another page size has to go first; systemd refuses while it is in use
    output_of("systemctl", "restart" if mount.filesystem and setting.current != setting.desired else "start", "--", unit)
