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
from collections.abc import Iterable, Mapping
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
ROUTES = "lowlatency-routes.service"
ROUTES_FILE = f"{UNITS}/{ROUTES}"
ROUTES_ENABLED = f"{UNITS}/multi-user.target.wants/{ROUTES}"
# The domain that needs the watch for routes.
ROUTES_DOMAIN = "route_metrics"
PORTS = "lowlatency-ports.service"
PORTS_FILE = f"{UNITS}/{PORTS}"
PORTS_ENABLED = f"{UNITS}/multi-user.target.wants/{PORTS}"
# The domain whose ports are taken before anything configures them.
PORTS_DOMAIN = "pci_driver"
# What only the service manager tells of: whether a watch is at work.
WATCHES = ("agent.watch", "agent.routes")
RULES_FILE = "/etc/udev/rules.d/90-lowlatency.rules"
# What an event of a NIC, or of a route, undoes: names of domains, in their order.
NIC_DOMAINS = ("ethtool", "irq_affinity", "qdisc", ROUTES_DOMAIN)
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
After=network.target network-online.target irqbalance.service systemd-sysctl.service {WATCH} {ROUTES}

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

_ROUTES_TEXT = f"""\
# Owned by lowlatency.fleet: rewritten as a whole.
[Unit]
Description=Watch for routes that come or change without their low-latency metrics
Documentation=file:{DESIRED}
After={WATCH}
StartLimitIntervalSec=0

[Service]
ExecStart={PROGRAM} watch
# It ends by itself, and well, where no routes are wanted.
Restart=on-failure
RestartSec=5
Nice=10

[Install]
WantedBy=multi-user.target
"""

_PORTS_TEXT = f"""\
# Owned by lowlatency.fleet: rewritten as a whole.
[Unit]
Description=Ports of NICs that belong to user space
Documentation=file:{DESIRED}
# As early as a program of /usr can run, and before anything gives them addresses.
DefaultDependencies=no
RequiresMountsFor=/etc /run /usr /var
After=local-fs.target systemd-modules-load.service systemd-udev-trigger.service systemd-udevd.service
Before=network-pre.target {UNIT}
Wants=network-pre.target
Conflicts=shutdown.target
Before=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
# The kernel's own driver may still be at work on them.
ExecStartPre={_UDEV_IS_DONE}
ExecStart={PROGRAM} apply --only {PORTS_DOMAIN} --wait {PATIENCE} --tries {TRIES}

[Install]
WantedBy=multi-user.target
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
# And where metrics of routes are wanted.
_ROUTES_TEXTS = (("agent.routes_file", ROUTES_FILE, _ROUTES_TEXT),)
# And where ports belong to user space.
_PORTS_TEXTS = (("agent.ports_file", PORTS_FILE, _PORTS_TEXT),)


@dataclass(frozen=True)
class AgentState:
    """What starts the agent, and why nothing can.

    ``watch`` is how the watch for NICs is now (``active``, or systemd's word for what it is instead), ``blind`` why it will see
    nothing, ``held`` what its files hold. ``routes`` is how the watch for routes is, ``ports_enabled`` whether ports are taken early at boot.
    """

    enabled: bool
    impossible: str
    watch: str = ""
    watch_enabled: bool = False
    blind: str = ""
    held: Mapping[str, bytes | None] = field(default_factory=dict)
    routes: str = ""
    routes_enabled: bool = False
    ports_enabled: bool = False


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


def _texts(desired: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    """The files that a desired state needs, each with its control and its text."""
    return _TEXTS + (_ROUTES_TEXTS if wants_routes(desired) else ()) + (_PORTS_TEXTS if wants_ports(desired) else ())


def wants_routes(desired: Mapping[str, Any]) -> bool:
    """Whether a desired state speaks of any route."""
    return any(spec.get("routes") for spec in (desired.get(ROUTES_DOMAIN) or {}).values())


def wants_ports(desired: Mapping[str, Any]) -> bool:
    """Whether a desired state gives any port to user space."""
    return any(spec.get("devices") for spec in (desired.get(PORTS_DOMAIN) or {}).values())


def desired_text(desired: Mapping[str, Any]) -> bytes:
    """The file of a desired state: sorted, so that equal states are equal bytes."""
    return (json.dumps({"format": FORMAT, "desired": desired}, indent=1, sort_keys=True) + "\n").encode()


def impossible(host: Host) -> str:
    """Why no agent can run at boot here, or nothing."""
    if host.captured and host.is_dir("/run") and not host.is_dir("/run/systemd/system"):
        return "systemd does not run there"
    return without_systemd(host) if host.live else ""


def in_force(host: Host) -> bool:
    """Whether what ``kept`` says will be applied at the next boot, and when a NIC or a route comes after it. Raises ``Unreadable``."""
    desired = kept(host)
    links = (ENABLED, WATCH_ENABLED, *((ROUTES_ENABLED,) if wants_routes(desired) else ()), *((PORTS_ENABLED,) if wants_ports(desired) else ()))
    files = (PROGRAM, *(path for _control, path, _text in _texts(desired)))
    return all(os.path.lexists(host.path(link)) for link in links) and all(host.exists(path) for path in files)


def interpreter() -> str:
    """The Python of the agent: the distribution's, which outlives this run's, if it is recent enough."""
    version = os.path.basename(os.path.realpath("/usr/bin/python3"))[len("python3."):]
    return "/usr/bin/python3" if version.isdigit() and int(version) >= 9 else sys.executable


def read(host: Host, spec: Mapping[str, Any]) -> AgentState:
    """The state of the agent's units; raises ``ProgramFailed``."""
    cannot = impossible(host)
    enabled, watched, routes, ports = (os.path.lexists(host.path(link)) for link in (ENABLED, WATCH_ENABLED, ROUTES_ENABLED, PORTS_ENABLED))
    if cannot or not host.live:
        now, then = ("active" if link else "inactive" for link in (watched, routes))
        return AgentState(enabled, cannot, now, watched, held=_held(host), routes=then, routes_enabled=routes, ports_enabled=ports)
    blind = "" if host.exists(UDEV) else "no udev runs here, so nothing tells of NICs that appear later"
    return AgentState(enabled, "", _now(WATCH, NICS, UNIT), watched, blind, _held(host), _now(ROUTES), routes, ports)


def _held(host: Host) -> dict[str, bytes | None]:
    return {path: host.content_and_mode(path)[0] for _control, path, _text in (*_TEXTS, *_ROUTES_TEXTS, *_PORTS_TEXTS)}


def _now(*units: str) -> str:
    """How the first of some units is by systemd's word; ``outdated`` where a file of them is newer than what systemd knows of it."""
    blocks = output_of("systemctl", "show", "--no-pager", "--property=ActiveState,NeedDaemonReload", "--", *units).strip().split("\n\n")
    first, *others = (dict(line.partition("=")[::2] for line in block.splitlines()) for block in blocks)
    outdated = any(unit.get("NeedDaemonReload") == "yes" for unit in (first, *others))
    return "outdated" if outdated else first.get("ActiveState", "")


def plan(state: AgentState, spec: Mapping[str, Any]) -> Plan:
    """The units enabled and the watch active, and the files; ``spec`` has ``program`` (bytes) and ``desired``."""
    if state.impossible:
        return Plan(_units(state, spec["desired"]))
    files = (
        OwnedFile("agent.program", PROGRAM, spec["program"], 0o755),
        OwnedFile("agent.desired", DESIRED, desired_text(spec["desired"])),
        *(OwnedFile(control, path, text.encode()) for control, path, text in _texts(spec["desired"])),
    )
    return Plan(_units(state, spec["desired"]), files)


def standing(host: Host) -> tuple[Setting, ...]:
    """The agent's own units, for its own verdict; raises ``ProgramFailed`` and ``Unreadable``."""
    return tuple(judged(setting) for setting in _units(read(host, {}), kept(host)))


def _units(state: AgentState, desired: Mapping[str, Any]) -> tuple[Setting, ...]:
    if state.impossible:
        return (unsupported("agent.unit", UNIT, "enabled", state.impossible),)
    now = "enabled" if state.enabled else "disabled"
    units: tuple[Setting, ...] = (
        Setting("agent.unit", UNIT, "enabled", now, now),
        Setting("agent.watch", WATCH, "active", _loaded(state, state.watch, _TEXTS), "active" if state.watch_enabled else "inactive", reason=state.blind),
    )
    if wants_ports(desired):
        early = "enabled" if state.ports_enabled else "disabled"
        units = (*units, Setting("agent.ports", PORTS, "enabled", early, early))
    if not wants_routes(desired):
        return units
    routes = Setting("agent.routes", ROUTES, "active", _loaded(state, state.routes, _ROUTES_TEXTS), "active" if state.routes_enabled else "inactive")
    return (*units, routes)


def _loaded(state: AgentState, now: str, texts: Iterable[tuple[str, str, str]]) -> str:
    """How a unit is; where other files than ours are loaded, they have to be written, and loaded again."""
    return "outdated" if now == "active" and any(state.held.get(path) != text.encode() for _control, path, text in texts) else now


def write(host: Host, state: AgentState, setting: Setting) -> None:
    """Enable one of the units, which makes systemd load all of them; the watches are started too. Raises ``ProgramFailed``."""
    where = () if host.live else (f"--root={host.root}",)
    output_of("systemctl", *where, "enable", "--", setting.name)
    if setting.name == WATCH and host.live and not state.blind:
        output_of("udevadm", "control", "--reload")
    if setting.name in (WATCH, ROUTES) and host.live:
        output_of("systemctl", "restart", "--", setting.name)


def watch_in_words(host: Host) -> str:
    """A line on what came of events of NICs in this boot; nothing where systemd cannot be asked."""
    if without_systemd(host):
        return ""
    try:
        shown = output_of("systemctl", "show", "--no-pager", "--property=ExecMainExitTimestamp,Result", "--", NICS)
        watch = _now(WATCH, NICS, UNIT)
    except ProgramFailed as error:
        return f"NICs: {error}\n"
    words = dict(line.partition("=")[::2] for line in shown.splitlines())
    when = words.get("ExecMainExitTimestamp")
    last = f"last run after an event {when}, {words.get('Result')} (journalctl -u {NICS})" if when else "no event of one in this boot"
    return f"NICs: {WATCH} is {watch}; {last}\n"
