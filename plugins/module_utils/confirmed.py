# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network changes that wait to be confirmed: armed before the first write, kept when the controller reaches the host over a new connection,
and otherwise taken back by the host itself. Knows the domains; what it leaves on the host is in ``host/unconfirmed.py``."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from .domains import DOMAINS, Domain
from .host import deployment, unconfirmed
from .host.machine import Host, Unreadable
from .host.programs import ProgramFailed
from .host.trial import boot_id
from .host.unconfirmed import Change
from .host.units import without_systemd
from .model.setting import DRIFTED, OK, Setting, SpecError, Unsupported

SECONDS = 120


class NotWaiting(Exception):
    """There is no such change to confirm (any more)."""


def story(host: Host) -> str:
    """Where a network change stands, as a line for people; empty where there is none."""
    change = unconfirmed.written_down(host)
    if change is None:
        return ""
    if change.reverted:
        return f"network change of {change.when}: not confirmed, taken back at {change.reverted}\n"
    return f"network change of {change.when}: waits to be confirmed, is taken back {change.seconds} s after it was made\n"


def arm(host: Host, program: bytes, wanted: Iterable[tuple[Domain, Mapping[str, Any], Iterable[Setting]]], seconds: int, when: str) -> str:
    """Start the countdown for what ``wanted`` (domain, specification, its settings as they are now) may lose; its identity.

    Empty where nothing is running that could count down. Raises ``OSError`` or ``ProgramFailed``; then nothing may be written.
    A change that was armed before and still waits keeps its originals: they are the ones that were confirmed.
    """
    if without_systemd(host):
        return ""
    earlier = _waiting(host, boot_id(host))
    originals = {tuple(entry[:3]): entry for entry in (earlier.originals if earlier else ())}
    specs, kept = dict(earlier.specs if earlier else {}), dict(earlier.kept if earlier else {})
    desired = deployment.kept(host)
    for domain, spec, settings in wanted:
        specs[domain.name] = spec
        kept.setdefault(domain.name, desired.get(domain.name))
        for setting in settings:
            if setting.state in (OK, DRIFTED) and not setting.finding:
                originals.setdefault((domain.name, *setting.key), [domain.name, *setting.key, setting.current])
    change = Change(secrets.token_hex(8), boot_id(host), seconds, when, list(originals.values()), specs, kept)
    unconfirmed.write_down(host, change)
    unconfirmed.start_countdown(host, program, seconds)
    return change.identity


def _waiting(host: Host, boot: str) -> Change | None:
    """The change that was armed in a boot and waits still."""
    change = unconfirmed.written_down(host)
    return change if change is not None and change.armed_in == boot and not change.reverted else None


def confirm(host: Host, identity: str) -> None:
    """The change stays; raises ``NotWaiting`` where it was taken back or another one waits."""
    change = unconfirmed.written_down(host)
    if change is None or change.identity != identity:
        raise NotWaiting("no such network change waits to be confirmed on this host")
    if change.reverted:
        raise NotWaiting(f"the network change was not confirmed within {change.seconds} s and the host took it back at {change.reverted}")
    unconfirmed.stop_countdown()
    unconfirmed.forget(host)


def revert(host: Host, when: str) -> list[str]:
    """Put every original of a waiting change back, and the desired state to what it had; what could not be, in words."""
    change = _waiting(host, boot_id(host))
    if change is None:
        return []
    failures: list[str] = []
    # twice: a NIC that gets its channels back resets what was put back before
    for _pass in range(2):
        failures = [failure for name in change.specs for failure in _put_back(host, DOMAINS[name], change)]
    _no_longer_wanted(host, change, when)
    return failures


def end_of_an_earlier_boot(host: Host, when: str) -> None:
    """A change that nobody confirmed before the host booted again: what it set is gone with that boot, and no longer wanted."""
    change = unconfirmed.written_down(host)
    if change is not None and not change.reverted and change.armed_in != boot_id(host):
        _no_longer_wanted(host, change, when)


def _no_longer_wanted(host: Host, change: Change, when: str) -> None:
    unconfirmed.restore_desired(host, change)
    unconfirmed.write_down(host, replace(change, reverted=when))


def _put_back(host: Host, domain: Domain, change: Change) -> list[str]:
    """The originals of one domain, the last written first; what failed, in words."""
    try:
        state = domain.read(host, change.specs[domain.name])
        held = {setting.key: setting.current for setting in domain.plan(state, change.specs[domain.name]).settings}
    except (OSError, ProgramFailed, SpecError, Unreadable) as error:
        return [f"{domain.name}: {error}"]
    failures = []
    for name, control, instance, original in reversed(change.originals):
        if name != domain.name or held.get((control, instance), original) == original:
            continue
        try:
            domain.write(host, state, Setting(control, instance, original))
        except (OSError, ProgramFailed, SpecError, Unsupported) as error:
            failures.append(f"{control} {instance}: {error}")
    return failures
