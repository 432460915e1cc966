# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where interrupts belong: NIC queues on the CPUs planned for them, all others off the isolated CPUs. Pure: no I/O.

Source: Documentation/core-api/irq/irq-affinity.rst, Documentation/filesystems/proc.rst (/proc/irq, /proc/interrupts).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .cpuset import CpusetError, format_cpulist, parse_cpulist
from .nic import identity
from .setting import ERROR, Plan, Setting, SpecError, unsupported

NIC = "irq.nic_affinity"
OTHER = "irq.other_devices"
DEFAULT = "irq.default_affinity"
DEFAULT_NAME = "default_smp_affinity"

# Queue vectors as drivers name them: eth0-TxRx-3, ens1f0-rx-3, i40e-eth0-TxRx-3, mlx5_comp3@pci:..., virtio2-input.3
_QUEUE = re.compile(r"(?:-(?:TxRx|tx|rx|fp|Tx-Rx)-|_comp|-(?:input|output)\.|-)(\d+)(?:@.*)?$", re.IGNORECASE)


@dataclass(frozen=True)
class Irq:
    """One interrupt that is in use: where it may go (``affinity``), where it goes now (``effective``), who asked for it."""

    number: int
    action: str
    affinity: frozenset[int]
    effective: frozenset[int] = frozenset()
    immovable: str = ""


@dataclass(frozen=True)
class IrqState:
    """All interrupts in use, those of each NIC asked for (None: no such NIC), and the mask new ones get."""

    irqs: tuple[Irq, ...] = ()
    nic_irqs: tuple[tuple[int, ...] | None, ...] = ()
    default: frozenset[int] = frozenset()
    online: frozenset[int] = frozenset()
    without: str = ""

    def named(self) -> dict[str, Irq]:
        """Interrupts by a name that outlives a reboot: the action, with the number only where two share it."""
        actions = [irq.action for irq in self.irqs]
        return {irq.action if actions.count(irq.action) == 1 else f"{irq.action} #{irq.number}": irq for irq in self.irqs}


def problems(spec: Mapping[str, Any]) -> list[str]:
    """What is wrong with the CPU lists asked for on any host."""
    found = []
    for key in ("isolated", "housekeeping"):
        found += _cpulist_problem(str(spec.get(key) or ""), key)
    for nic in spec.get("nics") or []:
        if not identity(nic):
            found.append("a NIC of the list has no name; give interface, pci or mac")
        found += _cpulist_problem(str(nic.get("cpus") or ""), f"NIC {identity(nic)} cpus")
    return found or _overlaps(spec)


def _cpulist_problem(text: str, what: str) -> list[str]:
    try:
        parse_cpulist(text)
    except CpusetError as error:
        return [f"{what}: {error}"]
    return []


def _overlaps(spec: Mapping[str, Any]) -> list[str]:
    isolated = parse_cpulist(str(spec.get("isolated") or ""))
    both = isolated & parse_cpulist(str(spec.get("housekeeping") or ""))
    found = [f"CPUs {format_cpulist(both)} are both isolated and housekeeping; each CPU is one of them (R7)"] if both else []
    if isolated and not spec.get("housekeeping"):
        found.append("isolated CPUs without housekeeping CPUs: interrupts would have nowhere to go; name the housekeeping CPUs")
    for nic in spec.get("nics") or []:
        both = isolated & parse_cpulist(str(nic.get("cpus") or ""))
        if both:
            found.append(f"NIC {identity(nic)}: interrupts on isolated CPUs {format_cpulist(both)}; choose housekeeping CPUs of its node (R7)")
    return found


def queue_index(action: str) -> int | None:
    """The queue an interrupt serves, from its name; None for link, admin and other vectors."""
    match = _QUEUE.search(action)
    return int(match.group(1)) if match else None


def plan(state: IrqState, spec: Mapping[str, Any]) -> Plan:
    """NIC interrupts first, then the default for new ones, then all others that touch isolated CPUs."""
    if state.without:
        return Plan((unsupported(NIC, "all", None, state.without),))
    isolated = parse_cpulist(str(spec.get("isolated") or ""))
    housekeeping = parse_cpulist(str(spec.get("housekeeping") or "")) & state.online
    _refuse_unknown(state, spec, isolated, housekeeping)
    names = {irq.number: name for name, irq in state.named().items()}
    by_number = {irq.number: irq for irq in state.irqs}
    settings = []
    for nic, numbers in zip(spec.get("nics") or [], state.nic_irqs):
        cpus = sorted(parse_cpulist(str(nic.get("cpus") or "")))
        irqs = [by_number[number] for number in numbers or () if number in by_number]
        settings += [_placed(names[irq.number], irq, cpu) for irq, cpu in _spread(irqs, cpus)]
    placed = {setting.name for setting in settings}
    if isolated:
        settings.append(Setting(DEFAULT, DEFAULT_NAME, format_cpulist(housekeeping), format_cpulist(state.default & state.online)))
        settings += [_kept_off(name, irq, isolated, housekeeping) for name, irq in sorted(state.named().items()) if name not in placed]
    return Plan(tuple(settings))


def _refuse_unknown(state: IrqState, spec: Mapping[str, Any], isolated: frozenset[int], housekeeping: frozenset[int]) -> None:
    wrong = [f"NIC {identity(nic)}: no such NIC on this host" for nic, numbers in zip(spec.get("nics") or [], state.nic_irqs) if numbers is None]
    asked = isolated.union(*(parse_cpulist(str(nic.get("cpus") or "")) for nic in spec.get("nics") or []))
    if asked - state.online:
        wrong.append(f"CPUs {format_cpulist(asked - state.online)} are not online here; online are {format_cpulist(state.online)} (R3)")
    if isolated and not housekeeping:
        wrong.append(f"none of the housekeeping CPUs {spec.get('housekeeping')} is online; online are {format_cpulist(state.online)} (R1)")
    if wrong:
        raise SpecError("; ".join(wrong))


def _spread(irqs: list[Irq], cpus: list[int]) -> Iterator[tuple[Irq, int]]:
    """Queue n on the n-th planned CPU, round and round; vectors that serve no queue on the first."""
    if not cpus:
        return
    for irq in irqs:
        index = queue_index(irq.action)
        yield irq, cpus[(index or 0) % len(cpus)]


def _placed(name: str, irq: Irq, cpu: int) -> Setting:
    return _affinity(NIC, name, irq, frozenset({cpu}))


def _kept_off(name: str, irq: Irq, isolated: frozenset[int], housekeeping: frozenset[int]) -> Setting:
    if not irq.affinity & isolated:
        return replace(_affinity(OTHER, name, irq, irq.affinity), persisted=format_cpulist(irq.affinity))
    return _affinity(OTHER, name, irq, irq.affinity & housekeeping or housekeeping)


def _affinity(control: str, name: str, irq: Irq, wanted: frozenset[int]) -> Setting:
    current, desired = format_cpulist(irq.affinity), format_cpulist(wanted)
    if irq.affinity != wanted and irq.immovable:
        return unsupported(control, name, desired, irq.immovable, current)
    if not irq.affinity:
        return Setting(control, name, desired, state=ERROR, reason="its affinity could not be read")
    pending = irq.affinity == wanted and irq.effective and not irq.effective <= wanted
    return Setting(control, name, desired, current,
                   reason=f"still handled by CPU {format_cpulist(irq.effective)} until its next interrupt" if pending else "")
