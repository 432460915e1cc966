# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is planned of a stack in user space: kernels, modules, files, AF_XDP, versions; and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.model import bypass_stack as model
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.bypass_stack import (
    Build,
    Kernel,
    Loaded,
    Port,
    StackState,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import (
    DRIFTED,
    ERROR,
    OK,
    UNSUPPORTED,
    Setting,
    SpecError,
    judged,
)

NOW, NEXT = "6.1.0-30-amd64", "6.1.0-31-amd64"
SOURCE = "onload/9.0.2.140"
BUILD = Build("9.0.2.140", "ABC", "the site")
MODULES = ("sfc", "sfc_resource", "sfc_char", "onload")
LOADED = Loaded("9.0.2.140", "ABC", parameters={"max_packets_per_stack": "32768", "oof_all_ports_required": "Y"})
SPEC: dict[str, Any] = {"stack": "onload", "state": "present", "nics": [{"interface": "ens1f0"}]}
SFC = Port("ens1f0", driver="sfc", driver_version="6.2.3.1000", firmware="8.3.3.1000 rx1 tx1")


def state(**changed: Any) -> StackState:
    """A host on which all is right; the next boot brings another kernel, which has the modules too."""
    everything = dict.fromkeys(MODULES, BUILD)
    whole = StackState(running=Kernel(NOW, everything, headers=True), next=Kernel(NEXT, everything, headers=True), loaded=dict.fromkeys(MODULES, LOADED),
                       sources=dict.fromkeys(MODULES, SOURCE), library="/usr/lib64/libonload.so.1", told="9.0.2.140", ports=(SFC,), family="debian")
    return replace(whole, **changed)


def planned(of: StackState, **spec: Any) -> dict[tuple[str, str], Setting]:
    wanted = {**SPEC, **spec}
    assert model.problems(wanted) == []
    return {setting.key: judged(setting) for setting in model.plan(of, wanted).settings}


def wrong(of: StackState, **spec: Any) -> list[tuple[str, str, str | None]]:
    return [(setting.control, setting.name, setting.current) for setting in planned(of, **spec).values()
            if setting.state != OK and (setting.finding or setting.current != setting.desired)]


def test_all_is_right_on_both_kernels() -> None:
    settings = planned(state())
    assert wrong(state()) == []
    assert [name for control, name in settings if control == model.BUILT] == [f"{module} for {release}" for release in (NOW, NEXT) for module in MODULES]
    assert [name for control, name in settings if control == model.LOADED] == list(MODULES)
    assert settings[(model.VERSION, "library and driver")].finding


def test_a_module_that_the_next_kernel_has_not_is_built_where_headers_are() -> None:
    fewer = Kernel(NEXT, {name: BUILD for name in MODULES if name != "onload"}, headers=True)
    found = planned(state(next=fewer))[(model.BUILT, f"onload for {NEXT}")]
    assert (found.state, found.current, found.reason) == (DRIFTED, "missing", f"{SOURCE} is not built for the kernel which boots next")
    assert not found.finding


@pytest.mark.parametrize(("family", "package"), [("debian", f"linux-headers-{NEXT}"), ("redhat", f"kernel-devel-{NEXT}"), ("other", "headers of kernel")])
def test_without_headers_it_is_refused_and_the_package_named(family: str, package: str) -> None:
    found = planned(state(next=Kernel(NEXT), family=family))[(model.BUILT, f"onload for {NEXT}")]
    assert found.state == ERROR and found.reason.startswith(f"kernel {NEXT}, which boots next, has no module onload, and no headers to build it with")
    assert package in found.reason


def test_modules_that_packages_bring_ready_built_need_no_headers() -> None:
    found = planned(state(running=Kernel(NOW), sources={}), prebuilt=True)[(model.BUILT, f"onload for {NOW}")]
    assert found.state == DRIFTED and "onload_packages" in found.reason


def test_one_kernel_is_told_of_once_and_an_unknown_one_is_said() -> None:
    same = state().running
    assert len([1 for control, _name in planned(state(next=same)) if control == model.BUILT]) == 4
    found = planned(state(next=None, next_unknown="no boot loader"))[(model.BUILT, "the next boot")]
    assert found.state == UNSUPPORTED and found.reason.endswith("no boot loader")


@pytest.mark.parametrize(("now", "current", "waits"), [
    (Loaded("9.0.1", "ABC"), "loaded from 9.0.1, 9.0.2.140 is on disk", False),
    (Loaded("9.0.2.140", "OLD"), "loaded from another build than the one on disk", False),
    (Loaded("9.0.1", "OLD", users=2), "loaded from 9.0.1, 9.0.2.140 is on disk", True),
    (Loaded("", "OLD", interfaces=("ens1f0",)), "loaded from another build, 9.0.2.140 is on disk", True),
    (Loaded("9.0.2.140", ""), "loaded from another build than the one on disk", False),
])
def test_what_is_loaded_is_what_is_on_disk(now: Loaded, current: str, waits: bool) -> None:
    found = planned(state(loaded={**dict.fromkeys(MODULES, LOADED), "onload": now}))[(model.LOADED, "onload")]
    assert (found.current, found.finding) == (current, waits)
    assert not waits or "which loads the one on disk" in found.reason


def test_what_stands_on_the_kernel_s_own_driver_waits_with_it() -> None:
    other = Port("eth1", af_xdp=True, driver="ice")
    settings = planned(state(loaded={"sfc": Loaded(users=1, interfaces=("ens1f0",))}, ports=(SFC, other)))
    loaded = [setting for (control, _name), setting in settings.items() if control == model.LOADED]
    assert [(setting.name, setting.finding) for setting in loaded] == [(name, True) for name in MODULES]
    assert "it drives ens1f0; it is held 1 times" in loaded[0].reason and loaded[3].reason == "it is loaded after sfc, which waits for a boot"
    assert settings[(model.AF_XDP, "eth1")].finding and not any(setting.needs_reboot for setting in settings.values())


def test_a_file_that_tells_nothing_of_itself_is_not_judged() -> None:
    blank = Kernel(NOW, dict.fromkeys(MODULES, Build()), headers=True)
    assert {setting.current for (control, _name), setting in planned(state(running=blank, next=blank)).items() if control == model.LOADED} == {"loaded"}


def test_a_module_that_nobody_signed_is_not_tried() -> None:
    bare = Kernel(NOW, dict.fromkeys(MODULES, Build("9.0.2.140", "ABC")), headers=True)
    settings = planned(state(running=bare, next=bare, loaded={}, only_signed=True))
    assert settings[(model.LOADED, "onload")].state == UNSUPPORTED and "(R29)" in settings[(model.LOADED, "onload")].reason
    signed = settings[(model.SIGNED, f"onload for {NOW}")]
    assert (signed.state, signed.finding, signed.current) == (DRIFTED, True, "not signed") and "mokutil" in signed.reason
    assert not [control for control, _name in planned(state()) if control == model.SIGNED]


# --- NICs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ports", "reason"), [
    ((Port("eth0", driver="igb"),), "no NIC of the list has the driver sfc and none is given to AF_XDP (af_xdp): eth0 has igb"),
    ((), "the list is empty"),
])
def test_without_a_nic_for_it_all_is_unsupported(ports: tuple[Port, ...], reason: str) -> None:
    plan = model.plan(state(ports=ports), SPEC)
    assert plan.settings and plan.files == () and {setting.state for setting in plan.settings} == {UNSUPPORTED}
    assert all(reason in setting.reason for setting in plan.settings)
    inside = model.plan(state(container="podman"), SPEC)
    assert {setting.state for setting in inside.settings} == {UNSUPPORTED} and "podman" in inside.settings[0].reason


def test_the_driver_is_loaded_only_where_a_nic_has_it() -> None:
    other = state(ports=(Port("eth1", af_xdp=True, driver="ice"),), afxdp=True)
    settings = planned(other)
    assert [name for control, name in settings if control == model.LOADED] == ["sfc_resource", "sfc_char", "onload"]
    assert settings[(model.AF_XDP, "eth1")].current == "not registered"


@pytest.mark.parametrize(("port", "afxdp", "verdict", "words"), [
    (Port("eth1", af_xdp=True, driver="ice", registered=True), True, None, ""),
    (Port("eth1", af_xdp=True, driver="ice"), False, UNSUPPORTED, "no AF_XDP"),
    (Port("eth1", af_xdp=True, driver="sfc"), True, UNSUPPORTED, "without AF_XDP"),
    (Port("eth1", af_xdp=True, driver="ice", guard="eth1 carries the default route; it is not given to AF_XDP (R6)"), True, ERROR, "R6"),
    (Port("eth1", af_xdp=True, unreadable="no such interface"), True, ERROR, "no such interface"),
])
def test_who_is_given_to_af_xdp(port: Port, afxdp: bool, verdict: str | None, words: str) -> None:
    found = planned(state(ports=(SFC, port), afxdp=afxdp))[(model.AF_XDP, "eth1")]
    assert found.state == verdict if verdict else found.current == "registered"
    assert words in found.reason


# --- files ------------------------------------------------------------------------------------------------------------


def files(of: StackState, **spec: Any) -> dict[str, str]:
    return {file.path: file.content.decode() for file in model.plan(of, {**SPEC, **spec}).files}


def test_the_files_say_options_order_and_profiles() -> None:
    said = files(state(), options={"onload": {"max_packets_per_stack": 65536, "oof_all_ports_required": False}, "sfc": {}},
                 profiles={"gateway": {"EF_POLL_USEC": -1, "EF_RXQ_SIZE": 4096}})
    head = "# Owned by lowlatency.fleet: rewritten as a whole. Change the inventory instead.\n"
    assert said == {
        model.OPTIONS_FILE: head + "options onload max_packets_per_stack=65536 oof_all_ports_required=0\n"
                                   "softdep sfc_resource pre: sfc\nsoftdep sfc_char pre: sfc_resource\nsoftdep onload pre: sfc_char\n",
        model.LOAD_FILE: head + "sfc\nsfc_resource\nsfc_char\nonload\n",
        "/usr/libexec/onload/profiles/gateway.opf": head + "onload_set EF_POLL_USEC -1\nonload_set EF_RXQ_SIZE 4096\n",
        "/usr/libexec/onload/profiles/latency.opf": head + "onload_set EF_POLL_USEC 100000\nonload_set EF_TCP_FASTSTART_IDLE 0\n"
                                                           "onload_set EF_TCP_FASTSTART_INIT 0\n"}


def test_the_package_s_own_profiles_stay_its_own() -> None:
    theirs = state(profiles={"latency": b"onload_set EF_POLL_USEC 100000\n", "old": b"# Owned by lowlatency.fleet\n", "safe": b""})
    plan = model.plan(theirs, SPEC)
    assert not [file for file in plan.files if file.control == model.PROFILE]
    assert [(setting.name, setting.desired) for setting in plan.settings if setting.control == model.PROFILE] == [(model.profile_path("old"), None)]
    with pytest.raises(SpecError, match="a package's own; give yours another name"):
        model.plan(theirs, {**SPEC, "profiles": {"latency": {"EF_POLL_USEC": 1}}})
    assert not [path for path in files(state(library="", told="")) if path.endswith(".opf")], "none beside a library that is not there"


@pytest.mark.parametrize("spec", [{}, {"stack": ""}, {"stack": "", "state": "present"}])
def test_without_a_stack_what_was_left_goes_and_nothing_else_is_asked(spec: dict[str, Any]) -> None:
    assert model.plan(StackState(), spec) == model.Plan()
    left = StackState(files={model.LOAD_FILE: b"x"}, profiles={"a": b"# Owned by lowlatency.fleet", "b": b"theirs"})
    assert [(setting.name, setting.current, setting.desired) for setting in model.plan(left, spec).settings] == [
        (model.LOAD_FILE, "there", None), (model.profile_path("a"), "there", None)]


def test_absent_unloads_the_last_one_first_and_never_the_driver() -> None:
    some = {**dict.fromkeys(MODULES, LOADED), "sfc_char": replace(LOADED, users=1)}
    settings = model.plan(StackState(loaded=some), {**SPEC, "state": "absent"}).settings
    assert [(setting.name, setting.finding) for setting in settings] == [("onload", False), ("sfc_char", True), ("sfc_resource", False)]
    assert "stop what runs with it" in settings[1].reason


def test_a_parameter_counts_from_the_next_load_on() -> None:
    options = {"onload": {"max_packets_per_stack": 65536, "oof_all_ports_required": 1, "nosuch": 1}}
    settings = planned(state(), options=options)
    wait = settings[(model.OPTION, "onload.max_packets_per_stack")]
    assert (wait.current, wait.desired, wait.finding) == ("32768", "65536", True) and "waits for a boot" in wait.reason
    assert settings[(model.OPTION, "onload.oof_all_ports_required")].current == "1", "the kernel shows Y"
    assert settings[(model.OPTION, "onload.nosuch")].state == UNSUPPORTED


# --- versions ---------------------------------------------------------------------------------------------------------


def test_a_library_of_another_version_than_the_driver_is_told() -> None:
    found = planned(state(told="9.1.0"))[(model.VERSION, "library and driver")]
    assert (found.state, found.current, found.desired) == (DRIFTED, "driver 9.0.2.140", "driver 9.1.0") and "same package" in found.reason
    assert wrong(state(library="", told="")) == [(model.LIBRARY, "libonload.so", "missing")]


def test_what_onload_prints() -> None:
    text = "Onload 9.0.2.140\nCopyright (c) 2002-2025 Advanced Micro Devices, Inc.\nBuilt: Jan  1 2025 (release)\nKernel module: 9.0.2.140\n"
    assert model.tool_versions(text) == "9.0.2.140" and model.tool_versions("Kernel module: [onload module not loaded]") == ""


def test_versions_of_the_site() -> None:
    rules = {"library": {"minimum": "9.1"}, "driver": {"exact": "9.0.2.140"}, "firmware": {"minimum": "8.4"}}
    assert wrong(state(), versions=rules) == [(model.VERSION, "library", "9.0.2.140"), (model.VERSION, "ens1f0 firmware", "8.3.3.1000 rx1 tx1")]
    assert planned(state(ports=(replace(SFC, firmware=""),)), versions=rules)[(model.VERSION, "ens1f0 firmware")].state == UNSUPPORTED


@pytest.mark.parametrize(("allowed", "right"), [
    ({"library": "9.0.2", "driver": "9.0.2.140", "firmware": "8.3"}, True), ({"library": "9.0"}, True), ({"library": "9.0.2.140.1"}, False),
    ({"library": "9.0.2", "firmware": "8.4"}, False),
])
def test_combinations_of_the_site(allowed: dict[str, str], right: bool) -> None:
    found = planned(state(), combinations=[{"library": "7.1"}, allowed])[(model.COMBINATION, "ens1f0")]
    assert (found.state == OK) is right and found.finding
    assert found.current == "library 9.0.2.140, driver 9.0.2.140, firmware 8.3.3.1000 rx1 tx1"


def test_a_library_of_another_stack_takes_its_version_from_its_name() -> None:
    xlio = StackState(running=Kernel(NOW), library="/usr/lib64/libxlio.so.3.41.2", ports=(Port("p0", driver="mlx5_core", driver_version="24.10-1.1.4",
                                                                                          firmware="22.43.1014"),))
    settings = planned(xlio, stack="xlio", combinations=[{"library": "3.41", "driver": "24.10", "firmware": "22.43"}])
    assert {setting.state for setting in settings.values()} == {OK} and set(settings) == {(model.LIBRARY, "libxlio.so"), (model.COMBINATION, "p0")}
    assert model.plan(xlio, {**SPEC, "stack": "xlio"}).files == ()


# --- what is wrong on any host ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spec", "words"), [
    ({"load": ["onload", "onload"]}, "named twice"),
    ({"load": ["../onload"]}, "not the name of a kernel module"),
    ({"options": {"on load": {}}}, "not the name of a kernel module"),
    ({"options": {"onload": 3}}, "is no mapping"),
    ({"options": {"onload": {"a": "1 b=2"}}}, "is not one word"),
    ({"options": {"onload": {"a": ""}}}, "is not one word"),
    ({"profiles": {"../x": {}}}, "not a name"),
    ({"profiles": {"x": {"EF_POLL_USEC": True}}}, "1 and 0 for yes and no"),
    ({"profiles": {"x": {"EF_POLL_USEC": "$(reboot)"}}}, "is not one word"),
    ({"profiles": {"x": {"ef_poll": 1}}}, "they begin with EF_"),
    ({"profiles": {"x": 1}}, "is no mapping"),
    ({"stack": "xlio", "profiles": {"x": {"EF_POLL_USEC": 1}}}, "xlio reads none"),
    ({"stack": "vma", "nics": [{"interface": "a", "af_xdp": True}]}, "af_xdp is Onload's"),
    ({"nics": [{"interface": "a"}, {"interface": "a"}]}, "named twice"),
    ({"versions": {"tool": {}}}, "no such key tool"),
    ({"versions": {"library": {"minimum": 8.1}}}, "put the version between quotes"),
    ({"versions": {"library": {"least": "8.1"}}}, "no such key least"),
    ({"versions": {"library": "8.1"}}, "is no mapping"),
    ({"combinations": [{}]}, "says nothing"),
    ({"combinations": [{"library": "new"}]}, "begins with no version number"),
])
def test_what_is_refused_on_any_host(spec: dict[str, Any], words: str) -> None:
    found = model.problems({"stack": "onload", **spec})
    assert len(found) == 1 and words in found[0]


def test_settings_of_a_profile() -> None:
    site = {"latency": {"EF_POLL_USEC": -1}, "gateway": {"EF_RXQ_SIZE": 4096}}
    assert model.profile_settings("latency", {}) == {"EF_POLL_USEC": "100000", "EF_TCP_FASTSTART_INIT": "0", "EF_TCP_FASTSTART_IDLE": "0"}
    assert model.profile_settings("latency", site) == {"EF_POLL_USEC": "-1"} and model.profile_settings("gateway", site) == {"EF_RXQ_SIZE": "4096"}
    with pytest.raises(SpecError, match="profile fast: there is none; there are: gateway, latency"):
        model.profile_settings("fast", site)
