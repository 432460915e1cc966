# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The SACK filter on a host: what nft and systemd are asked, and what is left when it goes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import sack_filter
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.programs import ProgramFailed
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.sack_filter import (
    read_sack_filter,
    write_sack_filter,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.sack_filter import (
    CONTROL,
    FILE,
    LINKS,
    TABLE,
    UNIT,
    UNIT_FILE,
    SackState,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import Setting

OTHER = {"table": {"family": "inet", "name": "filter", "handle": 1}}
OURS = {"table": {"family": "inet", "name": TABLE, "handle": 2}}


class Programs:
    """nft and systemctl without a kernel; what they were asked."""

    def __init__(self, *tables: object, active: str = "active") -> None:
        self.tables, self.active = list(tables), active
        self.asked: list[str] = []
        self.failure = ""

    def __call__(self, *command: str) -> str:
        self.asked.append(" ".join(command))
        if self.failure:
            raise ProgramFailed(self.failure)
        if command[0] == "systemctl":
            return f"{self.active}\n"
        if command[1:3] == ("delete", "table"):
            self.tables.remove(OURS)
        return json.dumps({"nftables": self.tables})


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Programs:
    programs = Programs(OTHER, OURS)
    monkeypatch.setattr(sack_filter, "output_of", programs)
    monkeypatch.setattr(sack_filter, "without_systemd", lambda host: "")
    monkeypatch.setattr(sack_filter.shutil, "which", lambda name: f"/usr/sbin/{name}")
    return programs


@pytest.fixture
def host(tmp_path: Path) -> Host:
    for name in (FILE, UNIT_FILE, *LINKS):
        (tmp_path / name.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name.lstrip("/")).write_text(name)
    return Host(str(tmp_path))


def test_what_is_there(host: Host, programs: Programs) -> None:
    state = read_sack_filter(host, {})
    assert (state.file, state.unit, state.enabled, state.active) == (FILE.encode(), UNIT_FILE.encode(), True, True)
    assert state.table == "(other rules)", "a table of ours without a rule"
    assert programs.asked[:2] == ["nft -j list tables inet", f"nft -j list table inet {TABLE}"]


def test_another_s_table_is_none_of_ours(host: Host, programs: Programs) -> None:
    programs.tables = [OTHER]
    assert read_sack_filter(host, {}).table is None
    assert not any("list table inet" in command for command in programs.asked)


@pytest.mark.parametrize("link", LINKS)
def test_it_is_enabled_where_every_link_is_there(host: Host, programs: Programs, tmp_path: Path, link: str) -> None:
    (tmp_path / link.lstrip("/")).unlink()
    assert not read_sack_filter(host, {}).enabled


def test_a_unit_that_is_not_active_is_told(host: Host, programs: Programs) -> None:
    programs.active = "failed"
    assert not read_sack_filter(host, {}).active


def test_without_nft_or_systemd_nothing_is_asked(host: Host, programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sack_filter.shutil, "which", lambda name: None)
    assert not read_sack_filter(host, {}).nft
    monkeypatch.setattr(sack_filter, "without_systemd", lambda host: "systemd does not run here")
    assert read_sack_filter(host, {}).impossible == "systemd does not run here"
    assert programs.asked == []


@pytest.mark.parametrize("failure", ["nft: Operation not permitted (you must be root)"])
def test_what_nft_refuses_to_tell_is_no_table_that_is_not_there(host: Host, programs: Programs, failure: str) -> None:
    programs.failure = failure
    state = read_sack_filter(host, {})
    assert failure in state.unreadable and state.file is not None


def test_it_is_enabled_and_set_by_its_unit(host: Host, programs: Programs) -> None:
    write_sack_filter(host, SackState(), Setting(CONTROL, TABLE, "10.0.0.0/8"))
    assert programs.asked == ["systemctl daemon-reload", f"systemctl enable -- {UNIT}", f"systemctl reload-or-restart -- {UNIT}"]


def test_when_it_goes_nothing_of_it_is_left(host: Host, programs: Programs, tmp_path: Path) -> None:
    write_sack_filter(host, SackState(), Setting(CONTROL, TABLE, None))
    assert [name for name in (FILE, UNIT_FILE, *LINKS) if (tmp_path / name.lstrip("/")).exists()] == []
    assert programs.tables == [OTHER]
    assert programs.asked.index(f"systemctl disable --now -- {UNIT}") < programs.asked.index("systemctl daemon-reload")
    programs.asked.clear()
    write_sack_filter(host, SackState(), Setting(CONTROL, TABLE, None))
    assert programs.asked == ["systemctl daemon-reload", "nft -j list tables inet"], "a second time there is nothing to take away"
