# SPDX-License-Identifier: GPL-3.0-or-later
"""A check-mode run of the whole site.yml, reboots allowed, leaves every host as it was."""

from __future__ import annotations

import lab
import pytest
from conftest import interrupts
from expected import ISOLATED, NICS


def test_check_mode_changed_no_file(node, changes):
    assert changes((lab.STATE / f"{node}.files").read_text(), lab.files(node)) == ""


def test_check_mode_changed_no_value_and_did_not_reboot(node, changes):
    assert changes((lab.STATE / f"{node}.values").read_text(), lab.values(node)) == ""


@pytest.mark.parametrize("nic", NICS)
def test_stock_host_lets_nics_interrupt_what_will_be_isolated(node, nic):
    """Without this, the tests under traffic would pass on a host that nobody tuned."""
    counts = [cpus for name, cpus in interrupts(node).items() if nic in name]
    assert sum(cpus[cpu] for cpus in counts for cpu in ISOLATED) > 0
