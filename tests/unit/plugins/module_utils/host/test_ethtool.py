# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ethtool ioctl: what is sent to the kernel and how its answers are read, against a driver made of a few bytes."""

from __future__ import annotations

import errno
import os
import shutil
import struct
import subprocess
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import ethtool
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.ethtool import (
    GDRVINFO,
    GFEATURES,
    GSSET_INFO,
    GSTRINGS,
    SFEATURES,
    SS_FEATURES,
    read_ethtool,
    write_feature,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.nic import Feature, NicState
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import Setting

# 40 features, so that they take two words; an empty name is a bit the kernel keeps for itself.
NAMES = ["tx-scatter-gather", "rx-gro", "", "rx-lro", *(f"bit-{index}" for index in range(4, 32)), "tx-tcp-segmentation", "tx-tcp6-segmentation",
         *(f"bit-{index}" for index in range(34, 40))]
GRO, LRO, TCP4, TCP6 = (NAMES.index(name) for name in ("rx-gro", "rx-lro", "tx-tcp-segmentation", "tx-tcp6-segmentation"))


class Driver:
    """Answers as net/ethtool/ioctl.c does."""

    def __init__(self) -> None:
        self.active = 1 << GRO | 1 << TCP4
        self.available = (1 << 40) - 1 & ~(1 << TCP6)
        self.never = 1 << LRO
        self.sent: list[tuple[int, int]] = []
        self.error = 0

    def __call__(self, link: Any, interface: str, request: bytes) -> bytes:
        assert interface == "lo"
        command = struct.unpack_from("=I", request)[0]
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        if command == GDRVINFO:
            return struct.pack("=I32s160x", GDRVINFO, b"igb")
        if command == GSSET_INFO:
            assert struct.unpack_from("=Q", request, 8)[0] == 1 << SS_FEATURES
            return struct.pack("=IIQI", GSSET_INFO, 0, 1 << SS_FEATURES, len(NAMES))
        if command == GSTRINGS:
            assert len(request) == 12 + 32 * len(NAMES), "the kernel writes this much"
            return request[:12] + b"".join(name.encode().ljust(32, b"\0") for name in NAMES)
        if command == GFEATURES:
            assert struct.unpack_from("=I", request, 4)[0] == 2 and len(request) == 8 + 2 * 16
            words = [[value >> 32 * block & 0xFFFFFFFF for value in (self.available, self.active, self.active, self.never)] for block in (0, 1)]
            return request[:8] + struct.pack("=8I", *words[0], *words[1])
        assert command == SFEATURES and len(request) == 8 + 2 * 8
        valid0, wanted0, valid1, wanted1 = struct.unpack_from("=4I", request, 8)
        self.sent.append((valid0 | valid1 << 32, wanted0 | wanted1 << 32))
        return request


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver()
    monkeypatch.setattr(ethtool, "_ioctl", made)
    return made


def state() -> NicState:
    return read_ethtool(Host(), {"nics": [{"interface": "lo"}]}).nics[0]


def write(name: str, desired: str) -> None:
    write_feature(Host(), read_ethtool(Host(), {"nics": [{"interface": "lo"}]}), Setting("c", f"lo.{name}", desired))


def test_features_are_read_by_their_bits(driver: Driver) -> None:
    found = state()
    assert found.driver == "igb" and found.features is not None
    assert len(found.features) == 39 and "" not in found.features
    assert found.features["rx-gro"] == Feature(active=True, fixed=False)
    assert found.features["rx-lro"] == Feature(active=False, fixed=True)
    assert found.features["tx-tcp-segmentation"] == Feature(active=True, fixed=False)
    assert found.features["tx-tcp6-segmentation"] == Feature(active=False, fixed=True)


@pytest.mark.parametrize(("name", "bits"), [("gro", 1 << GRO), ("tso", 1 << TCP4), ("lro", 0), ("bit-39", 1 << 39), ("bit-31", 1 << 31)])
def test_exactly_the_movable_bits_are_sent(driver: Driver, name: str, bits: int) -> None:
    write(name, "off")
    write(name, "on")
    assert driver.sent == [(bits, 0), (bits, bits)]


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL])
def test_a_driver_without_features_is_no_error(driver: Driver, code: int) -> None:
    driver.error = code
    assert state().features is None and state().unreadable == ""


def test_any_other_answer_is_told(driver: Driver) -> None:
    driver.error = errno.ENODEV
    assert os.strerror(errno.ENODEV) in state().unreadable


def test_an_interface_that_is_not_there_names_those_that_are(driver: Driver) -> None:
    found = read_ethtool(Host(), {"nics": [{"interface": "none0"}]}).nics[0]
    assert "no such interface" in found.unreadable and "lo" in found.unreadable


def test_a_captured_tree_says_that_it_holds_no_features(tmp_path: Any) -> None:
    (tmp_path / "sys/class/net/eth0").mkdir(parents=True)
    assert "captured tree" in read_ethtool(Host(str(tmp_path)), {"nics": [{"interface": "eth0"}]}).nics[0].unreadable


def test_a_name_too_long_for_the_kernel_is_not_cut() -> None:
    with pytest.raises(OSError) as caught:
        ethtool._ioctl(None, "sixteen-letters0", b"")  # type: ignore[arg-type]
    assert caught.value.errno == errno.ENODEV


@pytest.mark.skipif(not shutil.which("ethtool"), reason="no ethtool to judge by")
def test_the_loopback_of_this_machine_as_ethtool_sees_it() -> None:
    text = subprocess.run(["ethtool", "-k", "lo"], capture_output=True, text=True, check=False).stdout
    shown = {line.split(":")[0].strip(): line.split(":")[1].split() for line in text.splitlines()[1:] if ":" in line}
    found = state().features
    if not shown or found is None:
        pytest.skip("this machine answers no feature requests")
    both = set(found) & set(shown)
    assert both
    assert {name: (found[name].active, found[name].fixed) for name in both} == {name: (shown[name][0] == "on", "[fixed]" in shown[name]) for name in both}
