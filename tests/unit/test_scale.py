# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Beyond one controller: the execution environment by ansible-builder's own word, and a run under ansible-runner, as AWX makes it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lowlatency.fleet.tests.unit.test_cost import play

REPOSITORY = Path(__file__).resolve().parents[2]
BUILDER = shutil.which("ansible-builder", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
GALAXY = yaml.safe_load((REPOSITORY / "galaxy.yml").read_text(encoding="utf-8"))
TARBALL = f"{GALAXY['namespace']}-{GALAXY['name']}-{GALAXY['version']}.tar.gz"


def pinned(package: str) -> str:
    """The version of a package in constraints.txt."""
    match = re.search(rf"^{package}==(\S+)$", (REPOSITORY / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert match, package
    return match[1]


def built(*arguments: str, place: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(BUILDER), *arguments], cwd=place, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def test_the_environment_has_the_versions_that_are_tested() -> None:
    wanted = yaml.safe_load((REPOSITORY / "execution-environment.yml").read_text(encoding="utf-8"))
    assert wanted["version"] == 3
    for package in ("ansible-core", "ansible-runner"):
        assert wanted["dependencies"][package.replace("-", "_")]["package_pip"] == f"{package}=={pinned(package)}"
    assert wanted["additional_build_files"] == [{"src": TARBALL, "dest": "collections"}]
    assert [Path(entry["name"]).name for entry in wanted["dependencies"]["galaxy"]["collections"]] == [TARBALL]


@pytest.mark.skipif(BUILDER is None, reason="ansible-builder is not installed")
def test_ansible_builder_makes_a_context_of_it(tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / "execution-environment.yml", tmp_path)
    (tmp_path / TARBALL).write_bytes(b"")
    done = built("create", "-v3", place=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    containerfile = (tmp_path / "context/Containerfile").read_text()
    assert "COPY _build/collections/ /build/collections/" in containerfile
    assert (tmp_path / "context/_build/collections" / TARBALL).is_file()
    assert TARBALL in (tmp_path / "context/_build/requirements.yml").read_text()


@pytest.mark.skipif(BUILDER is None, reason="ansible-builder is not installed")
def test_ansible_builder_finds_what_the_collection_needs(tmp_path: Path) -> None:
    place = tmp_path / "ansible_collections/lowlatency/fleet"
    place.mkdir(parents=True)
    shutil.copytree(REPOSITORY / "meta", place / "meta")
    shutil.copy(REPOSITORY / "galaxy.yml", place)
    done = built("introspect", str(tmp_path), "--write-pip", str(tmp_path / "pip.txt"), "--write-bindep", str(tmp_path / "bindep.txt"), place=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^openssh-client \[platform:dpkg", (tmp_path / "bindep.txt").read_text(), re.MULTILINE)
    assert not (tmp_path / "pip.txt").exists() or not re.search(r"^[a-z]", (tmp_path / "pip.txt").read_text(), re.MULTILINE)


def test_settings_are_in_the_events_of_ansible_runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ansible_runner: Any = pytest.importorskip("ansible_runner")
    link = tmp_path / "ansible_collections/lowlatency/fleet"
    link.parent.mkdir(parents=True)
    link.symlink_to(REPOSITORY)
    (tmp_path / "project").mkdir()
    (tmp_path / "project/play.yml").write_text(yaml.safe_dump([play()]))
    for name in [name for name in os.environ if name.startswith("ANSIBLE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    run = ansible_runner.run(
        private_data_dir=str(tmp_path), playbook="play.yml", inventory="localhost,", cmdline="--check --tags tcp_tuning", quiet=True,
        envvars={"ANSIBLE_COLLECTIONS_PATH": str(tmp_path), "ANSIBLE_HOME": str(tmp_path / "home"), "ANSIBLE_REMOTE_TEMP": str(tmp_path / "remote"),
                 "ANSIBLE_LOCAL_TEMP": str(tmp_path / "tmp"), "ANSIBLE_CALLBACKS_ENABLED": "lowlatency.fleet.audit_report", "LC_ALL": "C.UTF-8"})
    events = list(run.events)
    assert run.rc == 0, "".join(str(event.get("stdout")) for event in events)[-4000:]
    results = [event["event_data"]["res"] for event in events if event["event"] == "runner_on_ok" and "settings" in event["event_data"]["res"]]
    assert len(results) == 1, "one module execution has them all"
    settings = results[0]["settings"]
    assert {"net.ipv4.tcp_sack", "net.ipv4.tcp_timestamps"} <= {setting["name"] for setting in settings}
    assert {setting["state"] for setting in settings} <= {"ok", "drifted", "unsupported"}
    assert json.loads(json.dumps(settings)) == settings, "what AWX keeps of them is the same"
    assert re.search(r"^localhost: .*\d+ (ok|drifted|unsupported)", "\n".join(str(event.get("stdout")) for event in events), re.MULTILINE)
