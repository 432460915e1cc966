# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One plan for market data past the kernel, orders on it, and risk: CPUs, memory and ports of each service."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.domains import DOMAINS
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.topology import read_topology
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.cpuset import parse_cpulist
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.host_plan import host_plan
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import SpecError
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.topology import Memory, Topology
from ansible_collections.lowlatency.fleet.tests.unit.fixture_machine import two_sockets

ETH0, ETH1 = "0000:01:00.0", "0000:02:00.0"
FEED = {"unit": "feed.service", "nics": [ETH1]}
ORDERS = {"unit": "orders.service", "nics": ["eth0"], "cores": 2}
RISK = {"unit": "risk.service", "cores": 2}
NICS = [{"interface": "eth0", "carries": "orders", "application_cores": 2},
        {"pci": ETH1, "carries": "market_data", "bypass": "dpdk", "application_cores": 2}]
PAGES = [{"size": "2M", "count": 100, "node": 1}]


@pytest.fixture(scope="module")
def topology(tmp_path_factory: pytest.TempPathFactory) -> Topology:
    """Two sockets of eight cores with two threads each and 8 GiB; eth0 on the first, eth1 on the second."""
    read = read_topology(Host(str(two_sockets(tmp_path_factory.mktemp("machine"), cores=8).root)))
    return replace(read, memory={node: Memory(8 << 20) for node in read.nodes})


def planned(topology: Topology, *services: Any, nics: Any = None, pages: Any = None, **site: Any) -> dict[str, Any]:
    return host_plan(topology, ["eth0", "eth1", "lo"], {"nics": NICS if nics is None else nics, "hugepages": PAGES if pages is None else pages,
                                                        "services": list(services), **site})


def services(topology: Topology, *wanted: Any, **site: Any) -> dict[str, dict[str, Any]]:
    return {service["unit"]: service for service in planned(topology, *wanted, **site)["services"]}


def test_a_hybrid_host_has_one_plan(topology: Topology) -> None:
    result = planned(topology, FEED, ORDERS, RISK, application_cores=2)
    found = {service["unit"]: service for service in result["services"]}
    cpus = {unit: parse_cpulist(service["cpus"]) for unit, service in found.items()}
    nics = result["partition"]["nics"]
    assert all(len(mine) == 2 for mine in cpus.values()) and len(frozenset.union(*cpus.values())) == 6, "2, 2 and 2, and nothing twice"
    assert cpus["orders.service"] <= parse_cpulist(nics[ETH0]["cores"]) and cpus["feed.service"] <= parse_cpulist(nics[ETH1]["cores"])
    assert not cpus["risk.service"] & (parse_cpulist(nics[ETH0]["cores"]) | parse_cpulist(nics[ETH1]["cores"]))
    assert frozenset.union(*cpus.values()) == parse_cpulist(result["partition"]["pin_cpus"])
    assert found["feed.service"]["memory_nodes"] == "1" and found["orders.service"]["memory_nodes"] == "0"
    assert any("service feed.service: CPUs" in line and ETH1 in line for line in result["summary"])
    assert DOMAINS["service_pinning"].problems({"services": result["services"]}) == []


def test_a_port_of_user_space_is_no_nic_of_the_kernel(topology: Topology) -> None:
    result = planned(topology, FEED)
    assert result["pci_devices"] == [{"pci": ETH1, "driver": "vfio-pci"}]
    for kind in ("nics", "qdisc_nics", "card_nics"):
        assert [nic.get("interface") for nic in result[kind]] == ["eth0"], kind
    assert [nic["pci"] for nic in result["irq_nics"]] == [ETH0] and result["partition"]["nics"][ETH1]["irq_cpus"] == ""
    assert any(f"No CPU takes interrupts of {ETH1}, because it is polled from user space" in line for line in result["explanation"])
    assert result["dpdk_mounts"] == [{"path": "/mnt/huge-2M", "size": "2M"}]
    assert DOMAINS["pci_driver"].problems({"devices": result["pci_devices"]}) == []


def test_the_service_of_a_port_gets_its_eal_arguments(topology: Topology) -> None:
    feed = services(topology, FEED)["feed.service"]
    assert feed["environment"]["DPDK_EAL_ARGS"] == f"-l {feed['cpus']} --socket-mem=0,200 --huge-dir=/mnt/huge-2M --file-prefix=feed -a {ETH1}"
    assert feed["memlock"] == "infinity" and feed["ports"] == [ETH1]


def test_what_a_service_says_of_eal_is_over_what_follows(topology: Topology) -> None:
    eal = {"variable": "FEED_ARGS", "memory_mib": 63, "lcores": 3, "options": ["--telemetry"]}
    feed = services(topology, {**FEED, "cores": 1, "eal": eal, "environment": {"A": "b"}, "memlock": "1G"})["feed.service"]
    cpu = feed["cpus"]
    assert feed["environment"] == {"A": "b", "FEED_ARGS": f"--lcores=0@{cpu},1@{cpu},2@{cpu} --socket-mem=0,64 --huge-dir=/mnt/huge-2M "
                                                          f"--file-prefix=feed -a {ETH1} --telemetry"}
    assert feed["memlock"] == "1G"


def test_pages_are_shared_and_none_is_given_twice(topology: Topology) -> None:
    def memory(*eal: dict[str, Any]) -> list[str]:
        wanted = [{"unit": f"{name}.service", "nics": [ETH1], "cores": 1, "eal": said} for name, said in zip("ab", eal)]
        return [service["environment"]["DPDK_EAL_ARGS"].split("--socket-mem=")[1].split()[0] for service in services(topology, *wanted).values()]

    assert memory({}, {}) == ["0,100", "0,100"]
    assert memory({"memory_mib": 50}, {}) == ["0,50", "0,150"]
    with pytest.raises(SpecError, match=r"service b.service: 60 huge pages of 2M on node 1, where 50 of 100 are free"):
        memory({"memory_mib": 100}, {"memory_mib": 120})
    with pytest.raises(SpecError, match=r"service b.service: no huge page of 2M on node 1 is left for it"):
        memory({"memory_mib": 200}, {})


def test_the_article_s_budget_is_enough(topology: Topology) -> None:
    pages = [{"size": "2M", "buffers": 64000, "buffer_bytes": 2048, "node": 1}]
    feed = services(topology, FEED, pages=pages)["feed.service"]
    mib = int(feed["environment"]["DPDK_EAL_ARGS"].split("--socket-mem=0,")[1].split()[0])
    assert 64000 * (2048 + 256) <= mib * 2**20 < 64000 * (2048 + 256) + 2 * 2**20


def test_large_pages_are_preferred_where_all_nodes_of_the_ports_have_them(topology: Topology) -> None:
    both = [*PAGES, {"size": "1G", "count": 1, "node": 1}]
    assert "--socket-mem=0,1024 --huge-dir=/mnt/huge-1G" in services(topology, FEED, pages=both)["feed.service"]["environment"]["DPDK_EAL_ARGS"]
    small = {**FEED, "eal": {"page_size": "2M"}}
    assert "--huge-dir=/mnt/huge-2M" in services(topology, small, pages=both)["feed.service"]["environment"]["DPDK_EAL_ARGS"]


@pytest.mark.parametrize(
    ("service", "words"),
    [({"nics": ["eth0"]}, "has no unit"), ({**ORDERS, "pinned": 1}, "no such key pinned"), ({**ORDERS, "cpus": "4"}, "both cores and cpus"),
     ({**ORDERS, "nics": ["eth7"]}, "NIC eth7 is not in lowlatency_nics"), ({**ORDERS, "eal": {"lcores": 1}}, "none of its NICs has bypass: dpdk"),
     ({**FEED, "eal": {"sockets": 1}}, "eal: no such key sockets"), ({**FEED, "eal": {"memory_mib": "much"}}, "memory_mib 'much'"),
     ({**FEED, "eal": {"lcores": 1}}, "eal lcores is 1 on 2 CPUs"), ({**FEED, "eal": {"page_size": "1G"}}, "no huge pages of 1G are planned on node 1"),
     ({**FEED, "eal": {"page_size": "4K"}}, "page_size '4K'"), ({**FEED, "eal": {"options": ["-d a b"]}}, "has a blank in it"),
     ({**FEED, "eal": {"options": "-v"}}, "give a list of texts"),
     ({**ORDERS, "cores": 0}, "give a whole number"), ({**ORDERS, "cores": 3}, r"wants 3 application cores of its NICs \(eth0\), which has 2 free"),
     (RISK, "wants 2 application cores of the host, which has 0 free; raise lowlatency_application_cores"),
     ({"unit": "x.service", "cpus": "99"}, "not all online"), ({"unit": "x.service", "cpus": "0,4"}, "application CPUs and others")])
def test_what_is_refused(topology: Topology, service: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        planned(topology, service)


def test_what_two_services_claim_is_refused(topology: Topology) -> None:
    [cpu, *_others] = sorted(parse_cpulist(planned(topology)["partition"]["pin_cpus"]))
    with pytest.raises(SpecError, match=f"service b.service: CPU {cpu} is a.service's already"):
        planned(topology, {"unit": "a.service", "cpus": str(cpu)}, {"unit": "b.service", "cpus": str(cpu)})
    with pytest.raises(SpecError, match="is there twice"):
        planned(topology, ORDERS, ORDERS)
    with pytest.raises(SpecError, match=r"service b.service: wants an application core of its NICs \(eth0\), which has 0 free beside orders.service"):
        planned(topology, ORDERS, {"unit": "b.service", "nics": ["eth0"]})


def test_named_cpus_are_served_first_wherever_they_are_in_the_list(topology: Topology) -> None:
    pins = sorted(parse_cpulist(planned(topology)["partition"]["nics"][ETH0]["cores"]) & parse_cpulist(planned(topology)["partition"]["pin_cpus"]))
    found = services(topology, {"unit": "b.service", "nics": ["eth0"], "cores": 1}, {"unit": "a.service", "cpus": str(pins[0])})
    assert found["a.service"]["cpus"] == str(pins[0]) and found["b.service"]["cpus"] == str(pins[1])


def test_idle_threads_are_for_nobody(topology: Topology) -> None:
    result = planned(topology)["partition"]
    idle = min(parse_cpulist(result["isolated"]) - parse_cpulist(result["pin_cpus"]))
    with pytest.raises(SpecError, match="second threads of cores"):
        planned(topology, {"unit": "x.service", "cpus": str(idle)})


STACKED = [{"interface": "eth0", "carries": "orders", "bypass": "onload", "application_cores": 2}]


def test_the_service_of_a_stack_starts_on_it(topology: Topology) -> None:
    result = planned(topology, {**ORDERS, "profile": "gateway", "environment": {"EF_RXQ_SIZE": 512}}, nics=STACKED,
                     bypass_profiles={"gateway": {"EF_POLL_USEC": 100000, "EF_RXQ_SIZE": 4096}})
    [orders] = result["services"]
    assert orders["environment"] == {"LD_PRELOAD": "libonload.so", "EF_POLL_USEC": "100000", "EF_RXQ_SIZE": 512}
    assert (orders["library"], orders["memlock"]) == ("libonload.so", "infinity")
    assert result["stack"] == "onload" and [(nic["interface"], nic["af_xdp"]) for nic in result["stack_nics"]] == [("eth0", False)]
    assert result["nics"] and result["pci_devices"] == [], "the port stays the kernel's"
    assert DOMAINS["bypass_stack"].problems({"stack": result["stack"], "nics": result["stack_nics"]}) == []
    assert DOMAINS["service_pinning"].problems({"services": result["services"]}) == []


def test_without_a_profile_only_the_library_is_preloaded(topology: Topology) -> None:
    assert services(topology, ORDERS, nics=STACKED)["orders.service"]["environment"] == {"LD_PRELOAD": "libonload.so"}
    assert planned(topology)["stack"] == "" and planned(topology)["stack_nics"] == []


@pytest.mark.parametrize(
    ("nics", "service", "words"),
    [(STACKED, {**ORDERS, "profile": "fast"}, "profile fast: there is none; there are: latency"),
     (NICS, {**ORDERS, "profile": "latency"}, "has a profile, but none of its NICs has bypass: onload or xlio or vma"),
     ([*STACKED, {"interface": "eth1", "bypass": "vma"}], ORDERS, "NICs want onload and vma; a host has one stack"),
     ([{"interface": "eth0", "af_xdp": True}], RISK, "af_xdp is a way of onload, xlio, vma")])
def test_what_a_stack_refuses(topology: Topology, nics: list[dict[str, Any]], service: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        planned(topology, service, nics=nics)


@pytest.mark.parametrize(
    ("nic", "words"),
    [({"interface": "eth1", "bypass": "dpdk"}, rf"name it by its PCI address \({ETH1}\)"), ({"pci": ETH1, "bypass": "uio"}, "bypass 'uio'"),
     ({"pci": ETH1, "bypass": "dpdk", "management": True}, "keeps the host reachable")])
def test_a_bypass_that_must_not_be_is_refused(topology: Topology, nic: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        planned(topology, nics=[nic])
