# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container is told of firmware and of the power of CPUs: that they are the machine's."""

from __future__ import annotations

import json

import pytest
from conftest import container


@pytest.mark.groups("md-gateways", "risk-engines")
def test_firmware_and_power_belong_to_the_machine(node):
    shown = container(node).run("/usr/local/sbin/lowlatency verify --json")
    assert shown.rc == 0, shown.stdout[-2000:]
    settings = [setting for setting in json.loads(shown.stdout) if setting["control"].startswith(("bios.", "cpu."))]
    assert {"bios.smt", "bios.firmware", "bios.smis", "cpu.governor", "cpu.idle_state"} <= {setting["control"] for setting in settings}
    assert {setting["state"] for setting in settings} == {"unsupported"}
    assert all("belongs to the machine, not to this container" in setting["reason"] for setting in settings)
