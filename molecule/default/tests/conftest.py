# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedded fleet as testinfra hosts. Everything is asked of the system's own tools, never of the collection."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from pathlib import Path

import pytest
import testinfra

SCENARIO = Path(__file__).parent.parent


@functools.cache
def inventory():
    """The inventory as ansible-inventory resolves it."""
    command = ["ansible-inventory", "-i", str(SCENARIO / "inventory"), "--list"]
    return json.loads(subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout)


@functools.cache
def container(name):
    """One container of the fleet, reached by podman exec."""
    return testinfra.get_host(f"podman://{container_name(name)}")


def container_name(name):
    """The podman name of a host."""
    return f"{os.environ.get('LOWLATENCY_FLEET', 'lowlatency-test')}-{name}"


def hosts_of(*groups):
    """The host names of some groups, of the whole fleet without any."""
    found = groups or [group for group, members in inventory().items() if group != "_meta" and "hosts" in members]
    return sorted({name for group in found for name in inventory()[group]["hosts"]})


def pytest_generate_tests(metafunc):
    """A test that takes 'node' runs on every host of the groups that its marker names; without a marker on all."""
    given = [marker for marker in metafunc.definition.iter_markers("parametrize") if "node" in marker.args[0]]
    if "node" in metafunc.fixturenames and not given:
        marker = metafunc.definition.get_closest_marker("groups")
        metafunc.parametrize("node", hosts_of(*(marker.args if marker else ())))


def pytest_configure(config):
    config.addinivalue_line("markers", "groups(*names): the groups of hosts that a test is about")


@pytest.fixture
def host(node):
    return container(node)


@pytest.fixture
def nics(node):
    """The data NICs of a host by name."""
    return [nic["interface"] for nic in inventory()["_meta"]["hostvars"][node]["lowlatency_nics"]]


@pytest.fixture
def snapshots():
    return Path(os.environ["LOWLATENCY_FLEET_STATE"])


@pytest.fixture
def feature(host):
    """feature(nic, name): 'on' or 'off' as ethtool prints it."""
    def ask(nic, name):
        for line in host.check_output("ethtool -k %s", nic).splitlines():
            key, _colon, value = line.strip().partition(": ")
            if key == name:
                return value.split()[0]
        raise AssertionError(f"ethtool -k {nic} shows no {name}")
    return ask


@pytest.fixture
def sysctl(host):
    """sysctl(key): the live value, white space normalised."""
    return lambda key: " ".join(host.check_output("sysctl -n %s", key).split())


@pytest.fixture
def persisted(host):
    """persisted(): key -> value of the one owned sysctl.d file."""
    def read():
        text = host.file("/etc/sysctl.d/80-lowlatency.conf").content_string
        lines = [line for line in text.splitlines() if "=" in line and not line.lstrip().startswith(("#", ";"))]
        pairs = (line.split("=", 1) for line in lines)
        return {key.strip().lstrip("-").replace("/", "."): " ".join(value.split()) for key, value in pairs}
    return read


def sack_sets(host):
    """The prefixes of each set of the SACK filter, as nft shows them; empty where there is no such table."""
    shown = host.run("nft -j list table inet lowlatency_sack")
    entries = json.loads(shown.stdout)["nftables"] if shown.rc == 0 else []
    return {entry["set"]["name"]: {f"{element['prefix']['addr']}/{element['prefix']['len']}" for element in entry["set"]["elem"]}
            for entry in entries if "set" in entry}
