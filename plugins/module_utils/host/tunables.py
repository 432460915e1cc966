# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading and writing kernel tunables below /proc/sys. The kernel loads the module of a congestion control algorithm when it is set."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ..model.setting import Setting
from ..model.tunables import CONGESTION_CONTROL, MODULES_FILE, Tunable, TunablesState, proc_path, wanted
from .container import container_kind
from .files import write_kernel_file
from .machine import Host, Unreadable
from .sysctl_sources import read_files, read_others


def read_tunables(host: Host, spec: Mapping[str, Any]) -> TunablesState:
    """The state of the keys that the specification sets, and of what else sets them."""
    values = wanted(spec)
    live = {key: _tunable(host, key) for key in sorted(values)}
    algorithms, modules = _algorithms(host, values[CONGESTION_CONTROL]) if CONGESTION_CONTROL in values else (frozenset(), frozenset())
    files = read_files(host)
    later, competitors = read_others(host, values, files) if values else ((), ())
    return TunablesState(live, files, container_kind(host), algorithms, modules, host.read_if_there(MODULES_FILE), later, competitors)


def write_tunable(host: Host, state: TunablesState, setting: Setting) -> None:
    """Set one key; raises ``OSError`` where the kernel refuses."""
    write_kernel_file(host, proc_path(setting.name), str(setting.desired))


def _tunable(host: Host, key: str) -> Tunable:
    try:
        path = host.followed(proc_path(key))
        if not os.path.isfile(path):
            return Tunable(None, writable=False)
        return Tunable(host.read(proc_path(key)), writable=bool(os.stat(path).st_mode & 0o200))
    except Unreadable as error:
        return Tunable("", unreadable=error.why)


def _algorithms(host: Host, algorithm: str) -> tuple[frozenset[str], frozenset[str]]:
    """The algorithms this kernel has, counting ``algorithm`` when a module for it can be loaded; and those that are modules."""
    known = set((host.read_if_there("/proc/sys/net/ipv4/tcp_available_congestion_control") or "").split())
    folder = f"/lib/modules/{host.read_if_there('/proc/sys/kernel/osrelease') or ''}"
    found = {index: f"/tcp_{algorithm}.ko" in (host.read_if_there(f"{folder}/{index}") or "") for index in ("modules.dep", "modules.builtin")}
    modules = frozenset([algorithm] if found["modules.dep"] else [])
    return frozenset(known | modules | ({algorithm} if found["modules.builtin"] else set())), modules
