# SPDX-License-Identifier: GPL-3.0-or-later
"""Queueing disciplines as tc shows them, and where connections do without SACK, by nft, systemd and ss."""

from __future__ import annotations

import json
import time

import pytest
from conftest import container, hosts_of, sack_sets
from expected import FQ, SACK_OFF, SACK_OFF_TOWARDS

# A server and a client in one: both ends of the connection are this host's, the address is what the filter goes by.
CONNECTION = """
import socket, subprocess
server = socket.create_server(("{address}", 5555))
client = socket.create_connection(("{address}", 5555))
print(subprocess.run(["ss", "-tinoOH", "dst", "{address}"], capture_output=True, text=True, check=True).stdout)
"""


def queues(host, nic):
    """``{parent: kind}`` of a NIC; the root has "root"."""
    tree = json.loads(host.check_output("tc -j qdisc show dev %s", nic))
    return {"root" if entry.get("root") else entry["parent"].partition(":")[2]: entry["kind"] for entry in tree}


@pytest.mark.parametrize(("node", "nic"), FQ.items())
def test_fq_is_in_every_queue_where_the_kernel_has_it(node, nic):
    host = container(node)
    if host.run("ip netns add probe && ip netns exec probe tc qdisc add dev lo root fq").rc == 0:
        count = len(host.check_output("ls -d /sys/class/net/%s/queues/tx-*", nic).split())
        assert queues(host, nic) == {"root": "mq", **{f"{queue:x}": "fq" for queue in range(1, count + 1)}}
    else:
        assert queues(host, nic) == {"root": "noqueue"}
        settings = json.loads(host.run("/usr/local/sbin/lowlatency verify --json").stdout)
        assert [(setting["state"], setting["name"]) for setting in settings if setting["control"] == "net.qdisc"] == [("unsupported", nic)]
    host.run("ip netns del probe")


@pytest.mark.parametrize("node", SACK_OFF)
def test_sack_is_off_towards_the_prefixes_of_the_inventory(node):
    host = container(node)
    assert sack_sets(host) == SACK_OFF_TOWARDS
    assert host.check_output("systemctl is-enabled lowlatency-sack.service") == "enabled"
    assert host.run("systemd-analyze verify lowlatency-sack.service").stderr == ""


def test_no_other_host_has_a_table():
    assert {node: container(node).check_output("nft list tables") for node in hosts_of() if node not in SACK_OFF} == {
        node: "" for node in hosts_of() if node not in SACK_OFF}


@pytest.mark.parametrize(("address", "agreed"), [("198.51.100.11", False), ("198.51.100.139", False), ("192.0.2.11", True)])
def test_what_a_connection_agreed_on(address, agreed):
    shown = container("md-gw-1").check_output("python3 -c %s", CONNECTION.format(address=address))
    assert shown.count("ESTAB") >= 1
    assert (" sack " in shown) is agreed


@pytest.mark.parametrize("node", SACK_OFF)
def test_firewall_that_is_restarted_or_reloaded_brings_it_back(node):
    """The distribution's own nftables.service, whose rules begin with a flush of all tables."""
    host = container(node)
    host.check_output("systemctl start nftables.service lowlatency-sack.service && systemctl restart lowlatency-sack.service")
    for verb in ("restart", "reload"):
        host.check_output(f"systemctl {verb} nftables.service")
        wait_for(host)
        assert "table inet filter" in host.check_output("nft list tables")
    host.check_output("systemctl stop nftables.service")
    assert sack_sets(host) == {}, "who takes the firewall away takes this away too, until it is started again"
    host.check_output("systemctl start nftables.service")
    wait_for(host)
    host.check_output("systemctl stop nftables.service && systemctl start lowlatency-sack.service")
    assert host.run("/usr/local/sbin/lowlatency verify").rc == 0


def wait_for(host):
    """systemctl does not wait for what it does to other units."""
    for _attempt in range(20):
        if sack_sets(host) == SACK_OFF_TOWARDS:
            return
        time.sleep(0.5)
    raise AssertionError(host.check_output("systemctl status --no-pager lowlatency-sack.service || true"))
