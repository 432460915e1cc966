# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a run goes through a fleet, by the real ansible-playbook: a real run ends with the first failure, an audit looks at every host.

Every host here has a value that is refused before anything is written: nothing of this machine can be changed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.tests.unit.test_cost import play, ran

FLEET = "h1,h2,h3,h4,"
REFUSED: dict[str, Any] = {"tcp_tuning_sysctl_extra": {"net.ipv4.tcp_sack": 7}}


def fleet(**variables: Any) -> dict[str, Any]:
    return {**play(**REFUSED, **variables), "hosts": "all"}


def refused(place: Path, *, check: bool, **variables: Any) -> list[str]:
    """The hosts that came as far as the value that is refused."""
    done = ran(place, fleet(**variables), inventory=FLEET, check=check)
    assert done.returncode == 2, done.stdout[-3000:] + done.stderr
    return [host for host in FLEET.rstrip(",").split(",") if f"{host}: tunables: tunable net.ipv4.tcp_sack: 7" in done.stdout]


def test_a_real_run_begins_with_one_host_and_ends_with_the_first_failure(tmp_path: Path) -> None:
    assert refused(tmp_path, check=False) == ["h1"]


def test_the_site_chooses_the_steps(tmp_path: Path) -> None:
    assert refused(tmp_path, check=False, lowlatency_serial=[2, "100%"]) == ["h1", "h2"]


@pytest.mark.parametrize(("check", "variables"), [(True, {}), (False, {"lowlatency_audit": True})], ids=["--check", "audit.yml"])
def test_an_audit_looks_at_every_host(tmp_path: Path, check: bool, variables: dict[str, Any]) -> None:
    assert refused(tmp_path, check=check, **variables) == ["h1", "h2", "h3", "h4"]
