# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of a service's live connections, against ss and against what the service was told to set."""

from __future__ import annotations

import json
import re

import pytest

pytestmark = pytest.mark.groups("order-gateways")
UNIT = "order-entry.service"


@pytest.fixture
def said(host):
    """said(): the findings by expectation, as the host's own program tells them."""
    def ask():
        told = json.loads(host.run("/usr/local/sbin/lowlatency verify --only sockets --json").stdout)
        ours = [one for one in told if one["control"].startswith("socket.")]
        assert {one["name"].split()[0] for one in ours} == {UNIT}
        return {one["control"].partition(".")[2]: one for one in ours}
    return ask


@pytest.fixture
def lines(host):
    """lines(): what ss prints of the service's established connections."""
    process = host.check_output("systemctl show --property=MainPID --value %s", UNIT)
    return lambda: [line for line in host.check_output("ss -tinmoepHO state established").splitlines() if f"pid={process}," in line]


@pytest.fixture
def spoilt(host):
    """The first connection without SO_KEEPALIVE and TCP_NODELAY, for one test."""
    host.check_output("systemctl kill --signal=USR1 %s", UNIT)
    yield
    host.check_output("systemctl kill --signal=USR2 %s", UNIT)


def test_connections_that_are_right_are_said_to_be_right(said, lines):
    assert {one["state"] for one in said().values()} == {"ok"}
    assert len(lines()) == 6 and all("timer:(keepalive" in line for line in lines())
    assert said()["keepalive"]["current"] == said()["nodelay"]["current"] == said()["sack"]["current"] == "yes"
    windows = {re.search(r" cwnd:([0-9]+)", line)[1] for line in lines()}
    assert set(re.findall(r"([0-9]+) segments", said()["cwnd_at_least"]["current"])) == windows


def test_a_connection_that_is_not_is_named(said, lines, spoilt):
    found = said()
    assert {name for name, one in found.items() if one["state"] == "drifted"} == {"keepalive", "nodelay"}
    (worst,) = [line for line in lines() if "timer:(keepalive" not in line]
    local, peer = (word for word in worst.split() if word.startswith("203.0.113.21:"))
    for name in ("keepalive", "nodelay"):
        assert found[name]["current"] == "no (1), yes (5)"
        assert found[name]["reason"].startswith(f"1 of 6 connections, {local} -> {peer} has no; the application sets ")
        assert found[name]["finding"] is True


def test_looking_leaves_the_service_alone(host, said, lines):
    before = host.check_output("systemctl show --property=MainPID,NRestarts,ActiveEnterTimestamp %s", UNIT)
    said()
    assert host.check_output("systemctl show --property=MainPID,NRestarts,ActiveEnterTimestamp %s", UNIT) == before
    assert len(lines()) == 6
