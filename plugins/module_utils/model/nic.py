# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wanted of NICs through ethtool and sysfs: features, channels, rings, coalescing, steering, and the plan. Pure: no I/O.

Source: Documentation/networking/netdev-features.rst, Documentation/networking/ethtool-netlink.rst, net/ethtool/common.c
(netdev_features_strings), Documentation/networking/scaling.rst, Documentation/networking/napi.rst.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from . import nic_parameters, steering
from .competitors import Competitor, findings
from .cpuset import CpusetError, format_cpulist, parse_cpulist
from .nic_parameters import CHANNELS, COALESCE, EEE, IRQ_CPUS, MAX, PAUSE, PRIVATE_FLAGS, QUEUES, RINGS, Parameter
from .setting import ERROR, UNSUPPORTED, Plan, Setting, SpecError, unsupported
from .steering import Rule, parse_rule

FEATURES, RSS, RULES, RPS, NAPI = "features", "rss", "rules", "rps", "napi"
# In the order of writing: private flags and channels reset the queues, rings the traffic, pause and EEE the link.
PARAMETER_GROUPS = (PRIVATE_FLAGS, CHANNELS, RINGS, COALESCE, PAUSE, EEE)
# What may be wanted of all NICs, and of each one over that.
MAPPINGS = (*PARAMETER_GROUPS, FEATURES, RSS, RPS, NAPI)
# Of a NIC that cannot be served at all.
CONTROL = "nic"
RSS_CONTROL, RULE_CONTROL = "net.rss", "net.flow.ntuple"
QUEUE_CONTROL, RPS_CPUS, RPS_FLOWS = "net.rps_xps", "rps_cpus", "rps_flow_cnt"
NAPI_CONTROLS = {"napi_defer_hard_irqs": "net.napi.defer", "gro_flush_timeout": "net.napi.defer", "threaded": "net.napi.threaded"}

# What ethtool -K calls them, and the pattern of the kernel's feature bits behind each (newer kernels have more TCP ones).
SHORT_NAMES = {
    "gro": "rx-gro",
    "gso": "tx-generic-segmentation",
    "lro": "rx-lro",
    "ntuple": "rx-ntuple-filter",
    "rx": "rx-checksum",
    "rxhash": "rx-hashing",
    "tso": "tx-tcp*-segmentation",
    "tx": "tx-checksum-*",
}


@dataclass(frozen=True)
class Feature:
    """One feature bit of a NIC; ``fixed`` when neither the user nor the driver can change it."""

    active: bool
    fixed: bool


@dataclass(frozen=True)
class NicState:
    """One interface. ``guard`` says why it must not be reconfigured, ``unreadable`` why it could not be read.

    ``parameters`` has those that the driver has, by group; ``missing`` says of a group why there is none. ``table`` is the RSS
    indirection table, ``hashes`` the fields hashed by packet type, ``rules`` the steering rules in place (None: the driver has no
    such thing), ``queues`` and ``napi`` the values of its files in sysfs: ``{("rx-0", "rps_cpus"): "0-3"}``, ``{"threaded": "0"}``. ``carrier``
    says whether it has a link, ``refused`` what this driver was seen to refuse since the boot, by the setting's name. ``silent`` says why the driver
    could not be asked at all (a captured tree).
    """

    interface: str
    driver: str = ""
    features: Mapping[str, Feature] | None = None
    guard: str = ""
    unreadable: str = ""
    version: str = ""
    firmware: str = ""
    parameters: Mapping[str, Mapping[str, Parameter]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    table: tuple[int, ...] | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)
    rules: tuple[Rule, ...] | None = None
    queues: Mapping[tuple[str, str], str] = field(default_factory=dict)
    napi: Mapping[str, str] = field(default_factory=dict)
    carrier: bool = False
    refused: Mapping[str, str] = field(default_factory=dict)
    silent: str = ""

    @property
    def software(self) -> str:
        """Driver and versions, for messages."""
        words = [f"driver {self.driver or '?'} {self.version}".rstrip(), *([f"firmware {self.firmware}"] if self.firmware else [])]
        return ", ".join(words)


@dataclass(frozen=True)
class EthtoolState:
    """The NICs asked for by ``spec``, in its order, each found or with the reason why not, and who else sets them."""

    nics: tuple[NicState, ...]
    spec: Mapping[str, Any] = field(default_factory=dict)
    competitors: tuple[Competitor, ...] = ()

    def wanted(self, nic: NicState) -> Wanted:
        """What was wanted of one of these NICs when they were read."""
        return wanted_of(self.spec, self.spec["nics"][self.nics.index(nic)])


@dataclass(frozen=True)
class Wanted:
    """What is wanted of one NIC: the mappings for all NICs with its own over them, its rules, and what must not be unsupported."""

    entry: Mapping[str, Any]
    mappings: Mapping[str, Mapping[str, Any]]
    rules: tuple[Mapping[str, Any], ...]
    only_these_rules: bool
    required: frozenset[str]


def bits_of(name: str, features: Mapping[str, Feature]) -> dict[str, Feature]:
    """The feature bits of a NIC behind a name that ethtool -K takes, or the kernel's own name."""
    pattern = SHORT_NAMES.get(name, name)
    return {bit: feature for bit, feature in features.items() if fnmatchcase(bit, pattern)}


def identity(nic: Mapping[str, Any]) -> str:
    """How a NIC is named in the inventory, for messages: its interface, PCI address or MAC."""
    return str(nic.get("interface") or nic.get("pci") or nic.get("mac") or "")


def wanted_of(spec: Mapping[str, Any], nic: Mapping[str, Any]) -> Wanted:
    """What a specification wants of one of its NICs."""
    mappings = {name: {**_not_replaced(name, spec.get(name) or {}, nic.get(name) or {}), **(nic.get(name) or {})} for name in MAPPINGS}
    # what queues stand for differs by driver
    required = frozenset(CHANNELS if name == f"{CHANNELS}.{QUEUES}" else str(name) for name in spec.get("required") or ())
    return Wanted(nic, mappings, tuple(nic.get(RULES) or ()), bool(nic.get("only_these_rules")), required)


def _not_replaced(group: str, general: Mapping[str, Any], own: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is wanted of all NICs, without what a NIC's own words mean instead: channels are one decision, and so is a table."""
    replaced: Iterable[str] = ()
    if own and group == CHANNELS:
        replaced = general
    elif group == RSS and {"equal", "weight"} & set(own):
        replaced = ("equal", "weight")
    return {name: value for name, value in general.items() if name not in replaced}


def problems(spec: Mapping[str, Any]) -> list[str]:
    """What is wrong with what is wanted of all NICs. What is wrong with one NIC alone is told in the plan, and stops no other."""
    found = [problem for name in MAPPINGS for problem in _mapping_problems(name, spec.get(name) or {})]
    found += [problem for name in spec.get("required") or () for problem in _required_problems(str(name))]
    found += ["a NIC of the list has no name; give interface, pci or mac" for nic in spec.get("nics") or [] if not identity(nic)]
    return found


def _required_problems(name: str) -> list[str]:
    """What is wrong with a name that would never bite."""
    group, _dot, parameter = name.partition(".")
    if group not in (*MAPPINGS, RULES):
        return [f"required: {name!r} is not group.parameter, such as coalesce.rx-usecs or features.gro"]
    return [f"required: {problem}" for problem in nic_parameters.name_problems(group, [parameter])] if parameter and group in PARAMETER_GROUPS else []


def _mapping_problems(group: str, wanted: Mapping[str, Any]) -> list[str]:
    if group in PARAMETER_GROUPS:
        return nic_parameters.name_problems(group, wanted) + nic_parameters.value_problems(group, wanted)
    if group == RSS:
        return steering.spread_problems(wanted)
    if group == FEATURES:
        return [f"feature {name}: {value!r} is neither on nor off; write one of them"
                for name, value in wanted.items() if nic_parameters.switched(value) is None]
    known = NAPI_CONTROLS if group == NAPI else (RPS_CPUS, RPS_FLOWS)
    return [problem for name, value in wanted.items() for problem in _file_problems(group, str(name), value, known)]


def _file_problems(group: str, name: str, value: Any, known: Iterable[str]) -> list[str]:
    if name not in known:
        return [f"{group}: no parameter {name!r}; there are: {', '.join(known)}"]
    try:
        _file_value(name, value)
    except (CpusetError, SpecError) as error:
        return [f"{group}: {name}: {error}"]
    return []


def _file_value(name: str, value: Any) -> str:
    if name == RPS_CPUS:
        return format_cpulist(parse_cpulist(str(value)))
    if name == "threaded":
        on = nic_parameters.switched(value) if str(value) not in ("0", "1") else str(value) == "1"
        if on is None:
            raise SpecError(f"{value!r} is neither on nor off; write one of them")
        return str(int(on))
    if isinstance(value, bool) or not str(value).isdecimal():
        raise SpecError(f"{value!r} is not a number")
    return str(int(value))


def plan(state: EthtoolState, spec: Mapping[str, Any]) -> Plan:
    """The settings of every NIC; one that cannot be served is one error, with nothing else of it. Who else sets them is a finding."""
    nics = spec.get("nics") or []
    settings: list[Setting] = []
    for entry, found in zip(nics, state.nics):
        reasons = list(_reasons_against(state, found, entry, nics))
        wanted = wanted_of(spec, entry)
        reasons += [problem for name in MAPPINGS for problem in _mapping_problems(name, wanted.mappings[name])]
        if not reasons:
            try:
                settings += _required([_seen_refused(setting, found) for setting in _settings(found, wanted)], found, wanted)
                continue
            except SpecError as error:
                reasons.append(str(error))
        settings.append(Setting(CONTROL, identity(entry), None, state=ERROR, reason="; ".join(dict.fromkeys(reasons))))
    return Plan((*settings, *findings(state.competitors)))


def _reasons_against(state: EthtoolState, found: NicState, entry: Mapping[str, Any], nics: list[Mapping[str, Any]]) -> Iterator[str]:
    if found.unreadable:
        yield found.unreadable
        return
    others = [identity(other) for other, nic in zip(nics, state.nics) if other is not entry and nic.interface == found.interface and not nic.unreadable]
    if others:
        yield f"is the same NIC as {others[0]} ({found.interface}); leave one of the two entries out"
    if found.guard and not entry.get("management"):
        yield f"{found.guard}; it is not reconfigured unless its entry says management: true"


def _settings(nic: NicState, wanted: Wanted) -> Iterator[Setting]:
    """All of one NIC in the order of writing; raises ``SpecError``."""
    queues = None
    for group in PARAMETER_GROUPS:
        irq_cpus, asked = str(wanted.entry.get("irq_cpus") or ""), wanted.mappings[group]
        if group == CHANNELS and not irq_cpus:
            yield from _unplanned_channels(nic, asked)
            asked = {name: value for name, value in asked.items() if value != IRQ_CPUS}
        numbers = nic_parameters.resolved(group, asked, nic.parameters.get(group, {}), irq_cpus)
        if group == CHANNELS:
            queues = queue_counts(nic.parameters.get(CHANNELS, {}), numbers)
        yield from _parameter_settings(nic, group, numbers, asked)
    features = wanted.mappings[FEATURES]
    yield from (_feature_setting(nic, str(name), bool(nic_parameters.switched(features[name]))) for name in sorted(features))
    yield from _spread_settings(nic, wanted.mappings[RSS], (queues or {}).get("rx", 0))
    yield from _rule_settings(nic, wanted, (queues or {}).get("rx", 0))
    yield from _queue_settings(nic, wanted.mappings[RPS], queues)
    yield from _napi_settings(nic, wanted.mappings[NAPI])


def _unplanned_channels(nic: NicState, asked: Mapping[str, Any]) -> Iterator[Setting]:
    """Channels that were to be as many as planned CPUs, of a NIC for which none are planned: they stay as they are."""
    for name in (name for name, value in asked.items() if value == IRQ_CPUS):
        yield unsupported(nic_parameters.control_of(CHANNELS, name), f"{nic.interface}.{nic_parameters.LABELS[CHANNELS]}{name}", IRQ_CPUS,
                          "no CPUs are planned for its interrupts (no PCI device, or its irq_cpus are not given)")


def queue_counts(held: Mapping[str, Parameter], numbers: Mapping[str, int]) -> dict[str, int] | None:
    """Receive and transmit queues of a NIC with these channels, once they have these numbers; None where the driver tells none."""
    counts = {name: numbers.get(name, parameter.value) for name, parameter in held.items()}
    return {way: counts.get("combined", 0) + counts.get(way, 0) for way in ("rx", "tx")} if held else None


def _parameter_settings(nic: NicState, group: str, numbers: Mapping[str, int], asked: Mapping[str, Any]) -> Iterator[Setting]:
    held = nic.parameters.get(group, {})
    for name in sorted(numbers, key=lambda name: _position(group, name)):
        control, subject = nic_parameters.control_of(group, name), f"{nic.interface}.{nic_parameters.LABELS[group]}{name}"
        if name in held:
            yield Setting(control, subject, nic_parameters.shown(group, name, numbers[name]), nic_parameters.shown(group, name, held[name].value))
        else:
            desired = MAX if MAX in (asked.get(name), asked.get(QUEUES)) else nic_parameters.shown(group, name, numbers[name])
            yield unsupported(control, subject, desired, nic.missing.get(group) or f"driver {nic.driver or '?'} has no {name}")


def _position(group: str, name: str) -> int:
    names = nic_parameters.NAMES.get(group, ())
    return names.index(name) if name in names else 0


def _feature_setting(nic: NicState, name: str, on: bool) -> Setting:
    control, desired = f"net.offload.{name}", _word(on)
    subject = f"{nic.interface}.{name}"
    if nic.features is None:
        return unsupported(control, subject, desired, nic.silent or f"driver {nic.driver or '?'} answers no feature requests")
    bits = bits_of(name, nic.features).values()
    if not bits:
        return unsupported(control, subject, desired, f"driver {nic.driver or '?'} has no such feature")
    current = _word(any(bit.active for bit in bits))
    movable = [bit for bit in bits if not bit.fixed]
    if current == desired and not movable:
        return Setting(control, subject, desired, current, desired, reason="fixed by the driver")
    if not movable:
        return unsupported(control, subject, desired, f"fixed {current} by driver {nic.driver or '?'}", current)
    return Setting(control, subject, desired, current)


def _word(on: bool) -> str:
    return "on" if on else "off"


def _spread_settings(nic: NicState, spread: Mapping[str, Any], queues: int) -> Iterator[Setting]:
    subject = f"{nic.interface}.indirection"
    if "equal" in spread or "weight" in spread:
        if nic.table is None:
            yield unsupported(RSS_CONTROL, subject, "table", nic.silent or f"driver {nic.driver or '?'} has no RSS indirection table")
        else:
            entries = steering.table(spread, len(nic.table), queues or max(nic.table, default=0) + 1)
            yield Setting(RSS_CONTROL, subject, steering.table_text(entries), steering.table_text(nic.table))
    for name, letters in sorted((spread.get("hash") or {}).items()):
        subject, desired = f"{nic.interface}.hash-{name}", steering.hash_text(letters)
        if name in nic.hashes:
            yield Setting(RSS_CONTROL, subject, desired, nic.hashes[name])
        else:
            yield unsupported(RSS_CONTROL, subject, desired, nic.silent or f"driver {nic.driver or '?'} tells no hash fields of {name}")


def _rule_settings(nic: NicState, wanted: Wanted, queues: int) -> Iterator[Setting]:
    rules = [parse_rule(rule) for rule in wanted.rules]
    flows = [rule.flow for rule in rules]
    twice = sorted({flow for flow in flows if flows.count(flow) > 1})
    if twice:
        raise SpecError(f"rules: {', '.join(twice)}: two rules for the same packets")
    beyond = [rule.flow for rule in rules if queues and rule.action >= queues]
    if beyond:
        raise SpecError(f"rules: {', '.join(beyond)}: no such queue; there are {queues}, numbered from 0")
    held = {rule.flow: rule for rule in nic.rules or ()}
    for rule in rules:
        subject = f"{nic.interface}.{rule.flow}"
        if nic.rules is None:
            yield unsupported(RULE_CONTROL, subject, rule.target, nic.silent or f"driver {nic.driver or '?'} takes no steering rules")
        else:
            yield Setting(RULE_CONTROL, subject, rule.target, held[rule.flow].target if rule.flow in held else None)
    for flow, rule in held.items():
        if wanted.only_these_rules and flow not in flows:
            yield Setting(RULE_CONTROL, f"{nic.interface}.{flow}", None, rule.target)


def _queue_settings(nic: NicState, wanted: Mapping[str, Any], queues: Mapping[str, int] | None) -> Iterator[Setting]:
    """RPS and RFS of every receive queue that there will be."""
    have = {name for name, _file in nic.queues if name.startswith("rx-")}
    names = [f"rx-{number}" for number in range(queues["rx"])] if queues and queues["rx"] else sorted(have, key=lambda name: int(name[3:]))
    for file in (RPS_CPUS, RPS_FLOWS):
        there = any(held == file for _name, held in nic.queues)
        for name in names if file in wanted else ():
            subject, desired = f"{nic.interface}.{name}.{file}", _file_value(file, wanted[file])
            if there:
                yield Setting(QUEUE_CONTROL, subject, desired, nic.queues.get((name, file)))
            else:
                yield unsupported(QUEUE_CONTROL, subject, desired, "this kernel has no such file")


def _napi_settings(nic: NicState, wanted: Mapping[str, Any]) -> Iterator[Setting]:
    for name in sorted(wanted):
        subject, desired = f"{nic.interface}.{name}", _file_value(name, wanted[name])
        if name in nic.napi:
            yield Setting(NAPI_CONTROLS[name], subject, desired, nic.napi[name])
        else:
            yield unsupported(NAPI_CONTROLS[name], subject, desired, "this kernel has no such file")


def _seen_refused(setting: Setting, nic: NicState) -> Setting:
    """A setting that only the attempt to write showed to be unsupported, known from an earlier attempt."""
    if setting.name not in nic.refused or setting.state == UNSUPPORTED or setting.current == setting.desired:
        return setting
    return unsupported(setting.control, setting.name, setting.desired, nic.refused[setting.name], setting.current)


def _required(settings: list[Setting], nic: NicState, wanted: Wanted) -> list[Setting]:
    """The settings, with an error for each that the profile requires and this NIC has not; where nobody could ask it, none is known to be missing."""
    if nic.silent:
        return settings
    return [_as_error(setting, nic) if setting.state == UNSUPPORTED and is_required(setting, wanted.required) else setting for setting in settings]


def _as_error(setting: Setting, nic: NicState) -> Setting:
    return Setting(setting.control, setting.name, setting.desired, setting.current, state=ERROR, reason=required_but(setting.reason, nic))


def required_but(reason: str, nic: NicState) -> str:
    """Why a required setting is an error: the NIC, its driver and their versions in the message."""
    return f"required by the profile, but {reason} (NIC {nic.interface}, {nic.software})"


def is_required(setting: Setting, required: Iterable[str]) -> bool:
    """Whether one of ``required`` (group.parameter, or a group alone) names a setting."""
    return bool({group_of(setting), f"{group_of(setting)}.{parameter_of(setting)}"} & set(required))


def group_of(setting: Setting) -> str:
    """The group of options a setting comes from, by its control."""
    return next((group for beginning, group in _GROUP_OF if setting.control.startswith(beginning)), "")


def parameter_of(setting: Setting) -> str:
    """The parameter a setting is about."""
    return subject_of(setting).removeprefix(nic_parameters.LABELS.get(group_of(setting), ""))


def subject_of(setting: Setting) -> str:
    """What follows the interface in a setting's name."""
    if setting.control == RULE_CONTROL:
        return setting.name.partition(".")[2]
    return setting.name.rpartition(".")[2]


_GROUP_OF = (
    ("net.offload.", FEATURES), ("net.coalesce.", COALESCE), (RSS_CONTROL, RSS), (RULE_CONTROL, RULES), (QUEUE_CONTROL, RPS), ("net.napi.", NAPI),
    *((control, group) for group, control in nic_parameters.CONTROLS.items()),
)
