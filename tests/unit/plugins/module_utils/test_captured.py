# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Captured trees: every domain is read from files alone, what only a live host tells is unsupported with that reason, and nothing is written or run."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils import door, runner
from ansible_collections.lowlatency.fleet.plugins.module_utils.domains import DOMAINS
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import deployment, ethtool
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import (
    DRIFTED,
    ERROR,
    OK,
    UNSUPPORTED,
    Setting,
)
from ansible_collections.lowlatency.fleet.tests.unit.fixture_host import WANTED, Writes, content, tree, tunable_machine
from ansible_collections.lowlatency.fleet.tests.unit.fixture_machine import FixtureMachine
from ansible_collections.lowlatency.fleet.tests.unit.plugins.action.test_actions import RIGHT

CAPTURES = Path(__file__).resolve().parents[5] / "shared" / "captures" / "captures"
REAL = sorted(CAPTURES.glob("*.tar.gz")) if CAPTURES.is_dir() else []
CAPTURED = "a captured tree"
# All that is asked of a service manager, a kernel's answers, or processes.
LIVE_ONLY = {
    "units": {"removed": ["irqbalance"]},
    "qdisc": {"nics": [{"interface": "eth0"}], "qdisc": {"kind": "fq"}},
    "route_metrics": {"metrics": {"initcwnd": 20}, "routes": [{"to": "203.0.113.0/24"}, {"interface": "eth0"}]},
    "sockets": {"services": [{"unit": "feed.service", "expects": {"keepalive": True}}]},
    "ethtool": {"nics": [{"interface": "eth0", "irq_cpus": "0-1", "rules": [{"flow-type": "tcp4", "dst-port": 80, "action": 0}]}], "features": {"gro": "off"},
                "channels": {"queues": "irq-cpus"}, "rings": {"rx": "max"}, "coalesce": {"rx-usecs": 0}, "pause": {"rx": "off"}, "rss": {"equal": 2},
                "required": ["coalesce.rx-usecs", "features.gro"]},
}


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: Any, **more: Any) -> Any:
        raise AssertionError(f"a captured tree starts {arguments}")

    monkeypatch.setattr(subprocess, "run", refused)
    monkeypatch.setattr(ethtool, "Ioctl", refused)
    monkeypatch.setattr(ethtool, "Netlink", refused)


@pytest.fixture
def machine(tmp_path: Path) -> FixtureMachine:
    made = tunable_machine(tmp_path / "machine")
    (made.root / "run/systemd/system").mkdir(parents=True)
    made.write("proc/cmdline", "root=/dev/sda1 quiet\n").write("proc/mounts", "sysfs /sys sysfs rw 0 0\n")
    made.write("sys/class/net/eth0/queues/rx-0/rps_cpus", "3\n").write("sys/class/net/eth0/threaded", "0\n")
    return made


def audited(root: Path, documents: Any) -> tuple[Setting, ...]:
    return runner.audit(runner.begin(Host(str(root), captured=True), documents, b"#!/usr/bin/python3\nthe agent\n")).settings


def of_site(spec: Any) -> dict[str, Any]:
    return {"site": spec}


@pytest.mark.parametrize("name", sorted(LIVE_ONLY))
def test_what_only_a_live_host_tells_is_unsupported_with_that_reason(machine: FixtureMachine, name: str) -> None:
    told = [setting for setting in audited(machine.root, {name: of_site(LIVE_ONLY[name])}) if not setting.control.startswith("agent.")]
    assert told and {setting.state for setting in told} == {UNSUPPORTED}
    assert [setting.reason for setting in told if CAPTURED not in setting.reason] == []


def test_queues_and_polling_are_files_and_are_judged(machine: FixtureMachine) -> None:
    wish = {"nics": [{"interface": "eth0"}], "rps": {"rps_cpus": ""}, "napi": {"threaded": "off"}, "features": {"gro": "off"}}
    found = {setting.name: setting for setting in audited(machine.root, {"ethtool": of_site(wish)})}
    assert (found["eth0.rx-0.rps_cpus"].state, found["eth0.rx-0.rps_cpus"].current) == (DRIFTED, "0-1")
    assert found["eth0.threaded"].current == "0" and found["eth0.gro"].state == UNSUPPORTED


def test_an_interface_that_is_not_in_the_tree_is_an_error_as_on_the_host(machine: FixtureMachine) -> None:
    for name in ("ethtool", "qdisc"):
        spec = {**LIVE_ONLY[name], "nics": [{"interface": "eth9"}]}
        assert [setting.state for setting in audited(machine.root, {name: of_site(spec)}) if setting.name == "eth9"] == [ERROR]


@pytest.mark.parametrize("name", sorted(DOMAINS))
def test_no_domain_breaks_on_a_tree_with_little_in_it(tmp_path: Path, name: str) -> None:
    """A tree with one CPU and no /etc: nothing can be told to be right or to have drifted that is not there."""
    made = FixtureMachine(tmp_path / "bare").lists("0").write("sys/devices/system/cpu/cpu0/topology/core_cpus_list", "0\n")
    made.write("sys/class/net/eth0/type", "1\n").write("sys/devices/system/node/node0/meminfo", "Node 0 MemTotal: 99999999 kB\n")
    before = tree(made.root)
    try:
        settings = audited(made.root, {name: of_site({**RIGHT[name], "isolated": "", "housekeeping": "0"} if name == "irq_affinity" else RIGHT[name])})
    except runner.Refused as refused:
        assert name == "pci_driver" and "no such PCI device" in str(refused)
        settings = ()
    assert [setting for setting in settings if setting.state not in (UNSUPPORTED, OK) and not setting.finding and setting.control != "nic"] == []
    assert tree(made.root) == before


def test_the_report_of_a_tree_is_that_of_its_host_for_all_that_are_files(machine: FixtureMachine) -> None:
    live = runner.audit(runner.begin(Host(str(machine.root)), WANTED, b"#!/usr/bin/python3\nthe agent\n")).settings
    assert audited(machine.root, WANTED) == live and {setting.state for setting in live} == {OK, DRIFTED, UNSUPPORTED}


def test_what_a_run_left_is_right_in_its_tree_but_whether_a_watch_is_at_work(machine: FixtureMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    Writes(monkeypatch)
    runner.apply(runner.begin(Host(str(machine.root)), WANTED, b"#!/usr/bin/python3\nthe agent\n"))
    told = audited(machine.root, WANTED)
    assert {setting.state for setting in told} == {OK, UNSUPPORTED}
    assert [(setting.control, setting.state) for setting in told if setting.control in deployment.WATCHES] == [("agent.watch", UNSUPPORTED)]


def test_a_tree_without_systemd_cannot_keep_an_agent(machine: FixtureMachine) -> None:
    (machine.root / "run/systemd/system").rmdir()
    told = {setting.control: setting for setting in audited(machine.root, WANTED)}
    assert told["agent.unit"].state == UNSUPPORTED and "agent.program" not in told


def test_a_captured_tree_is_never_written(machine: FixtureMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(machine.root)
    with pytest.raises(runner.Refused, match="only audited; use check mode"):
        runner.apply(runner.begin(Host(str(machine.root), captured=True), WANTED, b"x"))
    assert content(machine.root) == before


# --- the door ---------------------------------------------------------------------------------------------------------


def ended(sysroot: Path, *, check: bool) -> dict[str, Any]:
    class Ended(Exception):
        pass

    def end(**result: Any) -> None:
        raise Ended(result)

    module = SimpleNamespace(check_mode=check, _diff=False, params={"sysroot": str(sysroot)}, exit_json=end,
                             fail_json=lambda **result: end(failed=True, **result))
    with pytest.raises(Ended) as caught:
        door.run_documents(module, WANTED)  # type: ignore[arg-type]
    result: dict[str, Any] = caught.value.args[0]
    return result


def test_a_real_run_on_a_tree_is_refused_and_nothing_is_written(machine: FixtureMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    before = tree(machine.root)
    assert "a captured tree is only audited; run in check mode" in ended(machine.root, check=False)["msg"]
    assert "no such folder" in ended(machine.root / "nowhere", check=True)["msg"]
    assert ended(machine.root, check=True)["changed"] is True
    assert tree(machine.root) == before


def test_the_interpreter_of_a_captured_agent_is_its_host_s_own(machine: FixtureMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    live = door.program()
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(door, "interpreter", lambda: "/usr/libexec/platform-python")
        machine.write(deployment.PROGRAM[1:], door.program())
    assert door.program(Host(str(machine.root), captured=True)) == (machine.root / deployment.PROGRAM[1:]).read_bytes()
    assert door.program(Host(str(machine.root))) == live


def test_a_link_of_a_tree_leads_to_its_own_files_only(machine: FixtureMachine, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of the controller")
    machine.link("etc/lowlatency", str(tmp_path))
    machine.link("etc/sysctl.d/80-lowlatency.conf", str(tmp_path / "secret"))
    host = Host(str(machine.root), captured=True)
    assert host.content_and_mode("/etc/sysctl.d/80-lowlatency.conf") == (None, 0) and host.content_and_mode("/etc/lowlatency/secret") == (None, 0)


# --- real machines ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not REAL, reason="no captures next to the repository")
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name.removesuffix(".tar.gz"))
def test_real_machines_are_told_of_without_an_error(path: Path, tmp_path: Path) -> None:
    with tarfile.open(path) as packed:
        packed.extractall(tmp_path / "m", filter="tar")
    host = Host(str(tmp_path / "m"))
    interfaces = [name for name in host.names("/sys/class/net") if host.exists(f"/sys/class/net/{name}/address")]
    documents = {name: of_site({**spec, "nics": [{"interface": name} for name in interfaces]} if "nics" in spec else spec)
                 for name, spec in RIGHT.items() if name not in ("pci_driver", "hugepages", "kernel_cmdline", "irq_affinity", "bypass_stack")}
    told = audited(tmp_path / "m", documents)
    assert [setting for setting in told if setting.state == ERROR and setting.control != "bios.topology"] == []
    assert [setting.subject for setting in told if setting.state == DRIFTED and not setting.finding and setting.current is None] == []
