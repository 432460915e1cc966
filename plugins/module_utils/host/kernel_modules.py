# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules of kernels: those on disk for any release, those that are loaded, and who may load what. Reads only.

Source: modules.dep(5), modinfo(8), Documentation/ABI/testing/sysfs-module, Documentation/admin-guide/module-signing.rst.
"""

from __future__ import annotations

import os

from .links import NET
from .machine import Host
from .nic_firmware import MODULES, module_of
from .programs import ProgramFailed, output_of

LIB = "/lib/modules"


def running_release(host: Host) -> str:
    """The release of the kernel that runs; empty where it is not told."""
    return host.read_if_there("/proc/sys/kernel/osrelease") or ""


def module_files(host: Host, release: str) -> dict[str, str]:
    """``{module: path}`` of all that modprobe finds for a kernel and that is there."""
    folder = f"{LIB}/{release}"
    names = (line.partition(":")[0] for line in (host.read_if_there(f"{folder}/modules.dep") or "").splitlines())
    return {os.path.basename(name).partition(".ko")[0].replace("-", "_"): f"{folder}/{name}" for name in names if name}


def has_headers(host: Host, release: str) -> bool:
    """Whether modules can be built for a kernel: its headers, or its source, are here."""
    return host.is_dir(f"{LIB}/{release}/build")


def told_of(host: Host, path: str) -> dict[str, str]:
    """What a module's file tells of itself (``version``, ``srcversion``, ``signer``); empty where it cannot be asked, as in a captured tree."""
    if host.captured:
        return {}
    try:
        lines = output_of("modinfo", "--", host.path(path)).splitlines()
    except ProgramFailed:
        return {}
    told: dict[str, str] = {}
    for name, _colon, value in (line.partition(":") for line in lines):
        told.setdefault(name.strip(), value.strip())
    return told


def holders(host: Host, module: str) -> list[str]:
    """The modules that use a module, those that use them first."""
    found: list[str] = []
    for name in host.names(f"{MODULES}/{module}/holders") if module else ():
        found += [other for other in (*holders(host, name), name) if other not in found]
    return found


def users(host: Host, module: str) -> int:
    """How many hold a module, or one on top of it, beside other modules: open devices, sockets, interfaces."""
    count = 0
    for name in (*holders(host, module), module):
        text = host.read_if_there(f"{MODULES}/{name}/refcnt") or ""
        count += max(0, int(text) - len(host.names(f"{MODULES}/{name}/holders"))) if text.isdigit() else 0
    return count


def interfaces(host: Host, module: str) -> tuple[str, ...]:
    """The interfaces that a module, or one on top of it, drives."""
    modules = {module, *holders(host, module)}
    return tuple(name for name in host.names(NET) if module_of(host, name) in modules)


def only_signed(host: Host) -> bool:
    """Whether the kernel loads signed modules only (R29)."""
    enforced = (host.read_if_there(f"{MODULES}/module/parameters/sig_enforce") or "N") in ("Y", "1")
    lockdown = host.read_if_there("/sys/kernel/security/lockdown") or "[none]"
    return enforced or "[none]" not in lockdown
