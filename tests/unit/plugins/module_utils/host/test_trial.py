# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A trial boot: how it is known to be armed, booted or failed, what watches over it, and that nothing of it stays."""

from __future__ import annotations

import configparser
import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import trial
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.deployment import PROGRAM
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.programs import ProgramFailed
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.cmdline import TRIAL_MARK, Trial
from ansible_collections.lowlatency.fleet.tests.unit.fixture_host import content, tree
from ansible_collections.lowlatency.fleet.tests.unit.fixture_machine import FixtureMachine

BOOT_ID = "0c9b1f6e-5b7d-4c39-8ad0-3f8a5f0c1d2e"
LATER_BOOT_ID = "b7e2a1c4-0000-4c39-8ad0-3f8a5f0c1d2e"
OWN = ("isolcpus=2-3", "skew_tick=1")
KNOWN = trial.Record("5f00aa", OWN, ("root=/dev/vda1", "ro", *OWN), BOOT_ID, 300, "2024-05-01T10:00:00Z")
BEFORE = ("root=/dev/vda1", "ro")
ON_TRIAL = (*KNOWN.tokens, *KNOWN.extra)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FixtureMachine:
    def no_program(*command: str, **rest: Any) -> str:
        raise AssertionError(f"a captured tree was asked to run {command}")

    monkeypatch.setattr(trial, "output_of", no_program)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    machine = FixtureMachine(tmp_path).write("proc/sys/kernel/random/boot_id", BOOT_ID + "\n").write("proc/cmdline", " ".join(BEFORE) + "\n")
    for folder in ("etc/systemd/system", "var/lib/lowlatency"):
        (tmp_path / folder).mkdir(parents=True)
    return machine


def host_of(machine: FixtureMachine) -> Host:
    return Host(str(machine.root))


def begun(machine: FixtureMachine, known: trial.Record = KNOWN) -> Host:
    trial.begin(host_of(machine), known)
    return host_of(machine)


def booted(machine: FixtureMachine, tokens: tuple[str, ...] = ON_TRIAL, boot: str = LATER_BOOT_ID) -> FixtureMachine:
    return machine.write("proc/sys/kernel/random/boot_id", boot + "\n").write("proc/cmdline", " ".join(tokens) + "\n")


# --- where a trial stands ---------------------------------------------------------------------------------------------


def test_without_a_record_there_is_no_trial(machine: FixtureMachine) -> None:
    assert trial.record(host_of(machine)) is None
    assert trial.trial_of(host_of(machine), BEFORE) == Trial()
    assert trial.trial_of(host_of(machine), (*BEFORE, f"{TRIAL_MARK}=5f00aa")) == Trial()


def test_in_the_boot_that_armed_it_a_trial_waits(machine: FixtureMachine) -> None:
    found = trial.trial_of(begun(machine), BEFORE)
    assert (found.state, found.owned) == ("armed", OWN) and found.story


def test_in_the_boot_with_its_mark_a_trial_runs(machine: FixtureMachine) -> None:
    begun(machine)
    found = trial.trial_of(host_of(booted(machine)), ON_TRIAL)
    assert (found.state, found.owned) == ("booted", OWN) and "300 s" in found.story


def test_in_another_boot_without_its_mark_a_trial_has_failed(machine: FixtureMachine) -> None:
    begun(machine)
    found = trial.trial_of(host_of(booted(machine, BEFORE)), BEFORE)
    assert (found.state, found.owned) == ("failed", OWN)
    assert "did not come up" in found.story and KNOWN.when in found.story


def test_a_trial_that_nobody_confirmed_says_so(machine: FixtureMachine) -> None:
    begun(machine)
    assert trial.expire(host_of(booted(machine)))
    found = trial.trial_of(host_of(booted(machine, BEFORE, "a third boot")), BEFORE)
    assert found.state == "failed" and "nobody confirmed it within 300 s" in found.story


def test_the_mark_of_another_trial_is_not_this_one(machine: FixtureMachine) -> None:
    begun(machine)
    other = (*BEFORE, f"{TRIAL_MARK}=5f00ab")
    assert trial.trial_of(host_of(booted(machine, other)), other).state == "failed"
    assert trial.trial_of(host_of(booted(machine, other, BOOT_ID)), other).state == "armed"


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "[1]", "1", '"text"', "{}", '{"own": ["a"], "tokens": []}', '{"own": null, "tokens": []}',
                                  json.dumps({"identity": "a", "own": [], "tokens": [], "armed_in": "", "seconds": 1, "when": "", "unknown": 1})])
def test_a_torn_record_counts_as_none(machine: FixtureMachine, text: str) -> None:
    machine.write(trial.RECORD[1:], text)
    assert trial.record(host_of(machine)) is None and trial.trial_of(host_of(machine), ON_TRIAL) == Trial()


def test_no_cut_of_a_record_is_taken_for_a_whole_one(machine: FixtureMachine) -> None:
    begun(machine)
    whole = (machine.root / trial.RECORD[1:]).read_bytes().rstrip()
    for end in range(len(whole)):
        machine.write(trial.RECORD[1:], whole[:end])
        assert trial.record(host_of(machine)) is None


def test_a_record_is_read_as_it_was_written(machine: FixtureMachine) -> None:
    assert trial.record(begun(machine)) == KNOWN


def test_only_the_trial_boot_has_the_mark_and_a_panic_that_reboots() -> None:
    assert KNOWN.extra == (f"{TRIAL_MARK}=5f00aa", "panic=10")


def test_every_trial_has_a_mark_of_its_own(machine: FixtureMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    marks = set()
    for second, boot in ((1_700_000_000, BOOT_ID), (1_700_000_001, BOOT_ID), (1_700_000_001, LATER_BOOT_ID)):
        monkeypatch.setattr(trial.time, "time", lambda second=second: float(second))
        known = trial.new_record(host_of(booted(machine, BEFORE, boot)), OWN, 120, "now")
        assert known.armed_in == boot and known.own == OWN and known.seconds == 120 and not known.expired
        assert len(known.identity) <= 16 and known.identity.isalnum()
        marks.add(known.identity)
    assert len(marks) == 3


# --- what watches over it ---------------------------------------------------------------------------------------------


def unit(machine: FixtureMachine, name: str) -> dict[str, dict[str, str]]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((machine.root / name[1:]).read_text())
    return {section: dict(parser[section]) for section in parser.sections()}


def test_the_timer_counts_from_the_boot_and_only_in_the_boot_on_trial(machine: FixtureMachine) -> None:
    begun(machine)
    timer = unit(machine, trial.TIMER)
    assert timer["Timer"]["OnBootSec"] == "300"
    assert timer["Unit"]["ConditionKernelCommandLine"] == TRIAL_MARK and timer["Unit"]["DefaultDependencies"] == "no"
    assert "Unit" not in timer["Timer"], "a timer starts the service of its own name"


def test_the_service_calls_the_agent_and_reboots_by_force_when_it_cannot(machine: FixtureMachine) -> None:
    begun(machine)
    service = unit(machine, trial.SERVICE)
    assert service["Service"]["ExecStart"] == f"{PROGRAM} trial-expired" and service["Service"]["Type"] == "oneshot"
    assert service["Unit"]["FailureAction"] == "reboot-force"
    assert service["Unit"]["ConditionKernelCommandLine"] == TRIAL_MARK and service["Unit"]["DefaultDependencies"] == "no"


def test_the_timer_starts_before_anything_a_command_line_could_break(machine: FixtureMachine) -> None:
    begun(machine)
    link = machine.root / "etc/systemd/system/sysinit.target.wants/lowlatency-trial.timer"
    assert link.is_symlink() and link.resolve() == machine.root / trial.TIMER[1:]


def test_beginning_writes_its_files_and_no_other(machine: FixtureMachine) -> None:
    before = content(machine.root)
    begun(machine)
    new = {name for name in content(machine.root) if name not in before}
    assert new == {name[1:] for name in (trial.RECORD, trial.SERVICE, trial.TIMER, trial.ENABLED)} | {os.path.dirname(trial.ENABLED)[1:]}
    assert content(machine.root, but=tuple(new)) == before
    assert tree(machine.root)[trial.RECORD[1:]][0] == "-rw-------"
    assert {tree(machine.root)[name[1:]][0] for name in (trial.SERVICE, trial.TIMER)} == {"-rw-r--r--"}


def test_the_record_is_there_before_anything_that_acts_on_it(machine: FixtureMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    real = trial.write_whole
    monkeypatch.setattr(trial, "write_whole", lambda host, name, *rest: (written.append(name), real(host, name, *rest)))
    begun(machine)
    assert written[0] == trial.RECORD


def test_beginning_twice_is_beginning_once(machine: FixtureMachine) -> None:
    begun(machine)
    once = content(machine.root)
    begun(machine)
    assert content(machine.root) == once


@pytest.mark.parametrize("forget", [True, False])
def test_ending_removes_just_what_beginning_wrote(machine: FixtureMachine, forget: bool) -> None:
    machine.write("etc/systemd/system/other.service", "[Unit]\n").write("var/lib/lowlatency/journal.jsonl", "{}\n")
    machine.link("etc/systemd/system/sysinit.target.wants/other.service", "../other.service")
    before = content(machine.root)
    begun(machine)
    record = (machine.root / trial.RECORD[1:]).read_bytes()
    trial.end(host_of(machine), forget=forget)
    assert content(machine.root) == (before if forget else {**before, trial.RECORD[1:]: record})


def test_ending_what_never_began_is_nothing(machine: FixtureMachine) -> None:
    before = content(machine.root)
    trial.end(host_of(machine))
    assert content(machine.root) == before


def test_what_is_written_is_told_to_the_journal() -> None:
    assert {file.path for file in trial.files()} == {trial.SERVICE, trial.TIMER}


def test_a_full_disk_is_told_when_a_trial_begins(machine: FixtureMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(host: Host, name: str, text: bytes, mode: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

    monkeypatch.setattr(trial, "write_whole", full)
    before = content(machine.root)
    with pytest.raises(OSError, match="No space"):
        begun(machine)
    assert content(machine.root) == before


# --- when its time runs out -------------------------------------------------------------------------------------------


def test_the_time_runs_out_in_the_boot_on_trial_only(machine: FixtureMachine) -> None:
    record = begun(machine).read_bytes(trial.RECORD)
    assert not trial.expire(host_of(machine))
    assert not trial.expire(host_of(booted(machine, BEFORE)))
    assert not trial.expire(host_of(booted(machine, (*BEFORE, f"{TRIAL_MARK}=other"))))
    assert host_of(machine).read_bytes(trial.RECORD) == record


def test_the_time_that_ran_out_is_written_down_and_nothing_else(machine: FixtureMachine) -> None:
    begun(machine)
    booted(machine)
    before = content(machine.root, but=(trial.RECORD[1:],))
    assert trial.expire(host_of(machine))
    found = trial.record(host_of(machine))
    assert found is not None and found.expired and found.own == OWN and found.identity == KNOWN.identity
    assert content(machine.root, but=(trial.RECORD[1:],)) == before


def test_a_trial_that_was_confirmed_in_time_does_not_run_out(machine: FixtureMachine) -> None:
    begun(machine)
    trial.end(host_of(booted(machine)))
    assert not trial.expire(host_of(machine))
    assert trial.record(host_of(machine)) is None


def test_every_harder_way_of_rebooting_is_tried_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def refused(*command: str) -> str:
        done.append(" ".join(command))
        raise ProgramFailed("systemctl: no")

    monkeypatch.setattr(trial, "output_of", refused)
    monkeypatch.setattr(trial.time, "sleep", lambda seconds: done.append(f"wait {seconds}"))
    trial.reboot()
    wait = f"wait {trial.PATIENCE}"
    assert done == ["systemctl reboot", wait, "systemctl reboot --force", wait, "systemctl reboot --force --force", wait]


# --- on a machine that runs -------------------------------------------------------------------------------------------


class LiveHost(Host):
    """A tree that counts as the machine we run on: programs speak of it."""

    @property
    def live(self) -> bool:
        return True

    def path(self, name: str) -> str:
        return self.root + name

    def followed(self, name: str) -> str:
        return self.root + name


def test_the_service_manager_hears_of_a_trial_that_begins_and_ends(machine: FixtureMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    (machine.root / "run/systemd/system").mkdir(parents=True)
    done: list[str] = []
    monkeypatch.setattr(trial, "output_of", lambda *command: done.append(" ".join(command)) or "")
    live = LiveHost(str(machine.root))
    trial.begin(live, KNOWN)
    assert done == ["systemctl daemon-reload"]
    trial.end(live)
    assert done[1:] == ["systemctl stop lowlatency-trial.timer", "systemctl daemon-reload"]


def test_a_timer_that_does_not_run_is_no_reason_to_keep_it(machine: FixtureMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    (machine.root / "run/systemd/system").mkdir(parents=True)

    def program(*command: str) -> str:
        if "stop" in command:
            raise ProgramFailed("systemctl: Unit lowlatency-trial.timer not loaded.")
        return ""

    monkeypatch.setattr(trial, "output_of", program)
    begun(machine)
    trial.end(LiveHost(str(machine.root)))
    assert not os.path.lexists(machine.root / trial.TIMER[1:]) and not os.path.lexists(machine.root / trial.ENABLED[1:])


def test_where_systemd_does_not_run_it_is_not_asked(machine: FixtureMachine) -> None:
    trial.begin(LiveHost(str(machine.root)), KNOWN)
    trial.end(LiveHost(str(machine.root)))
