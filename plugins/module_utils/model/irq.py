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

from .competitors import Competitor, findings
from .cpuset import CpusetError, format_cpulist, parse_cpulist
from .nic import CONTROL, QUEUE_CONTROL, identity
from .setting import DRIFTED, ERROR, OK, Plan, Setting, SpecError, unsupported

NIC = "irq.nic_affinity"
OTHER = "irq.other_devices"
DEFAULT = "irq.default_affinity"
DEFAULT_NAME = "default_smp_affinity"
QUIET = "irq.none_on_isolated"
QUIET_NAME = "isolated CPUs"
XPS_CPUS = "xps_cpus"

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
    """All interrupts in use, those of each NIC asked for (None: no such NIC), and the mask new ones get.

    ``xps`` has for each NIC its interface and the CPUs of every transmit queue, by number; ``counted`` how often each interrupt came
    to each CPU while the host was watched (None: it was not). ``competitors`` are those who move interrupts too.
    """

    irqs: tuple[Irq, ...] = ()
    nic_irqs: tuple[tuple[int, ...] | None, ...] = ()
    default: frozenset[int] = frozenset()
    online: frozenset[int] = frozenset()
    without: str = ""
    xps: tuple[tuple[str, Mapping[int, frozenset[int]]], ...] = ()
    counted: Mapping[int, Mapping[int, int]] | None = None
    competitors: tuple[Competitor, ...] = ()

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


def interrupt_counts(text: str) -> dict[int, dict[int, int]]:
    """``{interrupt: {cpu: count}}`` of the numbered (device) interrupts in the text of /proc/interrupts; lines of another form are left out."""
    head, _line, rest = text.partition("\n")
    cpus = [int(title[3:]) for title in head.split() if title.startswith("CPU") and title[3:].isdecimal()]
    found = {}
    for line in rest.splitlines():
        number, *words = line.split() or [""]
        counts = words[:len(cpus)]
        if number.endswith(":") and number[:-1].isdecimal() and len(counts) == len(cpus) and all(count.isdecimal() for count in counts):
            found[int(number[:-1])] = dict(zip(cpus, map(int, counts)))
    return found


def plan(state: IrqState, spec: Mapping[str, Any]) -> Plan:
    """NIC interrupts first, then XPS to match, then the default for new ones, then all others that touch isolated CPUs."""
    if state.without:
        return Plan((unsupported(NIC, "all", None, state.without),))
    isolated = parse_cpulist(str(spec.get("isolated") or ""))
    housekeeping = parse_cpulist(str(spec.get("housekeeping") or "")) & state.online
    _refuse_unknown(state, spec, isolated, housekeeping)
    names = {irq.number: name for name, irq in state.named().items()}
    by_number = {irq.number: irq for irq in state.irqs}
    settings, steered = [], []
    for index, (nic, numbers) in enumerate(zip(spec.get("nics") or [], state.nic_irqs)):
        if numbers is None:
            steered.append(Setting(CONTROL, identity(nic), None, state=ERROR, reason="no such NIC on this host"))
            continue
        cpus = sorted(parse_cpulist(str(nic.get("cpus") or "")))
        irqs = [by_number[number] for number in numbers if number in by_number]
        settings += [_placed(names[irq.number], irq, cpu) for irq, cpu in _spread(irqs, cpus)]
        steered += _steered(*state.xps[index], cpus, sorted(isolated)) if index < len(state.xps) and cpus else []
    placed = {setting.name for setting in settings}
    settings += steered
    if isolated:
        settings.append(Setting(DEFAULT, DEFAULT_NAME, format_cpulist(housekeeping), format_cpulist(state.default & state.online)))
        settings += [_kept_off(name, irq, isolated, housekeeping) for name, irq in sorted(state.named().items()) if name not in placed]
    settings += [] if state.counted is None or not isolated else [_quiet(state, isolated, names)]
    return Plan((*settings, *findings(state.competitors)))


def _steered(interface: str, queues: Mapping[int, frozenset[int]], cpus: list[int], isolated: list[int]) -> Iterator[Setting]:
    """XPS to match: transmit queue n for the CPU that has its interrupt, and for its share of the CPUs of the applications."""
    for place, queue in enumerate(sorted(queues)):
        wanted = {cpus[queue % len(cpus)], *isolated[place::len(queues)]}
        yield Setting(QUEUE_CONTROL, f"{interface}.tx-{queue}.{XPS_CPUS}", format_cpulist(wanted), format_cpulist(queues[queue]))


def _quiet(state: IrqState, isolated: frozenset[int], names: Mapping[int, str]) -> Setting:
    """What came to isolated CPUs while the host was watched."""
    came = {number: {cpu: count for cpu, count in counts.items() if cpu in isolated and count > 0} for number, counts in (state.counted or {}).items()}
    said = [f"{names.get(number, number)}: {sum(counts.values())} on CPUs {format_cpulist(counts)}" for number, counts in sorted(came.items()) if counts]
    return Setting(QUIET, QUIET_NAME, "no device interrupts", "; ".join(said) or "no device interrupts", state=DRIFTED if said else OK, finding=True,
                   reason="move them, or let the driver have no managed queues there (isolcpus=managed_irq)" if said else "")


def _refuse_unknown(state: IrqState, spec: Mapping[str, Any], isolated: frozenset[int], housekeeping: frozenset[int]) -> None:
    wrong = []
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
