# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waivers: drift that a site knows of and allows for a while. A waiver that is not right waives nothing, and is told. No I/O, and no Ansible."""

from __future__ import annotations

import datetime
import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_document import Row

KEYS = ("control", "hosts", "name", "reason", "owner", "expires")
_EXAMPLE = 'write each as a mapping such as {control: net.offload.*, hosts: "md*", reason: ..., expires: 2026-12-31}'


@dataclass(frozen=True)
class _Rule:
    shown: Mapping[str, Any]
    hosts: tuple[re.Pattern[str], ...]
    control: re.Pattern[str]
    name: re.Pattern[str]
    expired: bool


class Waivers:
    """The waivers of a site. ``shown`` is what the report keeps of each, ``problems`` says in words what is wrong with the others."""

    def __init__(self, rules: list[_Rule], problems: list[str]) -> None:
        self.shown = [rule.shown for rule in rules]
        self.problems = problems
        self._rules = [rule for rule in rules if not rule.expired]
        self._of_host: dict[str, list[_Rule]] = {}

    def waiver_for(self, host: str, row: Row) -> Mapping[str, Any] | None:
        """The first waiver in force for this drift."""
        if host not in self._of_host:
            self._of_host[host] = [rule for rule in self._rules if any(pattern.match(host) for pattern in rule.hosts)]
        return next((rule.shown for rule in self._of_host[host] if rule.control.match(row.control) and rule.name.match(row.name)), None)


def waivers_of(data: Any, today: datetime.date, source: str) -> Waivers:
    """The waivers of a file's content (a list of mappings, or nothing); ``source`` names the file in problems."""
    if data is None:
        return Waivers([], [])
    if not isinstance(data, list):
        return Waivers([], [f"{source}: is no list, so it waives nothing; {_EXAMPLE}"])
    rules, problems = [], []
    for number, item in enumerate(data, 1):
        wrong = _wrong(item)
        if wrong:
            problems.append(f"{source}: waiver {number} waives nothing: {'; '.join(wrong)}")
        else:
            rules.append(_rule(item, today))
    return Waivers(rules, problems)


def waivers_in(text: str, today: datetime.date, source: str) -> Waivers:
    """The waivers of a YAML text."""
    try:
        import yaml  # the other commands do without
    except ImportError:
        return Waivers([], [f"{source}: waives nothing, since this Python has no PyYAML to read it; install it, or use the Python that runs Ansible"])
    try:
        return waivers_of(yaml.safe_load(text), today, source)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return Waivers([], [f"{source}: is no YAML, so it waives nothing: {' '.join(str(error).split())}"])


def _wrong(item: Any) -> list[str]:
    if not isinstance(item, Mapping):
        return [f"{item!r:.80} is no mapping; {_EXAMPLE}"]
    wrong = [f"no such key {key!s:.80}; there are: {', '.join(KEYS)}" for key in item if key not in KEYS]
    wrong += [f"has no {key}; {_EXAMPLE}" for key in ("control", "hosts") if not item.get(key)]
    wrong += [f"{key} is {item[key]!r:.80}; give a text" for key in ("control", "name", "reason", "owner")
              if item.get(key) is not None and not isinstance(item[key], str)]
    hosts = item.get("hosts")
    if hosts and not (isinstance(hosts, str) or (isinstance(hosts, list) and all(isinstance(host, str) and host for host in hosts))):
        wrong.append(f"hosts is {hosts!r:.80}; give a name, or a list of names")
    if item.get("expires") is not None and _date(item["expires"]) is None:
        wrong.append(f"expires is {item['expires']!s:.80}; give the last day on which it holds, such as 2026-12-31")
    elif "expires" in item and item["expires"] is None:
        wrong.append("expires is empty; give a day, or take it out")
    return wrong


def _date(value: Any) -> datetime.date | None:
    if isinstance(value, datetime.date):
        return None if isinstance(value, datetime.datetime) else value
    try:
        return datetime.date.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _rule(item: Mapping[str, Any], today: datetime.date) -> _Rule:
    hosts = [item["hosts"]] if isinstance(item["hosts"], str) else item["hosts"]
    expires = _date(item["expires"]) if "expires" in item else None
    expired = expires is not None and expires < today
    shown = {"control": item["control"], "hosts": list(hosts), "name": item.get("name") or "*", "reason": item.get("reason") or "",
             "owner": item.get("owner") or "", "expires": expires.isoformat() if expires else None, "expired": expired}
    return _Rule(shown, tuple(map(_pattern, hosts)), _pattern(item["control"]), _pattern(item.get("name") or "*"), expired)


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(text))
