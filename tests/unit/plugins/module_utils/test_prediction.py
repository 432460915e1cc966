# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check mode tells the truth: what it says a real run would change is what that run then changes, no more and no less, and it changes nothing itself."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils import runner
from ansible_collections.lowlatency.fleet.plugins.module_utils.domains import DOMAINS
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import files, sysfs
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import (
    CHANGED,
    DRIFTED,
    ERROR,
    OK,
    UNSUPPORTED,
    Setting,
)
from ansible_collections.lowlatency.fleet.tests.unit.fixture_host import (
    IRQ_PART,
    KERNEL_PART,
    TCP_PART,
    Writes,
    begun,
    tree,
    tunable_machine,
)
from ansible_collections.lowlatency.fleet.tests.unit.fixture_machine import FixtureMachine

# What is wanted of every domain whose values are files that one write sets.
WISHES: dict[str, Any] = {
    "hugepages": {"site": {"pages": [{"size": "2M", "node": 0, "count": 8, "at": "runtime"}, {"size": "1G", "node": 1, "count": 1, "at": "boot"}]}},
    "irq_affinity": {"irq_affinity": IRQ_PART},
    "cpu_power": {"site": {"governor": "performance", "turbo": "off", "idle_latency_us": 2, "idle_cpus": "2-3", "energy_perf_bias": "0"}},
    "sysfs": {"site": {"values": {"transparent_hugepage": "never", "ksm": "0", "workqueue_cpumask": "planned"}, "housekeeping": "0-1,4-5"}},
    "tunables": {"kernel_tunables": KERNEL_PART, "tcp_tuning": TCP_PART},
    "bypass_stack": {"site": {"stack": ""}},
    "nic_firmware": {"site": {"nics": [{"interface": "eth0"}], "policy": {}}},
}
# The others, and who shows the same of them.
ELSEWHERE = {
    "bios_info": "findings only", "sockets": "findings only", "units": "systemd: molecule/default/tests/outcome/test_prediction.py",
    "service_pinning": "systemd: the same", "sack_filter": "nftables: the same", "route_metrics": "iproute2: the same", "qdisc": "rtnetlink: the same",
    "ethtool": "a driver: the same", "pci_driver": "drivers: molecule/vm", "kernel_cmdline": "a boot: molecule/vm",
}
REFUSED = {"tunables": "/proc/sys/vm/swappiness", "irq_affinity": "/proc/irq/9/smp_affinity_list", "hugepages": "node0/hugepages/hugepages-2048kB/nr_hugepages"}


@pytest.fixture
def machine(tmp_path: Path) -> FixtureMachine:
    made = tunable_machine(tmp_path / "machine")
    for cpu in range(8):
        folder = f"sys/devices/system/cpu/cpu{cpu}"
        made.write(f"{folder}/cpufreq/scaling_governor", "powersave\n").write(f"{folder}/cpufreq/scaling_available_governors", "performance powersave\n")
        made.write(f"{folder}/power/energy_perf_bias", "6\n")
        for state, (name, latency) in enumerate((("POLL", 0), ("C1", 2), ("C6", 133))):
            place = f"{folder}/cpuidle/state{state}"
            made.write(f"{place}/name", name + "\n").write(f"{place}/latency", f"{latency}\n").write(f"{place}/disable", "0\n")
    made.write("sys/devices/system/cpu/intel_pstate/no_turbo", "0\n").write("sys/devices/system/cpu/cpuidle/current_driver", "intel_idle\n")
    made.write("proc/cpuinfo", "vendor_id\t: GenuineIntel\nflags\t\t: tsc\n").write("proc/cmdline", "quiet\n")
    made.write("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n").write("sys/kernel/mm/ksm/run", "1\n")
    made.write("sys/devices/virtual/workqueue/cpumask", "ff\n")
    for node, size in itertools.product((0, 1), ("2048", "1048576")):
        made.write(f"sys/devices/system/node/node{node}/hugepages/hugepages-{size}kB/nr_hugepages", "0\n")
        made.write(f"sys/devices/system/node/node{node}/meminfo", f"Node {node} MemTotal: 65536000 kB\nNode {node} MemFree: 60000000 kB\n")
        (made.root / f"sys/kernel/mm/hugepages/hugepages-{size}kB").mkdir(parents=True, exist_ok=True)
    return made


@pytest.fixture(autouse=True)
def writes(monkeypatch: pytest.MonkeyPatch) -> Writes:
    monkeypatch.setattr(runner, "PATIENCE", 0)
    made = Writes(monkeypatch)

    def write_switch(host: Host, name: str, text: str) -> None:
        """As the kernel does: the chosen word in brackets."""
        words = host.read(name).replace("[", "").replace("]", "").split()
        files.write_kernel_file(host, name, " ".join(f"[{word}]" if word == text else word for word in words) if text in words else text)

    monkeypatch.setattr(sysfs, "write_kernel_file", write_switch)
    return made


Outcomes = Mapping[tuple[str, str], Setting]


def by_key(outcome: runner.Outcome) -> Outcomes:
    found = {setting.key: setting for setting in outcome.settings}
    assert len(found) == len(outcome.settings), "a control and a name are one setting"
    return found


def predicted(outcomes: Outcomes) -> set[tuple[str, str]]:
    """What a real run would have to mend: neither a finding nor what waits for a boot."""
    return {key for key, setting in outcomes.items() if setting.state == DRIFTED and not setting.finding and not setting.needs_reboot}


def of_run(outcomes: Outcomes, before: Outcomes) -> set[tuple[str, str]]:
    """What a real run changed, or tried to."""
    return {key for key, setting in outcomes.items() if setting.state == CHANGED or (setting.state == ERROR and before[key].state != ERROR)}


def checked_and_run(machine: FixtureMachine, documents: Any) -> tuple[Outcomes, Outcomes]:
    """What check mode says, having changed nothing, and what the real run after it did."""
    before = tree(machine.root)
    said = runner.audit(begun(machine.root, documents))
    assert tree(machine.root) == before, "check mode changed something"
    assert by_key(runner.audit(begun(machine.root, documents))) == by_key(said), "and it says the same again"
    done = runner.apply(begun(machine.root, documents))
    assert said.changed == bool(predicted(by_key(said)) | {key for key, setting in by_key(said).items() if setting.waits})
    return by_key(said), by_key(done)


def test_every_domain_is_here_or_shown_elsewhere() -> None:
    assert {*WISHES, *ELSEWHERE} == set(DOMAINS) and not set(WISHES) & set(ELSEWHERE)


@pytest.mark.parametrize("names", [*([name] for name in sorted(WISHES)), sorted(WISHES)], ids=lambda names: "all" if len(names) > 1 else names[0])
def test_what_check_mode_says_is_what_a_real_run_does(machine: FixtureMachine, names: list[str]) -> None:
    documents = {name: WISHES[name] for name in names}
    said, done = checked_and_run(machine, documents)
    assert set(said) == set(done)
    assert predicted(said) and predicted(said) == of_run(done, said)
    assert {key: setting.desired for key, setting in done.items()} == {key: setting.desired for key, setting in said.items()}
    assert {setting.state for key, setting in done.items() if key in predicted(said)} == {CHANGED}
    untouched = {key for key in said if key not in predicted(said)}
    assert {key: done[key].state for key in untouched} == {key: said[key].state for key in untouched}
    after = by_key(runner.audit(begun(machine.root, documents)))
    assert predicted(after) == set() and {setting.state for key, setting in after.items() if key in predicted(said)} == {OK}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_the_kernel_refuses_was_predicted_too(machine: FixtureMachine, writes: Writes, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A write that fails is an error of a setting that check mode called drifted; nothing else fails or is left out."""
    refuse: Callable[[str], bool] = lambda path: path.endswith(REFUSED[name])  # noqa: E731

    def before(path: str) -> None:
        if refuse(path):
            raise OSError(errno.EINVAL, "Invalid argument")

    writes.before = before
    said, done = checked_and_run(machine, {name: WISHES[name]})
    failed = {key for key, setting in done.items() if setting.state == ERROR}
    assert len(failed) == 1 and failed < predicted(said) and predicted(said) == of_run(done, said)


def test_a_second_run_is_predicted_to_do_nothing_and_does_nothing(machine: FixtureMachine) -> None:
    runner.apply(begun(machine.root, WISHES))
    said, done = checked_and_run(machine, WISHES)
    assert predicted(said) == set() == of_run(done, said)
    assert {setting.state for setting in done.values() if not setting.finding and not setting.needs_reboot} <= {OK, UNSUPPORTED}


@pytest.mark.parametrize("undone", ["proc/sys/net/ipv4/tcp_sack", "proc/irq/41/smp_affinity_list", "sys/devices/system/cpu/cpu3/cpufreq/scaling_governor",
                                    "sys/kernel/mm/ksm/run", "etc/sysctl.d/80-lowlatency.conf", "etc/systemd/system/lowlatency.service"])
def test_what_drifts_after_a_run_is_predicted_alone(machine: FixtureMachine, undone: str) -> None:
    runner.apply(begun(machine.root, WISHES))
    (machine.root / undone).write_text({"sys/kernel/mm/ksm/run": "1\n"}.get(undone, "powersave\n" if undone.endswith("governor") else "0\n"))
    said, done = checked_and_run(machine, WISHES)
    assert predicted(said) and predicted(said) == of_run(done, said)
    assert len(predicted(said)) < len(said) / 2
