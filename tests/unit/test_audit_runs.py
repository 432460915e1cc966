# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of real runs of ansible-playbook: hosts that are down, late, without Python, whose module crashes; and how the run ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.tests.unit.test_cost import ran

CRASH = "#!/usr/bin/python\nimport sys\nsys.stderr.write('Traceback\\n<b>boom</b>\\n')\nsys.exit(3)\n"
SLOW = "#!/usr/bin/python\nimport time\ntime.sleep(60)\n"
SAYS = "#!/usr/bin/python\nprint('{\"settings\": [{\"control\": \"c\", \"name\": \"n\", \"state\": \"ok\"}]}')\n"
SSH = "#!/bin/sh\necho 'ssh: connect to host down port 22: Connection timed out' >&2\nexit 255\n"
EVERYWHERE = f"[all:vars]\nansible_connection=local\nansible_python_interpreter={sys.executable}\n"
VALUE = Path("/proc/sys/vm/swappiness")


def play(value: str, **more: Any) -> dict[str, Any]:
    """An audit of one sysctl on every host, with the way each of them fails."""
    return {
        "hosts": "all", "gather_facts": False, "vars": {"lowlatency_profile": "md_gateway"},
        "tasks": [{"lowlatency.fleet.tunables": {"values": {"vm.swappiness": value}}, "timeout": 120},
                  {"crash": {}, "when": "inventory_hostname == 'crash'"},
                  {"slow": {}, "timeout": 1, "when": "inventory_hostname == 'late'"}],
        **more,
    }


def report(place: Path, wanted: dict[str, Any], inventory: str, monkeypatch: pytest.MonkeyPatch,
           **options: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    inventory = inventory.replace("SSH", str(place / "ssh")) + EVERYWHERE
    for name, text in (("library/crash.py", CRASH), ("library/slow.py", SLOW), ("ssh", SSH), ("inventory.ini", inventory)):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text(text)
    (place / "ssh").chmod(0o755)
    for name, value in {"folder": str(place / "out"), **options}.items():
        monkeypatch.setenv(f"LOWLATENCY_AUDIT_{name.upper()}", value)
    done = ran(place, wanted, inventory="inventory.ini")
    made = place / "out" / "audit.json"
    return done, json.loads(made.read_text()) if made.exists() else {}


@pytest.mark.parametrize(("fail_on", "code"), [("never", 0), ("drift,error", 10), ("error", 0)])
def test_a_run_with_drift_ends_as_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail_on: str, code: int) -> None:
    unlike = "11" if VALUE.read_text().strip() == "10" else "10"
    done, made = report(tmp_path, play(unlike), "a\n", monkeypatch, fail_on=fail_on, formats="json,html")
    assert done.returncode == code, done.stdout[-2000:] + done.stderr
    assert made["hosts"]["a"]["verdict"] == "drifted" and made["mode"] == "check"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["audit.html", "audit.json"]
    assert "PLAY RECAP" in done.stdout and "Traceback" not in done.stderr
    assert not list((tmp_path / "tmp").glob("*")), "the run cleaned up"


def test_hosts_that_fail_in_their_own_ways_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inventory = "good\ncrash\nlate\nnopython ansible_python_interpreter=/nonexistent/python\ndown ansible_connection=ssh ansible_ssh_executable=SSH\n"
    done, made = report(tmp_path, play("10"), inventory, monkeypatch, fail_on="drift,error")
    assert done.returncode in (2, 4), "Ansible's own exit code says more"
    assert {name: host["verdict"] for name, host in made["hosts"].items() if name != "good"} == {
        "crash": "failed", "late": "failed", "nopython": "failed", "down": "unreachable"}
    said = {name: host["problem"]["message"] for name, host in made["hosts"].items() if host["problem"]}
    assert "<b>boom</b>" in said["crash"] and "1" in said["late"] and "nonexistent" in said["nopython"] and "timed out" in said["down"]
    assert [len(made["hosts"][name]["settings"]) > 0 for name in ("good", "crash", "late", "nopython", "down")] == [True, True, True, False, False]
    assert "good" not in said and "<b>" not in (tmp_path / "out" / "audit.html").read_text()


def test_hosts_that_a_run_never_got_to_are_unjudged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inventory = "a ansible_python_interpreter=/nonexistent/python\nb\nc\n"
    _done, made = report(tmp_path, play("10", serial=1, any_errors_fatal=True), inventory, monkeypatch)
    assert {name: host["verdict"] for name, host in made["hosts"].items()} == {"a": "failed", "b": "unjudged", "c": "unjudged"}


def test_options_come_from_ansible_cfg_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOWLATENCY_AUDIT_FAIL_ON", "never")
    for name in ("FOLDER", "FORMATS"):
        monkeypatch.delenv(f"LOWLATENCY_AUDIT_{name}", raising=False)
    wanted = play("10")
    wanted["tasks"] = wanted["tasks"][:1]
    wanted.update(connection="local", vars={"ansible_python_interpreter": sys.executable})
    done = ran(tmp_path, wanted, inventory="a,", settings="\n[audit_report]\nfolder = reports\nformats = prometheus\n")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "reports").iterdir()] == ["audit.prom"], "beside the configuration"


@pytest.mark.parametrize(("by", "mode"), [("command line", "check"), ("play", "check"), ("nobody", "real")])
def test_the_report_says_whether_the_run_could_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str, mode: str) -> None:
    monkeypatch.setenv("LOWLATENCY_AUDIT_FOLDER", str(tmp_path / "out"))
    wanted = play("10")
    wanted.update(tasks=[{"ansible.builtin.debug": {"msg": "x"}}, {"says": {}}], connection="local", vars={"ansible_python_interpreter": sys.executable})
    if by == "play":
        wanted.update(check_mode="{{ audited or ansible_check_mode }}", vars={**wanted["vars"], "audited": True})
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "says.py").write_text(SAYS)
    ran(tmp_path, wanted, inventory="a,", check=by == "command line")
    assert json.loads((tmp_path / "out" / "audit.json").read_text())["mode"] == mode
