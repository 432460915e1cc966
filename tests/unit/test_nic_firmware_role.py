# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role nic_firmware by the real ansible-playbook: what an audit costs, one host at a time, none after a failure, no checksum, no flash.

Where a real run is needed, the module that flashes is a stand-in that only writes down when it began and ended.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.tests.unit.test_cost import REPOSITORY, modules, play, ran

SHA = "ab" * 32
IMAGE = {"driver": "mlx5_core", "version": "22.41.1000", "file": "https://nowhere.invalid/fw.bin", "sha256": SHA}
STAND_IN = '''#!/usr/bin/python
import json, os, time
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule(argument_spec={name: {"type": "raw"} for name in
    ("nics", "policy", "images", "flash", "maintenance", "reload", "reboot_ok", "reboot_timeout", "verify")}, supports_check_mode=True)
host = module.params["nics"][0]["interface"]
def log(word):
    with open(%r, "a") as stream:
        stream.write("%%s %%s%%s\\n" %% (host, word, " in check mode" if module.check_mode else ""))
log("begins")
time.sleep(0.3)
log("ends")
if host in module.params["policy"]:
    module.fail_json(msg="the card is bricked")
module.exit_json(changed=True, done=["flashed"], reboot_required=False, needed=[])
'''


def fleet(place: Path, *arguments: str, fails: str = "", check: bool = False, **variables: Any) -> tuple[Any, list[str]]:
    """A run of the role's last step on four hosts with the stand-in, and what that wrote down."""
    copy = place / "copy"
    (copy / "plugins/modules").mkdir(parents=True)
    for source, target in ((REPOSITORY, copy), (REPOSITORY / "plugins", copy / "plugins"), (REPOSITORY / "plugins/modules", copy / "plugins/modules")):
        for path in source.iterdir():
            if not (target / path.name).exists() and path.name not in (".git", ".venv", ".cache", "nic_update.py"):
                (target / path.name).symlink_to(path)
    log = place / "log"
    (copy / "plugins/modules/nic_update.py").write_text(STAND_IN % str(log))
    wanted = play(nic_firmware_images=[IMAGE], nic_firmware_nics=[{"interface": "{{ inventory_hostname }}"}],
                  nic_firmware_policy={fails: {}} if fails else {}, nic_firmware_flash_allowed=True, **variables)
    role = {"name": "Firmware", "ansible.builtin.include_role": {"name": "lowlatency.fleet.nic_firmware", "tasks_from": "update", "rolespec_validate": False,
                                                                 "apply": {"tags": ["always"]}}, "tags": ["always"]}
    wanted.update(hosts="all", serial="100%", any_errors_fatal=False, tasks=[role])
    done = ran(place, wanted, "-f", "4", *arguments, inventory="h1,h2,h3,h4,", check=check, collection=copy)
    return done, log.read_text().splitlines() if log.exists() else []


MAINTENANCE = ("--tags", "nic_firmware_flash")


def test_one_host_at_a_time(tmp_path: Path) -> None:
    done, log = fleet(tmp_path, *MAINTENANCE)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    hosts = [line.split()[0] for line in log[::2]]
    assert log == [f"{host} {word}" for host in hosts for word in ("begins", "ends")] and sorted(hosts) == ["h1", "h2", "h3", "h4"]


def test_none_after_the_first_that_failed(tmp_path: Path) -> None:
    done, log = fleet(tmp_path, *MAINTENANCE, fails="h1")
    assert done.returncode == 2 and "h1: the card is bricked" in done.stdout
    after = [line.split()[0] for line in log[log.index("h1 ends") + 1:]]
    assert after == [] and "left alone, since h1 failed before it in this run" in done.stdout, log


def test_no_maintenance_no_flash(tmp_path: Path) -> None:
    done, log = fleet(tmp_path)
    assert done.returncode == 0 and log == [] and "this is no maintenance run" in done.stdout, done.stdout[-3000:]


def test_no_leave_no_flash(tmp_path: Path) -> None:
    done, log = fleet(tmp_path, *MAINTENANCE, "-e", '{"nic_firmware_flash_allowed": false}')
    assert done.returncode == 0 and log == [] and "neither flashing nor loading drivers is allowed" in done.stdout, done.stdout[-3000:]


@pytest.mark.parametrize(("check", "variables"), [(True, {}), (False, {"lowlatency_audit": True})], ids=["--check", "audit.yml"])
def test_an_audit_asks_in_check_mode_only(tmp_path: Path, check: bool, variables: dict[str, Any]) -> None:
    done, log = fleet(tmp_path, *MAINTENANCE, check=check, **variables)
    assert done.returncode == 0 and len(log) == 8 and all(line.endswith("in check mode") for line in log), log


@pytest.mark.parametrize("wrong", [{"sha256": ""}, {"sha256": "abc"}], ids=["none", "short"])
def test_no_checksum_no_flash(tmp_path: Path, wrong: dict[str, str]) -> None:
    done, log = fleet(tmp_path, *MAINTENANCE, "-e", json.dumps({"nic_firmware_images": [{**IMAGE, **wrong}]}))
    assert done.returncode == 2 and log == []
    assert re.search("h1: nic_update: image https://nowhere.invalid/fw.bin: (no sha256|sha256 .* is not 64)", done.stdout)


# --- the whole play ---------------------------------------------------------------------------------------------------

SOURCES = {"nic_firmware_packages": [{"name": "mstflint"}, {"file": "https://nowhere.invalid/x.deb", "sha256": SHA}],
           "nic_firmware_repositories": [{"name": "x", "url": "https://nowhere.invalid", "key": "https://nowhere.invalid/key", "suites": ["stable"]}],
           "nic_firmware_install_allowed": True, "nic_firmware_images": [IMAGE], "nic_firmware_flash_allowed": True}


def test_an_audit_with_sources_is_two_module_executions_too(tmp_path: Path) -> None:
    done = ran(tmp_path, play(**SOURCES))
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert modules(done) == ["topology_info", "apply"]
    assert "check mode: nothing is installed" in done.stdout and "this is no maintenance run" in done.stdout


def test_a_package_file_without_a_checksum_stops_the_host(tmp_path: Path) -> None:
    done = ran(tmp_path, play(nic_firmware_packages=[{"file": "https://nowhere.invalid/x.deb"}]))
    assert done.returncode == 2 and modules(done) == ["topology_info"]
    assert "package https://nowhere.invalid/x.deb: no sha256" in done.stdout
