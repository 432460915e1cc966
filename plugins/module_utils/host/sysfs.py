# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading and writing the kernel's switches below /sys (model/sysfs.py says which)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..model.cpuset import format_mask, parse_cpulist
from ..model.setting import Setting
from ..model.sysfs import SWITCHES, SysfsState
from .container import container_kind
from .files import write_kernel_file
from .machine import Host, Unreadable


def read_sysfs(host: Host, spec: Mapping[str, Any]) -> SysfsState:
    """The files of the switches of ``spec['values']``."""
    live: dict[str, str | None] = {}
    unreadable: dict[str, str] = {}
    for name in map(str, spec.get("values") or {}):
        path = SWITCHES[name].path
        try:
            live[name] = host.read(path) if host.exists(path) else None
        except Unreadable as error:
            unreadable[name] = error.why
    return SysfsState(live, unreadable, container_kind(host))


def write_sysfs(host: Host, state: SysfsState, setting: Setting) -> None:
    """Set one switch; raises ``OSError`` where the kernel refuses."""
    switch, text = SWITCHES[setting.name], str(setting.desired)
    if not switch.words:
        cpus = parse_cpulist(text)
        text = format_mask(cpus, max(cpus) + 1)
    write_kernel_file(host, switch.path, text)
