# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host agent: its exit codes and words, and its zipapp alone with every Python that hosts have."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils import agent, door, runner
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import deployment
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.deployment import DESIRED, WATCH_ENABLED
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.files import locked
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.programs import ProgramFailed
from ansible_collections.lowlatency.fleet.tests.unit.fixture_host import (
    Writes,
    begun,
    sysctl_path,
    tree,
    tunable_machine,
)

PYENV = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13")


def python(version: str) -> str | None:
    """An interpreter of that version, from pyenv or the path."""
    found = sorted(PYENV.glob(f"{version}.*/bin/python"))
    return str(found[-1]) if found else shutil.which(f"python{version}")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine as a run left it, which the agent takes for its own."""
    Writes(monkeypatch)
    made = tunable_machine(tmp_path / "machine").root
    assert runner.apply(begun(made)).errors == []
    monkeypatch.setattr(agent, "Host", lambda: Host(str(made)))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return made


# --- in this process --------------------------------------------------------------------------------------------------


def test_right_is_0_and_nothing_is_written(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(root)
    assert agent.main(["verify"]) == 0
    assert tree(root) == before
    assert capsys.readouterr().out == "14 ok, 1 unsupported\n"


def test_drifted_is_1_and_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sysctl_path(root, "vm.swappiness").write_text("60\n")
    before = tree(root)
    assert agent.main(["verify"]) == 1
    assert tree(root) == before
    out = capsys.readouterr().out
    assert "vm.swappiness: is 60, after boot 10, wanted 10" in out and "tcp_sack" not in out


def test_status_shows_all(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert agent.main(["status"]) == 0
    assert "tcp_sack" in capsys.readouterr().out


def test_json_is_the_contract_of_every_module(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert agent.main(["verify", "--json"]) == 0
    settings = json.loads(capsys.readouterr().out)
    assert {tuple(setting) for setting in settings} == {("control", "name", "desired", "current", "persisted", "state", "reason", "needs_reboot", "finding")}


def test_apply_puts_right_what_drifted(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sysctl_path(root, "vm.swappiness").write_text("60\n")
    (root / "proc/irq/9/smp_affinity_list").write_text("7\n")
    assert agent.main(["apply"]) == 0
    assert "2 changed" in capsys.readouterr().out
    assert sysctl_path(root, "vm.swappiness").read_text().strip() == "10"
    assert agent.main(["verify"]) == 0


def test_apply_needs_root(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert agent.main(["apply"]) == 2
    assert "needs root" in capsys.readouterr().err
    assert agent.main(["verify"]) == 0


def test_what_could_not_be_told_is_2_and_the_rest_is_judged(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "sys/devices/system/cpu/online").write_text("0-3\n")
    sysctl_path(root, "vm.swappiness").write_text("60\n")
    assert agent.main(["verify"]) == 2
    out = capsys.readouterr().out
    assert "not online" in out and "vm.swappiness" in out
    assert agent.main(["apply"]) == 2
    assert sysctl_path(root, "vm.swappiness").read_text().strip() == "10", "half of it is better than none"


def test_apply_is_tried_again_while_something_is_an_error(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    online, pauses = root / "sys/devices/system/cpu/online", []

    def settles(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            online.write_text("0-7\n")

    monkeypatch.setattr("time.sleep", settles)
    online.write_text("0-3\n")
    assert agent.main(["apply", "--tries", "2"]) == 2
    assert agent.main(["apply", "--tries", "3"]) == 0
    assert agent.main(["apply", "--tries", "3"]) == 0, "at once"
    assert pauses == [agent.SETTLING_SECONDS] * 2
    online.write_text("0-3\n")
    assert agent.main(["verify", "--tries", "3"]) == 2
    assert len(pauses) == 2, "who only reads tells what is"
    capsys.readouterr()


def test_an_agent_that_nothing_starts_has_drifted(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / WATCH_ENABLED[1:]).unlink()
    assert agent.main(["verify"]) == 1
    assert "agent.watch lowlatency-nics.path: is inactive, after boot inactive, wanted active" in capsys.readouterr().out
    assert agent.main(["verify", "--only", "tunables"]) == 0, "not asked for"


def test_a_service_manager_that_does_not_answer_is_2(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuses(host: Host) -> None:
        raise ProgramFailed("systemctl: no bus")

    monkeypatch.setattr(deployment, "standing", refuses)
    assert agent.main(["verify"]) == 2
    assert "systemctl: no bus" in capsys.readouterr().out


@pytest.mark.parametrize(("text", "words"), [(None, "keeps no desired state; run the playbook"), ("{", "not a desired state"),
                                             ('{"desired": {}}', "keeps no desired state")])
def test_no_desired_state_is_2_and_says_what_to_do(root: Path, capsys: pytest.CaptureFixture[str], text: str | None, words: str) -> None:
    path = root / DESIRED[1:]
    path.unlink() if text is None else path.write_text(text)
    assert agent.main(["verify"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("lowlatency: ") and words in captured.err and captured.out == ""


def test_a_part_of_the_domains_is_judged_and_applied(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sysctl_path(root, "vm.swappiness").write_text("60\n")
    (root / "proc/irq/9/smp_affinity_list").write_text("7\n")
    assert [agent.main(["verify", "--only", "ethtool"]), agent.main(["verify", "--only", "tunables"])] == [0, 1]
    capsys.readouterr()
    assert agent.main(["apply", "--only", "ethtool,irq_affinity"]) == 0
    out = capsys.readouterr().out
    assert "acpi" in out and "1 changed" in out and "swappiness" not in out
    assert sysctl_path(root, "vm.swappiness").read_text().strip() == "60"
    assert (root / "proc/irq/9/smp_affinity_list").read_text().strip() == "0-1,4-5"


@pytest.mark.parametrize("names", ["ethtol", "ethtool,", ""])
def test_a_domain_that_there_is_not_is_2_and_those_that_there_are_are_named(root: Path, capsys: pytest.CaptureFixture[str], names: str) -> None:
    with pytest.raises(SystemExit) as ended:
        agent.main(["apply", "--only", names])
    assert ended.value.code == 2
    assert "no domain" in capsys.readouterr().err


def test_a_run_that_does_not_end_is_2(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with locked(Host(str(root))):
        for arguments in (["apply"], ["apply", "--wait", "0.6"]):
            assert agent.main(arguments) == 2
            assert "another run is writing on this host" in capsys.readouterr().err
        assert agent.main(["verify"]) == 0, "who only reads waits for nobody"


# --- the zipapp -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def zipapp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("zipapp") / "lowlatency"
    path.write_bytes(door.program())
    path.chmod(0o755)
    return path


def test_equal_sources_are_equal_bytes_at_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    before = door.program()
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    assert door.program() == before


def test_other_sources_are_other_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    before, real = door.program(), door._source
    monkeypatch.setattr(door, "_source", lambda name: real(name) + ("# later\n" if name.endswith(".runner") else ""))
    assert door.program() != before


def test_it_holds_the_very_files_and_no_ansible(zipapp: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(zipapp.read_bytes())) as archive:
        assert archive.testzip() is None
        text = archive.read("lowlatency/runner.py").decode()
        assert text == Path(runner.__file__).read_text(encoding="utf-8")
        imports = [line for name in archive.namelist() for line in archive.read(name).decode().splitlines() if line.startswith(("import ", "from "))]
        assert imports and not [line for line in imports if "ansible" in line]


@pytest.mark.parametrize("version", VERSIONS)
def test_it_starts_alone(zipapp: Path, tmp_path: Path, version: str) -> None:
    interpreter = python(version)
    if interpreter is None:
        pytest.skip(f"no Python {version}")
    done = subprocess.run([interpreter, "-I", "-W", "error", str(zipapp), "verify"], cwd=tmp_path, capture_output=True, text=True, check=False, env={})
    if not os.path.exists(DESIRED):
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "lowlatency: this host keeps no desired state; run the playbook of its host role first\n"
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_it_judges_a_machine_alone(zipapp: Path, root: Path, tmp_path: Path, version: str) -> None:
    """What the program of a host does with that host's files; only where they lie is not its own."""
    interpreter = python(version)
    if interpreter is None:
        pytest.skip(f"no Python {version}")
    start = ("import sys; sys.path.insert(0, sys.argv[1]); from lowlatency import agent; from lowlatency.host.machine import Host;"
             "agent.Host = lambda: Host(sys.argv[2]); agent.os.geteuid = lambda: 0; sys.exit(agent.main(sys.argv[3:]))")

    def code(command: str) -> int:
        done = subprocess.run([interpreter, "-I", "-c", start, str(zipapp), str(root), command], cwd=tmp_path,
                              capture_output=True, text=True, check=False, env={})
        assert done.stderr == ""
        return done.returncode

    assert code("verify") == 0
    sysctl_path(root, "vm.swappiness").write_text("60\n")
    assert [code("verify"), code("apply"), code("verify")] == [1, 0, 0]


def test_two_that_wait_for_a_third_both_get_their_turn(zipapp: Path, root: Path, tmp_path: Path) -> None:
    """As at boot: the run of the boot, one for a NIC, and a controller that came first."""
    start = ("import sys; sys.path.insert(0, sys.argv[1]); from lowlatency import agent; from lowlatency.host.machine import Host;"
             "agent.Host = lambda: Host(sys.argv[2]); agent.os.geteuid = lambda: 0; sys.exit(agent.main(sys.argv[3:]))")
    sysctl_path(root, "vm.swappiness").write_text("60\n")
    with locked(Host(str(root))):
        waiting = [subprocess.Popen([sys.executable, "-c", start, str(zipapp), str(root), "apply", "--wait", "60"], cwd=tmp_path,
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _each in range(2)]
        time.sleep(1)
        assert [process.poll() for process in waiting] == [None, None]
        assert sysctl_path(root, "vm.swappiness").read_text().strip() == "60"
    said = [process.communicate(timeout=60)[0] for process in waiting]
    assert [process.returncode for process in waiting] == [0, 0], said
    assert sorted("1 changed" in text for text in said) == [False, True], said


def test_its_first_line_is_an_interpreter(zipapp: Path) -> None:
    line = zipapp.read_bytes().split(b"\n")[0].decode()
    assert line.startswith("#!/") and os.access(line[2:], os.X_OK)
    done = subprocess.run([str(zipapp), "--help"], capture_output=True, text=True, check=False, env={})
    assert done.returncode == 0 and "Exit code 0: right, 1: drifted, 2: could not tell." in done.stdout


def test_this_interpreter_is_taken_where_the_distribution_s_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    for path, chosen in (("/usr/bin/python3.6", sys.executable), ("/usr/bin/python3.9", "/usr/bin/python3"), ("/usr/bin/python3", sys.executable)):
        monkeypatch.setattr(os.path, "realpath", lambda name, path=path: path)
        assert door.interpreter() == chosen
