# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an audit costs, by the real ansible-playbook on this very machine in check mode: two module executions a host."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
PLAYBOOK = "md_gateways.yml"


def play(tags: str = "", **variables: Any) -> dict[str, Any]:
    """The play of a host role as it is shipped, for this machine instead of a fleet's."""
    shipped: dict[str, Any] = yaml.safe_load((REPOSITORY / "playbooks" / PLAYBOOK).read_text(encoding="utf-8"))[0]
    shipped.update(hosts="localhost", connection="local", become=False)
    shipped["vars"].update(ansible_python_interpreter=sys.executable, lowlatency_nics=[], preflight_isolate=False, preflight_housekeeping_cores=1, **variables)
    return shipped


def ran(place: Path, wanted: dict[str, Any], *arguments: str, inventory: str = "localhost,", check: bool = True,
        collection: Path = REPOSITORY, settings: str = "") -> subprocess.CompletedProcess[str]:
    link = place / "ansible_collections" / "lowlatency" / "fleet"
    link.parent.mkdir(parents=True)
    link.symlink_to(collection)
    (place / "play.yml").write_text(yaml.safe_dump([wanted]))
    (place / "ansible.cfg").write_text("[defaults]\ncallbacks_enabled = lowlatency.fleet.audit_report\n" + settings)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
        "ANSIBLE_CONFIG": str(place / "ansible.cfg"), "ANSIBLE_COLLECTIONS_PATH": str(place), "ANSIBLE_HOME": str(place / "home"),
        "ANSIBLE_LOCAL_TEMP": str(place / "tmp"), "ANSIBLE_REMOTE_TEMP": str(place / "remote"), "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8",
    }
    return subprocess.run([sys.executable, "-m", "ansible", "playbook", "-i", inventory, *(["--check"] if check else []), "-vvv", *arguments, "play.yml"],
                          cwd=place, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def modules(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The modules that were executed, in order; Ansible says so of each at this verbosity."""
    return re.findall(r"Using module file .*/modules/(\w+)\.py", done.stdout)


@pytest.mark.parametrize(
    ("arguments", "joined"),
    [([], ["bios_check", "hugepages", "noisy_services", "nic_firmware", "onload", "dpdk", "nic_tuning", "irq_affinity", "cpu_power",
           "kernel_tunables", "tcp_tuning", "service_pinning", "kernel_cmdline"]),
     (["--tags", "tcp_tuning"], ["tcp_tuning"])],
    ids=["whole", "one role"],
)
def test_an_audit_is_two_module_executions(tmp_path: Path, arguments: list[str], joined: list[str]) -> None:
    done = ran(tmp_path, play(), *arguments)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert modules(done) == ["topology_info", "apply"]
    assert [role for role, _tasks in itertools.groupby(re.findall(r"joined the transaction as (\w+)", done.stdout))] == joined
    assert re.search(r"^localhost: .*\d+ (ok|drifted|unsupported)", done.stdout, re.MULTILINE), "the report at the end"
    assert not re.search(r"\bchanged\b.* is now ", done.stdout)
    assert not list((tmp_path / "tmp").glob("*/lowlatency/*.json")), "the transaction is gone with the run"


def test_one_bad_value_stops_the_host_before_the_second(tmp_path: Path) -> None:
    done = ran(tmp_path, play(tcp_tuning_sysctl_extra={"net.ipv4.tcp_sack": 7}))
    assert done.returncode == 2
    assert modules(done) == ["topology_info"]
    assert "localhost: tunables: tunable net.ipv4.tcp_sack: 7: the kernel takes a whole number from 0 to 1" in done.stdout
