# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tuned's profiles: what the profiles that are active set of NICs and of interrupts. Pure: no I/O.

Source: tuned.conf(5), and the documentation of tuned's plugins net, irq, irqbalance and scheduler.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from .ini import entries

NET, IRQS = "net", ("irq", "irqbalance", "scheduler")

# What the net plugin writes to an interface; its other options touch none.
_OF_INTERFACES = ("channels", "coalesce", "features", "mtu", "pause", "ring", "txqueuelen", "wake_on_lan")
# What makes the other plugins move interrupts.
_OF_INTERRUPTS = {"irq": ("affinity",), "irqbalance": ("banned_cpus",), "scheduler": ("isolated_cores", "default_irq_smp_affinity")}
_NOT_OPTIONS = ("type", "enabled", "replace", "devices", "drop")
_VARIABLE = re.compile(r"(?<!\\)\$\{(\w+)\}")


@dataclass(frozen=True)
class TunedUnit:
    """One section of a profile: which plugin it drives, on which devices, and the plugin's options."""

    name: str
    plugin: str
    devices: str = "*"
    enabled: bool = True
    options: Mapping[str, str] = field(default_factory=dict)

    def drives(self, device: str) -> bool:
        """Whether ``devices=`` takes an interface: names with wildcards, those after ``!`` left out."""
        rules = self.devices.replace(",", " ").split()
        wanted = [rule for rule in rules if not rule.startswith("!")] or ["*"]
        unwanted = [rule[1:] for rule in rules if rule.startswith("!")]
        return any(fnmatchcase(device, rule) for rule in wanted) and not any(fnmatchcase(device, rule) for rule in unwanted)


@dataclass(frozen=True)
class TunedProfile:
    """One profile file: its sections, the profiles it is based on, its variables and the files with more of them."""

    sections: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    include: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    variable_files: tuple[str, ...] = ()


def profile_of(text: str) -> TunedProfile:
    """The profile that the text of a ``tuned.conf`` is; a malformed one is what can be read of it."""
    sections: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        if re.fullmatch(r"\s*\[.+\]\s*", line):
            sections.setdefault(line.strip()[1:-1].strip(), {})
    for section, key, value in entries(text):
        sections.setdefault(section, {})[key] = re.split(r"\s#", value)[0].strip()
    main, variables = sections.pop("main", {}), sections.pop("variables", {})
    sections.pop("", None)
    files = tuple(value for key, value in variables.items() if key == "include")
    return TunedProfile(sections, main.get("include", ""), {key: value for key, value in variables.items() if key != "include"}, files)


def names_of(text: str) -> list[str]:
    """The profile names of an ``include=`` or of ``active_profile``: several, in their order; ``-`` before one that may be missing is dropped."""
    return [name for name in (word.lstrip("-") for word in re.split(r"[\s,;]+", text)) if re.fullmatch(r"[\w.-]*\w[\w.-]*", name)]


def variables_of(text: str) -> dict[str, str]:
    """The variables of a variables file."""
    return {key: value for _section, key, value in entries(text)}


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """A value with the variables that are known in their place; tuned's functions stay as they are written."""
    for _depth in range(5):
        text, before = _VARIABLE.sub(lambda match: variables.get(match.group(1), match.group(0)), text), text
        if text == before or len(text) > 4096:
            break
    return text


def merged(profiles: Iterable[TunedProfile], variables: Mapping[str, str]) -> tuple[TunedUnit, ...]:
    """The sections of profiles as one, a later profile over an earlier one, with the variables put in."""
    units: dict[str, TunedUnit] = {}
    for profile in profiles:
        for name, section in profile.sections.items():
            unit = _unit(name, {key: expanded(value, variables) for key, value in section.items()})
            before = units.get(name)
            if before and not _true(section.get("replace", "0")):
                dropped = re.split(r"\s*[,;]\s*", section.get("drop", ""))
                kept = {key: value for key, value in before.options.items() if key not in dropped}
                unit = replace(unit, options={**kept, **unit.options})
            units[name] = unit
    return tuple(units.values())


def _unit(name: str, section: Mapping[str, str]) -> TunedUnit:
    options = {key: value for key, value in section.items() if key not in _NOT_OPTIONS}
    return TunedUnit(name, section.get("type", name), section.get("devices", "*"), _true(section.get("enabled", "1")), options)


def _true(text: str) -> bool:
    return text.lower() in ("1", "true", "yes", "y", "on")


def net_settings(unit: TunedUnit, dynamic: str) -> str:
    """What a section sets of interfaces, in words; nothing when it sets none. ``dynamic`` is ``dynamic_tuning`` of tuned-main.conf."""
    if unit.plugin != NET or not unit.enabled:
        return ""
    said = [f"{key} ({unit.options[key]})" for key in _OF_INTERFACES if unit.options.get(key)]
    if _true(dynamic) and _true(unit.options.get("dynamic", "1")):
        said.append("the link speed, by load")
    return ", ".join(said)


def irq_settings(unit: TunedUnit) -> str:
    """What a section sets of interrupts, in words; nothing when it sets none."""
    if unit.plugin not in IRQS or not unit.enabled:
        return ""
    keys = [key for key in _OF_INTERRUPTS[unit.plugin] if unit.options.get(key)]
    if unit.plugin == "scheduler" and not _true(unit.options.get("irq_process", "1")):
        keys = [key for key in keys if key == "default_irq_smp_affinity"]
    return ", ".join(f"{key} ({unit.options[key]})" for key in keys if unit.options[key] not in ("ignore", "calc"))
