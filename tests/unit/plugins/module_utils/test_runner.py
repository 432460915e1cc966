# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The transaction on a machine of files: check mode, one change, no second one, the journal, refusals, and runs that die."""

from __future__ import annotations

import base64
import copy
import errno
import json
import os
import shutil
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils import runner
from ansible_collections.lowlatency.fleet.plugins.module_utils.domains import Batches, BootSteps, Domain
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import deployment, ethtool
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import tunables as host_tunables
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.deployment import (
    DESIRED,
    ENABLED,
    PROGRAM,
    UNIT_FILE,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.ethtool_ioctl import Ioctl
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.files import LOCK, SUFFIX, Busy, locked
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.journal import JOURNAL, BrokenJournal
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host, Unreadable
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.nic_parameters import Parameter
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import (
    CHANGED,
    DRIFTED,
    ERROR,
    OK,
    UNSUPPORTED,
    OwnedFile,
    Plan,
    Setting,
    Unsupported,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.tunables import OWNED_FILE, assignments
from ansible_collections.lowlatency.fleet.tests.unit import fixture_host
from ansible_collections.lowlatency.fleet.tests.unit.fixture_driver import GRO, Driver, Family, Opened
from ansible_collections.lowlatency.fleet.tests.unit.fixture_host import (
    IRQ_PART,
    KERNEL_PART,
    TCP_PART,
    WANTED,
    Writes,
    begun,
    content,
    sysctl_path,
    tree,
    tunable_machine,
)
from ansible_collections.lowlatency.fleet.tests.unit.fixture_machine import FixtureMachine

SACK_FILE = "/proc/sys/net/ipv4/tcp_sack"
ACPI_FILE = "/proc/irq/9/smp_affinity_list"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tunable_machine(tmp_path / "machine").root


@pytest.fixture(autouse=True)
def writes(monkeypatch: pytest.MonkeyPatch) -> Writes:
    monkeypatch.setattr(runner, "PATIENCE", 0)
    return Writes(monkeypatch)


def keys(outcome: runner.Outcome, state: str) -> set[tuple[str, str]]:
    return {setting.key for setting in outcome.settings if setting.state == state}


def named(outcome: runner.Outcome, name: str) -> Setting:
    return next(setting for setting in outcome.settings if setting.name == name)


def journal(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / JOURNAL[1:]).read_text().splitlines()]


def originals(root: Path) -> dict[tuple[str, ...], Any]:
    return {tuple(record["key"]): record["original"] for record in journal(root)}


def asked(**values: object) -> dict[str, Any]:
    return {"tunables": {"tcp_tuning": {"values": {f"net.ipv4.{key}": value for key, value in values.items()}}}}


# --- one change, and none ---------------------------------------------------------------------------------------------


def test_check_mode_leaves_the_machine_as_it_is(root: Path, writes: Writes) -> None:
    before = tree(root)
    outcome = runner.audit(begun(root))
    assert outcome.changed
    assert tree(root) == before
    assert writes.done == []


def test_the_host_is_what_is_wanted(root: Path) -> None:
    outcome = runner.apply(begun(root))
    assert outcome.changed and outcome.errors == []
    assert sysctl_path(root, "net.ipv4.tcp_sack").read_text().strip() == "1"
    assert sysctl_path(root, "vm.swappiness").read_text().strip() == "10"
    assert (root / "proc/irq/41/smp_affinity_list").read_text().strip() == "4"
    assert (root / "proc/irq/42/smp_affinity_list").read_text().strip() == "5"
    assert (root / "proc/irq/9/smp_affinity_list").read_text().strip() == "0-1,4-5"
    assert (root / "proc/irq/8/smp_affinity_list").read_text() == "0\n"
    assert (root / "proc/irq/7/smp_affinity_list").read_text() == "0-7\n", "nobody asked for interrupt 7"
    assert int((root / "proc/irq/default_smp_affinity").read_text(), 16) == 0x33
    assert assignments((root / OWNED_FILE[1:]).read_text()) == {
        "kernel.numa_balancing": "0", "vm.swappiness": "10", "net.ipv4.tcp_sack": "1", "net.ipv4.tcp_dsack": "1",
        "net.ipv4.tcp_rmem": "4096 131072 16777216",
    }
    assert (root / PROGRAM[1:]).read_bytes() == fixture_host.PROGRAM
    assert (root / PROGRAM[1:]).stat().st_mode & 0o7777 == 0o755
    assert json.loads((root / DESIRED[1:]).read_text())["desired"] == WANTED
    assert (root / ENABLED[1:]).is_symlink() and (root / UNIT_FILE[1:]).is_file()


def test_the_second_run_changes_nothing_and_rewrites_nothing(root: Path, writes: Writes) -> None:
    runner.apply(begun(root))
    before, done = tree(root), list(writes.done)
    outcome = runner.apply(begun(root))
    assert not outcome.changed and outcome.contents == ()
    assert {setting.state for setting in outcome.settings} == {OK, UNSUPPORTED}
    assert tree(root) == before
    assert writes.done == done
    assert not runner.audit(begun(root)).changed


def test_the_audit_foretells_exactly_what_a_run_changes(root: Path) -> None:
    foretold = runner.audit(begun(root))
    done = runner.apply(begun(root))
    assert keys(foretold, DRIFTED) == keys(done, CHANGED) != set()
    assert [setting.key for setting in foretold.settings] == [setting.key for setting in done.settings]
    assert foretold.contents == done.contents
    for state in (OK, UNSUPPORTED):
        assert keys(foretold, state) == keys(done, state)


@pytest.mark.parametrize("left", ["proc/sys/vm/swappiness", "proc/irq/9/smp_affinity_list", "proc/irq/default_smp_affinity"])
def test_the_audit_foretells_a_single_drift(root: Path, left: str) -> None:
    runner.apply(begun(root))
    (root / left).write_text("7\n")
    foretold = runner.audit(begun(root))
    assert len(keys(foretold, DRIFTED)) == 1
    done = runner.apply(begun(root))
    assert keys(done, CHANGED) == keys(foretold, DRIFTED)
    assert not runner.audit(begun(root)).changed


def test_only_what_drifted_is_written(root: Path, writes: Writes) -> None:
    runner.apply(begun(root))
    writes.done.clear()
    sysctl_path(root, "vm.swappiness").write_text("60\n")
    runner.apply(begun(root))
    assert writes.done == ["/proc/sys/vm/swappiness"]


def test_a_file_that_somebody_changed_is_put_right_and_shown(root: Path, writes: Writes) -> None:
    runner.apply(begun(root))
    (root / OWNED_FILE[1:]).write_text("net.ipv4.tcp_sack = 0\n")
    writes.done.clear()
    foretold = runner.audit(begun(root))
    assert named(foretold, OWNED_FILE).state == DRIFTED and named(foretold, "net.ipv4.tcp_sack").persisted == "0"
    assert [(path, before) for path, before, _after in foretold.contents] == [(OWNED_FILE, b"net.ipv4.tcp_sack = 0\n")]
    runner.apply(begun(root))
    assert writes.done == [OWNED_FILE]


def test_domains_are_written_in_the_order_of_the_registry_and_the_agent_last(root: Path, writes: Writes) -> None:
    runner.apply(begun(root))
    kinds = ["irq" if name.startswith("/proc/irq") else "sysctl" if "sys" in name.split("/")[1:3] or name == OWNED_FILE else "agent" for name in writes.done]
    assert kinds == sorted(kinds, key=["irq", "sysctl", "agent"].index)
    assert writes.done.index(OWNED_FILE) == max(index for index, kind in enumerate(kinds) if kind == "sysctl")
    enabled = ["systemctl enable -- lowlatency.service", "systemctl enable -- lowlatency-nics.path"]
    assert writes.done[-2:] == enabled, "units are enabled once their files are there"


def test_without_a_program_there_is_no_agent_and_what_it_would_set_has_drifted(root: Path) -> None:
    outcome = runner.apply(begun(root, program=None))
    assert not (root / PROGRAM[1:]).exists() and not (root / DESIRED[1:]).exists()
    assert {setting.control.partition(".")[0] for setting in outcome.errors} == {"irq"}


def test_a_kept_state_that_is_not_in_force_does_not_make_interrupts_last(root: Path) -> None:
    runner.apply(begun(root))
    (root / ENABLED[1:]).unlink()
    outcome = runner.audit(begun(root))
    assert named(outcome, "eth0-TxRx-0").state == DRIFTED and named(outcome, "eth0-TxRx-0").persisted is None
    assert named(outcome, "lowlatency.service").state == DRIFTED
    assert named(outcome, "net.ipv4.tcp_sack").state == OK


def test_where_no_agent_can_run_interrupts_are_judged_live_and_it_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment, "impossible", lambda host: "systemd does not run here")
    outcome = runner.apply(begun(root))
    assert outcome.errors == []
    assert named(outcome, "lowlatency.service").state == UNSUPPORTED
    assert not (root / PROGRAM[1:]).exists()
    again = runner.audit(begun(root))
    assert not again.changed
    assert "until the next boot only" in named(again, "eth0-TxRx-0").reason


def test_what_a_kept_wish_for_another_nic_says_is_not_taken_for_this_one(root: Path) -> None:
    runner.apply(begun(root))
    other = {"irq_affinity": {"irq_affinity": {**IRQ_PART, "nics": [{"pci": "0000:02:00.0", "cpus": "4-5"}]}}}
    assert runner.apply(begun(root, other)).errors == []
    back = runner.audit(begun(root, {"irq_affinity": WANTED["irq_affinity"]}))
    assert named(back, "eth0-TxRx-0").persisted != "4", "the kept wish places the interrupts of the other NIC only"


# --- the journal ------------------------------------------------------------------------------------------------------


def test_the_originals_are_on_disk_before_the_first_write(root: Path, writes: Writes) -> None:
    seen: list[int] = []

    def journal_is_complete(name: str) -> None:
        seen.append(len(journal(root)))

    writes.before = journal_is_complete
    runner.apply(begun(root))
    assert len(seen) == len(writes.done) and set(seen) == {len(journal(root))} and seen[0] > 0
    known = originals(root)
    assert known["tunables", "net.ipv4.tcp_sack", "net.ipv4.tcp_sack"] == "0"
    assert known["irq_affinity", "irq.nic_affinity", "eth0-TxRx-1"] == "7"
    assert known["irq_affinity", "irq.default_affinity", "default_smp_affinity"] == "0-7"
    assert known[OWNED_FILE,] is None and known[PROGRAM,] is None and known[DESIRED,] is None
    assert known["agent", "agent.unit", "lowlatency.service"] == "disabled"


def test_everything_that_is_written_is_in_the_journal_and_nothing_else(root: Path, writes: Writes) -> None:
    before = content(root)
    runner.apply(begun(root))
    assert len(journal(root)) == len(writes.done)
    assert all("dsack" not in "".join(record["key"]) for record in journal(root)), "tcp_dsack was right"
    changed = {name for name, held in content(root).items() if held and before.get(name) != held and "effective" not in name}
    assert len(changed - {JOURNAL[1:]}) == len(writes.done), "nothing is written but through these doors"


def test_when_the_first_write_fails_the_journal_is_there(root: Path, writes: Writes) -> None:
    class PowerCut(BaseException):
        pass

    def cut(name: str) -> None:
        raise PowerCut

    writes.before = cut
    with pytest.raises(PowerCut):
        runner.apply(begun(root))
    assert len(originals(root)) > 8


def test_a_journal_that_cannot_be_kept_stops_the_run_before_the_first_write(root: Path, writes: Writes) -> None:
    (root / "var/lib/lowlatency").write_text("in the way\n")
    with pytest.raises(runner.Refused, match="nothing is changed"):
        runner.apply(begun(root))
    assert writes.done == []


def test_the_first_original_counts(root: Path) -> None:
    (root / OWNED_FILE[1:]).write_bytes(b"# before us\n\xff\n")
    (root / OWNED_FILE[1:]).chmod(0o640)
    runner.apply(begun(root), when="first")
    sysctl_path(root, "net.ipv4.tcp_sack").write_text("0\n")
    sysctl_path(root, "vm.swappiness").write_text("99\n")
    (root / OWNED_FILE[1:]).write_bytes(b"# meddled with\n")
    runner.apply(begun(root, asked(tcp_dsack=0)), when="second")
    runner.apply(begun(root), when="third")
    known = originals(root)
    assert len(known) == len(journal(root)), "one record a thing"
    assert known["tunables", "net.ipv4.tcp_sack", "net.ipv4.tcp_sack"] == "0"
    assert known["tunables", "vm.swappiness", "vm.swappiness"] == "60"
    record = next(record for record in journal(root) if record["key"] == [OWNED_FILE])
    assert base64.b64decode(record["original"]) == b"# before us\n\xff\n"
    assert (record["mode"], record["when"]) == (0o640, "first")
    later = next(record for record in journal(root) if record["key"][-1] == "net.ipv4.tcp_dsack")
    assert (later["original"], later["when"]) == ("1", "second")


def test_a_last_line_cut_short_is_no_record(root: Path) -> None:
    runner.apply(begun(root))
    whole = (root / JOURNAL[1:]).read_bytes()
    (root / JOURNAL[1:]).write_bytes(whole + b'{"kind": "setting", "key": ["tunables", "net.ipv4.tcp_d')
    outcome = runner.apply(begun(root, asked(tcp_dsack=0)))
    assert outcome.errors == []
    assert (root / JOURNAL[1:]).read_bytes().startswith(whole)
    assert originals(root)["tunables", "net.ipv4.tcp_dsack", "net.ipv4.tcp_dsack"] == "1"


@pytest.mark.parametrize("line", ["{broken", "[]", '"text"', '{"kind": "file"}', '{"kind": "file", "key": 5}', ""])
def test_a_broken_line_in_the_middle_is_a_clear_error(root: Path, writes: Writes, line: str) -> None:
    runner.apply(begun(root))
    lines = (root / JOURNAL[1:]).read_text().splitlines()
    lines[1] = line
    (root / JOURNAL[1:]).write_text("\n".join(lines) + "\n")
    sysctl_path(root, "vm.swappiness").write_text("60\n")
    writes.done.clear()
    with pytest.raises(BrokenJournal, match=rf"{JOURNAL} line 2: .*move the file away"):
        runner.apply(begun(root))
    assert writes.done == []


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("documents", "words"),
    [
        ({**WANTED, "tunables": {"tcp_tuning": {"values": {"net.ipv4.tcp_sack": 7}}}}, ["tunables (tcp_tuning)", "net.ipv4.tcp_sack", "from 0 to 1"]),
        ({**WANTED, "irq_affinity": {"irq_affinity": {**IRQ_PART, "housekeeping": "0-3"}}}, ["irq_affinity (irq_affinity)", "(R7)"]),
        ({**WANTED, "sysctls": {}}, ["no domain 'sysctls'", "tunables", "irq_affinity"]),
    ],
)
def test_a_wish_that_is_wrong_on_any_host_never_begins(root: Path, documents: Any, words: list[str]) -> None:
    before = tree(root)
    with pytest.raises(runner.Refused) as caught:
        begun(root, documents)
    for word in words:
        assert word in str(caught.value)
    assert tree(root) == before


@pytest.mark.parametrize(
    ("documents", "words"),
    [
        ({**WANTED, "irq_affinity": {"irq_affinity": {**IRQ_PART, "isolated": "6-9"}}}, ["CPUs 8-9 are not online"]),
        ({**WANTED, "tunables": {"kernel_tunables": {"values": {"net.ipv4.tcp_sack": 0}}, "tcp_tuning": TCP_PART}},
         ["net.ipv4.tcp_sack", "kernel_tunables wants 0", "tcp_tuning wants 1"]),
    ],
)
def test_a_wish_of_one_domain_that_cannot_be_right_here_stops_all_of_them(root: Path, writes: Writes, documents: Any, words: list[str]) -> None:
    before = tree(root)
    for act in (runner.audit, runner.apply):
        with pytest.raises(runner.Refused) as caught:
            act(begun(root, documents))
        for word in words:
            assert word in str(caught.value)
    assert writes.done == []
    assert {**tree(root), "run": (), LOCK[1:]: ()} == {**before, "run": (), LOCK[1:]: ()}, "nothing but the lock"


@pytest.mark.parametrize(
    ("documents", "name", "words"),
    [
        ({**WANTED, "irq_affinity": {"irq_affinity": {**IRQ_PART, "nics": [{"pci": "0000:99:00.0", "cpus": "4"}, {"pci": fixture_host.NIC, "cpus": "4-5"}]}}},
         "0000:99:00.0", ["no such NIC"]),
        ({**WANTED, "ethtool": {"nic_tuning": {"nics": [{"interface": "eth9"}], "features": {"gro": "off"}}}}, "eth9", ["there are: eth0, eth1"]),
    ],
)
def test_a_nic_that_is_not_there_is_an_error_of_it_alone(root: Path, writes: Writes, documents: Any, name: str, words: list[str]) -> None:
    """A NIC that is missing, or that is wrong in itself, refuses neither the other NICs nor the other domains; the run fails in the end."""
    foretold, outcome = runner.audit(begun(root, documents)), runner.apply(begun(root, documents))
    for found in (foretold, outcome):
        assert [setting.key for setting in found.errors] == [("nic", name)]
        for word in words:
            assert word in found.errors[0].reason
    assert named(outcome, "eth0-TxRx-0").state == CHANGED and named(outcome, "net.ipv4.tcp_sack").state == CHANGED


def test_what_cannot_be_read_stops_a_run_and_is_an_error_of_an_audit(root: Path, writes: Writes, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Host.read

    def read(self: Host, name: str) -> str:
        if name == SACK_FILE:
            raise Unreadable(name, "Input/output error")
        return real(self, name)

    monkeypatch.setattr(Host, "read", read)
    outcome = runner.audit(begun(root))
    assert named(outcome, "net.ipv4.tcp_sack").state == ERROR
    assert "Input/output error" in named(outcome, "net.ipv4.tcp_sack").reason
    with pytest.raises(runner.Refused, match=r"tcp_sack.*Input/output error"):
        runner.apply(begun(root))
    assert writes.done == []


@pytest.mark.parametrize(("place", "words"), [(OWNED_FILE, "is a directory"), (PROGRAM, "is a directory"), ("/etc/lowlatency", "is not a directory")])
def test_a_file_that_could_not_be_written_stops_the_run_before_the_first_write(root: Path, writes: Writes, place: str, words: str) -> None:
    path = root / place[1:]
    if "not" in words:
        path.write_text("in the way\n")
    else:
        path.mkdir(parents=True)
    with pytest.raises(runner.Refused, match=words):
        runner.apply(begun(root))
    assert writes.done == [] and not (root / JOURNAL[1:]).exists()


def test_a_concurrent_run_is_refused(root: Path, writes: Writes) -> None:
    before = tree(root)
    with locked(Host(str(root))):
        with pytest.raises(Busy, match="another run is writing on this host"):
            runner.apply(begun(root))
        assert runner.audit(begun(root)).changed, "an audit waits for nobody"
    assert writes.done == [] and set(tree(root)) - set(before) == {LOCK[1:]}
    assert runner.apply(begun(root)).changed, "the lock is gone with its holder"


def lay_down(root: Path, documents: Any) -> None:
    """What a host keeps, as another run would write it."""
    (root / DESIRED[1:]).parent.mkdir(exist_ok=True)
    (root / DESIRED[1:]).write_bytes(deployment.desired_text(documents))


def while_another_run_writes(root: Path, documents: Any) -> threading.Thread:
    """Another run, which holds the lock for a moment and leaves the host with ``documents`` to keep."""
    held = threading.Event()

    def run() -> None:
        with locked(Host(str(root))):
            held.set()
            time.sleep(0.7)
            lay_down(root, documents)

    other = threading.Thread(target=run)
    other.start()
    assert held.wait(30)
    return other


def test_the_agent_waits_and_applies_what_is_kept_by_then(root: Path) -> None:
    lay_down(root, asked(tcp_sack=0))
    other = while_another_run_writes(root, asked(tcp_sack=1))
    with pytest.raises(Busy):
        runner.apply_kept(Host(str(root)))
    assert runner.apply_kept(Host(str(root)), patience=30).changed
    other.join()
    assert sysctl_path(root, "net.ipv4.tcp_sack").read_text().strip() == "1"


def test_a_run_that_waits_loses_nothing_of_what_the_other_kept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "PATIENCE", 30)
    mine = begun(root, {"tunables": {"kernel_tunables": KERNEL_PART}})
    other = while_another_run_writes(root, asked(tcp_sack=1))
    assert runner.apply(mine).errors == []
    other.join()
    kept = json.loads((root / DESIRED[1:]).read_text())["desired"]["tunables"]
    assert kept == {"kernel_tunables": KERNEL_PART, **asked(tcp_sack=1)["tunables"]}
    assert sysctl_path(root, "vm.swappiness").read_text().strip() == "10"


def test_only_the_domains_that_are_named_are_applied(root: Path, writes: Writes) -> None:
    lay_down(root, WANTED)
    outcome = runner.apply_kept(Host(str(root)), ("ethtool", "irq_affinity"))
    assert outcome.changed and {setting.control.partition(".")[0] for setting in outcome.settings} == {"irq"}
    assert all(name.startswith("/proc/irq/") for name in writes.done) and writes.done
    assert runner.apply_kept(Host(str(root)), ("ethtool",)) == runner.Outcome((), changed=False), "this host has no such wish"


def test_a_desired_state_that_is_none_is_named(root: Path) -> None:
    (root / "etc/lowlatency").mkdir()
    for text in ("{", "[]", "{}", '{"desired": 5}', "null"):
        (root / DESIRED[1:]).write_text(text)
        with pytest.raises(Unreadable, match=f"{DESIRED}.*move it away"):
            begun(root)


# --- writes that the host does not take -------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EOPNOTSUPP, errno.EIO, errno.EPERM])
def test_a_refused_write_stops_no_other(root: Path, writes: Writes, code: int) -> None:
    writes.refused[SACK_FILE] = code
    outcome = runner.apply(begun(root))
    assert [(setting.name, setting.state) for setting in outcome.errors] == [("net.ipv4.tcp_sack", ERROR)]
    assert os.strerror(code) in outcome.errors[0].reason
    assert outcome.changed
    assert sysctl_path(root, "vm.swappiness").read_text().strip() == "10"
    assert (root / OWNED_FILE[1:]).exists() and (root / ENABLED[1:]).is_symlink()
    assert named(outcome, "net.ipv4.tcp_rmem").state == CHANGED


def test_a_refused_file_stops_no_other(root: Path, writes: Writes) -> None:
    writes.refused[OWNED_FILE] = errno.ENOSPC
    outcome = runner.apply(begun(root))
    assert OWNED_FILE in {setting.name for setting in outcome.errors}
    assert os.strerror(errno.ENOSPC) in named(outcome, OWNED_FILE).reason
    assert (root / ENABLED[1:]).is_symlink()


@pytest.mark.parametrize("code", [errno.EIO, errno.EPERM])
def test_an_interrupt_the_kernel_does_not_let_go_is_unsupported_and_known_from_then_on(root: Path, writes: Writes, code: int) -> None:
    writes.refused[ACPI_FILE] = code
    outcome = runner.apply(begun(root))
    assert outcome.errors == []
    assert named(outcome, "acpi").state == UNSUPPORTED and errno.errorcode[code] in named(outcome, "acpi").reason
    assert named(outcome, "eth0-TxRx-0").state == CHANGED
    writes.done.clear()
    again = runner.apply(begun(root))
    assert not again.changed and writes.done == [], "it is not tried again"
    assert named(runner.audit(begun(root)), "acpi").state == UNSUPPORTED


def test_any_other_answer_of_the_kernel_to_an_interrupt_is_an_error(root: Path, writes: Writes) -> None:
    writes.refused[ACPI_FILE] = errno.ENOSPC
    assert [setting.name for setting in runner.apply(begun(root)).errors] == ["acpi"]


@pytest.mark.parametrize(("path", "name"), [(SACK_FILE, "net.ipv4.tcp_sack"), ("/proc/irq/42/smp_affinity_list", "eth0-TxRx-1")])
def test_a_write_that_is_accepted_and_not_kept_is_an_error(root: Path, writes: Writes, path: str, name: str) -> None:
    writes.forgotten.add(path)
    outcome = runner.apply(begun(root))
    assert [setting.name for setting in outcome.errors] == [name]
    assert "did not keep it" in outcome.errors[0].reason
    assert outcome.errors[0].current in ("0", "7"), "the result tells what the host holds"


def test_a_later_file_that_wins_at_boot_is_an_error_of_the_run_and_named(root: Path) -> None:
    (root / "etc/sysctl.d/99-site.conf").write_text("net.ipv4.tcp_sack = 0\n")
    outcome = runner.apply(begun(root))
    assert [setting.name for setting in outcome.errors] == ["net.ipv4.tcp_sack"]
    assert "/etc/sysctl.d/99-site.conf is read later and wins" in outcome.errors[0].reason
    assert sysctl_path(root, "net.ipv4.tcp_sack").read_text().strip() == "1"
    assert named(runner.audit(begun(root)), "net.ipv4.tcp_sack").state == DRIFTED


def test_a_domain_that_cannot_be_read_back_fails_with_the_reason(root: Path, writes: Writes, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = host_tunables.read_files, []

    def files_of(host: Host) -> Any:
        calls.append(host)
        if len(calls) > 1:
            raise OSError(errno.EIO, "Input/output error")
        return real(host)

    monkeypatch.setattr(host_tunables, "read_files", files_of)
    errors = runner.apply(begun(root)).errors
    assert "vm.swappiness" in {setting.name for setting in errors}
    assert all("Input/output error" in setting.reason for setting in errors)


# --- runs that die half way -------------------------------------------------------------------------------------------


def dying_at(step: int, root: Path, writes: Writes) -> bool:
    """Run in a process that is gone at its ``step``-th effect; whether it got that far."""
    child = os.fork()
    if child == 0:
        code = 3
        try:
            left = [step]

            def effect(real: Any) -> Any:
                def instead(*arguments: Any, **more: Any) -> Any:
                    left[0] -= 1
                    if left[0] < 0:
                        os._exit(9)
                    return real(*arguments, **more)
                return instead

            for name in ("fsync", "replace", "makedirs", "ftruncate", "fchmod"):
                setattr(os, name, effect(getattr(os, name)))
            writes.before = effect(writes.before)
            runner.apply(begun(root))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9


def test_wherever_a_run_dies_files_are_whole_and_the_next_run_finishes(tmp_path: Path, writes: Writes) -> None:
    clean = tunable_machine(tmp_path / "clean").root
    first = content(clean)
    runner.apply(begun(clean), when="w")
    last = content(clean, but=(JOURNAL[1:],))
    wanted = originals(clean)
    owned = {path[1:] for path in (OWNED_FILE, PROGRAM, DESIRED, UNIT_FILE)}
    deaths = 0
    while True:
        root = tunable_machine(tmp_path / f"dead{deaths}").root
        if not dying_at(deaths, root, writes):
            break
        found = content(root)
        for name in owned:
            assert found.get(name) in (first.get(name), last[name]), f"{name} after dying at step {deaths}"
        moved = [name for name in first if found[name] != first[name]]
        assert not moved or originals(root) == wanted, f"step {deaths}: {moved} moved with an incomplete journal"
        outcome = runner.apply(begun(root))
        assert outcome.errors == [], f"the run after step {deaths}"
        assert content(root, but=(JOURNAL[1:],)) == last
        assert originals(root) == wanted
        assert not [name for name in tree(root) if name.endswith(SUFFIX)]
        deaths += 1
    assert deaths > 15


@pytest.fixture
def interrupted() -> Iterator[type[BaseException]]:
    class Interrupted(BaseException):
        pass

    yield Interrupted


def test_the_lock_is_let_go_when_a_run_is_interrupted(root: Path, writes: Writes, interrupted: type[BaseException]) -> None:
    def interrupt(name: str) -> None:
        if name == OWNED_FILE:
            raise interrupted

    writes.before = interrupt
    with pytest.raises(interrupted):
        runner.apply(begun(root))
    writes.before = lambda name: None
    assert runner.apply(begun(root)).errors == []


# --- a part of the whole ----------------------------------------------------------------------------------------------


def test_a_part_alone_keeps_the_others(root: Path) -> None:
    runner.apply(begun(root))
    again = copy.deepcopy(TCP_PART)
    again["values"]["net.ipv4.tcp_sack"] = 0
    outcome = runner.apply(begun(root, {"tunables": {"tcp_tuning": again}}))
    assert keys(outcome, CHANGED) == {("net.ipv4.tcp_sack", "net.ipv4.tcp_sack"), ("sysctl.file", OWNED_FILE), ("agent.desired", DESIRED)}
    assert json.loads((root / DESIRED[1:]).read_text())["desired"] == {**WANTED, "tunables": {"kernel_tunables": KERNEL_PART, "tcp_tuning": again}}
    held = assignments((root / OWNED_FILE[1:]).read_text())
    assert held["net.ipv4.tcp_sack"] == "0" and held["vm.swappiness"] == "10"


def test_a_part_alone_touches_no_other_domain(root: Path, writes: Writes) -> None:
    runner.apply(begun(root))
    (root / ACPI_FILE[1:]).write_text("2\n")
    writes.done.clear()
    outcome = runner.apply(begun(root, {"tunables": {"tcp_tuning": TCP_PART}}))
    assert not outcome.changed and writes.done == []
    assert not any(setting.control.startswith("irq.") for setting in outcome.settings)


def test_a_key_that_a_part_no_longer_names_leaves_the_file(root: Path) -> None:
    runner.apply(begun(root))
    runner.apply(begun(root, {"tunables": {"tcp_tuning": {"values": {"net.ipv4.tcp_sack": 1}}}}))
    assert set(assignments((root / OWNED_FILE[1:]).read_text())) == {"net.ipv4.tcp_sack", "vm.swappiness", "kernel.numa_balancing"}


def test_a_part_alone_that_disagrees_with_a_kept_one_is_refused_by_both_names(root: Path) -> None:
    runner.apply(begun(root))
    before = tree(root)
    with pytest.raises(runner.Refused, match=r"vm\.swappiness: kernel_tunables wants 10, tcp_tuning wants 5"):
        runner.apply(begun(root, {"tunables": {"tcp_tuning": {"values": {"vm.swappiness": 5}}}}))
    assert tree(root) == before


def test_a_domain_that_only_a_later_version_knows_is_kept(root: Path) -> None:
    runner.apply(begun(root))
    path = root / DESIRED[1:]
    document = json.loads(path.read_text())
    document["desired"]["a_later_one"] = {"a_role": {"count": 4}}
    path.write_bytes(deployment.desired_text(document["desired"]))
    assert not runner.apply(begun(root)).changed
    assert json.loads(path.read_text())["desired"]["a_later_one"] == {"a_role": {"count": 4}}


# --- at boot ----------------------------------------------------------------------------------------------------------


def test_verify_judges_the_rest_where_audit_refuses(root: Path) -> None:
    documents = {**WANTED, "irq_affinity": {"irq_affinity": {**IRQ_PART, "isolated": "6-9"}}}
    outcome = runner.verify(begun(root, documents, program=None))
    assert [(setting.control, setting.state) for setting in outcome.settings if setting.name == "all"] == [("irq_affinity", ERROR)]
    assert named(outcome, "net.ipv4.tcp_sack").state == DRIFTED


def test_at_boot_half_of_it_is_better_than_none(root: Path) -> None:
    documents = {**WANTED, "irq_affinity": {"irq_affinity": {**IRQ_PART, "isolated": "6-9"}}}
    lay_down(root, documents)
    outcome = runner.apply_kept(Host(str(root)))
    assert [(setting.control, setting.name) for setting in outcome.errors] == [("irq_affinity", "all")]
    assert sysctl_path(root, "net.ipv4.tcp_sack").read_text().strip() == "1"


def test_what_an_earlier_domain_disturbs_is_set_right_by_the_later_one(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # as irqbalance, which moves an interrupt between the first reading and its own end
    write = runner._write

    def disturbing(host: Host, survey: runner.Survey, refusals: dict[tuple[str, str], Exception]) -> None:
        write(host, survey, refusals)
        if survey.domain.name == "irq_affinity":
            sysctl_path(root, "net.ipv4.tcp_dsack").write_text("0\n")

    monkeypatch.setattr(runner, "_write", disturbing)
    outcome = runner.apply(begun(root))
    assert not outcome.errors
    assert sysctl_path(root, "net.ipv4.tcp_dsack").read_text() == "1"
    assert originals(root)[("tunables", "net.ipv4.tcp_dsack", "net.ipv4.tcp_dsack")] == "0"


@pytest.mark.parametrize("desired", [None, [1], {"tunables": [1]}, {"tunables": {"tcp_tuning": [1]}}])
def test_a_desired_state_of_another_shape_is_named(root: Path, desired: object) -> None:
    folder = root / DESIRED[1:]
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text(json.dumps({"desired": desired}))
    with pytest.raises(Unreadable, match="move it away"):
        begun(root)


# --- what needs a boot ------------------------------------------------------------------------------------------------


class Boot:
    """A domain of two values that come with a boot, and what its steps were asked to do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.running, self.next, self.steps = "old", "old", list[str]()
        self.failures: list[OSError] = []
        steps = BootSteps(self.arm, self.settle, lambda host, state: self.steps.append("tidy"), lambda host, state: (OwnedFile("x", "/boot/loader", b""),))
        domain = Domain("kernel_cmdline", {}, lambda spec: [], lambda host, spec: (self.running, self.next), self.plan, never, "boot", boot=steps)
        monkeypatch.setitem(runner.DOMAINS, "kernel_cmdline", domain)

    def plan(self, state: tuple[str, str], spec: Any) -> Plan:
        argument = Setting("cmdline.a", "a", spec["a"], state[0], state[1], needs_reboot=True)
        return Plan((argument, Setting("cmdline.file", "file", spec["a"], state[1], state[1])))

    def arm(self, host: Host, state: Any, spec: Any, seconds: int, when: str) -> None:
        for failure in self.failures:
            raise failure
        self.steps.append(f"arm {seconds}")

    def settle(self, host: Host, state: Any, spec: Any) -> None:
        for failure in self.failures:
            raise failure
        self.steps.append("settle")
        self.next = self.running


def never(host: Host, state: Any, setting: Setting) -> None:
    raise AssertionError(f"{setting.name} was written")


@pytest.fixture
def boot(monkeypatch: pytest.MonkeyPatch) -> Boot:
    return Boot(monkeypatch)


def applied(root: Path, step: str, **documents: Any) -> runner.Outcome:
    wanted = {"kernel_cmdline": {"kernel_cmdline": {"a": "new"}}, **documents}
    return runner.apply(runner.begin(Host(str(root)), wanted, fixture_host.PROGRAM, step, trial_seconds=77))


def test_a_new_boot_is_tried_where_that_is_allowed(root: Path, boot: Boot) -> None:
    outcome = applied(root, runner.TRY)
    assert boot.steps == ["arm 77"] and outcome.armed and outcome.changed and outcome.errors == []
    assert outcome.reboot_required and outcome.reboot_reasons == ["cmdline.a a is old, wanted new"]
    assert {setting.state for setting in outcome.settings if setting.control.startswith("cmdline")} == {DRIFTED}
    assert named(outcome, "a").reason == "waits for a boot"


def test_without_leave_it_is_only_reported(root: Path, boot: Boot) -> None:
    applied(root, runner.SETTLE)
    outcome = applied(root, runner.SETTLE)
    assert boot.steps == ["tidy", "tidy"]
    assert outcome.reboot_required and not outcome.armed and not outcome.changed and outcome.errors == []


def test_no_boot_is_tried_for_what_its_command_line_cannot_bring(root: Path, boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the kernel found fewer pages at boot than its command line asks for."""
    boot.running = boot.next = "new"
    pages = Domain("tunables", {}, lambda spec: [], lambda host, spec: None,
                   lambda state, spec: Plan((Setting("hugepages.1G", "node1 1G", "4", "3", "4", needs_reboot=True),)), never, "agent")
    monkeypatch.setitem(runner.DOMAINS, "tunables", pages)
    outcome = applied(root, runner.TRY, tunables={"x": {}})
    assert boot.steps == [] and not outcome.armed and outcome.reboot_required


@pytest.mark.parametrize(("running", "following"), [("old", "old"), ("new", "old")], ids=["waits", "runs"])
def test_the_host_agent_takes_no_step(root: Path, boot: Boot, running: str, following: str) -> None:
    boot.running, boot.next = running, following
    outcome = applied(root, runner.KEEP)
    assert boot.steps == [] and outcome.errors == [] and named(outcome, "a").state == DRIFTED


@pytest.mark.parametrize("step", [runner.SETTLE, runner.TRY])
def test_what_runs_is_made_to_stay_without_another_boot(root: Path, boot: Boot, step: str) -> None:
    boot.running = "new"
    outcome = applied(root, step)
    assert boot.steps == ["settle"] and outcome.changed and not outcome.armed and not outcome.reboot_required
    assert (named(outcome, "a").state, named(outcome, "file").state) == (CHANGED, CHANGED)
    assert not applied(root, step).changed and boot.steps == ["settle"]


def test_no_boot_is_tried_where_something_else_failed(root: Path, boot: Boot, writes: Writes) -> None:
    writes.refused[SACK_FILE] = errno.EIO
    outcome = applied(root, runner.TRY, tunables=WANTED["tunables"])
    assert boot.steps == ["tidy"] and not outcome.armed and outcome.reboot_required
    assert [setting.name for setting in outcome.errors] == ["net.ipv4.tcp_sack"]


def test_the_agent_is_on_the_host_before_a_boot_is_tried(root: Path, boot: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    domain = runner.DOMAINS["kernel_cmdline"]
    steps = BootSteps(lambda *_said: seen.append((root / PROGRAM[1:]).exists() and (root / JOURNAL[1:]).exists()), domain.boot.settle, domain.boot.tidy,
                      domain.boot.files)  # type: ignore[union-attr]
    monkeypatch.setitem(runner.DOMAINS, "kernel_cmdline", replace(domain, boot=steps))
    assert applied(root, runner.TRY).armed and seen == [True]


def test_originals_of_the_boot_are_in_the_journal_before_it_is_tried(root: Path, boot: Boot) -> None:
    boot.failures.append(OSError(errno.ENOSPC, "No space left on device"))
    applied(root, runner.TRY)
    assert originals(root)[("kernel_cmdline", "cmdline.a", "a")] == "old" and ("/boot/loader",) in originals(root)


@pytest.mark.parametrize("running", ["old", "new"])
def test_a_step_that_fails_is_an_error_that_says_what_boots(root: Path, boot: Boot, running: str) -> None:
    boot.running = running
    boot.failures.append(OSError(errno.ENOSPC, "No space left on device"))
    outcome = applied(root, runner.TRY)
    assert not outcome.armed and [setting.control for setting in outcome.errors] == ["kernel_cmdline.boot"]
    assert "No space left on device; it boots as before" in outcome.errors[0].reason


def test_an_audit_takes_no_step(root: Path, boot: Boot) -> None:
    before = tree(root)
    outcome = runner.audit(runner.begin(Host(str(root)), {"kernel_cmdline": {"kernel_cmdline": {"a": "new"}}}, fixture_host.PROGRAM, runner.TRY))
    assert boot.steps == [] and tree(root) == before and outcome.reboot_required


def test_another_domain_alone_takes_no_step(root: Path, boot: Boot) -> None:
    applied(root, runner.SETTLE)
    boot.steps.clear()
    runner.apply(runner.begin(Host(str(root)), WANTED, fixture_host.PROGRAM, runner.TRY))
    assert boot.steps == []


class Nic:
    """A stand-in for the ethtool domain: changing channels resets the ring, a finding is only told, the second NIC is not there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path, **wanted: Any) -> None:
        self.values = {"channels": "8", "ring": "512"}
        self.writes: list[str] = []
        self.root = root
        domain = Domain("ethtool", {}, lambda spec: [], lambda host, spec: dict(self.values), self.plan, self.write, "agent", each_alone=True, resets=True)
        monkeypatch.setitem(runner.DOMAINS, "ethtool", domain)

    def plan(self, state: dict[str, str], spec: Any) -> Plan:
        settings = [Setting(f"net.{name}", "eth0", spec[name], state[name]) for name in ("channels", "ring")]
        finding = Setting("nic.pcie", "eth0", "x16", "x8", state=OK, reason="use another slot", finding=True)
        return Plan((*settings, finding, Setting("nic", "eth9", None, state=ERROR, reason="no such interface")))

    def write(self, host: Host, state: Any, setting: Setting) -> None:
        self.writes.append(f"{setting.control} {setting.desired}")
        kind = setting.control.partition(".")[2]
        self.values.update({"ring": "256"} if kind == "channels" else {})
        self.values[kind] = str(setting.desired)

    def outcome(self) -> runner.Outcome:
        return runner.apply(runner.begin(Host(str(self.root)), {"ethtool": {"site": {"channels": "4", "ring": "512"}}}, b"#!program"))


def test_what_a_write_resets_is_written_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nic = Nic(monkeypatch, root)
    states = {setting.control: setting.state for setting in nic.outcome().settings}
    assert nic.writes == ["net.channels 4", "net.ring 512"] and nic.values == {"channels": "4", "ring": "512"}
    assert states["net.channels"] == CHANGED and states["net.ring"] in (OK, CHANGED)


def test_originals_of_what_a_write_may_reset_are_in_the_journal(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Nic(monkeypatch, root).outcome()
    originals = {record["key"][1]: record["original"] for record in journal(root) if record["key"][0] == "ethtool"}
    assert originals["net.ring"] == "512" and originals["net.channels"] == "8" and "nic.pcie" not in originals


def test_a_finding_is_told_and_neither_written_nor_a_change(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nic = Nic(monkeypatch, root)
    nic.outcome()
    again = nic.outcome()
    finding = next(setting for setting in again.settings if setting.finding)
    assert (finding.state, finding.reason) == (DRIFTED, "use another slot")
    assert not again.changed and "nic.pcie x16" not in nic.writes


def test_an_error_of_one_nic_stops_no_other(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = Nic(monkeypatch, root).outcome()
    assert [setting.name for setting in outcome.errors] == ["eth9"] and keys(outcome, CHANGED) >= {("net.channels", "eth0")}


def test_what_one_domain_cannot_serve_of_a_nic_is_no_matter_of_another(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def domain(name: str, setting: Setting) -> Domain:
        return Domain(name, {}, lambda spec: [], lambda host, spec: None, lambda state, spec: Plan((setting,)), lambda host, state, setting: None, "agent",
                      each_alone=True)

    monkeypatch.setitem(runner.DOMAINS, "ethtool", domain("ethtool", Setting("net.ring", "eth0", "512", "512")))
    monkeypatch.setitem(runner.DOMAINS, "qdisc", domain("qdisc", Setting("net.qdisc", "eth0", None, state=ERROR, reason="has htb")))
    nics = {"nics": [{"interface": "eth0"}, {"interface": "eth1"}]}
    outcome = runner.apply(runner.begin(Host(str(root)), {"ethtool": {"site": nics}, "qdisc": {"site": nics}}, b"#!program"))
    assert [setting.name for setting in outcome.errors] == ["eth0"]
    kept = deployment.kept(Host(str(root)))
    assert kept["ethtool"]["site"] == nics and kept["qdisc"]["site"] == {"nics": [{"interface": "eth1"}]}


# --- settings that are written at once --------------------------------------------------------------------------------


class Batched:
    """A domain whose settings are written by groups; ``refuses`` has what may not be in a request, ``resets`` what a write undoes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path, **values: str) -> None:
        self.values = values
        self.refuses: dict[str, Exception] = {}
        self.resets: dict[str, dict[str, str]] = {}
        self.writes: list[list[str]] = []
        self.root = root
        domain = Domain("ethtool", {}, lambda spec: [], lambda host, spec: dict(self.values), self.plan,
                        lambda host, state, setting: self.write(host, state, [setting]), "agent", each_alone=True, resets=True,
                        batches=Batches(lambda setting: setting.control, self.write))
        monkeypatch.setitem(runner.DOMAINS, "ethtool", domain)

    def plan(self, state: dict[str, str], spec: Any) -> Plan:
        return Plan(tuple(Setting(name.partition("_")[0], name, wanted, state[name]) for name, wanted in spec.items()))

    def write(self, host: Host, state: Any, settings: Any) -> None:
        self.writes.append([setting.name for setting in settings])
        for setting in settings:
            if setting.name in self.refuses:
                raise self.refuses[setting.name]
        for setting in settings:
            self.values.update(self.resets.get(setting.name, {}))
        for setting in settings:
            self.values[setting.name] = setting.desired

    def applied(self, **wanted: str) -> runner.Outcome:
        return runner.apply(runner.begin(Host(str(self.root)), {"ethtool": {"site": wanted}}, b"#!program"))


def test_neighbours_of_one_kind_are_written_at_once_in_the_order_of_the_plan(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nic = Batched(monkeypatch, root, ring_rx="1", ring_tx="1", ring_ok="2", coalesce_a="1", ring_late="1")
    outcome = nic.applied(ring_rx="2", ring_ok="2", ring_tx="2", coalesce_a="2", ring_late="2")
    assert nic.writes == [["ring_rx", "ring_tx"], ["coalesce_a"], ["ring_late"]], "what is right is not sent, and nothing overtakes"
    assert keys(outcome, CHANGED) >= {("ring", "ring_rx"), ("ring", "ring_tx"), ("coalesce", "coalesce_a"), ("ring", "ring_late")}


@pytest.mark.parametrize(
    ("refusal", "state", "words"),
    [(OSError(errno.EINVAL, "Invalid argument: not that"), ERROR, "not that"), (Unsupported("driver igb refuses it"), UNSUPPORTED, "driver igb refuses it")],
)
def test_where_a_request_is_refused_each_of_it_is_tried_alone(root: Path, monkeypatch: pytest.MonkeyPatch, refusal: Exception, state: str, words: str) -> None:
    nic = Batched(monkeypatch, root, ring_rx="1", ring_no="1", ring_tx="1", other_a="1")
    nic.refuses["ring_no"] = refusal
    outcome = nic.applied(ring_rx="2", ring_no="2", ring_tx="2", other_a="2")
    assert nic.writes == [["ring_rx", "ring_no", "ring_tx"], ["ring_rx"], ["ring_no"], ["ring_tx"], ["other_a"]]
    assert (named(outcome, "ring_no").state, named(outcome, "ring_no").current) == (state, "1") and words in named(outcome, "ring_no").reason
    assert keys(outcome, CHANGED) >= {("ring", "ring_rx"), ("ring", "ring_tx"), ("other", "other_a")}


def test_what_is_refused_is_not_tried_again_in_the_second_pass(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nic = Batched(monkeypatch, root, channels="8", ring_rx="1", ring_no="1")
    nic.refuses["ring_no"] = OSError(errno.EINVAL, "no")
    nic.resets["ring_rx"] = {"channels": "64"}
    outcome = nic.applied(channels="4", ring_rx="2", ring_no="2")
    assert nic.writes == [["channels"], ["ring_rx", "ring_no"], ["ring_rx"], ["ring_no"], ["channels"]]
    assert nic.values == {"channels": "4", "ring_rx": "2", "ring_no": "1"}
    assert [setting.name for setting in outcome.errors] == ["ring_no"] and named(outcome, "channels").state == CHANGED


def test_two_that_undo_each_other_are_an_error_and_no_endless_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nic = Batched(monkeypatch, root, a_="1", b_="1")
    nic.resets.update(a_={"b_": "1"}, b_={"a_": "1"})
    outcome = nic.applied(a_="2", b_="2")
    assert nic.writes == [["a_"], ["b_"], ["a_"]]
    assert [(setting.name, setting.reason) for setting in outcome.errors] == [("b_", "written, but the host did not keep it")]


def test_nothing_is_written_a_second_time_where_nothing_was_reset(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nic = Batched(monkeypatch, root, a_="1", b_="1")
    nic.applied(a_="2", b_="2")
    assert nic.writes == [["a_"], ["b_"]]
    nic.applied(a_="2", b_="2")
    assert nic.writes == [["a_"], ["b_"]]


# --- NICs, from the domain to the driver ------------------------------------------------------------------------------


@pytest.fixture
def nics(root: Path, monkeypatch: pytest.MonkeyPatch) -> Nics:
    return Nics(root, monkeypatch)


class Nics:
    """Drivers of eth0 and eth1 below the real ethtool domain, on the machine of files."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.families = {name: Family(channels={"combined": Parameter(4, 8)}, rings={"rx": Parameter(512, 4096), "tx": Parameter(512, 4096)},
                                      coalesce={"rx-usecs": Parameter(3), "rx-frames": Parameter(64)}) for name in ("eth0", "eth1")}
        self.drivers = {name: Driver(name) for name in self.families}
        self.guarded: dict[str, str] = {}
        monkeypatch.setattr(ethtool, "Netlink", Opened)
        monkeypatch.setattr(ethtool, "read_group", lambda link, interface, group: self.families[interface].read_group(link, interface, group))
        monkeypatch.setattr(ethtool, "write_group",
                            lambda link, interface, group, values: self.families[interface].write_group(link, interface, group, values))
        monkeypatch.setattr(ethtool, "management_interfaces", lambda host: self.guarded)
        monkeypatch.setattr(Ioctl, "ask", lambda link, interface, request: self.drivers[interface](interface, request))
        # the tree is this machine's, not one that somebody captured
        monkeypatch.setattr(ethtool, "_nic_state", self._as_live(ethtool._nic_state))

    def _as_live(self, real: Any) -> Any:
        def read(host: Host, *arguments: Any) -> Any:
            live = Live(str(self.root))
            return real(live, *arguments)
        return read

    def gone(self, interface: str) -> None:
        """As an interface that was taken away: its driver answers ENODEV, and sysfs has it no more."""
        self.drivers[interface].error = errno.ENODEV
        self.families[interface].groups = dict.fromkeys(("channels", "rings", "coalesce", "pause", "eee", "private_flags"), errno.ENODEV)
        (self.root / "sys/class/net" / interface).unlink()

    def documents(self, *entries: dict[str, Any], **spec: Any) -> Any:
        return {"ethtool": {"nic_tuning": {**spec, "nics": list(entries or ({"interface": "eth0"}, {"interface": "eth1"}))}}}

    def applied(self, *entries: dict[str, Any], **spec: Any) -> runner.Outcome:
        return runner.apply(begun(self.root, self.documents(*entries, **spec)))

    def audited(self, *entries: dict[str, Any], **spec: Any) -> runner.Outcome:
        return runner.audit(begun(self.root, self.documents(*entries, **spec)))


class Live(Host):
    """A machine of files that says it is the live one."""

    live = True  # type: ignore[assignment]

    def path(self, name: str) -> str:
        return self.root + name

    def followed(self, name: str) -> str:
        return self.root + name


def test_nics_are_tuned_by_one_request_a_kind_and_then_stay_as_they_are(nics: Nics) -> None:
    wanted = {"rings": {"rx": "max", "tx": 1024}, "coalesce": {"rx-usecs": 0, "rx-frames": 1}, "features": {"gro": "off"}}
    outcome = nics.applied(**wanted)
    assert outcome.errors == [] and outcome.changed
    for family in nics.families.values():
        assert family.writes == [("rings", {"rx": 4096, "tx": 1024}), ("coalesce", {"rx-usecs": 0, "rx-frames": 1})]
    assert [driver.sent for driver in nics.drivers.values()] == [[(1 << GRO, 0)]] * 2
    again = nics.applied(**wanted)
    assert not again.changed and {setting.state for setting in again.settings} == {OK}
    assert originals(nics.root)["ethtool", "net.ring.rx_tx", "eth0.ring-rx"] == "512"


def test_an_interface_that_vanishes_between_read_and_write_is_named_and_the_others_are_finished(nics: Nics, monkeypatch: pytest.MonkeyPatch) -> None:
    real = ethtool.write_group

    def write_group(link: Any, interface: str, group: str, values: Any) -> None:
        if interface == "eth0" and not nics.drivers["eth0"].error:
            nics.gone("eth0")
        real(link, interface, group, values)

    monkeypatch.setattr(ethtool, "write_group", write_group)
    outcome = nics.applied(rings={"rx": "max"}, features={"gro": "off"})
    errors = {setting.name: setting.reason for setting in outcome.errors}
    assert errors["eth0"] == "no such interface on this host; there are: eth1"
    assert set(errors) == {"eth0", "eth0.ring-rx", "eth0.gro"} and "could not be read back" in errors["eth0.ring-rx"]
    assert {named(outcome, f"eth1.{name}").state for name in ("ring-rx", "gro")} == {CHANGED}


def test_an_interface_that_answers_no_more_but_is_still_listed_is_an_error_too(nics: Nics, monkeypatch: pytest.MonkeyPatch) -> None:
    real = ethtool.write_group

    def write_group(link: Any, interface: str, group: str, values: Any) -> None:
        nics.drivers["eth0"].error = errno.ENODEV
        nics.families["eth0"].groups = dict.fromkeys(nics.families["eth0"].groups, errno.ENODEV)
        real(link, interface, group, values)

    monkeypatch.setattr(ethtool, "write_group", write_group)
    outcome = nics.applied(rings={"rx": "max"})
    assert f"{os.strerror(errno.ENODEV)} while it was read" in named(outcome, "eth0").reason
    assert named(outcome, "eth1.ring-rx").state == CHANGED


def test_an_interface_that_went_before_its_turn_is_one_error(nics: Nics, writes: Writes) -> None:
    """As one that an earlier domain's service had made: it is not told as many errors as it had settings."""
    writes.before = lambda name: nics.gone("eth0") if not nics.drivers["eth0"].error else None
    documents = {"hugepages": {"x": {}}, **nics.documents(rings={"rx": "max", "tx": "max"})}
    real = runner.DOMAINS["hugepages"]
    first = Domain("hugepages", {}, lambda spec: [], lambda host, spec: None, lambda state, spec: Plan((Setting("x", "x", "1", str(int(bool(writes.done)))),)),
                   lambda host, state, setting: writes._about_to("x"), "write")
    runner.DOMAINS["hugepages"] = first
    try:
        outcome = runner.apply(begun(nics.root, documents))
    finally:
        runner.DOMAINS["hugepages"] = real
    assert [setting.key for setting in outcome.errors if setting.control != "x"] == [("nic", "eth0")]
    assert named(outcome, "eth1.ring-rx").state == CHANGED


@pytest.mark.parametrize(
    ("entry", "name", "words"),
    [
        ({"pci": "0000:05:00.0"}, "0000:05:00.0", "is no network controller (class 0x010802"),
        ({"interface": "eth0", "rings": {"rx": 9999}}, "eth0", "rings: rx 9999 is more than the 4096 this NIC can have"),
        ({"interface": "eth0", "channels": {"combined": 0}}, "eth0", "give 1 at least"),
        ({"interface": "eth0", "coalesce": {"rx_usecs": 5}}, "eth0", "write rx-usecs"),
        ({"interface": "eth0", "coalesce": {"rx-usecs": 0, "rx-frames": 0}}, "eth0", "(R13)"),
        ({"interface": "eth0", "rss": {"hash": {"tcp9": "sd"}}}, "eth0", "no packet type tcp9"),
        ({"pci": "0000:01:00.0", "rules": [{"flow-type": "udp4", "dst-port": 1, "action": 99}]}, "0000:01:00.0", "no such queue; there are 4"),
    ],
)
def test_what_is_wrong_with_one_nic_leaves_the_other_to_be_tuned(nics: Nics, entry: dict[str, Any], name: str, words: str) -> None:
    tunable = FixtureMachine(nics.root)
    tunable.pci("0000:05:00.0", {"class": "0x010802"})
    outcome = nics.applied(entry, {"interface": "eth1"}, features={"gro": "off"})
    assert [setting.key for setting in outcome.errors] == [("nic", name)] and words in outcome.errors[0].reason
    assert named(outcome, "eth1.gro").state == CHANGED
    assert nics.drivers["eth0"].sent == [] == nics.families["eth0"].writes, "nothing is set of the other"
    assert [setting.key for setting in nics.audited(entry, {"interface": "eth1"}, features={"gro": "off"}).errors] == [("nic", name)]


def test_one_nic_by_interface_and_by_pci_address_is_not_tuned_twice(nics: Nics) -> None:
    outcome = nics.applied({"interface": "eth0"}, {"pci": "0000:01:00.0"}, {"interface": "eth1"}, features={"gro": "off"})
    assert {setting.key for setting in outcome.errors} == {("nic", "eth0"), ("nic", "0000:01:00.0")}
    assert all("is the same NIC as" in setting.reason for setting in outcome.errors)
    assert nics.drivers["eth0"].sent == [] and named(outcome, "eth1.gro").state == CHANGED


def test_the_management_nic_is_left_alone_unless_its_entry_says_so(nics: Nics) -> None:
    nics.guarded["eth0"] = "carries this SSH connection"
    outcome = nics.applied(features={"gro": "off"})
    assert [setting.key for setting in outcome.errors] == [("nic", "eth0")] and "management: true" in outcome.errors[0].reason
    assert nics.drivers["eth0"].sent == [] and named(outcome, "eth1.gro").state == CHANGED
    allowed = nics.applied({"interface": "eth0", "management": True}, {"interface": "eth1"}, features={"gro": "off"})
    assert allowed.errors == [] and named(allowed, "eth0.gro").state == CHANGED


@pytest.mark.parametrize(
    ("spec", "words"),
    [({"rings": {"rx_mini": 5}}, "rings: no parameter 'rx_mini'; write rx-mini"), ({"required": ["coalesce.rx_usecs"]}, "write rx-usecs"),
     ({"channels": {"queues": 0}}, "give 1 at least"), ({"coalesce": {"tx-usecs": 0, "tx-frames": 0}}, "(R13)")],
)
def test_what_is_wrong_of_all_nics_never_begins(nics: Nics, spec: dict[str, Any], words: str) -> None:
    with pytest.raises(runner.Refused) as caught:
        nics.applied(**spec)
    assert words in str(caught.value)


def test_what_a_driver_has_not_is_told_and_stops_nothing(nics: Nics) -> None:
    nics.families["eth0"].groups["coalesce"] = {"rx-usecs": Parameter(3)}
    outcome = nics.applied(coalesce={"rx-usecs": 0, "rx-frames": 1}, eee={"enabled": "off"})
    assert outcome.errors == []
    assert keys(outcome, UNSUPPORTED) == {("net.coalesce.rx_frames", "eth0.rx-frames"), ("net.eee", "eth0.eee-enabled"), ("net.eee", "eth1.eee-enabled")}
    assert named(outcome, "eth0.rx-usecs").state == named(outcome, "eth1.rx-frames").state == CHANGED


@pytest.mark.parametrize("required", [[], ["coalesce.rx-frames"]], ids=["wished", "required"])
def test_what_only_the_write_shows_to_be_missing_is_an_error_where_it_is_required(nics: Nics, required: list[str]) -> None:
    nics.families["eth0"].refuses["rx-frames"] = errno.EOPNOTSUPP
    outcome = nics.applied(coalesce={"rx-usecs": 0, "rx-frames": 1}, required=required)
    setting = named(outcome, "eth0.rx-frames")
    assert setting.state == (ERROR if required else UNSUPPORTED)
    assert "driver igb refuses it" in setting.reason and "the driver's own words" in setting.reason
    for words in ("required by the profile", "NIC eth0", "driver igb 5.19.0", "firmware 1.63"):
        assert (words in setting.reason) is bool(required)
    assert named(outcome, "eth0.rx-usecs").state == CHANGED, "tried alone, it is taken"
    assert {named(outcome, f"eth1.{name}").state for name in ("rx-usecs", "rx-frames")} == {CHANGED}


@pytest.mark.parametrize("required", [[], ["coalesce.rx-frames"]], ids=["wished", "required"])
def test_what_a_driver_refused_is_not_tried_again_before_the_next_boot(nics: Nics, required: list[str]) -> None:
    nics.families["eth0"].refuses["rx-frames"] = errno.EOPNOTSUPP
    wanted = {"coalesce": {"rx-usecs": 0, "rx-frames": 1}, "required": required}
    state = named(nics.applied(**wanted), "eth0.rx-frames").state
    nics.families["eth0"].writes.clear()
    foretold, again = nics.audited(**wanted), nics.applied(**wanted)
    assert [named(outcome, "eth0.rx-frames").state for outcome in (foretold, again)] == [state] * 2 and state == (ERROR if required else UNSUPPORTED)
    assert not again.changed and nics.families["eth0"].writes == []
    assert "driver igb refuses it" in named(foretold, "eth0.rx-frames").reason


def test_a_nic_that_could_not_be_served_is_not_tried_at_every_boot(nics: Nics) -> None:
    """The host keeps what it kept of that NIC before, and the wishes for the others."""
    def kept() -> dict[str, Any]:
        document = json.loads((nics.root / DESIRED[1:]).read_text())["desired"]["ethtool"]["nic_tuning"]
        return {entry["interface"]: entry.get("rings") for entry in document["nics"]}

    nics.applied({"interface": "eth0", "rings": {"rx": 1024}}, {"interface": "eth1"})
    assert kept() == {"eth0": {"rx": 1024}, "eth1": None}
    outcome = nics.applied({"interface": "eth0", "rings": {"rx": 9999}}, {"interface": "eth1", "rings": {"rx": 2048}}, {"interface": "eth9"})
    assert {setting.key for setting in outcome.errors} == {("nic", "eth0"), ("nic", "eth9")}
    assert kept() == {"eth0": {"rx": 1024}, "eth1": {"rx": 2048}}
    again = nics.applied({"interface": "eth0", "rings": {"rx": 9999}}, {"interface": "eth1", "rings": {"rx": 2048}}, {"interface": "eth9"})
    assert not again.changed and {setting.key for setting in again.errors} == {("nic", "eth0"), ("nic", "eth9")}


def test_what_is_required_and_missing_from_the_start_is_an_error_before_and_after(nics: Nics) -> None:
    del nics.families["eth0"].groups["coalesce"]
    for outcome in (nics.audited(coalesce={"rx-usecs": 0}, required=["coalesce"]), nics.applied(coalesce={"rx-usecs": 0}, required=["coalesce"])):
        assert [setting.name for setting in outcome.errors] == ["eth0.rx-usecs"]
        assert outcome.errors[0].reason == ("required by the profile, but driver igb has no coalesce to set (Operation not supported) "
                                            "(NIC eth0, driver igb 5.19.0, firmware 1.63, 0x800009fa)")


def test_a_driver_that_accepts_and_forgets_is_an_error_of_that_parameter(nics: Nics) -> None:
    nics.families["eth0"].forgets.add("rx-usecs")
    outcome = nics.applied(coalesce={"rx-usecs": 0, "rx-frames": 1})
    assert [(setting.name, setting.reason, setting.current) for setting in outcome.errors] == [("eth0.rx-usecs", "written, but the host did not keep it", "3")]


def test_interrupts_and_transmit_queues_that_went_with_their_channel_are_no_error(nics: Nics, writes: Writes) -> None:
    """Fewer channels take the last queues away, with their interrupts and their XPS; the run is right and the next one finds nothing to do."""
    folder = nics.root / "sys/class/net/eth0/queues"
    for queue in range(2):
        (folder / f"tx-{queue}").mkdir()
        (folder / f"tx-{queue}/xps_cpus").write_text("00\n")
    nics.families["eth0"].groups["channels"] = {"combined": Parameter(2, 8)}

    class Shrinking(dict[str, Parameter]):
        def __setitem__(self, name: str, value: Parameter) -> None:
            super().__setitem__(name, value)
            (nics.root / "proc/irq/42/eth0-TxRx-1").rmdir()
            shutil.rmtree(folder / "tx-1")

    nics.families["eth0"].groups["channels"] = Shrinking(combined=Parameter(2, 8))
    documents = {**nics.documents({"interface": "eth0", "channels": {"combined": 1}}), "irq_affinity": WANTED["irq_affinity"]}
    assert {"eth0-TxRx-1", "eth0.tx-1.xps_cpus"} <= {setting.name for setting in runner.audit(begun(nics.root, documents)).settings}
    outcome = runner.apply(begun(nics.root, documents))
    assert outcome.errors == [] and named(outcome, "eth0.channels-combined").state == CHANGED
    assert {named(outcome, name).state for name in ("eth0-TxRx-0", "eth0.tx-0.xps_cpus")} == {CHANGED}
    assert (folder / "tx-0/xps_cpus").read_text() == "dc", "CPU 4 of its interrupt, and all isolated ones"
    assert not {"eth0-TxRx-1", "eth0.tx-1.xps_cpus"} & {setting.name for setting in outcome.settings}
    assert not runner.apply(begun(nics.root, documents)).changed
