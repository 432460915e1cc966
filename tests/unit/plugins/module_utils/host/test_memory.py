# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is remembered until the next boot."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.memory import remember, remembered


def test_what_is_remembered_is_known_again_and_replaces_what_was(tmp_path: Path) -> None:
    host = Host(str(tmp_path))
    assert remembered(host, "/run/lowlatency/x.json") == {}
    remember(host, "/run/lowlatency/x.json", {"a": {"b": "c"}})
    remember(host, "/run/lowlatency/x.json", {"d": "e"})
    assert remembered(host, "/run/lowlatency/x.json") == {"d": "e"}


@pytest.mark.parametrize("text", ["{", "[1]", '"x"', "null"])
def test_what_cannot_be_understood_is_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    assert remembered(Host(str(tmp_path)), "/x.json") == {}
