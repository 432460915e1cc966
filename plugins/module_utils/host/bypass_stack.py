# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading what a host has of a stack in user space; having DKMS build its modules, loading and unloading them, giving NICs to AF_XDP.

Source: dkms(8), modprobe(8), scripts/onload, src/driver/linux_resource/sysfs.c and resource_driver.c of Xilinx-CNS/onload.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..model.bypass_stack import (
    ABSENT,
    AF_XDP,
    BUILT,
    LIBRARIES,
    LOAD_FILE,
    LOADED,
    ONLOAD,
    OPTIONS_FILE,
    PROFILES,
    Build,
    Kernel,
    Loaded,
    Port,
    StackState,
    built_parts,
    modules_of,
    tool_versions,
)
from ..model.nic import identity
from ..model.nic_firmware import Card
from ..model.setting import Setting, Unsupported
from .bootloader import next_kernel
from .container import container_kind
from .facts import host_facts
from .files import sync_folder, write_kernel_file
from .kernel_modules import (
    has_headers,
    holders,
    interfaces,
    module_files,
    only_signed,
    running_release,
    told_of,
    users,
)
from .links import guard, management_interfaces
from .machine import Host
from .nic_firmware import MODULES, read_nic_firmware
from .programs import ProgramFailed, output_of

DKMS = "/var/lib/dkms"
TOOL = "/usr/bin/onload"
REGISTER = f"{MODULES}/sfc_resource/afxdp/register"
# Onload has a folder here for every interface that it can use.
REGISTERED = "/proc/driver/sfc_resource"
BUILD_LIMIT, LOAD_LIMIT = 1800, 300
_LIBRARY_FOLDERS = ("/usr/lib64", "/usr/lib/{}-linux-gnu", "/usr/lib", "/usr/local/lib64", "/usr/local/lib")
_NAMED = re.compile(r"^\s*BUILT_MODULE_NAME(?:\[\d+\])?\s*=\s*[\"']?([^\s\"']+)", re.MULTILINE)


def read_stack(host: Host, spec: Mapping[str, Any]) -> StackState:
    """What the host has of the stack; where none is wanted, only what this collection left of an earlier one. Raises ``ProgramFailed``."""
    stack = str(spec.get("stack") or "")
    container = container_kind(host) if stack else ""
    files = {path: content for path in (OPTIONS_FILE, LOAD_FILE) for content in (host.content_and_mode(path)[0],) if content is not None}
    profiles = {name[: -len(".opf")]: host.content_and_mode(f"{PROFILES}/{name}")[0] or b"" for name in host.names(PROFILES) if name.endswith(".opf")}
    if not stack or container:
        return StackState(container, files, profiles)
    modules = [*modules_of(spec), *(str(name) for name in spec.get("options") or {} if name not in modules_of(spec))]
    loaded = {name: _loaded(host, name) for name in modules if host.is_dir(f"{MODULES}/{name}")}
    if spec.get("state") == ABSENT:
        return StackState(container, files, profiles, loaded=loaded)
    facts, release = host_facts(host), running_release(host)
    following, unknown = next_kernel(host)
    running = _kernel(host, release, modules) if release else None
    later = running if following == release else _kernel(host, following, modules) if following else None
    return StackState(
        container, files, profiles, running, later, unknown, loaded, _sources(host), _library(host, stack, facts.architecture),
        _told(host) if stack == ONLOAD else "", _ports(host, spec), host.exists(REGISTER), only_signed(host), facts.family,
        "a captured tree does not hold the modules of its kernels" if host.captured else "")


def _loaded(host: Host, module: str) -> Loaded:
    folder = f"{MODULES}/{module}"
    version, source = (host.read_if_there(f"{folder}/{name}") or "" for name in ("version", "srcversion"))
    parameters = {name: host.read_if_there(f"{folder}/parameters/{name}") for name in host.names(f"{folder}/parameters")}
    return Loaded(version, source, users(host, module), interfaces(host, module), {name: text for name, text in parameters.items() if text is not None})


def _kernel(host: Host, release: str, modules: Iterable[str]) -> Kernel:
    files = module_files(host, release)
    builds = {}
    for module in modules:
        path = files.get(module.replace("-", "_"), "")
        if path and host.exists(path):
            told = told_of(host, path)
            builds[module] = Build(told.get("version", ""), told.get("srcversion", ""), told.get("signer", ""))
    return Kernel(release, builds, has_headers(host, release))


def _sources(host: Host) -> dict[str, str]:
    """``{module: name/version}`` of all that DKMS has the source of; of several versions, the last one."""
    found = {}
    for name in host.names(DKMS):
        for version in host.names(f"{DKMS}/{name}"):
            text = host.read_if_there(f"{DKMS}/{name}/{version}/source/dkms.conf")
            for module in () if text is None else _NAMED.findall(text) or [name]:
                found[_variable(str(module), name).replace("-", "_")] = f"{name}/{version}"
    return found


def _variable(text: str, name: str) -> str:
    """A name in dkms.conf with the one variable that is common there in its place."""
    return text.replace("${PACKAGE_NAME}", name).replace("$PACKAGE_NAME", name)


def _library(host: Host, stack: str, architecture: str) -> str:
    """Where the library lies, its links followed by name: what they point to ends in its version. Empty where it is missing."""
    for folder in _LIBRARY_FOLDERS:
        path = f"{folder.format(architecture)}/{LIBRARIES[stack]}"
        if host.exists(path):
            last = os.path.basename(os.path.realpath(host.followed(path)))
            return f"{os.path.dirname(path)}/{last}"
    return ""


def _told(host: Host) -> str:
    """The library's version by Onload's own tool; empty where it cannot be asked."""
    if not host.live or not host.exists(TOOL):
        return ""
    try:
        return tool_versions(output_of(TOOL, "--version"))
    except ProgramFailed:
        return ""


def _ports(host: Host, spec: Mapping[str, Any]) -> tuple[Port, ...]:
    nics = list(spec.get("nics") or [])
    cards = read_nic_firmware(host, {"nics": nics}).cards
    protected = management_interfaces(host) if any(nic.get("af_xdp") for nic in nics) else {}
    return tuple(_port(host, nic, card, protected) for nic, card in zip(nics, cards))


def _port(host: Host, nic: Mapping[str, Any], card: Card, protected: Mapping[str, str]) -> Port:
    why = guard(host, card.interface, protected) if nic.get("af_xdp") else ""
    name = identity(nic) if card.unreadable else card.interface
    return Port(name, bool(nic.get("af_xdp")), card.driver.name, card.driver.version, card.firmware.text, host.is_dir(f"{REGISTERED}/{card.interface}"),
                f"{why}; it is not given to AF_XDP (R6)" if why else "", card.unreadable)


# --- writing ----------------------------------------------------------------------------------------------------------


def write_stack(host: Host, state: StackState, setting: Setting) -> None:
    """Build, load or unload one module, register one NIC, or remove a file; raises ``ProgramFailed``, ``OSError`` or ``Unsupported``."""
    if setting.control == BUILT:
        _build(host, state, setting)
    elif setting.control == LOADED:
        _unload(setting.name) if setting.desired is None else _load(host, setting.name)
    elif setting.control == AF_XDP:
        _register(host, setting.name)
    else:
        _remove(host, setting.name)


def _remove(host: Host, name: str) -> None:
    """Remove a file; of the folder of profiles, which a package may have left behind, nothing stays when it is empty."""
    os.unlink(host.path(name))
    sync_folder(os.path.dirname(host.path(name)))
    if os.path.dirname(name) == PROFILES:
        with contextlib.suppress(OSError):
            os.rmdir(host.path(PROFILES))
            os.rmdir(host.path(os.path.dirname(PROFILES)))


def _build(host: Host, state: StackState, setting: Setting) -> None:
    """Have DKMS build and install the source of a module for one kernel; one source has several modules."""
    module, release = built_parts(setting.name)
    if module not in state.sources:
        raise ProgramFailed(setting.reason)
    path = module_files(host, release).get(module.replace("-", "_"), "")
    if not (path and host.exists(path)):
        output_of("dkms", "install", "--force", state.sources[module], "-k", release, time_limit=BUILD_LIMIT)


def _load(host: Host, module: str) -> None:
    """Load a module; one of another build is unloaded first, with what stands on it. The plan leaves alone what is in use."""
    if not host.is_dir(f"{MODULES}/{module}"):
        output_of("modprobe", "--", module, time_limit=LOAD_LIMIT)
        return
    again = [*holders(host, module), module]
    output_of("modprobe", "-r", "--", *again, time_limit=LOAD_LIMIT)
    output_of("modprobe", "-a", "--", *reversed(again), time_limit=LOAD_LIMIT)


def _unload(module: str) -> None:
    """Unload a module. Its file may be gone with its package, so modprobe may not know it any more."""
    output_of("rmmod", "--", module, time_limit=LOAD_LIMIT)


def _register(host: Host, interface: str) -> None:
    """Give an interface to Onload's AF_XDP; raises ``Unsupported`` where what was loaded before has none."""
    if not host.exists(REGISTER):
        raise Unsupported("this build of Onload has no AF_XDP (no afxdp/register of sfc_resource)")
    try:
        write_kernel_file(host, REGISTER, f"{interface}\n")
    except OSError as error:
        if error.errno != errno.EALREADY:
            raise
