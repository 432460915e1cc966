# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host agent: ``lowlatency verify|apply|status|revert|watch`` on a host with no controller, on the desired state it keeps.

Exit code 0: right, 1: drifted, 2: could not tell. systemd starts ``apply`` at boot, and for the domains of NICs after an event of one.
It runs from a zipapp of these very files. It never tries or settles a command line; ``trial-expired``, which a timer starts, takes the
host back from one that nobody confirmed, ``revert`` from network settings that nobody confirmed, and ``watch`` tells of routes that lack something.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from . import confirmed, runner
from .domains import DOMAINS
from .host import deployment, route_watch, trial
from .host.files import Busy, locked
from .host.journal import BrokenJournal
from .host.machine import Host, Unreadable
from .host.programs import ProgramFailed
from .model.setting import CHANGED, DRIFTED, ERROR, OK, UNSUPPORTED, Setting, as_dicts

RIGHT, WRONG, UNKNOWN = 0, 1, 2
# What is applied once network settings were taken back: channels that changed have new interrupts.
AFTER_REVERT = ("irq_affinity",)
# How long a run that holds the lock may still take to confirm what is on trial.
CONFIRMING_SECONDS = 120
# A NIC that has just come up answers in full only when its link has settled: the pause before the next of several tries.
SETTLING_SECONDS = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="lowlatency", description="Verify or apply the low-latency settings kept on this host.",
                                     epilog="Exit code 0: right, 1: drifted, 2: could not tell.")
    parser.add_argument("command", choices=("verify", "apply", "status", "revert", "watch", "trial-expired"))
    parser.add_argument("--json", action="store_true", help="print the settings as JSON")
    parser.add_argument("--only", type=_domains, default=(), metavar="DOMAIN,...", help=f"these domains only, of {', '.join(DOMAINS)}")
    parser.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="how long apply waits for another run that writes on this host")
    parser.add_argument("--tries", type=int, default=1, metavar="N", help="how often apply is tried at most, until nothing is an error")
    options = parser.parse_args(arguments)
    if options.command == "trial-expired":
        return _back_from_trial(Host())
    if options.command == "revert":
        return _reverted(Host())
    if options.command == "watch":
        return _watched(Host())
    try:
        outcome = _tried(options.command, options.only, options.wait, options.tries)
    except (runner.Refused, Unreadable, BrokenJournal, OSError) as error:
        sys.stderr.write(f"lowlatency: {error}\n")
        return UNKNOWN
    _print(outcome, as_json=options.json, everything=options.command == "status")
    if options.command == "status" and not options.json:
        sys.stdout.write(deployment.watch_in_words(Host()) + confirmed.story(Host()))
    # what is drifted still after "apply" waits for a boot
    return RIGHT if options.command == "apply" and not outcome.errors else exit_code(outcome)


def exit_code(outcome: runner.Outcome) -> int:
    """The verdict on a host as one number: what could not be told weighs more than what drifted."""
    if outcome.errors:
        return UNKNOWN
    return WRONG if any(setting.state == DRIFTED for setting in outcome.settings) else RIGHT


def _back_from_trial(host: Host) -> int:
    """Reboot into the old command line, unless a controller has confirmed this one or is about to."""
    with _lock_or_go_on(host):
        expired = trial.expire(host)
    if expired:
        sys.stderr.write("lowlatency: nobody confirmed the command line on trial; rebooting into the one before\n")
        trial.reboot()
    return RIGHT


def _reverted(host: Host) -> int:
    """Take network settings back that nobody confirmed, and place the interrupts of what that made anew."""
    with _lock_or_go_on(host):
        failures = confirmed.revert(host, runner.now())
    try:
        if any(name in deployment.kept(host) for name in AFTER_REVERT):
            failures += [setting.reason for setting in runner.apply_kept(host, AFTER_REVERT, CONFIRMING_SECONDS).errors]
    except (runner.Refused, Unreadable, BrokenJournal, OSError) as error:
        failures.append(str(error))
    for failure in failures:
        sys.stderr.write(f"lowlatency: could not be put back: {failure}\n")
    return UNKNOWN if failures else RIGHT


def _watched(host: Host) -> int:
    """Watch routes until there are none to watch. With another program or desired state, begin anew as that program."""
    try:
        if route_watch.watch(host):
            os.execv(deployment.PROGRAM, [deployment.PROGRAM, "watch"])
    except (Unreadable, OSError) as error:
        sys.stderr.write(f"lowlatency: {error}\n")
        return UNKNOWN
    return RIGHT


@contextlib.contextmanager
def _lock_or_go_on(host: Host) -> Iterator[None]:
    """Hold the lock; where a run keeps it for too long, go on without: it may be that run which cut the host off."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(Busy):
            stack.enter_context(locked(host, CONFIRMING_SECONDS))
        yield


def _domains(text: str) -> tuple[str, ...]:
    """The names of ``--only``; argparse tells of the one it refuses."""
    names = tuple(text.split(","))
    for name in names:
        if name not in DOMAINS:
            raise argparse.ArgumentTypeError(f"no domain {name!r}; there are: {', '.join(DOMAINS)}")
    return names


def _tried(command: str, names: Sequence[str], patience: float, tries: int) -> runner.Outcome:
    """The outcome of the last try; raises as that does."""
    outcome = _outcome(command, names, patience)
    for _again in range(1, tries if command == "apply" else 1):
        if not outcome.errors:
            break
        time.sleep(SETTLING_SECONDS)
        outcome = _outcome(command, names, patience)
    return outcome


def _outcome(command: str, names: Sequence[str], patience: float) -> runner.Outcome:
    host = Host()
    if command != "apply":
        outcome = runner.verify(runner.begin_kept(host, names))
        return outcome if names else replace(outcome, settings=(*outcome.settings, *_standing(host)))
    if os.geteuid() != 0:
        raise runner.Refused("apply needs root")
    return runner.apply_kept(host, names, patience)


def _standing(host: Host) -> tuple[Setting, ...]:
    """Whether this agent is started at boot and by NICs. It says so, and mends it never: that takes the controller."""
    try:
        return deployment.standing(host)
    except (ProgramFailed, Unreadable) as error:
        return (Setting("agent", "all", None, state=ERROR, reason=str(error)),)


def _print(outcome: runner.Outcome, *, as_json: bool, everything: bool) -> None:
    shown = [setting for setting in outcome.settings if everything or setting.state not in (OK, UNSUPPORTED)]
    counts = {state: sum(setting.state == state for setting in outcome.settings) for state in (OK, CHANGED, DRIFTED, UNSUPPORTED, ERROR)}
    if as_json:
        text = json.dumps(as_dicts(outcome.settings), indent=1)
    else:
        text = "\n".join([*map(_line, shown), ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "nothing of this is wanted here"])
    sys.stdout.write(text + "\n")


def _line(setting: Setting) -> str:
    return (f"{setting.state:<11} {setting.subject}: is {setting.current or 'not set'}, after boot {setting.persisted or 'not set'}, "
            f"wanted {setting.desired or 'not set'}{'  (' + setting.reason + ')' if setting.reason else ''}")
