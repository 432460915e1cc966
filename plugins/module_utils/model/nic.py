# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NIC features (offloads): names, what may be asked for, and the plan. Pure: no I/O.

Source: Documentation/networking/netdev-features.rst, include/uapi/linux/ethtool.h, net/ethtool/common.c (netdev_features_strings).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from .setting import Plan, Setting, SpecError, unsupported

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
    """The features of one interface. ``guard`` says why it must not be reconfigured, ``unreadable`` why it could not be read."""

    interface: str
    driver: str = ""
    features: Mapping[str, Feature] | None = None
    guard: str = ""
    unreadable: str = ""


@dataclass(frozen=True)
class EthtoolState:
    """The NICs asked for, in the order of the specification, each found or with the reason why not."""

    nics: tuple[NicState, ...]


def bits_of(name: str, features: Mapping[str, Feature]) -> dict[str, Feature]:
    """The feature bits of a NIC behind a name that ethtool -K takes, or the kernel's own name."""
    pattern = SHORT_NAMES.get(name, name)
    return {bit: feature for bit, feature in features.items() if fnmatchcase(bit, pattern)}


def identity(nic: Mapping[str, Any]) -> str:
    """How a NIC is named in the inventory, for messages: its interface, PCI address or MAC."""
    return str(nic.get("interface") or nic.get("pci") or nic.get("mac") or "")


def wanted_features(spec: Mapping[str, Any], nic: Mapping[str, Any]) -> dict[str, bool]:
    """``{feature: on}`` of one NIC: those for all NICs, and its own over them. YAML's ``off`` is the boolean it reads as."""
    wanted = {**(spec.get("features") or {}), **(nic.get("features") or {})}
    return {str(name): value if isinstance(value, bool) else str(value) == "on" for name, value in wanted.items()}


def problems(spec: Mapping[str, Any]) -> list[str]:
    """What is wrong with the NICs asked for on any host."""
    found, seen = _feature_problems("all NICs", spec.get("features")), set()
    for nic in spec.get("nics") or []:
        who = identity(nic)
        if not who:
            found.append("a NIC of the list has no name; give interface, pci or mac")
        if who in seen:
            found.append(f"NIC {who}: named twice; leave one of the two entries out")
        seen.add(who)
        found += _feature_problems(f"NIC {who}", nic.get("features"))
    return found


def _feature_problems(who: str, features: Mapping[str, Any] | None) -> list[str]:
    return [f"{who}: feature {name}: {value!r} is neither on nor off; write one of them"
            for name, value in (features or {}).items() if not isinstance(value, bool) and value not in ("on", "off")]


def plan(state: EthtoolState, spec: Mapping[str, Any]) -> Plan:
    """One setting a NIC and feature; raises ``SpecError`` naming every NIC that cannot be served."""
    wrong: list[str] = []
    settings: list[Setting] = []
    taken: dict[str, str] = {}
    for nic, found in zip(spec.get("nics") or [], state.nics):
        who = identity(nic)
        wanted = wanted_features(spec, nic)
        if found.unreadable:
            wrong.append(f"NIC {who}: {found.unreadable}")
        elif found.interface in taken:
            wrong.append(f"NIC {who}: is the same NIC as {taken[found.interface]} ({found.interface}); leave one of the two entries out")
        elif found.guard and not nic.get("management"):
            wrong.append(f"NIC {who}: {found.guard}; it is not reconfigured unless its entry says management: true")
        else:
            taken[found.interface] = who
            settings += [_setting(found, name, on) for name, on in sorted(wanted.items())]
    if wrong:
        raise SpecError("; ".join(wrong))
    return Plan(tuple(settings))


def _setting(nic: NicState, name: str, on: bool) -> Setting:
    control, desired = f"net.offload.{name}", _word(on)
    subject = f"{nic.interface}.{name}"
    if nic.features is None:
        return unsupported(control, subject, desired, f"driver {nic.driver or '?'} answers no feature requests")
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
