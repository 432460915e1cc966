# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""BIOS attributes judged: the file of vendors, spellings, what locks what, and the words for a BMC that fails. Real BMCs: tests/redfish."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.bios_menus import MENUS, maker_of
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import SpecError
from ansible_collections.lowlatency.fleet.plugins.plugin_utils import bios_attributes as bios


def judged(vendor: str, attributes: dict[str, Any], items: dict[str, str], pending: dict[str, Any] | None = None, *, own: dict[str, Any] | None = None,
           may_set: bool = True) -> tuple[dict[str, tuple[Any, ...]], dict[str, Any]]:
    verdict = bios.judge(bios.Answer(attributes, {} if pending is None else pending, vendor), items, own or {}, may_set=may_set)
    return {setting.control.rpartition(".")[2]: (setting.state, setting.current, setting.desired) for setting in verdict.settings}, dict(verdict.to_set)


# --- the file ---------------------------------------------------------------------------------------------------------


def test_the_file_has_the_vendors_whose_menus_are_known() -> None:
    assert set(bios.vendors()) == set(MENUS)
    for vendor, entry in bios.vendors().items():
        assert all(maker_of(name) == vendor for name in entry["manufacturers"])
        assert "smt" in entry["items"]


@pytest.mark.parametrize(("vendor", "item"), [(vendor, item) for vendor, entry in bios.vendors().items() for item in entry["items"]])
def test_every_candidate_is_whole(vendor: str, item: str) -> None:
    for candidate in bios.vendors()[vendor]["items"][item]:
        words = {word: values for word, values in candidate.items() if word not in ("attribute", "needs")}
        assert isinstance(candidate["attribute"], str) and len(words) > 1
        assert all(isinstance(word, str) for word in words), "on and off are quoted"
        for values in words.values():
            assert values and all(isinstance(value, str) for value in values), "values are text"
        spoken = [value.lower() for values in words.values() for value in dict.fromkeys(values)]
        assert len(spoken) == len(set(spoken)), "no value means two words"
        for needed in candidate.get("needs", {}):
            profiles = bios.vendors()[vendor]["items"]["power_profile"]
            assert [profile for profile in profiles if profile["attribute"] == needed and candidate["needs"][needed] in profile["custom"]]


@pytest.mark.parametrize(("manufacturer", "vendor"), [("Dell Inc.", "Dell"), ("HPE", "HPE"), ("Lenovo", "Lenovo"), ("Supermicro", "Supermicro"),
                                                      ("Sushy Emulator", ""), ("", "")])
def test_vendors_by_what_the_system_says(manufacturer: str, vendor: str) -> None:
    assert bios.vendor_of(manufacturer) == vendor


# --- wishes -----------------------------------------------------------------------------------------------------------


def test_hyper_threading_follows_the_policy_unless_it_is_said() -> None:
    assert bios.wanted_items({}, "off") == {"smt": "off"}
    assert bios.wanted_items({"smt": True}, "off") == {"smt": "on"}
    assert bios.wanted_items({"turbo": False, "nodes_per_socket": 2, "x2apic": None}, "off-by-kernel") == {"turbo": "off", "nodes_per_socket": "2"}


@pytest.mark.parametrize(("items", "words"), [({"hyperthreading": "off"}, "there are: c1e, c_states"), ({"smt": "half"}, "none of off, on"),
                                              ({"power_profile": "fast"}, "custom, performance")])
def test_wishes_that_nobody_knows_are_refused(items: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        bios.wanted_items(items, "share")


# --- the verdict ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("vendor", "attributes", "items", "to_set"), [
    ("Dell", {"LogicalProc": "Enabled"}, {"smt": "off"}, {"LogicalProc": "Disabled"}),
    ("HPE", {"ProcSMT": "Enabled", "Numa": "Enabled"}, {"smt": "off", "node_interleaving": "off"}, {"ProcSMT": "Disabled"}),
    ("HPE", {"WorkloadProfile": "Custom", "MinProcIdlePower": "C6"}, {"c_states": "off"}, {"MinProcIdlePower": "NoCStates"}),
    ("Lenovo", {"Processors_HyperThreading": "Enabled"}, {"smt": "off"}, {"Processors_HyperThreading": "Disabled"}),
    ("Lenovo", {"Processors_HyperThreading": "Enable"}, {"smt": "off"}, {"Processors_HyperThreading": "Disable"}),
    ("Lenovo", {"Memory_NUMANodesperSocket": "NPS1"}, {"nodes_per_socket": "4"}, {"Memory_NUMANodesperSocket": "NPS4"}),
    ("Supermicro", {"SMTControl#0037": "Auto"}, {"smt": "off"}, {"SMTControl#0037": "Disabled"}),
    ("Supermicro", {"SMTControl#0037": "Enable"}, {"smt": "off"}, {"SMTControl#0037": "Disable"}),
    ("Supermicro", {"SMTControl#0037": "Disabled"}, {"smt": "off"}, {}),
    ("Dell", {"ProcCStates": "Autonomous", "SysProfile": "Custom"}, {"c_states": "on"}, {}),
    ("Dell", {"NumaNodesPerSocket": "1"}, {"nodes_per_socket": "1"}, {})])
def test_what_has_to_be_set(vendor: str, attributes: dict[str, Any], items: dict[str, str], to_set: dict[str, Any]) -> None:
    found, wanted = judged(vendor, attributes, items)
    assert wanted == to_set and [state for state, _current, _desired in found.values() if (state == "drifted") != bool(to_set)][1:] == []


def test_what_a_profile_locks_is_left_to_it() -> None:
    attributes = {"SysProfile": "PerfOptimized", "ProcCStates": "Enabled"}
    found, wanted = judged("Dell", attributes, {"c_states": "off"})
    assert found["c_states"][0] == "drifted" and wanted == {}
    assert judged("Dell", attributes, {"c_states": "off"}, {"SysProfile": "Custom"})[1] == {"ProcCStates": "Disabled"}, "where custom waits, it can be set"
    assert judged("Dell", {**attributes, "ProcCStates": "Disabled"}, {"c_states": "off"})[0]["c_states"][0] == "ok"


def test_what_waits_is_not_set_again_and_what_waits_otherwise_is() -> None:
    assert judged("Dell", {"LogicalProc": "Enabled"}, {"smt": "off"}, {"LogicalProc": "Disabled"})[1] == {}
    found, wanted = judged("Dell", {"LogicalProc": "Disabled"}, {"smt": "off"}, {"LogicalProc": "Enabled"})
    assert found["smt"] == ("drifted", "Disabled", "Disabled") and wanted == {"LogicalProc": "Disabled"}, "right now, and wrong after the next boot"


def test_attributes_by_their_own_names() -> None:
    found, wanted = judged("", {"BootMode": "Bios", "Count": 4, "Flag": True}, {}, own={"BootMode": "Uefi", "Count": "4", "Flag": "true", "No": 1})
    assert {name: state for name, (state, _current, _desired) in found.items()} == {"BootMode": "drifted", "Count": "ok", "Flag": "ok", "No": "unsupported"}
    assert wanted == {"BootMode": "Uefi"}


def test_where_waiting_settings_cannot_be_read_the_live_ones_decide() -> None:
    verdict = bios.judge(bios.Answer({"LogicalProc": "Disabled"}, None, "Dell"), {"smt": "off"}, {}, may_set=True)
    assert [setting.state for setting in verdict.settings] == ["ok"]


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("message", "words"), [
    ("HTTP Error 401 on GET request to 'https://b/redfish/v1/Systems', extended message: 'x'", "refused the name or the password"),
    ("HTTP Error 503 on GET request to 'https://b/', extended message: ''", "failed: HTTP Error 503"),
    ("URL Error on GET request to 'https://b/': '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed'", "bios_redfish_ca_path"),
    ("URL Error on GET request to 'https://b/': '[Errno 111] Connection refused'", "cannot be reached"),
    ("URL Error on GET request to 'https://b/': '[Errno -2] Name or service not known'", "cannot be reached"),
    ("Failed GET request to 'https://b/': 'The read operation timed out'", "did not answer in time"),
    ("Failed GET request to 'https://b/': 'Expecting value: line 1 column 1 (char 0)'", "could be understood"), ("", "could be understood"),
    ("URL Error on GET request to 'https://b:44035/redfish/v1/': '[Errno 111] Connection refused'", "cannot be reached")])
def test_failures_have_a_remedy(message: str, words: str) -> None:
    told = bios.failure_words(message, "b", "")
    assert words in told and "at b" in told and "\n" not in told


def test_a_long_message_is_cut_where_its_reason_is_not() -> None:
    assert bios.failure_words("x" * 900 + " the reason", "b", "").endswith("the reason")
