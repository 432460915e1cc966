# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module as Ansible runs it: a process of its own, JSON in, JSON out; and its documentation against its results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lowlatency.fleet.plugins.modules import topology_info
from ansible_collections.lowlatency.fleet.tests.unit.fixture_machine import CPU, two_sockets


def run(options: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", topology_info.__name__],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": options}),
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert "Traceback" not in done.stderr, done.stderr
    result = json.loads(done.stdout)
    assert isinstance(result, dict)
    return result


def files(root: Path) -> list[tuple[str, bytes]]:
    return sorted((str(path.relative_to(root)), path.read_bytes() if path.is_file() else b"") for path in root.rglob("*"))


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_captured_machine_is_read_and_left_alone(tmp_path: Path, check_mode: bool) -> None:
    two_sockets(tmp_path)
    before = files(tmp_path)
    result = run({"sysroot": str(tmp_path), "_ansible_check_mode": check_mode})
    assert result["changed"] is False
    assert result["topology"]["nodes"] == {"0": "0-1,4-5", "1": "2-3,6-7"}
    assert [nic["numa_node"] for nic in result["topology"]["nics"]] == [0, 1]
    assert result["host"]["family"] == "other"
    assert files(tmp_path) == before


def test_a_tree_without_cpus_fails_by_name(tmp_path: Path) -> None:
    result = run({"sysroot": str(tmp_path)})
    assert result["failed"] is True
    assert str(tmp_path / CPU) in result["msg"]


def test_every_result_is_documented_and_every_documented_result_is_there(tmp_path: Path) -> None:
    two_sockets(tmp_path)
    result = run({"sysroot": str(tmp_path)})
    documented = yaml.safe_load(topology_info.RETURN)
    assert set(result["topology"]) == set(documented["topology"]["contains"])
    assert set(result["topology"]["nics"][0]) == set(documented["topology"]["contains"]["nics"]["contains"])
    assert set(result["host"]) == set(documented["host"]["contains"])
