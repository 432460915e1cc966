# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with one NIC is told of that NIC, nothing of it is set, and the other is finished."""

from __future__ import annotations

import json
import re
import subprocess

import lab
import pytest
from conftest import PLAIN

NAME = "lab-b"
GOOD, BAD = "enp129s0", "enp65s0"
STORAGE = "cd /sys/bus/pci/devices && grep -l '^0x01' */class | head -n 1 | cut -d/ -f1"
# Everything that a run could set of a NIC.
STATE = "for option in -c -g -l -a -k; do ethtool $option {nic}; done"


def tuned(nics):
    """Runs the module on one host as a user's own task does; what it said, with single spaces."""
    command = ["ansible", *lab.INVENTORIES, NAME, "-b", "-m", "lowlatency.fleet.ethtool", "-a", json.dumps({"nics": nics})]
    process = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False, cwd=lab.PROJECT, env=PLAIN)
    return process.returncode, " ".join((process.stdout + process.stderr).split())


def frames():
    """The receive-usecs of the NIC that is right, by ethtool."""
    return next(line.split()[1] for line in lab.run(NAME, f"ethtool -c {GOOD}").splitlines() if line.startswith("rx-usecs:"))


CASES = {
    "a ring over the maximum": ([{"interface": BAD, "rings": {"rx": 8192}, "coalesce": {"rx-usecs": 11}}], r"rings: rx 8192 is more than the 4096"),
    "no channels": ([{"interface": BAD, "channels": {"queues": 0}, "coalesce": {"rx-usecs": 11}}], r"queues 0 would leave the NIC without queues"),
    "a parameter that no driver has": ([{"interface": BAD, "coalesce": {"rx_usecs": 11}}], r"no parameter 'rx_usecs'; write rx-usecs"),
    "no such interface": ([{"interface": "eth9", "coalesce": {"rx-usecs": 11}}], r"eth9.*no such interface on this host"),
    "one NIC twice": ([{"interface": BAD, "coalesce": {"rx-usecs": 11}}, {"pci": "0000:41:00.0", "coalesce": {"rx-usecs": 12}}],
                      r"is the same NIC as enp65s0"),
    "the management NIC": ([{"interface": "enp0s16", "features": {"gro": "off"}}],
                           r"enp0s16 carries (the default route|this SSH connection).*management: true"),
}


@pytest.fixture
def back():
    """The kept wishes as they were, and both NICs by the profile again."""
    kept = lab.run(NAME, "cat /etc/lowlatency/desired.json")
    yield
    lab.run(NAME, f"cat >/etc/lowlatency/desired.json <<'X'\n{kept.rstrip()}\nX\n/usr/local/sbin/lowlatency apply >/dev/null 2>&1; true")


@pytest.mark.parametrize("case", CASES)
def test_one_nic_is_wrong_and_the_other_is_finished(case, back):
    nics, message = CASES[case]
    before, usecs = lab.run(NAME, STATE.format(nic=BAD)), str(20 + list(CASES).index(case) * 4)
    code, text = tuned([*nics, {"interface": GOOD, "coalesce": {"rx-usecs": int(usecs)}}])
    assert code != 0
    assert re.search(message, text), text[-1500:]
    assert lab.run(NAME, STATE.format(nic=BAD)) == before
    assert frames() == usecs


def test_pci_address_of_a_disk_controller(back):
    address = lab.run(NAME, STORAGE).strip()
    assert address
    code, text = tuned([{"pci": address, "coalesce": {"rx-usecs": 11}}, {"interface": GOOD, "coalesce": {"rx-usecs": 60}}])
    assert code != 0
    assert re.search(rf"{address} is no network controller \(class 0x01", text), text[-1500:]
    assert frames() == "60"


def test_nic_without_a_link_is_tuned_all_the_same(back):
    lab.run(NAME, f"ip link set {GOOD} down")
    try:
        code, text = tuned([{"interface": GOOD, "coalesce": {"rx-usecs": 64}}])
        assert code == 0, text[-1500:]
        assert frames() == "64"
    finally:
        lab.run(NAME, f"ip link set {GOOD} up")
