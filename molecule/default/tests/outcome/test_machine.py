# SPDX-License-Identifier: GPL-3.0-or-later
"""The containers are privileged: the machine's kernel.*, vm.*, net.* and interrupts are in their reach, and must be as before."""

from __future__ import annotations

from snapshot import machine_state


def test_machine_is_as_it_was(snapshots):
    before = (snapshots / "machine.txt").read_text().splitlines()
    after = machine_state().splitlines()
    assert sorted(set(before) ^ set(after)) == []
