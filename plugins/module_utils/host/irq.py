# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading where interrupts go and moving them, below /proc/irq; NIC interrupts are found through sysfs, never by name.

Source: Documentation/core-api/irq/irq-affinity.rst, Documentation/ABI/testing/sysfs-bus-pci (msi_irqs).
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Mapping
from typing import Any

from ..model.cpuset import CpusetError, format_mask, parse_cpulist, parse_mask
from ..model.irq import DEFAULT, XPS_CPUS, Irq, IrqState, interrupt_counts
from ..model.nic import QUEUE_CONTROL
from ..model.setting import Setting, Unsupported
from .competitors import read_competitors
from .container import container_kind
from .files import write_kernel_file
from .links import NET, interface_of, pci_of
from .machine import Host
from .memory import remember, remembered
from .nic_queues import cpus_of, write_queue

IMMOVABLE = "/run/lowlatency/immovable.json"


def read_irqs(host: Host, spec: Mapping[str, Any]) -> IrqState:
    """Every interrupt in use and those of the NICs of ``spec['nics']``."""
    container = container_kind(host)
    if container:
        return IrqState(without=f"interrupts belong to the machine, not to this container ({container})")
    if not host.is_dir("/proc/irq"):
        return IrqState(without="this kernel has no /proc/irq")
    refused = remembered(host, IMMOVABLE)
    numbers = sorted(int(name) for name in host.names("/proc/irq") if name.isdigit())
    irqs = (_irq(host, number, refused) for number in numbers)
    nics = spec.get("nics") or []
    counted, xps = _counted(host, int(spec.get("watch_seconds") or 0)), tuple(_xps(host, nic) for nic in nics)
    competitors = read_competitors(host, [interface for interface, _queues in xps if interface], nic=False)
    return IrqState(tuple(irq for irq in irqs if irq), tuple(_nic_irqs(host, nic) for nic in nics), _default(host),
                    _cpus(host, "/sys/devices/system/cpu/online"), xps=xps, counted=counted, competitors=competitors)


def _xps(host: Host, nic: Mapping[str, Any]) -> tuple[str, dict[int, frozenset[int]]]:
    """Interface of a NIC and the CPUs of each of its transmit queues; a NIC with one queue has no such file to be read."""
    interface = interface_of(host, nic) or ""
    folder = f"{NET}/{interface}/queues"
    masks = {queue: cpus_of(host.read_if_there(f"{folder}/{queue}/{XPS_CPUS}")) for queue in host.names(folder) if interface and queue.startswith("tx-")}
    return interface, {int(queue[3:]): parse_cpulist(cpus) for queue, cpus in masks.items() if cpus is not None}


def _counted(host: Host, seconds: int) -> dict[int, dict[int, int]] | None:
    """``{interrupt: {cpu: how often}}`` of the next seconds; None where the host is not to be watched."""
    if not seconds or not host.live:
        return None
    before = interrupt_counts(host.read_if_there("/proc/interrupts") or "")
    time.sleep(seconds)
    after = interrupt_counts(host.read_if_there("/proc/interrupts") or "")
    return {number: {cpu: count - before.get(number, {}).get(cpu, 0) for cpu, count in counts.items()} for number, counts in after.items()}


def _irq(host: Host, number: int, refused: Mapping[str, str]) -> Irq | None:
    """One interrupt; None when nobody asked for it (it has no action, and will get the default mask)."""
    folder = f"/proc/irq/{number}"
    actions = [name for name in host.names(folder) if host.is_dir(f"{folder}/{name}")]
    if not actions:
        return None
    action = ",".join(actions)
    immovable = refused.get(f"{number} {action}", "")
    try:
        if not os.stat(host.followed(f"{folder}/smp_affinity_list")).st_mode & 0o200:
            immovable = "managed by the kernel, which does not let it be moved"
    except OSError:
        immovable = "has no affinity file"
    return Irq(number, action, _cpus(host, f"{folder}/smp_affinity_list"), _cpus(host, f"{folder}/effective_affinity_list"), immovable)


def _cpus(host: Host, name: str) -> frozenset[int]:
    try:
        return parse_cpulist(host.read_if_there(name) or "")
    except CpusetError:
        return frozenset()


def _default(host: Host) -> frozenset[int]:
    try:
        return parse_mask(host.read_if_there("/proc/irq/default_smp_affinity") or "0")
    except CpusetError:
        return frozenset()


def _nic_irqs(host: Host, nic: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Interrupt numbers of a NIC; empty for a virtual one, None when there is no such NIC."""
    interface = None if nic.get("pci") else interface_of(host, nic)
    address = str(nic["pci"]).lower() if nic.get("pci") else pci_of(host, interface) if interface else None
    if address is None:
        return () if interface else None
    folder = f"/sys/bus/pci/devices/{address}"
    if not host.exists(folder):
        return None
    numbers = [int(name) for name in host.names(f"{folder}/msi_irqs") if name.isdigit()]
    legacy = host.read_if_there(f"{folder}/irq") or "0"
    return tuple(sorted(numbers or [int(number) for number in [legacy] if number.isdigit() and number != "0"]))


def write_irq(host: Host, state: IrqState, setting: Setting) -> None:
    """Move one interrupt, or change the mask that new ones get; raises ``Unsupported`` or ``OSError``."""
    cpus = str(setting.desired)
    if setting.control == QUEUE_CONTROL:
        interface, queue, file = setting.name.rsplit(".", 2)
        write_queue(host, interface, queue, file, cpus)
        return
    if setting.control == DEFAULT:
        width = max(_cpus(host, "/sys/devices/system/cpu/possible") or state.online) + 1
        write_kernel_file(host, "/proc/irq/default_smp_affinity", format_mask(parse_cpulist(cpus), width))
        return
    irq = state.named()[setting.name]
    try:
        write_kernel_file(host, f"/proc/irq/{irq.number}/smp_affinity_list", cpus)
    except OSError as error:
        if error.errno not in (errno.EIO, errno.EPERM, errno.EACCES):
            raise
        reason = f"cannot be moved: the kernel answers {errno.errorcode[error.errno]}"
        remember(host, IMMOVABLE, {**remembered(host, IMMOVABLE), f"{irq.number} {irq.action}": reason})
        raise Unsupported(reason) from error
