# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a NIC has in sysfs: RPS and RFS of its receive queues, and how its NAPI is polled.

Source: Documentation/networking/scaling.rst, Documentation/networking/napi.rst, Documentation/ABI/testing/sysfs-class-net-queues.
"""

from __future__ import annotations

from ..model.cpuset import CpusetError, format_cpulist, format_mask, parse_cpulist, parse_mask
from ..model.nic import NAPI_CONTROLS, RPS_CPUS, RPS_FLOWS
from .files import write_kernel_file
from .links import NET
from .machine import Host


def queue_values(host: Host, interface: str) -> dict[tuple[str, str], str]:
    """``{(queue, file): value}`` of RPS and RFS; CPUs as a cpulist. A file that cannot be read is left out."""
    folder = f"{NET}/{interface}/queues"
    found = {}
    for queue in host.names(folder):
        for file in (RPS_CPUS, RPS_FLOWS) if queue.startswith("rx-") else ():
            text = host.read_if_there(f"{folder}/{queue}/{file}")
            value = cpus_of(text) if file == RPS_CPUS else text
            if value is not None:
                found[queue, file] = value
    return found


def cpus_of(text: str | None) -> str | None:
    """A CPU mask of sysfs as a cpulist; None where there is none to be read."""
    try:
        return None if text is None else format_cpulist(parse_mask(text))
    except CpusetError:
        return None


def napi_values(host: Host, interface: str) -> dict[str, str]:
    """``{file: value}`` of an interface's NAPI files."""
    values = {name: host.read_if_there(f"{NET}/{interface}/{name}") for name in NAPI_CONTROLS}
    return {name: value for name, value in values.items() if value is not None}


def write_queue(host: Host, interface: str, queue: str, file: str, value: str) -> None:
    """Set a file of a queue, CPUs given as a cpulist; raises ``OSError``."""
    if file != RPS_FLOWS:
        possible = parse_cpulist(host.read_if_there("/sys/devices/system/cpu/possible") or "0")
        value = format_mask(parse_cpulist(value), max(possible) + 1)
    write_kernel_file(host, f"{NET}/{interface}/queues/{queue}/{file}", value)


def write_napi(host: Host, interface: str, name: str, value: str) -> None:
    """Set one of an interface's NAPI files; raises ``OSError``."""
    write_kernel_file(host, f"{NET}/{interface}/{name}", value)
