# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NICs read and written through all of the kernel's interfaces, against a driver made of a few bytes."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import ethtool
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.ethtool import batch_of, read_ethtool, write_ethtool
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.ethtool_ioctl import (
    GFEATURES,
    GRSSH,
    GRXCLSRLCNT,
    GSSET_INFO,
    SRXCLSRLINS,
    SRXFH,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.nic import (
    PARAMETER_GROUPS,
    EthtoolState,
    Feature,
    NicState,
    plan,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.nic_parameters import Parameter
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import (
    ERROR,
    OK,
    UNSUPPORTED,
    Setting,
    Unsupported,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.steering import parse_rule
from ansible_collections.lowlatency.fleet.tests.unit.fixture_driver import GRO, TCP4, Driver, Family, installed
from ansible_collections.lowlatency.fleet.tests.unit.fixture_machine import FixtureMachine, two_sockets

RULE = {"flow-type": "udp4", "dst-ip": "233.54.12.1", "dst-port": 26400, "action": 2}
FLOW = "udp4 dst-ip 233.54.12.1 dst-port 26400"


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver()
    installed(monkeypatch, made)
    return made


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What is remembered until the next boot; nothing of it on this machine."""
    known: dict[str, Any] = {}
    monkeypatch.setattr(ethtool, "remembered", lambda host, name: known.get(name, {}))
    monkeypatch.setattr(ethtool, "remember", lambda host, name, value: known.update({name: value}))
    return known


@pytest.fixture(autouse=True)
def family(monkeypatch: pytest.MonkeyPatch) -> Family:
    made = Family(channels={"combined": Parameter(8, 64)}, rings={"rx": Parameter(512, 4096), "tx": Parameter(512, 4096)},
                  coalesce={"rx-usecs": Parameter(3), "adaptive-rx": Parameter(1)}, private_flags={"legacy-rx": Parameter(0)})
    installed(monkeypatch, family=made)
    return made


def read(spec: dict[str, Any] | None = None, **entry: Any) -> EthtoolState:
    return read_ethtool(Host(), {**(spec or {}), "nics": [{"interface": "lo", **entry}]})


def state(**entry: Any) -> NicState:
    return read(**entry).nics[0]


def write(control: str, name: str, desired: str | None, spec: dict[str, Any] | None = None, **entry: Any) -> None:
    write_ethtool(Host(), read(spec, **entry), [Setting(control, f"lo.{name}", desired)])


# --- features ---------------------------------------------------------------------------------------------------------


def test_features_are_read_by_their_bits(driver: Driver) -> None:
    found = state()
    assert found.driver == "igb" and found.features is not None
    assert len(found.features) == 39 and "" not in found.features
    assert found.features["rx-gro"] == Feature(active=True, fixed=False)
    assert found.features["rx-lro"] == Feature(active=False, fixed=True)


@pytest.mark.parametrize(("name", "bits"), [("gro", 1 << GRO), ("tso", 1 << TCP4), ("lro", 0), ("bit-39", 1 << 39), ("bit-31", 1 << 31)])
def test_exactly_the_movable_bits_are_sent(driver: Driver, name: str, bits: int) -> None:
    write(f"net.offload.{name}", name, "off")
    write(f"net.offload.{name}", name, "on")
    assert driver.sent == [(bits, 0), (bits, bits)]


def test_features_of_one_nic_are_sent_in_one_request(driver: Driver) -> None:
    wanted = [Setting(f"net.offload.{name}", f"lo.{name}", on) for name, on in (("gro", "off"), ("bit-39", "on"), ("tso", "off"))]
    assert len({batch_of(setting) for setting in wanted}) == 1
    write_ethtool(Host(), read(), wanted)
    assert driver.sent == [(1 << GRO | 1 << 39 | 1 << TCP4, 1 << 39)]


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL])
def test_a_driver_without_features_is_no_error(driver: Driver, code: int) -> None:
    driver.error = code
    assert state().features is None and state().unreadable == ""


@pytest.mark.parametrize("command", [GSSET_INFO, GFEATURES])
def test_any_other_answer_is_told(driver: Driver, command: int) -> None:
    driver.errors[command] = errno.ENODEV
    assert state().unreadable == f"{os.strerror(errno.ENODEV)} while it was read"


def test_driver_and_versions_are_read(driver: Driver) -> None:
    assert state().software == "driver igb 5.19.0, firmware 1.63, 0x800009fa"


# --- what is no interface ---------------------------------------------------------------------------------------------


def test_an_interface_that_is_not_there_names_those_that_are(driver: Driver) -> None:
    found = read_ethtool(Host(), {"nics": [{"interface": "none0"}]}).nics[0]
    assert "no such interface" in found.unreadable and "lo" in found.unreadable


@pytest.fixture
def machine(tmp_path: Path) -> FixtureMachine:
    made = two_sockets(tmp_path)
    for interface, address in (("eth0", "0000:01:00.0"), ("eth1", "0000:02:00.0")):
        made.link(f"sys/class/net/{interface}", f"../../devices/pci0000:00/{address}/net/{interface}")
        made.link(f"sys/devices/pci0000:00/{address}/net/{interface}/device", "../../../" + address)
    return made


def of_tree(machine: FixtureMachine, *nics: dict[str, Any], **spec: Any) -> EthtoolState:
    return read_ethtool(Host(str(machine.root)), {**spec, "nics": list(nics)})


def test_a_captured_tree_says_that_it_holds_no_features(machine: FixtureMachine) -> None:
    assert "captured tree" in of_tree(machine, {"interface": "eth0"}).nics[0].silent


@pytest.mark.parametrize("address", ["0000:05:00.0", "0000:05:00.0".upper()])
def test_a_pci_address_of_a_storage_controller_is_told_as_that(machine: FixtureMachine, address: str) -> None:
    machine.pci("0000:05:00.0", {"class": "0x010802"})
    assert of_tree(machine, {"pci": address}).nics[0].unreadable == "PCI device 0000:05:00.0 is no network controller (class 0x010802, driver none)"
    machine.link("sys/devices/pci0000:00/0000:05:00.0/driver", "../../../bus/pci/drivers/nvme")
    found = of_tree(machine, {"pci": address})
    assert "(class 0x010802, driver nvme)" in found.nics[0].unreadable
    [setting] = plan(found, {"nics": [{"pci": address}], "features": {"gro": "off"}}).settings
    assert (setting.control, setting.name, setting.state) == ("nic", address, ERROR) and "no network controller" in setting.reason


def test_a_nic_that_no_kernel_driver_serves_says_who_has_it(machine: FixtureMachine) -> None:
    folder = machine.pci("0000:06:00.0", {"class": "0x020000"})
    assert of_tree(machine, {"pci": "0000:06:00.0"}).nics[0].unreadable == "PCI device 0000:06:00.0 has no interface: no driver is bound to it"
    machine.link(f"{folder}/driver", "../../../bus/pci/drivers/vfio-pci")
    assert "driver vfio-pci gives it none" in of_tree(machine, {"pci": "0000:06:00.0"}).nics[0].unreadable


@pytest.mark.parametrize("entry", [{"pci": "0000:99:00.0"}, {"pci": "../net/eth0"}, {"mac": "02:00:00:00:00:99"}, {"interface": "eth9"}])
def test_a_name_of_nothing_names_the_interfaces_there_are(machine: FixtureMachine, entry: dict[str, str]) -> None:
    assert of_tree(machine, entry).nics[0].unreadable == "no such interface on this host; there are: eth0, eth1"


def test_one_that_is_not_there_leaves_the_others_in_their_order(driver: Driver) -> None:
    found = read_ethtool(Host(), {"nics": [{"interface": "none0"}, {"interface": "lo"}, {"interface": "none1"}]}).nics
    assert [(nic.interface, bool(nic.unreadable)) for nic in found] == [("none0", True), ("lo", False), ("none1", True)]


def test_the_interface_of_the_default_route_is_guarded(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ethtool, "management_interfaces", lambda host: {"lo": "carries the default route"})
    assert state().guard == "lo carries the default route"


# --- parameters -------------------------------------------------------------------------------------------------------


def test_every_group_of_parameters_is_read_or_it_is_said_why_there_is_none(driver: Driver, family: Family) -> None:
    found = state()
    assert found.parameters == family.groups
    assert found.missing == {group: f"driver igb has no {group} to set ({os.strerror(errno.EOPNOTSUPP)})" for group in ("pause", "eee")}
    assert found.unreadable == ""


def test_a_kernel_without_the_netlink_family_still_has_features(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    class Absent:
        def __enter__(self) -> Any:
            raise OSError(errno.EPROTONOSUPPORT, os.strerror(errno.EPROTONOSUPPORT))

        def __exit__(self, *_error: object) -> None:
            pass

    monkeypatch.setattr(ethtool, "Netlink", Absent)
    found = state()
    assert found.features and found.parameters == {} and set(found.missing) == set(PARAMETER_GROUPS)
    assert "no ethtool netlink family (Linux 5.6 brought it)" in found.missing["rings"]


def test_a_kernel_whose_netlink_has_no_ethtool_is_the_same(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    def family(link: Any, name: str) -> int:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    monkeypatch.setattr(ethtool.Netlink, "family", family)
    assert "no ethtool netlink family" in state().missing["coalesce"]


@pytest.mark.parametrize("code", [errno.ENODEV, errno.EIO])
def test_an_interface_that_goes_while_it_is_read_is_told(driver: Driver, family: Family, code: int) -> None:
    family.groups["coalesce"] = code
    found = state()
    assert found.unreadable == f"{os.strerror(code)} while it was read" and found.parameters == {}


def test_an_answer_that_does_not_come_is_told_too(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(link: Any, interface: str, group: str) -> Any:
        raise TimeoutError("timed out")

    monkeypatch.setattr(ethtool, "read_group", late)
    assert state().unreadable == "timed out while it was read"


def test_parameters_of_one_group_are_sent_in_one_request(driver: Driver, family: Family) -> None:
    wanted = [Setting("net.coalesce.rx_frames", "lo.rx-frames", "1"), Setting("net.coalesce.rx_usecs", "lo.rx-usecs", "0")]
    assert len({batch_of(setting) for setting in wanted}) == 1
    write_ethtool(Host(), read(), wanted)
    assert family.writes == [("coalesce", {"rx-frames": 1, "rx-usecs": 0})]


@pytest.mark.parametrize(
    ("control", "name", "desired", "written"),
    [
        ("net.channels", "channels-combined", "4", ("channels", {"combined": 4})),
        ("net.ring.rx_tx", "ring-rx", "4096", ("rings", {"rx": 4096})),
        ("net.pause", "pause-rx", "off", ("pause", {"rx": 0})),
        ("net.eee", "eee-enabled", "on", ("eee", {"enabled": 1})),
        ("net.private_flag", "flag-legacy-rx", "on", ("private_flags", {"legacy-rx": 1})),
        ("net.coalesce.rx_usecs", "rx-usecs", "1", ("coalesce", {"rx-usecs": 1})),
    ],
)
def test_a_setting_s_words_become_numbers(driver: Driver, family: Family, control: str, name: str, desired: str, written: Any) -> None:
    family.groups.update(pause={"rx": Parameter(1)}, eee={"enabled": Parameter(0)})
    write(control, name, desired)
    assert family.writes == [written]


def test_batches_are_of_one_nic_and_one_kind() -> None:
    def batch(control: str, name: str) -> str:
        return batch_of(Setting(control, name, "x"))

    assert batch("net.ring.rx_tx", "eth0.ring-rx") == batch("net.ring.rx_tx", "eth0.ring-tx")
    assert batch("net.coalesce.rx_usecs", "eth0.rx-usecs") == batch("net.coalesce.rx_frames", "eth0.rx-frames")
    # drivers that go to their own numbers when this changes get the numbers after it
    assert batch("net.coalesce.adaptive", "eth0.adaptive-rx") == batch("net.coalesce.cqe_mode_rx", "eth0.cqe-mode-rx") != batch(
        "net.coalesce.rx_usecs", "eth0.rx-usecs")
    apart = [batch("net.ring.rx_tx", "eth0.ring-rx"), batch("net.ring.rx_tx", "eth1.ring-rx"), batch("net.ring.rx_tx", "eth0.7.ring-rx"),
             batch("net.channels", "eth0.channels-rx"), batch("net.pause", "eth0.pause-rx"), batch("net.offload.rx", "eth0.rx"),
             batch("net.rss", "eth0.indirection"), batch("net.rss", "eth0.hash-udp4"),
             batch("net.flow.ntuple", f"eth0.{FLOW}"), batch("net.flow.ntuple", "eth0.udp4 dst-port 1"), batch("net.rps_xps", "eth0.rx-0.rps_cpus"),
             batch("net.rps_xps", "eth0.rx-1.rps_cpus"), batch("net.napi.threaded", "eth0.threaded")]
    assert len(set(apart)) == len(apart)


@pytest.mark.parametrize("interface", ["eth0", "eth0.7", "eth0.rx"])
def test_the_interface_a_setting_is_of_may_have_dots(interface: str) -> None:
    nics = tuple(NicState(name) for name in ("eth", "eth0", "eth0.7", "eth0.rx"))
    found = ethtool._nic_of(EthtoolState(nics), Setting("net.ring.rx_tx", f"{interface}.ring-tx", "1"))
    assert found.interface == interface


# --- what a driver refuses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENOTTY])
def test_what_a_driver_has_not_is_unsupported_when_it_is_written(driver: Driver, family: Family, code: int) -> None:
    family.refuses["rx-usecs"] = code
    with pytest.raises(Unsupported, match=r"driver igb refuses it: .*the driver's own words"):
        write("net.coalesce.rx_usecs", "rx-usecs", "0")


@pytest.mark.parametrize("required", ["coalesce.rx-usecs", "coalesce"])
def test_what_is_required_is_an_error_with_nic_driver_and_versions_when_it_is_written(driver: Driver, family: Family, required: str) -> None:
    family.refuses["rx-usecs"] = errno.EOPNOTSUPP
    with pytest.raises(OSError) as caught:
        write("net.coalesce.rx_usecs", "rx-usecs", "0", {"required": [required]})
    assert caught.value.errno == errno.EOPNOTSUPP
    for words in ("required by the profile, but driver igb refuses it", "NIC lo", "driver igb 5.19.0", "firmware 1.63"):
        assert words in caught.value.strerror


def test_another_parameter_that_is_required_makes_this_one_no_error(driver: Driver, family: Family) -> None:
    family.refuses["rx-usecs"] = errno.EOPNOTSUPP
    with pytest.raises(Unsupported):
        write("net.coalesce.rx_usecs", "rx-usecs", "0", {"required": ["coalesce.tx-usecs", "rings"]})


@pytest.mark.parametrize("code", [errno.ENODEV, errno.EINVAL, errno.EBUSY, errno.EPERM])
def test_any_other_refusal_is_an_error_in_the_kernel_s_words(driver: Driver, family: Family, code: int) -> None:
    family.refuses["rx"] = code
    with pytest.raises(OSError, match="the driver's own words") as caught:
        write("net.ring.rx_tx", "ring-rx", "64")
    assert caught.value.errno == code


def test_what_was_refused_alone_is_remembered_of_that_driver_and_version_until_the_next_boot(driver: Driver, family: Family, memory: dict[str, Any]) -> None:
    family.refuses["rx-usecs"] = errno.EOPNOTSUPP
    both = [Setting("net.coalesce.adaptive", "lo.adaptive-rx", "off"), Setting("net.coalesce.rx_usecs", "lo.rx-usecs", "0")]
    with pytest.raises(Unsupported):
        write_ethtool(Host(), read(), both)
    assert memory == {}, "of several in one request, nobody knows which it was"
    for setting in both[1:]:
        with pytest.raises(Unsupported):
            write_ethtool(Host(), read(), [setting])
    assert set(memory) == {ethtool.REFUSED} and ethtool.REFUSED.startswith("/run/")
    assert state().refused == {"lo.rx-usecs": memory[ethtool.REFUSED]["lo igb 5.19.0"]["lo.rx-usecs"]}
    memory[ethtool.REFUSED] = {"lo igb 5.20.0": memory[ethtool.REFUSED]["lo igb 5.19.0"]}
    assert state().refused == {}, "another version of the driver may take it"


def test_other_refusals_are_not_remembered(driver: Driver, family: Family, memory: dict[str, Any]) -> None:
    family.refuses["rx"] = errno.EINVAL
    with pytest.raises(OSError, match="own words"):
        write("net.ring.rx_tx", "ring-rx", "64")
    assert memory == {}


# --- the link ---------------------------------------------------------------------------------------------------------


class Link:
    """A clock that only moves while somebody sleeps, and a link that comes back at a moment of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, back: float) -> None:
        self.now, self.back = 0.0, back
        self.there = True
        monkeypatch.setattr(ethtool.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(ethtool.time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def read_if_there(self, name: str) -> str:
        assert name == "/sys/class/net/eth0/carrier"
        return str(int(self.now >= self.back))

    def exists(self, name: str) -> bool:
        return self.there


@pytest.mark.parametrize(
    ("carrier", "back", "waited"),
    [(True, 0, 0), (True, 3, 3), (True, 1000, ethtool.CARRIER_SECONDS), (False, 1000, 0)],
    ids=["up", "comes back", "stays away", "was down before"],
)
def test_a_link_that_a_write_took_down_is_waited_for(monkeypatch: pytest.MonkeyPatch, carrier: bool, back: float, waited: float) -> None:
    link: Any = Link(monkeypatch, back)
    ethtool._await_carrier(link, NicState("eth0", carrier=carrier))
    assert link.now == pytest.approx(waited, abs=0.2)


def test_an_interface_that_is_gone_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    link: Any = Link(monkeypatch, 1000)
    link.there = False
    ethtool._await_carrier(link, NicState("eth0", carrier=True))
    assert link.now == 0


@pytest.mark.parametrize(("control", "name", "waits"), [("net.pause", "pause-rx", 1), ("net.eee", "eee-enabled", 1), ("net.ring.rx_tx", "ring-rx", 0)])
def test_only_what_is_negotiated_waits_for_the_link(
        driver: Driver, family: Family, monkeypatch: pytest.MonkeyPatch, control: str, name: str, waits: int) -> None:
    family.groups.update(pause={"rx": Parameter(1)}, eee={"enabled": Parameter(0)})
    waited: list[str] = []
    monkeypatch.setattr(ethtool, "_await_carrier", lambda host, nic: waited.append(nic.interface))
    write(control, name, "on" if waits else "64")
    assert waited == ["lo"] * waits


# --- RSS --------------------------------------------------------------------------------------------------------------


def test_rss_is_only_read_where_something_is_wanted_of_it(driver: Driver) -> None:
    driver.table, driver.hashes = [0, 1, 0, 1], {2: 0x30}
    assert (state().table, state().hashes) == (None, {})
    found = state(rss={"equal": 2, "hash": {"udp4": "sdfn"}})
    assert (found.table, found.hashes) == ((0, 1, 0, 1), {"udp4": "sd"})


def test_a_driver_without_rss_is_no_error(driver: Driver) -> None:
    driver.errors[GRSSH] = errno.EOPNOTSUPP
    found = state(rss={"equal": 2, "hash": {"udp4": "sdfn"}})
    assert (found.table, found.hashes, found.unreadable) == (None, {}, "")


@pytest.mark.parametrize("hashes", [{"tcp5": "sd"}, "sd", ["tcp4"], 5])
def test_a_wrong_wish_of_one_nic_does_not_keep_the_others_from_being_read(driver: Driver, hashes: Any) -> None:
    spec = {"nics": [{"interface": "lo", "rss": {"hash": hashes}}]}
    found = read_ethtool(Host(), spec)
    [setting] = plan(found, spec).settings
    assert (setting.control, setting.name, setting.state) == ("nic", "lo", ERROR) and "rss: hash" in setting.reason


@pytest.mark.parametrize(("desired", "table"), [("equal 3", [0, 1, 2, 0, 1, 2, 0, 1]), ("1*4 0*4", [1, 1, 1, 1, 0, 0, 0, 0])])
def test_a_table_is_written_as_its_words_say(driver: Driver, desired: str, table: list[int]) -> None:
    driver.table = [0] * 8
    write("net.rss", "indirection", desired)
    assert driver.table == table


def test_a_table_of_another_size_is_an_error_and_not_written(driver: Driver) -> None:
    driver.table = [0] * 8
    with pytest.raises(OSError, match="a table of 4 entries, but the NIC has 8"):
        write("net.rss", "indirection", "1*4")
    assert driver.table == [0] * 8


def test_hash_fields_are_written(driver: Driver) -> None:
    driver.hashes = {2: 0x30}
    write("net.rss", "hash-udp4", "sdfn")
    assert driver.hashes == {2: 0xF0}
    driver.errors[SRXFH] = errno.EOPNOTSUPP
    with pytest.raises(Unsupported):
        write("net.rss", "hash-udp4", "sd")


# --- rules ------------------------------------------------------------------------------------------------------------


def rules(driver: Driver) -> dict[int | None, str]:
    return {rule.location: f"{rule.flow}: {rule.target}" for rule in state(only_these_rules=True).rules or ()}


def test_rules_are_only_read_where_some_are_wanted(driver: Driver) -> None:
    driver.places = 4
    assert state().rules is None and state(rules=[RULE]).rules == () == state(only_these_rules=True).rules
    driver.errors[GRXCLSRLCNT] = errno.EOPNOTSUPP
    assert state(rules=[RULE]).rules is None and state(rules=[RULE]).unreadable == ""


def test_a_rule_is_put_in_place_replaced_and_removed(driver: Driver) -> None:
    driver.places = 4
    write("net.flow.ntuple", "udp4 dst-port 1", "drop")
    write("net.flow.ntuple", FLOW, "queue 2")
    assert rules(driver) == {3: "udp4 dst-port 1: drop", 2: f"{FLOW}: queue 2"}
    write("net.flow.ntuple", FLOW, "queue 5")
    assert rules(driver) == {3: "udp4 dst-port 1: drop", 2: f"{FLOW}: queue 5"}
    write("net.flow.ntuple", "udp4 dst-port 1", None)
    assert rules(driver) == {2: f"{FLOW}: queue 5"}


def test_a_rule_with_a_place_of_its_own_gets_it(driver: Driver) -> None:
    driver.places = 4
    write("net.flow.ntuple", FLOW, "queue 2", rules=[{**RULE, "loc": 1}])
    assert rules(driver) == {1: f"{FLOW}: queue 2"}


def test_rules_for_the_same_packets_in_several_places_all_go(driver: Driver) -> None:
    driver.places = 4
    for place in (0, 3):
        ethtool.ioctl.insert_rule(ethtool.Ioctl(), "lo", parse_rule({**RULE, "loc": place}))
    write("net.flow.ntuple", FLOW, "queue 1")
    assert rules(driver) == {3: f"{FLOW}: queue 1"}


def test_a_rule_that_a_driver_does_not_take_is_unsupported(driver: Driver) -> None:
    driver.places = 4
    driver.errors[SRXCLSRLINS] = errno.EOPNOTSUPP
    with pytest.raises(Unsupported):
        write("net.flow.ntuple", FLOW, "queue 1")
    with pytest.raises(OSError, match="required by the profile"):
        write("net.flow.ntuple", FLOW, "queue 1", {"required": ["rules"]}, rules=[RULE])


# --- files ------------------------------------------------------------------------------------------------------------


def test_rps_and_napi_are_files_of_the_interface(machine: FixtureMachine) -> None:
    host, held = Host(str(machine.root)), EthtoolState((NicState("eth0", "igb"),), {"nics": [{"interface": "eth0"}]})
    folder = machine.root / "sys/class/net/eth0"
    for name in ("threaded", "gro_flush_timeout"):
        (folder / name).write_text("9\n")
    write_ethtool(host, held, [Setting("net.rps_xps", "eth0.rx-1.rps_cpus", "0,4-5")])
    write_ethtool(host, held, [Setting("net.napi.threaded", "eth0.threaded", "1")])
    write_ethtool(host, held, [Setting("net.napi.defer", "eth0.gro_flush_timeout", "0")])
    assert (folder / "queues/rx-1/rps_cpus").read_text() == "31" and (folder / "queues/rx-0/rps_cpus").read_text() == "0\n"
    assert (folder / "threaded").read_text() == "1" and (folder / "gro_flush_timeout").read_text() == "0"


def test_cpus_that_this_machine_cannot_have_are_an_error_of_the_write(machine: FixtureMachine) -> None:
    held = EthtoolState((NicState("eth0", "igb"),), {"nics": [{"interface": "eth0"}]})
    with pytest.raises(OSError, match="CPU 200") as caught:
        write_ethtool(Host(str(machine.root)), held, [Setting("net.rps_xps", "eth0.rx-1.rps_cpus", "200")])
    assert caught.value.errno == errno.EINVAL


# --- this machine -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not shutil.which("ethtool"), reason="no ethtool to judge by")
def test_the_loopback_of_this_machine_as_ethtool_sees_it() -> None:
    text = subprocess.run(["ethtool", "-k", "lo"], capture_output=True, text=True, check=False).stdout
    shown = {line.split(":")[0].strip(): line.split(":")[1].split() for line in text.splitlines()[1:] if ":" in line}
    found = state().features
    if not shown or found is None:
        pytest.skip("this machine answers no feature requests")
    both = set(found) & set(shown)
    assert both
    assert {name: (found[name].active, found[name].fixed) for name in both} == {name: (shown[name][0] == "on", "[fixed]" in shown[name]) for name in both}


# --- what was seen since the boot -------------------------------------------------------------------------------------


def test_what_a_driver_refused_once_is_unsupported_in_the_next_audit(driver: Driver, family: Family) -> None:
    family.refuses["rx-usecs"] = errno.EOPNOTSUPP
    spec = {"coalesce": {"rx-usecs": 0}}
    before = plan(read(spec), {**spec, "nics": [{"interface": "lo"}]}).settings[0]
    assert before.state == OK and before.current != before.desired, "only the attempt shows it"
    with pytest.raises(Unsupported):
        write("net.coalesce.rx_usecs", "rx-usecs", "0", spec)
    after = plan(read(spec), {**spec, "nics": [{"interface": "lo"}]}).settings[0]
    assert after.state == UNSUPPORTED and "driver igb refuses it" in after.reason and after.current == "3"


def test_a_memory_that_cannot_be_written_changes_no_verdict(driver: Driver, family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(host: Host, name: str, said: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ethtool, "remember", full)
    family.refuses["rx-usecs"] = errno.EOPNOTSUPP
    with pytest.raises(Unsupported):
        write("net.coalesce.rx_usecs", "rx-usecs", "0")


@pytest.mark.parametrize(("carrier", "waits"), [(True, True), (False, False)])
def test_flow_control_waits_for_a_link_that_a_write_took_down(
        driver: Driver, family: Family, monkeypatch: pytest.MonkeyPatch, *, carrier: bool, waits: bool) -> None:
    """A NIC that had no link before is not waited for."""
    looked: list[bool] = []
    monkeypatch.setattr(ethtool, "_has_carrier", lambda host, interface: looked.append(True) or len(looked) > 3)
    monkeypatch.setattr(ethtool.time, "sleep", lambda seconds: None)
    family.groups["pause"] = {"rx": Parameter(1)}
    nic = NicState("lo", "igb", carrier=carrier)
    write_ethtool(Host(), EthtoolState((nic,), {"nics": [{"interface": "lo"}]}), [Setting("net.pause", "lo.pause-rx", "off")])
    assert bool(looked) == waits and family.writes == [("pause", {"rx": 0})]


def test_a_link_that_does_not_come_back_is_not_waited_for_for_ever(driver: Driver, family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ethtool, "_has_carrier", lambda host, interface: False)
    monkeypatch.setattr(ethtool, "CARRIER_SECONDS", 0.2)
    family.groups["pause"] = {"rx": Parameter(1)}
    nic = NicState("lo", "igb", carrier=True)
    write_ethtool(Host(), EthtoolState((nic,), {"nics": [{"interface": "lo"}]}), [Setting("net.pause", "lo.pause-rx", "off")])
    assert family.writes == [("pause", {"rx": 0})]


# --- fewer channels than a table uses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spread", "channels", "left"),
    [({"equal": "channels"}, 2, [0, 1, 0, 1, 0, 1, 0, 1]), ({"weight": [1, 1]}, 3, [0, 1, 2, 0, 1, 2, 0, 1]),
     ({"equal": 2}, 4, [0, 1, 2, 3, 0, 1, 2, 3]), ({"hash": {"udp4": "sd"}}, 2, [0, 1, 2, 3, 0, 1, 2, 3]), ({}, 2, [0, 1, 2, 3, 0, 1, 2, 3])],
    ids=["equal", "weight", "as many", "no table wanted", "nothing wanted"],
)
def test_queues_that_are_to_go_leave_a_table_that_is_wanted_first(
        driver: Driver, family: Family, monkeypatch: pytest.MonkeyPatch, spread: dict[str, Any], channels: int, left: list[int]) -> None:
    """The kernel refuses channels that a table which somebody set still uses; a table that nobody here wants is somebody else's."""
    family.groups["channels"] = {"combined": Parameter(4, 8)}
    driver.table = [0, 1, 2, 3, 0, 1, 2, 3]
    seen: list[list[int]] = []
    real = family.write_group

    def write_group(link: Any, interface: str, group: str, values: Any) -> None:
        seen.append(list(driver.table))
        real(link, interface, group, values)

    monkeypatch.setattr(ethtool, "write_group", write_group)
    write("net.channels", "channels-combined", str(channels), rss=spread)
    assert seen == [left] and family.writes == [("channels", {"combined": channels})]
