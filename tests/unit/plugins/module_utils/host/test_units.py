# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking systemd of units and taking them out; the service manager is a script of answers."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import programs, units
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.programs import ProgramFailed, output_of
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.units import read_units, without_systemd, write_unit
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import Setting
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.units import Unit, UnitsState

ANSWER = """\
Id=irqbalance.service
Names=irqbalance.service
LoadState=loaded
ActiveState=active
UnitFileState=enabled

Id=numad.service
Names=numad.service
LoadState=not-found
ActiveState=inactive
UnitFileState=
"""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    commands: list[tuple[str, ...]] = []
    monkeypatch.setattr(units, "output_of", lambda *command: (commands.append(command), ANSWER)[1])
    monkeypatch.setattr(units, "without_systemd", lambda host: "")
    return commands


def test_all_units_are_asked_for_in_one_process(asked: list[tuple[str, ...]]) -> None:
    state = read_units(Host(), {"removed": ["numad", "irqbalance", "irqbalance.service"]})
    assert state.units == {"irqbalance.service": Unit("loaded", "active", "enabled"), "numad.service": Unit("not-found", "inactive", "")}
    assert len(asked) == 1 and asked[0][:2] == ("systemctl", "show") and asked[0][-3:] == ("--", "irqbalance.service", "numad.service")


def test_nothing_asked_for_starts_no_program(asked: list[tuple[str, ...]]) -> None:
    assert read_units(Host(), {"removed": []}).units == {}
    assert asked == []


@pytest.mark.parametrize(("unit", "verbs"), [(Unit("loaded", "active", "enabled"), ["disable", "mask"]), (Unit("loaded", "active", "static"), ["mask"])])
def test_a_unit_is_stopped_disabled_and_masked(asked: list[tuple[str, ...]], unit: Unit, verbs: list[str]) -> None:
    write_unit(Host(), UnitsState({"irqbalance.service": unit}), Setting("svc.irqbalance", "irqbalance.service", "removed"))
    assert [command[1] for command in asked] == verbs
    assert "--now" in asked[-1] and all(command[-2:] == ("--", "irqbalance.service") for command in asked)


def test_a_captured_tree_has_no_service_manager(tmp_path: Path) -> None:
    assert "captured tree" in without_systemd(Host(str(tmp_path)))
    assert "captured tree" in read_units(Host(str(tmp_path)), {"removed": ["irqbalance"]}).without


# --- programs ---------------------------------------------------------------------------------------------------------


def test_what_a_program_says() -> None:
    assert output_of("sh", "-c", "echo $LC_ALL; cat") == "C\n", "in the C locale, with nothing to read"


@pytest.mark.parametrize(("command", "words"), [
    (["no-such-program"], "no-such-program"),
    (["sh", "-c", "echo last words >&2; exit 4"], "exit code 4: last words"),
    (["sh", "-c", "echo on stdout; exit 4"], "exit code 4: on stdout")])
def test_a_program_that_fails(command: list[str], words: str) -> None:
    with pytest.raises(ProgramFailed, match=words):
        output_of(*command)


def test_a_program_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "TIME_LIMIT", 0.1)
    with pytest.raises(ProgramFailed, match="timed out"):
        output_of("sleep", "60")
