# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The actions around drivers and firmware: what reaches a host, in which order, and what stops before it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.lowlatency.fleet.plugins.action import driver_sources, nic_update
from ansible_collections.lowlatency.fleet.plugins.plugin_utils import transaction

CONTENT = b"firmware"
SHA = hashlib.sha256(CONTENT).hexdigest()
PLACED = f"/lib/firmware/lowlatency/{SHA[:16]}-fw.bin"
DONE = {"changed": True, "done": ["eth2 was flashed"], "needed": [], "reboot_required": False}
WAITS = {**DONE, "reboot_required": True, "reboot_reasons": ["eth2 firmware is 1, 2 is stored"]}


class Site:
    """A run: executions and copies are remembered, each execution of nic_update has the next of the results."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place, self.seen, self.reboots = place, [], []  # type: ignore[var-annotated]
        self.results: list[dict[str, Any]] = []
        self.reboot = {"rebooted": True}
        (place / "fw.bin").write_bytes(CONTENT)
        monkeypatch.setattr(transaction.C, "DEFAULT_LOCAL_TMP", str(place / "tmp"))
        monkeypatch.setattr(transaction, "_reboot", lambda action, timeout, task_vars: self.reboots.append(timeout) or self.reboot)

    def execute(self, module_name: str, module_args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        self.seen.append((module_name.rpartition(".")[2], module_args))
        return dict(self.results.pop(0)) if module_name.endswith("nic_update") else {"changed": True}

    def copied(self, name: str, task: Any, **_rest: Any) -> Any:
        self.seen.append((name.rpartition(".")[2], task.args))
        return SimpleNamespace(run=lambda task_vars: {"changed": True})

    def act(self, plugin: Any, *results: dict[str, Any], host: str = "h", check: bool = False, transport: str = "ssh", **arguments: Any) -> dict[str, Any]:
        self.results = list(results)
        task = SimpleNamespace(args=arguments, async_val=0, check_mode=check, action="a", _role=None)
        task.copy = lambda: SimpleNamespace(**vars(task))
        connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="unused"), transport=transport, get_option=lambda name: "",
                                     set_option=lambda name, value: None)
        action = plugin.ActionModule(task, connection, None, None, None, None)
        action._shared_loader_obj = SimpleNamespace(action_loader=SimpleNamespace(get=self.copied))
        action._execute_module = self.execute
        action._find_needle = lambda folder, name: str(self.place / name)
        result: dict[str, Any] = action.run(task_vars={"inventory_hostname": host})
        return result

    def update(self, *results: dict[str, Any], file: str = "fw.bin", sha256: str = SHA, **more: Any) -> dict[str, Any]:
        image = {"driver": "mlx5_core", "version": "2", "file": file, "sha256": sha256}
        return self.act(nic_update, *results, **{"nics": [{"interface": "eth2"}], "images": [image], "flash": True, "maintenance": True, **more})

    @property
    def steps(self) -> list[str]:
        return [name for name, _arguments in self.seen]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, monkeypatch)


NEEDS = {"changed": False, "done": [], "needed": [{"file": PLACED, "sha256": SHA}], "reboot_required": False}


def test_nothing_is_copied_where_nothing_is_needed(site: Site) -> None:
    assert site.update({**DONE, "changed": False, "done": []})["changed"] is False
    assert site.steps == ["nic_update"] and site.seen[0][1]["images"][0]["file"] == PLACED


def test_a_needed_image_is_put_in_its_place_first(site: Site) -> None:
    assert site.update(NEEDS, DONE)["changed"] is True
    assert site.steps == ["nic_update", "file", "copy", "nic_update"]
    assert site.seen[2][1] == {"src": str(site.place / "fw.bin"), "dest": PLACED, "mode": "0644"}


def test_an_image_of_an_address_is_fetched_by_its_checksum(site: Site) -> None:
    site.update(NEEDS, DONE, file="https://x.example/a/fw.bin")
    assert site.steps == ["nic_update", "file", "get_url", "nic_update"]
    assert site.seen[2][1] == {"url": "https://x.example/a/fw.bin", "dest": PLACED, "checksum": f"sha256:{SHA}", "mode": "0644"}


@pytest.mark.parametrize(("more", "words"), [({"sha256": "0" * 64}, f"its sha256 is {SHA}, wanted 000"), ({"file": "none.bin"}, "No such file")])
def test_another_file_than_the_site_named_stops_before_the_host_is_asked(site: Site, more: dict[str, Any], words: str) -> None:
    with pytest.raises(AnsibleActionFail, match=words):
        site.update(**more)
    assert site.seen == []


@pytest.mark.parametrize(("more", "words"), [({"flash": False}, "neither"), ({"maintenance": False}, "no maintenance run")])
def test_without_its_switches_no_host_is_asked(site: Site, more: dict[str, Any], words: str) -> None:
    result = site.update(**more)
    assert result["skipped"] and words in result["skip_reason"] and site.seen == []


def test_loading_a_driver_has_a_switch_of_its_own_and_needs_no_image(site: Site) -> None:
    site.update({**DONE, "changed": False}, flash=False, reload=True, file="none.bin")
    assert site.steps == ["nic_update"]


def test_check_mode_puts_nothing_anywhere(site: Site) -> None:
    site.update({**DONE, "done": ["eth2 would be flashed"]}, check=True, file="none.bin")
    assert site.steps == ["nic_update"] and site.reboots == [] and not (site.place / "tmp").exists()


# --- reboots ----------------------------------------------------------------------------------------------------------


def test_what_waits_is_rebooted_with_leave_and_looked_at_again(site: Site) -> None:
    result = site.update(WAITS, {**DONE, "changed": False, "done": []}, reboot_ok=True, reboot_timeout=77)
    assert site.reboots == [77] and site.seen[1][1]["verify"] is True
    assert result["rebooted"] is True and result["changed"] is True and result["done"] == ["eth2 was flashed"] and "failed" not in result


@pytest.mark.parametrize(("more", "transport"), [({}, "ssh"), ({"reboot_ok": True}, "local")])
def test_without_leave_or_from_itself_a_host_is_not_rebooted(site: Site, more: dict[str, Any], transport: str) -> None:
    result = site.update(WAITS, transport=transport, **more)
    assert site.reboots == [] and result["reboot_required"] is True and result["reboot_reasons"] and "failed" not in result


def test_a_boot_that_did_not_bring_it_fails(site: Site) -> None:
    result = site.update(WAITS, {"failed": True, "msg": "a power cycle may bring it"}, reboot_ok=True)
    assert result["failed"] is True and "power cycle" in result["msg"] and result["rebooted"] is True


@pytest.mark.parametrize("reboot", [{"failed": True, "rebooted": True, "msg": "timed out"}, {"unreachable": True}, {"rebooted": False}])
def test_a_reboot_that_goes_wrong_is_told_and_ends_the_run_for_others(site: Site, reboot: dict[str, Any]) -> None:
    site.reboot = reboot
    assert "the reboot went wrong" in site.update(WAITS, reboot_ok=True)["msg"]
    assert site.update(DONE, host="h2")["msg"] == "h2: left alone, since h failed before it in this run"


# --- one after the other ----------------------------------------------------------------------------------------------


def test_none_after_a_host_that_failed_or_was_lost(site: Site) -> None:
    site.update({"failed": True, "msg": "bricked"}, host="h1")
    assert site.update(DONE, host="h2")["msg"] == "h2: left alone, since h1 failed before it in this run" and len(site.seen) == 1


def test_none_after_a_host_whose_connection_broke(site: Site) -> None:
    with pytest.raises(IndexError):
        site.update(host="h1")  # the execution raises instead of answering
    assert site.update(DONE, host="h2")["failed"] is True


def test_the_next_after_one_that_went_well(site: Site) -> None:
    assert site.update(DONE, host="h1")["changed"] and site.update(DONE, host="h2")["changed"]


# --- packages ---------------------------------------------------------------------------------------------------------


def sources(site: Site, *, check: bool = False, **more: Any) -> dict[str, Any]:
    packages = [{"name": "mstflint"}, {"file": "fw.bin.deb", "sha256": SHA}]
    (site.place / "fw.bin.deb").write_bytes(CONTENT)
    return site.act(driver_sources, check=check, **{"packages": packages, "drivers": ["mlx5_core"], "family": "debian", "allowed": True, **more})


def test_sources_are_checked_on_the_controller_alone(site: Site) -> None:
    found = sources(site)
    assert found["deb_packages"] == ["mstflint"] and found["copied_files"][0]["file"] == str(site.place / "fw.bin.deb") and site.seen == []


@pytest.mark.parametrize(("more", "words"), [({"allowed": False}, "does not allow"), ({"check": True}, "check mode")])
def test_without_leave_and_in_check_mode_nothing_is_to_be_installed(site: Site, more: dict[str, Any], words: str) -> None:
    found = sources(site, **more)
    assert words in found["msg"] and not any(found[key] for key in (
        "deb_packages", "rpm_packages", "fetched_files", "copied_files", "deb_files", "rpm_files", "deb_repositories", "yum_repositories"))


@pytest.mark.parametrize(
    ("more", "words"),
    [({"packages": [{"file": "fw.bin.deb", "sha256": "0" * 64}]}, "nothing was installed"), ({"packages": [{"file": "fw.bin.deb"}]}, "no sha256"),
     ({"packages": [{"file": "none.deb", "sha256": SHA}]}, "No such file"), ({"repositories": [{"name": "x", "url": "y"}]}, "no key")],
)
def test_sources_that_are_not_sound_stop_the_host(site: Site, more: dict[str, Any], words: str) -> None:
    with pytest.raises(AnsibleActionFail, match=words):
        sources(site, **more)
