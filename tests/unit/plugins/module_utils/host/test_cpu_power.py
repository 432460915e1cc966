# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Power of CPUs on machines of ordinary files, through the whole transaction: what is planned, written, read back, and what refuses."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils import runner
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import cpu_power as host_power
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.cpu_power import read_power, write_power
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.model import cpu_power
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import (
    CHANGED,
    DRIFTED,
    ERROR,
    OK,
    UNSUPPORTED,
    Setting,
)
from ansible_collections.lowlatency.fleet.tests.unit.fixture_host import tunable_machine
from ansible_collections.lowlatency.fleet.tests.unit.fixture_machine import CPU, FixtureMachine

PROGRAM = b"#!/usr/bin/python3\nthe agent\n"
BARE = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu tsc\n"
STATES = (("POLL", 0), ("C1", 2), ("C1E", 10), ("C6", 133))
WANTED: dict[str, Any] = {"governor": "performance", "energy_performance_preference": "performance", "energy_perf_bias": "performance",
                          "minimum_performance": "100", "turbo": "off", "uncore": "max", "idle_latency_us": 2, "idle_cpus": "2-3,6-7"}


def intel(root: Path) -> FixtureMachine:
    """8 CPUs with intel_pstate in active mode, nothing as it should be."""
    machine = tunable_machine(root).write("proc/cpuinfo", BARE)
    for cpu in range(8):
        folder = f"{CPU}/cpu{cpu}"
        machine.write(f"{folder}/cpufreq/scaling_governor", "powersave\n").write(f"{folder}/cpufreq/scaling_available_governors", "performance powersave\n")
        machine.write(f"{folder}/cpufreq/energy_performance_preference", "balance_performance\n")
        machine.write(f"{folder}/cpufreq/energy_performance_available_preferences", "default performance balance_performance power \n")
        machine.write(f"{folder}/power/energy_perf_bias", "6\n")
        for number, (name, latency) in enumerate(STATES):
            state = f"{folder}/cpuidle/state{number}"
            machine.write(f"{state}/name", name + "\n").write(f"{state}/latency", f"{latency}\n").write(f"{state}/disable", "0\n")
    machine.write(f"{CPU}/intel_pstate/no_turbo", "0\n").write(f"{CPU}/intel_pstate/min_perf_pct", "27\n")
    for package in ("package_00_die_00", "package_01_die_00"):
        folder = f"{CPU}/intel_uncore_frequency/{package}"
        machine.write(f"{folder}/min_freq_khz", "800000\n").write(f"{folder}/max_freq_khz", "2400000\n")
    return machine.write(f"{CPU}/cpuidle/current_driver", "intel_idle\n")


def run(machine: FixtureMachine, spec: dict[str, Any], *, check: bool = False) -> dict[str, Setting]:
    assert cpu_power.problems(spec) == []
    transaction = runner.begin(Host(str(machine.root)), {"cpu_power": {"cpu_power": spec}}, PROGRAM)
    outcome = runner.audit(transaction) if check else runner.apply(transaction)
    return {setting.name: setting for setting in outcome.settings if setting.control.startswith("cpu.")}


def text(machine: FixtureMachine, name: str) -> str:
    return (machine.root / CPU / name).read_text().strip()


def every(machine: FixtureMachine, name: str) -> list[str]:
    return [text(machine, f"cpu{cpu}/{name}") for cpu in range(8)]


def test_all_of_it_is_seen_then_set_then_right(tmp_path: Path) -> None:
    machine = intel(tmp_path)
    seen = run(machine, WANTED, check=True)
    assert {name: (setting.current, setting.desired) for name, setting in seen.items()} == {
        "governor": ("powersave", "performance"), "minimum_performance": ("27", "100"), "energy_performance_preference": ("balance_performance", "performance"),
        "energy_perf_bias": ("6", "0"), "turbo": ("on", "off"), "package_00_die_00": ("800000 kHz at least", "2400000 kHz at least"),
        "package_01_die_00": ("800000 kHz at least", "2400000 kHz at least"), "C1E": ("on", "off on 2-3,6-7"), "C6": ("on", "off on 2-3,6-7")}
    assert {setting.state for setting in seen.values()} == {DRIFTED}
    assert every(machine, "cpufreq/scaling_governor") == ["powersave"] * 8, "an audit writes nothing"
    done = run(machine, WANTED)
    assert {setting.state for setting in done.values()} == {CHANGED}
    assert every(machine, "cpufreq/scaling_governor") == every(machine, "cpufreq/energy_performance_preference") == ["performance"] * 8
    assert every(machine, "power/energy_perf_bias") == ["0"] * 8
    assert (text(machine, "intel_pstate/no_turbo"), text(machine, "intel_pstate/min_perf_pct")) == ("1", "100")
    assert text(machine, "intel_uncore_frequency/package_01_die_00/min_freq_khz") == "2400000"
    for number, expected in enumerate(("00000000", "00000000", "00110011", "00110011")):
        assert "".join(every(machine, f"cpuidle/state{number}/disable")) == expected
    again = run(machine, WANTED)
    assert {setting.state for setting in again.values()} == {OK}
    assert [setting.persisted for setting in again.values()] == [setting.desired for setting in again.values()], "the host agent keeps it"


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are written from now on, in their order."""
    names: list[str] = []
    write = host_power.write_kernel_file

    def recording(host: Host, name: str, value: str) -> None:
        names.append(name)
        write(host, name, value)
    monkeypatch.setattr(host_power, "write_kernel_file", recording)
    return names


def test_the_governor_is_set_before_the_preference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = recorded(monkeypatch)
    run(intel(tmp_path), WANTED)
    order = [os.path.basename(name) for name in written]
    assert order.index("scaling_governor") < order.index("energy_performance_preference")
    assert order.count("scaling_governor") == 8


def test_only_cpus_that_differ_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = intel(tmp_path)
    for cpu in range(7):
        machine.write(f"{CPU}/cpu{cpu}/cpufreq/scaling_governor", "performance\n")
    written = recorded(monkeypatch)
    found = run(machine, {"governor": "performance"}, check=True)["governor"]
    assert found.current == "performance on 0-6, powersave on 7"
    assert run(machine, {"governor": "performance"})["governor"].state == CHANGED
    assert written == [f"/{CPU}/cpu7/cpufreq/scaling_governor"]


def test_states_that_others_switched_off_stay_off(tmp_path: Path) -> None:
    machine = intel(tmp_path).write(f"{CPU}/cpu0/cpuidle/state3/disable", "1\n").write(f"{CPU}/cpu2/cpuidle/state1/disable", "1\n")
    found = run(machine, {"idle_latency_us": 50, "idle_cpus": "2"})
    assert (set(found), found["C6"].current, found["C6"].state) == ({"C6"}, "off on 0,2", CHANGED)
    assert text(machine, "cpu2/cpuidle/state1/disable") == "1"


def test_all_cpus_where_none_are_named_and_polling_alone_where_some_are(tmp_path: Path) -> None:
    machine = intel(tmp_path)
    assert run(machine, {"idle_latency_us": 2}, check=True)["C6"].desired == "off on 0-7"
    assert set(run(machine, {"idle_latency_us": 0, "idle_cpus": "6-9"}, check=True)) == {"C1", "C1E", "C6"}


def test_cores_of_different_kinds_have_one_setting_a_name(tmp_path: Path) -> None:
    machine = intel(tmp_path)
    for cpu in (4, 5):
        machine.write(f"{CPU}/cpu{cpu}/cpuidle/state3/latency", "220\n").write(f"{CPU}/cpu{cpu}/cpuidle/state2/latency", "1\n")
    found = run(machine, {"idle_latency_us": 2})
    assert (found["C6"].current, found["C1E"].current) == ("off on 0-7", "off on 0-3,6-7") and "220 us" in found["C6"].reason
    assert "".join(every(machine, "cpuidle/state2/disable")) == "11110011"


@pytest.mark.parametrize(("current", "cpus"), [("off on 1,3", "01010000"), ("on", "00000000"), ("off on 0-7", "11111111")])
def test_an_original_can_be_written_back(tmp_path: Path, current: str, cpus: str) -> None:
    machine = intel(tmp_path)
    run(machine, WANTED)
    host = Host(str(machine.root))
    state = read_power(host, WANTED)
    write_power(host, state, Setting(cpu_power.IDLE, "C6", current))
    write_power(host, state, Setting(cpu_power.GOVERNOR, "governor", "performance on 0-3, powersave on 4-7"))
    write_power(host, state, Setting(cpu_power.UNCORE, "package_00_die_00", "800000 kHz at least"))
    write_power(host, state, Setting(cpu_power.TURBO, "turbo", "on"))
    assert "".join(every(machine, "cpuidle/state3/disable")) == cpus
    assert every(machine, "cpufreq/scaling_governor") == ["performance"] * 4 + ["powersave"] * 4
    assert (text(machine, "intel_uncore_frequency/package_00_die_00/min_freq_khz"), text(machine, "intel_pstate/no_turbo")) == ("800000", "0")


# --- other drivers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("files", "off"), [
    ({"cpufreq/boost": "1"}, {"cpufreq/boost": "0"}),
    ({f"cpu{cpu}/cpufreq/boost": "1" for cpu in range(8)}, {f"cpu{cpu}/cpufreq/boost": "0" for cpu in range(8)})])
def test_turbo_of_other_drivers(tmp_path: Path, files: dict[str, str], off: dict[str, str]) -> None:
    machine = tunable_machine(tmp_path).write("proc/cpuinfo", BARE)
    for name, value in files.items():
        machine.write(f"{CPU}/{name}", value + "\n")
    assert run(machine, {"turbo": "off"})["turbo"].state == CHANGED
    assert {name: text(machine, name) for name in off} == off


def test_turbo_that_differs_between_cpus(tmp_path: Path) -> None:
    machine = tunable_machine(tmp_path).write("proc/cpuinfo", BARE)
    for cpu in range(8):
        machine.write(f"{CPU}/cpu{cpu}/cpufreq/boost", f"{cpu % 2}\n")
    assert run(machine, {"turbo": "on"}, check=True)["turbo"].current == "off on 0,2,4,6, on on 1,3,5,7"
    assert run(machine, {"turbo": "on"})["turbo"].state == CHANGED


def test_a_machine_without_any_of_it_says_so_and_fails_nothing(tmp_path: Path) -> None:
    machine = tunable_machine(tmp_path).write("proc/cpuinfo", BARE)
    found = run(machine, WANTED)
    assert {setting.state for setting in found.values()} == {UNSUPPORTED} and all(setting.reason for setting in found.values())
    assert set(found) == {"governor", "minimum_performance", "energy_performance_preference", "energy_perf_bias", "turbo", "uncore", "idle states"}
    guest = run(machine.write("proc/cpuinfo", BARE.replace("tsc", "tsc hypervisor")), WANTED)
    assert all("virtual (vm-other)" in setting.reason for setting in guest.values())
    inside = run(machine.write("run/systemd/container", "podman\n"), WANTED)
    assert {setting.reason for setting in inside.values()} == {"belongs to the machine, not to this container (podman)"}


def test_a_word_that_a_driver_has_not_is_told_with_those_it_has(tmp_path: Path) -> None:
    found = run(intel(tmp_path), {"governor": "schedutil", "energy_performance_preference": "balance_power"})
    assert {setting.state for setting in found.values()} == {UNSUPPORTED}
    assert "performance, powersave" in found["governor"].reason and "balance_performance" in found["energy_performance_preference"].reason


# --- what refuses -----------------------------------------------------------------------------------------------------


def test_one_cpu_that_refuses_is_an_error_and_the_others_are_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = intel(tmp_path)
    write = host_power.write_kernel_file

    def refusing(host: Host, name: str, value: str) -> None:
        if "cpu3/" in name:
            raise OSError(16, "Device or resource busy")
        write(host, name, value)
    monkeypatch.setattr(host_power, "write_kernel_file", refusing)
    found = run(machine, WANTED)
    assert found["governor"].state == ERROR and "busy" in found["governor"].reason
    assert found["governor"].current == "performance on 0-2,4-7, powersave on 3"
    assert found["C6"].current == "off on 2,6-7" and found["C6"].state == ERROR


def test_a_value_that_does_not_stay_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = intel(tmp_path)
    monkeypatch.setattr(host_power, "write_kernel_file", lambda host, name, value: None)
    found = run(machine, {"turbo": "off"})["turbo"]
    assert found.state == ERROR and "did not keep" in found.reason


def test_a_cpu_that_cannot_be_read_is_never_right(tmp_path: Path) -> None:
    machine = intel(tmp_path)
    for cpu in range(8):
        machine.write(f"{CPU}/cpu{cpu}/cpufreq/scaling_governor", "performance\n")
    broken = machine.root / f"{CPU}/cpu5/cpufreq/scaling_governor"
    broken.unlink()
    broken.mkdir()
    found = run(machine, {"governor": "performance"}, check=True)["governor"]
    assert (found.current, found.state) == ("performance on 0-4,6-7, (unreadable) on 5", DRIFTED)


def test_uncore_frequencies_that_cannot_be_read(tmp_path: Path) -> None:
    machine = intel(tmp_path).write(f"{CPU}/intel_uncore_frequency/package_00_die_00/max_freq_khz", "?\n")
    found = run(machine, {"uncore": "max"}, check=True)
    assert (found["package_00_die_00"].state, found["package_01_die_00"].state) == (ERROR, DRIFTED)


# --- who else -----------------------------------------------------------------------------------------------------------


def test_services_that_set_the_same_are_findings(tmp_path: Path) -> None:
    machine = intel(tmp_path)
    for unit in ("power-profiles-daemon.service", "cron.service"):
        machine.link(f"etc/systemd/system/multi-user.target.wants/{unit}", f"/usr/lib/systemd/system/{unit}")
    found = run(machine, {"governor": "performance"})
    assert found["power-profiles-daemon.service"].finding and found["power-profiles-daemon.service"].state == DRIFTED
    assert "cron.service" not in found and found["governor"].state == CHANGED


def test_tuned_that_sets_the_same_is_a_finding_where_it_runs(tmp_path: Path) -> None:
    machine = intel(tmp_path).write("etc/tuned/active_profile", "site\n")
    machine.write("usr/lib/tuned/site/tuned.conf", "[cpu]\ngovernor=performance\nforce_latency=1\n[net]\nx=1\n")
    assert "tuned.service" not in run(machine, {"governor": "performance"}, check=True)
    machine.link("etc/systemd/system/multi-user.target.wants/tuned.service", "/usr/lib/systemd/system/tuned.service")
    found = run(machine, {"governor": "performance"}, check=True)["tuned.service"]
    assert found.current == "tuned profile site sets governor (performance)" and "section [cpu]" in found.reason
    assert "force_latency (1)" in str(run(machine, {"idle_latency_us": 2}, check=True)["tuned.service"].current)
    assert "tuned.service" not in run(machine, {"turbo": "off"}, check=True)


# --- wishes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spec", "words"), [
    ({"governor": "Performance!"}, "no word"), ({"governor": True}, "no word"), ({"energy_performance_preference": ""}, "no word"),
    ({"energy_perf_bias": "fast"}, "balance-performance"), ({"energy_perf_bias": 16}, "0 to 15"), ({"minimum_performance": 0}, "1 to 100"),
    ({"minimum_performance": "all"}, "1 to 100"), ({"idle_latency_us": -1}, "below 0"),
    ({"idle_latency_us": 0}, "name them"), ({"idle_cpus": "2-"}, "idle_cpus")])
def test_what_is_refused(spec: dict[str, Any], words: str) -> None:
    found = cpu_power.problems(spec)
    assert len(found) == 1 and words in found[0]


def test_nothing_asked_for_is_nothing_read(tmp_path: Path) -> None:
    assert run(intel(tmp_path), {"idle_cpus": "2-3"}) == {}
