# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an attempt to write showed, remembered until the next boot."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.memory import remember, remembered

NAME = "/run/lowlatency/some.json"


def test_what_is_remembered_comes_back_and_takes_the_place_of_what_was_known(tmp_path: Path) -> None:
    host = Host(str(tmp_path))
    assert remembered(host, NAME) == {}
    remember(host, NAME, {"b": {"x": "why"}, "a": 1})
    assert remembered(host, NAME) == {"a": 1, "b": {"x": "why"}}
    remember(host, NAME, {"c": 2})
    assert remembered(host, NAME) == {"c": 2}
    assert [path.name for path in (tmp_path / "run/lowlatency").iterdir()] == ["some.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "null", "\x00"])
def test_what_cannot_be_understood_is_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "run/lowlatency").mkdir(parents=True)
    (tmp_path / NAME[1:]).write_text(text)
    assert remembered(Host(str(tmp_path)), NAME) == {}
