# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the kernel command line that runs and the one that boots next; trying one, and making it the default.

Source: /proc/cmdline, /sys/devices/system/cpu/{isolated,nohz_full} (Documentation/ABI/testing/sysfs-devices-system-cpu).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..model.cmdline import CmdlineState, Cpus, Tokens, next_own, running_own, split, supported, to_own
from ..model.cpuset import CpusetError, format_cpulist, parse_cpulist
from ..model.setting import OwnedFile, Setting
from . import trial
from .bootloader import loader_of, next_boot
from .container import container_kind
from .machine import Host
from .programs import ProgramFailed

_CPU = "/sys/devices/system/cpu"
_CPUINFO_START = 16384  # the first CPU's entry is enough


def read_cmdline(host: Host, spec: Mapping[str, Any]) -> CmdlineState:
    """The state of the command line; raises ``Unreadable`` where not even the running one can be read."""
    container = container_kind(host)
    if container:
        return CmdlineState(container=container)
    running = split(host.read("/proc/cmdline").strip())
    return CmdlineState(
        running, next_boot(host), _cpus(host), _cpulist(host, f"{_CPU}/isolated"), _cpulist(host, f"{_CPU}/nohz_full"),
        host.read_if_there("/proc/sys/kernel/osrelease") or "", trial=trial.trial_of(host, running))


def _cpus(host: Host) -> Cpus:
    online = parse_cpulist(_cpulist(host, f"{_CPU}/online") or "")
    start = (host.read_if_there("/proc/cpuinfo") or "")[:_CPUINFO_START]
    vendor = re.search(r"^vendor_id\s*:\s*(\S+)", start, re.MULTILINE)
    flags = re.search(r"^flags\s*:(.*)$", start, re.MULTILINE)
    clock = host.read_if_there("/sys/devices/system/clocksource/clocksource0/current_clocksource") or ""
    return Cpus(online, {cpu: _siblings(host, cpu) for cpu in online}, vendor[1] if vendor else "",
                frozenset(flags[1].split()) if flags else None, clock)


def _siblings(host: Host, cpu: int) -> frozenset[int]:
    folder = f"{_CPU}/cpu{cpu}/topology"
    text = _cpulist(host, f"{folder}/core_cpus_list") or _cpulist(host, f"{folder}/thread_siblings_list") or str(cpu)
    return parse_cpulist(text)


def _cpulist(host: Host, name: str) -> str | None:
    """A CPU list in its shortest form, empty for none; None where the kernel has no such file."""
    text = host.read_if_there(name)
    try:
        # kernels without a nohz_full set print this
        return None if text is None else "" if text == "(null)" else format_cpulist(parse_cpulist(text))
    except CpusetError:
        return None


def write_cmdline(host: Host, state: CmdlineState, setting: Setting) -> None:
    """No single argument is ever written: a command line is tried and settled as a whole (``arm``, ``settle``)."""
    raise NotImplementedError(setting.name)


def arm(host: Host, state: CmdlineState, spec: Mapping[str, Any], seconds: int, when: str) -> None:
    """Have the wanted command line boot once, watched over by the host itself. Raises; then nothing is armed.

    The entry that boots otherwise is first made what runs now: nobody knows whether another one boots. What runs on trial is not
    known to be right either, and the default is still the one before it.
    """
    own, proven = to_own(state, supported(state, spec)), running_own(state, spec)
    loader = loader_of(host)
    known = trial.new_record(host, own, seconds, when)
    try:
        loader.disarm()
        if state.trial.state != "booted" and not _settled(state, proven):
            loader.settle(proven, None)
        trial.begin(host, known)
        tokens = loader.arm(own, known.extra)
        trial.begin(host, replace(known, tokens=tokens))
    except BaseException:
        with contextlib.suppress(OSError, ProgramFailed):
            loader.disarm()
        trial.end(host)
        raise


def settle(host: Host, state: CmdlineState, spec: Mapping[str, Any]) -> None:
    """Make the command line that runs the one that boots by default, and end its trial. Raises; then the old one boots as before."""
    own = to_own(state, supported(state, spec))
    known = trial.record(host)
    loader = loader_of(host)
    if not _settled(state, own):
        tried = known.tokens if known is not None and state.trial.state == "booted" else None
        loader.settle(own, tried)
    if known is not None:
        loader.disarm()
        trial.end(host)


def tidy(host: Host, state: CmdlineState) -> None:
    """Remove what a failed trial left behind, but for the record that tells of it."""
    if state.trial.state == "failed":
        loader_of(host).disarm()
        trial.end(host, forget=False)


def _settled(state: CmdlineState, own: Tokens) -> bool:
    """Whether file and entry have just these arguments of ours."""
    return sorted(own) == sorted(state.boot.owned) == sorted(next_own(state.boot))


def boot_files(host: Host, state: CmdlineState) -> tuple[OwnedFile, ...]:
    """Every file that ``arm`` and ``settle`` write, for the journal."""
    return (*loader_of(host).files(), *trial.files())
