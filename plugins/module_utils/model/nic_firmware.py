# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Driver, firmware, PCIe link and NUMA node of NICs against what a site wants of them: findings, never anything to write. Pure: no I/O.

Source: Documentation/networking/devlink/devlink-info.rst, Documentation/ABI/testing/sysfs-bus-pci, sysfs-module.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any

from .cpuset import CpusetError, format_cpulist, parse_cpulist
from .nic import CONTROL, identity
from .setting import DRIFTED, ERROR, Plan, Setting, unsupported

DRIVER = "nic.driver"
FIRMWARE = "nic.firmware"
WIDTH = "nic.pcie_width"
SPEED = "nic.pcie_speed"
NODE = "nic.numa_node"

IN_TREE, VENDOR = "in-tree", "vendor"
_KEYS = {"driver": ("kind", "minimum", "maximum"), "firmware": ("minimum", "exact", "component", "models"), "models": ("minimum", "exact", "component")}

# The components of devlink that speak of the whole firmware; where a driver has none of them, ethtool's text does.
_WHOLE = ("fw", "fw.version")
_PART = ("fw.mgmt", "fw.bundle_id")

# FFV22.61.8 bc 5719-v1.46: some vendors put letters before the number. 0x8000d95e is none.
_NUMBER = re.compile(r"\s*[A-Za-z]{0,4}(\d+(?:[.-]\d+)*)(?![\dxX])")
_PSID = re.compile(r"\(([A-Z0-9_]{8,})\)")


@dataclass(frozen=True)
class Driver:
    """The driver that is loaded: ``vendor`` when it is from outside of the kernel's tree; ``version`` may be empty."""

    name: str = ""
    version: str = ""
    vendor: bool = False


@dataclass(frozen=True)
class Firmware:
    """What a NIC tells of its firmware: ethtool's ``text``, and devlink's versions by component: ``fixed``, ``running`` and ``stored``."""

    text: str = ""
    fixed: Mapping[str, str] = field(default_factory=dict)
    running: Mapping[str, str] = field(default_factory=dict)
    stored: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Link:
    """A PCIe link: lanes and GT/s that were negotiated, those that the card can do, and those of the port above it; 0 where none tells."""

    width: int = 0
    width_max: int = 0
    speed: float = 0.0
    speed_max: float = 0.0
    port_width: int = 0
    port_speed: float = 0.0


@dataclass(frozen=True)
class Card:
    """One NIC as it is. ``node`` is -1 where the firmware tells none, None where there is nothing to tell it of.

    ``unreadable`` says why there is no such NIC, ``silent`` why driver and firmware could not be asked. ``device`` is devlink's name
    of it (``pci/0000:3b:00.0``), ``pci_id`` vendor and device as lspci prints them.
    """

    interface: str
    pci: str = ""
    pci_id: str = ""
    device: str = ""
    driver: Driver = field(default_factory=Driver)
    firmware: Firmware = field(default_factory=Firmware)
    link: Link = field(default_factory=Link)
    node: int | None = None
    silent: str = ""
    unreadable: str = ""

    @property
    def psid(self) -> str:
        """The vendor's name of the board, which decides which image fits; empty where none is told."""
        told = self.firmware.fixed.get("fw.psid", "")
        match = None if told else _PSID.search(self.firmware.text)
        return match.group(1) if match else told


@dataclass(frozen=True)
class NicFirmwareState:
    """The NICs asked for in the order of the specification, and the machine's nodes: their online CPUs and distances."""

    cards: tuple[Card, ...] = ()
    nodes: Mapping[int, frozenset[int]] = field(default_factory=dict)
    distances: Mapping[int, Mapping[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Version:
    """The firmware a rule speaks of: its ``component`` (empty for ethtool's text), what runs, and what is stored (empty where not told)."""

    component: str = ""
    running: str = ""
    stored: str = ""

    @property
    def pending(self) -> str:
        """The version that is stored and does not run yet, or nothing."""
        return self.stored if self.stored and self.stored != self.running else ""


# --- versions ---------------------------------------------------------------------------------------------------------


def number_of(text: str) -> tuple[int, ...] | None:
    """The number a version begins with: 22.36.1010, 24.10-1.1.4, 9.20 0x8000d95e; None where it begins with none."""
    match = _NUMBER.match(text)
    return tuple(int(part) for part in re.split(r"[.-]", match.group(1))) if match else None


def at_least(version: tuple[int, ...], minimum: tuple[int, ...]) -> bool:
    """Whether a version is not below a minimum; parts that are missing count as 0."""
    pairs = list(zip_longest(version, minimum, fillvalue=0))
    return [pair[0] for pair in pairs] >= [pair[1] for pair in pairs]


def at_most(version: tuple[int, ...], maximum: tuple[int, ...]) -> bool:
    """Whether a version is not above a maximum. Only the parts that the maximum names count: 24.10 allows 24.10-1.1.4."""
    return at_least(maximum, version[:len(maximum)])


def fits(text: str, rule: Mapping[str, Any]) -> bool | None:
    """Whether a version is what a rule (``minimum``, ``maximum``, ``exact``) wants; None where it has no number to compare."""
    if rule.get("exact"):
        return str(rule["exact"]) in (text, _first_word(text))
    bounds = {key: number_of(str(rule[key])) or () for key in ("minimum", "maximum") if rule.get(key)}
    number = number_of(text)
    if bounds and number is None:
        return None
    return all(at_least(number or (), bound) if key == "minimum" else at_most(number or (), bound) for key, bound in bounds.items())


def _first_word(text: str) -> str:
    return (text.split() or [""])[0].rstrip(",")


def range_of(rule: Mapping[str, Any]) -> str:
    """What a rule wants, in words; empty where any version will do."""
    low, high = rule.get("minimum"), rule.get("maximum")
    if rule.get("exact"):
        return f"exactly {rule['exact']}"
    if low and high:
        return f"{low} to {high}"
    return f"{low} or later" if low else f"{high} or earlier" if high else ""


# --- the policy -------------------------------------------------------------------------------------------------------


def problems(spec: Mapping[str, Any]) -> list[str]:
    """What is wrong with the NICs and the policy on any host."""
    found, seen = policy_problems(spec.get("policy") or {}), set()
    for nic in spec.get("nics") or []:
        who = identity(nic)
        if not who:
            found.append("a NIC of the list has no name; give interface, pci or mac")
        if who in seen:
            found.append(f"NIC {who}: named twice; leave one of the two entries out")
        seen.add(who)
        try:
            parse_cpulist(str(nic.get("application_cpus") or ""))
        except CpusetError as error:
            found.append(f"NIC {who} application_cpus: {error}")
    return found


def policy_problems(policy: Mapping[str, Any]) -> list[str]:
    """What is wrong with a policy: unknown keys, versions that are none, ranges that nothing fits."""
    found = []
    for driver, rules in policy.items():
        who = f"policy of {driver}"
        if not isinstance(rules, Mapping):
            found.append(f"{who}: {rules!r} is no mapping; give driver, firmware or both")
            continue
        found += unknown_keys(who, rules, ("driver", "firmware"))
        wanted, firmware = rules.get("driver") or {}, rules.get("firmware") or {}
        found += _driver_problems(f"{who}: driver", wanted)
        found += _firmware_problems(f"{who}: firmware", firmware, "firmware")
        models = firmware.get("models") if isinstance(firmware, Mapping) else None
        if models is not None and not isinstance(models, Mapping):
            found.append(f"{who}: firmware models: {models!r} is no mapping; its keys are PCI ids like 15b3:101d, or PSIDs")
        elif models:
            for model, rule in models.items():
                found += _firmware_problems(f"{who}: firmware of {model}", rule, "models")
    return found


def _driver_problems(who: str, rule: Any) -> list[str]:
    found = _rule_problems(who, rule, "driver")
    if not found and rule.get("kind") not in (None, IN_TREE, VENDOR):
        found.append(f"{who}: kind {rule['kind']!r} is neither {IN_TREE} nor {VENDOR}")
    low, high = (number_of(str(rule.get(key) or "")) for key in ("minimum", "maximum")) if not found else (None, None)
    if low and high and not at_most(low, high):
        found.append(f"{who}: no version is both {rule['minimum']} or later and {rule['maximum']} or earlier; exchange the two")
    return found


def _firmware_problems(who: str, rule: Any, kind: str) -> list[str]:
    found = _rule_problems(who, rule, kind)
    if not found and rule.get("minimum") and rule.get("exact"):
        found.append(f"{who}: both minimum and exact; give one of them")
    return found


def _rule_problems(who: str, rule: Any, kind: str) -> list[str]:
    if not isinstance(rule, Mapping):
        return [f"{who}: {rule!r} is no mapping; its keys are {', '.join(_KEYS[kind])}"]
    found = unknown_keys(who, rule, _KEYS[kind])
    for key in ("minimum", "maximum", "exact"):
        value = rule.get(key)
        if value is None or value == "":
            continue
        if not isinstance(value, str):
            # YAML reads 24.10 as the number 24.1
            found.append(f"{who}: {key} {value!r} is not text; put the version between quotes")
        elif key != "exact" and number_of(value) is None:
            found.append(f"{who}: {key} {value!r} begins with no version number; write it like 22.36.1010, or give exact")
    return found


def unknown_keys(who: str, rules: Mapping[str, Any], known: Iterable[str]) -> list[str]:
    """Keys of a mapping that have no meaning, with those that have one."""
    unknown = sorted(str(key) for key in rules if key not in known)
    return [f"{who}: no such key {', '.join(unknown)}; there are: {', '.join(known)}"] if unknown else []


def driver_rule(policy: Mapping[str, Any], driver: str) -> Mapping[str, Any]:
    """What the policy wants of a driver; empty where it says nothing."""
    rule: Mapping[str, Any] = (policy.get(driver) or {}).get("driver") or {}
    return rule


def firmware_rule(policy: Mapping[str, Any], card: Card) -> Mapping[str, Any]:
    """What the policy wants of a NIC's firmware: what it says of the PSID, else of the PCI id, else of all NICs of the driver."""
    rule: Mapping[str, Any] = (policy.get(card.driver.name) or {}).get("firmware") or {}
    models = {str(model).lower(): wanted for model, wanted in (rule.get("models") or {}).items()}
    special = models.get(card.psid.lower()) or models.get(card.pci_id.lower())
    return {key: value for key, value in (special or rule).items() if key != "models"}


def version_of(card: Card, component: str = "") -> Version:
    """The firmware of a NIC: a component of devlink, by default the one that means all of it, else what ethtool tells."""
    told = card.firmware
    name = component or next((name for name in _WHOLE if name in told.running), "")
    if name or not told.text:
        name = name or next((name for name in _PART if name in told.running), "")
        return Version(name, told.running.get(name, ""), told.stored.get(name, ""))
    # The component that ethtool's text begins with is the one it speaks of, and may be stored in another version.
    name = next((name for name, value in told.running.items() if value == _first_word(told.text)), "")
    stored = told.stored.get(name, "")
    return Version(name, told.text, told.text if name and stored == told.running[name] else stored)


# --- the plan ---------------------------------------------------------------------------------------------------------


def plan(state: NicFirmwareState, spec: Mapping[str, Any]) -> Plan:
    """Five findings a NIC; one error for a NIC that is not there."""
    policy = spec.get("policy") or {}
    settings: list[Setting] = []
    taken: dict[str, str] = {}
    for nic, card in zip(spec.get("nics") or [], state.cards):
        who = identity(nic)
        if card.unreadable or card.interface in taken:
            why = card.unreadable or f"is the same NIC as {taken[card.interface]} ({card.interface}); leave one of the two entries out"
            settings.append(Setting(CONTROL, who, None, state=ERROR, reason=why, finding=True))
            continue
        taken[card.interface] = who
        found = [driver_finding(card, policy), firmware_finding(card, policy), *_link_findings(card), node_finding(state, card, nic)]
        settings += [_told(card, setting) for setting in found]
    return Plan(tuple(settings))


def _told(card: Card, setting: Setting) -> Setting:
    """The setting as a finding, named after the interface and what of it: ``ens1f0.firmware``."""
    return replace(setting, name=f"{card.interface}.{setting.control.partition('.')[2]}", finding=True)


def driver_finding(card: Card, policy: Mapping[str, Any]) -> Setting:
    """The driver that is loaded against the policy for it."""
    rule, driver = driver_rule(policy, card.driver.name), card.driver
    kind, wanted_kind = VENDOR if driver.vendor else IN_TREE, rule.get("kind") or ""
    current = _driver_text(driver.name, driver.version, kind)
    desired = _driver_text(driver.name, range_of(rule), wanted_kind) if rule else current
    if card.silent or not driver.name:
        return unsupported(DRIVER, card.interface, None, card.silent or "its driver tells nothing of itself")
    right = fits(driver.version, rule)
    if right is None:
        return unsupported(DRIVER, card.interface, desired, f"driver version {driver.version or '(none told)'} has no number to compare", current)
    why = []
    if wanted_kind and wanted_kind != kind:
        remedy = "remove the vendor's package" if kind == VENDOR else "the vendor's comes with a package (nic_firmware_packages)"
        why.append(f"the {kind} driver is loaded; {remedy}")
    if not right:
        why.append("install the wanted version (nic_firmware_packages)")
    if why:
        why.append("then reload the driver or reboot")
    return _found(DRIVER, card.interface, current, desired, why)


def _driver_text(name: str, version: str, kind: str) -> str:
    return " ".join(part for part in (name, version, f"({kind})" if kind else "") if part)


def firmware_finding(card: Card, policy: Mapping[str, Any]) -> Setting:
    """The firmware that runs, and the one that is stored, against the policy for it."""
    rule = firmware_rule(policy, card)
    version = version_of(card, str(rule.get("component") or ""))
    wanted, name = range_of(rule), card.interface
    if card.silent or not version.running:
        of = f" of {rule['component']}" if rule.get("component") else ""
        return unsupported(FIRMWARE, name, wanted or None, card.silent or f"driver {card.driver.name or '?'} tells no firmware version{of}")
    right, lasts = fits(version.running, rule), fits(version.stored, rule) if version.stored else True
    if right is None or lasts is None:
        return unsupported(FIRMWARE, name, wanted, f"{version.running!r} begins with no version number to compare; say exact, or name a component",
                           version.running)
    why = []
    if version.pending:
        why.append(f"{version.pending} is stored and runs after a reset of the NIC or a reboot")
    if not (right and lasts) and not (version.pending and lasts):
        why.append("flash the wanted one (nic_firmware_images, in a maintenance run)")
    found = _found(FIRMWARE, name, version.running, version.running if right and lasts else wanted, why)
    if right and not lasts:
        found = replace(found, current=f"{version.running}, {version.stored} stored")
    return replace(found, persisted=version.stored or None)


def _link_findings(card: Card) -> Iterator[Setting]:
    """Lanes and speed that were negotiated against those that the card can do."""
    link = card.link
    if not card.pci:
        why = "no PCI device"
        yield unsupported(WIDTH, card.interface, None, why)
        yield unsupported(SPEED, card.interface, None, why)
        return
    yield _link_finding(card, WIDTH, link.width, link.width_max, link.port_width)
    yield _link_finding(card, SPEED, link.speed, link.speed_max, link.port_speed)


def _link_finding(card: Card, control: str, now: float, can: float, port: float) -> Setting:
    what, shown = ("width", _lanes) if control == WIDTH else ("speed", _rate)
    if not now or not can:
        return unsupported(control, card.interface, None, f"the PCIe {what} is not told (a virtual function or a virtual machine)")
    why = []
    if now < can and 0 < port < can:
        why.append(f"the port above it has no more than {shown(port)}; move the card to a slot with {shown(can)}")
    elif now < can:
        why.append("card and port can do more; seat the card again, and look for a riser, a split slot or a BIOS setting that holds it back")
    return _found(control, card.interface, f"{shown(now)} of {shown(can)}", f"{shown(can)} of {shown(can)}", why)


def _lanes(width: float) -> str:
    return f"x{width:.0f}"


def _rate(speed: float) -> str:
    return f"{speed:.1f} GT/s"


def node_finding(state: NicFirmwareState, card: Card, nic: Mapping[str, Any]) -> Setting:
    """The node of the NIC against the nodes of the CPUs that serve it (R22, R23)."""
    populated = [node for node, cpus in sorted(state.nodes.items()) if cpus]
    if card.node is None or not card.pci:
        return unsupported(NODE, card.interface, None, "no PCI device")
    if len(populated) < 2:
        where = f"on node {populated[0]}, the only one" if populated else "on a host without NUMA"
        return Setting(NODE, card.interface, where, where)
    said, node, why = nic.get("numa_node"), card.node, []
    if node not in state.nodes and said is None:
        why = ["the BIOS does not tell its node: update the BIOS, or say numa_node in its entry of lowlatency_nics, by the board's manual (R22)"]
        return _found(NODE, card.interface, "on an unknown node", "on a known node", why)
    told = f"on node {node}" if node in state.nodes else f"on node {said}, as the site says"
    near = _near(state, node if node in state.nodes else int(said or 0), populated)
    cpus = parse_cpulist(str(nic.get("application_cpus") or ""))
    far = {other: cpus & state.nodes[other] for other in populated if other not in near and cpus & state.nodes[other]}
    if not far:
        return Setting(NODE, card.interface, told, told)
    others = format_cpulist(far)
    away = format_cpulist(frozenset().union(*far.values()))
    why = [f"CPUs {away} of its application are on node {others}: move the card to a slot of node {others}, "
           f"or take application CPUs of node {format_cpulist(near)} (R23)"]
    return _found(NODE, card.interface, f"{told}, its application on node {others}", f"{told} with all of its application", why)


def _near(state: NicFirmwareState, node: int, populated: list[int]) -> frozenset[int]:
    """The nodes whose CPUs are next to a NIC: its own, or where that has no CPUs, the nearest that have."""
    if state.nodes.get(node):
        return frozenset({node})
    row = state.distances.get(node, {})
    least = min((row.get(other, 1 << 16) for other in populated), default=0)
    return frozenset(other for other in populated if row.get(other, 1 << 16) == least)


def _found(control: str, name: str, current: str, desired: str, why: Iterable[str]) -> Setting:
    """A finding: right where nothing is wrong with it, whatever range was wanted."""
    reasons = list(why)
    if not reasons or desired == current:
        return Setting(control, name, current, current, reason="; ".join(reasons))
    return Setting(control, name, desired, current, state=DRIFTED, reason="; ".join(reasons))
