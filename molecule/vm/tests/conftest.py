# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab as testinfra hosts, and what the tests ask of it. Everything is asked of the system's own tools, never of the collection."""

from __future__ import annotations

import difflib
import json
import os
import subprocess

import lab
import pytest


def pytest_generate_tests(metafunc):
    """A test that takes 'node' runs on both hosts."""
    if "node" in metafunc.fixturenames:
        metafunc.parametrize("node", lab.NAMES)


@pytest.fixture
def host(node):
    return lab.guest(node)


@pytest.fixture
def changes():
    """changes(before, after): the lines in which two states differ, for people; empty when they are the same."""
    def compare(before, after):
        lines = difflib.unified_diff(before.splitlines(), after.splitlines(), "before", "after", lineterm="", n=0)
        return "\n".join(lines)
    return compare


# Molecule asks for colours, which would stand between the words of a message.
PLAIN = {**os.environ, "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"}


def site(name, **variables):
    """Runs the collection's site.yml on one host as a user does; the finished process."""
    command = site_command(name, variables)
    # A standard input of its own: ssh, killed where a host does not answer, leaves a shared one non-blocking, which Ansible refuses.
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1200, check=False, cwd=lab.PROJECT, env=PLAIN)


def site_command(name, variables):
    command = ["ansible-playbook", *lab.INVENTORIES, str(lab.PROJECT / "site.yml"), "--limit", name]
    return [*command, "--extra-vars", json.dumps(variables)]


def put_right(name):
    """Runs what the inventory says, without the request that failed: its wish was kept, so until then the host is right to call itself drifted."""
    process = site(name)
    assert process.returncode == 0, said(process)[-2000:]
    assert lab.trial_left(name) == ""
    verdict = lab.guest(name).run("/usr/local/sbin/lowlatency verify")
    assert verdict.rc == 0, verdict.stdout + verdict.stderr


def said(process):
    """All that a run said, with line breaks and indentation made single spaces."""
    return " ".join((process.stdout + process.stderr).split())


def settled(command_line):
    """A command line without what marks a trial: a host keeps that until the boot after the one that was confirmed."""
    return [word for word in command_line.split() if word != "panic=10" and not word.startswith("lowlatency.trial=")]


def interrupts(name):
    """/proc/interrupts of a host: {name of the action: {cpu: count}} for the interrupts of devices."""
    head, *lines = lab.run(name, "cat /proc/interrupts").splitlines()
    cpus = [int(title.removeprefix("CPU")) for title in head.split()]
    counted = {}
    for line in lines:
        number, *rest = line.split()
        if number.rstrip(":").isdigit():
            counted[f"{number} {rest[-1]}"] = dict(zip(cpus, map(int, rest[: len(cpus)])))
    return counted


def cpulist(text):
    """The CPUs of a list like 0-1,4."""
    cpus = set()
    for part in filter(None, text.strip().split(",")):
        first, _dash, last = part.partition("-")
        cpus |= set(range(int(first), int(last or first) + 1))
    return cpus
