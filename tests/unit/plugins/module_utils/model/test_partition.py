# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The core partition: worked examples with exact values, refusals, odd machines, and what holds on every machine."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.cpuset import (
    format_cpulist,
    format_mask,
    parse_cpulist,
    parse_mask,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.partition import (
    Intent,
    NicIntent,
    Partition,
    PartitionError,
    partition,
    physical_cores,
    refuse_irq_overlap,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import SpecError
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.topology import Nic, Topology
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def machine(
    nodes: dict[int, str],
    *nics: Nic,
    smt: int = 0,
    l3: int = 0,
    nr_cpus: int = 0,
    distances: dict[int, dict[int, int]] | None = None,
) -> Topology:
    """A machine by the cpulists of its nodes; with ``smt`` CPU N and N + smt are siblings, with ``l3`` cores share caches in groups of that many."""
    cpus = {node: parse_cpulist(text) for node, text in nodes.items()}
    online = frozenset().union(*cpus.values())
    siblings = {cpu: frozenset({cpu % smt, cpu % smt + smt} & online) if smt else frozenset({cpu}) for cpu in online}
    caches = {cpu: frozenset(other for other in online if other % smt // l3 == cpu % smt // l3) for cpu in online} if l3 else {}
    return Topology(online=online, nodes=cpus, siblings=siblings, nics=nics, nr_cpus=nr_cpus, l3=caches, distances=distances or {})


def epyc(*nics: Nic) -> Topology:
    """Two sockets of 64 cores, four nodes each, SMT on, eight cores to an L3 cache."""
    return machine({node: f"{16 * node}-{16 * node + 15},{16 * node + 128}-{16 * node + 143}" for node in range(8)}, *nics, smt=128, l3=8)


def result(topology: Topology, **intent: Any) -> dict[str, Any]:
    """The plain partition for an intent of plain values."""
    return partition(topology, Intent.from_dict(intent)).to_dict()


def refusal(topology: Topology, **intent: Any) -> tuple[str, str]:
    """Rule and message of the refusal of an intent of plain values."""
    with pytest.raises(PartitionError) as caught:
        result(topology, **intent)
    return caught.value.rule, str(caught.value)


def app(pci: str, cores: int = 0, **more: Any) -> dict[str, Any]:
    return {"pci": pci, "application_cores": cores, **more}


A_NIC = Nic("0000:81:00.0", numa_node=1, queues=4)
A = machine({0: "0-15", 1: "16-31"}, A_NIC)
A_EVEN_ODD = machine({0: "0-31:1/2", 1: "1-31:1/2"}, A_NIC)
B_NIC = Nic("0000:3b:00.0", numa_node=0, queues=8)
B = machine({0: "0-15,32-47", 1: "16-31,48-63"}, B_NIC, smt=32)
C_NIC = Nic("0000:01:00.0", numa_node=-1, local_cpulist="0-7", queues=2)
C = machine({0: "0-7"}, C_NIC)
D_NIC = Nic("0000:61:00.0", numa_node=3, queues=8)
D = epyc(D_NIC)
E = machine({0: "0-15", 1: "16-31"}, Nic("0000:3b:00.0", numa_node=0, queues=2), A_NIC)


class TestWorkedExamples:
    def test_two_sockets_without_smt(self) -> None:
        found = result(A, nics=[app("0000:81:00.0", 6)])
        del found["reasons"]
        assert found == {
            "housekeeping": "0-19,26-31",
            "isolated": "20-25",
            "pin_cpus": "20-25",
            "housekeeping_mask": "fc0fffff",
            "isolated_mask": "03f00000",
            "isolcpus": "managed_irq,domain,20-25",
            "nohz_full": "20-25",
            "rcu_nocbs": "20-25",
            "irqaffinity": "0-19,26-31",
            "nics": {
                "0000:81:00.0": {
                    "node": 1,
                    "cores": "20-25",
                    "irq_cpus": "18-19",
                    "irq_masks": ["00040000", "00080000"],
                    "queue_cpus": [18, 19, 18, 19],
                }
            },
        }
        assert format_mask({18, 19}, 32) == "000c0000"

    def test_its_reasons(self) -> None:
        assert result(A, nics=[app("0000:81:00.0", 6)])["reasons"] == [
            "CPUs 0-1 of node 0 stay housekeeping, because every node keeps 2 cores for the system",
            "CPUs 16-17 of node 1 stay housekeeping, because every node keeps 2 cores for the system",
            "CPUs 18-19 of node 1 take the interrupts of 0000:81:00.0, because the NIC is on node 1",
            "CPUs 20-25 of node 1 are application cores of 0000:81:00.0, because the NIC is on node 1",
            "CPUs 2-15,26-31 stay housekeeping, because nothing asks for them",
        ]

    def test_even_and_odd_numbering(self) -> None:
        found = result(A_EVEN_ODD, nics=[app("0000:81:00.0", 6)])
        assert (found["isolated"], found["isolated_mask"]) == ("9,11,13,15,17,19", "000aaa00")
        assert (found["housekeeping"], found["housekeeping_mask"]) == ("0-8,10,12,14,16,18,20-31", "fff555ff")
        nic = found["nics"]["0000:81:00.0"]
        assert (nic["irq_cpus"], nic["queue_cpus"], nic["irq_masks"]) == ("5,7", [5, 7, 5, 7], ["00000020", "00000080"])
        assert format_mask({5, 7}, 32) == "000000a0"

    def test_two_sockets_with_smt(self) -> None:
        found = result(B, nics=[app("0000:3b:00.0", 4)])
        assert found["pin_cpus"] == "4-7"
        assert (found["isolated"], found["isolated_mask"]) == ("4-7,36-39", "000000f0,000000f0")
        assert (found["housekeeping"], found["housekeeping_mask"]) == ("0-3,8-35,40-63", "ffffff0f,ffffff0f")
        assert found["isolcpus"] == "managed_irq,domain,4-7,36-39"
        assert found["nohz_full"] == found["rcu_nocbs"] == "4-7,36-39"
        assert found["irqaffinity"] == "0-3,8-35,40-63"
        nic = found["nics"]["0000:3b:00.0"]
        assert (nic["irq_cpus"], nic["queue_cpus"]) == ("2-3", [2, 3, 2, 3, 2, 3, 2, 3])
        assert nic["irq_masks"] == ["00000000,00000004", "00000000,00000008"]
        assert format_mask({2, 3}, 64) == "00000000,0000000c"
        assert format_mask(parse_cpulist(found["pin_cpus"]), 64) == "00000000,000000f0"

    def test_one_socket_whose_nic_names_no_node(self) -> None:
        found = result(C, nics=[app("0000:01:00.0", 4)])
        assert (found["isolated"], found["isolated_mask"]) == ("4-7", "f0")
        assert (found["housekeeping"], found["housekeeping_mask"]) == ("0-3", "0f")
        assert found["isolcpus"] == "managed_irq,domain,4-7"
        assert (found["nohz_full"], found["rcu_nocbs"], found["irqaffinity"]) == ("4-7", "4-7", "0-3")
        assert found["nics"]["0000:01:00.0"] == {"node": 0, "cores": "4-7", "irq_cpus": "2-3", "irq_masks": ["04", "08"], "queue_cpus": [2, 3]}
        assert format_mask({2, 3}, 8) == "0c"

    @pytest.mark.parametrize(
        ("l3_align", "pins", "isolated", "isolated_mask", "housekeeping", "housekeeping_mask"),
        [
            (
                False, "51-58", "51-58,179-186",
                "00000000,00000000,07f80000,00000000,00000000,00000000,07f80000,00000000",
                "0-50,59-178,187-255",
                "ffffffff,ffffffff,f807ffff,ffffffff,ffffffff,ffffffff,f807ffff,ffffffff",
            ),
            (
                True, "56-63", "56-63,184-191",
                "00000000,00000000,ff000000,00000000,00000000,00000000,ff000000,00000000",
                "0-55,64-183,192-255",
                "ffffffff,ffffffff,00ffffff,ffffffff,ffffffff,ffffffff,00ffffff,ffffffff",
            ),
        ],
        ids=["plain", "l3_align"],
    )
    def test_eight_nodes(self, l3_align: bool, pins: str, isolated: str, isolated_mask: str, housekeeping: str, housekeeping_mask: str) -> None:
        found = result(D, nics=[app("0000:61:00.0", 8)], housekeeping_cores=1, l3_align=l3_align)
        assert found["pin_cpus"] == pins
        assert (found["isolated"], found["isolated_mask"]) == (isolated, isolated_mask)
        assert (found["housekeeping"], found["housekeeping_mask"]) == (housekeeping, housekeeping_mask)
        assert found["isolcpus"] == f"managed_irq,domain,{isolated}"
        assert found["irqaffinity"] == housekeeping
        nic = found["nics"]["0000:61:00.0"]
        assert (nic["node"], nic["irq_cpus"], nic["queue_cpus"]) == (3, "49-50", [49, 50] * 4)
        zeros = ",".join(["00000000"] * 6)
        assert nic["irq_masks"] == [f"{zeros},00020000,00000000", f"{zeros},00040000,00000000"]
        assert format_mask({49, 50}, 256) == f"{zeros},00060000,00000000"
        assert found["reasons"][:8] == [
            f"CPUs {16 * node},{16 * node + 128} of node {node} stay housekeeping, because every node keeps 1 core for the system" for node in range(8)
        ]

    def test_two_nics_on_two_nodes(self) -> None:
        found = result(E, nics=[app("0000:81:00.0", 4), app("0000:3b:00.0", 2)], housekeeping_cores=1, irq_cores=1)
        assert (found["isolated"], found["isolated_mask"]) == ("2-3,18-21", "003c000c")
        assert (found["housekeeping"], found["housekeeping_mask"]) == ("0-1,4-17,22-31", "ffc3fff3")
        assert found["nics"] == {
            "0000:3b:00.0": {"node": 0, "cores": "2-3", "irq_cpus": "1", "irq_masks": ["00000002"], "queue_cpus": [1, 1]},
            "0000:81:00.0": {"node": 1, "cores": "18-21", "irq_cpus": "17", "irq_masks": ["00020000"], "queue_cpus": [17, 17, 17, 17]},
        }


class TestRefusals:
    def test_more_cores_than_the_node_has(self) -> None:
        rule, message = refusal(A, nics=[app("0000:81:00.0", 13)])
        assert rule == "R23"
        assert message == (
            "0000:81:00.0 wants 13 cores for applications on node 1, which has 12 of its 16 free beside housekeeping, "
            "interrupts and other applications; ask for at most 12, or set spill (R23)"
        )

    def test_the_most_that_fits(self) -> None:
        assert result(A, nics=[app("0000:81:00.0", 12)])["isolated"] == "20-31"

    def test_unknown_node_among_several(self) -> None:
        topology = epyc(Nic("0000:61:00.0", numa_node=-1, local_cpulist="0-255", queues=8))
        rule, message = refusal(topology, nics=[app("0000:61:00.0", 8)])
        assert rule == "R22"
        assert "0000:61:00.0" in message and "set numa_node of this NIC to one of 0-7" in message

    @pytest.mark.parametrize(
        ("topology", "text", "rule", "words"),
        [
            (A, "0-31", "R1", "every CPU"),
            (A, "2-15,17-31", "R1", "leaves 1 core of node 1 for housekeeping, 2 must stay"),
            (A, "16-31", "R1", "leaves 0 cores of node 1"),
            (C, "0-3", "R2", "contains CPU 0 of the boot CPU's core; remove CPU 0, or set allow_cpu0"),
            (C, "0-5", "R2", "CPU 0"),
            (B, "32", "R2", "contains CPU 32 of the boot CPU's core; remove CPUs 0,32"),
            (B, "4-7", "R4", "their other threads, CPUs 36-39"),
            (B, "4-7,36-38", "R4", "their other threads, CPU 39"),
            (C, "4-8", "R3", "CPU 8, not online on this host; choose among 0-7"),
            (C, "4,5,6,7", "R3", "write '4-7'"),
            (C, "7,4-6", "R3", "write '4-7'"),
            (C, " 4-7", "R3", "write '4-7'"),
            (C, "4-6,6-7", "R3", "write '4-7'"),
            (C, " ", "R3", "write ''"),
            (C, "0xf0", "R3", "0xf0"),
            (C, "7-4", "R3", "runs backwards"),
        ],
    )
    def test_a_list_that_is_not_sound(self, topology: Topology, text: str, rule: str, words: str) -> None:
        found, message = refusal(topology, application_cpulist=text)
        assert found == rule
        assert words in message
        assert message.endswith(f"({rule})")

    def test_share_does_not_split_cores_either(self) -> None:
        assert refusal(B, application_cpulist="4-7", smt_policy="share")[0] == "R4"

    def test_offline_cpu_in_the_list(self) -> None:
        topology = Topology(online=parse_cpulist("0-5,7"), offline=frozenset({6}), nodes={0: parse_cpulist("0-5,7")})
        rule, message = refusal(topology, application_cpulist="4-7")
        assert rule == "R3"
        assert "CPU 6" in message

    def test_a_wrong_list_is_refused_without_isolation_too(self) -> None:
        assert refusal(C, application_cpulist="4-9", isolate=False)[0] == "R3"

    def test_list_away_from_the_nic(self) -> None:
        rule, message = refusal(A, nics=[app("0000:81:00.0")], application_cpulist="8-9,20-25")
        assert rule == "R23"
        assert "CPUs 8-9" in message and "choose CPUs of node 1" in message
        assert result(A, nics=[app("0000:81:00.0")], application_cpulist="8-9,20-25", spill=True)["isolated"] == "8-9,20-25"

    def test_interrupts_on_isolated_cpus(self) -> None:
        irq, isolated = parse_cpulist("4-7"), parse_cpulist("0-5")
        assert parse_mask("30") == irq & isolated
        with pytest.raises(PartitionError, match="CPUs 4-5") as caught:
            refuse_irq_overlap({"0000:01:00.0": irq}, isolated)
        assert caught.value.rule == "R7"
        refuse_irq_overlap({"0000:01:00.0": (2, 3)}, isolated - {2, 3})

    def test_no_housekeeping(self) -> None:
        assert refusal(A, housekeeping_cores=0)[0] == "R1"

    @pytest.mark.parametrize(
        ("intent", "words"),
        [
            ({"nics": [app("0000:99:00.0")]}, "0000:99:00.0 is no NIC of this host; its NICs are: 0000:3b:00.0, 0000:81:00.0"),
            ({"nics": [app("0000:81:00.0"), app("0000:81:00.0")]}, "is there twice"),
            ({"nics": [app("0000:3b:00.0"), app("0000:3B:00.0")]}, "0000:3b:00.0 is there twice"),
            ({"nics": [app("0000:81:00.0", -1)]}, "0000:81:00.0 application_cores is -1"),
            ({"nics": [app("0000:81:00.0", queues=-1)]}, "0000:81:00.0 queues is -1"),
            ({"application_cores": -2}, "application_cores is -2"),
            ({"irq_cores": -1}, "irq_cores is -1"),
            ({"smt_policy": "shared"}, "'shared'; use off or off-by-kernel or siblings-idle or share"),
        ],
    )
    def test_intents_that_fit_no_machine(self, intent: dict[str, Any], words: str) -> None:
        rule, message = refusal(E, **intent)
        assert rule == "intent"
        assert words in message

    def test_no_cpus_at_all(self) -> None:
        assert refusal(Topology(online=frozenset()))[0] == "intent"

    def test_a_refusal_is_a_spec_error(self) -> None:
        assert issubclass(PartitionError, SpecError)


class TestPlainIntent:
    def test_defaults(self) -> None:
        assert Intent.from_dict({}) == Intent()

    def test_everything(self) -> None:
        data = {
            "nics": [{"pci": "0000:81:00.0", "application_cores": "6", "queues": 4, "numa_node": 1}],
            "application_cores": "3",
            "application_cpulist": "20-25",
            "isolate": "no",
            "smt_policy": "share",
            "housekeeping_cores": 1,
            "irq_cores": 3,
            "l3_align": True,
            "spill": "True",
            "allow_cpu0": "false",
        }
        assert Intent.from_dict(data) == Intent((NicIntent("0000:81:00.0", 6, 4, 1),), 3, "20-25", False, "share", 1, 3, True, True, False)

    def test_null_is_the_default(self) -> None:
        assert Intent.from_dict({"application_cores": None, "nics": [{"pci": "a", "numa_node": None}]}) == Intent(nics=(NicIntent("a"),))

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            ({"aplication_cores": 1, "cores": 2}, "unknown aplication_cores, cores; the keys are nics, application_cores"),
            ({"nics": [{"pci": "a", "node": 1}]}, "unknown node"),
            ({"nics": [{"application_cores": 1}]}, "has no pci"),
            ({"nics": ["0000:81:00.0"]}, "is no mapping"),
            ({"nics": {"pci": "a"}}, "is no list"),
            ([], "is no mapping"),
            ({"application_cores": "many"}, "application_cores is 'many'; give a whole number"),
            ({"application_cores": True}, "application_cores is True"),
            ({"application_cores": 1.5}, "application_cores is 1.5"),
            ({"nics": [{"pci": "a", "queues": "x"}]}, "nics queues is 'x'"),
            ({"spill": "maybe"}, "spill is 'maybe'; give true or false"),
            ({"isolate": 0}, "isolate is 0; give true or false"),
        ],
    )
    def test_what_is_no_intent(self, data: Any, words: str) -> None:
        with pytest.raises(PartitionError) as caught:
            Intent.from_dict(data)
        assert words in str(caught.value)
        assert caught.value.rule == "intent"

    def test_a_list_that_became_a_number(self) -> None:
        assert refusal(C, application_cpulist=4) == ("R3", "application_cpulist: CPU list 4: must be text; put it in quotes, like '0-3,8' (R3)")


class TestListedCpus:
    def test_a_sound_list_gives_what_counting_gives(self) -> None:
        counted, listed = (result(A, nics=[app("0000:81:00.0", 6)], **more) for more in ({}, {"application_cpulist": "20-25"}))
        assert {**counted, "reasons": []} == {**listed, "reasons": []}

    def test_interrupts_stay_off_the_list(self) -> None:
        found = result(A, nics=[app("0000:81:00.0")], application_cpulist="16-21")
        assert found["nics"]["0000:81:00.0"]["irq_cpus"] == "24-25"
        assert found["reasons"][1].startswith("CPUs 22-23 of node 1 stay housekeeping")

    def test_interrupts_share_the_system_cores_when_the_list_leaves_no_others(self) -> None:
        found = result(A, nics=[app("0000:81:00.0")], application_cpulist="18-31")
        assert found["nics"]["0000:81:00.0"]["irq_cpus"] == "16-17"

    def test_cpu_0_with_permission(self) -> None:
        found = result(B, application_cpulist="0,32", allow_cpu0=True)
        assert (found["isolated"], found["nohz_full"], found["pin_cpus"]) == ("0,32", "0,32", "0")
        assert "takes CPU 0 out of nohz_full" in found["reasons"][-1]

    def test_all_cpus_are_refused_even_so(self) -> None:
        assert refusal(A, application_cpulist="0-31", allow_cpu0=True)[0] == "R1"

    def test_share_pins_to_all_threads(self) -> None:
        assert result(B, application_cpulist="4-7,36-39", smt_policy="share")["pin_cpus"] == "4-7,36-39"

    def test_nics_of_one_node_share_the_list(self) -> None:
        topology = machine({0: "0-15"}, Nic("a", 0), Nic("b", 0))
        found = partition(topology, Intent(nics=(NicIntent("a"), NicIntent("b")), application_cpulist="8-9"))
        assert found.nic_cores == {"a": frozenset({8, 9}), "b": frozenset({8, 9})}
        assert found.irq_cpus == {"a": (2, 3), "b": (4, 5)}


class TestHostCores:
    def test_they_come_from_the_first_nics_node(self) -> None:
        found = result(A, nics=[app("0000:81:00.0", 6)], application_cores=2)
        assert (found["isolated"], found["nics"]["0000:81:00.0"]["cores"]) == ("20-27", "20-25")
        assert "CPUs 26-27 of node 1 are application cores of the host, because the first NIC, 0000:81:00.0, is planned there" in found["reasons"]

    def test_the_first_nic_is_the_lowest_pci_address(self) -> None:
        assert result(E, nics=[app("0000:81:00.0"), app("0000:3b:00.0")], application_cores=2)["isolated"] == "4-5"

    def test_without_nics_from_the_lowest_node_with_enough(self) -> None:
        topology = machine({0: "0-3", 1: "4-15"})
        assert result(topology, application_cores=2)["isolated"] == "2-3"
        assert result(topology, application_cores=3)["isolated"] == "6-8"

    def test_no_node_has_enough(self) -> None:
        topology = machine({0: "0-3", 1: "4-15"})
        assert refusal(topology, application_cores=11)[0] == "R23"
        assert result(topology, application_cores=11, spill=True)["isolated"] == "2,6-15"
        rule, message = refusal(topology, application_cores=13, spill=True)
        assert rule == "R23"
        assert "1 more than the whole host has free" in message

    def test_none_for_an_idle_host(self) -> None:
        found = result(A)
        assert (found["isolated"], found["housekeeping"], found["isolated_mask"]) == ("", "0-31", "00000000")
        assert {found[key] for key in ("isolcpus", "nohz_full", "rcu_nocbs", "irqaffinity")} == {""}
        assert "No CPU is isolated, because no application cores are asked for" in found["reasons"]


class TestSpill:
    def test_to_the_nearest_node(self) -> None:
        distances = {1: {0: 32, 1: 10, 2: 21}}
        topology = machine({0: "0-3", 1: "4-7", 2: "8-11"}, Nic("a", 1), distances=distances)
        found = result(topology, nics=[app("a", 3)], irq_cores=1, housekeeping_cores=1, spill=True)
        assert found["isolated"] == "6-7,9"
        assert "CPU 9 of node 2 is application cores of a, because node 1 is full" not in found["reasons"]
        assert "CPU 9 of node 2 is an application core of a, because node 1 is full" in found["reasons"]

    def test_to_the_lower_of_two_nodes_equally_near(self) -> None:
        for distances in ({}, {1: {0: 21, 1: 10, 2: 21}}):
            topology = machine({0: "0-3", 1: "4-7", 2: "8-11"}, Nic("a", 1), distances=distances)
            assert result(topology, nics=[app("a", 3)], irq_cores=1, housekeeping_cores=1, spill=True)["isolated"] == "1,6-7"

    def test_no_nic_loses_its_own_node(self) -> None:
        topology = machine({0: "0-7", 1: "8-15"}, Nic("a", 0), Nic("b", 1))
        found = result(topology, nics=[app("a", 5), app("b", 3)], spill=True)
        assert found["nics"]["a"]["cores"] == "4-7,15"
        assert found["nics"]["b"]["cores"] == "12-14"


class TestWithoutIsolation:
    def test_interrupts_are_placed_all_the_same(self) -> None:
        found = result(A, nics=[app("0000:81:00.0", 6)], application_cores=3, isolate=False)
        assert (found["isolated"], found["pin_cpus"], found["housekeeping"], found["isolcpus"]) == ("", "", "0-31", "")
        nic = found["nics"]["0000:81:00.0"]
        assert (nic["cores"], nic["irq_cpus"], nic["queue_cpus"]) == ("", "18-19", [18, 19, 18, 19])
        assert found["reasons"][-2:] == [
            "CPUs 2-15,20-31 stay housekeeping, because isolate is false",
            "No CPU is isolated, because isolate is false",
        ]


class TestInterrupts:
    def test_fewer_free_cores_than_wanted(self) -> None:
        found = result(machine({0: "0-3"}, Nic("a", 0, queues=3)), nics=[app("a")], irq_cores=3)
        assert (found["nics"]["a"]["irq_cpus"], found["nics"]["a"]["queue_cpus"]) == ("1-3", [1, 2, 3])
        assert (
            "CPU 1 of node 0, kept for the system, also takes interrupts of a, because node 0 has only 2 cores free for them, where 3 are wanted"
            in found["reasons"]
        )

    def test_more_nics_than_cores(self) -> None:
        topology = machine({0: "0-3"}, *(Nic(name, 0, queues=1) for name in "abc"))
        found = partition(topology, Intent(nics=tuple(NicIntent(name) for name in "cab")))
        assert found.irq_cpus == {"a": (2, 3), "b": (0, 1), "c": (0, 1)}

    def test_no_cores_of_their_own(self) -> None:
        found = result(A, nics=[app("0000:81:00.0", 2)], irq_cores=0)
        assert (found["nics"]["0000:81:00.0"]["irq_cpus"], found["isolated"]) == ("16-17", "18-19")

    def test_a_nic_without_interrupts_and_queues(self) -> None:
        found = result(machine({0: "0-7"}, Nic("a", 0)), nics=[app("a", 2)])
        assert (found["nics"]["a"]["irq_cpus"], found["nics"]["a"]["queue_cpus"], found["isolated"]) == ("2-3", [], "4-5")

    def test_the_intent_says_how_many_queues(self) -> None:
        assert result(A, nics=[app("0000:81:00.0", queues=3)])["nics"]["0000:81:00.0"]["queue_cpus"] == [18, 19, 18]


class TestL3:
    def test_no_cache_is_large_enough(self) -> None:
        plain, aligned = (result(D, nics=[app("0000:61:00.0", 9)], housekeeping_cores=1, l3_align=align) for align in (False, True))
        assert plain["isolated"] == aligned["isolated"] == "51-59,179-187"
        assert any("no unused L3 cache of the node serves 9 cores" in reason for reason in aligned["reasons"])

    def test_no_two_nics_share_a_cache(self) -> None:
        topology = machine({0: "0-31,32-63"}, Nic("a", 0), Nic("b", 0), smt=32, l3=8)
        found = result(topology, nics=[app("a", 2), app("b", 2)], l3_align=True)
        assert (found["nics"]["a"]["cores"], found["nics"]["b"]["cores"]) == ("8-9,40-41", "16-17,48-49")

    def test_caches_are_unknown(self) -> None:
        assert result(A, nics=[app("0000:81:00.0", 6)], l3_align=True)["isolated"] == "20-25"


class TestOddMachines:
    def test_two_cpus(self) -> None:
        topology = machine({0: "0-1"}, Nic("a", 0, queues=2))
        found = result(topology, nics=[app("a")])
        assert (found["housekeeping"], found["isolated"], found["housekeeping_mask"]) == ("0-1", "", "3")
        assert found["nics"]["a"]["queue_cpus"] == [0, 1]
        assert refusal(topology, nics=[app("a", 1)])[0] == "R23"

    def test_one_cpu(self) -> None:
        found = result(machine({0: "0"}, Nic("a", 0, queues=2)), nics=[app("a")])
        assert (found["housekeeping"], found["nics"]["a"]["irq_cpus"], found["nics"]["a"]["queue_cpus"]) == ("0", "0", [0, 0])

    def test_a_kernel_without_numa(self) -> None:
        topology = Topology(online=frozenset(range(8)), nics=(Nic("a", numa_node=-1, queues=1),))
        found = result(topology, nics=[app("a", 4)])
        assert (found["isolated"], found["nics"]["a"]["node"]) == ("4-7", 0)
        assert found["reasons"][0] == "All CPUs count as node 0, because the kernel shows no NUMA nodes with CPUs"
        assert result(topology, nics=[app("a", 4, numa_node=0)])["isolated"] == "4-7"
        assert refusal(topology, nics=[app("a", 4, numa_node=1)])[0] == "R22"

    def test_local_cpus_inside_one_node(self) -> None:
        topology = machine({0: "0-7", 1: "8-15"}, Nic("a", numa_node=-1, local_cpulist="8-11", queues=1))
        found = result(topology, nics=[app("a", 2)])
        assert (found["isolated"], found["nics"]["a"]["node"]) == ("12-13", 1)
        assert "CPUs 12-13 of node 1 are application cores of a, because its local CPUs 8-11 are all of node 1" in found["reasons"]

    @pytest.mark.parametrize("local", ["", "0-15", "6-9", "20-23"])
    def test_local_cpus_that_tell_nothing(self, local: str) -> None:
        assert refusal(machine({0: "0-7", 1: "8-15"}, Nic("a", local_cpulist=local)), nics=[app("a")])[0] == "R22"

    def test_the_intent_overrides_the_node(self) -> None:
        found = result(A, nics=[app("0000:81:00.0", 2, numa_node=0)])
        assert (found["isolated"], found["nics"]["0000:81:00.0"]["node"]) == ("4-5", 0)
        rule, message = refusal(A, nics=[app("0000:81:00.0", numa_node=2)])
        assert rule == "R22"
        assert "one of 0-1" in message

    def test_a_node_the_topology_does_not_have(self) -> None:
        assert refusal(machine({0: "0-7", 1: "8-15"}, Nic("a", numa_node=4)), nics=[app("a")])[0] == "R22"

    def test_nic_on_a_node_without_cpus(self) -> None:
        nodes = {0: "0-7", 1: "8-15", 2: ""}
        near_1 = machine(nodes, Nic("a", 2), distances={2: {0: 31, 1: 17, 2: 10}})
        found = result(near_1, nics=[app("a", 2)])
        assert (found["isolated"], found["nics"]["a"]["node"]) == ("12-13", 1)
        assert any("the NIC is on node 2, which has no CPUs, and node 1 is the nearest (distance 17)" in reason for reason in found["reasons"])
        rule, message = refusal(machine(nodes, Nic("a", 2)), nics=[app("a", 2)])
        assert rule == "R22"
        assert "set numa_node of this NIC to one of 0-1" in message

    def test_only_one_node_has_cpus(self) -> None:
        topology = machine({0: "0-7", 1: ""}, Nic("a", 1), Nic("b", -1))
        found = result(topology, nics=[app("a", 1), app("b", 1)], irq_cores=1)
        assert (found["nics"]["a"]["node"], found["nics"]["b"]["node"]) == (0, 0)

    def test_a_node_without_memory_keeps_housekeeping_too(self) -> None:
        topology = Topology(online=frozenset(range(8)), nodes={0: parse_cpulist("0-3"), 1: parse_cpulist("4-7")}, memory_nodes=frozenset({0}))
        assert refusal(topology, application_cpulist="4-7")[0] == "R1"

    def test_holes_and_offline_siblings(self) -> None:
        online = parse_cpulist("0,2-3,10-14,32,34,42")
        siblings = {cpu: frozenset({cpu % 32, cpu % 32 + 32}) for cpu in online}
        topology = Topology(online=online, offline=parse_cpulist("1,33,35"), nodes={0: online}, siblings=siblings, nics=(Nic("a", 0),), nr_cpus=64)
        found = result(topology, nics=[app("a", 2)], irq_cores=1)
        assert (found["nics"]["a"]["irq_cpus"], found["isolated"], found["pin_cpus"]) == ("3", "10-11,42", "10-11")
        assert found["isolated_mask"] == "00000400,00000c00"

    def test_cpu_0_is_offline(self) -> None:
        topology = Topology(online=parse_cpulist("1-7"), offline=frozenset({0}), nodes={0: parse_cpulist("1-7")})
        assert refusal(topology, application_cpulist="1")[0] == "R2"
        assert result(topology, application_cores=5)["isolated"] == "3-7"

    def test_hybrid_cores(self) -> None:
        siblings = {cpu: frozenset({cpu // 2 * 2, cpu // 2 * 2 + 1}) if cpu < 8 else frozenset({cpu}) for cpu in range(16)}
        topology = Topology(online=frozenset(range(16)), nodes={0: frozenset(range(16))}, siblings=siblings, nics=(Nic("a", 0, queues=2),))
        found = result(topology, nics=[app("a", 3)], irq_cores=1)
        assert (found["isolated"], found["pin_cpus"], found["nics"]["a"]["queue_cpus"]) == ("6-9", "6,8-9", [4, 4])
        assert refusal(topology, application_cpulist="7-9")[0] == "R4"

    def test_a_core_across_two_nodes_is_never_chosen(self) -> None:
        siblings = {3: frozenset({3, 4}), 4: frozenset({3, 4})}
        topology = Topology(online=frozenset(range(8)), nodes={0: parse_cpulist("0-3"), 1: parse_cpulist("4-7")}, siblings=siblings)
        found = result(topology, application_cores=2, housekeeping_cores=1)
        assert found["isolated"] == "1-2"
        assert found["reasons"][0] == "CPUs 3-4 stay housekeeping, because this core is in no single node"

    def test_siblings_that_contradict_each_other(self) -> None:
        siblings = {0: frozenset({0, 1}), 1: frozenset({1, 2}), 2: frozenset({1, 2}), 3: frozenset({3, 9})}
        assert physical_cores(Topology(online=frozenset(range(5)), siblings=siblings)) == [(0, 1), (2,), (3,), (4,)]

    def test_a_cpu_of_two_nodes_counts_for_the_lower(self) -> None:
        topology = Topology(online=frozenset(range(6)), nodes={0: parse_cpulist("0-3"), 1: parse_cpulist("3-5")})
        assert result(topology, application_cores=3, housekeeping_cores=1)["isolated"] == "1-3"

    def test_cpus_of_no_node(self) -> None:
        topology = Topology(online=frozenset(range(8)), nodes={0: parse_cpulist("0-3")})
        assert refusal(topology, application_cores=3)[0] == "R23"
        assert result(topology, application_cores=2)["housekeeping"] == "0-1,4-7"

    def test_no_core_is_in_a_node(self) -> None:
        siblings = {cpu: frozenset(range(4)) for cpu in range(4)}
        topology = Topology(online=frozenset(range(4)), nodes={0: parse_cpulist("0-1"), 1: parse_cpulist("2-3")}, siblings=siblings, nics=(Nic("a", 0),))
        assert result(topology)["housekeeping"] == "0-3"
        assert refusal(topology, application_cores=1)[0] == "R23"
        assert refusal(topology, application_cores=1, spill=True)[0] == "R23"
        assert refusal(topology, nics=[app("a")])[0] == "R22"


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    """Machines with up to four nodes, cores of one or two threads (also mixed), holes in the numbering, and three NICs."""
    cores_of = draw(st.lists(st.integers(0, 6), min_size=1, max_size=4).filter(any))
    threads = [draw(st.integers(1, 2)) for _node in cores_of for _core in range(_node)]
    numbers = draw(st.permutations(range(sum(threads) + draw(st.integers(0, 4)))))
    nodes: dict[int, frozenset[int]] = {node: frozenset() for node in range(len(cores_of))}
    siblings: dict[int, frozenset[int]] = {}
    used = core = 0
    for node, count in enumerate(cores_of):
        for _core in range(count):
            cpus = frozenset(numbers[used:used + threads[core]])
            used, core = used + threads[core], core + 1
            nodes[node] |= cpus
            siblings.update(dict.fromkeys(cpus, cpus))
    online = frozenset(siblings)
    nics = tuple(Nic(f"0000:0{n}:00.0", numa_node=draw(st.integers(-1, len(cores_of) - 1)), queues=draw(st.integers(0, 5))) for n in range(3))
    distances = {a: {b: 10 if a == b else 20 + abs(a - b) for b in nodes} for a in nodes} if draw(st.booleans()) else {}
    numa = nodes if len(nodes) > 1 or draw(st.booleans()) else {}
    caches = dict(siblings) if draw(st.booleans()) else {}
    return Topology(online=online, offline=frozenset(numbers) - online, nodes=numa, siblings=siblings, nics=nics, l3=caches, distances=distances)


@st.composite
def intents(draw: st.DrawFn) -> Intent:
    pcis = draw(st.lists(st.sampled_from(["0000:00:00.0", "0000:01:00.0", "0000:02:00.0"]), unique=True))
    return Intent(
        nics=tuple(NicIntent(pci, draw(st.integers(0, 3)), draw(st.integers(0, 4))) for pci in pcis),
        application_cores=draw(st.integers(0, 3)),
        isolate=draw(st.sampled_from([True, True, True, False])),
        smt_policy=draw(st.sampled_from(["siblings-idle", "share"])),
        housekeeping_cores=draw(st.integers(1, 3)),
        irq_cores=draw(st.integers(0, 3)),
        l3_align=draw(st.booleans()),
        spill=draw(st.booleans()),
    )


def attempt(topology: Topology, intent: Intent) -> Partition | PartitionError:
    try:
        return partition(topology, intent)
    except PartitionError as error:
        return error


def check_sound(topology: Topology, intent: Intent, found: Partition) -> None:
    """What holds for every partition, counted or listed."""
    assert found.housekeeping | found.isolated == topology.online
    assert not found.housekeeping & found.isolated
    assert found.pin_cpus <= found.isolated
    assert bool(found.pin_cpus) == bool(found.isolated)
    nodes = {node: cpus for node, cpus in topology.nodes.items() if cpus} or {0: topology.online}
    cores = physical_cores(topology)
    for core in cores:
        assert len(found.isolated.intersection(core)) in (0, len(core))
    for cpus in nodes.values():
        there = [core for core in cores if cpus.issuperset(core)]
        kept = [core for core in there if found.housekeeping.issuperset(core)]
        assert len(kept) >= min(intent.housekeeping_cores, len(there))
    assert set(found.nic_node) == {nic.pci for nic in intent.nics}
    for pci, node in found.nic_node.items():
        assert found.irq_cpus[pci]
        assert found.housekeeping & nodes[node] >= set(found.irq_cpus[pci]) >= set(found.queue_cpus[pci])
        assert found.isolated >= found.nic_cores[pci]
    assert len(found.reasons) == len(set(found.reasons))


MODERATE = settings(max_examples=100, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])


@MODERATE
@given(topologies(), intents())
def test_every_partition_is_sound_and_as_asked(topology: Topology, intent: Intent) -> None:
    found = attempt(topology, intent)
    if isinstance(found, PartitionError):
        assert found.rule in ("R22", "R23")
        return
    check_sound(topology, intent, found)
    assert min(topology.online) in found.housekeeping
    wanted = intent.application_cores + sum(nic.application_cores for nic in intent.nics)
    isolated = [core for core in physical_cores(topology) if found.isolated.issuperset(core)]
    assert len(isolated) == (wanted if intent.isolate else 0)
    assert sum(len(cpus) for cpus in found.nic_cores.values()) == len(frozenset().union(*found.nic_cores.values()))
    for nic in intent.nics:
        cpus = topology.nodes.get(found.nic_node[nic.pci], topology.online)
        assert intent.spill or found.nic_cores[nic.pci] <= cpus
        assert len(found.queue_cpus[nic.pci]) == (nic.queues or next(known.queues for known in topology.nics if known.pci == nic.pci))


@MODERATE
@given(topologies(), intents(), st.randoms(use_true_random=False))
def test_the_order_of_the_input_is_no_input(topology: Topology, intent: Intent, random: Any) -> None:
    nics, known = list(intent.nics), list(topology.nics)
    random.shuffle(nics)
    random.shuffle(known)
    backwards = Topology(
        online=topology.online, offline=topology.offline, nodes=dict(reversed(list(topology.nodes.items()))),
        siblings=dict(reversed(list(topology.siblings.items()))), nics=tuple(known), l3=topology.l3, distances=topology.distances,
    )
    shuffled = Intent(**{**vars(intent), "nics": tuple(nics)})
    first, second = attempt(topology, intent), attempt(backwards, shuffled)
    if isinstance(first, PartitionError):
        assert isinstance(second, PartitionError) and str(first) == str(second)
    else:
        assert first == second
        assert isinstance(second, Partition) and first.to_dict() == second.to_dict()


@MODERATE
@given(topologies(), intents(), st.data())
def test_a_list_is_taken_as_it_is_or_refused(topology: Topology, intent: Intent, data: st.DataObject) -> None:
    cores = data.draw(st.lists(st.sampled_from(physical_cores(topology)), min_size=1, unique=True))
    cpus = frozenset(cpu for core in cores for cpu in core)
    asked = Intent(**{**vars(intent), "application_cpulist": format_cpulist(cpus), "isolate": True, "allow_cpu0": data.draw(st.booleans())})
    found = attempt(topology, asked)
    if isinstance(found, PartitionError):
        assert found.rule in ("R1", "R2", "R22", "R23")
    else:
        check_sound(topology, asked, found)
        assert found.isolated == cpus


@MODERATE
@given(topologies(), intents())
def test_the_result_of_counting_is_a_sound_list(topology: Topology, intent: Intent) -> None:
    counted = attempt(topology, intent)
    if isinstance(counted, Partition):
        listed = partition(topology, Intent(**{**vars(intent), "application_cpulist": format_cpulist(counted.isolated), "spill": True}))
        assert (listed.isolated, listed.pin_cpus, listed.nic_node) == (counted.isolated, counted.pin_cpus, counted.nic_node)
        assert not intent.isolate or listed.irq_cpus == counted.irq_cpus


@MODERATE
@given(topologies(), intents())
def test_masks_and_lists_of_the_plain_form_agree(topology: Topology, intent: Intent) -> None:
    found = attempt(topology, intent)
    if isinstance(found, Partition):
        plain = found.to_dict()
        assert parse_mask(plain["housekeeping_mask"]) == parse_cpulist(plain["housekeeping"]) == found.housekeeping
        assert parse_mask(plain["isolated_mask"]) == parse_cpulist(plain["isolated"]) == found.isolated
        for pci, nic in plain["nics"].items():
            assert [parse_mask(mask) for mask in nic["irq_masks"]] == [{cpu} for cpu in found.irq_cpus[pci]]


def test_nothing_but_the_topology_and_the_intent_counts() -> None:
    intent = Intent(nics=(NicIntent("0000:61:00.0", 8),), housekeeping_cores=1)
    through_text = Topology.from_dict(D.to_dict())
    assert partition(D, intent) == partition(D, intent) == partition(through_text, intent)
