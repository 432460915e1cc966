# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What else sets sysctl keys: patterns and exclusions of sysctl.d, commands, tuned."""

from __future__ import annotations

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.sysctl_files import (
    commands,
    file_competitor,
    script_competitors,
    tuned_sysctls,
    value_at_boot,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.tuned import TunedUnit

KEY = "net.ipv4.conf.eth0.rp_filter"


@pytest.mark.parametrize(("texts", "left"), [
    (["net.ipv4.conf.*.rp_filter = 2"], ("2", "0")),
    (["net.ipv4.conf.*.rp_filter = 2", "net.ipv4.conf.*.rp_filter = 1"], ("1", "1")),
    (["net.ipv4.conf.*.rp_filter = 2", "net.ipv4.conf.eth?.rp_filter = 1", "net.ipv4.conf.*.rp_filter = 2"], ("2", "2")),
    ([f"{KEY} = 0", "net.ipv4.conf.*.rp_filter = 2"], ("0", "0")),
    (["net.ipv4.conf.*.rp_filter = 2", f"{KEY} = 0"], ("0", "1")),
    (["net.ipv4.conf.*.rp_filter = 2", "-net.ipv4.conf.eth0.rp_filter"], (None, "1")),
    (["-net/ipv4/conf/*/rp_filter = 2"], ("2", "0")),
    (["net.ipv4.* = 2", "net.*.rp_filter = 2"], (None, "")),
    (["# net.ipv4.conf.*.rp_filter = 2", "; x = 1", "nonsense", ""], (None, "")),
])
def test_what_boot_leaves_of_a_key(texts: list[str], left: tuple[str | None, str]) -> None:
    """A star ends at a dot; a key that is named, or excluded, is left alone by patterns, wherever it is named (sysctl.d(5))."""
    assert value_at_boot([(str(number), text) for number, text in enumerate(texts)], KEY) == left


@pytest.mark.parametrize(("text", "found"), [
    ("sysctl -w net.ipv4.tcp_sack=0", [("net.ipv4.tcp_sack", "0")]),
    ("ExecStart=/usr/sbin/sysctl -qw net.ipv4.tcp_rmem='4096  8192 16384' vm.swappiness=1", [("net.ipv4.tcp_rmem", "4096 8192 16384"), ("vm.swappiness", "1")]),
    ("@reboot root /sbin/sysctl net/ipv4/tcp_sack=$X", [("net.ipv4.tcp_sack", None)]),
    ("echo 0 > /proc/sys/net/ipv4/tcp_sack", [("net.ipv4.tcp_sack", "0")]),
    ('echo "4096 8192 16384" >/proc/sys/net/ipv4/tcp_rmem', [("net.ipv4.tcp_rmem", "4096 8192 16384")]),
    ("echo 0 | tee /proc/sys/net/ipv4/tcp_sack", [("net.ipv4.tcp_sack", None)]),
    ("# sysctl -w net.ipv4.tcp_sack=0", []),
    ("sysctl net.ipv4.tcp_sack; sysctl -p /etc/x", []),
    ("cat /proc/sys/net/ipv4/tcp_sack", []),
    ("sysctl -w 'net.ipv4.tcp_sack=0", [("net.ipv4.tcp_sack", "0")]),
    ("mysysctl -w net.ipv4.tcp_sack=0", []),
])
def test_commands_that_set_keys(text: str, found: list[tuple[str, str | None]]) -> None:
    assert [(key.strip("'"), value) for key, value in commands(text)] == found


def test_a_script_is_told_of_only_where_it_sets_another_value() -> None:
    wanted = {"net.ipv4.tcp_sack": "1"}
    assert script_competitors("/etc/rc.local", "sysctl -w net.ipv4.tcp_sack=1 vm.swappiness=3", "", wanted) == []
    (found,) = script_competitors("/etc/rc.local", "sysctl -w net.ipv4.tcp_sack=0", "", wanted)
    assert (found.control, found.name, found.sets) == ("sysctl.competitor", "/etc/rc.local", "runs sysctl: net.ipv4.tcp_sack = 0")


def test_a_file_that_no_boot_reads_is_told_of() -> None:
    assert file_competitor("/etc/sysctl.conf", "net.ipv4.tcp_sack = 1", {"net.ipv4.tcp_sack": "1"}) == []
    assert "net.ipv4.tcp_sack = 0" in file_competitor("/etc/sysctl.conf", "net/ipv4/tcp_sack=0", {"net.ipv4.tcp_sack": "1"})[0].sets


def test_what_tuned_computes_is_not_certain() -> None:
    unit = TunedUnit("sysctl", "sysctl", options={"vm.swappiness": "10", "net.core.busy_read": "${f:x}", "vm.dirty_ratio": ">=10"})
    later, uncertain = tuned_sysctls([unit, TunedUnit("net", "net", options={"a.b": "1"})], "network-latency")
    assert [(one.key, one.value) for one in later] == [("vm.swappiness", "10")]
    assert uncertain == [("net.core.busy_read", "${f:x}"), ("vm.dirty_ratio", ">=10")]
