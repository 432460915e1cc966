# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The door between modules and the transaction: who may write, what a failure says, what a diff shows."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils import door
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.deployment import DESIRED
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.tests.unit import fixture_host
from ansible_collections.lowlatency.fleet.tests.unit.fixture_host import WANTED, Writes, tree, tunable_machine


class Ended(Exception):
    """A module that ended, with its result."""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tunable_machine(tmp_path).root
    monkeypatch.setattr(door, "Host", lambda: Host(str(made)))
    monkeypatch.setattr(door, "program", lambda host=None: fixture_host.PROGRAM)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return made


@pytest.fixture(autouse=True)
def writes(monkeypatch: pytest.MonkeyPatch) -> Writes:
    return Writes(monkeypatch)


def run(documents: Any = None, *, check: bool = False, diff: bool = False, domain: str = "", **params: Any) -> dict[str, Any]:
    def end(**result: Any) -> None:
        raise Ended(result)

    module = SimpleNamespace(check_mode=check, _diff=diff, params=params, exit_json=end, fail_json=lambda **result: end(failed=True, **result))
    with pytest.raises(Ended) as caught:
        if domain:
            door.run_domain(module, domain)  # type: ignore[arg-type]
        else:
            door.run_documents(module, WANTED if documents is None else documents)  # type: ignore[arg-type]
    result: dict[str, Any] = caught.value.args[0]
    return json.loads(json.dumps(result))


def test_the_contract_of_every_module(root: Path) -> None:
    result = run()
    assert set(result) == {"changed", "reboot_required", "reboot_reasons", "armed", "unconfirmed", "settings"}
    assert result["changed"] is True and result["reboot_required"] is False
    assert run()["changed"] is False


def test_check_mode_needs_no_root_and_writes_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    before = tree(root)
    assert run(check=True, diff=True)["changed"] is True
    assert tree(root) == before
    result = run()
    assert result["failed"] and "become: true" in result["msg"] and tree(root) == before


def test_a_refusal_says_that_nothing_was_written(root: Path) -> None:
    result = run({"tunables": {"x": {"values": {"vm.swappiness": 999}}}})
    assert result["failed"] and result["msg"].startswith("nothing was written: ")


def test_an_error_fails_the_module_with_the_settings(root: Path, writes: Writes) -> None:
    writes.refused["/proc/sys/vm/swappiness"] = errno.EINVAL
    result = run()
    assert result["failed"] and "vm.swappiness" in result["msg"] and result["changed"] is True
    assert {setting["state"] for setting in result["settings"]} >= {"changed", "error"}


def test_a_broken_journal_and_a_busy_host_are_messages(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door.runner, "PATIENCE", 0)
    (root / "var/lib/lowlatency").mkdir()
    (root / "var/lib/lowlatency/journal.jsonl").write_text("broken\n")
    assert "journal.jsonl line 1" in run()["msg"]
    with door.runner.locked(Host(str(root))):
        assert "another run" in run()["msg"]


def test_the_diff_shows_settings_and_files_and_no_program(root: Path) -> None:
    foretold, done = run(check=True, diff=True)["diff"], run(diff=True)["diff"]
    entries = {entry["after_header"]: entry for entry in done}
    assert "net.ipv4.tcp_sack = 1, 1\n" in entries["settings (live, after boot)"]["after"]
    assert "vm.swappiness = 10\n" in entries["/etc/sysctl.d/80-lowlatency.conf"]["after"]
    assert entries["/usr/local/sbin/lowlatency"]["after"] == "(program)\n"
    assert [entry["after"] for entry in foretold] == [entry["after"] for entry in done]
    assert run(diff=True)["diff"] == []


def test_the_diff_of_a_check_run_shows_what_is(root: Path) -> None:
    text = next(entry for entry in run(check=True, diff=True)["diff"] if "settings" in entry["before_header"])["before"]
    assert "net.ipv4.tcp_sack = 0, None\n" in text


def test_a_module_alone_adds_to_what_earlier_tasks_said(root: Path) -> None:
    assert run(domain="tunables", values={"vm.swappiness": 10})["changed"]
    assert run(domain="tunables", values={"net.ipv4.tcp_sack": 1})["changed"]
    assert json.loads((root / DESIRED[1:]).read_text())["desired"] == {"tunables": {"site": {"values": {"net.ipv4.tcp_sack": 1, "vm.swappiness": 10}}}}
    assert not run(domain="tunables", values={"vm.swappiness": 10})["changed"]


def test_a_module_alone_that_disagrees_with_a_host_role_is_refused(root: Path) -> None:
    run()
    result = run(domain="tunables", values={"vm.swappiness": 11})
    assert "kernel_tunables wants 10, site wants 11" in result["msg"]
