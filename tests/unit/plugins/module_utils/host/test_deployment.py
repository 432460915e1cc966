# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What starts the agent: the units and the rule as systemd and udev take them, and the watch for NICs judged and mended."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils import agent, runner
from ansible_collections.lowlatency.fleet.plugins.module_utils.domains import DOMAINS
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import deployment
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.programs import ProgramFailed
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import CHANGED, DRIFTED, ERROR, OK, Plan
from ansible_collections.lowlatency.fleet.tests.unit.fixture_host import PROGRAM, Writes, begun, tunable_machine

FILES = {path: text for _control, path, text in (*deployment._TEXTS, *deployment._ROUTES_TEXTS, *deployment._PORTS_TEXTS)}
NIC_FILES = [path for _control, path, _text in deployment._TEXTS]
ROUTES = {"route_metrics": {"site": {"metrics": {"initcwnd": 20}, "routes": [{"to": "10.64.0.0/24"}]}}}
SPEC = {"program": PROGRAM, "desired": {}}


def value(path: str, key: str) -> str:
    """The last value of a key in a unit."""
    return [line.partition("=")[2] for line in FILES[path].splitlines() if line.startswith(f"{key}=")][-1]


# --- the files --------------------------------------------------------------------------------------------------------


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze to judge by")
    units = [tmp_path / os.path.basename(path) for path in FILES if "systemd" in path]
    for path in units:
        path.write_text(FILES[f"{deployment.UNITS}/{path.name}"].replace(deployment.PROGRAM, "/bin/true"))
    judged = subprocess.run(["systemd-analyze", "verify", *map(str, units)], capture_output=True, text=True, check=False)
    assert (judged.returncode, judged.stderr) == (0, "")


def test_udev_takes_the_rules(tmp_path: Path) -> None:
    path = tmp_path / "90-lowlatency.rules"
    path.write_text(FILES[deployment.RULES_FILE])
    if shutil.which("udevadm") is None or subprocess.run(["udevadm", "verify", "--help"], capture_output=True, check=False).returncode:
        pytest.skip("no udevadm verify (systemd 254) to judge by")
    judged = subprocess.run(["udevadm", "verify", str(path)], capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stdout + judged.stderr


def runs(event: Mapping[str, str], there: set[str]) -> list[str]:
    """What the rules start for an event; ``there`` are the files that TEST finds."""
    found = []
    for line in FILES[deployment.RULES_FILE].splitlines():
        items = re.findall(r'(\w+)(==|!=|\+=)"([^"]*)"', line.partition("#")[0])
        holds = [(any(fnmatchcase(event[key], choice) for choice in pattern.split("|")) if key != "TEST" else pattern in there) is (operator == "==")
                 for key, operator, pattern in items if operator != "+="]
        found += [pattern for key, operator, pattern in items if operator == "+=" and all(holds)]
    return found


REAL, VIRTUAL = "/devices/pci0000:40/0000:40:00.0/0000:41:00.0/net", "/devices/virtual/net"
TOUCH = ["/bin/touch /run/lowlatency/nics/event"]


@pytest.mark.parametrize(
    ("action", "subsystem", "path", "started"),
    # as a kernel 6.1 said them: modprobe, a rename, fewer and more channels, rmmod, a container's interface, and no NIC
    [("add", "net", f"{REAL}/eth0", TOUCH), ("move", "net", f"{REAL}/enp65s0", TOUCH),
     ("remove", "queues", f"{REAL}/enp65s0/queues/rx-7", TOUCH), ("add", "queues", f"{REAL}/enp65s0/queues/tx-2", TOUCH),
     ("remove", "net", f"{REAL}/enp65s0", []), ("change", "net", f"{REAL}/enp65s0", []),
     ("add", "net", f"{VIRTUAL}/veth0", []), ("add", "queues", f"{VIRTUAL}/veth0/queues/rx-0", []), ("move", "net", f"{VIRTUAL}/veth0", []),
     ("add", "module", "/module/igb", []), ("bind", "pci", "/devices/pci0000:40/0000:40:00.0/0000:41:00.0", [])],
)
def test_the_rules_tell_of_nics_and_of_nothing_else(action: str, subsystem: str, path: str, started: list[str]) -> None:
    event = {"ACTION": action, "SUBSYSTEM": subsystem, "DEVPATH": path}
    assert runs(event, {deployment.MARKS}) == started
    assert runs(event, {deployment.MARKS, f"{deployment.MARKS}/event"}) == [], "a mark that is there is enough"
    assert runs(event, set()) == [], "nobody watches yet"


def test_the_watch_looks_where_the_rules_write() -> None:
    folder = value(deployment.WATCH_FILE, "DirectoryNotEmpty")
    assert TOUCH[0].split()[1] == f"{folder}/event"
    assert f"rm -rf {folder}/*" in FILES[deployment.NICS_FILE]
    assert os.path.splitext(deployment.WATCH)[0] == os.path.splitext(deployment.NICS)[0], "a path unit starts the service of its name"


def test_what_the_units_start_the_agent_understands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Writes(monkeypatch)
    root = tunable_machine(tmp_path / "machine").root
    assert runner.apply(begun(root)).errors == []
    monkeypatch.setattr(agent, "Host", lambda: Host(str(root)))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for path in (deployment.UNIT_FILE, deployment.NICS_FILE):
        program, *arguments = shlex.split(value(path, "ExecStart"))
        assert (program, agent.main(arguments)) == (deployment.PROGRAM, 0)
    assert set(deployment.NIC_DOMAINS) <= set(DOMAINS) and list(deployment.NIC_DOMAINS) == [name for name in DOMAINS if name in deployment.NIC_DOMAINS]


def test_no_start_is_refused_and_every_run_is_followed_by_a_pause() -> None:
    """A start limit would leave the watch failed for good; ExecStartPost would not come after a run that fails."""
    assert value(deployment.NICS_FILE, "StartLimitIntervalSec") == "0"
    assert value(deployment.NICS_FILE, "ExecStopPost").startswith("/bin/sleep ")


# --- judged and mended ------------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine as a run left it."""
    Writes(monkeypatch)
    made = tunable_machine(tmp_path / "machine").root
    assert runner.apply(begun(made)).errors == []
    return made


@pytest.mark.parametrize("path", [*NIC_FILES, deployment.PROGRAM, deployment.ENABLED, deployment.WATCH_ENABLED])
def test_nothing_lasts_where_a_part_of_the_agent_is_missing(root: Path, path: str) -> None:
    assert deployment.in_force(Host(str(root)))
    (root / path[1:]).unlink()
    assert not deployment.in_force(Host(str(root)))
    audited = {setting.name: setting for setting in runner.audit(begun(root)).settings}
    assert audited["eth0-TxRx-0"].state == DRIFTED and audited["eth0-TxRx-0"].persisted is None
    assert runner.apply(begun(root)).errors == []
    assert deployment.in_force(Host(str(root))) and not runner.audit(begun(root)).changed


@pytest.mark.parametrize("path", NIC_FILES)
def test_a_file_that_somebody_changed_is_loaded_again(root: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    (root / path[1:]).write_text("# changed\n")
    writes = Writes(monkeypatch)
    outcome = runner.apply(begun(root))
    assert {setting.name for setting in outcome.settings if setting.state == CHANGED} == {path, deployment.WATCH}
    assert writes.done == [path, f"systemctl enable -- {deployment.WATCH}"]
    assert not runner.audit(begun(root)).changed


class Running(Host):
    """A machine of files that is taken for the one we run on."""

    live = True  # type: ignore[assignment]

    def path(self, name: str) -> str:
        return os.path.join(self.root, name.lstrip("/"))

    def followed(self, name: str) -> str:
        return self.path(name)


class Systemd:
    """A service manager and udev as a script of answers; what a restart leaves the watch as is ``then``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.watch, self.then, self.reload, self.last = "inactive", "active", "no", ""
        self.routes = "inactive"
        monkeypatch.setattr(deployment, "output_of", self.output_of)
        monkeypatch.setattr(deployment, "without_systemd", lambda host: "")

    def output_of(self, *command: str) -> str:
        if command[1] == "show" and "ExecMainExitTimestamp" in " ".join(command):
            return f"Result=success\nExecMainExitTimestamp={self.last}\n"
        if command[1] == "show" and deployment.ROUTES in command:
            return f"ActiveState={self.routes}\nNeedDaemonReload=no\n"
        if command[1] == "show":
            return (f"ActiveState={self.watch}\nNeedDaemonReload=no\n\nActiveState=inactive\nNeedDaemonReload={self.reload}\n"
                    "\nActiveState=inactive\nNeedDaemonReload=no\n")
        self.asked.append(" ".join(command))
        if command[1] == "enable":
            self.reload = "no"
        if command[1] == "restart" and command[-1] == deployment.ROUTES:
            self.routes = self.then
        elif command[1] == "restart":
            self.watch = self.then
        return ""


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch) -> Systemd:
    return Systemd(monkeypatch)


@pytest.fixture
def running(tmp_path: Path) -> Running:
    """A machine with udev, the agent's files and enabled units."""
    for path, text in FILES.items():
        (tmp_path / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path[1:]).write_text(text)
    for link in (deployment.ENABLED, deployment.WATCH_ENABLED, deployment.ROUTES_ENABLED, deployment.UDEV):
        (tmp_path / link[1:]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / link[1:]).touch()
    return Running(str(tmp_path))


def planned(host: Host) -> Plan:
    return deployment.plan(deployment.read(host, {}), SPEC)


@pytest.mark.parametrize("word", ["inactive", "failed", "active", "outdated"])
def test_the_watch_is_what_systemd_says_now_and_what_is_enabled_after_a_boot(running: Running, systemd: Systemd, word: str) -> None:
    systemd.watch, systemd.reload = ("active", "yes") if word == "outdated" else (word, "no")
    watch = planned(running).settings[1]
    assert (watch.desired, watch.current, watch.persisted, watch.reason) == ("active", word, "active", "")
    os.unlink(running.path(deployment.WATCH_ENABLED))
    assert planned(running).settings[1].persisted == "inactive"


def test_the_watch_is_loaded_told_to_udev_and_started(running: Running, systemd: Systemd) -> None:
    state = deployment.read(running, {})
    deployment.write(running, state, planned(running).settings[1])
    assert systemd.asked == ["systemctl enable -- lowlatency-nics.path", "udevadm control --reload", "systemctl restart -- lowlatency-nics.path"]
    assert planned(running).settings[1].current == "active"


def test_where_no_udev_runs_none_is_asked_and_it_is_said(running: Running, systemd: Systemd) -> None:
    os.unlink(running.path(deployment.UDEV))
    deployment.write(running, deployment.read(running, {}), planned(running).settings[1])
    assert systemd.asked == ["systemctl enable -- lowlatency-nics.path", "systemctl restart -- lowlatency-nics.path"]
    watch = planned(running).settings[1]
    assert watch.current == "active" and "no udev runs here" in watch.reason


def judged(host: Host) -> str:
    """The state of the watch after a transaction of nothing but the agent, and its reason."""
    outcome = runner.apply(runner.Transaction(host, {}, PROGRAM))
    return next(setting.state for setting in outcome.settings if setting.name == deployment.WATCH)


@pytest.mark.parametrize(("then", "first", "second"), [("active", CHANGED, OK), ("failed", ERROR, ERROR)])
def test_a_watch_that_does_not_start_is_an_error(running: Running, systemd: Systemd, then: str, first: str, second: str) -> None:
    systemd.then = then
    assert [judged(running), judged(running)] == [first, second]


# --- the watch for routes ---------------------------------------------------------------------------------------------


def agent_of(host: Host, desired: Mapping[str, Any]) -> Plan:
    return deployment.plan(deployment.read(host, {}), {"program": PROGRAM, "desired": desired})


def test_there_is_a_watch_for_routes_where_some_are_wanted_and_not_elsewhere(running: Running, systemd: Systemd) -> None:
    without, with_them = planned(running), agent_of(running, ROUTES)
    assert {file.path for file in with_them.files} - {file.path for file in without.files} == {deployment.ROUTES_FILE}
    assert [setting.name for setting in with_them.settings] == [*(setting.name for setting in without.settings), deployment.ROUTES]
    assert agent_of(running, {"route_metrics": {"site": {"metrics": {"initcwnd": 20}, "routes": []}}}).settings == without.settings


@pytest.mark.parametrize("word", ["inactive", "failed", "active"])
def test_the_watch_for_routes_is_what_systemd_says(running: Running, systemd: Systemd, word: str) -> None:
    systemd.routes = word
    watch = agent_of(running, ROUTES).settings[2]
    assert (watch.control, watch.desired, watch.current, watch.persisted) == ("agent.routes", "active", word, "active")
    Path(running.path(deployment.ROUTES_FILE)).write_text("# changed\n")
    assert agent_of(running, ROUTES).settings[2].current == ("outdated" if word == "active" else word)


def test_the_watch_for_routes_is_enabled_and_started_anew(running: Running, systemd: Systemd) -> None:
    deployment.write(running, deployment.read(running, {}), agent_of(running, ROUTES).settings[2])
    assert systemd.asked == ["systemctl enable -- lowlatency-routes.service", "systemctl restart -- lowlatency-routes.service"]
    assert agent_of(running, ROUTES).settings[2].current == "active"


@pytest.mark.parametrize("missing", [deployment.ROUTES_FILE, deployment.ROUTES_ENABLED])
def test_routes_do_not_last_without_their_watch(root: Path, running: Running, missing: str) -> None:
    for path in (deployment.ROUTES_FILE, deployment.ROUTES_ENABLED):
        shutil.copy(running.path(path), root / path[1:])
    (root / missing[1:]).unlink()
    assert deployment.in_force(Host(str(root)))
    (root / deployment.DESIRED[1:]).write_bytes(deployment.desired_text(ROUTES))
    assert not deployment.in_force(Host(str(root)))


def test_the_agent_tells_of_a_watch_that_is_missing(running: Running, systemd: Systemd) -> None:
    path = Path(running.path(deployment.DESIRED))
    path.parent.mkdir(parents=True)
    path.write_bytes(deployment.desired_text(ROUTES))
    assert [(setting.name, setting.state) for setting in deployment.standing(running)][2:] == [(deployment.ROUTES, DRIFTED)]


# --- in words ---------------------------------------------------------------------------------------------------------


def test_what_came_of_events_in_a_line(running: Running, systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    systemd.watch = "active"
    assert deployment.watch_in_words(running) == "NICs: lowlatency-nics.path is active; no event of one in this boot\n"
    systemd.last = "Mon 2030-01-07 09:00:00 UTC"
    assert deployment.watch_in_words(running) == (
        "NICs: lowlatency-nics.path is active; last run after an event Mon 2030-01-07 09:00:00 UTC, success (journalctl -u lowlatency-nics.service)\n")

    def refuses(*command: str) -> str:
        raise ProgramFailed("systemctl: no bus")

    monkeypatch.setattr(deployment, "output_of", refuses)
    assert deployment.watch_in_words(running) == "NICs: systemctl: no bus\n"
    monkeypatch.setattr(deployment, "without_systemd", lambda host: "none here")
    assert deployment.watch_in_words(running) == ""


# --- ports of user space ----------------------------------------------------------------------------------------------

PORTS = {"pci_driver": {"dpdk": {"devices": [{"pci": "0000:81:00.0"}]}}}


def test_ports_are_taken_early_at_boot_where_some_are_wanted_and_not_elsewhere(running: Running, systemd: Systemd) -> None:
    without, with_them = planned(running), agent_of(running, PORTS)
    assert {file.path for file in with_them.files} - {file.path for file in without.files} == {deployment.PORTS_FILE}
    early = with_them.settings[2]
    assert (early.control, early.name, early.current, early.persisted) == ("agent.ports", deployment.PORTS, "disabled", "disabled")
    deployment.write(running, deployment.read(running, {}), early)
    assert systemd.asked == ["systemctl enable -- lowlatency-ports.service"], "enabled, and not started: the run itself takes them"
    assert agent_of(running, {"pci_driver": {"dpdk": {"devices": [], "group": "dpdk"}}}).settings == without.settings


@pytest.mark.parametrize("missing", [deployment.PORTS_FILE, deployment.PORTS_ENABLED])
def test_ports_do_not_last_without_their_unit(root: Path, running: Running, missing: str) -> None:
    for path in (deployment.PORTS_FILE, deployment.PORTS_ENABLED):
        (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        (root / path[1:]).write_text("")
    (root / deployment.DESIRED[1:]).write_bytes(deployment.desired_text(PORTS))
    assert deployment.in_force(Host(str(root)))
    (root / missing[1:]).unlink()
    assert not deployment.in_force(Host(str(root)))
