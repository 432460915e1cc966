# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""BIOS attributes as Redfish gives them against what a site wants: settings in the common contract, and what to set. Pure but for reading the vendors' file."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.partition import OFF
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import (
    DRIFTED,
    Setting,
    SpecError,
    judged,
    unsupported,
)
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.profiles import LOADER

FILE = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "roles", "bios_redfish", "files", "vendors.yml")
CONTROL = "bios.redfish"
BMC = f"{CONTROL}.bmc"
# Items after whose change the host has other CPUs or nodes: what was planned before is not for it.
TOPOLOGY = ("smt", "node_interleaving", "sub_numa_clustering", "nodes_per_socket")
_KEYS = ("attribute", "needs")
# Supermicro adds the number of the question: SMTControl#0037.
_NUMBER = re.compile(r"#[0-9A-Fa-f]{4}$")


@functools.cache
def vendors() -> dict[str, Any]:
    """``{vendor: {manufacturers, items: {item: [candidate]}}}`` of ``roles/bios_redfish/files/vendors.yml``."""
    with open(FILE, encoding="utf-8") as stream:
        known: dict[str, Any] = yaml.load(stream, Loader=LOADER)
    return known


def vendor_of(manufacturer: str) -> str:
    """The vendor of the file that a system's ``Manufacturer`` is; empty for others."""
    said = manufacturer.strip().lower()
    return next((vendor for vendor, entry in vendors().items() if any(said.startswith(name) for name in entry["manufacturers"])), "")


def words_of(item: str) -> list[str]:
    """The words that any vendor knows for an item; none for what is no item."""
    return sorted({word for entry in vendors().values() for candidate in entry["items"].get(item, []) for word in candidate if word not in _KEYS})


def wanted_items(items: Mapping[str, Any], smt_policy: str) -> dict[str, str]:
    """``{item: word}``: what is asked for, and hyper-threading off where that is the host's policy. YAML's truth values are on and off.

    Raises ``SpecError``.
    """
    wanted = {str(item): {True: "on", False: "off"}[word] if isinstance(word, bool) else str(word) for item, word in items.items() if word is not None}
    if smt_policy == OFF:
        wanted.setdefault("smt", OFF)
    names = sorted({name for entry in vendors().values() for name in entry["items"]})
    for item, word in wanted.items():
        if item not in names:
            raise SpecError(f"bios item {item}: there are: {', '.join(names)}; any attribute can be given by its own name (bios_redfish_attributes)")
        if word not in words_of(item):
            raise SpecError(f"bios item {item}: {word!r} is none of {', '.join(words_of(item))}")
    return wanted


@dataclass(frozen=True)
class Answer:
    """What a BMC said: the attributes that are in force, those that wait (None: could not be read), and who made the system."""

    attributes: Mapping[str, Any]
    pending: Mapping[str, Any] | None
    vendor: str


@dataclass(frozen=True)
class Verdict:
    """``settings`` in the common contract, and ``{attribute: value}`` that has to be set for them."""

    settings: tuple[Setting, ...]
    to_set: Mapping[str, Any]


def bmc_setting(state: str, reason: str) -> Setting:
    """The one setting that stands for a BMC that could not be asked."""
    return Setting(BMC, "BMC", None, state=state, reason=reason, finding=True)


def judge(answer: Answer, items: Mapping[str, str], attributes: Mapping[str, Any], *, may_set: bool) -> Verdict:
    """Each item and each attribute wanted by its own name against what the BIOS has and what waits for its next boot."""
    entry = vendors().get(answer.vendor, {"items": {}})
    settings: list[Setting] = []
    to_set: dict[str, Any] = {}
    for item, word in items.items():
        candidates = [candidate for candidate in entry["items"].get(item, []) if word in candidate]
        found = next(((name, candidate) for candidate in candidates for name in answer.attributes if _NUMBER.sub("", name) == candidate["attribute"]), None)
        if found is None:
            looked = " or ".join(candidate["attribute"] for candidate in candidates)
            why = f"this BIOS has no {looked}" if looked else f"nothing is known of {item} = {word} of {answer.vendor or 'this vendor'}"
            settings.append(unsupported(f"{CONTROL}.{item}", f"BIOS {item}", word, f"{why}; give the attribute by its own name (bios_redfish_attributes)"))
            continue
        name, candidate = found
        value = _spelling(candidate, word, answer.attributes[name])
        settings.append(_setting(answer, item, name, value, candidate.get("needs") or {}, items, to_set, may_set=may_set))
    for name, value in attributes.items():
        if name in answer.attributes:
            settings.append(_setting(answer, name, name, value, {}, items, to_set, may_set=may_set))
        else:
            settings.append(unsupported(f"{CONTROL}.{name}", f"BIOS {name}", str(value), "this BIOS has no such attribute"))
    return Verdict(tuple(settings), to_set)


def _spelling(candidate: Mapping[str, Any], word: str, now: Any) -> Any:
    """The value of a word in the spelling of what the BIOS says now; that itself where it means the word."""
    for values in [candidate[word], *(values for key, values in candidate.items() if key not in _KEYS)]:
        for place, value in enumerate(values):
            if _same(value, now):
                return now if values is candidate[word] else candidate[word][min(place, len(candidate[word]) - 1)]
    return candidate[word][0]


def _same(one: Any, other: Any) -> bool:
    return str(one).strip().lower() == str(other).strip().lower()


def _setting(answer: Answer, item: str, name: str, value: Any, needs: Mapping[str, Any], items: Mapping[str, str], to_set: dict[str, Any], *,
             may_set: bool) -> Setting:
    now = answer.attributes[name]
    later = None if answer.pending is None else answer.pending.get(name, now)
    setting = Setting(f"{CONTROL}.{item}", f"BIOS {item}", str(value), _as(value, now), None if later is None else _as(value, later),
                      needs_reboot=True, finding=not may_set)
    if setting.current == setting.desired and (later is None or setting.persisted == setting.desired):
        return judged(Setting(setting.control, setting.name, setting.desired, setting.current, setting.desired, reason=f"{name}"))
    missing = [f"{key} is {answer.attributes.get(key)}" for key, needed in needs.items()
               if not _same((answer.pending or {}).get(key, answer.attributes.get(key)), needed)]
    if later is not None and setting.persisted == setting.desired:
        why = "it is set and waits for the next boot of the host"
    elif missing:
        needed = ", ".join(f"{key} is {value}" for key, value in needs.items())
        why = f"it can only be set where {needed}, and {', '.join(missing)} (power_profile: custom), or follows from that profile"
    else:
        to_set[name] = value
        why = "" if may_set else "bios_redfish_set allows to set it"
    return Setting(setting.control, setting.name, setting.desired, setting.current, setting.persisted, state=DRIFTED,
                   reason="; ".join(part for part in (f"attribute {name}", why) if part), needs_reboot=True, finding=not may_set)


def _as(wanted: Any, found: Any) -> str:
    """A value as text, in the spelling of the wanted one where they are the same."""
    return str(wanted) if _same(wanted, found) else str(found)


def failure_words(message: str, address: str, ca_path: str) -> str:
    """What went wrong with a BMC and the remedy, by the message of community.general's redfish modules."""
    text = message.lower()
    if re.search(r"http error 40[13]\b", text):
        return f"the BMC at {address} refused the name or the password (bios_redfish_username, bios_redfish_password)"
    if "certificate_verify_failed" in text or "certificate verify failed" in text or ("ssl" in text and "verify" in text):
        named = f"the CA in {ca_path} did not sign it" if ca_path else "name the file of the site's CA (bios_redfish_ca_path)"
        return f"the certificate of the BMC at {address} is not trusted: {named}"
    if "timed out" in text or "timeout" in text:
        return f"the BMC at {address} did not answer in time (bios_redfish_timeout); it may be busy or restarting"
    if "refused" in text or "unreachable" in text or "no route" in text or "name or service" in text or "resolution" in text:
        return f"the BMC at {address} cannot be reached: {_short(message)}; check address, power and the management network"
    if "http error 5" in text:
        return f"the BMC at {address} failed: {_short(message)}; try again, or reset the BMC"
    return f"the BMC at {address} gave no answer that could be understood: {_short(message)}"


def _short(message: str) -> str:
    """The end of a message, where the reason is, in one line."""
    line = " ".join(message.split())
    return line if len(line) < 200 else f"...{line[-200:]}"
