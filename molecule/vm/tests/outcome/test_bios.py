# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told of the firmware and of the power of CPUs, beside what lscpu, the kernel's own files and its log say."""

from __future__ import annotations

import json

import lab
import pytest
from expected import ISOLATED


@pytest.fixture(scope="module", params=lab.NAMES)
def told(request):
    """``(host, {control: setting})`` of the host agent's verdict."""
    shown = lab.guest(request.param).run("/usr/local/sbin/lowlatency verify --json")
    assert shown.rc == 0, shown.stdout[-2000:]
    return request.param, {setting["control"]: setting for setting in json.loads(shown.stdout)}


def lscpu(name):
    return {entry["field"].rstrip(":"): entry["data"] for entry in json.loads(lab.run(name, "lscpu -J"))["lscpu"]}


def test_hyper_threading_is_on_and_siblings_are_idle(told):
    name, settings = told
    assert lscpu(name)["Thread(s) per core"] == "2" and lab.run(name, "cat /sys/devices/system/cpu/smt/active").strip() == "1"
    for cpu in ISOLATED:
        assert lab.run(name, f"cat /sys/devices/system/cpu/cpu{cpu}/topology/core_cpus_list").strip() in ("2-3", "6-7"), "whole cores are isolated"
    assert (settings["bios.smt"]["current"], settings["bios.smt"]["state"]) == ("siblings-idle", "ok")


def test_sockets_nodes_and_clock_are_told(told):
    name, settings = told
    shown = lscpu(name)
    assert settings["bios.numa"]["current"] == f"{shown['NUMA node(s)']} nodes on {shown['Socket(s)']} sockets"
    assert settings["bios.clocksource"]["current"] == lab.run(name, "cat /sys/devices/system/clocksource/clocksource0/current_clocksource").strip()
    assert settings["bios.iommu"]["current"] == "on (dmar0)" and lab.run(name, "ls /sys/class/iommu").split() == ["dmar0"]


def test_what_the_hypervisor_decides_is_unsupported_and_said_so(told):
    _name, settings = told
    for control in ("bios.firmware", "bios.microcode", "bios.memory", "bios.smis", "cpu.governor", "cpu.energy_perf_bias", "cpu.uncore"):
        assert settings[control]["state"] == "unsupported" and "this machine is virtual" in settings[control]["reason"], control
    assert "virtual" in settings["bios.machine"]["current"]
