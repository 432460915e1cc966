# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wanted of NICs: what a name stands for, what each NIC gets, what is an error of one alone, and what a driver has not."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.nic import (
    FEATURES,
    MAPPINGS,
    NAPI,
    RPS,
    RSS,
    RULES,
    EthtoolState,
    Feature,
    NicState,
    bits_of,
    group_of,
    identity,
    is_required,
    parameter_of,
    plan,
    problems,
    queue_counts,
    wanted_of,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.nic_parameters import (
    CHANNELS,
    COALESCE,
    EEE,
    PAUSE,
    PRIVATE_FLAGS,
    RINGS,
    Parameter,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import (
    DRIFTED,
    ERROR,
    OK,
    UNSUPPORTED,
    Setting,
    judged_live,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.steering import parse_rule

ON, OFF = Feature(active=True, fixed=False), Feature(active=False, fixed=False)
FIXED_ON, FIXED_OFF = Feature(active=True, fixed=True), Feature(active=False, fixed=True)
TSO = ("tx-tcp-segmentation", "tx-tcp-ecn-segmentation", "tx-tcp-mangleid-segmentation", "tx-tcp6-segmentation", "tx-tcp-accecn-segmentation")
HELD = {CHANNELS: {"combined": Parameter(8, 64)}, RINGS: {"rx": Parameter(512, 4096), "tx": Parameter(512, 4096)},
        COALESCE: {"adaptive-rx": Parameter(1), "rx-usecs": Parameter(3)}, PAUSE: {"autoneg": Parameter(1), "rx": Parameter(1), "tx": Parameter(0)},
        PRIVATE_FLAGS: {"legacy-rx": Parameter(1)}}
MISSING = {EEE: "driver igb has no eee to set (Operation not supported)"}
QUEUES = {(f"rx-{queue}", file): value for queue in range(8) for file, value in (("rps_cpus", "0-7"), ("rps_flow_cnt", "0"))}


def nic(features: dict[str, Feature] | None, interface: str = "eth0", **more: Any) -> EthtoolState:
    return EthtoolState((NicState(interface, "igb", features, **more),))


def whole(interface: str = "eth0", **more: Any) -> NicState:
    """A NIC that has nearly everything."""
    said = {"features": {"rx-gro": ON, "rx-lro": FIXED_OFF}, "parameters": HELD, "missing": MISSING, "queues": QUEUES, "napi": {"threaded": "0"},
            "version": "5.19", "firmware": "1.63", **more}
    return NicState(interface, "igb", **said)


def one(features: dict[str, Feature] | None, name: str, value: object) -> Setting:
    settings = plan(nic(features), {"nics": [{"interface": "eth0"}], "features": {name: value}}).settings
    assert len(settings) == 1
    assert (settings[0].control, settings[0].name) == (f"net.offload.{name}", f"eth0.{name}")
    return judged_live(settings[0], "")


def planned(state: NicState | None = None, spec: dict[str, Any] | None = None, **entry: Any) -> list[Setting]:
    wanted = {**(spec or {}), "nics": [{"interface": "eth0", **entry}]}
    return [judged_live(setting, "") for setting in plan(EthtoolState((state or whole(),)), wanted).settings]


def told(settings: list[Setting]) -> list[tuple[str, str, str | None, str | None, str]]:
    return [(setting.control, setting.name, setting.current, setting.desired, setting.state) for setting in settings]


def errors(state: EthtoolState, spec: dict[str, Any]) -> dict[str, str]:
    """The NICs that cannot be served and why; each is one error and nothing else of it is planned."""
    settings = plan(state, spec).settings
    found = {setting.name: setting.reason for setting in settings if setting.state == ERROR}
    assert all(setting.control == "nic" for setting in settings if setting.state == ERROR)
    wrong = [nic.interface for nic, entry in zip(state.nics, spec["nics"]) if identity(entry) in found]
    assert not [setting for setting in settings if setting.control != "nic" and setting.name.partition(".")[0] in wrong]
    return found


# --- features ---------------------------------------------------------------------------------------------------------


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


# --- NICs that cannot be served: an error of each alone, no refusal of all --------------------------------------------


def test_a_nic_that_could_not_be_read_is_an_error() -> None:
    state = EthtoolState((NicState("eth9", unreadable="no such interface on this host; there are: eth0"), NicState("eth0", "igb", {"rx-gro": ON})))
    spec = {"nics": [{"interface": "eth9"}, {"interface": "eth0"}], "features": {"gro": "off"}}
    assert errors(state, spec) == {"eth9": "no such interface on this host; there are: eth0"}
    assert [setting.name for setting in plan(state, spec).settings] == ["eth9", "eth0.gro"], "the other one is planned"


def test_one_nic_by_two_names_is_an_error_of_both() -> None:
    state = EthtoolState((NicState("eth0", features={"rx-gro": ON}), NicState("eth0", features={"rx-gro": ON}), NicState("eth1", features={"rx-gro": ON})))
    spec = {"nics": [{"interface": "eth0"}, {"pci": "0000:01:00.0"}, {"interface": "eth1"}], "features": {"gro": "off"}}
    assert errors(state, spec) == {"eth0": "is the same NIC as 0000:01:00.0 (eth0); leave one of the two entries out",
                                   "0000:01:00.0": "is the same NIC as eth0 (eth0); leave one of the two entries out"}
    assert [setting.name for setting in plan(state, spec).settings if setting.state != ERROR] == ["eth1.gro"]


def test_one_nic_named_twice_is_an_error_of_both() -> None:
    state = EthtoolState((NicState("eth0", features={"rx-gro": ON}), NicState("eth0", features={"rx-gro": ON})))
    spec = {"nics": [{"interface": "eth0"}, {"interface": "eth0"}], "features": {"gro": "off"}}
    assert [(setting.key, setting.state, setting.reason) for setting in plan(state, spec).settings] == [
        (("nic", "eth0"), ERROR, "is the same NIC as eth0 (eth0); leave one of the two entries out")] * 2


def test_a_nic_without_a_name_is_refused() -> None:
    assert "give interface, pci or mac" in problems({"nics": [{"features": {}}]})[0]


def test_the_management_nic_is_guarded_unless_its_entry_says_so() -> None:
    state = nic({"rx-gro": ON}, guard="eth0 carries the default route")
    message = errors(state, {"nics": [{"interface": "eth0"}], "features": {"gro": "off"}})["eth0"]
    assert "carries the default route" in message and "management: true" in message
    assert "management: true" in errors(state, {"nics": [{"interface": "eth0", "management": False}], "features": {"gro": "off"}})["eth0"]
    allowed = plan(state, {"nics": [{"interface": "eth0", "management": True}], "features": {"gro": "off"}})
    assert [setting.desired for setting in allowed.settings] == ["off"]


def test_all_nics_that_are_wrong_are_told_at_once() -> None:
    state = EthtoolState((NicState("eth8", unreadable="gone"), NicState("eth0", features={}, guard="eth0 carries the default route")))
    assert set(errors(state, {"nics": [{"interface": "eth8"}, {"interface": "eth0"}], "features": {"gro": "off"}})) == {"eth8", "eth0"}


def test_all_that_is_wrong_with_one_nic_is_told_at_once() -> None:
    state = EthtoolState((whole(guard="eth0 carries the default route"),))
    message = errors(state, {"nics": [{"interface": "eth0", "coalesce": {"rx_usecs": 5}, "features": {"gro": 7}}]})["eth0"]
    assert "carries the default route" in message and "write rx-usecs" in message and "gro: 7 is neither on nor off" in message


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"coalesce": {"rx_usecs": 0}}, "coalesce: no parameter 'rx_usecs'; write rx-usecs"),
        ({"coalesce": {"rx-usecs": 0, "rx-frames": 0}}, "(R13)"),
        ({"rings": {"rx": 8192}}, "rings: rx 8192 is more than the 4096 this NIC can have"),
        ({"channels": {"combined": 0}}, "without queues"),
        ({"channels": {"combined": 65}}, "combined 65 is more than the 64"),
        ({"channels": {"queues": 4, "combined": 4}}, "give it alone"),
        ({"pause": {"rx": 0}}, "neither on nor off"),
        ({"rps": {"rps_cpus": "7-1"}}, "rps: rps_cpus: "),
        ({"rps": {"xps_cpus": "1"}}, "rps: no parameter 'xps_cpus'; there are: rps_cpus, rps_flow_cnt"),
        ({"napi": {"threaded": "yes"}}, "napi: threaded: 'yes' is neither on nor off"),
        ({"napi": {"gro_flush_timeout": -1}}, "napi: gro_flush_timeout: -1 is not a number"),
        ({"rss": {"equal": 9}}, "rss: 9 queues, but the NIC has 8"),
        ({"rss": {"equal": 2, "weight": [1]}}, "exclude each other"),
        ({"rules": [{"flow-type": "udp4", "dst-port": 1, "action": 8}]}, "rules: udp4 dst-port 1: no such queue; there are 8, numbered from 0"),
        ({"rules": [{"flow-type": "udp4", "action": 1}]}, "would match every packet"),
        ({"rules": [{"flow-type": "udp4", "dst-port": 1, "action": 1}] * 2}, "two rules for the same packets"),
        ({"irq_cpus": "5-", "channels": {"queues": "irq-cpus"}}, "irq_cpus: "),
    ],
)
def test_what_is_wrong_with_one_nic_stops_no_other(entry: dict[str, Any], words: str) -> None:
    state = EthtoolState((whole(table=(0, 1), rules=()), whole("eth1")))
    spec = {"nics": [{"interface": "eth0", **entry}, {"interface": "eth1"}], "features": {"gro": "off"}, "rings": {"tx": "max"}}
    assert words in errors(state, spec)["eth0"]
    assert [setting.name for setting in plan(state, spec).settings] == ["eth0", "eth1.ring-tx", "eth1.gro"]


def test_what_would_never_raise_an_interrupt_is_found_where_profile_and_nic_say_half_of_it_each() -> None:
    spec = {"coalesce": {"rx-usecs": 0, "rx-frames": 1}, "nics": [{"interface": "eth0", "coalesce": {"rx-frames": 0}}]}
    assert problems(spec) == []
    assert "(R13)" in errors(EthtoolState((whole(),)), spec)["eth0"]


# --- what is wrong on any host ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"coalesce": {"rx_usecs": 0}}, "coalesce: no parameter 'rx_usecs'; write rx-usecs"),
        ({"coalesce": {"rx-usecs": 0, "rx-frames": 0}}, "(R13)"),
        ({"channels": {"combined": 0}}, "give 1 at least"),
        ({"rings": {"rx": "big"}}, "'big' is not a number"),
        ({"private_flags": {"legacy-rx": 1}}, "private_flags: legacy-rx: 1 is neither on nor off"),
        ({"rss": {"equal": 0}}, "rss: equal 0"),
        ({"rps": {"rps_flow_cnt": "many"}}, "rps: rps_flow_cnt: 'many' is not a number"),
        ({"napi": {"busy": 1}}, "napi: no parameter 'busy'; there are: napi_defer_hard_irqs, gro_flush_timeout, threaded"),
        ({"required": ["rx-usecs"]}, "required: 'rx-usecs' is not group.parameter, such as coalesce.rx-usecs or features.gro"),
        ({"required": ["coalesce.rx_usecs"]}, "required: coalesce: no parameter 'rx_usecs'; write rx-usecs"),
        ({"required": ["rings.combined"]}, "required: rings: no parameter 'combined'"),
    ],
)
def test_what_is_wrong_of_all_nics_is_refused_before_any_is_read(spec: dict[str, Any], words: str) -> None:
    [problem] = problems({"nics": [{"interface": "eth0"}], **spec})
    assert words in problem


@pytest.mark.parametrize(
    "name", ["coalesce.rx-usecs", "coalesce", "features.gro", "private_flags.anything", "channels.queues", "rules", "rss", "rps.rps_cpus"])
def test_what_may_be_required(name: str) -> None:
    assert problems({"required": [name], "nics": []}) == []


def test_nothing_wanted_is_right() -> None:
    assert problems({}) == [] == problems({"nics": None, "required": None, **dict.fromkeys(MAPPINGS)})
    assert planned() == []


@pytest.mark.parametrize("value", [0, 1, "yes", "no", "ON", "true", "", None, 1.0, ["on"]])
def test_a_feature_is_either_on_or_off(value: object) -> None:
    [problem] = problems({"nics": [{"interface": "eth0"}], "features": {"gro": value}})
    assert "feature gro" in problem and "neither on nor off" in problem
    [setting] = planned(features={"gro": value})
    assert (setting.control, setting.name, setting.state) == ("nic", "eth0", ERROR) and problem in setting.reason


@pytest.mark.parametrize(("value", "desired"), [("on", "on"), ("off", "off"), (True, "on"), (False, "off")])
def test_yaml_s_on_and_off_are_what_they_say(value: object, desired: str) -> None:
    assert problems({"features": {"gro": value}, "nics": [{"interface": "eth0"}]}) == []
    assert [setting.desired for setting in planned(features={"gro": value})] == [desired]


# --- what each NIC gets -----------------------------------------------------------------------------------------------


def test_what_one_nic_wants_is_over_what_all_want() -> None:
    spec: dict[str, Any] = {"features": {"gro": "off", "lro": "off"}, "nics": [{"interface": "eth0", "features": {"gro": "on"}}, {"interface": "eth1"}]}
    assert wanted_of(spec, spec["nics"][0]).mappings[FEATURES] == {"gro": "on", "lro": "off"}
    assert wanted_of(spec, spec["nics"][1]).mappings[FEATURES] == {"gro": "off", "lro": "off"}
    bits = {"rx-gro": OFF, "rx-lro": OFF}
    settings = plan(EthtoolState((NicState("eth0", features=bits), NicState("eth1", features=bits))), spec).settings
    assert [(setting.name, setting.desired) for setting in settings] == [("eth0.gro", "on"), ("eth0.lro", "off"), ("eth1.gro", "off"), ("eth1.lro", "off")]


@pytest.mark.parametrize("group", MAPPINGS)
def test_in_every_group_a_nic_s_own_word_counts(group: str) -> None:
    spec: dict[str, Any] = {group: {"a": 1, "b": 2}, "nics": [{"interface": "eth0", group: {"b": 3}}, {"interface": "eth1"}]}
    # channels are one decision: a NIC's own replace those of the profile as a whole
    assert wanted_of(spec, spec["nics"][0]).mappings[group] == ({"b": 3} if group == CHANNELS else {"a": 1, "b": 3})
    assert wanted_of(spec, spec["nics"][1]).mappings[group] == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("common", "own", "count"),
    [({"queues": "irq-cpus"}, {"combined": 2}, "2"), ({"combined": 4}, {"queues": 3}, "3"), ({"queues": 4}, {"queues": 5}, "5"),
     ({"queues": "irq-cpus"}, {}, "6"), ({"combined": 4}, {}, "4"), ({"combined": 4, "other": 1}, {"combined": 3}, "3")],
)
def test_a_nic_s_own_channels_are_over_the_queues_of_the_profile(common: dict[str, Any], own: dict[str, Any], count: str) -> None:
    assert told(planned(spec={"channels": common}, channels=own, irq_cpus="0-5")) == [
        ("net.channels", "eth0.channels-combined", "8", count, DRIFTED)]


@pytest.mark.parametrize(
    ("own", "wanted"),
    [({"weight": [1, 1]}, {"weight": [1, 1], "hash": {"udp4": "sd"}}), ({"equal": 3}, {"equal": 3, "hash": {"udp4": "sd"}}),
     ({"hash": {"tcp4": "sdfn"}}, {"equal": 2, "hash": {"tcp4": "sdfn"}}), ({}, {"equal": 2, "hash": {"udp4": "sd"}})],
)
def test_a_nic_s_own_table_is_over_the_one_of_the_profile(own: dict[str, Any], wanted: dict[str, Any]) -> None:
    spec: dict[str, Any] = {"rss": {"equal": 2, "hash": {"udp4": "sd"}}, "nics": [{"interface": "eth0", "rss": own}]}
    assert wanted_of(spec, spec["nics"][0]).mappings[RSS] == wanted


def test_what_the_attempt_to_write_showed_to_be_unsupported_is_known_from_then_on() -> None:
    state = whole(refused={"eth0.rx-usecs": "driver igb refuses it", "eth0.gro": "no", "eth0.ring-rx": "no"})
    settings = planned(state, coalesce={"rx-usecs": 0, "adaptive-rx": "off"}, rings={"rx": 512})
    assert [(setting.name, setting.state) for setting in settings] == [
        ("eth0.ring-rx", OK), ("eth0.adaptive-rx", DRIFTED), ("eth0.rx-usecs", UNSUPPORTED)], "what is right is right"
    assert (settings[2].reason, settings[2].current, settings[2].desired) == ("driver igb refuses it", "3", "0")
    required = planned(state, {"required": ["coalesce.rx-usecs"]}, coalesce={"rx-usecs": 0})
    assert [(setting.name, setting.state) for setting in required] == [("eth0.rx-usecs", ERROR)]


def test_the_same_word_of_two_kinds_makes_two_names() -> None:
    names = [setting.name for setting in planned(rings={"rx": 1}, pause={"rx": "off"}, features={"rx": "on"}, channels={"rx": 1})]
    assert len(names) == len(set(names)) == 4


def test_all_of_one_nic_in_the_order_of_writing() -> None:
    state = whole(table=(0, 0, 0, 0), hashes={"udp4": "sd"}, rules=(parse_rule({"flow-type": "udp4", "dst-port": 9, "action": 1}),),
                  queues={key: value for key, value in QUEUES.items() if key[0] in ("rx-0", "rx-1")})
    settings = planned(state, {
        "private_flags": {"legacy-rx": "off"}, "channels": {"combined": 2}, "rings": {"tx": "max", "rx": 512},
        "coalesce": {"rx-usecs": 0, "adaptive-rx": "off"}, "pause": {"tx": "off", "rx": "off"}, "eee": {"enabled": "off"},
        "features": {"gro": "off"}, "rss": {"equal": 2, "hash": {"udp4": "sdfn"}}, "rps": {"rps_flow_cnt": 0, "rps_cpus": ""}, "napi": {"threaded": "on"},
    }, rules=[{"flow-type": "udp4", "dst-port": 9, "action": 0}], only_these_rules=True)
    assert told(settings) == [
        ("net.private_flag", "eth0.flag-legacy-rx", "on", "off", DRIFTED),
        ("net.channels", "eth0.channels-combined", "8", "2", DRIFTED),
        ("net.ring.rx_tx", "eth0.ring-rx", "512", "512", OK),
        ("net.ring.rx_tx", "eth0.ring-tx", "512", "4096", DRIFTED),
        ("net.coalesce.adaptive", "eth0.adaptive-rx", "on", "off", DRIFTED),
        ("net.coalesce.rx_usecs", "eth0.rx-usecs", "3", "0", DRIFTED),
        ("net.pause", "eth0.pause-rx", "on", "off", DRIFTED),
        ("net.pause", "eth0.pause-tx", "off", "off", OK),
        ("net.eee", "eth0.eee-enabled", None, "off", UNSUPPORTED),
        ("net.offload.gro", "eth0.gro", "on", "off", DRIFTED),
        ("net.rss", "eth0.indirection", "equal 1", "equal 2", DRIFTED),
        ("net.rss", "eth0.hash-udp4", "sd", "sdfn", DRIFTED),
        ("net.flow.ntuple", "eth0.udp4 dst-port 9", "queue 1", "queue 0", DRIFTED),
        ("net.rps_xps", "eth0.rx-0.rps_cpus", "0-7", "", DRIFTED),
        ("net.rps_xps", "eth0.rx-1.rps_cpus", "0-7", "", DRIFTED),
        ("net.rps_xps", "eth0.rx-0.rps_flow_cnt", "0", "0", OK),
        ("net.rps_xps", "eth0.rx-1.rps_flow_cnt", "0", "0", OK),
        ("net.napi.threaded", "eth0.threaded", "0", "1", DRIFTED),
    ]


def test_channels_that_follow_cpus_that_are_not_planned_stay_as_they_are() -> None:
    settings = planned(channels={"queues": "irq-cpus"}, rss={"equal": "channels"})
    assert told(settings)[0] == ("net.channels", "eth0.channels-queues", None, "irq-cpus", UNSUPPORTED)
    assert "no CPUs are planned for its interrupts" in settings[0].reason


def test_what_the_driver_has_not_is_unsupported_and_says_what_was_wanted() -> None:
    settings = planned(rings={"rx-jumbo": "max"}, coalesce={"rx-frames": 1}, eee={"enabled": "off"}, private_flags={"no-such": "on"})
    assert told(settings) == [
        ("net.private_flag", "eth0.flag-no-such", None, "on", UNSUPPORTED),
        ("net.ring.rx_tx", "eth0.ring-rx-jumbo", None, "max", UNSUPPORTED),
        ("net.coalesce.rx_frames", "eth0.rx-frames", None, "1", UNSUPPORTED),
        ("net.eee", "eth0.eee-enabled", None, "off", UNSUPPORTED),
    ]
    assert settings[2].reason == "driver igb has no rx-frames" and settings[3].reason == MISSING[EEE]
    assert told(planned(whole(parameters={}), channels={"queues": "max"})) == [("net.channels", "eth0.channels-combined", None, "max", UNSUPPORTED)]


def test_frames_zero_of_a_driver_that_has_frames_is_right() -> None:
    """Which the ioctl could not tell from a driver that has none."""
    state = whole(parameters={COALESCE: {"rx-frames": Parameter(0)}})
    assert told(planned(state, coalesce={"rx-frames": 0})) == [("net.coalesce.rx_frames", "eth0.rx-frames", "0", "0", OK)]


# --- RSS, rules -------------------------------------------------------------------------------------------------------


def test_the_table_is_for_the_channels_that_there_will_be() -> None:
    state = whole(table=(0, 1, 2, 3, 4, 5, 6, 7))
    assert told(planned(state, channels={"combined": 2}, rss={"equal": "channels"}))[1] == (
        "net.rss", "eth0.indirection", "equal 8", "equal 2", DRIFTED)
    [error] = planned(state, channels={"combined": 2}, rss={"equal": 4})
    assert error.state == ERROR and error.reason == "rss: 4 queues, but the NIC has 2"
    alone = whole(table=(0, 1, 2, 1), parameters={})
    assert told(planned(alone, rss={"equal": "channels"})) == [("net.rss", "eth0.indirection", "0*1 1*1 2*1 1*1", "equal 3", DRIFTED)]


def test_a_table_with_the_right_shares_in_another_order_has_drifted() -> None:
    assert [setting.state for setting in planned(whole(table=(0, 0, 1, 1)), rss={"equal": 2})] == [DRIFTED]
    assert [setting.state for setting in planned(whole(table=(0, 1, 0, 1)), rss={"equal": 2})] == [OK]


def test_a_driver_without_rss_is_unsupported() -> None:
    settings = planned(rss={"equal": 2, "hash": {"udp4": "nfsd"}})
    assert told(settings) == [("net.rss", "eth0.indirection", None, "table", UNSUPPORTED), ("net.rss", "eth0.hash-udp4", None, "sdfn", UNSUPPORTED)]
    assert "no RSS indirection table" in settings[0].reason and "no hash fields of udp4" in settings[1].reason


RULES_WANTED = [{"flow-type": "udp4", "dst-port": 1, "action": 0}, {"flow-type": "udp4", "dst-port": 2, "action": -1}]


def test_rules_that_are_there_missing_wrong_and_foreign() -> None:
    held = tuple(parse_rule({"flow-type": "udp4", "dst-port": port, "action": action, "loc": port}) for port, action in ((1, 0), (3, 5)))
    assert told(planned(whole(rules=held), rules=RULES_WANTED)) == [
        ("net.flow.ntuple", "eth0.udp4 dst-port 1", "queue 0", "queue 0", OK), ("net.flow.ntuple", "eth0.udp4 dst-port 2", None, "drop", DRIFTED)]
    only = planned(whole(rules=held), rules=RULES_WANTED[:1], only_these_rules=True)
    assert told(only)[1:] == [("net.flow.ntuple", "eth0.udp4 dst-port 3", "queue 5", None, DRIFTED)], "the foreign one is to go"
    assert [setting.state for setting in planned(whole(rules=held), only_these_rules=True)] == [DRIFTED, DRIFTED]


def test_rules_of_a_driver_that_takes_none_are_unsupported() -> None:
    settings = planned(rules=RULES_WANTED, only_these_rules=True)
    assert [(setting.state, setting.reason) for setting in settings] == [(UNSUPPORTED, "driver igb takes no steering rules")] * 2


def test_a_rule_to_a_queue_that_will_be_gone_is_an_error() -> None:
    [error] = planned(whole(rules=()), channels={"combined": 2}, rules=[{"flow-type": "udp4", "dst-port": 1, "action": 2}])
    assert error.reason == "rules: udp4 dst-port 1: no such queue; there are 2, numbered from 0"
    assert [setting.state for setting in planned(whole(rules=(), parameters={}), rules=[{"flow-type": "udp4", "dst-port": 1, "action": 2}])] == [DRIFTED]


# --- queues and NAPI --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "numbers", "counts"),
    [({"combined": Parameter(8)}, {}, {"rx": 8, "tx": 8}), ({"combined": Parameter(8)}, {"combined": 2}, {"rx": 2, "tx": 2}),
     ({"rx": Parameter(3), "tx": Parameter(2)}, {"rx": 1}, {"rx": 1, "tx": 2}),
     ({"combined": Parameter(2), "rx": Parameter(1), "tx": Parameter(0), "other": Parameter(1)}, {}, {"rx": 3, "tx": 2}), ({}, {"combined": 4}, None)],
)
def test_how_many_queues_there_will_be(held: dict[str, Parameter], numbers: dict[str, int], counts: dict[str, int] | None) -> None:
    assert queue_counts(held, numbers) == counts


def test_rps_is_for_the_queues_that_there_will_be_and_a_later_one_is_not_read_yet() -> None:
    state = whole(queues={("rx-0", "rps_cpus"): "", ("rx-1", "rps_cpus"): "3"})
    settings = planned(state, channels={"combined": 3}, rps={"rps_cpus": ""})
    assert told(settings)[1:] == [("net.rps_xps", f"eth0.rx-{queue}.rps_cpus", current, "", state)
                                  for queue, current, state in ((0, "", OK), (1, "3", DRIFTED), (2, None, DRIFTED))]


def test_queues_of_a_driver_that_counts_none_are_those_seen_in_their_order() -> None:
    state = whole(parameters={}, queues={(f"rx-{queue}", "rps_cpus"): "" for queue in (0, 10, 2)})
    assert [setting.name for setting in planned(state, rps={"rps_cpus": "1"})] == ["eth0.rx-0.rps_cpus", "eth0.rx-2.rps_cpus", "eth0.rx-10.rps_cpus"]


@pytest.mark.parametrize(("value", "desired"), [("0-1,4", "0-1,4"), ("4,0,1", "0-1,4"), ("", ""), ("3", "3")])
def test_cpus_have_one_form(value: str, desired: str) -> None:
    assert {setting.desired for setting in planned(rps={"rps_cpus": value})} == {desired}


def test_a_kernel_without_rps_is_unsupported() -> None:
    settings = planned(whole(queues={}, parameters={CHANNELS: {"combined": Parameter(2, 2)}}), rps={"rps_cpus": "", "rps_flow_cnt": 0})
    assert [(setting.name, setting.state) for setting in settings] == [
        (f"eth0.rx-{queue}.{file}", UNSUPPORTED) for file in ("rps_cpus", "rps_flow_cnt") for queue in (0, 1)]
    assert {setting.reason for setting in settings} == {"this kernel has no such file"}


@pytest.mark.parametrize(("value", "desired"), [("on", "1"), ("off", "0"), (True, "1"), (False, "0"), (1, "1"), ("0", "0")])
def test_a_thread_for_napi_is_on_or_off(value: object, desired: str) -> None:
    assert [setting.desired for setting in planned(napi={"threaded": value})] == [desired]


def test_napi_files_of_an_older_kernel_are_unsupported() -> None:
    state = whole(napi={"gro_flush_timeout": "20000"})
    settings = planned(state, napi={"threaded": "off", "napi_defer_hard_irqs": 0, "gro_flush_timeout": "0"})
    assert told(settings) == [
        ("net.napi.defer", "eth0.gro_flush_timeout", "20000", "0", DRIFTED),
        ("net.napi.defer", "eth0.napi_defer_hard_irqs", None, "0", UNSUPPORTED),
        ("net.napi.threaded", "eth0.threaded", None, "0", UNSUPPORTED),
    ]


# --- what is required -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("required", "entry", "subject"),
    [
        ("coalesce.rx-frames", {"coalesce": {"rx-frames": 1, "rx-usecs": 0}}, "rx-frames"),
        ("coalesce", {"coalesce": {"rx-frames": 1, "rx-usecs": 0}}, "rx-frames"),
        ("eee.enabled", {"eee": {"enabled": "off"}}, "eee-enabled"),
        ("features.rx-gro-hw", {"features": {"rx-gro-hw": "off", "gro": "off"}}, "rx-gro-hw"),
        ("rules", {"rules": RULES_WANTED[:1]}, "udp4 dst-port 1"),
        ("rss", {"rss": {"equal": 2}}, "indirection"),
        ("rps.rps_cpus", {"rps": {"rps_cpus": ""}, "channels": {"combined": 1}}, "rx-0.rps_cpus"),
        ("napi.gro_flush_timeout", {"napi": {"gro_flush_timeout": 0, "threaded": "off"}}, "gro_flush_timeout"),
    ],
)
def test_what_is_required_and_not_there_is_an_error_with_nic_driver_and_versions(required: str, entry: dict[str, Any], subject: str) -> None:
    state = whole(queues={}) if "rps" in entry else whole()
    before = planned(state, **entry)
    wrong = [setting for setting in planned(state, {"required": [required]}, **entry) if setting.state == ERROR]
    assert [(setting.name, setting.desired) for setting in wrong] == [(f"eth0.{subject}", next(s.desired for s in before if s.name == f"eth0.{subject}"))]
    assert wrong[0].reason.startswith("required by the profile, but ") and wrong[0].reason.endswith("(NIC eth0, driver igb 5.19, firmware 1.63)")
    assert [setting for setting in before if setting.state == UNSUPPORTED], "without that it is only told"
    assert [s.name for s in before] == [s.name for s in planned(state, {"required": [required]}, **entry)], "the rest of the NIC is planned all the same"


def test_what_is_required_and_there_is_no_error() -> None:
    spec = {"required": ["coalesce.rx-usecs", "features.gro", "channels.queues"]}
    assert {s.state for s in planned(whole(), spec, coalesce={"rx-usecs": 0}, features={"gro": "off"}, channels={"queues": 2})} == {DRIFTED}


@pytest.mark.parametrize("irq_cpus", ["", "0-3"])
def test_queues_are_required_whatever_the_driver_calls_them(irq_cpus: str) -> None:
    spec = {"required": ["channels.queues"], "channels": {"queues": "irq-cpus"}}
    assert [s.state for s in planned(whole(parameters={}, missing={}), spec, irq_cpus=irq_cpus)] == [ERROR]


def test_software_in_words() -> None:
    assert NicState("eth0").software == "driver ?"
    assert NicState("eth0", "igb", firmware="1.63").software == "driver igb, firmware 1.63"


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("entry", "name"), [({"interface": "eth0", "pci": "x"}, "eth0"), ({"pci": "x"}, "x"), ({"mac": "y"}, "y"), ({}, "")])
def test_how_a_nic_is_named(entry: dict[str, str], name: str) -> None:
    assert identity(entry) == name


def test_an_interface_name_with_a_dot_keeps_its_feature_apart() -> None:
    settings = plan(nic({"rx-gro": ON}, interface="eth0.7"), {"nics": [{"interface": "eth0.7"}], "features": {"gro": "off"}}).settings
    interface, _dot, feature = settings[0].name.rpartition(".")
    assert (interface, feature) == ("eth0.7", "gro")


@pytest.mark.parametrize(
    ("control", "name", "group", "parameter"),
    [
        ("net.offload.gro", "eth0.gro", FEATURES, "gro"), ("net.coalesce.rx_usecs", "eth0.rx-usecs", COALESCE, "rx-usecs"),
        ("net.coalesce.adaptive", "eth0.adaptive-rx", COALESCE, "adaptive-rx"), ("net.channels", "eth0.7.channels-rx", CHANNELS, "rx"),
        ("net.ring.rx_tx", "eth0.ring-rx", RINGS, "rx"), ("net.pause", "eth0.pause-rx", PAUSE, "rx"), ("net.eee", "eth0.eee-enabled", EEE, "enabled"),
        ("net.private_flag", "eth0.flag-legacy-rx", PRIVATE_FLAGS, "legacy-rx"), ("net.rss", "eth0.hash-udp4", RSS, "hash-udp4"),
        ("net.flow.ntuple", "eth0.udp4 dst-ip 10.0.0.1", RULES, "udp4 dst-ip 10.0.0.1"), ("net.rps_xps", "eth0.rx-0.rps_cpus", RPS, "rps_cpus"),
        ("net.napi.defer", "eth0.gro_flush_timeout", NAPI, "gro_flush_timeout"), ("net.napi.threaded", "eth0.threaded", NAPI, "threaded"),
        ("nic", "eth0", "", "eth0"),
    ],
)
def test_the_wish_a_setting_comes_from(control: str, name: str, group: str, parameter: str) -> None:
    setting = Setting(control, name, "x")
    assert (group_of(setting), parameter_of(setting)) == (group, parameter)
    assert is_required(setting, {f"{group}.{parameter}"}) and is_required(setting, {group}) and not is_required(setting, {f"{group}.other", "other"})


def test_a_nic_s_own_table_replaces_the_one_for_all_and_its_hash_does_not() -> None:
    spec: dict[str, Any] = {"rss": {"equal": 4, "hash": {"udp4": "sd"}}, "nics": [{"interface": "eth0", "rss": {"weight": [1, 2]}}]}
    assert wanted_of(spec, spec["nics"][0]).mappings["rss"] == {"weight": [1, 2], "hash": {"udp4": "sd"}}
