# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NIC features: what a name stands for, what is refused, and what is said of a driver that has no such feature."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.nic import (
    EthtoolState,
    Feature,
    NicState,
    bits_of,
    identity,
    plan,
    problems,
    wanted_features,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import (
    DRIFTED,
    OK,
    UNSUPPORTED,
    Setting,
    SpecError,
    judged_live,
)

ON, OFF = Feature(active=True, fixed=False), Feature(active=False, fixed=False)
FIXED_ON, FIXED_OFF = Feature(active=True, fixed=True), Feature(active=False, fixed=True)
TSO = ("tx-tcp-segmentation", "tx-tcp-ecn-segmentation", "tx-tcp-mangleid-segmentation", "tx-tcp6-segmentation", "tx-tcp-accecn-segmentation")


def nic(features: dict[str, Feature] | None, interface: str = "eth0", **more: Any) -> EthtoolState:
    return EthtoolState((NicState(interface, "igb", features, **more),))


def one(features: dict[str, Feature] | None, name: str, value: object) -> Setting:
    settings = plan(nic(features), {"nics": [{"interface": "eth0"}], "features": {name: value}}).settings
    assert len(settings) == 1
    assert (settings[0].control, settings[0].name) == (f"net.offload.{name}", f"eth0.{name}")
    return judged_live(settings[0], "")


def refusal(state: EthtoolState, spec: dict[str, Any]) -> str:
    with pytest.raises(SpecError) as caught:
        plan(state, spec)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("gro", {"rx-gro"}),
        ("rx-gro", {"rx-gro"}),
        ("rx-gro-hw", {"rx-gro-hw"}),
        ("gso", {"tx-generic-segmentation"}),
        ("lro", {"rx-lro"}),
        ("tso", set(TSO)),
        ("tx", {"tx-checksum-ipv4", "tx-checksum-ip-generic", "tx-checksum-ipv6"}),
        ("ntuple", {"rx-ntuple-filter"}),
        ("rxhash", {"rx-hashing"}),
        ("rx", {"rx-checksum"}),
        ("tx-udp-segmentation", {"tx-udp-segmentation"}),
        ("unheard-of", set()),
    ],
)
def test_what_a_name_stands_for(name: str, bits: set[str]) -> None:
    kernel = [*TSO, "rx-gro", "rx-gro-hw", "rx-gro-list", "tx-generic-segmentation", "rx-lro", "tx-checksum-ipv4", "tx-checksum-ip-generic",
              "tx-checksum-ipv6", "rx-ntuple-filter", "rx-hashing", "rx-checksum", "tx-udp-segmentation"]
    assert set(bits_of(name, dict.fromkeys(kernel, ON))) == bits


@pytest.mark.parametrize("left", TSO)
def test_tso_is_on_as_long_as_any_of_its_bits_is(left: str) -> None:
    setting = one({**dict.fromkeys(TSO, OFF), left: ON}, "tso", "off")
    assert (setting.state, setting.current) == (DRIFTED, "on")


def test_tso_is_off_when_all_of_its_bits_are() -> None:
    assert one(dict.fromkeys(TSO, OFF), "tso", "off").state == OK


def test_a_fixed_bit_beside_movable_ones_does_not_stand_in_the_way() -> None:
    bits = {"tx-tcp-segmentation": ON, "tx-tcp6-segmentation": FIXED_OFF}
    assert one(bits, "tso", "off").state == DRIFTED
    assert one(bits, "tso", "on").state == OK


def test_fixed_and_right_is_right_also_after_boot() -> None:
    setting = one({"rx-lro": FIXED_OFF}, "lro", "off")
    assert (setting.state, setting.current, setting.persisted) == (OK, "off", "off")
    assert setting.reason == "fixed by the driver"


def test_fixed_and_wrong_is_unsupported_and_says_by_whom() -> None:
    setting = one({"rx-lro": FIXED_OFF}, "lro", "on")
    assert (setting.state, setting.current, setting.desired) == (UNSUPPORTED, "off", "on")
    assert setting.reason == "fixed off by driver igb"


def test_an_absent_feature_is_unsupported() -> None:
    setting = one({"rx-gro": ON}, "rx-gro-hw", "off")
    assert setting.state == UNSUPPORTED and "igb has no such feature" in setting.reason


def test_a_driver_without_feature_requests_is_unsupported() -> None:
    setting = one(None, "gro", "off")
    assert setting.state == UNSUPPORTED and "answers no feature requests" in setting.reason


def test_a_nic_that_could_not_be_read_is_refused() -> None:
    state = EthtoolState((NicState("eth9", unreadable="no such interface on this host; there are: eth0"),))
    message = refusal(state, {"nics": [{"interface": "eth9"}], "features": {"gro": "off"}})
    assert "eth9" in message and "there are: eth0" in message


def test_one_nic_by_two_names_is_refused() -> None:
    state = EthtoolState((NicState("eth0", features={"rx-gro": ON}), NicState("eth0", features={"rx-gro": ON})))
    message = refusal(state, {"nics": [{"interface": "eth0"}, {"pci": "0000:01:00.0"}], "features": {"gro": "off"}})
    assert "0000:01:00.0" in message and "eth0" in message and "leave one of the two entries out" in message


def test_one_nic_named_twice_is_refused_on_any_host() -> None:
    assert "named twice" in problems({"nics": [{"interface": "eth0"}, {"interface": "eth0"}]})[0]


def test_a_nic_without_a_name_is_refused() -> None:
    assert "give interface, pci or mac" in problems({"nics": [{"features": {}}]})[0]


def test_the_management_nic_is_guarded_unless_its_entry_says_so() -> None:
    state = nic({"rx-gro": ON}, guard="eth0 carries the default route")
    message = refusal(state, {"nics": [{"interface": "eth0"}], "features": {"gro": "off"}})
    assert "carries the default route" in message and "management: true" in message
    assert "management: true" in refusal(state, {"nics": [{"interface": "eth0", "management": False}], "features": {"gro": "off"}})
    allowed = plan(state, {"nics": [{"interface": "eth0", "management": True}], "features": {"gro": "off"}})
    assert [setting.desired for setting in allowed.settings] == ["off"]


def test_all_nics_that_are_wrong_are_told_at_once() -> None:
    state = EthtoolState((NicState("eth8", unreadable="gone"), NicState("eth0", features={}, guard="eth0 carries the default route")))
    message = refusal(state, {"nics": [{"interface": "eth8"}, {"interface": "eth0"}], "features": {"gro": "off"}})
    assert "eth8" in message and "eth0" in message


def test_what_one_nic_wants_is_over_what_all_want() -> None:
    spec = {"features": {"gro": "off", "lro": "off"}, "nics": [{"interface": "eth0", "features": {"gro": "on"}}, {"interface": "eth1"}]}
    assert wanted_features(spec, spec["nics"][0]) == {"gro": True, "lro": False}
    assert wanted_features(spec, spec["nics"][1]) == {"gro": False, "lro": False}
    bits = {"rx-gro": OFF, "rx-lro": OFF}
    settings = plan(EthtoolState((NicState("eth0", features=bits), NicState("eth1", features=bits))), spec).settings
    assert [(setting.name, setting.desired) for setting in settings] == [("eth0.gro", "on"), ("eth0.lro", "off"), ("eth1.gro", "off"), ("eth1.lro", "off")]


@pytest.mark.parametrize(("value", "on"), [("on", True), ("off", False), (True, True), (False, False)])
def test_yaml_s_on_and_off_are_what_they_say(value: object, on: bool) -> None:
    spec = {"features": {"gro": value}, "nics": [{"interface": "eth0"}]}
    assert problems(spec) == []
    assert wanted_features(spec, spec["nics"][0]) == {"gro": on}


@pytest.mark.parametrize("value", [0, 1, "yes", "no", "ON", "true", "", None, 1.0, ["on"]])
@pytest.mark.parametrize("where", ["all", "one"])
def test_anything_else_is_neither_on_nor_off(value: object, where: str) -> None:
    spec: dict[str, Any] = {"nics": [{"interface": "eth0"}]}
    (spec if where == "all" else spec["nics"][0])["features"] = {"gro": value}
    found = problems(spec)
    assert len(found) == 1
    assert "gro" in found[0] and "neither on nor off" in found[0] and ("eth0" in found[0] or where == "all")


@pytest.mark.parametrize(("entry", "name"), [({"interface": "eth0", "pci": "x"}, "eth0"), ({"pci": "x"}, "x"), ({"mac": "y"}, "y"), ({}, "")])
def test_how_a_nic_is_named(entry: dict[str, str], name: str) -> None:
    assert identity(entry) == name


def test_an_interface_name_with_a_dot_keeps_its_feature_apart() -> None:
    settings = plan(nic({"rx-gro": ON}, interface="eth0.7"), {"nics": [{"interface": "eth0.7"}], "features": {"gro": "off"}}).settings
    interface, _dot, feature = settings[0].name.rpartition(".")
    assert (interface, feature) == ("eth0.7", "gro")
