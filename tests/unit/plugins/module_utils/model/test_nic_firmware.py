# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Versions as vendors write them, a policy and what is wrong with it, and the finding of every kind of NIC."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.model import nic_firmware as model
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.nic_firmware import (
    Card,
    Driver,
    Firmware,
    Link,
    NicFirmwareState,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import judged

MLX = Card(
    "ens1f0", "0000:3b:00.0", "15b3:101d", "pci/0000:3b:00.0", Driver("mlx5_core", "24.10-1.1.4", vendor=True),
    Firmware("22.36.1010 (MT_0000000359)", {"fw.psid": "MT_0000000359"}, {"fw.version": "22.36.1010"}, {"fw.version": "22.36.1010"}),
    Link(16, 16, 16.0, 16.0, 16, 32.0), 0,
)
NODES = {0: frozenset(range(4)), 1: frozenset(range(4, 8))}
DISTANCES = {0: {0: 10, 1: 21}, 1: {0: 21, 1: 10}}


def changed(card: Card, **values: Any) -> Card:
    return Card(**{**card.__dict__, **values})


def findings(card: Card, policy: Any = None, nodes: Any = None, distances: Any = None, **nic: Any) -> dict[str, Any]:
    """The settings of one NIC by control, judged as the runner does."""
    state = NicFirmwareState((card,), NODES if nodes is None else nodes, DISTANCES if distances is None else distances)
    spec = {"policy": policy or {}, "nics": [{"interface": card.interface, **nic}]}
    assert model.problems(spec) == []
    settings = [judged(setting) for setting in model.plan(state, spec).settings]
    assert all(setting.finding for setting in settings)
    assert [setting.name for setting in settings if setting.state != "error"] == [
        f"ens1f0.{part}" for part in ("driver", "firmware", "pcie_width", "pcie_speed", "numa_node")][:len(settings)]
    return {setting.control: setting for setting in settings}


# --- versions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("22.36.1010 (MT_0000000359)", (22, 36, 1010)), ("9.20 0x8000d95e 22.0.9", (9, 20)), ("3.25, 0x800005cf", (3, 25)),
        ("226.0.145.0/pkg 226.1.107.1", (226, 0, 145, 0)), ("FFV22.61.8 bc 5719-v1.46", (22, 61, 8)), ("24.10-1.1.4", (24, 10, 1, 1, 4)),
        ("6.1.0-40-amd64", (6, 1, 0, 40)), ("8.0.0.1015 rx1 tx1", (8, 0, 0, 1015)), ("1.0", (1, 0)), ("7", (7,)),
        ("0x800006d1", None), ("0x61c10001, 1.3155.0", None), ("N/A", None), ("", None), ("firmware 7", None),
    ],
)
def test_the_number_a_version_begins_with(text: str, number: tuple[int, ...] | None) -> None:
    assert model.number_of(text) == number


@pytest.mark.parametrize(
    ("text", "rule", "right"),
    [
        ("22.36.1010", {"minimum": "22.36.1010"}, True), ("22.36.1010", {"minimum": "22.36.1011"}, False), ("22.36", {"minimum": "22.36.0"}, True),
        ("9.20 0x8000d95e 22.0.9", {"minimum": "9.3"}, True), ("9.20 0x8000d95e 22.0.9", {"minimum": "9.21"}, False),
        ("24.10-1.1.4", {"minimum": "24.10-2.1.8"}, False), ("24.10-1.1.4", {"maximum": "24.10"}, True), ("25.1", {"maximum": "24.10"}, False),
        ("24.10-1.1.4", {"minimum": "24.7", "maximum": "24"}, True), ("24.10-1.1.4", {"maximum": "24.10-1.1.3"}, False),
        ("22.36.1010 (MT_0000000359)", {"exact": "22.36.1010"}, True), ("22.36.1010 (MT_0000000359)", {"exact": "22.36.1010 (MT_0000000359)"}, True),
        ("3.25, 0x800005cf", {"exact": "3.25"}, True), ("22.36.1010", {"exact": "22.36"}, False), ("0x800006d1", {"exact": "0x800006d1"}, True),
        ("0x800006d1", {"minimum": "1"}, None), ("", {"minimum": "1"}, None), ("", {}, True), ("anything", {}, True),
    ],
)
def test_whether_a_version_is_what_is_wanted(text: str, rule: dict[str, str], right: bool | None) -> None:
    assert model.fits(text, rule) is right


@pytest.mark.parametrize(
    ("rule", "words"),
    [({}, ""), ({"exact": "1"}, "exactly 1"), ({"minimum": "1"}, "1 or later"), ({"maximum": "2"}, "2 or earlier"),
     ({"minimum": "1", "maximum": "2"}, "1 to 2")],
)
def test_a_range_in_words(rule: dict[str, str], words: str) -> None:
    assert model.range_of(rule) == words


# --- problems ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"ice": "in-tree"}, "no mapping"), ({"ice": {"drivers": {}}}, "no such key drivers; there are: driver, firmware"),
        ({"ice": {"driver": {"kind": "oot"}}}, "neither in-tree nor vendor"), ({"ice": {"driver": {"exact": "1"}}}, "no such key exact"),
        ({"ice": {"driver": "1.2"}}, "no mapping"), ({"ice": {"driver": {"minimum": 24.10}}}, "24.1 is not text; put the version between quotes"),
        ({"ice": {"driver": {"minimum": "new"}}}, "begins with no version number"), ({"ice": {"firmware": {"minimum": "0x80"}}}, "or give exact"),
        ({"ice": {"driver": {"minimum": "2", "maximum": "1"}}}, "no version is both"),
        ({"ice": {"firmware": {"minimum": "1", "exact": "1"}}}, "both minimum and exact"),
        ({"ice": {"firmware": {"maximum": "1"}}}, "no such key maximum"), ({"ice": {"firmware": ["1"]}}, "no mapping"),
        ({"ice": {"firmware": {"models": []}}}, "models: .* no mapping"), ({"ice": {"firmware": {"models": {"8086:1593": {"minimum": 4}}}}}, "4 is not text"),
        ({"ice": {"firmware": {"models": {"8086:1593": "4"}}}}, "of 8086:1593: '4' is no mapping"),
    ],
)
def test_what_is_wrong_with_a_policy(policy: Any, words: str) -> None:
    found = model.problems({"policy": policy, "nics": []})
    assert len(found) == 1 and re.search(words, found[0]), found


@pytest.mark.parametrize(
    "policy",
    [{}, {"ice": {}}, {"ice": {"driver": {"kind": "in-tree"}}}, {"ice": {"firmware": {"exact": "0x80"}}}, {"ice": {"driver": None, "firmware": None}},
     {"ice": {"driver": {"minimum": "24.10-1", "maximum": "24.10"}}},
     {"ice": {"firmware": {"component": "fw.mgmt", "minimum": "7", "models": {"MT_1": {"exact": "x"}}}}}],
)
def test_what_is_right_with_a_policy(policy: Any) -> None:
    assert model.problems({"policy": policy, "nics": [{"pci": "0000:01:00.0"}]}) == []


@pytest.mark.parametrize(
    ("nics", "words"),
    [([{}], "has no name"), ([{"pci": "a"}, {"pci": "a"}], "named twice"), ([{"pci": "a", "application_cpus": "3-"}], "NIC a application_cpus: ")],
)
def test_what_is_wrong_with_the_nics(nics: list[dict[str, str]], words: str) -> None:
    found = model.problems({"nics": nics})
    assert len(found) == 1 and words in found[0]


# --- driver -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "state", "desired", "reason"),
    [
        ({}, "ok", "mlx5_core 24.10-1.1.4 (vendor)", ""), ({"kind": "vendor", "minimum": "24.10"}, "ok", "mlx5_core 24.10-1.1.4 (vendor)", ""),
        ({"kind": "in-tree"}, "drifted", "mlx5_core (in-tree)", "the vendor driver is loaded; remove the vendor's package"),
        ({"minimum": "25.1"}, "drifted", "mlx5_core 25.1 or later", "install the wanted version"),
        ({"kind": "vendor", "maximum": "24.9"}, "drifted", "mlx5_core 24.9 or earlier (vendor)", "then reload the driver or reboot"),
    ],
)
def test_a_driver_against_its_policy(rule: Any, state: str, desired: str, reason: str) -> None:
    found = findings(MLX, {"mlx5_core": {"driver": rule}})["nic.driver"]
    assert (found.state, found.current, found.desired) == (state, "mlx5_core 24.10-1.1.4 (vendor)", desired)
    assert reason in found.reason and bool(reason) == bool(found.reason)


def test_an_in_tree_driver_where_the_vendor_s_is_wanted() -> None:
    found = findings(changed(MLX, driver=Driver("mlx5_core", "6.1.0-40-amd64")), {"mlx5_core": {"driver": {"kind": "vendor"}}})["nic.driver"]
    assert (found.state, found.current) == ("drifted", "mlx5_core 6.1.0-40-amd64 (in-tree)") and "nic_firmware_packages" in found.reason


def test_a_driver_that_tells_nothing() -> None:
    assert findings(changed(MLX, driver=Driver()))["nic.driver"].state == "unsupported"
    found = findings(changed(MLX, driver=Driver("x", "")), {"x": {"driver": {"minimum": "1"}}})["nic.driver"]
    assert found.state == "unsupported" and "no number to compare" in found.reason


def test_a_policy_of_another_driver_wants_nothing() -> None:
    found = findings(MLX, {"ice": {"driver": {"kind": "in-tree"}, "firmware": {"minimum": "99"}}})
    assert found["nic.driver"].state == found["nic.firmware"].state == "ok"


# --- firmware ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "state", "desired"),
    [
        ({}, "ok", "22.36.1010"), ({"minimum": "22.36"}, "ok", "22.36.1010"), ({"minimum": "22.41.1000"}, "drifted", "22.41.1000 or later"),
        ({"exact": "22.36.1010"}, "ok", "22.36.1010"), ({"exact": "22.35.1000"}, "drifted", "exactly 22.35.1000"),
        ({"minimum": "16.35", "models": {"15B3:101D": {"minimum": "22.41"}}}, "drifted", "22.41 or later"),
        ({"minimum": "99", "models": {"mt_0000000359": {"minimum": "22.1"}, "15b3:101d": {"minimum": "98"}}}, "ok", "22.36.1010"),
        ({"minimum": "99", "models": {"15b3:ffff": {"minimum": "1"}}}, "drifted", "99 or later"),
    ],
)
def test_firmware_against_its_policy(rule: Any, state: str, desired: str) -> None:
    found = findings(MLX, {"mlx5_core": {"firmware": rule}})["nic.firmware"]
    assert (found.state, found.current, found.desired) == (state, "22.36.1010", desired)
    assert bool(found.reason) == (state == "drifted")


def firmware(**told: Any) -> Card:
    return changed(MLX, firmware=Firmware(**told))


@pytest.mark.parametrize(
    ("card", "current"),
    [
        (firmware(text="9.20 0x8000d95e 22.0.9"), "9.20 0x8000d95e 22.0.9"),
        (firmware(text="4.20 0x80015e88", running={"fw.mgmt": "7.3.4", "fw.bundle_id": "0x80015e88"}), "4.20 0x80015e88"),
        (firmware(running={"fw.mgmt": "10.20.30"}), "10.20.30"), (firmware(text="226.0/pkg 226.1", running={"fw": "226.0.145.0"}), "226.0.145.0"),
    ],
)
def test_where_the_firmware_s_version_comes_from(card: Card, current: str) -> None:
    assert findings(card)["nic.firmware"].current == current


@pytest.mark.parametrize(
    ("stored", "persisted", "state"),
    [({}, None, "ok"), ({"fw.psid.api": "4.20"}, "4.20 0x80015e88", "ok"), ({"fw.psid.api": "4.10"}, "4.10", "drifted"), ({"fw.mgmt": "9"}, None, "ok")],
)
def test_the_component_that_ethtool_s_text_speaks_of_may_be_stored_in_another_version(stored: dict[str, str], persisted: str | None, state: str) -> None:
    card = firmware(text="4.20 0x80015e88", running={"fw.mgmt": "7.3.4", "fw.psid.api": "4.20"}, stored=stored)
    found = findings(card, {"mlx5_core": {"firmware": {"exact": "4.20 0x80015e88"}}})["nic.firmware"]
    assert (found.state, found.persisted) == (state, persisted) and found.current.startswith("4.20 0x80015e88")


def test_a_component_of_the_firmware() -> None:
    card = firmware(text="4.20", running={"fw.mgmt": "7.3.4"}, stored={"fw.mgmt": "7.3.4"})
    found = findings(card, {"mlx5_core": {"firmware": {"component": "fw.mgmt", "minimum": "7.4"}}})["nic.firmware"]
    assert (found.state, found.current, found.persisted) == ("drifted", "7.3.4", "7.3.4")
    found = findings(card, {"mlx5_core": {"firmware": {"component": "fw.nosuch", "minimum": "7.4"}}})["nic.firmware"]
    assert found.state == "unsupported" and "of fw.nosuch" in found.reason


def test_a_version_that_cannot_be_compared_is_not_guessed() -> None:
    found = findings(firmware(text="0x800006d1"), {"mlx5_core": {"firmware": {"minimum": "1"}}})["nic.firmware"]
    assert (found.state, found.current) == ("unsupported", "0x800006d1") and "say exact" in found.reason
    assert findings(firmware())["nic.firmware"].state == "unsupported"


@pytest.mark.parametrize(
    ("minimum", "state", "words"),
    [("22.41", "drifted", "22.41.1000 is stored and runs after a reset"), ("22.30", "ok", "22.41.1000 is stored"), ("23", "drifted", "flash the wanted one")],
)
def test_firmware_that_is_stored_and_does_not_run_yet(minimum: str, state: str, words: str) -> None:
    card = firmware(running={"fw": "22.36.1010"}, stored={"fw": "22.41.1000"})
    found = findings(card, {"mlx5_core": {"firmware": {"minimum": minimum}}})["nic.firmware"]
    assert (found.state, found.persisted) == (state, "22.41.1000") and words in found.reason
    assert ("flash" in found.reason) == (minimum == "23")


def test_firmware_that_is_right_until_the_next_boot_only() -> None:
    card = firmware(running={"fw": "22.41.1000"}, stored={"fw": "22.36.1010"})
    found = findings(card, {"mlx5_core": {"firmware": {"minimum": "22.41"}}})["nic.firmware"]
    assert (found.state, found.current) == ("drifted", "22.41.1000, 22.36.1010 stored")


# --- the PCIe link ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("link", "control", "state", "current", "desired", "words"),
    [
        (Link(8, 16, 16.0, 16.0, 8), "nic.pcie_width", "drifted", "x8 of x16", "x16 of x16", "the port above it has no more than x8; move the card"),
        (Link(8, 16, 16.0, 16.0, 16), "nic.pcie_width", "drifted", "x8 of x16", "x16 of x16", "seat the card again"),
        (Link(8, 16, 16.0, 16.0), "nic.pcie_width", "drifted", "x8 of x16", "x16 of x16", "seat the card again"),
        (Link(16, 16, 8.0, 16.0, 16, 8.0), "nic.pcie_speed", "drifted", "8.0 GT/s of 16.0 GT/s", "16.0 GT/s of 16.0 GT/s", "no more than 8.0 GT/s"),
        (Link(16, 16, 2.5, 2.5), "nic.pcie_speed", "ok", "2.5 GT/s of 2.5 GT/s", "2.5 GT/s of 2.5 GT/s", ""),
        (Link(16, 8, 2.5, 2.5), "nic.pcie_width", "ok", "x16 of x8", "x16 of x8", ""),
        (Link(0, 16, 16.0, 16.0), "nic.pcie_width", "unsupported", None, None, "a virtual machine"),
        (Link(16, 16, 0.0, 0.0), "nic.pcie_speed", "unsupported", None, None, "a virtual machine"),
    ],
)
def test_a_link_against_what_the_card_can_do(link: Link, control: str, state: str, current: str, desired: str, words: str) -> None:
    found = findings(changed(MLX, link=link))[control]
    if state == "ok":
        assert (found.state, found.current, found.reason) == ("ok", current, "")
    else:
        assert (found.state, found.current, found.desired) == (state, current, desired) and words in found.reason


def test_an_interface_without_a_pci_device() -> None:
    found = findings(changed(MLX, pci="", node=None))
    assert {found[control].state for control in ("nic.pcie_width", "nic.pcie_speed", "nic.numa_node")} == {"unsupported"}


# --- the node ---------------------------------------------------------------------------------------------------------

MEMORY_ONLY = {**NODES, 2: frozenset()}
FAR = {2: {0: 40, 1: 20, 2: 10}}


@pytest.mark.parametrize(
    ("node", "nic", "state", "current", "words"),
    [
        (0, {"application_cpus": "2-3"}, "ok", "on node 0", ""), (0, {}, "ok", "on node 0", ""),
        (0, {"application_cpus": "4-5"}, "drifted", "on node 0, its application on node 1", "CPUs 4-5 of its application are on node 1"),
        (1, {"application_cpus": "3-4"}, "drifted", "on node 1, its application on node 0", "CPUs 3 of its application"),
        (-1, {"application_cpus": "3-4"}, "drifted", "on an unknown node", "R22"), (7, {}, "drifted", "on an unknown node", "R22"),
        (-1, {"application_cpus": "4", "numa_node": 1}, "ok", "on node 1, as the site says", ""),
        (-1, {"application_cpus": "3", "numa_node": 1}, "drifted", "on node 1, as the site says, its application on node 0", "R23"),
        (0, {"application_cpus": "4", "numa_node": 1}, "drifted", "on node 0, its application on node 1", "R23"),
    ],
)
def test_the_node_of_a_nic_against_that_of_its_application(node: int, nic: Any, state: str, current: str, words: str) -> None:
    found = findings(changed(MLX, node=node), **nic)["nic.numa_node"]
    assert (found.state, found.current) == (state, current) and words in found.reason
    assert (found.desired == found.current) == (state == "ok")


@pytest.mark.parametrize(("cpus", "state"), [("4-5", "ok"), ("2", "drifted")])
def test_a_node_without_cpus_has_the_nearest_that_has(cpus: str, state: str) -> None:
    assert findings(changed(MLX, node=2), nodes=MEMORY_ONLY, distances=FAR, application_cpus=cpus)["nic.numa_node"].state == state


@pytest.mark.parametrize(("nodes", "current"), [({0: frozenset({0, 1})}, "on node 0, the only one"), ({}, "on a host without NUMA")])
def test_one_node_alone_is_never_the_wrong_one(nodes: Any, current: str) -> None:
    found = findings(changed(MLX, node=-1), nodes=nodes, application_cpus="1")["nic.numa_node"]
    assert (found.state, found.current) == ("ok", current)


# --- NICs that are not there ------------------------------------------------------------------------------------------


def test_a_nic_that_is_not_there_is_one_error_and_stops_no_other() -> None:
    state = NicFirmwareState((Card("eth9", unreadable="no such interface on this host"), MLX, MLX), NODES, DISTANCES)
    settings = model.plan(state, {"nics": [{"interface": "eth9"}, {"interface": "ens1f0"}, {"pci": "0000:3b:00.0"}]}).settings
    assert [(setting.control, setting.name) for setting in settings if setting.state == "error"] == [("nic", "eth9"), ("nic", "0000:3b:00.0")]
    assert "is the same NIC as ens1f0" in settings[-1].reason and len(settings) == 7


def test_a_captured_tree_tells_of_slots_only() -> None:
    found = findings(changed(MLX, silent="a captured tree does not tell"), {"mlx5_core": {"firmware": {"minimum": "99"}}})
    assert [found[control].state for control in ("nic.driver", "nic.firmware", "nic.pcie_width")] == ["unsupported", "unsupported", "ok"]
