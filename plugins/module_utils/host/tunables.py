# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading and writing kernel tunables below /proc/sys, and the sysctl.d files that set them at boot."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ..model.setting import Setting
from ..model.tunables import CONGESTION_CONTROL, Tunable, TunablesState, dotted, proc_path
from .container import container_kind
from .files import write_kernel_file
from .machine import Host, Unreadable

# In rising order of right: a file of the same name in a later folder replaces the one before (sysctl.d(5)).
FOLDERS = ("/lib/sysctl.d", "/usr/lib/sysctl.d", "/usr/local/lib/sysctl.d", "/run/sysctl.d", "/etc/sysctl.d")


def read_tunables(host: Host, spec: Mapping[str, Any]) -> TunablesState:
    """The state of the keys of ``spec['values']``."""
    values = {dotted(str(key)): value for key, value in spec.get("values", {}).items()}
    live = {key: _tunable(host, key) for key in sorted(values)}
    algorithms = _algorithms(host, str(values[CONGESTION_CONTROL])) if CONGESTION_CONTROL in values else frozenset()
    return TunablesState(live, _files(host), container_kind(host), algorithms)


def write_tunable(host: Host, state: TunablesState, setting: Setting) -> None:
    """Set one key; raises ``OSError`` where the kernel refuses."""
    write_kernel_file(host, proc_path(setting.name), str(setting.desired))


def _tunable(host: Host, key: str) -> Tunable:
    path = host.path(proc_path(key))
    if not os.path.isfile(path):
        return Tunable(None, writable=False)
    try:
        return Tunable(host.read(proc_path(key)), writable=bool(os.stat(path).st_mode & 0o200))
    except Unreadable as error:
        return Tunable("", unreadable=error.why)


def _files(host: Host) -> tuple[tuple[str, str], ...]:
    chosen = {name: f"{folder}/{name}" for folder in FOLDERS for name in host.names(folder) if name.endswith(".conf")}
    return tuple((chosen[name], host.read_if_there(chosen[name]) or "") for name in sorted(chosen))


def _algorithms(host: Host, wanted: str) -> frozenset[str]:
    """The algorithms this kernel has, counting ``wanted`` when a module for it can be loaded."""
    known = set((host.read_if_there("/proc/sys/net/ipv4/tcp_available_congestion_control") or "").split())
    release = host.read_if_there("/proc/sys/kernel/osrelease") or ""
    for index in ("modules.dep", "modules.builtin"):
        if f"/tcp_{wanted}.ko" in (host.read_if_there(f"/lib/modules/{release}/{index}") or ""):
            known.add(wanted)
    return frozenset(known)
