# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ethtool ioctl: what is sent to the kernel and how its answers are read, against a driver made of a few bytes."""

from __future__ import annotations

import errno
import os
import struct

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import ethtool_ioctl as ioctl
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.ethtool_ioctl import GRXCLSRLALL, GRXCLSRLCNT, Ioctl
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.flow_spec import packed
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.nic import Feature
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.steering import HASH_TYPES, Rule, parse_rule
from ansible_collections.lowlatency.fleet.tests.unit.fixture_driver import (
    GRO,
    LOCATION,
    NAMES,
    RULE_COUNT,
    TCP4,
    Driver,
    installed,
)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver()
    installed(monkeypatch, made)
    return made


LINK = Ioctl()


# --- the socket -------------------------------------------------------------------------------------------------------


def test_a_name_too_long_for_the_kernel_is_not_cut() -> None:
    with Ioctl() as link, pytest.raises(OSError, match=os.strerror(errno.ENODEV)) as caught:
        link.ask("sixteen-letters0", struct.pack("=I192x", ioctl.GDRVINFO))
    assert caught.value.errno == errno.ENODEV


def test_the_kernel_of_this_machine_answers_or_says_why_not() -> None:
    with Ioctl() as link:
        with pytest.raises(OSError) as caught:
            link.ask("none0", struct.pack("=I192x", ioctl.GDRVINFO))
        assert caught.value.errno in (errno.ENODEV, errno.EOPNOTSUPP)
        assert ioctl.driver_info(link, "none0") == ("", "", "")


# --- versions and features --------------------------------------------------------------------------------------------


def test_driver_and_versions(driver: Driver) -> None:
    assert ioctl.driver_info(LINK, "lo") == ("igb", "5.19.0", "1.63, 0x800009fa")


def test_a_driver_that_tells_nothing_of_itself_is_no_error(driver: Driver) -> None:
    driver.error = errno.EOPNOTSUPP
    assert ioctl.driver_info(LINK, "lo") == ("", "", "")


def test_features_are_read_by_their_bits(driver: Driver) -> None:
    found = ioctl.features(LINK, "lo")
    assert len(found) == 39 and "" not in found
    assert found["rx-gro"] == Feature(active=True, fixed=False)
    assert found["rx-lro"] == Feature(active=False, fixed=True)
    assert found["tx-tcp-segmentation"] == Feature(active=True, fixed=False)
    assert found["tx-tcp6-segmentation"] == Feature(active=False, fixed=True)


def test_features_are_switched_all_in_one_request(driver: Driver) -> None:
    ioctl.set_features(LINK, "lo", {"rx-gro": False, "tx-tcp-segmentation": False, "bit-31": True, "bit-39": True, "unheard-of": True})
    asked = 1 << GRO | 1 << TCP4 | 1 << 31 | 1 << 39
    assert driver.sent == [(asked, 1 << 31 | 1 << 39)]
    assert [name for name in NAMES if name and ioctl.features(LINK, "lo")[name].active] == ["bit-31", "bit-39"]


# --- RSS --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 128, 512])
@pytest.mark.parametrize("key", [b"", b"k" * 40])
@pytest.mark.parametrize("symmetric", [0, 1])
def test_the_indirection_table_is_read_and_written_in_its_own_size(driver: Driver, size: int, key: bytes, symmetric: int) -> None:
    driver.table, driver.key, driver.symmetric = [entry % 3 for entry in range(size)], key, symmetric
    assert ioctl.indirection(LINK, "lo") == tuple(driver.table)
    ioctl.set_indirection(LINK, "lo", [1] * size)
    assert driver.table == [1] * size
    assert (driver.key, driver.symmetric) == (key, symmetric), "nothing but the table is changed"


def test_a_kernel_before_symmetric_hashes_takes_the_table_too(driver: Driver) -> None:
    driver.table, driver.old_rxfh = [0, 1], True
    ioctl.set_indirection(LINK, "lo", [1, 0])
    assert driver.table == [1, 0]


def test_a_nic_without_a_table_has_none(driver: Driver) -> None:
    driver.key = b"k" * 40
    with pytest.raises(OSError, match=os.strerror(errno.EOPNOTSUPP)) as caught:
        ioctl.indirection(LINK, "lo")
    assert caught.value.errno == errno.EOPNOTSUPP


# RXH_L2DA, RXH_VLAN, RXH_L3_PROTO, RXH_IP_SRC, RXH_IP_DST, RXH_L4_B_0_1, RXH_L4_B_2_3
@pytest.mark.parametrize(("letters", "bits"), [("sd", 0x30), ("sdfn", 0xF0), ("mvtsdfn", 0xFE), ("m", 0x02), ("n", 0x80)])
def test_hash_fields_are_ethtool_s_letters(driver: Driver, letters: str, bits: int) -> None:
    ioctl.set_hash_fields(LINK, "lo", "udp4", letters)
    assert driver.hashes == {0x02: bits}
    assert ioctl.hash_fields(LINK, "lo", "udp4") == letters


@pytest.mark.parametrize(
    ("flow_type", "code"),
    [("tcp4", 1), ("udp4", 2), ("sctp4", 3), ("ah4", 4), ("tcp6", 5), ("udp6", 6), ("sctp6", 7), ("ah6", 8)],
)
def test_hash_types_have_the_numbers_of_the_kernel_s_header(driver: Driver, flow_type: str, code: int) -> None:
    driver.hashes = {code: 0x30}
    assert ioctl.hash_fields(LINK, "lo", flow_type) == "sd" and flow_type in HASH_TYPES


def test_every_hash_type_of_the_model_has_a_number() -> None:
    assert set(ioctl.HASH_CODES) == set(HASH_TYPES)


# --- rules ------------------------------------------------------------------------------------------------------------


def rule(port: int, action: int = 1, location: int | None = None) -> Rule:
    return parse_rule({"flow-type": "udp4", "dst-port": port, "action": action, "loc": location})


def held(driver: Driver) -> dict[int, str]:
    assert sorted(driver.rules) == [rule.location for rule in ioctl.rules(LINK, "lo")]
    return {rule.location or 0: f"{rule.flow} {rule.target}" for rule in ioctl.rules(LINK, "lo")}


def test_a_table_of_rules_that_is_empty(driver: Driver) -> None:
    driver.places = 8
    assert ioctl.rules(LINK, "lo") == ()


def test_a_rule_without_a_location_gets_the_last_free_one(driver: Driver) -> None:
    driver.places = 4
    for port in (10, 11):
        ioctl.insert_rule(LINK, "lo", rule(port))
    assert held(driver) == {3: "udp4 dst-port 10 queue 1", 2: "udp4 dst-port 11 queue 1"}
    ioctl.delete_rule(LINK, "lo", 3)
    assert held(driver) == {2: "udp4 dst-port 11 queue 1"}
    ioctl.insert_rule(LINK, "lo", rule(12, action=-1))
    assert held(driver) == {2: "udp4 dst-port 11 queue 1", 3: "udp4 dst-port 12 drop"}


def test_a_location_of_its_own_is_kept(driver: Driver) -> None:
    driver.places = 4
    ioctl.insert_rule(LINK, "lo", rule(10, location=0))
    assert held(driver) == {0: "udp4 dst-port 10 queue 1"}


def test_a_driver_that_chooses_locations_is_left_to_do_so(driver: Driver) -> None:
    driver.places, driver.special, driver.chosen = 4096, True, 77
    ioctl.insert_rule(LINK, "lo", rule(10))
    assert held(driver) == {77: "udp4 dst-port 10 queue 1"}
    ioctl.insert_rule(LINK, "lo", rule(11, location=5))
    assert set(held(driver)) == {5, 77}


def test_a_full_table_is_told_with_its_size(driver: Driver) -> None:
    driver.places = 2
    for port in (10, 11):
        ioctl.insert_rule(LINK, "lo", rule(port))
    with pytest.raises(OSError, match="all 2 places for steering rules are taken") as caught:
        ioctl.insert_rule(LINK, "lo", rule(12))
    assert caught.value.errno == errno.ENOSPC and len(driver.rules) == 2


def test_a_rule_that_is_not_there_cannot_be_deleted(driver: Driver) -> None:
    with pytest.raises(OSError) as caught:
        ioctl.delete_rule(LINK, "lo", 3)
    assert caught.value.errno == errno.ENOENT


def test_a_rule_that_goes_while_they_are_read_is_not_read_twice(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver.places = 4
    driver.rules = {place: packed(rule(10 + place), place) for place in (0, 1, 2)}

    def ask(link: Ioctl, interface: str, request: bytes) -> bytes:
        if struct.unpack_from("=I", request)[0] == GRXCLSRLALL:
            driver.rules.pop(2, None)
        return driver(interface, request)

    monkeypatch.setattr(Ioctl, "ask", ask)
    assert [found.location for found in ioctl.rules(LINK, "lo")] == [0, 1]


def test_no_driver_sees_a_request_that_is_too_short(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel copies a whole struct ethtool_rxnfc, and writes as many locations after it as it was told there is room for."""
    driver.places, driver.hashes = 4, {2: 0}
    asked: list[bytes] = []

    def ask(link: Ioctl, interface: str, request: bytes) -> bytes:
        asked.append(request)
        return driver(interface, request)

    monkeypatch.setattr(Ioctl, "ask", ask)
    ioctl.insert_rule(LINK, "lo", rule(10, location=3))
    assert ioctl.hash_fields(LINK, "lo", "udp4") == "" and len(ioctl.rules(LINK, "lo")) == 1
    ioctl.delete_rule(LINK, "lo", 3)
    assert all(len(request) >= 192 + 4 * struct.unpack_from("=I", request, RULE_COUNT)[0] for request in asked)
    assert struct.unpack_from("=I", asked[-1], LOCATION)[0] == 3
    assert {struct.unpack_from("=I", request)[0] for request in asked} >= {GRXCLSRLCNT, GRXCLSRLALL}
