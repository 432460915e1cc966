# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the firmware of a machine decided, as the running system shows it, against what a site wants of it: findings, never anything to write.
Pure: no I/O.

Source: Documentation/ABI/testing/sysfs-devices-system-cpu (smt, cpuidle, intel_pstate, boost), Documentation/admin-guide/pm/{cpuidle,cpufreq}.rst,
Documentation/ABI/testing/sysfs-firmware-dmi-tables, Intel SDM volume 4 (IA32_APIC_BASE, MSR_SMI_COUNT).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from . import bios_menus as menus
from .bios_menus import menu
from .cpu_power import ByValue, IdleState, by_value
from .cpuset import CpusetError, format_cpulist, parse_cpulist
from .nic_firmware import Card, NicFirmwareState, fits, node_finding, number_of, range_of
from .partition import OFF, OFF_BY_KERNEL, SHARE, SIBLINGS_IDLE, SMT_POLICIES
from .setting import DRIFTED, ERROR, Plan, Setting, unsupported
from .smbios import MemoryDevice
from .topology import Topology

ON = "on"
BARE_METAL = "none"
# HPE's BIOS version names the family of machines it is for.
_FAMILY_NAME = re.compile(r"[A-Z][0-9]{2}")
_SIGNATURE = re.compile(r"[0-9a-f]{2}-[0-9a-f]{2}-[0-9a-f]{2}")
_DATE = re.compile(r"([0-9]{2})/([0-9]{2})/([0-9]{4})")
_ISO_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# Nodes whose memory differs by more than this part have other numbers of modules: what the kernel keeps for itself is less.
_UNEVEN = 0.1


@dataclass(frozen=True)
class Firmware:
    """What DMI tells of the system and its BIOS; ``date`` is ISO, empty where not told. ``release`` is the BIOS's own number."""

    vendor: str = ""
    product: str = ""
    version: str = ""
    release: str = ""
    date: str = ""

    @property
    def number(self) -> str:
        """The version to compare: the release, where the version only names a family of machines (HPE's U30)."""
        return self.release if self.release and _FAMILY_NAME.fullmatch(self.version) else self.version


@dataclass(frozen=True)
class BiosState:
    """A machine as it came up. ``virtual`` is ``none``, ``unknown`` or the hypervisor; texts are empty where a file does not tell.

    Mappings ``{value: CPUs}`` tell which CPUs have which. ``silent`` says why the topology could not be read, the problems why something
    else was not told. ``smis`` is how many system management interrupts came in ``smi_seconds``, to the CPU that had most.
    """

    container: str = ""
    virtual: str = "unknown"
    silent: str = ""
    topology: Topology = field(default_factory=lambda: Topology(frozenset()))
    smt_control: str = ""
    without_smt: str = ""
    hidden_threads: bool = False
    isolated: frozenset[int] = frozenset()
    idle: tuple[IdleState, ...] = ()
    idle_driver: str = ""
    drivers: ByValue = field(default_factory=dict)
    governors: ByValue = field(default_factory=dict)
    preferences: ByValue = field(default_factory=dict)
    turbo: str = ""
    microcode: ByValue = field(default_factory=dict)
    signature: str = ""
    flags: frozenset[str] | None = None
    clocksource: str = ""
    clocksources: tuple[str, ...] = ()
    iommus: tuple[str, ...] | None = None
    iommu_table: str = ""
    x2apic: bool | None = None
    x2apic_problem: str = ""
    smis: int | None = None
    smis_problem: str = ""
    smi_seconds: float = 0.0
    firmware: Firmware = field(default_factory=Firmware)
    memory: tuple[MemoryDevice, ...] = ()
    memory_problem: str = ""
    cards: tuple[Card, ...] = ()
    slots: Mapping[str, str] = field(default_factory=dict)

    @property
    def maker(self) -> str:
        return menus.maker_of(self.firmware.vendor)

    @property
    def guest(self) -> str:
        """Words for a machine whose firmware is a hypervisor's; empty for a real one, and where that is not known."""
        return f"this machine is virtual ({self.virtual}): that is the hypervisor's" if self.virtual not in (BARE_METAL, "unknown") else ""


# --- the policy -------------------------------------------------------------------------------------------------------

_TEXTS = ("frequency_driver", "governor", "energy_performance_preference", "clocksource")
_SWITCHES = ("turbo", "iommu", "x2apic")
_COUNTS = ("nodes_per_socket", "idle_latency_us", "smis")
_ONE_WORD = {"machine": "bare-metal", "tsc": "reliable", "memory": "balanced"}
POLICY = ("smt", *_COUNTS, *_TEXTS, *_SWITCHES, *_ONE_WORD, "microcode", "firmware")


def problems(spec: Mapping[str, Any]) -> list[str]:
    """What is wrong with the policy on any host."""
    found = []
    for key, value in sorted((spec.get("policy") or {}).items()):
        if value is not None:
            found += [f"bios policy {key}: {problem}" for problem in _problems(str(key), value)]
    try:
        parse_cpulist(str(spec.get("application_cpus") or ""))
    except CpusetError as error:
        found.append(f"application_cpus: {error}")
    return found


def _problems(key: str, value: Any) -> Iterator[str]:
    if key not in POLICY:
        yield f"there are: {', '.join(POLICY)}"
    elif key == "smt" and word(value) not in SMT_POLICIES:
        yield f"{value!r} is none of {', '.join(SMT_POLICIES)}"
    elif key in _SWITCHES and word(value) not in (ON, OFF):
        yield f"{value!r} is neither on nor off"
    elif key in _COUNTS and (isinstance(value, bool) or not str(value).isdigit() or (key == "nodes_per_socket" and int(value) < 1)):
        yield f"{value!r} is no number of {'1' if key == 'nodes_per_socket' else '0'} or more"
    elif key in _TEXTS and (not isinstance(value, str) or not value):
        yield f"{value!r} is no word"
    elif key in _ONE_WORD and value != _ONE_WORD[key]:
        yield f"{value!r} is not known; leave it out, or say {_ONE_WORD[key]}"
    elif key == "microcode":
        yield from _microcode_problems(value)
    elif key == "firmware":
        yield from _firmware_problems(value)


def word(value: Any) -> str:
    """A switch in one word: YAML reads off and on as truth values."""
    return {True: ON, False: OFF}[value] if isinstance(value, bool) else str(value)


def _microcode_problems(value: Any) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{value!r:.60} is no mapping of CPU signature to revision, such as 06-55-07 to 0x5003604"
        return
    for signature, revision in value.items():
        if not _SIGNATURE.fullmatch(str(signature)):
            yield f"{signature!r} is no signature; write family-model-stepping as the kernel's microcode files are named, 06-55-07"
        if _revision(revision) is None:
            yield f"{signature}: {revision!r} is no revision; write it as /proc/cpuinfo does, 0x5003604"


def _firmware_problems(value: Any) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{value!r:.60} is no mapping of product names to minimum, exact or not_before"
        return
    for product, rule in value.items():
        wrong = sorted(set(rule) - {"minimum", "exact", "not_before"}) if isinstance(rule, Mapping) else ["it is no mapping"]
        if wrong or not rule:
            yield f"{product}: {', '.join(wrong) or 'it is empty'}; give minimum, exact or not_before"
        elif rule.get("minimum") is not None and number_of(str(rule["minimum"])) is None:
            yield f"{product}: minimum {rule['minimum']!r} has no number; write it as the BIOS does, between quotes"
        elif rule.get("not_before") is not None and not _ISO_DATE.fullmatch(str(rule["not_before"])):
            yield f"{product}: not_before {rule['not_before']!r} is no date like 2024-03-01"


def _revision(value: Any) -> int | None:
    try:
        return int(str(value), 16)
    except ValueError:
        return None


# --- the plan ---------------------------------------------------------------------------------------------------------


def plan(state: BiosState, spec: Mapping[str, Any]) -> Plan:
    """One finding for each thing, and one for each NIC's slot. What no policy speaks of is only told."""
    policy = {str(key): value for key, value in (spec.get("policy") or {}).items() if value is not None}
    if state.container:
        reason = f"belongs to the machine, not to this container ({state.container})"
        return Plan(tuple(unsupported(f"bios.{name}", name, _asked(policy.get(name)), reason) for name in FINDINGS))
    if state.silent:
        return Plan((Setting("bios.topology", "topology", None, state=ERROR, reason=state.silent, finding=True),))
    cpus = parse_cpulist(str(spec.get("application_cpus") or ""))
    found = [replace(finding(state, policy, cpus), name=name, finding=True) for name, finding in FINDINGS.items()]
    return Plan((*found, *_slot_findings(state, spec)))


def _asked(value: Any) -> str | None:
    return None if value is None or isinstance(value, Mapping) else word(value)


def _found(name: str, current: str, desired: str | None = None, why: Iterable[str] = ()) -> Setting:
    """A finding; right where nothing else is desired."""
    reasons = "; ".join(why)
    if desired is None or desired == current:
        return Setting(f"bios.{name}", name, current, current, reason=reasons)
    return Setting(f"bios.{name}", name, desired, current, state=DRIFTED, reason=reasons)


def _not_here(name: str, policy: Mapping[str, Any], reason: str, current: str | None = None) -> Setting:
    return unsupported(f"bios.{name}", name, _asked(policy.get(name)), reason, current)


# --- hyper-threading --------------------------------------------------------------------------------------------------


def smt_in_force(state: BiosState) -> str:
    """``off`` (no CPU shows a second thread), ``off-by-kernel``, ``siblings-idle`` (those of isolated CPUs are isolated with them) or ``on``.

    Source: Documentation/ABI/testing/sysfs-devices-system-cpu, /sys/devices/system/cpu/smt/control.
    """
    shared = any(len(cpus) > 1 for cpus in state.topology.siblings.values())
    if not shared:
        by_kernel = state.smt_control in ("off", "forceoff", ON) or (state.smt_control != "notsupported" and state.hidden_threads)
        return OFF_BY_KERNEL if by_kernel else OFF
    return SIBLINGS_IDLE if state.isolated and not _halved(state) else ON


def _halved(state: BiosState) -> frozenset[int]:
    """The siblings of isolated CPUs that the scheduler still uses."""
    both = frozenset().union(*(state.topology.siblings.get(cpu, frozenset()) for cpu in state.isolated))
    return both - state.isolated


def _smt(state: BiosState, policy: Mapping[str, Any], _cpus: frozenset[int]) -> Setting:
    now, wanted = smt_in_force(state), word(policy.get("smt", SHARE))
    enough = {OFF: (OFF,), OFF_BY_KERNEL: (OFF, OFF_BY_KERNEL), SIBLINGS_IDLE: (OFF, OFF_BY_KERNEL, SIBLINGS_IDLE)}.get(wanted, (now,))
    said = [state.without_smt] if now == OFF_BY_KERNEL and state.without_smt else []
    if now in enough:
        return _found("smt", now, None, said)
    if state.virtual not in (BARE_METAL, "unknown"):
        place = f"the threads that the hypervisor ({state.virtual}) shows"
    else:
        place = menu(menus.SMT, state.maker)
    if wanted == OFF and now == OFF_BY_KERNEL:
        why = [*said, f"the firmware still has it on: {place}; or say off-by-kernel (lowlatency_smt_policy), which the kernel keeps already"]
    elif wanted == OFF:
        why = [f"{place}; or have the kernel do it (nosmt: lowlatency_smt_policy off-by-kernel); until then the plan leaves siblings idle"]
    elif wanted == OFF_BY_KERNEL:
        why = ["the kernel argument nosmt, which the role kernel_cmdline sets, comes with a boot"]
    else:
        left = format_cpulist(_halved(state))
        whole = f"{left} are siblings of isolated CPUs, and the scheduler uses them" if left else "no CPU is isolated"
        why = [f"{whole}; the role kernel_cmdline isolates whole cores, at the next boot"]
    return _found("smt", now, wanted, why)


# --- NUMA, memory, slots ----------------------------------------------------------------------------------------------


def _numa(state: BiosState, policy: Mapping[str, Any], _cpus: frozenset[int]) -> Setting:
    sockets = max(len(state.topology.sockets), 1)
    nodes = len([node for node, cpus in state.topology.nodes.items() if cpus]) or 1
    current = f"{_counted(nodes, 'node')} on {_counted(sockets, 'socket')}"
    wanted = policy.get("nodes_per_socket")
    if state.guest:
        return _found("numa", current) if wanted is None else _not_here("numa", {"numa": wanted}, state.guest, current)
    if wanted is not None and nodes != int(wanted) * sockets:
        return _found("numa", current, f"{_counted(int(wanted) * sockets, 'node')} on {_counted(sockets, 'socket')}", [menu(menus.NUMA, state.maker)])
    if wanted is None and nodes < sockets:
        why = [f"memory of all sockets is one node: node interleaving is on, or the kernel was told numa=off; {menu(menus.NUMA, state.maker)}"]
        return _found("numa", current, f"at least {_counted(sockets, 'node')} on {_counted(sockets, 'socket')}", why)
    return _found("numa", current)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _memory(state: BiosState, policy: Mapping[str, Any], _cpus: frozenset[int]) -> Setting:
    if state.guest:
        return _not_here("memory", policy, state.guest)
    if not state.memory:
        return _not_here("memory", policy, state.memory_problem or "the BIOS describes no memory devices")
    fitted = [device for device in state.memory if device.mib]
    kinds = sorted({(device.mib, device.configured or device.rated) for device in fitted})
    current = f"{len(fitted)} of {len(state.memory)} slots: " + ", ".join(
        f"{sum((device.mib, device.configured or device.rated) == kind for device in fitted)} x {_size(kind[0])}{f' at {kind[1]} MT/s' if kind[1] else ''}"
        for kind in kinds)
    why = list(_imbalances(state, fitted, kinds))
    if not why or policy.get("memory") is None:
        return _found("memory", current, None, why)
    return _found("memory", current, "balanced", [*why, menu(menus.MEMORY, state.maker)])


def _size(mib: int) -> str:
    return f"{mib // 1024} GiB" if mib % 1024 == 0 else f"{mib} MiB"


def _imbalances(state: BiosState, fitted: list[MemoryDevice], kinds: list[tuple[int, int]]) -> Iterator[str]:
    if len({mib for mib, _speed in kinds}) > 1:
        yield "modules of different sizes"
    if len({speed for _mib, speed in kinds}) > 1:
        yield "modules at different speeds"
    slow = [device.locator for device in fitted if 0 < device.configured < device.rated]
    if slow:
        yield f"slower than they can: {', '.join(slow[:4])}{' and others' if len(slow) > 4 else ''}"
    by_socket: dict[str, int] = {}
    for device in fitted:
        by_socket[device.socket] = by_socket.get(device.socket, 0) + device.mib
    if "" not in by_socket and len(set(by_socket.values())) > 1:
        yield "sockets have different amounts: " + ", ".join(f"{socket} {_size(mib)}" for socket, mib in sorted(by_socket.items()))
    topology = state.topology
    sizes = {node: topology.memory[node].total_kib for node, cpus in topology.nodes.items() if cpus and node in topology.memory}
    if sizes and max(sizes.values()) * (1 - _UNEVEN) > min(sizes.values()):
        yield "nodes have different amounts: " + ", ".join(f"{node} {kib / 1024 / 1024:.1f} GiB" for node, kib in sorted(sizes.items()))


def _slot_findings(state: BiosState, spec: Mapping[str, Any]) -> Iterator[Setting]:
    """The slot of each NIC, and whether it is next to the CPUs of its application."""
    around = NicFirmwareState((), state.topology.nodes, state.topology.distances)
    for nic, card in zip(spec.get("nics") or [], state.cards):
        control, name = "bios.pci_slot", f"{card.interface}.pci_slot"
        if card.unreadable:
            yield Setting(control, name, None, state=ERROR, reason=card.unreadable, finding=True)
            continue
        found = node_finding(around, card, nic)
        slot = state.slots.get(card.pci, "")
        where = f"slot {slot}, " if slot else ""
        yield replace(found, control=control, name=name, finding=True, current=None if found.current is None else where + found.current,
                      desired=None if found.desired is None else (where if found.desired == found.current else "") + found.desired)


# --- idle states and frequencies --------------------------------------------------------------------------------------


def _idle(state: BiosState, policy: Mapping[str, Any], cpus: frozenset[int]) -> Setting:
    if not state.idle:
        reason = state.guest or f"this kernel has no idle states (driver: {state.idle_driver or 'none'})"
        return _not_here("idle_states", policy, reason)
    current = ", ".join(f"{idle.name} {idle.latency} us" for idle in state.idle if idle.on) or "none"
    limit = policy.get("idle_latency_us")
    watched = cpus or state.topology.online
    deep = [idle for idle in state.idle if limit is not None and idle.latency > int(limit) and idle.on & watched]
    if not deep:
        return _found("idle_states", current)
    slow = ", ".join(f"{idle.name} takes {idle.latency} us to leave, on CPUs {format_cpulist(idle.on & watched)}" for idle in deep)
    why = [f"{slow}; {menu(menus.IDLE, state.maker)}; "
           "the role cpu_power switches such states off, as do the kernel arguments intel_idle.max_cstate=0 processor.max_cstate=1"]
    return _found("idle_states", current, f"none above {limit} us on CPUs {format_cpulist(watched)}", why)


def _grouped(name: str, groups: Callable[[BiosState], ByValue], item: str, remedy: str) -> Callable[[BiosState, Mapping[str, Any], frozenset[int]], Setting]:
    """A finding on a value that each CPU has of its own."""
    def finding(state: BiosState, policy: Mapping[str, Any], _cpus: frozenset[int]) -> Setting:
        values, wanted = groups(state), policy.get(name)
        if not values:
            return _not_here(name, policy, state.guest or "this kernel shows none: the firmware decides, or the driver is not loaded")
        current = by_value(values)
        why = [f"{menu(item, state.maker)}; {remedy}"] if wanted not in (None, current) else []
        return _found(name, current, None if wanted is None else str(wanted), why)
    return finding


def _turbo(state: BiosState, policy: Mapping[str, Any], _cpus: frozenset[int]) -> Setting:
    if not state.turbo:
        return _not_here("turbo", policy, state.guest or "this kernel shows no turbo or boost")
    wanted = None if policy.get("turbo") is None else word(policy["turbo"])
    why = [f"{menu(menus.TURBO, state.maker)}; the role cpu_power sets it (cpu_power_turbo)"] if wanted not in (None, state.turbo) else []
    return _found("turbo", state.turbo, wanted, why)


# --- processor, clock, interrupts -------------------------------------------------------------------------------------


def _microcode(state: BiosState, policy: Mapping[str, Any], _cpus: frozenset[int]) -> Setting:
    if state.guest:
        return _not_here("microcode", policy, state.guest)
    if not state.microcode:
        return _not_here("microcode", policy, "this machine tells no revision")
    current = f"{by_value(state.microcode)}{f' ({state.signature})' if state.signature else ''}"
    if len(state.microcode) > 1:
        return _found("microcode", current, "one revision", ["CPUs run different revisions; update the BIOS or the microcode package, and reboot"])
    wanted = {str(signature): revision for signature, revision in (policy.get("microcode") or {}).items()}.get(state.signature)
    least, running = _revision(wanted), _revision(next(iter(state.microcode)))
    if wanted is None or least is None or (running is not None and running >= least):
        return _found("microcode", current)
    return _found("microcode", current, f"at least {wanted} ({state.signature})",
                  ["update the BIOS, or the microcode package (intel-microcode, amd64-microcode, microcode_ctl), and reboot"])


def _firmware(state: BiosState, policy: Mapping[str, Any], _cpus: frozenset[int]) -> Setting:
    told = state.firmware
    if state.guest:
        return _not_here("firmware", {}, state.guest)
    if not told.version:
        return _not_here("firmware", {}, "DMI tells no BIOS version")
    version = f"{told.version}{f' {told.release}' if told.number == told.release != told.version else ''}"
    current = " ".join(part for part in (told.vendor, told.product, version, f"({told.date})" if told.date else "") if part)
    rule = {str(product): rule for product, rule in (policy.get("firmware") or {}).items()}.get(told.product) or {}
    wants = [text for text in (range_of({key: value for key, value in rule.items() if key != "not_before"}),
                               f"not before {rule['not_before']}" if rule.get("not_before") else "") if text]
    right = fits(told.number, rule)
    if right is None or (rule.get("not_before") and not told.date):
        what = f"version {told.number!r} has no number" if right is None else "the BIOS tells no date"
        return unsupported("bios.firmware", "firmware", ", ".join(wants), f"{what} to compare", current)
    if right and not (rule.get("not_before") and told.date < str(rule["not_before"])):
        return _found("firmware", current)
    return _found("firmware", current, ", ".join(wants), ["update the BIOS by the vendor's way"])


def _machine(state: BiosState, policy: Mapping[str, Any], _cpus: frozenset[int]) -> Setting:
    if state.virtual == "unknown":
        return _not_here("machine", policy, "nothing tells whether this machine is virtual")
    current = "bare-metal" if state.virtual == BARE_METAL else f"virtual ({state.virtual})"
    why = ["a hypervisor takes CPUs away when it likes; run this on a machine of its own"] if policy.get("machine") and state.guest else []
    return _found("machine", current, policy.get("machine"), why)


def _iommu(state: BiosState, policy: Mapping[str, Any], _cpus: frozenset[int]) -> Setting:
    if state.iommus is None:
        return _not_here("iommu", policy, "this captured tree does not tell of IOMMUs")
    current = f"on ({', '.join(state.iommus)})" if state.iommus else OFF
    wanted = None if policy.get("iommu") is None else word(policy["iommu"])
    if wanted in (None, ON if state.iommus else OFF):
        return _found("iommu", current)
    if wanted == OFF:
        why = "the kernel arguments intel_iommu=off or amd_iommu=off"
    elif state.iommu_table:
        why = f"the firmware has it ({state.iommu_table}), the kernel does not use it: the kernel argument intel_iommu=on"
    else:
        why = f"the firmware does not offer it: {menu(menus.IOMMU, state.maker)}; on Intel then the kernel argument intel_iommu=on"
    return _found("iommu", current, wanted, [why])


def _x2apic(state: BiosState, policy: Mapping[str, Any], _cpus: frozenset[int]) -> Setting:
    can = state.flags is not None and "x2apic" in state.flags
    if state.x2apic is None:
        missing = "this CPU has no x2APIC" if state.flags is not None and not can else state.x2apic_problem
        return _not_here("x2apic", policy, missing)
    current = ON if state.x2apic else OFF
    wanted = None if policy.get("x2apic") is None else word(policy["x2apic"])
    why = [f"{menu(menus.X2APIC, state.maker)}; it needs interrupt remapping, so the IOMMU too"] if wanted not in (None, current) else []
    return _found("x2apic", current, wanted, why)


def _tsc(state: BiosState, policy: Mapping[str, Any], _cpus: frozenset[int]) -> Setting:
    if state.flags is None:
        return _not_here("tsc", policy, "/proc/cpuinfo tells no flags; only x86 has a TSC")
    missing = [flag for flag in ("constant_tsc", "nonstop_tsc") if flag not in state.flags]
    usable = not missing and (not state.clocksources or "tsc" in state.clocksources)
    current = "reliable" if usable else "unreliable"
    if state.guest and not usable:
        return _not_here("tsc", policy, state.guest, current)
    why = []
    if missing:
        why.append(f"this CPU does not say {' nor '.join(missing)}")
    elif not usable:
        why.append("the kernel found it unstable: look for 'Marking TSC unstable' in the kernel's log; update the BIOS, which must set it alike on all CPUs")
    return _found("tsc", current, policy.get("tsc"), why)


def _clocksource(state: BiosState, policy: Mapping[str, Any], _cpus: frozenset[int]) -> Setting:
    if not state.clocksource:
        return _not_here("clocksource", policy, "this kernel does not tell its clock source")
    others = ", ".join(state.clocksources)
    wanted = policy.get("clocksource")
    if state.guest and wanted not in (None, state.clocksource):
        return _not_here("clocksource", policy, state.guest, state.clocksource)
    why = [f"there are: {others or 'no others'}; reading another clock than the TSC costs a system call or an access to a slow device"]
    return _found("clocksource", state.clocksource, wanted, why if wanted not in (None, state.clocksource) else ())


def _smis(state: BiosState, policy: Mapping[str, Any], _cpus: frozenset[int]) -> Setting:
    if state.guest:
        return _not_here("smis", policy, state.guest)
    if state.smis is None:
        return _not_here("smis", policy, state.smis_problem)
    allowed = int(policy.get("smis", 0))
    seen = f"{state.smis} in {state.smi_seconds:g} s"
    if state.smis <= allowed:
        # How many came is in the reason, so that two reports of a host that is right are the same.
        return _found("smis", f"at most {allowed} in {state.smi_seconds:g} s", None, [seen])
    return _found("smis", seen, f"at most {allowed} in {state.smi_seconds:g} s",
                  [f"the firmware takes all CPUs away for tens of microseconds or more each time; {menu(menus.SMI, state.maker)}"])


# In the order of a report.
FINDINGS: dict[str, Callable[[BiosState, Mapping[str, Any], frozenset[int]], Setting]] = {
    "machine": _machine,
    "firmware": _firmware,
    "microcode": _microcode,
    "smt": _smt,
    "numa": _numa,
    "memory": _memory,
    "idle_states": _idle,
    "frequency_driver": _grouped("frequency_driver", lambda state: state.drivers, menus.FREQUENCY, "the kernel arguments intel_pstate= or amd_pstate="),
    "governor": _grouped("governor", lambda state: state.governors, menus.FREQUENCY, "the role cpu_power sets it"),
    "energy_performance_preference": _grouped("energy_performance_preference", lambda state: state.preferences, menus.FREQUENCY,
                                              "the role cpu_power sets it"),
    "turbo": _turbo,
    "iommu": _iommu,
    "x2apic": _x2apic,
    "tsc": _tsc,
    "clocksource": _clocksource,
    "smis": _smis,
}


def iso_date(text: str) -> str:
    """``07/14/2022``, as DMI writes it, in ISO form; empty for anything else."""
    match = _DATE.fullmatch(text.strip())
    return f"{match[3]}-{match[1]}-{match[2]}" if match else ""
