# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing but the application may run on an isolated CPU: where threads are and may be, and where interrupts go."""

from __future__ import annotations

import lab
import pytest
from conftest import cpulist
from expected import CHANNELS, FEATURES, HOUSEKEEPING, NICS, SWITCHES

# One line for each thread of each process that has memory of its own (kernel threads have no command line), but for those of the application:
# pid, name, CPUs it may run on, CPU it ran on last (field 39 of stat; the name, field 2, may hold spaces).
THREADS = r"""
cd /proc
for process in [0-9]*; do
    [ -n "$(tr -d '\0' < $process/cmdline 2>/dev/null)" ] || continue
    ! grep -q /lab-orders.service $process/cgroup || continue
    for task in $process/task/*; do
        allowed=$(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' $task/status 2>/dev/null)
        last=$(sed 's/.*) //' $task/stat 2>/dev/null | cut -d' ' -f37)
        [ -z "$last" ] || echo "$process $(tr ' ' _ < $process/comm) $allowed $last"
    done
done
"""


@pytest.fixture(scope="module", params=lab.NAMES)
def threads(request):
    found = [line.split() for line in lab.run(request.param, THREADS).splitlines()]
    assert len(found) > 10
    return found


def test_no_thread_of_a_process_may_run_on_an_isolated_cpu(threads):
    """Isolation of the domain takes isolated CPUs from PID 1, and everything it starts inherits that."""
    assert [thread for thread in threads if not cpulist(thread[2]) <= HOUSEKEEPING] == []


def test_no_thread_of_a_process_ran_on_an_isolated_cpu(threads):
    assert [thread for thread in threads if int(thread[3]) not in HOUSEKEEPING] == []


def test_pid_1_has_all_housekeeping_cpus(threads):
    """It is not shut into less than it was promised either."""
    assert [cpulist(thread[2]) for thread in threads if thread[0] == "1"] == [HOUSEKEEPING]


@pytest.mark.parametrize("nic", NICS)
def test_interrupts_of_a_nic_are_on_housekeeping_cpus_of_its_node(node, nic):
    script = f"cd /sys/class/net/{nic}/device/msi_irqs && for irq in *; do cat /proc/irq/$irq/smp_affinity_list /proc/irq/$irq/effective_affinity_list; done"
    lists = lab.run(node, script).split()
    assert len(lists) >= 2 * (1 + CHANNELS[nic])
    assert [text for text in lists if not cpulist(text) <= NICS[nic]] == []


@pytest.mark.parametrize("nic", NICS)
def test_features_are_set_again_after_the_boot(host, nic):
    shown = host.check_output("ethtool -k %s", nic)
    assert [f"{name}: {value}" for name, value in FEATURES.items() if f"{name}: {value}" not in shown] == []


def test_irqbalance_is_gone(host):
    assert host.run("pgrep -x irqbalance").rc == 1
    assert host.run("systemctl is-enabled irqbalance.service").stdout.strip() == "masked"


def test_agent_finds_the_host_right(host):
    """Beside what the system's tools say above, not instead."""
    verdict = host.run("/usr/local/sbin/lowlatency verify")
    assert verdict.rc == 0, verdict.stdout + verdict.stderr


def test_state_is_written_down(node):
    """For the comparison after the second run."""
    (lab.STATE / f"{node}.converged").write_text(lab.files(node), encoding="utf-8")
    (lab.STATE / f"{node}.boot_id").write_text(lab.boot_id(node), encoding="utf-8")


@pytest.mark.parametrize(("path", "text"), SWITCHES.items())
def test_switches_of_the_kernel_are_set_again_after_the_boot(node, path, text):
    assert lab.run(node, f"cat {path}").strip() == text
