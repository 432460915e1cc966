# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services that must not run on a low-latency host: stopped, disabled and masked. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .setting import Plan, Setting, unsupported

# These keep a host reachable, its clock right or its log readable: never removed by this collection.
KEPT = ("chrony", "chronyd", "dbus", "ntpd", "phc2sys", "ptp4l", "ssh", "sshd", "systemd-journald", "systemd-networkd",
        "systemd-timesyncd", "systemd-udevd", "NetworkManager", "networking")


@dataclass(frozen=True)
class Unit:
    """What systemctl show says of a unit: LoadState, ActiveState, UnitFileState."""

    load: str
    active: str
    file: str


@dataclass(frozen=True)
class UnitsState:
    """The units asked for by full name; ``without`` says why there is no service manager to ask."""

    units: Mapping[str, Unit]
    without: str = ""


def full_name(name: str) -> str:
    """``irqbalance`` -> ``irqbalance.service``; a name with a unit suffix stays."""
    known = (".service", ".socket", ".timer", ".path", ".target")
    return name if name.endswith(known) else f"{name}.service"


def problems(spec: Mapping[str, Any]) -> list[str]:
    """What is wrong with the names on any host."""
    found = []
    for name in spec.get("removed") or []:
        text = str(name)
        if not text or not all(char.isalnum() or char in "-_.@:\\" for char in text) or text.startswith("-"):
            found.append(f"unit {text!r}: not a systemd unit name; write it like irqbalance.service")
        elif full_name(text).rpartition(".")[0] in KEPT:
            found.append(f"unit {text!r}: keeps the host reachable or its clock right and is never removed; take it off the list")
    return found


def plan(state: UnitsState, spec: Mapping[str, Any]) -> Plan:
    """One setting a unit, in sorted order: ``removed`` is what is wanted, live and after the next boot."""
    names = sorted({full_name(str(name)) for name in spec.get("removed") or []})
    return Plan(tuple(_setting(name, state) for name in names))


def _setting(name: str, state: UnitsState) -> Setting:
    control = f"svc.{name.rpartition('.')[0]}"
    if state.without:
        return unsupported(control, name, "removed", state.without)
    unit = state.units.get(name, Unit("not-found", "inactive", ""))
    if unit.load == "not-found" and unit.active == "inactive":
        return Setting(control, name, "removed", "removed", "removed", reason="not installed")
    stopped = unit.active in ("inactive", "failed")
    masked = unit.load == "masked" or unit.file == "masked"
    return Setting(control, name, "removed", "removed" if stopped else unit.active,
                   "removed" if masked else unit.file or unit.load)
