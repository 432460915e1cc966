# SPDX-License-Identifier: GPL-3.0-or-later
"""Each NIC as ethtool, sysfs and /proc show it: channels, ring, coalescing, flow control, interrupts by queue, XPS, RPS, NAPI."""

from __future__ import annotations

import json

import lab
import pytest
from conftest import cpulist
from expected import (
    CHANNELS,
    COALESCE,
    FLOW_LIMIT,
    GRO_FLUSH_TIMEOUT,
    LEGACY_RX,
    NICS,
    PAUSE,
    QDISC,
    RING,
    ROUTES,
    RPS_FLOWS,
    TABLE_QUEUES,
    UDP_HASH,
    UNSUPPORTED,
    XPS,
)

NODE_AND_NIC = [(name, nic) for name in lab.NAMES for nic in NICS]


def shown(name, option, nic):
    """What ethtool shows of a NIC now: the last value of each line "Name: value"."""
    lines = lab.run(name, f"ethtool {option} {nic}").splitlines()
    return {line.split(":")[0].strip(): line.split(":", 1)[1].strip() for line in lines if ":" in line}


def mask(text):
    """The CPUs of a mask of sysfs."""
    value = int(text.strip().replace(",", ""), 16)
    return {cpu for cpu in range(value.bit_length()) if value >> cpu & 1}


@pytest.mark.parametrize(("name", "nic"), NODE_AND_NIC)
def test_channels(name, nic):
    assert shown(name, "-l", nic)["Combined"] == str(CHANNELS[nic])


@pytest.mark.parametrize(("name", "nic"), NODE_AND_NIC)
@pytest.mark.parametrize(("option", "wanted"), [("-g", RING), ("-c", COALESCE), ("-a", PAUSE)])
def test_ring_coalescing_and_flow_control(name, nic, option, wanted):
    held = shown(name, option, nic)
    assert {key: held[key] for key in wanted} == wanted


@pytest.mark.parametrize(("name", "nic"), NODE_AND_NIC)
def test_metrics_of_the_route_to_the_network_of_a_nic(name, nic):
    prefix, metrics = ROUTES[nic]
    (route,) = json.loads(lab.run(name, f"ip -j route show exact {prefix}"))
    assert (route["dev"], route["protocol"], route["scope"]) == (nic, "kernel", "link")
    assert " ".join(f"{key} {value}" for entry in route["metrics"] for key, value in entry.items()) == metrics


def test_a_connection_over_such_a_route_begins_with_its_window():
    shown = lab.run("lab-a", """
python3 - <<'END'
import socket, subprocess
with socket.create_connection(("10.64.0.2", 22)) as link:
    print(subprocess.run(["ss", "-tin", "dst", "10.64.0.2"], capture_output=True, text=True, check=True).stdout)
END
""")
    assert " cwnd:20 " in shown


@pytest.mark.parametrize(("name", "nic"), NODE_AND_NIC)
def test_interrupts_of_every_queue_are_on_one_cpu_of_its_node(name, nic):
    used = "ls -d /proc/irq/$irq/*/ >/dev/null 2>&1"
    script = f"cd /sys/class/net/{nic}/device/msi_irqs && for irq in *; do ! {used} || cat /proc/irq/$irq/smp_affinity_list; done"
    lists = lab.run(name, script).split()
    assert len(lists) >= 1 + CHANNELS[nic]
    assert all(len(cpulist(text)) == 1 and cpulist(text) <= NICS[nic] for text in lists), lists


@pytest.mark.parametrize(("name", "nic"), NODE_AND_NIC)
def test_xps_matches_the_interrupts_and_gives_isolated_cpus_queues_of_their_own(name, nic):
    queues = lab.run(name, f"for queue in /sys/class/net/{nic}/queues/tx-*; do cat $queue/xps_cpus 2>/dev/null; done; true").split()
    assert [mask(text) for text in queues] == XPS[nic]


@pytest.mark.parametrize(("name", "nic"), NODE_AND_NIC)
def test_packets_are_not_moved_to_other_cpus_and_polling_is_plain(name, nic):
    folder = f"/sys/class/net/{nic}"
    masks = lab.run(name, f"cat {folder}/queues/rx-*/rps_cpus").split()
    assert len(masks) == CHANNELS[nic]
    assert all(mask(text) == set() for text in masks)
    assert set(lab.run(name, f"cat {folder}/queues/rx-*/rps_flow_cnt").split()) == {RPS_FLOWS[nic]}
    assert lab.run(name, f"cat {folder}/napi_defer_hard_irqs {folder}/gro_flush_timeout").split() == ["0", GRO_FLUSH_TIMEOUT[nic]]


@pytest.mark.parametrize(("name", "nic"), [(name, nic) for name in lab.NAMES for nic in TABLE_QUEUES])
def test_receive_side_scaling_spreads_over_every_queue_in_turn(name, nic):
    rows = [line.split(":")[1].split() for line in lab.run(name, f"ethtool -x {nic}").splitlines() if line.strip()[:1].isdigit()]
    table = [int(queue) for row in rows for queue in row]
    assert len(table) == 128
    assert table == [TABLE_QUEUES[nic][entry % len(TABLE_QUEUES[nic])] for entry in range(len(table))]


@pytest.mark.parametrize(("name", "nic"), [(name, nic) for name in lab.NAMES for nic in UDP_HASH])
def test_udp_is_hashed_by_address_and_port(name, nic):
    lines = lab.run(name, f"ethtool -n {nic} rx-flow-hash udp4").splitlines()
    assert {line.strip() for line in lines[1:] if line.strip()} == UDP_HASH[nic]


@pytest.mark.parametrize(("name", "nic"), NODE_AND_NIC)
def test_private_flag(name, nic):
    assert shown(name, "--show-priv-flags", nic)["legacy-rx"] == LEGACY_RX[nic]


@pytest.mark.parametrize(("name", "nic"), NODE_AND_NIC)
def test_every_transmit_queue_has_its_queueing_discipline(name, nic):
    tree = json.loads(lab.run(name, f"tc -j qdisc show dev {nic}"))
    assert [entry["kind"] for entry in tree if entry.get("root")] == ["mq"]
    leaves = {int(entry["parent"].partition(":")[2], 16): entry for entry in tree if not entry.get("root")}
    assert sorted(leaves) == list(range(1, CHANNELS[nic] + 1))
    assert {leaf["kind"] for leaf in leaves.values()} == QDISC[nic]
    if nic in FLOW_LIMIT:
        assert {leaf["options"]["flow_limit"] for leaf in leaves.values()} == FLOW_LIMIT[nic]


@pytest.mark.parametrize("name", lab.NAMES)
def test_what_the_driver_has_not_is_said_and_stops_nothing(name):
    settings = json.loads(lab.guest(name).run("/usr/local/sbin/lowlatency verify --json").stdout)
    missing = " ".join(f"{setting['name']} {setting['reason']}" for setting in settings if setting["state"] == "unsupported")
    assert [parameter for parameter in UNSUPPORTED if f"enp65s0.{parameter}" not in missing] == []
    assert "igb" in missing


@pytest.mark.parametrize("name", lab.NAMES)
def test_management_nic_is_as_it_was(name):
    """It carries the default route and this connection."""
    held = shown(name, "-k", "enp0s16")
    assert held["generic-receive-offload"] == "on"
    assert lab.run(name, "cat /sys/class/net/enp0s16/queues/rx-0/rps_cpus").strip().strip("0,") == ""
