# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host agent as a thing on the host: its program, the desired state it keeps, and what starts it.

systemd starts it at boot. For a NIC that appears, is renamed or changes its queues, udev leaves a mark in a folder of /run, a path unit
sees that, and a service sets what belongs to NICs again (docs/decisions/0011-nic-events.md says why in these steps).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..model.setting import OwnedFile, Plan, Setting, judged, unsupported
from .machine import Host, Unreadable
from .programs import ProgramFailed, output_of
from .units import without_systemd

PROGRAM = "/usr/local/sbin/lowlatency"
DESIRED = "/etc/lowlatency/desired.json"
UNITS = "/etc/systemd/system"
UNIT = "lowlatency.service"
UNIT_FILE = f"{UNITS}/{UNIT}"
ENABLED = f"{UNITS}/multi-user.target.wants/{UNIT}"
WATCH = "lowlatency-nics.path"
WATCH_FILE = f"{UNITS}/{WATCH}"
WATCH_ENABLED = f"{UNITS}/multi-user.target.wants/{WATCH}"
NICS = "lowlatency-nics.service"
NICS_FILE = f"{UNITS}/{NICS}"
RULES_FILE = "/etc/udev/rules.d/90-lowlatency.rules"
# What an event of a NIC undoes: names of domains, in their order.
NIC_DOMAINS = ("ethtool", "irq_affinity", "qdisc")
MARKS = "/run/lowlatency/nics"
UDEV = "/run/udev/control"
FORMAT = 1
# How long the agent waits for a run of the controller.
PATIENCE = 600
# How often it tries: a NIC that has just come up may answer in part only.
TRIES = 3
# When udev says that a NIC is there, it may still have to rename it; in a container there is no udev.
_UDEV_IS_DONE = f"-/bin/sh -c '[ ! -S {UDEV} ] || udevadm settle --timeout=60'"

_UNIT_TEXT = f"""\
# Owned by lowlatency.fleet: rewritten as a whole.
[Unit]
Description=Low-latency settings that Linux has no file for
Documentation=file:{DESIRED}
# The watch comes first: a NIC that this run does not see yet is seen by that.
After=network.target network-online.target irqbalance.service systemd-sysctl.service {WATCH}

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStartPre={_UDEV_IS_DONE}
ExecStart={PROGRAM} apply --wait {PATIENCE} --tries {TRIES}

[Install]
WantedBy=multi-user.target
"""

_WATCH_TEXT = f"""\
# Owned by lowlatency.fleet: rewritten as a whole.
[Unit]
Description=Watch for NICs that appear, are renamed or change their queues
Documentation=file:{RULES_FILE}

[Path]
# It looks again when the service has ended: an event that comes meanwhile is not lost.
DirectoryNotEmpty={MARKS}
MakeDirectory=yes

[Install]
WantedBy=multi-user.target
"""

_NICS_TEXT = f"""\
# Owned by lowlatency.fleet: rewritten as a whole. Started by {WATCH}.
[Unit]
Description=Low-latency settings of NICs, after an event of one
Documentation=file:{DESIRED}
# At boot one after the other.
After={UNIT}
# Who is refused a start for too many of them leaves the watch failed for good. The pause below is the limit instead.
StartLimitIntervalSec=0

[Service]
Type=oneshot
# A driver that is loaded gives dozens of events: one run for all.
ExecStartPre=/bin/sleep 2
ExecStartPre={_UDEV_IS_DONE}
# The marks go before the host is read: what happens from here on is a mark again, and another run.
ExecStartPre=/bin/sh -c 'rm -rf {MARKS}/*'
ExecStart={PROGRAM} apply --only {",".join(NIC_DOMAINS)} --wait {PATIENCE} --tries {TRIES}
# Who changes the queues again and again makes this run every 7 seconds, and no more often.
ExecStopPost=/bin/sleep 5
"""

_RULES_TEXT = f"""\
# Owned by lowlatency.fleet: rewritten as a whole. Tells {WATCH} of NICs (no virtual ones) that appear, are renamed (move)
# or change their queues: fewer of them have new interrupts too. A mark that is there already is enough; nothing is started for it.
ACTION=="add|move", SUBSYSTEM=="net", DEVPATH!="/devices/virtual/*", TEST=="{MARKS}", TEST!="{MARKS}/event", RUN+="/bin/touch {MARKS}/event"
ACTION=="add|remove", SUBSYSTEM=="queues", DEVPATH!="/devices/virtual/*", TEST=="{MARKS}", TEST!="{MARKS}/event", RUN+="/bin/touch {MARKS}/event"
"""

# What the agent needs beside its program and the desired state.
_TEXTS = (
    ("agent.unit_file", UNIT_FILE, _UNIT_TEXT),
    ("agent.nics_file", NICS_FILE, _NICS_TEXT),
    ("agent.watch_file", WATCH_FILE, _WATCH_TEXT),
    ("agent.rules_file", RULES_FILE, _RULES_TEXT),
)


@dataclass(frozen=True)
class AgentState:
    """What starts the agent, and why nothing can.

    ``watch`` is how the watch for NICs is now (``active``, or systemd's word for what it is instead), ``blind`` why it will see
    nothing, ``held`` what its files hold.
    """

    enabled: bool
    impossible: str
    watch: str = ""
    watch_enabled: bool = False
    blind: str = ""
    held: Mapping[str, bytes | None] = field(default_factory=dict)


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
    """Whether what ``kept`` says will be applied at the next boot, and when a NIC appears after it."""
    links = all(os.path.lexists(host.path(link)) for link in (ENABLED, WATCH_ENABLED))
    return links and all(host.exists(path) for path in (PROGRAM, *(path for _control, path, _text in _TEXTS)))


def interpreter() -> str:
    """The Python of the agent: the distribution's, which outlives this run's, if it is recent enough."""
    version = os.path.basename(os.path.realpath("/usr/bin/python3"))[len("python3."):]
    return "/usr/bin/python3" if version.isdigit() and int(version) >= 9 else sys.executable


def read(host: Host, spec: Mapping[str, Any]) -> AgentState:
    """The state of the agent's units; raises ``ProgramFailed``."""
    cannot = impossible(host)
    enabled, watched = (os.path.lexists(host.path(link)) for link in (ENABLED, WATCH_ENABLED))
    if cannot or not host.live:
        return AgentState(enabled, cannot, "active" if watched else "inactive", watched, held=_held(host))
    blind = "" if host.exists(UDEV) else "no udev runs here, so nothing tells of NICs that appear later"
    return AgentState(enabled, "", _watch_now(), watched, blind, _held(host))


def _held(host: Host) -> dict[str, bytes | None]:
    return {path: host.content_and_mode(path)[0] for _control, path, _text in _TEXTS}


def _watch_now() -> str:
    """How the watch is by systemd's word; ``outdated`` where a unit's file is newer than what systemd knows of it."""
    blocks = output_of("systemctl", "show", "--no-pager", "--property=ActiveState,NeedDaemonReload", "--", WATCH, NICS, UNIT).strip().split("\n\n")
    watch, *others = (dict(line.partition("=")[::2] for line in block.splitlines()) for block in blocks)
    outdated = any(unit.get("NeedDaemonReload") == "yes" for unit in (watch, *others))
    return "outdated" if outdated else watch.get("ActiveState", "")


def plan(state: AgentState, spec: Mapping[str, Any]) -> Plan:
    """The units enabled and the watch active, and the files; ``spec`` has ``program`` (bytes) and ``desired``."""
    if state.impossible:
        return Plan(_units(state))
    files = (
        OwnedFile("agent.program", PROGRAM, spec["program"], 0o755),
        OwnedFile("agent.desired", DESIRED, desired_text(spec["desired"])),
        *(OwnedFile(control, path, text.encode()) for control, path, text in _TEXTS),
    )
    return Plan(_units(state), files)


def standing(host: Host) -> tuple[Setting, ...]:
    """The agent's own units, for its own verdict; raises ``ProgramFailed``."""
    return tuple(judged(setting) for setting in _units(read(host, {})))


def _units(state: AgentState) -> tuple[Setting, ...]:
    if state.impossible:
        return (unsupported("agent.unit", UNIT, "enabled", state.impossible),)
    now = "enabled" if state.enabled else "disabled"
    # other files than ours are loaded: they have to be written, and loaded again
    current = "outdated" if state.watch == "active" and any(state.held.get(path) != text.encode() for _control, path, text in _TEXTS) else state.watch
    return (
        Setting("agent.unit", UNIT, "enabled", now, now),
        Setting("agent.watch", WATCH, "active", current, "active" if state.watch_enabled else "inactive", reason=state.blind),
    )


def write(host: Host, state: AgentState, setting: Setting) -> None:
    """Enable one of the units, which makes systemd load all of them; the watch is started too. Raises ``ProgramFailed``."""
    where = () if host.live else (f"--root={host.root}",)
    output_of("systemctl", *where, "enable", "--", setting.name)
    if setting.name == WATCH and host.live:
        if not state.blind:
            output_of("udevadm", "control", "--reload")
        output_of("systemctl", "restart", "--", WATCH)


def watch_in_words(host: Host) -> str:
    """A line on what came of events of NICs in this boot; nothing where systemd cannot be asked."""
    if without_systemd(host):
        return ""
    try:
        shown = output_of("systemctl", "show", "--no-pager", "--property=ExecMainExitTimestamp,Result", "--", NICS)
        watch = _watch_now()
    except ProgramFailed as error:
        return f"NICs: {error}\n"
    words = dict(line.partition("=")[::2] for line in shown.splitlines())
    when = words.get("ExecMainExitTimestamp")
    last = f"last run after an event {when}, {words.get('Result')} (journalctl -u {NICS})" if when else "no event of one in this boot"
    return f"NICs: {WATCH} is {watch}; {last}\n"
