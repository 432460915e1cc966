# SPDX-License-Identifier: GPL-3.0-or-later
"""A check-mode run of the whole site.yml leaves every host and the machine as they were."""

from __future__ import annotations

import difflib

from snapshot import host_state, machine_state


def changes(before, after):
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), "before", "after", lineterm="", n=0)
    return "\n".join(lines)


def test_check_mode_changes_no_file_and_no_live_value_of_a_host(host, snapshots):
    name = host.backend.name
    assert changes((snapshots / f"{name}.txt").read_text(), host_state(name)) == ""


def test_check_mode_changes_nothing_of_the_machine(snapshots):
    assert changes((snapshots / "machine.txt").read_text(), machine_state()) == ""
