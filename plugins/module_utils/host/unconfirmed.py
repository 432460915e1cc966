# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A network change that waits to be confirmed, as a thing on the host: what is written down of it, the countdown, and the program that it starts.

It is on the disk with the boot it was armed in, so that a host which loses its power meanwhile does not set the change again at boot.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .deployment import DESIRED, desired_text, interpreter, kept
from .files import write_whole
from .machine import Host
from .programs import ProgramFailed, output_of

RECORD = "/var/lib/lowlatency/unconfirmed.json"
PROGRAM = "/var/lib/lowlatency/revert.pyz"
UNIT = "lowlatency-revert"


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


def written_down(host: Host) -> Change | None:
    """The change that is written down; None where there is none that can be understood."""
    try:
        said = json.loads(host.read_if_there(RECORD) or "null")
        return Change(**said) if said else None
    except (ValueError, TypeError):
        return None


def write_down(host: Host, change: Change) -> None:
    """Write a change down, in place of another one; raises ``OSError``."""
    write_whole(host, RECORD, (json.dumps(asdict(change), sort_keys=True) + "\n").encode(), 0o600)


def start_countdown(host: Host, program: bytes, seconds: int) -> None:
    """Have the program take the change back in so many seconds, in place of an earlier countdown; raises ``OSError`` or ``ProgramFailed``."""
    stop_countdown()
    write_whole(host, PROGRAM, program, 0o700)
    output_of("systemd-run", f"--unit={UNIT}", "--collect", f"--on-active={seconds}s", "--timer-property=AccuracySec=1s",
              "--description=Back to the network settings before: nobody confirmed the new ones", interpreter(), PROGRAM, "revert")


def stop_countdown() -> None:
    """Nothing takes the change back any more."""
    for unit in (f"{UNIT}.timer", f"{UNIT}.service"):
        with contextlib.suppress(ProgramFailed):
            output_of("systemctl", "stop", unit)


def forget(host: Host) -> None:
    """The change is no longer written down, and its program gone."""
    for path in (PROGRAM, RECORD):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(host.path(path))


def restore_desired(host: Host, change: Change) -> None:
    """The desired state as it was of the domains of a change; other domains keep what they have. Raises ``OSError`` or ``Unreadable``."""
    desired = kept(host)
    for name, before in change.kept.items():
        desired.pop(name, None)
        if before is not None:
            desired[name] = before
    if host.exists(DESIRED):
        write_whole(host, DESIRED, desired_text(desired), 0o644)
