# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A topology as plain values: nothing lost on the way there and back, and nothing misread silently."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import SpecError
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.topology import (
    Memory,
    Nic,
    Topology,
    TopologyError,
    socket_order,
)
from hypothesis import given
from hypothesis import strategies as st

CPUS = st.frozensets(st.integers(0, 1100), max_size=12)
WORDS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)
NUMBERS = st.integers(0, 5000)
NICS = st.builds(
    Nic,
    pci=WORDS,
    numa_node=st.integers(-1, 64),
    local_cpulist=st.sampled_from(["", "0", "0-3,8"]),
    driver=WORDS,
    interfaces=st.tuples(WORDS),
    mac=WORDS,
    link_width=NUMBERS,
    link_width_max=NUMBERS,
    link_speed=WORDS,
    link_speed_max=WORDS,
    interrupts=st.lists(NUMBERS).map(tuple),
    queues=NUMBERS,
    pci_class=WORDS,
    pci_id=WORDS,
)
TOPOLOGIES = st.builds(
    Topology,
    online=CPUS.filter(bool),
    offline=CPUS,
    nodes=st.dictionaries(NUMBERS, CPUS, max_size=4),
    siblings=st.dictionaries(NUMBERS, CPUS, max_size=4),
    sockets=st.dictionaries(st.one_of(NUMBERS.map(str), NUMBERS.map("?{}".format)), CPUS, max_size=4),
    nics=st.lists(NICS, max_size=3).map(tuple),
    nr_cpus=st.integers(1, 9000),
    l3=st.dictionaries(NUMBERS, CPUS, max_size=4),
    distances=st.dictionaries(NUMBERS, st.dictionaries(NUMBERS, NUMBERS, max_size=3), max_size=3),
    memory=st.dictionaries(NUMBERS, st.builds(Memory, NUMBERS, st.one_of(st.none(), NUMBERS)), max_size=3),
    memory_nodes=CPUS,
    gaps=st.lists(WORDS, max_size=3).map(tuple),
)


@given(TOPOLOGIES)
def test_a_topology_survives_json_and_back(topology: Topology) -> None:
    assert Topology.from_dict(json.loads(json.dumps(topology.to_dict()))) == topology


def test_the_plain_form_has_text_keys_in_the_order_of_numbers() -> None:
    topology = Topology(
        online=frozenset(range(12)),
        offline=frozenset({12}),
        nodes={10: frozenset({11}), 2: frozenset(range(11))},
        siblings={11: frozenset({3, 11}), 3: frozenset({3, 11})},
        sockets={"?2": frozenset({11}), "10": frozenset({1}), "9": frozenset({0})},
    )
    plain = topology.to_dict()
    assert plain["cpus_online"] == "0-11"
    assert plain["cpus_offline"] == "12"
    assert list(plain["nodes"].items()) == [("2", "0-10"), ("10", "11")]
    assert list(plain["siblings"].items()) == [("3", "3,11"), ("11", "3,11")]
    assert list(plain["sockets"]) == ["9", "10", "?2"]
    assert plain["nr_cpus"] == 13


def test_what_is_absent_or_null_is_empty_and_only_online_cpus_are_needed() -> None:
    assert Topology.from_dict({"cpus_online": "0-1", "nodes": None, "sockets": None}) == Topology(online=frozenset({0, 1}))


def test_a_nic_without_locality_is_on_no_node() -> None:
    nic = Nic.from_dict({"pci": "0000:01:00.0", "numa_node": None, "local_cpulist": None})
    assert nic == Nic(pci="0000:01:00.0")
    assert nic.numa_node == -1


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        {},
        {"cpus_online": None},
        {"cpus_online": "zero"},
        {"cpus_online": "0", "nodes": []},
        {"cpus_online": "0", "nodes": {"zero": "0"}},
        {"cpus_online": "0", "nodes": {"0": 0}},
        {"cpus_online": "0", "nr_cpus": "many"},
        {"cpus_online": "0", "nics": [{}]},
        {"cpus_online": "0", "nics": ["eth0"]},
        {"cpus_online": "0", "nics": [{"pci": "0000:01:00.0", "numa_node": "one"}]},
        {"cpus_online": "0", "memory": {"0": {}}},
        {"cpus_online": "0", "distances": {"0": "10"}},
    ],
)
def test_a_wrong_description_is_refused_by_name(wrong: Any) -> None:
    with pytest.raises(SpecError):
        Topology.from_dict(wrong)
    assert issubclass(TopologyError, SpecError)


def test_sockets_without_a_number_come_last() -> None:
    assert sorted(["?10", "3", "?9", "20"], key=socket_order) == ["3", "20", "?9", "?10"]
