# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network changes that wait to be confirmed: armed before the first write, kept when the controller reaches the host over a new connection,
and otherwise taken back by the host itself.

What is armed is on the disk with the boot it was armed in, so that a host which loses its power meanwhile does not set the change again at boot.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from .domains import DOMAINS, Domain
from .host import deployment
from .host.files import write_whole
from .host.machine import Host, Unreadable
from .host.programs import ProgramFailed, output_of
from .host.trial import boot_id
from .host.units import without_systemd
from .model.setting import DRIFTED, OK, Setting, SpecError, Unsupported

SECONDS = 120
RECORD = "/var/lib/lowlatency/unconfirmed.json"
PROGRAM = "/var/lib/lowlatency/revert.pyz"
UNIT = "lowlatency-revert"


class NotWaiting(Exception):
    """There is no such change to confirm (any more)."""


@dataclass(frozen=True)
class Change:
    """What is to be put back: ``originals`` are ``[domain, control, name, value]`` in the order of writing, ``specs`` what each domain was read for,
    ``kept`` what the desired state had of these domains. ``reverted`` says when it was taken back."""

    identity: str
    armed_in: str
    seconds: int
    when: str
    originals: list[list[Any]]
    specs: Mapping[str, Any]
    kept: Mapping[str, Any]
    reverted: str = ""


def waiting(host: Host) -> Change | None:
    """The change that is written down; None where there is none that can be understood."""
    try:
        said = json.loads(host.read_if_there(RECORD) or "null")
        return Change(**said) if said else None
    except (ValueError, TypeError):
        return None


def story(host: Host) -> str:
    """Where a network change stands, as a line for people; empty where there is none."""
    change = waiting(host)
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
    before = waiting(host)
    earlier = before if before is not None and before.armed_in == boot_id(host) and not before.reverted else None
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
    _stop_countdown()
    _write(host, change)
    write_whole(host, PROGRAM, program, 0o700)
    output_of("systemd-run", f"--unit={UNIT}", "--collect", f"--on-active={seconds}s", "--timer-property=AccuracySec=1s",
              "--description=Back to the network settings before: nobody confirmed the new ones", deployment.interpreter(), PROGRAM, "revert")
    return change.identity


def confirm(host: Host, identity: str) -> None:
    """The change stays; raises ``NotWaiting`` where it was taken back or another one waits."""
    change = waiting(host)
    if change is None or change.identity != identity:
        raise NotWaiting("no such network change waits to be confirmed on this host")
    if change.reverted:
        raise NotWaiting(f"the network change was not confirmed within {change.seconds} s and the host took it back at {change.reverted}")
    _stop_countdown()
    _forget(host)


def revert(host: Host, when: str) -> list[str]:
    """Put every original of a waiting change back, and the desired state to what it had; what could not be, in words."""
    change = waiting(host)
    if change is None or change.reverted:
        return []
    failures = []
    # twice: a NIC that gets its channels back resets what was put back before
    for _pass in range(2):
        failures = [failure for name in change.specs for failure in _put_back(host, DOMAINS[name], change)]
    _restore_desired(host, change)
    _write(host, replace(change, reverted=when))
    return failures


def forget_after_boot(host: Host) -> bool:
    """A change that nobody confirmed before the host booted again: the desired state goes back to what it had. Whether there was one."""
    change = waiting(host)
    if change is None or change.reverted or change.armed_in == boot_id(host):
        return False
    _restore_desired(host, change)
    _forget(host)
    return True


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


def _restore_desired(host: Host, change: Change) -> None:
    """The desired state as it was of these domains; other domains keep what they have."""
    desired = deployment.kept(host)
    for name, before in change.kept.items():
        desired.pop(name, None)
        if before is not None:
            desired[name] = before
    if host.exists(deployment.DESIRED):
        write_whole(host, deployment.DESIRED, deployment.desired_text(desired), 0o644)


def _stop_countdown() -> None:
    for unit in (f"{UNIT}.timer", f"{UNIT}.service"):
        with contextlib.suppress(ProgramFailed):
            output_of("systemctl", "stop", unit)


def _write(host: Host, change: Change) -> None:
    write_whole(host, RECORD, (json.dumps(asdict(change), sort_keys=True) + "\n").encode(), 0o600)


def _forget(host: Host) -> None:
    for path in (PROGRAM, RECORD):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(host.path(path))
