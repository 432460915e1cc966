# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A network change that waits: armed before the first write, confirmed, taken back in reverse order, and not set again after a boot."""

from __future__ import annotations

import json
import os
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils import agent, confirmed, door, runner
from ansible_collections.lowlatency.fleet.plugins.module_utils.domains import DOMAINS, Domain
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import deployment, unconfirmed
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.files import locked
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.programs import ProgramFailed
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import ERROR, Plan, Setting
from ansible_collections.lowlatency.fleet.tests.unit.fixture_host import Writes, tunable_machine

BOOT = "0c9b1f6e-0000-4c39-8ad0-3f8a5f0c1d2e"
OTHER_BOOT = "b7e2a1c4-0000-4c39-8ad0-3f8a5f0c1d2e"
ORIGINAL = {"channels": "8", "ring": "256", "rule": None}
WANTED = {"channels": "4", "ring": "4096", "rule": "queue 1"}


class Nic:
    """A domain in which a change of channels resets the ring; what is asked of systemd is written down and not done."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host = Host(str(root))
        self.values: dict[str, str | None] = dict(ORIGINAL)
        self.writes: list[tuple[str, str | None]] = []
        self.commands: list[tuple[str, ...]] = []
        self.refused: set[str] = set()
        domain = Domain("ethtool", {}, lambda spec: [], lambda host, spec: dict(self.values), self.plan, self.write, "agent", each_alone=True,
                        resets=True, network=True)
        monkeypatch.setitem(DOMAINS, "ethtool", domain)
        monkeypatch.setattr(confirmed, "without_systemd", lambda host: "")
        monkeypatch.setattr(unconfirmed, "output_of", lambda *command: self.commands.append(command) or "")

    def plan(self, state: dict[str, str | None], spec: Any) -> Plan:
        settings = [Setting(f"net.{name}", "eth0", spec.get(name), state[name]) for name in ORIGINAL]
        lost = Setting("net.napi", "eth0", "1", None, state="unsupported")
        return Plan((*settings, lost, Setting("nic.pcie", "eth0", "x16", "x8", finding=True)))

    def write(self, host: Host, state: Any, setting: Setting) -> None:
        name = setting.control.partition(".")[2]
        if name in self.refused:
            raise OSError(5, "Input/output error")
        self.writes.append((name, setting.desired))
        if name == "channels" and self.values["channels"] != setting.desired:
            self.values["ring"] = "512"
        self.values[name] = setting.desired

    def applied(self, seconds: int = 60, **wanted: Any) -> runner.Outcome:
        documents = {"ethtool": {"nic_tuning": {**WANTED, **wanted}}}
        return runner.apply(runner.begin(self.host, documents, b"#!program", confirm_seconds=seconds), "then")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tunable_machine(tmp_path / "machine").write("proc/sys/kernel/random/boot_id", BOOT + "\n").root


@pytest.fixture
def nic(root: Path, monkeypatch: pytest.MonkeyPatch) -> Nic:
    Writes(monkeypatch)
    monkeypatch.setattr(runner, "PATIENCE", 0)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    return Nic(root, monkeypatch)


def desired_of(host: Host) -> Any:
    return deployment.kept(host).get("ethtool")


def test_a_change_is_armed_before_it_is_written_and_named_in_the_outcome(nic: Nic, monkeypatch: pytest.MonkeyPatch) -> None:
    armed_first: list[bool] = []
    real = nic.write
    monkeypatch.setattr(nic, "write", real)

    def write(host: Host, state: Any, setting: Setting) -> None:
        armed_first.append(bool(nic.commands) and unconfirmed.written_down(nic.host) is not None)
        real(host, state, setting)

    monkeypatch.setitem(DOMAINS, "ethtool", Domain("ethtool", {}, lambda spec: [], lambda host, spec: dict(nic.values), nic.plan, write, "agent",
                                                   each_alone=True, resets=True, network=True))
    outcome = nic.applied()
    assert armed_first and all(armed_first) and nic.values == WANTED
    change = unconfirmed.written_down(nic.host)
    assert change is not None and outcome.unconfirmed == change.identity and len(change.identity) == 16
    run = next(command for command in nic.commands if command[0] == "systemd-run")
    assert "--on-active=60s" in run and run[-2:] == (unconfirmed.PROGRAM, "revert")
    assert Path(nic.host.path(unconfirmed.PROGRAM)).read_bytes() == b"#!program"


def test_what_is_kept_of_a_change_are_the_originals_of_what_can_be_put_back(nic: Nic) -> None:
    nic.applied()
    change = unconfirmed.written_down(nic.host)
    assert change is not None
    assert [tuple(entry) for entry in change.originals] == [("ethtool", f"net.{name}", "eth0", value) for name, value in ORIGINAL.items()]
    assert (change.armed_in, change.seconds, change.when, change.kept) == (BOOT, 60, "then", {"ethtool": None})
    assert os.stat(nic.host.path(unconfirmed.RECORD)).st_mode & 0o077 == 0


@pytest.mark.parametrize("how", ["nothing to write", "no waiting asked for", "by the agent itself", "an audit"])
def test_nothing_is_armed_without_need(nic: Nic, how: str) -> None:
    if how == "nothing to write":
        nic.values = dict(WANTED)
    documents = {"ethtool": {"nic_tuning": WANTED}}
    transaction = runner.begin(nic.host, documents, None if "agent" in how else b"#!program", confirm_seconds=0 if "no waiting" in how else 60)
    outcome = runner.audit(transaction) if how == "an audit" else runner.apply(transaction)
    assert outcome.unconfirmed == "" and nic.commands == [] and unconfirmed.written_down(nic.host) is None


def test_where_nothing_could_take_it_back_nothing_is_written(nic: Nic, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*command: str) -> str:
        if command[0] == "systemd-run":
            raise ProgramFailed("systemd-run: exit code 1: no")
        return ""

    monkeypatch.setattr(unconfirmed, "output_of", failing)
    with pytest.raises(runner.Refused, match=r"nothing would take them back.*systemd-run"):
        nic.applied()
    assert nic.writes == [] and nic.values == ORIGINAL


def test_without_a_service_manager_nothing_waits(nic: Nic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirmed, "without_systemd", lambda host: "systemd does not run here")
    assert nic.applied().unconfirmed == "" and nic.values == WANTED


def test_a_confirmed_change_stays_and_leaves_nothing(nic: Nic) -> None:
    identity = nic.applied().unconfirmed
    nic.commands.clear()
    confirmed.confirm(nic.host, identity)
    assert ("systemctl", "stop", "lowlatency-revert.timer") in nic.commands
    assert unconfirmed.written_down(nic.host) is None and not nic.host.exists(unconfirmed.PROGRAM) and confirmed.story(nic.host) == ""
    assert confirmed.revert(nic.host, "later") == [] and nic.values == WANTED
    with pytest.raises(confirmed.NotWaiting, match="no such network change waits"):
        confirmed.confirm(nic.host, identity)


def test_another_change_is_not_confirmed_by_mistake(nic: Nic) -> None:
    nic.applied()
    with pytest.raises(confirmed.NotWaiting):
        confirmed.confirm(nic.host, "0123456789abcdef")
    assert unconfirmed.written_down(nic.host) is not None


def test_a_change_that_nobody_confirmed_is_put_back_the_last_first(nic: Nic) -> None:
    identity = nic.applied().unconfirmed
    assert "waits to be confirmed" in confirmed.story(nic.host) and desired_of(nic.host) == {"nic_tuning": WANTED}
    nic.writes.clear()
    assert confirmed.revert(nic.host, "later") == []
    assert nic.values == ORIGINAL, "the ring too, which the channels reset once more"
    assert [name for name, _value in nic.writes][:3] == ["rule", "ring", "channels"]
    assert desired_of(nic.host) is None and "not confirmed, taken back at later" in confirmed.story(nic.host)
    with pytest.raises(confirmed.NotWaiting, match=r"not confirmed within 60 s and the host took it back at later"):
        confirmed.confirm(nic.host, identity)
    assert confirmed.revert(nic.host, "again") == []


def test_the_desired_state_goes_back_to_what_was_kept_before_and_no_other_domain_with_it(nic: Nic) -> None:
    confirmed.confirm(nic.host, nic.applied(ring="1024").unconfirmed)
    documents = {"ethtool": {"nic_tuning": WANTED}, "irq_affinity": {"x": {"isolated": ""}}}
    assert runner.apply(runner.begin(nic.host, documents, b"#!program", confirm_seconds=60)).unconfirmed
    assert desired_of(nic.host) == {"nic_tuning": WANTED}
    confirmed.revert(nic.host, "later")
    assert desired_of(nic.host) == {"nic_tuning": {**WANTED, "ring": "1024"}} and nic.values["ring"] == "1024"
    assert deployment.kept(nic.host)["irq_affinity"] == {"x": {"isolated": ""}}


def test_what_cannot_be_put_back_is_named_and_stops_nothing_else(nic: Nic) -> None:
    nic.applied()
    nic.refused.add("ring")
    assert confirmed.revert(nic.host, "later") == ["net.ring eth0: [Errno 5] Input/output error"]
    assert (nic.values["channels"], nic.values["rule"]) == ("8", None)


def test_a_second_change_before_the_first_was_confirmed_keeps_the_first_originals(nic: Nic) -> None:
    nic.applied(ring="1024")
    nic.applied(seconds=30)
    change = unconfirmed.written_down(nic.host)
    assert change is not None and change.seconds == 30 and change.kept == {"ethtool": None}
    assert {entry[1]: entry[3] for entry in change.originals} == {f"net.{name}": value for name, value in ORIGINAL.items()}
    confirmed.revert(nic.host, "later")
    assert nic.values == ORIGINAL


def test_after_a_boot_an_unconfirmed_change_is_no_longer_wanted(nic: Nic, root: Path) -> None:
    """As the agent finds it when it starts, in the run that would have set it again."""
    nic.applied()
    confirmed.end_of_an_earlier_boot(nic.host, "later")
    assert desired_of(nic.host) == {"nic_tuning": WANTED}, "in its own boot it still waits"
    (root / "proc/sys/kernel/random/boot_id").write_text(OTHER_BOOT + "\n")
    nic.values, nic.writes = dict(ORIGINAL), []
    with pytest.raises(runner.Refused, match="keeps no desired state"):
        runner.apply_kept(nic.host, when="later")
    assert desired_of(nic.host) is None and nic.writes == []
    assert "not confirmed, taken back at later" in confirmed.story(nic.host)
    assert confirmed.revert(nic.host, "again") == [], "what it set went with that boot"


def test_originals_of_an_earlier_boot_are_not_those_of_this_one(nic: Nic, root: Path) -> None:
    nic.applied()
    (root / "proc/sys/kernel/random/boot_id").write_text(OTHER_BOOT + "\n")
    nic.values = {"channels": "2", "ring": "64", "rule": None}
    nic.applied()
    change = unconfirmed.written_down(nic.host)
    assert change is not None and {entry[1]: entry[3] for entry in change.originals}["net.ring"] == "64"


@pytest.mark.parametrize("text", ["{", "[]", '{"identity": "x"}', "null", '"x"'])
def test_a_record_that_cannot_be_understood_is_none(nic: Nic, text: str) -> None:
    path = Path(nic.host.path(unconfirmed.RECORD))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    assert unconfirmed.written_down(nic.host) is None and confirmed.story(nic.host) == "" and confirmed.revert(nic.host, "now") == []


def test_the_agent_takes_it_back_and_places_the_interrupts_anew(nic: Nic, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = {"ethtool": {"nic_tuning": WANTED}, "irq_affinity": {"x": {"isolated": ""}}}
    runner.apply(runner.begin(nic.host, documents, b"#!program", confirm_seconds=60))
    seen: list[Any] = []

    def apply_kept(host: Host, names: Any, patience: float) -> runner.Outcome:
        seen.append((tuple(names), dict(nic.values)))
        return runner.Outcome((Setting("irq.nic_affinity", "eth0", "1", state=ERROR, reason="no"),), changed=False)

    monkeypatch.setattr(runner, "apply_kept", apply_kept)
    assert agent._reverted(nic.host) == agent.UNKNOWN
    assert seen == [(("irq_affinity",), ORIGINAL)]


def test_the_program_that_takes_it_back_has_all_it_needs() -> None:
    """It runs from a place of its own, before the host agent is there."""
    assert {"confirmed", "host.unconfirmed"} <= set(door.AGENT_MODULES)
    archive = door.program()
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"lowlatency-test-{os.getpid()}.pyz"
    path.write_bytes(archive)
    try:
        with zipfile.ZipFile(path) as packed:
            assert "lowlatency/confirmed.py" in packed.namelist()
    finally:
        path.unlink()


def test_what_is_written_down_is_plain_json(nic: Nic) -> None:
    nic.applied()
    assert json.loads(Path(nic.host.path(unconfirmed.RECORD)).read_text())["specs"] == {"ethtool": WANTED}


class Ended(Exception):
    """How a module ended."""


class Module:
    """As much of AnsibleModule as the confirmation uses."""

    def __init__(self, identity: str) -> None:
        self.params = {"identity": identity}

    def exit_json(self, **result: Any) -> None:
        raise Ended(result)

    def fail_json(self, **result: Any) -> None:
        raise Ended({"failed": True, **result})


def confirmation(nic: Nic, monkeypatch: pytest.MonkeyPatch, identity: str) -> dict[str, Any]:
    monkeypatch.setattr(door, "Host", lambda: nic.host)
    with pytest.raises(Ended) as caught:
        door.run_confirmation(Module(identity))  # type: ignore[arg-type]
    return dict(caught.value.args[0])


def test_the_module_confirms_once(nic: Nic, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = nic.applied().unconfirmed
    assert confirmation(nic, monkeypatch, identity) == {"changed": False} and unconfirmed.written_down(nic.host) is None
    assert confirmation(nic, monkeypatch, identity)["failed"]


def test_the_module_waits_for_an_agent_that_is_at_work(nic: Nic, monkeypatch: pytest.MonkeyPatch) -> None:
    """Channels that come are an event of a NIC, so the agent runs just then."""
    identity = nic.applied().unconfirmed
    monkeypatch.setattr(runner, "PATIENCE", 10)
    taken = threading.Event()

    def agent_at_work() -> None:
        with locked(nic.host):
            taken.set()
            time.sleep(1)

    worker = threading.Thread(target=agent_at_work)
    worker.start()
    taken.wait()
    assert confirmation(nic, monkeypatch, identity) == {"changed": False}
    worker.join()
    monkeypatch.setattr(runner, "PATIENCE", 0)
    with locked(nic.host):
        assert "another run is writing" in confirmation(nic, monkeypatch, identity)["msg"]
