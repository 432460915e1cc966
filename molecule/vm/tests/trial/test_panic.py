# SPDX-License-Identifier: GPL-3.0-or-later
"""An administrator's unfinished edit makes the next command line one that does not boot: the host comes back on its old one."""

from __future__ import annotations

import re

import lab
import pytest
from conftest import put_right, said, settled, site
from expected import ISOLATED_LIST

NAME = "lab-b"
EDIT = r"cp -p /etc/default/grub /root/test-grub && sed -i 's|^GRUB_CMDLINE_LINUX=\"\(.*\)\"|GRUB_CMDLINE_LINUX=\"\1 root=/dev/nowhere\"|' /etc/default/grub"
RESTORE = "cp -p /root/test-grub /etc/default/grub"
# Not grubenv: GRUB itself empties next_entry there; what it says is judged beside this.
GRUB_FILES = "cd / && find boot etc/default/grub.d etc/grub.d -type f ! -name grubenv ! -name custom.cfg -print0 | LC_ALL=C sort -z | xargs -0 sha256sum"


@pytest.fixture(scope="module")
def trial():
    """The state before, the failed run, and what the console saw; the administrator's file is restored at the end."""
    before = {"boot_id": lab.boot_id(NAME), "arguments": settled(lab.run(NAME, "cat /proc/cmdline")), "grub": lab.run(NAME, GRUB_FILES)}
    lab.run(NAME, EDIT)
    assert "root=/dev/nowhere" in lab.run(NAME, "cat /etc/default/grub")
    console = lab.Console(NAME)
    process = site(NAME, lowlatency_reboot_ok=True, kernel_cmdline_arguments_extra={"lab.harmless": "1"})
    lab.wait_ready(NAME)
    yield {"before": before, "process": process, "boots": console.boots()}
    lab.run(NAME, RESTORE)


def test_run_fails(trial):
    assert trial["process"].returncode != 0


def test_message_says_what_happened_and_how_the_host_is(trial):
    text = said(trial["process"])
    assert re.search(r"trial boot.*failed", text), text[-2000:]
    assert "old command line" in text


def test_bad_command_line_was_really_booted_once(trial):
    """Without this, the tests would pass on a run that never tried."""
    first, second = trial["boots"]
    assert "root=/dev/nowhere" in first
    assert "lowlatency.trial=" in first
    assert "panic=10" in first.split()
    assert second.split() == trial["before"]["arguments"]


def test_host_runs_its_old_command_line(trial):
    assert lab.run(NAME, "cat /proc/cmdline").split() == trial["before"]["arguments"]
    assert lab.boot_id(NAME) != trial["before"]["boot_id"]


def test_boot_loader_is_as_before(trial, changes):
    """grub.cfg byte for byte, the drop-in and all the rest of /boot."""
    assert changes(trial["before"]["grub"], lab.run(NAME, GRUB_FILES)) == ""


def test_no_trial_is_left(trial):
    assert lab.trial_left(NAME, record=False) == ""


def test_edit_of_the_administrator_is_untouched(trial):
    assert "root=/dev/nowhere" in lab.run(NAME, "cat /etc/default/grub")


def test_host_is_isolated_as_before(trial):
    assert lab.run(NAME, "cat /sys/devices/system/cpu/isolated").strip() == ISOLATED_LIST


def test_ordinary_run_finds_the_host_right(trial):
    lab.run(NAME, RESTORE)
    put_right(NAME)
