# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role onload by the real ansible-playbook: what an audit costs, and what is refused before anything is installed.

Where a real run is needed, the module that looks at the host is a stand-in with one answer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.tests.unit.test_cost import REPOSITORY, modules, play, ran

SHA = "ab" * 32
SOURCES: dict[str, Any] = {
    "onload_stack": "onload", "onload_install_allowed": True, "onload_packages": [{"file": "https://nowhere.invalid/onload-dkms_1_all.deb", "sha256": SHA}],
    "onload_archives": [{"file": "https://nowhere.invalid/o.tgz", "sha256": SHA, "name": "onload", "version": "1"}],
}
STAND_IN = '''#!/usr/bin/python
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule(argument_spec={name: {"type": "raw"} for name in ("documents", "reboot_ok", "trial_seconds")}, supports_check_mode=True)
assert module.check_mode
reason = "headers will be there" if module.params["documents"]["bypass_stack"]["onload"]["prebuilt"] else "kernel 6.1 has no headers"
module.exit_json(changed=True, settings=[{"control": "bypass.built", "name": "onload for 6.1", "state": "error", "reason": reason}])
'''


@pytest.mark.parametrize("state", ["present", "absent"])
def test_an_audit_with_sources_is_two_module_executions_too(tmp_path: Path, state: str) -> None:
    done = ran(tmp_path, play(**SOURCES, onload_state=state), "--tags", "onload")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert modules(done) == ["topology_info", "apply"] and "check mode: nothing is installed" in done.stdout


@pytest.mark.parametrize(("wrong", "words"), [
    ({"onload_packages": [{"file": "https://nowhere.invalid/x.deb"}]}, "package https://nowhere.invalid/x.deb: no sha256"),
    ({"onload_archives": [{"file": "x.tgz", "name": "o", "version": "1"}]}, "archive x.tgz: no sha256"),
], ids=["package", "archive"])
def test_a_source_without_a_checksum_stops_the_host(tmp_path: Path, wrong: dict[str, Any], words: str) -> None:
    done = ran(tmp_path, play(**{**SOURCES, **wrong}), "--tags", "onload")
    assert done.returncode == 2 and modules(done) == ["topology_info"] and words in done.stdout


def installing(place: Path, **variables: Any) -> Any:
    """A real run of what the role does before it joins, with the stand-in."""
    copy = place / "copy"
    (copy / "plugins/modules").mkdir(parents=True)
    for source, target in ((REPOSITORY, copy), (REPOSITORY / "plugins", copy / "plugins"), (REPOSITORY / "plugins/modules", copy / "plugins/modules")):
        for path in source.iterdir():
            if not (target / path.name).exists() and path.name not in (".git", ".venv", ".cache", "apply.py"):
                (target / path.name).symlink_to(path)
    (copy / "plugins/modules/apply.py").write_text(STAND_IN)
    known = {"topology": {"nics": []}, "host": {"family": "debian", "kernel": "6.1"}, "stack_nics": []}
    wanted = play(preflight_result=known, **{**SOURCES, **variables})
    role = {"name": "lowlatency.fleet.onload", "tasks_from": "install", "rolespec_validate": False}
    wanted["tasks"] = [{"name": "Install", "ansible.builtin.include_role": role}]
    return ran(place, wanted, check=False, collection=copy)


def test_no_headers_nothing_is_installed(tmp_path: Path) -> None:
    done = installing(tmp_path)
    assert done.returncode == 2 and modules(done) == ["apply"], done.stdout[-3000:]
    assert "localhost: kernel 6.1 has no headers; nothing was installed" in done.stdout


def test_another_checksum_nothing_is_installed(tmp_path: Path) -> None:
    (tmp_path / "onload_1_all.deb").write_bytes(b"x")
    done = installing(tmp_path, onload_packages=[{"file": str(tmp_path / "onload_1_all.deb"), "sha256": SHA}])
    assert done.returncode == 2 and modules(done) == [] and "nothing was installed" in done.stdout


def test_headers_among_the_packages_are_as_good(tmp_path: Path) -> None:
    done = installing(tmp_path, onload_packages=[*SOURCES["onload_packages"], {"name": "linux-headers-amd64"}])
    assert done.returncode == 2 and modules(done) == ["apply"] and "localhost: headers will be there" in done.stdout, done.stdout[-3000:]
