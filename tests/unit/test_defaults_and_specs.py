# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said in two places is the same in both: defaults and argument specs, options and documentation, profiles and roles."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lowlatency.fleet.plugins.action import bios_redfish as redfish_action
from ansible_collections.lowlatency.fleet.plugins.action import captures as captures_action
from ansible_collections.lowlatency.fleet.plugins.action import driver_sources as sources_action
from ansible_collections.lowlatency.fleet.plugins.action import preflight as preflight_action
from ansible_collections.lowlatency.fleet.plugins.module_utils.domains import DOMAINS
from ansible_collections.lowlatency.fleet.plugins.module_utils.door import (
    BOOT_OPTIONS,
    NETWORK_OPTIONS,
    TREE_OPTIONS,
    extra_options,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model import (
    bios,
    buffers,
    bypass_stack,
    cmdline,
    cpu_power,
    hugepages,
    irq,
    nic,
    nic_firmware,
    nic_parameters,
    nic_update,
    pci_driver,
    qdisc,
    sack_filter,
    service_pinning,
    sockets,
    sysfs,
    tunables,
    units,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.host_plan import NIC_KEYS
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.partition import Intent
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import ERROR, Setting
from ansible_collections.lowlatency.fleet.plugins.module_utils.update_door import UPDATE_OPTIONS
from ansible_collections.lowlatency.fleet.plugins.plugin_utils import bios_attributes
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.report import why

REPOSITORY = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (REPOSITORY / "roles").iterdir() if path.is_dir())
PROFILES = sorted(path.stem for path in (REPOSITORY / "profiles").glob("*.yml"))
PLAYBOOKS = sorted(path.stem for path in (REPOSITORY / "playbooks").glob("*s.yml"))

# What comes from outside of a role: the play, and preflight's result.
FROM_OUTSIDE = {"lowlatency_profile"}
# Values of the site that role defaults may read.
SITE = {"lowlatency_nics", "lowlatency_application_cores", "lowlatency_application_cpulist", "lowlatency_hugepages", "lowlatency_hugepages_mounts",
        "lowlatency_services", "lowlatency_bypass_profiles",
        "lowlatency_nic_policy", "lowlatency_smt_policy", "lowlatency_bios_policy",
        "lowlatency_reboot_ok", "lowlatency_reboot_timeout", "lowlatency_trial_seconds", "lowlatency_confirm_seconds", "lowlatency_sysroot"}


def loaded(name: str) -> Any:
    return yaml.safe_load((REPOSITORY / name).read_text(encoding="utf-8"))


def defaults(role: str) -> dict[str, Any]:
    return dict(loaded(f"roles/{role}/defaults/main.yml") or {})


def described(role: str) -> dict[str, Any]:
    return dict(loaded(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"]["options"] or {})


def texts(tree: Any) -> Iterator[Any]:
    """Every description of an argument spec or of a module's documentation."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key in ("description", "short_description") and not isinstance(value, dict):
                yield from value if isinstance(value, list) else [value]
            else:
                yield from texts(value)


# --- roles ------------------------------------------------------------------------------------------------------------


def test_there_are_roles_and_profiles() -> None:
    assert {"preflight", "apply", "tcp_tuning"} <= set(ROLES) and {"md_gateway"} <= set(PROFILES)


@pytest.mark.parametrize("role", ROLES)
def test_every_default_is_described_and_every_description_has_a_default(role: str) -> None:
    assert set(described(role)) - FROM_OUTSIDE == set(defaults(role))
    assert all(name.startswith(f"{role}_") for name in defaults(role))
    assert all(described(role)[name].get("required") for name in FROM_OUTSIDE & set(described(role)))


@pytest.mark.parametrize("role", ROLES)
def test_an_argument_spec_holds_no_value_of_its_own(role: str) -> None:
    assert [name for name, option in described(role).items() if "default" in option] == []


@pytest.mark.parametrize("role", ROLES)
def test_a_default_has_the_described_type(role: str) -> None:
    kinds = {"bool": bool, "int": int, "str": str, "dict": dict, "list": list}
    for name, value in defaults(role).items():
        if not (isinstance(value, str) and "{{" in value):
            assert isinstance(value, kinds[described(role)[name]["type"]]), name


@pytest.mark.parametrize("role", ROLES)
def test_descriptions_are_text(role: str) -> None:
    found = list(texts(loaded(f"roles/{role}/meta/argument_specs.yml")))
    assert found and all(isinstance(text, str) for text in found), "a colon in a description makes it a mapping; quote it"


@pytest.mark.parametrize("role", ROLES)
def test_a_role_s_task_reads_every_variable_and_defines_none(role: str) -> None:
    task = "\n".join(path.read_text(encoding="utf-8") for path in sorted((REPOSITORY / f"roles/{role}/tasks").glob("*.yml")))
    used = set(re.findall(rf"\b{role}_\w+", task)) - {f"{role}_result"}
    assert used == set(defaults(role))


@pytest.mark.parametrize("role", ROLES)
def test_defaults_read_only_what_is_known(role: str) -> None:
    text = (REPOSITORY / f"roles/{role}/defaults/main.yml").read_text(encoding="utf-8")
    text = "\n".join(line.split("#")[0] for line in text.splitlines())
    assert set(re.findall(r"\blowlatency_\w+", text)) <= SITE | FROM_OUTSIDE
    assert set(re.findall(r"lowlatency_profile, '(\w+)'", text)) <= {role}


# --- modules ----------------------------------------------------------------------------------------------------------


def as_documented(options: Mapping[str, Any]) -> dict[str, Any]:
    """An argument spec or the options of a documentation in one form, with everything that is left out said."""
    return {name: {"type": option.get("type", "str"), "elements": option.get("elements"), "required": bool(option.get("required", False)),
                   "default": option.get("default"), "choices": option.get("choices"), "aliases": option.get("aliases", []),
                   "options": as_documented(option.get("options") or option.get("suboptions") or {})}
            for name, option in options.items()}


SPECS = {**{name: {**domain.options, **extra_options(name)} for name, domain in DOMAINS.items()},
         "nic_update": UPDATE_OPTIONS, "driver_sources": sources_action.OPTIONS, "preflight": preflight_action.OPTIONS, "captures": captures_action.OPTIONS,
         "bios_redfish": redfish_action.OPTIONS,
         "apply": {"documents": {"type": "dict"}, "bios_waiting": {"type": "list", "elements": "str", "default": []}, **BOOT_OPTIONS, **NETWORK_OPTIONS,
                   **TREE_OPTIONS},
         "confirm": {"identity": {"type": "str", "required": True}}}


@pytest.mark.parametrize("name", sorted(SPECS))
def test_options_are_documented_as_they_are(name: str) -> None:
    module = importlib.import_module(f"ansible_collections.lowlatency.fleet.plugins.modules.{name}")
    documentation = yaml.safe_load(module.DOCUMENTATION)
    assert documentation["module"] == name
    assert as_documented(documentation["options"]) == as_documented(SPECS[name])
    found = [*texts(documentation), *texts(yaml.safe_load(module.RETURN))]
    assert found and all(isinstance(text, str) for text in found)


@pytest.mark.parametrize("name", sorted(DOMAINS))
def test_every_module_documents_the_same_contract(name: str) -> None:
    returned = [yaml.safe_load(importlib.import_module(f"ansible_collections.lowlatency.fleet.plugins.modules.{module}").RETURN) for module in (name, "apply")]
    for result in returned:
        result.pop("rebooted", None)  # by the action, where there is one
    for settings in (result["settings"]["contains"] for result in returned):
        settings["control"].pop("sample", None)
    assert returned[0] == returned[1]
    assert set(returned[0]["settings"]["contains"]) == {"control", "name", "current", "persisted", "desired", "state", "reason", "needs_reboot",
                                                        "finding"}


@pytest.mark.parametrize("name", sorted(DOMAINS))
def test_examples_are_right(name: str) -> None:
    module = importlib.import_module(f"ansible_collections.lowlatency.fleet.plugins.modules.{name}")
    for task in yaml.safe_load(module.EXAMPLES):
        assert DOMAINS[name].problems(task[f"lowlatency.fleet.{name}"]) == []


def test_the_examples_of_what_changes_drivers_and_firmware_are_right() -> None:
    def example(name: str) -> dict[str, Any]:
        module = importlib.import_module(f"ansible_collections.lowlatency.fleet.plugins.modules.{name}")
        return dict(yaml.safe_load(module.EXAMPLES)[0][f"lowlatency.fleet.{name}"])

    update, sources = example("nic_update"), example("driver_sources")
    assert nic_firmware.problems(update) == [] == nic_update.image_problems(update["images"])
    assert nic_update.source_problems(sources["packages"], []) == []


OF_BOOTS = {"bios_waiting", "reboot_ok", "reboot_timeout"}


def test_what_preflight_takes_is_what_the_partition_knows() -> None:
    beside = {"profile", "sysroot", "all_nics", "hugepages", "services", "bypass_profiles", *OF_BOOTS}
    assert set(preflight_action.OPTIONS) - beside == set(Intent.__dataclass_fields__)
    role = set(defaults("preflight"))
    assert {f"preflight_{name}" for name in preflight_action.OPTIONS} - {"preflight_profile"} == role
    for name, option in preflight_action.OPTIONS.items():
        if "default" in option and name in Intent.__dataclass_fields__ and name != "nics":
            assert option["default"] == Intent.__dataclass_fields__[name].default, name


def test_the_page_on_tcp_names_only_expectations_that_there_are() -> None:
    named = set(re.findall(r"`(socket\.\w+)\*?`", (REPOSITORY / "docs/tcp.md").read_text(encoding="utf-8")))
    controls = [sockets.control_of(name) for name in sockets.EXPECTATIONS]
    assert named and [name for name in named if not any(control.startswith(name) for control in controls)] == []


# --- profiles ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_names_only_roles_and_what_their_defaults_read(profile: str) -> None:
    for role, values in loaded(f"profiles/{profile}.yml").items():
        assert role in ROLES
        for key in values:
            assert f"{role}_{key}" in defaults(role), f"{role}: {key}"
            assert f"lowlatency_profile, '{role}').{key}" in str(defaults(role)[f"{role}_{key}"]), f"{role}_{key} does not read the profile"


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_has_all_that_defaults_read_without_an_alternative(profile: str) -> None:
    said = loaded(f"profiles/{profile}.yml")
    for role in ROLES:
        for value in defaults(role).values():
            match = re.search(r"'(\w+)'\)\.(\w+)(.*)", str(value))
            if match and "default(" not in match.group(3):
                assert match.group(2) in said[match.group(1)]


@pytest.mark.parametrize("profile", PROFILES)
def test_what_a_profile_wants_is_right(profile: str) -> None:
    said = loaded(f"profiles/{profile}.yml")
    for role in ("kernel_tunables", "tcp_tuning"):
        traffic = said[role]["traffic"] if role == "tcp_tuning" else None
        assert tunables.problems({"values": said.get(role, {}).get("sysctl", {}), "housekeeping": "0-3", "traffic": traffic}) == []
    assert sysfs.problems({"values": said["kernel_tunables"].get("sysfs", {}), "housekeeping": "0-3"}) == []
    assert cpu_power.problems({**said.get("cpu_power", {}), "idle_cpus": "4-7"}) == []
    assert bios.problems(said.get("bios_check", {})) == []
    assert nic.problems({**said["nic_tuning"], "nics": []}) == []
    assert set(said["nic_tuning"]) <= {*nic.MAPPINGS, "required"}
    switches = [value for values in said["nic_tuning"].values() if isinstance(values, dict) for value in values.values() if not isinstance(value, int)]
    assert switches and all(isinstance(value, str) for value in switches), "quoted, as ethtool says it"
    assert not any(isinstance(value, bool) for values in said["nic_tuning"].values() for value in values.values()), "on and off are quoted"
    assert units.problems(said["noisy_services"]) == []
    assert qdisc.problems({"qdisc": said["tcp_tuning"].get("qdisc", {}), "nics": []}) == []
    assert sockets.problems(said["tcp_tuning"]) == []
    assert cmdline.problems(said.get("kernel_cmdline", {})) == []
    Intent.from_dict({**said["preflight"], "nics": []})
    assert bios_attributes.wanted_items(said["bios_redfish"].get("wanted", {}), said["bios_redfish"]["smt_policy"]) is not None
    assert said["bios_redfish"]["smt_policy"] == said["preflight"]["smt_policy"], "what the BMC is told is what cores are planned by"


@pytest.mark.parametrize("profile", PROFILES)
def test_two_roles_do_not_speak_of_one_key(profile: str) -> None:
    said = loaded(f"profiles/{profile}.yml")
    keys = [tunables.dotted(key) for role in ("kernel_tunables", "tcp_tuning") for key in said.get(role, {}).get("sysctl", {})]
    assert len(keys) == len(set(keys))
    assert all(key.startswith("net.") for key in said["tcp_tuning"]["sysctl"])
    assert not any(key.startswith("net.") for key in said["kernel_tunables"]["sysctl"])


@pytest.mark.parametrize("profile", PROFILES)
def test_it_is_said_why_everything_matters(profile: str) -> None:
    said = loaded(f"profiles/{profile}.yml")
    controls = [key for role in ("kernel_tunables", "tcp_tuning") for key in said.get(role, {}).get("sysctl", {})]
    controls += [sysfs.control_of(name) for name in said["kernel_tunables"].get("sysfs", {})]
    controls += [nic_firmware.DRIVER, nic_firmware.FIRMWARE, nic_firmware.WIDTH, nic_firmware.SPEED, nic_firmware.NODE]
    controls += [cpu_power.GOVERNOR, cpu_power.MINIMUM, cpu_power.PREFERENCE, cpu_power.BIAS, cpu_power.TURBO, cpu_power.UNCORE, cpu_power.IDLE,
                 cpu_power.COMPETITOR]
    controls += [f"bios.{name}" for name in bios.FINDINGS]
    controls += bypass_stack.CONTROLS
    controls += [f"cmdline.{name}" for name in said.get("kernel_cmdline", {}).get("arguments", {})]
    controls += [f"svc.{name}" for name in said["noisy_services"]["removed"]]
    tuned = {setting.control for setting in nic_settings(said["nic_tuning"])}
    assert {f"net.offload.{name}" for name in said["nic_tuning"]["features"]} < tuned
    assert [control for control in [*controls, *sorted(tuned)] if not why(control)] == []


def nic_settings(wanted: Mapping[str, Any]) -> tuple[Setting, ...]:
    """What is wanted of a NIC with one queue and every parameter; each wish of it is a setting, also those that its driver has not."""
    held = {group: {name: nic_parameters.Parameter(1, 4096) for name in names} for group, names in nic_parameters.NAMES.items()}
    held[nic_parameters.CHANNELS] = {"combined": nic_parameters.Parameter(1, 1)}
    queues = {("rx-0", file): "" for file in (nic.RPS_CPUS, nic.RPS_FLOWS)}
    spec = {**wanted, "nics": [{"interface": "eth0", "irq_cpus": "0"}]}
    settings = nic.plan(nic.EthtoolState((nic.NicState("eth0", parameters=held, queues=queues),)), spec).settings
    assert not [setting for setting in settings if setting.state == ERROR]
    return settings


@pytest.mark.parametrize("profile", PROFILES)
def test_every_wish_of_a_profile_becomes_a_setting_of_each_nic(profile: str) -> None:
    said = loaded(f"profiles/{profile}.yml")["nic_tuning"]
    names = [setting.name.rpartition(".")[2] for setting in nic_settings(said)]
    wanted = [nic_parameters.LABELS.get(group, "") + {"queues": "combined"}.get(name, name)
              for group, values in said.items() if group != "required" for name in values]
    assert sorted(names) == sorted(wanted)


def test_it_is_said_why_every_expectation_of_a_connection_matters() -> None:
    assert [control for control in map(sockets.control_of, sockets.EXPECTATIONS) if not why(control)] == []


def test_a_role_takes_the_services_that_its_module_takes() -> None:
    role = described("tcp_tuning")["tcp_tuning_services"]["options"]
    module = DOMAINS["sockets"].options["services"]["options"]
    assert {name: option["type"] for name, option in role.items()} == {name: option["type"] for name, option in module.items()}
    types = {sockets.YES_OR_NO: "bool", sockets.WORD: "str"}
    expects = {name: option["type"] for name, option in role["expects"]["options"].items()}
    assert expects == {name: types.get(expectation.kind, "int") for name, expectation in sockets.EXPECTATIONS.items()}
    documentation = yaml.safe_load(importlib.import_module("ansible_collections.lowlatency.fleet.plugins.modules.sockets").DOCUMENTATION)
    text = " ".join(documentation["options"]["services"]["suboptions"]["expects"]["description"])
    assert [name for name in sockets.EXPECTATIONS if f"C({name})" not in text] == []


def test_it_is_said_why_every_kind_of_setting_of_a_nic_and_of_interrupts_matters() -> None:
    controls = {nic_parameters.control_of(group, name) for group, names in nic_parameters.NAMES.items() for name in names}
    controls |= {nic.RSS_CONTROL, nic.RULE_CONTROL, nic.QUEUE_CONTROL, *nic.NAPI_CONTROLS.values(), *nic_parameters.CONTROLS.values()}
    controls |= {irq.NIC, irq.OTHER, irq.DEFAULT, irq.QUIET, "nic", qdisc.CONTROL, sack_filter.CONTROL, sack_filter.FILE_CONTROL, sack_filter.UNIT_CONTROL,
                 *service_pinning.CONTROLS, pci_driver.DRIVER, pci_driver.ACCESS, pci_driver.RECORD_CONTROL, pci_driver.RULES_CONTROL, hugepages.ELSEWHERE}
    assert [control for control in sorted(controls) if not why(control)] == []
    assert {"net.channels", "net.coalesce.rx_usecs", "net.coalesce.adaptive", "net.private_flag", "net.eee", "net.pause", "net.ring.rx_tx", "net.rss",
            "net.flow.ntuple", "net.rps_xps", "net.napi.defer", "net.napi.threaded", "irq.none_on_isolated"} <= controls


# --- playbooks --------------------------------------------------------------------------------------------------------


def test_there_is_a_playbook_for_every_profile() -> None:
    named = {play["vars"]["lowlatency_profile"] for name in PLAYBOOKS for play in loaded(f"playbooks/{name}.yml") if "roles" in play or "tasks" in play}
    assert named == set(PROFILES)


def test_the_example_inventory_uses_only_known_keys() -> None:
    def hosts(group: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        yield group.get("vars") or {}
        yield from ((variables or {}) for variables in (group.get("hosts") or {}).values())
        for child in (group.get("children") or {}).values():
            yield from hosts(child or {})

    known = {name for role in ROLES for name in defaults(role)} | SITE
    for variables in hosts(loaded("inventories/example/hosts.yml")["all"]):
        assert {name for name in variables if name.startswith(tuple(f"{role}_" for role in ROLES))} <= known
        for entry in variables.get("lowlatency_nics", []):
            assert set(entry) <= set(NIC_KEYS)
        for name, value in variables.items():
            if name.endswith("_sysctl_extra"):
                assert tunables.problems({"overrides": value}) == []
            if name == "tcp_tuning_paths":
                assert buffers.needed(value) > 0
            if name == "tcp_tuning_services":
                assert sockets.problems({"services": value}) == []
