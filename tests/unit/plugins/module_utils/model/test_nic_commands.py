# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands that set NICs or interrupts: which lines are such, and whether they touch our interfaces."""

from __future__ import annotations

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.nic_commands import (
    IRQ,
    NIC,
    Command,
    commands,
    concerning,
    suspicious,
)
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(("line", "found"), [
    ("ethtool -K ens1f0 gro off lro off", [Command(NIC, "ethtool -K ens1f0 gro off lro off", "ens1f0")]),
    ("/usr/sbin/ethtool -C $IFACE rx-usecs 0 || true", [Command(NIC, "ethtool -C $IFACE rx-usecs 0")]),
    ('  "$ETHTOOL" --set-ring "$1" rx 4096', [Command(NIC, "ethtool --set-ring $1 rx 4096")]),
    ("ethtool -G eth0 rx 512; ethtool -L eth1 combined 4", [Command(NIC, "ethtool -G eth0 rx 512", "eth0"),
                                                            Command(NIC, "ethtool -L eth1 combined 4", "eth1")]),
    ("ethtool -Q eth0 queue_mask 0x1 --coalesce rx-usecs 0", [Command(NIC, "ethtool -Q eth0 queue_mask 0x1 --coalesce rx-usecs 0", "eth0")]),
    ("ExecStart=/sbin/ethtool --set-priv-flags %i rx_cqe_compress off", [Command(NIC, "ethtool --set-priv-flags %i rx_cqe_compress off")]),
    ("sh -c 'ethtool -X eth0 equal 2'", [Command(NIC, "ethtool -X eth0 equal 2", "eth0")]),
    ("ethtool -A", [Command(NIC, "ethtool -A")]),
    ("ethtool -k ens1f0", []),
    ("ethtool -i $1 | grep driver", []),
    ("ethtool ens1f0", []),
    ("ethtool -s eth0 wol d", []),
    ("ethtool -Q eth0 --show-coalesce", []),
    ("# ethtool -K ens1f0 gro off", []),
    ("true # ethtool -K ens1f0 gro off", []),
    ("apt-get install ethtool", []),
    ("my-ethtool -K eth0 gro off", []),
    ("/opt/nic/set_irq_affinity.sh -x local ens1f0", [Command(IRQ, "set_irq_affinity.sh -x local ens1f0")]),
    ("set_irq_affinity_cpulist.sh 0-3 ens1f0 && echo done", [Command(IRQ, "set_irq_affinity_cpulist.sh 0-3 ens1f0")]),
    ("mlnx_affinity start", [Command(IRQ, "mlnx_affinity start")]),
    ("mlnx_tune -p LOW_LATENCY_VMA", [Command(NIC, "mlnx_tune -p LOW_LATENCY_VMA"), Command(IRQ, "mlnx_tune -p LOW_LATENCY_VMA")]),
    ("sfcirqaffinity enp1s0f0 0x3", [Command(IRQ, "sfcirqaffinity enp1s0f0 0x3")]),
    ("echo 3 > /proc/irq/40/smp_affinity", [Command(IRQ, "echo 3 > /proc/irq/40/smp_affinity")]),
    ("for i in /proc/irq/*/smp_affinity_list; do echo 0 > $i; done", [Command(IRQ, "for i in /proc/irq/*/smp_affinity_list; do echo 0 > $i; done")]),
    ("cat /proc/irq/40/smp_affinity", []),
    ("x=$(cat /proc/irq/40/smp_affinity)", []),
    ("cat mask > /proc/irq/40/smp_affinity", [Command(IRQ, "cat mask > /proc/irq/40/smp_affinity")]),
    ("echo f | tee /sys/class/net/eth0/queues/rx-0/rps_cpus", [Command(NIC, "echo f | tee /sys/class/net/eth0/queues/rx-0/rps_cpus", "eth0")]),
    ("w /sys/class/net/*/queues/tx-0/xps_cpus - - - - 1", [Command(NIC, "w /sys/class/net/*/queues/tx-0/xps_cpus - - - - 1")]),
    ("systemctl enable --now irqbalance", [Command(IRQ, "systemctl enable --now irqbalance")]),
    ("service irqbalance restart", [Command(IRQ, "service irqbalance restart")]),
    ("*/5 * * * * root /usr/sbin/irqbalance --oneshot", [Command(IRQ, "*/5 * * * * root /usr/sbin/irqbalance --oneshot")]),
    ("systemctl stop irqbalance", []),
    ("systemctl mask irqbalance && systemctl start chrony", []),
    ("pkill irqbalance", []),
    ("EnvironmentFile=/etc/default/irqbalance", []),
    ("After=irqbalance.service", []),
    ("CPUAffinity=0-3", []),
    ("", []),
])
def test_what_is_a_command_that_sets(line: str, found: list[Command]) -> None:
    assert commands(line + "\n") == found
    assert suspicious(line) or not found


def test_tc_only_where_it_is_asked_for() -> None:
    line = "tc qdisc replace dev ens1f0 root fq"
    assert commands(line) == []
    assert commands(line, tc=True) == [Command(NIC, "tc qdisc replace dev ens1f0", "ens1f0")]
    assert commands("tc -s qdisc show dev ens1f0", tc=True) == []


def test_a_command_goes_on_after_a_backslash_and_counts_once() -> None:
    text = "ethtool -K eth0 \\\n  gro off\nethtool -K eth0 gro off\n"
    assert commands(text) == [Command(NIC, "ethtool -K eth0 gro off", "eth0")]


def test_many_words_are_cut() -> None:
    words = commands("ethtool -K eth0 " + "gro off " * 40)[0].words
    assert len(words) == 100 and words.endswith("...")


OURS, OTHERS = {"ens1f0", "ens1f1"}, {"eno1", "eth7"}


@pytest.mark.parametrize(("text", "touched"), [
    ("ethtool -K ens1f0 gro off", True),
    ("ethtool -K eno1 gro off", False),
    ("ethtool -K eth99 gro off", False),
    ('ethtool -K "$1" gro off', True),
    ("for i in eno1 eth7; do ethtool -K $i gro off; done", False),
    ("for i in eno1 ens1f0; do ethtool -K $i gro off; done", True),
    ("# not for eno1\nethtool -K $1 gro off", True),
    ("if [ $1 = eno1 ]; then\nethtool -K $1 gro off\nfi", False),
    ("set_irq_affinity.sh eno1", False),
    ("set_irq_affinity.sh ens1f1", True),
    ("set_irq_affinity.sh local $1", True),
    ("mlnx_affinity start", True),
])
def test_whose_interface_is_touched(text: str, touched: bool) -> None:
    assert bool(concerning(commands(text), text, OURS, OTHERS)) is touched


LINES = st.lists(st.sampled_from([
    "ethtool", "-K", "-C", "$1", "eth0", "|", ";", "'", '"', "set_irq_affinity", "smp_affinity", ">", "cat", "tc", "qdisc", "add", "dev", "irqbalance",
    "systemctl", "start", "\\\n", "\n", "#", "$(", "/net/", "/queues", "rps_cpus"]) | st.text(max_size=4))


@given(LINES)
def test_any_text_can_be_read(words: list[str]) -> None:
    text = " ".join(words)
    for command in concerning(commands(text, tc=True), text, OURS, OTHERS):
        assert command.control in (NIC, IRQ) and 0 < len(command.words) <= 100 and "\n" not in command.words
