# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller dies while the host is down: nobody confirms the trial boot, and the host goes back by itself."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import lab
import pytest
from conftest import PLAIN, put_right, settled, site_command

NAME = "lab-a"
MARK = "lowlatency.trial="
# Enough for an emulated host to be seen in its trial boot, and too short for anybody to wait in vain.
TRIAL_SECONDS = 120
# Not grubenv: GRUB itself empties next_entry there; what it says is judged beside this.
GRUB_FILES = "cd / && find boot etc/default etc/grub.d -type f ! -name grubenv ! -name custom.cfg -print0 | LC_ALL=C sort -z | xargs -0 sha256sum"


def family(pid):
    """A process and all that it started: Ansible's workers have sessions of their own."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return [pid]
    return [pid, *(each for child in children for each in family(int(child)))]


def kill(pid):
    """End a controller as a power cut would."""
    for each in family(pid):
        try:
            os.kill(each, signal.SIGKILL)
        except ProcessLookupError:
            pass


@pytest.fixture(scope="module")
def unconfirmed():
    """The state before and the command lines that were booted, once the host has gone back by itself.

    Under software emulation a boot hangs now and then (a lost interrupt). A trial that hangs is no trial that nobody confirmed: the host
    gets its reset button pressed, has to be back on its old command line by that, and the trial is made once more.
    """
    try:
        return gone_back()
    except TimeoutError as error:
        print(error)
        old = settled(lab.run(NAME, "cat /proc/cmdline")) if lab.answers(NAME) else None
        assert old is None, f"the host is up, and did not go back: {' '.join(old)}"
        console = lab.Console(NAME)
        lab.press_reset(NAME)
        lab.wait_ready(NAME)
        assert MARK not in console.boots()[0], f"a reset in a trial booted the trial again: {console.boots()}"
        put_right(NAME)
        return gone_back()


def gone_back():
    """One trial with a controller that dies. Raises ``TimeoutError`` with the console's end where the host does not go back."""
    before = {"boot_id": lab.boot_id(NAME), "arguments": settled(lab.run(NAME, "cat /proc/cmdline")), "grub": lab.run(NAME, GRUB_FILES)}
    console = lab.Console(NAME)
    die_while_it_boots(console)
    try:
        lab.wait(console.boots, lab.BOOT_TIME_LIMIT, "the trial boot begins")
        lab.wait(lambda: len(console.boots()) > 1, lab.BOOT_TIME_LIMIT + TRIAL_SECONDS, "the host goes back by itself")
        lab.wait_ready(NAME)
    except TimeoutError as error:
        raise TimeoutError(f"{error}; its console ends with:\n{console.end()}") from error
    return {"before": before, "boots": console.boots(), "console": console.text()}


def die_while_it_boots(console):
    """A run that arms a trial and is killed as soon as the host goes down."""
    variables = {"lowlatency_reboot_ok": True, "lowlatency_trial_seconds": TRIAL_SECONDS, "kernel_cmdline_arguments_extra": {"lab.harmless": "1"}}
    with (lab.STATE / "unconfirmed.log").open("w+", encoding="utf-8") as log:
        controller = subprocess.Popen(
            site_command(NAME, variables), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=lab.PROJECT, env=PLAIN)
        try:
            # The kernel's last word, or the next one's first.
            lab.wait(lambda: controller.poll() is not None or "reboot: Restarting system" in console.text() or console.boots(), 300, "the host goes down")
            assert controller.poll() is None, f"the run ended by itself: {Path(log.name).read_text(encoding='utf-8')[-2000:]}"
        finally:
            kill(controller.pid)
            controller.wait()


def test_trial_was_booted(unconfirmed):
    assert MARK in unconfirmed["boots"][0]
    assert "lab.harmless=1" in unconfirmed["boots"][0].split()


def test_trial_reached_its_system_and_was_ended_from_there(unconfirmed):
    """The host went back because nobody confirmed, not because it could not boot: no panic, and an orderly restart."""
    trial = unconfirmed["console"].split(MARK, 1)[1].split(" Command line: ", 1)[0]
    assert "Kernel panic" not in trial
    assert "reboot: Restarting system" in trial


def test_host_went_back_to_its_old_command_line_once(unconfirmed):
    assert [line.split() for line in unconfirmed["boots"][1:]] == [unconfirmed["before"]["arguments"]]
    assert lab.run(NAME, "cat /proc/cmdline").split() == unconfirmed["before"]["arguments"]
    assert lab.boot_id(NAME) != unconfirmed["before"]["boot_id"]


def test_boot_loader_is_as_before(unconfirmed, changes):
    assert changes(unconfirmed["before"]["grub"], lab.run(NAME, GRUB_FILES)) == ""


def test_no_trial_is_armed(unconfirmed):
    assert [line for line in lab.run(NAME, "grub-editenv list").splitlines() if line.startswith("next_entry=") and line != "next_entry="] == []


def test_nothing_is_left_to_watch_over(unconfirmed):
    """The host clears this by itself, or an ordinary run does at the latest; both without a boot."""
    put_right(NAME)
    assert lab.run(NAME, "cat /proc/cmdline").split() == unconfirmed["before"]["arguments"]
