# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shipped playbook bios.yml, run by ansible-playbook against BMCs. Judged by what the BMC itself says, and by what Ansible printed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import PASSWORD, USER, Authority, Behaviour, Bmc, free_port

REPOSITORY = Path(__file__).resolve().parents[2]
# A play after it sees what it registered, and writes it down.
DUMP = """---
- hosts: md-gateways
  gather_facts: false
  become: false
  tasks:
    - ansible.builtin.copy:
        content: "{{ bios_redfish_result | to_json }}"
        dest: "{{ dump }}"
      delegate_to: localhost
      check_mode: false
      vars: {ansible_python_interpreter: "{{ ansible_playbook_python }}"}
"""


class Run:
    """One run of ansible-playbook: its output, and what the module returned."""

    def __init__(self, done: subprocess.CompletedProcess[str], dump: Path) -> None:
        self.output = done.stdout + done.stderr
        assert done.returncode == 0, self.output
        assert PASSWORD not in self.output and PASSWORD not in dump.read_text(), "the password is nowhere"
        assert "Traceback" not in self.output
        self.result: dict[str, Any] = json.loads(dump.read_text())
        self.settings = {setting["control"].rpartition(".")[2]: setting for setting in self.result["settings"]}

    def states(self) -> dict[str, str]:
        return {name: setting["state"] for name, setting in self.settings.items()}

    def only(self) -> dict[str, Any]:
        """The one setting that stands for a BMC that could not be asked."""
        assert list(self.settings) == ["bmc"] and self.settings["bmc"]["state"] == "error" and self.settings["bmc"]["finding"], self.settings
        return dict(self.settings["bmc"])


Play = Callable[..., Run]


@pytest.fixture
def play(tmp_path: Path, authority: Authority) -> Play:
    def playing(bmc: str, *arguments: str, **variables: Any) -> Run:
        said = {"bios_redfish_address": bmc, "bios_redfish_username": USER, "bios_redfish_password": PASSWORD, "bios_redfish_ca_path": str(authority.ca),
                "bios_redfish_wanted": {}, "lowlatency_smt_policy": "share", "bios_redfish_timeout": 5, **variables}
        inventory = {"all": {"children": {"md-gateways": {"hosts": {"md-1": {"ansible_host": "192.0.2.1", **said}}}}}}
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
        (tmp_path / "dump.yml").write_text(DUMP)
        dump = tmp_path / "result.json"
        dump.unlink(missing_ok=True)
        done = subprocess.run(["ansible-playbook", "-i", tmp_path / "hosts.yml", REPOSITORY / "playbooks/bios.yml", tmp_path / "dump.yml", "-e", f"dump={dump}",
                               "-v", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        return Run(done, dump)
    return playing


# --- sushy-tools' emulator --------------------------------------------------------------------------------------------


def test_audit_then_set_then_nothing_left_to_do(play: Play, emulator: Bmc) -> None:
    emulator.put(LogicalProc="Enabled", SysProfile="PerfPerWattOptimizedDapc", NodeInterleave="Disabled")
    wanted = {"bios_redfish_vendor": "Dell", "lowlatency_smt_policy": "off", "bios_redfish_attributes": {"QuietBoot": "false"},
              "bios_redfish_wanted": {"power_profile": "performance", "node_interleaving": "off", "x2apic": True}}
    seen = play(emulator.address, "--check", **wanted, bios_redfish_set=True)
    assert seen.states() == {"power_profile": "drifted", "node_interleaving": "ok", "x2apic": "unsupported", "smt": "drifted", "QuietBoot": "drifted"}
    assert (seen.settings["smt"]["current"], seen.settings["smt"]["desired"]) == ("Enabled", "Disabled")
    assert "ProcX2Apic" in seen.settings["x2apic"]["reason"]
    assert seen.result["changed"] and emulator.attributes()["LogicalProc"] == "Enabled", "check mode sets nothing"
    told = play(emulator.address, **wanted)
    assert told.states() == seen.states() and not told.result["changed"]
    assert all(setting["finding"] for setting in told.settings.values() if setting["state"] == "drifted")
    assert "bios_redfish_set" in told.settings["smt"]["reason"] and emulator.attributes()["LogicalProc"] == "Enabled", "nobody allowed it"
    done = play(emulator.address, **wanted, bios_redfish_set=True)
    assert done.result["changed"] and {name for name, state in done.states().items() if state != "ok"} == {"x2apic"}
    held = emulator.attributes()
    assert (held["LogicalProc"], held["SysProfile"], held["QuietBoot"], held["NodeInterleave"]) == ("Disabled", "PerfOptimized", "false", "Disabled")
    assert held["BootMode"] == "Uefi", "what nobody asked for stays"
    again = play(emulator.address, **wanted, bios_redfish_set=True)
    assert again.states() == done.states() and not again.result["changed"]


def test_attributes_that_a_profile_locks_are_not_tried(play: Play, emulator: Bmc) -> None:
    emulator.put(SysProfile="PerfOptimized", ProcTurboMode="Enabled")
    wanted = {"bios_redfish_vendor": "Dell", "bios_redfish_wanted": {"turbo": "off"}, "bios_redfish_set": True}
    locked = play(emulator.address, **wanted)
    assert locked.states() == {"turbo": "drifted"} and "SysProfile is Custom" in locked.settings["turbo"]["reason"]
    assert emulator.attributes()["ProcTurboMode"] == "Enabled" and not locked.result["changed"]
    emulator.put(SysProfile="Custom")
    assert play(emulator.address, **wanted).states() == {"turbo": "ok"}
    assert emulator.attributes()["ProcTurboMode"] == "Disabled"


def test_a_vendor_that_is_not_known_has_its_attributes_by_name(play: Play, emulator: Bmc) -> None:
    found = play(emulator.address, bios_redfish_wanted={"smt": "off"}, bios_redfish_attributes={"BootMode": "Uefi", "NoSuch": 1})
    assert found.states() == {"smt": "unsupported", "BootMode": "ok", "NoSuch": "unsupported"}


def test_a_wrong_password_is_one_finding(play: Play, emulator: Bmc) -> None:
    found = play(emulator.address, bios_redfish_wanted={"smt": "off"}, bios_redfish_username="somebody").only()
    assert "refused the name or the password" in found["reason"]


def test_a_certificate_that_nobody_vouches_for_is_one_finding(play: Play, emulator: Bmc, tmp_path: Path) -> None:
    found = play(emulator.address, bios_redfish_wanted={"smt": "off"}, bios_redfish_ca_path="/etc/ssl/certs/ca-certificates.crt").only()
    assert "is not trusted" in found["reason"] and "ca-certificates.crt did not sign it" in found["reason"]
    trusted = play(emulator.address, bios_redfish_vendor="Dell", bios_redfish_wanted={"smt": "off"}, bios_redfish_ca_path="/etc/ssl/certs/ca-certificates.crt",
                   bios_redfish_validate_certs=False)
    assert "bmc" not in trusted.states(), "only where the site says so"


# --- one that misbehaves ----------------------------------------------------------------------------------------------


def test_what_is_set_waits_for_the_next_boot(play: Play, other_bmc: Bmc, behaviour: Behaviour) -> None:
    behaviour.attributes = {"LogicalProc": "Enabled", "NodeInterleave": "Disabled", "SysProfile": "Custom"}
    wanted = {"bios_redfish_wanted": {"smt": "off", "node_interleaving": "off", "power_profile": "performance"}, "bios_redfish_set": True}
    done = play(other_bmc.address, **wanted)
    assert behaviour.pending == {"LogicalProc": "Disabled", "SysProfile": "PerfOptimized"} and behaviour.attributes["LogicalProc"] == "Enabled"
    smt = done.settings["smt"]
    assert (smt["current"], smt["persisted"], smt["state"], smt["needs_reboot"]) == ("Enabled", "Disabled", "drifted", True)
    assert "waits for the next boot" in smt["reason"] and done.settings["node_interleaving"]["state"] == "ok"
    assert done.result["changed"] and done.result["reboot_required"]
    assert (done.result["waiting"], done.result["waiting_topology"]) == (["BIOS power_profile", "BIOS smt"], ["BIOS smt"])
    behaviour.seen.clear()
    again = play(other_bmc.address, **wanted)
    assert not again.result["changed"] and again.result["waiting"] == done.result["waiting"]
    assert {method for method, _path in behaviour.seen} == {"GET"}


def test_spellings_of_a_board_are_kept(play: Play, other_bmc: Bmc, behaviour: Behaviour) -> None:
    behaviour.manufacturer = "Supermicro"
    behaviour.attributes = {"Hyper-Threading[ALL]#0037": "Enable", "NUMANodesPerSocket#703E": "NPS1"}
    play(other_bmc.address, bios_redfish_wanted={"smt": "off", "nodes_per_socket": 4}, bios_redfish_set=True)
    assert behaviour.pending == {"Hyper-Threading[ALL]#0037": "Disable", "NUMANodesPerSocket#703E": "NPS4"}


@pytest.mark.parametrize(("changes", "words"), [
    ({"status": 500}, "failed: "), ({"status": 401}, "refused the name or the password"),
    ({"text": "<html>login</html>"}, "gave no answer that could be understood"),
    ({"text": "[]"}, "gave no answer that could be understood"), ({"text": "{}"}, "Systems resource not found"), ({"systems": ()}, "Members array"),
    ({"delay": 4.0}, "did not answer in time"), ({"systems": ("1", "2")}, "has several systems (1, 2)")])
def test_a_bmc_that_misbehaves_is_one_finding(play: Play, other_bmc: Bmc, behaviour: Behaviour, changes: dict[str, Any], words: str) -> None:
    for name, value in changes.items():
        setattr(behaviour, name, value)
    found = play(other_bmc.address, bios_redfish_wanted={"smt": "off"}, bios_redfish_timeout=2).only()
    assert words in found["reason"] and other_bmc.address in found["reason"]


def test_a_bmc_that_is_down_is_one_finding(play: Play) -> None:
    found = play(f"127.0.0.1:{free_port()}", bios_redfish_wanted={"smt": "off"}).only()
    assert "cannot be reached" in found["reason"]


def test_a_host_without_a_bmc_says_so(play: Play) -> None:
    found = play("", bios_redfish_wanted={"smt": "off"})
    assert found.states() == {"bmc": "unsupported"} and "bios_redfish_address" in found.settings["bmc"]["reason"]


def test_a_bios_that_takes_no_settings_keeps_what_was_read(play: Play, other_bmc: Bmc, behaviour: Behaviour) -> None:
    behaviour.attributes, behaviour.has_settings = {"LogicalProc": "Enabled"}, False
    found = play(other_bmc.address, bios_redfish_wanted={"smt": "off"}, bios_redfish_set=True)
    assert found.states() == {"smt": "drifted", "bmc": "error"} and "LogicalProc could not be set" in found.settings["bmc"]["reason"]


def test_a_bmc_that_repeats_the_password_does_not_make_it_public(play: Play, other_bmc: Bmc, behaviour: Behaviour) -> None:
    behaviour.attributes = {"LogicalProc": PASSWORD}
    assert play(other_bmc.address, bios_redfish_wanted={"smt": "off"}).states() == {"smt": "drifted"}


def test_hostile_text_is_data(play: Play, other_bmc: Bmc, behaviour: Behaviour) -> None:
    behaviour.attributes = {"LogicalProc": "{{ lookup('pipe', 'touch /nonexistent/x') }}\x1b[31m<b>"}
    found = play(other_bmc.address, bios_redfish_wanted={"smt": "off"})
    assert found.settings["smt"]["current"] == behaviour.attributes["LogicalProc"] and "\x1b" not in found.output
