# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A command line on trial: the record of it, and the timer by which the host itself goes back when nobody confirms it.

Record and units are there before the entry is armed, and go when the trial is over.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import asdict, dataclass, replace

from ..model.cmdline import TRIAL_MARK, Tokens, Trial, value_in
from ..model.setting import OwnedFile
from .deployment import PROGRAM
from .files import write_whole
from .machine import Host
from .programs import ProgramFailed, output_of

RECORD = "/var/lib/lowlatency/trial.json"
UNIT = "lowlatency-trial"
UNITS = "/etc/systemd/system"
SERVICE = f"{UNITS}/{UNIT}.service"
TIMER = f"{UNITS}/{UNIT}.timer"
# sysinit: the countdown must not wait for anything a wrong command line could keep from starting.
ENABLED = f"{UNITS}/sysinit.target.wants/{UNIT}.timer"
PANIC_SECONDS = 10
# How long each way of rebooting gets before a harder one is tried.
PATIENCE = 90

_SERVICE_TEXT = f"""\
# Owned by lowlatency.fleet: here while a kernel command line is on trial.
[Unit]
Description=Back to the command line before: nobody confirmed this one
DefaultDependencies=no
ConditionKernelCommandLine={TRIAL_MARK}
FailureAction=reboot-force

[Service]
Type=oneshot
ExecStart={PROGRAM} trial-expired
"""
_TIMER_TEXT = f"""\
# Owned by lowlatency.fleet: here while a kernel command line is on trial.
[Unit]
Description=The time in which a command line on trial has to be confirmed
DefaultDependencies=no
ConditionKernelCommandLine={TRIAL_MARK}

[Timer]
OnBootSec=%d
AccuracySec=1s
"""


@dataclass(frozen=True)
class Record:
    """What is on trial: ``own`` arguments, the whole command line ``tokens``, the boot it was armed in, and whether its time ran out."""

    identity: str
    own: Tokens
    tokens: Tokens
    armed_in: str
    seconds: int
    when: str
    expired: bool = False

    @property
    def extra(self) -> Tokens:
        """What only the trial boot has: a mark to know it by, and a panic that reboots."""
        return (f"{TRIAL_MARK}={self.identity}", f"panic={PANIC_SECONDS}")


def new_record(host: Host, own: Tokens, seconds: int, when: str) -> Record:
    """A trial of ``own`` arguments, to begin with the next boot."""
    boot = boot_id(host)
    return Record(f"{int(time.time()):x}{boot[:6]}", own, (), boot, seconds, when)


def record(host: Host) -> Record | None:
    """The trial that is written down; None where there is none, or none that can be understood."""
    try:
        said = json.loads(host.read_if_there(RECORD) or "null")
        return Record(**{**said, "own": tuple(said["own"]), "tokens": tuple(said["tokens"])}) if said else None
    except (ValueError, TypeError, KeyError):
        return None


def boot_id(host: Host) -> str:
    """Identity of this boot."""
    return host.read_if_there("/proc/sys/kernel/random/boot_id") or ""


def trial_of(host: Host, running: Tokens) -> Trial:
    """Where the trial stands, by the record, the running command line and the identity of this boot."""
    known = record(host)
    if known is None:
        return Trial()
    if value_in(running, TRIAL_MARK) == known.identity:
        return Trial("booted", known.own, f"on trial and not confirmed: the host goes back {known.seconds} s after its boot")
    if known.armed_in == boot_id(host):
        return Trial("armed", known.own, "the next boot tries it, once")
    why = f"nobody confirmed it within {known.seconds} s" if known.expired else "it did not come up (a panic, a hang, or a reset), or could not be reached"
    return Trial("failed", known.own, f"the trial boot armed at {known.when} failed: {why}; the host runs its old command line again")


def begin(host: Host, known: Record) -> None:
    """Write the record and the units that watch over it."""
    write_whole(host, RECORD, (json.dumps(asdict(known), sort_keys=True) + "\n").encode(), 0o600)
    write_whole(host, SERVICE, _SERVICE_TEXT.encode(), 0o644)
    write_whole(host, TIMER, (_TIMER_TEXT % known.seconds).encode(), 0o644)
    os.makedirs(host.path(os.path.dirname(ENABLED)), mode=0o755, exist_ok=True)
    if not os.path.lexists(host.path(ENABLED)):
        os.symlink(f"../{UNIT}.timer", host.path(ENABLED))
    _reload(host)


def end(host: Host, *, forget: bool = True) -> None:
    """The trial is over, whatever came of it: nothing waits for it any more. Its record stays unless it is to be forgotten."""
    if host.live and host.is_dir("/run/systemd/system"):
        with contextlib.suppress(ProgramFailed):
            output_of("systemctl", "stop", f"{UNIT}.timer")
    for path in (ENABLED, TIMER, SERVICE, *([RECORD] if forget else [])):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(host.path(path))
    _reload(host)


def files() -> tuple[OwnedFile, ...]:
    """What a trial writes beside the boot loader's files, for the journal."""
    return tuple(OwnedFile("cmdline.trial", path, b"") for path in (SERVICE, TIMER))


def expire(host: Host) -> bool:
    """Write down that the time ran out; False when this boot is not on trial (any more)."""
    known = record(host)
    if known is None or trial_of(host, tuple(host.read("/proc/cmdline").split())).state != "booted":
        return False
    write_whole(host, RECORD, (json.dumps(asdict(replace(known, expired=True)), sort_keys=True) + "\n").encode(), 0o600)
    return True


def reboot() -> None:
    """Reboot in order, or by force where order takes too long."""
    for how in ((), ("--force",), ("--force", "--force")):
        with contextlib.suppress(ProgramFailed):
            output_of("systemctl", "reboot", *how)
        time.sleep(PATIENCE)


def _reload(host: Host) -> None:
    if host.live and host.is_dir("/run/systemd/system"):
        output_of("systemctl", "daemon-reload")
