# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the site's NICs to what the domains need of each."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.domains import DOMAINS
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.topology import read_topology
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.cpuset import parse_cpulist
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.host_plan import NIC_KEYS, host_plan
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.nic import (
    MAPPINGS,
    EthtoolState,
    NicState,
    plan,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.nic_parameters import Parameter
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import SpecError
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.topology import Topology
from ansible_collections.lowlatency.fleet.tests.unit.fixture_machine import two_sockets


@pytest.fixture(scope="module")
def topology(tmp_path_factory: pytest.TempPathFactory) -> Topology:
    """Two sockets of eight cores; eth0 on the first, eth1 on the second."""
    return read_topology(Host(str(two_sockets(tmp_path_factory.mktemp("machine"), cores=8).root)))


def planned(topology: Topology, *entries: dict[str, Any], **site: Any) -> dict[str, Any]:
    return host_plan(topology, ["eth0", "eth1", "bond0", "lo"], {"nics": list(entries), **site})


def test_the_queues_of_a_nic_are_its_channels(topology: Topology) -> None:
    [nic] = planned(topology, {"interface": "eth0", "queues": 3})["nics"]
    assert nic["channels"] == {"queues": 3} and "queues" not in nic


def test_channels_that_a_nic_names_itself_are_over_its_queues(topology: Topology) -> None:
    [nic] = planned(topology, {"interface": "eth0", "queues": 3, "channels": {"combined": 5}})["nics"]
    assert nic["channels"] == {"combined": 5}


@pytest.mark.parametrize("entry", [{}, {"queues": 0}, {"queues": None}])
def test_without_queues_the_profile_s_channels_count(topology: Topology, entry: dict[str, Any]) -> None:
    [nic] = planned(topology, {"interface": "eth0", **entry})["nics"]
    assert "channels" not in nic


def test_only_a_nic_with_planned_cpus_has_cpus_for_its_interrupts(topology: Topology) -> None:
    result = planned(topology, {"interface": "eth0", "application_cores": 2}, {"interface": "bond0"})
    first, second = result["nics"]
    [irq_nic] = result["irq_nics"]
    assert first["irq_cpus"] == irq_nic["cpus"] != "" and irq_nic["pci"] == "0000:01:00.0"
    assert second == {"interface": "bond0"}, "no PCI device, so no interrupts"


def test_as_many_channels_as_interrupt_cpus_is_what_comes_of_it(topology: Topology) -> None:
    [entry] = planned(topology, {"interface": "eth0", "application_cores": 2}, irq_cores=2)["nics"]
    spec = {"channels": {"queues": "irq-cpus"}, "nics": [entry]}
    [setting] = plan(EthtoolState((NicState("eth0", parameters={"channels": {"combined": Parameter(63, 63)}}),)), spec).settings
    assert (setting.name, setting.desired, len(parse_cpulist(entry["irq_cpus"]))) == ("eth0.channels-combined", "2", 2)


TUNED = {
    "private_flags": {"legacy-rx": "off"}, "channels": {"combined": 4}, "rings": {"rx": "max"}, "coalesce": {"rx-usecs": 0}, "pause": {"rx": "off"},
    "eee": {"enabled": "off"}, "features": {"ntuple": "on"}, "rss": {"equal": 2}, "rps": {"rps_cpus": ""}, "napi": {"threaded": "off"},
    "rules": [{"flow-type": "udp4", "dst-port": 1, "action": 0}], "only_these_rules": True, "management": True,
}


def test_all_that_a_nic_has_of_its_own_reaches_the_ethtool_domain(topology: Topology) -> None:
    assert set(TUNED) >= set(MAPPINGS)
    [nic] = planned(topology, {"interface": "eth0", "carries": "market_data", "application_cores": 2, **TUNED})["nics"]
    assert nic.pop("irq_cpus") and nic == {"interface": "eth0", **TUNED}
    assert set(nic) <= {*DOMAINS["ethtool"].options["nics"]["options"]}, "the module takes every key"
    assert DOMAINS["ethtool"].problems({"nics": [nic]}) == []


def test_every_option_of_the_module_can_be_said_in_the_inventory() -> None:
    options = set(DOMAINS["ethtool"].options["nics"]["options"])
    assert options - {"irq_cpus"} <= set(NIC_KEYS) and len(NIC_KEYS) == len(set(NIC_KEYS))


def test_a_nic_s_queueing_discipline_goes_to_its_domain_and_to_no_other(topology: Topology) -> None:
    wish = {"kind": "fq", "options": {"limit": 20000}}
    result = planned(topology, {"interface": "eth0", "queues": 3, "qdisc": wish}, {"pci": "0000:02:00.0", "management": True})
    assert result["qdisc_nics"] == [{"interface": "eth0", "qdisc": wish}, {"pci": "0000:02:00.0", "management": True}]
    assert not any("qdisc" in nic for name in ("nics", "card_nics", "irq_nics") for nic in result[name])


def test_a_key_that_nobody_knows_is_refused_with_those_there_are(topology: Topology) -> None:
    with pytest.raises(SpecError, match=r"NIC eth0: no such key coalesc; there are: .*coalesce"):
        planned(topology, {"interface": "eth0", "coalesc": {"rx-usecs": 0}})


@pytest.mark.parametrize(
    ("entry", "tuned"),
    [({"carries": "management"}, []), ({"carries": "management", "management": True}, ["eth0"]), ({"carries": "x"}, ["eth0"])],
)
def test_a_management_nic_is_not_tuned_unless_its_entry_says_so(topology: Topology, entry: dict[str, Any], tuned: list[str]) -> None:
    assert [nic["interface"] for nic in planned(topology, {"interface": "eth0", **entry})["nics"]] == tuned


def test_one_nic_by_two_names_is_refused_before_anything(topology: Topology) -> None:
    with pytest.raises(SpecError, match=r"NIC 0000:01:00\.0: 0000:01:00\.0 is named twice; leave one of the two entries out"):
        planned(topology, {"interface": "eth0"}, {"pci": "0000:01:00.0"})


def test_a_nic_without_cores_of_its_own_serves_those_of_its_node(topology: Topology) -> None:
    first, second, third = planned(topology, {"interface": "eth0"}, {"interface": "eth1", "application_cores": 2}, {"interface": "bond0"})["card_nics"]
    assert first["application_cpus"] == second["application_cpus"] == third["application_cpus"] != "", "node 0 has none: all of the host"
    result = planned(topology, {"interface": "eth0"}, {"interface": "eth1", "application_cores": 2}, application_cores=2)
    first, second = result["card_nics"]
    assert first["application_cpus"] != second["application_cpus"]
    assert parse_cpulist(first["application_cpus"]) | parse_cpulist(second["application_cpus"]) == parse_cpulist(result["partition"]["isolated"])
