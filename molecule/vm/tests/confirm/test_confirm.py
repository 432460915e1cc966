# SPDX-License-Identifier: GPL-3.0-or-later
"""A network change that cuts the connection comes back by itself, and the run says that it was cut off; one that does not stays."""

from __future__ import annotations

import contextlib

import lab
import pytest
from conftest import said, site

NAME = "lab-a"
NIC = "enp65s0"
SECONDS = 45
WANTED, BEFORE = "4096", "512"
# The link of the management NIC now depends on what the run is about to write: there is no way to say so in time, as when a driver loses its link.
CUT = rf"""
cat >/run/test-cut <<'X'
while sleep 0.3; do
    if ethtool -g {NIC} | grep -A1 '^Current' | grep -q '{WANTED}$'; then ip link set enp0s16 down; else ip link set enp0s16 up; fi
done
X
systemd-run --quiet --unit=test-cut sh /run/test-cut
"""


def ring():
    """Size of the receive ring, by ethtool."""
    lines = lab.run(NAME, f"ethtool -g {NIC}").partition("Current")[2].splitlines()
    return next(line.split()[1] for line in lines if line.startswith("RX:"))


def uncommon():
    """What a change that waits leaves on a host."""
    return lab.run(NAME, "ls /var/lib/lowlatency/unconfirmed.json /var/lib/lowlatency/revert.pyz 2>/dev/null; systemctl list-units --all --plain --no-legend 'lowlatency-revert*'; true")


@pytest.fixture(scope="module")
def cut_off():
    """The run that was cut off, and the files of the desired state before and after."""
    before = site(NAME, nic_tuning_rings={"rx": int(BEFORE)})
    assert before.returncode == 0, said(before)[-2000:]
    assert ring() == BEFORE
    lab.run(NAME, CUT)
    try:
        process = site(NAME, lowlatency_confirm_seconds=SECONDS)
        with contextlib.suppress(TimeoutError):
            lab.wait(lambda: lab.answers(NAME) and ring() == BEFORE, 2 * SECONDS + 120, "the host has its old ring again")
        yield process
    finally:
        lab.wait(lambda: lab.answers(NAME), lab.BOOT_TIME_LIMIT, "the host answers")
        lab.run(NAME, "systemctl stop test-cut; ip link set enp0s16 up; rm -f /run/test-cut")


def test_host_answers_again_with_its_old_setting(cut_off):
    assert ring() == BEFORE


def test_host_is_what_it_wanted_before(cut_off):
    """Neither the next boot nor the next event of a NIC sets again what cut it off."""
    verdict = lab.guest(NAME).run("/usr/local/sbin/lowlatency verify")
    assert verdict.rc == 0, verdict.stdout + verdict.stderr


def test_run_says_that_it_was_cut_off_and_that_the_host_goes_back(cut_off):
    assert cut_off.returncode != 0
    assert "takes that back" in said(cut_off) or "takes it back" in said(cut_off), said(cut_off)[-1500:]


def test_host_says_what_happened(cut_off):
    assert "not confirmed, taken back at" in lab.run(NAME, "/usr/local/sbin/lowlatency status; true")


def test_change_that_cuts_nothing_is_confirmed_and_stays(cut_off):
    lab.run(NAME, "systemctl stop test-cut")
    process = site(NAME, lowlatency_confirm_seconds=SECONDS)
    assert process.returncode == 0, said(process)[-2000:]
    assert ring() == WANTED
    assert uncommon() == ""
    lab.run(NAME, f"sleep {SECONDS}", seconds=SECONDS + 60)
    assert ring() == WANTED
