# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A setting: one thing of a host that is wanted, what it is now, and what it will be after the next boot.

Pure: no I/O. Every module returns these, and the report reads nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

OK = "ok"
DRIFTED = "drifted"
CHANGED = "changed"
UNSUPPORTED = "unsupported"
ERROR = "error"


class SpecError(ValueError):
    """What is asked for cannot be right on this host (or on any): value, rule and remedy in one sentence."""


class Unsupported(Exception):
    """Only the attempt to write showed that this host has no such thing; the message says what is missing."""


@dataclass(frozen=True)
class Setting:
    """One wanted value. ``control`` is the stable id of the kind, ``name`` the instance (an interface, an IRQ, a key).

    ``current`` is the live value, ``persisted`` what the next boot will bring; None means there is none. A ``finding`` is only
    told: nothing this collection writes would bring it, and its reason names the remedy.
    """

    control: str
    name: str
    desired: str | None
    current: str | None = None
    persisted: str | None = None
    state: str = OK
    reason: str = ""
    needs_reboot: bool = False
    finding: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """What identifies the setting on its host."""
        return (self.control, self.name)

    @property
    def subject(self) -> str:
        """The setting in words, for messages: kind and instance, once where they are the same."""
        return self.name if self.control == self.name else f"{self.control} {self.name}"

    @property
    def live_drift(self) -> bool:
        """Whether the live value has to be written."""
        return self.state == DRIFTED and self.current != self.desired and not self.finding

    @property
    def waits(self) -> bool:
        """Whether it is not what is wanted, and only a boot can bring that."""
        return self.needs_reboot and self.live_drift


def judged(setting: Setting) -> Setting:
    """The setting with ``ok`` or ``drifted``, by its live and its persisted value; other states stay."""
    if setting.state not in (OK, DRIFTED):
        return setting
    right = setting.current == setting.desired and (setting.finding or setting.persisted == setting.desired)
    return replace(setting, state=OK if right else DRIFTED)


def judged_live(setting: Setting, reason: str) -> Setting:
    """As ``judged``, by the live value alone: for a host on which nothing can make it last, which ``reason`` says."""
    if setting.state not in (OK, DRIFTED):
        return setting
    return replace(setting, state=OK if setting.current == setting.desired else DRIFTED, reason=setting.reason or reason)


def after_writing(before: Setting, after: Setting, refusal: str = "") -> Setting:
    """The verdict on a setting that was drifted: what the host holds now decides, not what a write returned."""
    if before.state != DRIFTED or after.finding or after.state not in (OK, DRIFTED):
        return after
    if after.state == OK:
        return replace(after, state=CHANGED)
    why = refusal or after.reason or "written, but the host did not keep it"
    return replace(after, state=ERROR, reason=why)


def unsupported(control: str, name: str, desired: str | None, reason: str, current: str | None = None) -> Setting:
    """A setting this host has no such thing for; ``reason`` says what is missing."""
    return Setting(control, name, desired, current=current, state=UNSUPPORTED, reason=reason)


def as_dicts(settings: Iterable[Setting]) -> list[dict[str, Any]]:
    """Settings in the form modules return, in the order of the plan."""
    return [asdict(setting) for setting in settings]


@dataclass(frozen=True)
class OwnedFile:
    """A file this collection owns as a whole: what it is to hold, byte for byte."""

    control: str
    path: str
    content: bytes
    mode: int = 0o644


@dataclass(frozen=True)
class Plan:
    """What a domain wants of a host: settings in the order of writing, and the files that make them last."""

    settings: tuple[Setting, ...] = ()
    files: tuple[OwnedFile, ...] = ()


def options_given(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A specification without the options that were left out; what a user's own mapping holds stays, nulls too."""
    return {key: [options_given(item) if isinstance(item, dict) else item for item in value] if isinstance(value, list) else value
            for key, value in spec.items() if value is not None}


def merged_spec(parts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """One specification from those of several parts (roles); raises ``SpecError`` where two disagree."""
    merged: dict[str, Any] = {}
    said_by: dict[tuple[str, ...], str] = {}
    for part in sorted(parts):
        _merge_into(merged, parts[part], part, (), said_by)
    return merged


def _merge_into(target: dict[str, Any], source: dict[str, Any], part: str, path: tuple[str, ...],
                said_by: dict[tuple[str, ...], str]) -> None:
    for key, value in source.items():
        here = (*path, key)
        if value is None:
            continue
        if key not in target or target[key] is None:
            target[key] = _copy(value)
            said_by[here] = part
        elif isinstance(value, dict) and isinstance(target[key], dict):
            _merge_into(target[key], value, part, here, said_by)
        elif isinstance(value, list) and isinstance(target[key], list):
            _merge_items(target[key], value, part, here, said_by)
        elif not _same(target[key], value):
            raise SpecError(f"{' '.join(here)}: {_sayer(said_by, here)} wants {target[key]!r}, {part} wants {value!r}; "
                            "let one of them say it")


def _same(one: Any, other: Any) -> bool:
    """Whether two values mean the same: ``1`` and ``"1"`` do, ``1`` and ``true`` do not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return " ".join(str(one).split()) == " ".join(str(other).split())


def _merge_items(target: list[Any], items: list[Any], part: str, path: tuple[str, ...], said_by: dict[tuple[str, ...], str]) -> None:
    """Items that are not there yet; an item of the same name is merged with what this part says of it."""
    for item in items:
        same = next((other for other in target if item_name(other) == item_name(item)), None)
        if same is None:
            target.append(_copy(item))
        elif isinstance(item, dict) and isinstance(same, dict):
            _merge_into(same, item, part, (*path, item_name(item)), said_by)


def updated_spec(kept: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """What a part kept with what it says now over it: mappings by key, lists by item, NICs, mounts and pages by their name."""
    updated = dict(kept)
    for key, value in new.items():
        before = updated.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            updated[key] = updated_spec(before, value)
        elif isinstance(value, list) and isinstance(before, list):
            named = {item_name(item) for item in value}
            updated[key] = [item for item in before if item_name(item) not in named] + value
        else:
            updated[key] = value
    return updated


# What names an item of a list: a selection of routes, by all of it; a NIC, a mount, the pages of one size on one node, the connections of
# a service to some peers.
_SELECTION = ("to", "within", "interface", "table")
_NAMES = (("interface", "pci", "mac"), ("path",), ("size", "node"), ("unit", "peers"))


def item_name(item: Any) -> str:
    """What an item of a list goes by; those of one name are the same item."""
    if not isinstance(item, dict):
        return str(item)
    if "to" in item:
        return " ".join(f"{key} {item[key]}" for key in _SELECTION if item.get(key) not in (None, ""))
    names = (" ".join(str(item[key]) for key in keys if item.get(key) not in (None, "")) for keys in _NAMES)
    return next((name for name in names if name), str(sorted(item.items(), key=str)))


def without_items(desired: Mapping[str, Any], kept: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """A desired state ``{domain: {part: specification}}``; of the items of lists that go by one of ``names``, what was kept of them, if anything."""
    return {domain: {part: {option: _without_named(value, ((kept.get(domain) or {}).get(part) or {}).get(option), names) for option, value in spec.items()}
                     for part, spec in parts.items()} for domain, parts in desired.items()}


def _without_named(value: Any, kept: Any, names: frozenset[str]) -> Any:
    if not names or not isinstance(value, list):
        return value
    before = {item_name(item): item for item in kept} if isinstance(kept, list) else {}
    items = [before.get(item_name(item)) if _goes_by(item, names) else item for item in value]
    return [item for item in items if item is not None]


def _goes_by(item: Any, names: frozenset[str]) -> bool:
    """Whether the name of a selection, or one of the values that name another item, is among ``names``."""
    if isinstance(item, dict) and "to" in item:
        return item_name(item) in names
    return isinstance(item, dict) and any(str(item.get(key)) in names for keys in _NAMES for key in keys if item.get(key) not in (None, ""))


def _sayer(said_by: dict[tuple[str, ...], str], path: tuple[str, ...]) -> str:
    while path and path not in said_by:
        path = path[:-1]
    return said_by.get(path, "another part")


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items() if item is not None}
    return [_copy(item) for item in value] if isinstance(value, list) else value
