# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host agent as a thing on the host: its program, the desired state it keeps, and the unit that runs it at boot."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..model.setting import OwnedFile, Plan, Setting, unsupported
from .machine import Host, Unreadable
from .programs import output_of
from .units import without_systemd

PROGRAM = "/usr/local/sbin/lowlatency"
DESIRED = "/etc/lowlatency/desired.json"
UNIT = "lowlatency.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"
ENABLED = f"/etc/systemd/system/multi-user.target.wants/{UNIT}"
FORMAT = 1

_UNIT_TEXT = f"""\
# Owned by lowlatency.fleet: rewritten as a whole.
[Unit]
Description=Low-latency settings that Linux has no file for
Documentation=file:{DESIRED}
After=network.target network-online.target irqbalance.service systemd-sysctl.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={PROGRAM} apply

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class AgentState:
    """Whether the unit runs at boot, and why there can be none."""

    enabled: bool
    impossible: str


def kept(host: Host) -> dict[str, dict[str, Any]]:
    """``{domain: {part: specification}}`` that the host keeps; empty where it keeps none. Raises ``Unreadable``."""
    if not host.exists(DESIRED):
        return {}
    try:
        document = json.loads(host.read(DESIRED))
    except ValueError as error:
        raise Unreadable(DESIRED, f"not a desired state ({error}); move it away and run the playbook again") from error
    desired = document.get("desired") if isinstance(document, dict) else None
    if not isinstance(desired, dict) or not _is_desired(desired):
        raise Unreadable(DESIRED, "not a desired state (domains with their parts); move it away and run the playbook again")
    return dict(desired)


def _is_desired(desired: Mapping[str, Any]) -> bool:
    """``{domain: {part: {option: value}}}``, whatever the options are."""
    return all(
        isinstance(parts, dict) and all(isinstance(spec, dict) for spec in parts.values()) for parts in desired.values())


def desired_text(desired: Mapping[str, Any]) -> bytes:
    """The file of a desired state: sorted, so that equal states are equal bytes."""
    return (json.dumps({"format": FORMAT, "desired": desired}, indent=1, sort_keys=True) + "\n").encode()


def impossible(host: Host) -> str:
    """Why no agent can run at boot here, or nothing."""
    return without_systemd(host) if host.live else ""


def in_force(host: Host) -> bool:
    """Whether what ``kept`` says will be applied at the next boot."""
    return os.path.lexists(host.path(ENABLED)) and host.exists(PROGRAM) and host.exists(UNIT_FILE)


def interpreter() -> str:
    """The Python of the agent: the distribution's, which outlives this run's, if it is recent enough."""
    version = os.path.basename(os.path.realpath("/usr/bin/python3"))[len("python3."):]
    return "/usr/bin/python3" if version.isdigit() and int(version) >= 9 else sys.executable


def read(host: Host, spec: Mapping[str, Any]) -> AgentState:
    """The state of the agent's unit."""
    return AgentState(os.path.lexists(host.path(ENABLED)), impossible(host))


def plan(state: AgentState, spec: Mapping[str, Any]) -> Plan:
    """The unit enabled, and its three files; ``spec`` has ``program`` (bytes) and ``desired``."""
    if state.impossible:
        return Plan((unsupported("agent.unit", UNIT, "enabled", state.impossible),))
    now = "enabled" if state.enabled else "disabled"
    files = (
        OwnedFile("agent.program", PROGRAM, spec["program"], 0o755),
        OwnedFile("agent.desired", DESIRED, desired_text(spec["desired"])),
        OwnedFile("agent.unit_file", UNIT_FILE, _UNIT_TEXT.encode()),
    )
    return Plan((Setting("agent.unit", UNIT, "enabled", now, now),), files)


def write(host: Host, state: AgentState, setting: Setting) -> None:
    """Enable the unit; raises ``ProgramFailed``."""
    where = () if host.live else (f"--root={host.root}",)
    output_of("systemctl", *where, "enable", "--", setting.name)
