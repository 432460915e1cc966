# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugins: a task joins where a transaction is open and runs its module where none is; wrong wishes stop it first."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure, AnsibleError
from ansible_collections.lowlatency.fleet.plugins.action import (
    apply,
    bios_info,
    bypass_stack,
    cpu_power,
    ethtool,
    hugepages,
    irq_affinity,
    kernel_cmdline,
    nic_firmware,
    pci_driver,
    preflight,
    qdisc,
    route_metrics,
    sack_filter,
    service_pinning,
    sockets,
    sysfs,
    tunables,
    units,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.domains import DOMAINS
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.topology import read_topology
from ansible_collections.lowlatency.fleet.plugins.plugin_utils import transaction
from ansible_collections.lowlatency.fleet.tests.unit.fixture_machine import two_sockets

JOINING = {"bios_info": bios_info, "bypass_stack": bypass_stack, "cpu_power": cpu_power, "ethtool": ethtool, "hugepages": hugepages,
           "irq_affinity": irq_affinity, "kernel_cmdline": kernel_cmdline,
           "nic_firmware": nic_firmware, "pci_driver": pci_driver, "qdisc": qdisc, "route_metrics": route_metrics, "sack_filter": sack_filter,
           "service_pinning": service_pinning, "sockets": sockets,
           "sysfs": sysfs, "tunables": tunables, "units": units}
RIGHT: dict[str, dict[str, Any]] = {
    "bios_info": {"policy": {"smt": "off", "smis": 0}, "nics": [{"interface": "eth0", "application_cpus": "4-7"}], "smi_seconds": 1.0},
    "bypass_stack": {"stack": "onload", "state": "present", "options": {"onload": {"max_packets_per_stack": 65536}}, "load": ["sfc_char", "onload"],
                     "profiles": {"fast": {"EF_POLL_USEC": 100000}}, "nics": [{"interface": "eth0", "af_xdp": True}]},
    "cpu_power": {"governor": "performance", "idle_latency_us": 2, "idle_cpus": "4-7", "turbo": "off"},
    "ethtool": {"nics": [{"interface": "eth0"}], "features": {"gro": "off"}, "channels": {"queues": "irq-cpus"}, "rings": {"rx": "max"},
                "coalesce": {"rx-usecs": 0, "rx-frames": 1}, "pause": {"rx": "off"}, "rps": {"rps_cpus": ""}, "required": ["coalesce.rx-usecs"]},
    "hugepages": {"pages": [{"size": "2M", "node": 0, "count": 64, "at": "boot"}]},
    "irq_affinity": {"isolated": "4-7", "housekeeping": "0-3"},
    "kernel_cmdline": {"arguments": {"isolcpus": "managed_irq,domain,2-3", "nosoftlockup": True}},
    "nic_firmware": {"nics": [{"interface": "eth0"}], "policy": {"ice": {"firmware": {"exact": "4.20"}}}},
    "pci_driver": {"devices": [{"pci": "0000:81:00.0", "driver": "vfio-pci", "supported": True}], "group": "dpdk"},
    "service_pinning": {"services": [{"unit": "feed.service", "cpus": "4-5", "scheduling_policy": "fifo", "ports": ["0000:81:00.0"]}], "manager_cpus": "0-3"},
    "qdisc": {"nics": [{"interface": "eth0"}], "qdisc": {"kind": "fq", "options": {"maxrate": "5gbit"}}},
    "sack_filter": {"prefixes": ["10.20.0.0/16", "fd20::/16"], "traffic": "orders"},
    "sockets": {"services": [{"unit": "order-entry.service", "expects": {"nodelay": True}, "look_inside": True}]},
    "route_metrics": {"metrics": {"initcwnd": 20}, "routes": [{"to": "10.64.0.0/24", "table": "main", "management": False, "metrics": {"quickack": 1}}]},
    "sysfs": {"values": {"transparent_hugepage": "never", "workqueue_cpumask": "planned"}, "housekeeping": "0-3"},
    "tunables": {"values": {"vm.swappiness": 10}},
    "units": {"removed": ["irqbalance"]},
}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "bios_info": ({"policy": {"smt": "sometimes"}}, "siblings-idle"),
    "bypass_stack": ({"stack": "onload", "profiles": {"fast": {"POLL": 1}}}, "they begin with EF_"),
    "cpu_power": ({"idle_latency_us": 0}, "name them"),
    "ethtool": ({"nics": [{"interface": "eth0"}], "features": {"gro": 0}}, "neither on nor off"),
    "hugepages": ({"mounts": [{"path": "/etc", "size": "1G"}]}, "folder of the system"),
    "kernel_cmdline": ({"arguments": {"root": "/dev/sdb"}}, "R9"),
    "irq_affinity": ({"isolated": "4-7", "housekeeping": "0-4"}, "R7"),
    "nic_firmware": ({"nics": [{"interface": "eth0"}], "policy": {"ice": {"firmware": {"minimum": 4.2}}}}, "put the version between quotes"),
    "pci_driver": ({"devices": [{"pci": "eth0"}]}, "is no PCI address"),
    "service_pinning": ({"services": [{"unit": "a.service", "cpus": "4-5"}, {"unit": "b.service", "cpus": "5"}]}, "no two services share a CPU"),
    "qdisc": ({"nics": [{"interface": "eth0"}], "qdisc": {"kind": "cake"}}, "there are: fq"),
    "sack_filter": ({"prefixes": ["10.20.0.0/16"], "traffic": "wan"}, "R14"),
    "sockets": ({"services": [{"unit": "order-entry", "expects": {"nodelay": True}}]}, "not the name of a systemd service"),
    "route_metrics": ({"metrics": {"initcwnd": 41}, "routes": [{"to": "default"}]}, "1 to 40"),
    "sysfs": ({"values": {"ksm": 3}}, "the kernel takes 0, 1, 2"),
    "tunables": ({"values": {"vm.swappiness": True}}, "YAML boolean"),
    "units": ({"removed": ["sshd"]}, "never removed"),
}


NO_BOOT = {"reboot_ok": False, "trial_seconds": 600}


class Runs:
    """Module executions instead of hosts."""

    def __init__(self, **result: Any) -> None:
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self.result = result

    def __call__(self, module_name: str, module_args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        self.seen.append((module_name, module_args))
        return dict(self.result)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction.C, "DEFAULT_LOCAL_TMP", str(tmp_path))


@pytest.fixture
def runs() -> Runs:
    return Runs(changed=True, settings=[])


class Connection:
    """As much of a connection as the actions use: its options, and how often it was opened anew."""

    def __init__(self, transport: str = "ssh", **options: str) -> None:
        self.transport, self.options, self.resets = transport, {"ssh_args": "", "ssh_common_args": "", "ssh_extra_args": "", **options}, 0
        self._shell = SimpleNamespace(tmpdir="unused")

    def get_option(self, name: str) -> str:
        return self.options[name]

    def set_option(self, name: str, value: str) -> None:
        self.options[name] = value

    def reset(self) -> None:
        self.resets += 1


def act(plugin: Any, runs: Runs, arguments: dict[str, Any], *, role: str = "", transport: str = "ssh", check: bool = False, **variables: Any) -> dict[str, Any]:
    named = SimpleNamespace(get_name=lambda: role) if role else None
    task = SimpleNamespace(args=dict(arguments), async_val=0, check_mode=check, action="a", _role=named)
    connection = Connection(transport)
    action = plugin.ActionModule(task, connection, None, None, SimpleNamespace(template=lambda value: value), None)
    action._execute_module = runs
    result: dict[str, Any] = action.run(task_vars={"inventory_hostname": "h", **variables})
    return result


def test_every_domain_has_an_action_of_its_name() -> None:
    assert set(JOINING) == set(DOMAINS)
    assert {name: plugin.ActionModule.domain for name, plugin in JOINING.items()} == {name: name for name in DOMAINS}


@pytest.mark.parametrize("name", sorted(RIGHT))
def test_without_the_variable_the_module_runs(runs: Runs, name: str) -> None:
    assert act(JOINING[name], runs, RIGHT[name])["changed"] is True
    boot = NO_BOOT if DOMAINS[name].boot else {}
    assert runs.seen == [(f"lowlatency.fleet.{name}", {**RIGHT[name], **boot})]


@pytest.mark.parametrize("name", sorted(RIGHT))
@pytest.mark.parametrize("variable", [True, "true", "yes"])
def test_with_the_variable_the_task_joins_as_its_role(runs: Runs, name: str, variable: object) -> None:
    transaction.begin("h")
    result = act(JOINING[name], runs, RIGHT[name], role="lowlatency.fleet.some_role", lowlatency_transaction=variable)
    assert result["changed"] is False and "joined the transaction as some_role" in result["msg"]
    assert runs.seen == []
    documents = transaction.take("h")
    assert list(documents) == [name] and list(documents[name]) == ["some_role"]
    assert documents[name]["some_role"].items() >= {key: value for key, value in RIGHT[name].items() if key != "nics"}.items()
    assert DOMAINS[name].problems(documents[name]["some_role"]) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"coalesce": {"rx_usecs": 0}}, "write rx-usecs"), ({"coalesce": {"rx-usecs": 0, "rx-frames": 0}}, "R13"),
     ({"channels": {"combined": 0}}, "give 1 at least"), ({"rings": {"rx": "big"}}, "not a number"),
     ({"required": ["rx-usecs"]}, "group.parameter"), ({"rss": {"equal": 0}}, "rss: equal 0"),
     ({"rings": "max"}, "rings"), ({"only_these_rules": True}, "only_these_rules")],
)
def test_what_is_wrong_of_all_nics_stops_the_host(runs: Runs, arguments: dict[str, Any], words: str) -> None:
    transaction.begin("h")
    with pytest.raises(AnsibleActionFail, match=f"h: ethtool: .*{words}"):
        act(ethtool, runs, {"nics": [{"interface": "eth0"}], **arguments}, lowlatency_transaction=True)
    assert transaction.take("h") == {}


def test_what_is_wrong_with_one_nic_joins_and_becomes_an_error_of_it_alone(runs: Runs) -> None:
    """The plan tells it on the host, so that the other NICs are finished."""
    transaction.begin("h")
    nics = [{"interface": "eth0", "coalesce": {"rx_usecs": 0}}, {"interface": "eth1"}]
    act(ethtool, runs, {"nics": nics}, role="x.y.nic_tuning", lowlatency_transaction=True)
    spec = transaction.take("h")["ethtool"]["nic_tuning"]
    assert DOMAINS["ethtool"].problems(spec) == []
    assert [nic.get("coalesce") for nic in spec["nics"]] == [{"rx_usecs": 0}, None]


@pytest.mark.parametrize("variable", [False, "false", "no", "", None])
def test_what_is_not_true_joins_nothing(runs: Runs, variable: object) -> None:
    act(tunables, runs, RIGHT["tunables"], lowlatency_transaction=variable)
    assert len(runs.seen) == 1


def test_a_task_outside_a_role_joins_as_the_site(runs: Runs) -> None:
    transaction.begin("h")
    act(tunables, runs, RIGHT["tunables"], lowlatency_transaction=True)
    assert list(transaction.take("h")["tunables"]) == ["site"]


@pytest.mark.parametrize("name", sorted(WRONG))
@pytest.mark.parametrize("is_open", [True, False])
def test_a_wrong_wish_stops_the_host_before_anything(runs: Runs, name: str, is_open: bool) -> None:
    transaction.begin("h")
    arguments, words = WRONG[name]
    with pytest.raises(AnsibleActionFail, match=f"h: {name}: .*{words}"):
        act(JOINING[name], runs, arguments, lowlatency_transaction=is_open)
    assert runs.seen == [] and transaction.take("h") == {}


def test_joining_without_preflight_names_the_remedy(runs: Runs) -> None:
    with pytest.raises(AnsibleActionFail, match=r"lowlatency\.fleet\.preflight has to run first"):
        act(tunables, runs, RIGHT["tunables"], lowlatency_transaction=True)
    assert runs.seen == []


def test_a_failure_names_the_host() -> None:
    assert act(tunables, Runs(failed=True, msg="needs root"), RIGHT["tunables"])["msg"] == "h: needs root"


# --- apply ------------------------------------------------------------------------------------------------------------


def test_apply_passes_the_captured_tree_on(runs: Runs) -> None:
    transaction.begin("h")
    transaction.join("h", "units", "a", {"removed": ["x"]})
    act(apply, runs, {"sysroot": "/srv/h"})
    assert runs.seen[0][1]["sysroot"] == "/srv/h"


def test_apply_sends_all_that_joined_in_one_execution_and_closes(runs: Runs) -> None:
    transaction.begin("h")
    for name, plugin in JOINING.items():
        act(plugin, runs, RIGHT[name], role=f"lowlatency.fleet.{name}", lowlatency_transaction=True)
    act(apply, runs, {})
    assert len(runs.seen) == 1
    name, arguments = runs.seen[0]
    assert name == "lowlatency.fleet.apply" and set(arguments["documents"]) == set(DOMAINS)
    with pytest.raises(AnsibleActionFail, match="no transaction is open"):
        act(apply, runs, {})


def test_apply_of_nothing_touches_no_host(runs: Runs) -> None:
    transaction.begin("h")
    result = act(apply, runs, {})
    assert result["skipped"] and result["changed"] is False and runs.seen == []


def test_apply_takes_documents_by_hand(runs: Runs) -> None:
    documents = {"tunables": {"site": RIGHT["tunables"]}}
    act(apply, runs, {"documents": documents})
    assert runs.seen == [("lowlatency.fleet.apply", {"documents": documents, **NO_BOOT})]


# --- a boot between two executions ------------------------------------------------------------------------------------


def setting(name: str, state: str, control: str = "cmdline.x", reason: str = "") -> dict[str, Any]:
    return {"control": control, "name": name, "state": state, "reason": reason}


ARMED = {"changed": True, "armed": True, "reboot_required": True, "reboot_reasons": ["isolcpus is not set, wanted 2-3"], "diff": [1],
         "settings": [setting("vm.swappiness", "changed"), setting("isolcpus", "drifted")]}
THERE = {"changed": True, "armed": False, "reboot_required": False, "reboot_reasons": [], "diff": [2],
         "settings": [setting("vm.swappiness", "ok"), setting("isolcpus", "changed")]}
BACK = {"changed": False, "armed": False, "reboot_required": True, "reboot_reasons": ["isolcpus is not set, wanted 2-3"],
        "settings": [setting("isolcpus", "drifted"), setting("lowlatency-trial", "drifted", "cmdline.trial", "the trial boot failed: a panic")]}


class Boots:
    """Executions with one result after the other, and the reboots between them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *results: dict[str, Any], reboot: dict[str, Any] | None = None) -> None:
        self.results = [dict(result) for result in results]
        self.seen: list[dict[str, Any]] = []
        self.reboots: list[int] = []
        self.answer = reboot or {"rebooted": True}
        monkeypatch.setattr(transaction, "_reboot", self.reboot)

    def reboot(self, action: Any, timeout: int, task_vars: dict[str, Any]) -> dict[str, Any]:
        self.reboots.append(timeout)
        return self.answer

    def __call__(self, module_name: str, module_args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        self.seen.append(module_args)
        return self.results[len(self.seen) - 1]


def booted(boots: Boots, **options: Any) -> dict[str, Any]:
    return act(apply, boots, {"documents": {"x": {}}, **options})  # type: ignore[arg-type]


def test_a_trial_is_booted_once_and_confirmed_by_a_second_execution(monkeypatch: pytest.MonkeyPatch) -> None:
    boots = Boots(monkeypatch, ARMED, THERE)
    result = booted(boots, reboot_ok=True, reboot_timeout=77, trial_seconds=88)
    assert boots.reboots == [77]
    assert [(run["reboot_ok"], run["trial_seconds"]) for run in boots.seen[:1]] == [(True, 88)]
    assert boots.seen[1]["reboot_ok"] is False, "what runs now is settled or told of, never tried again"
    assert result["rebooted"] is True and result["changed"] is True and "failed" not in result
    assert {entry["name"]: entry["state"] for entry in result["settings"]} == {"vm.swappiness": "changed", "isolcpus": "changed"}
    assert result["diff"] == [1, 2]


def test_what_waits_is_only_reported_without_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    boots = Boots(monkeypatch, {**ARMED, "armed": False})
    result = booted(boots)
    assert boots.reboots == [] and len(boots.seen) == 1 and boots.seen[0]["reboot_ok"] is False
    assert result["reboot_required"] is True and result["reboot_reasons"] and "failed" not in result and "rebooted" not in result


def test_a_trial_that_failed_fails_the_run_with_its_story_and_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    boots = Boots(monkeypatch, ARMED, BACK)
    result = booted(boots, reboot_ok=True)
    assert result["failed"] is True and boots.reboots == [1800] and len(boots.seen) == 2
    assert result["msg"] == "h: the new command line was not made the default: the trial boot failed: a panic; isolcpus is not set, wanted 2-3"


@pytest.mark.parametrize(
    ("reboot", "words"),
    [({"failed": True, "rebooted": True, "msg": "timed out"}, r"did not come back within 1800 s .*timed out"),
     ({"failed": True, "rebooted": False, "msg": "no shutdown"}, r"could not be rebooted \(no shutdown\); its next boot tries"),
     ({"unreachable": True}, "could not be rebooted")],
)
def test_a_host_that_does_not_reboot_or_come_back_is_told(monkeypatch: pytest.MonkeyPatch, reboot: dict[str, Any], words: str) -> None:
    boots = Boots(monkeypatch, ARMED, THERE, reboot=reboot)
    result = booted(boots, reboot_ok=True)
    assert result["failed"] is True and re.search(words, result["msg"]) and len(boots.seen) == 1


def test_the_controller_does_not_reboot_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    boots = Boots(monkeypatch, ARMED, THERE)
    result = act(apply, boots, {"documents": {"x": {}}, "reboot_ok": True}, transport="local")  # type: ignore[arg-type]
    assert result["failed"] is True and "would reboot the controller itself" in result["msg"] and boots.seen == []


# --- boots for the BIOS -----------------------------------------------------------------------------------------------


NOTHING_WAITS = {"changed": True, "armed": False, "reboot_required": False, "reboot_reasons": [], "settings": []}


def test_settings_of_the_bios_have_their_one_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    boots = Boots(monkeypatch, NOTHING_WAITS, {**THERE, "changed": False})
    result = booted(boots, reboot_ok=True, reboot_timeout=77, bios_waiting=["BIOS turbo"])
    assert boots.reboots == [77] and len(boots.seen) == 2 and result["rebooted"] is True and "failed" not in result
    assert all("bios_waiting" not in run for run in boots.seen)


def test_a_trial_boot_brings_settings_of_the_bios_too(monkeypatch: pytest.MonkeyPatch) -> None:
    boots = Boots(monkeypatch, ARMED, THERE)
    assert booted(boots, reboot_ok=True, bios_waiting=["BIOS turbo"])["rebooted"] is True and len(boots.reboots) == 1


def test_without_leave_settings_of_the_bios_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    boots = Boots(monkeypatch, NOTHING_WAITS)
    result = booted(boots, bios_waiting=["BIOS turbo"])
    assert boots.reboots == [] and result["reboot_required"] is True and result["reboot_reasons"] == ["BIOS turbo is set and waits"]


def test_a_host_that_does_not_come_back_from_a_boot_for_its_bios_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    boots = Boots(monkeypatch, NOTHING_WAITS, reboot={"failed": True, "rebooted": True, "msg": "timed out"})
    result = booted(boots, reboot_ok=True, bios_waiting=["BIOS turbo"])
    assert result["failed"] is True and "did not come back" in result["msg"] and "BIOS turbo" in result["msg"]


def test_a_host_is_booted_once_in_a_run(monkeypatch: pytest.MonkeyPatch, surveyed: Runs) -> None:
    boots = Boots(monkeypatch, NOTHING_WAITS)
    done = act(preflight, surveyed, {"bios_waiting": ["BIOS smt"], "reboot_ok": True, "reboot_timeout": 55})
    assert boots.reboots == [55] and "topology" in done, "the plan is made of what came up"
    result = booted(boots, reboot_ok=True, bios_waiting=["BIOS smt", "BIOS turbo"])
    assert boots.reboots == [55] and boots.seen[0]["reboot_ok"] is False and "failed" not in result


def test_cores_are_not_planned_for_a_machine_that_will_be_another(monkeypatch: pytest.MonkeyPatch, surveyed: Runs) -> None:
    boots = Boots(monkeypatch)
    with pytest.raises(AnsibleActionFail, match=r"BIOS smt is set and changes its CPUs .*nothing was written"):
        act(preflight, surveyed, {"bios_waiting": ["BIOS smt"]})
    assert boots.reboots == [] and surveyed.seen == []
    with pytest.raises(AnsibleActionFail, match="would reboot the controller itself"):
        act(preflight, surveyed, {"bios_waiting": ["BIOS smt"], "reboot_ok": True}, transport="local")


# --- preflight --------------------------------------------------------------------------------------------------------


@pytest.fixture
def surveyed(tmp_path: Path) -> Runs:
    topology = read_topology(Host(str(two_sockets(tmp_path / "machine", cores=8).root))).to_dict()
    return Runs(changed=False, topology=topology, host={"interfaces": ["eth0", "eth1", "lo"], "kernel": "6.1.0"})


def test_preflight_plans_and_opens_an_empty_transaction(surveyed: Runs) -> None:
    transaction.begin("h")
    transaction.join("h", "units", "left_over", {"removed": ["x"]})
    result = act(preflight, surveyed, {"profile": "md_gateway", "nics": [{"interface": "eth0", "application_cores": 2}]})
    assert surveyed.seen == [("lowlatency.fleet.topology_info", {"sysroot": "/"})]
    assert transaction.take("h") == {}, "nothing leaks from what was open before"
    assert result["changed"] is False
    # the channels of a NIC may follow the number of CPUs for its interrupts
    assert result["nics"] == [{"interface": "eth0", "irq_cpus": "2-3"}] and result["irq_nics"] == [{"pci": "0000:01:00.0", "cpus": "2-3"}]
    wish = {"isolated": result["partition"]["isolated"], "housekeeping": result["partition"]["housekeeping"], "nics": result["irq_nics"]}
    assert wish["isolated"] and DOMAINS["irq_affinity"].problems(wish) == []


@pytest.mark.parametrize(("kernel", "at"), [("6.1.0-40-amd64", "boot"), ("5.10.0-40-amd64", "runtime")])
def test_preflight_plans_huge_pages_by_the_kernel_that_runs(surveyed: Runs, kernel: str, at: str) -> None:
    for memory in surveyed.result["topology"]["memory"].values():
        memory["total_kib"] = 8 << 20
    surveyed.result["host"]["kernel"] = kernel
    result = act(preflight, surveyed, {"nics": [{"interface": "eth1"}], "hugepages": [{"size": "1G", "count": 4}]})
    assert result["hugepages"] == [{"size": "1G", "node": 1, "count": 4, "at": at}]
    assert DOMAINS["hugepages"].problems({"pages": result["hugepages"]}) == []
    assert any("huge pages on node 1" in line for line in result["summary"])
    assert any("5.10" in line for line in result["explanation"]) == (at == "runtime")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"hugepages": [{"size": "1G", "count": 4, "node": 0}]}, r"h: hugepages: .*at most four fifths.*\(R8\); nothing was written"),
     ({"hugepages": [{"size": "2MB", "count": 4, "node": 0}]}, "2MB"),
     ({"nics": [{"interface": "eth7"}]}, "eth7.*there are: eth0, eth1, lo"), ({"application_cores": 400}, "h: .*nothing was written"),
     ({"nics": [{"interface": "eth0", "carrys": "x"}]}, "no such key carrys"), ({"smt_policy": "half"}, "smt_policy")],
)
def test_preflight_refuses_and_opens_nothing(surveyed: Runs, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(AnsibleActionFail, match=words):
        act(preflight, surveyed, arguments)
    with pytest.raises(AnsibleActionFail, match="no transaction is open"):
        transaction.take("h")


def test_a_real_run_on_a_captured_tree_stops_before_any_role(surveyed: Runs) -> None:
    with pytest.raises(AnsibleActionFail, match=r"h: sysroot /srv/h: a captured tree is only audited; run in check mode"):
        act(preflight, surveyed, {"sysroot": "/srv/h"}, lowlatency_transaction=True)
    assert surveyed.seen == []
    act(preflight, surveyed, {"sysroot": "/srv/h"})
    act(preflight, surveyed, {"sysroot": "/srv/h"}, check=True, lowlatency_transaction=True)
    assert surveyed.seen == [("lowlatency.fleet.topology_info", {"sysroot": "/srv/h"})] * 2


def test_an_unknown_profile_stops_before_the_host_is_asked(surveyed: Runs) -> None:
    with pytest.raises(AnsibleError, match="no profile 'x'"):
        act(preflight, surveyed, {"profile": "x"})
    assert surveyed.seen == []


def test_a_host_that_cannot_be_read_opens_nothing() -> None:
    assert act(preflight, Runs(failed=True, msg="no CPUs"), {})["msg"] == "h: no CPUs"
    with pytest.raises(AnsibleActionFail, match="no transaction is open"):
        transaction.take("h")


# --- network changes that wait ----------------------------------------------------------------------------------------


class Answering:
    """Answers of a host: to the module that changes the network, and to each attempt to confirm."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *confirmations: dict[str, Any] | Exception, **changed: Any) -> None:
        self.answers = list(confirmations)
        self.changed = {"changed": True, "settings": [], "unconfirmed": "abc", **changed}
        self.seen: list[str] = []
        self.clock = 0.0
        monkeypatch.setattr(transaction.time, "sleep", self.wait)
        monkeypatch.setattr(transaction.time, "monotonic", lambda: self.clock)

    def wait(self, seconds: float) -> None:
        self.clock += seconds

    def __call__(self, module_name: str, module_args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        self.seen.append(module_name.rpartition(".")[2])
        if not module_name.endswith(".confirm"):
            return dict(self.changed)
        assert module_args == {"identity": "abc"}
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.clock += 1
        if isinstance(answer, Exception):
            raise answer
        return answer


TUNED = {"nics": [{"interface": "eth0"}], "confirm_seconds": 30}


def test_a_network_change_is_confirmed_over_a_new_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Answering(monkeypatch, {"changed": False})
    result = act(ethtool, host, TUNED)  # type: ignore[arg-type]
    assert host.seen == ["ethtool", "confirm"] and not result.get("failed")


def test_a_host_is_tried_until_it_answers_again(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Answering(monkeypatch, AnsibleConnectionFailure("no route"), {"unreachable": True, "msg": "x"}, {"changed": False})
    assert not act(ethtool, host, TUNED).get("failed")  # type: ignore[arg-type]
    assert host.seen == ["ethtool", "confirm", "confirm", "confirm"]


@pytest.mark.parametrize("answer", [AnsibleConnectionFailure("no route"), {"unreachable": True, "msg": "no route"}])
def test_a_host_that_stays_away_is_given_up_when_it_goes_back_by_itself(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    host = Answering(monkeypatch, answer)
    result = act(ethtool, host, TUNED)  # type: ignore[arg-type]
    assert result["failed"] and "no route" in result["msg"] and "takes it back by itself 30 s after" in result["msg"]
    assert 30 <= host.clock < 36


def test_a_change_that_was_taken_back_already_is_a_failure_that_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Answering(monkeypatch, {"failed": True, "msg": "the host took it back"})
    result = act(ethtool, host, TUNED)  # type: ignore[arg-type]
    assert result["failed"] and "the host took it back" in result["msg"] and host.seen == ["ethtool", "confirm"]


def test_what_went_well_is_confirmed_where_something_else_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Answering(monkeypatch, {"changed": False}, failed=True, msg="nic eth9: no such interface")
    result = act(ethtool, host, TUNED)  # type: ignore[arg-type]
    assert host.seen == ["ethtool", "confirm"] and result["msg"] == "h: nic eth9: no such interface"


def test_nothing_is_confirmed_where_nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Answering(monkeypatch, {"changed": False}, unconfirmed="")
    act(ethtool, host, TUNED)  # type: ignore[arg-type]
    assert host.seen == ["ethtool"]


def test_a_connection_that_breaks_meanwhile_says_what_the_host_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_call: Any) -> dict[str, Any]:
        raise AnsibleConnectionFailure("gone")

    with pytest.raises(AnsibleConnectionFailure, match=r"gone \(where this run was changing the network, the host takes that back 30 s later\)"):
        act(ethtool, broken, TUNED)  # type: ignore[arg-type]
    with pytest.raises(AnsibleConnectionFailure, match=r"^gone$"):
        act(tunables, broken, RIGHT["tunables"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("transport", "options", "extra"),
    [("ssh", {}, "-o ServerAliveInterval=10 -o ServerAliveCountMax=6"),
     ("ssh", {"ssh_extra_args": "-v"}, "-v -o ServerAliveInterval=10 -o ServerAliveCountMax=6"),
     ("ssh", {"ssh_common_args": "-o ServerAliveInterval=3"}, ""), ("local", {}, "")],
)
def test_ssh_gives_up_a_host_that_says_nothing_unless_the_site_says_when(transport: str, options: dict[str, str], extra: str) -> None:
    connection = Connection(transport, **options)
    transaction.notice_silence(connection)
    assert connection.options["ssh_extra_args"] == extra
