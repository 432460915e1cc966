# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A setting: one thing of a host that is wanted, what it is now, and what it will be after the next boot.

Pure: no I/O. Every module returns these, and the report reads nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

OK = "ok"
DRIFTED = "drifted"
CHANGED = "changed"
UNSUPPORTED = "unsupported"
ERROR = "error"


class SpecError(ValueError):
    """What is asked for cannot be right on this host (or on any): value, rule and remedy in one sentence."""


@dataclass(frozen=True)
class Setting:
    """One wanted value. ``control`` is the stable id of the kind, ``name`` the instance (an interface, an IRQ, a key).

    ``current`` is the live value, ``persisted`` what the next boot will bring; None means there is none.
    """

    control: str
    name: str
    desired: str | None
    current: str | None = None
    persisted: str | None = None
    state: str = OK
    reason: str = ""
    needs_reboot: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """What identifies the setting on its host."""
        return (self.control, self.name)

    @property
    def live_drift(self) -> bool:
        """Whether the live value has to be written."""
        return self.state == DRIFTED and self.current != self.desired


def judged(setting: Setting) -> Setting:
    """The setting with ``ok`` or ``drifted``, by its live and its persisted value; other states stay."""
    if setting.state not in (OK, DRIFTED):
        return setting
    right = setting.current == setting.desired and setting.persisted == setting.desired
    return replace(setting, state=OK if right else DRIFTED)


def unsupported(control: str, name: str, desired: str | None, reason: str, current: str | None = None) -> Setting:
    """A setting this host has no such thing for; ``reason`` says what is missing."""
    return Setting(control, name, desired, current=current, state=UNSUPPORTED, reason=reason)


def as_dicts(settings: Iterable[Setting]) -> list[dict[str, Any]]:
    """Settings in the form modules return, in the order of the plan."""
    return [asdict(setting) for setting in settings]
