# SPDX-License-Identifier: GPL-3.0-or-later
"""Market data past the kernel and orders on it, on one host: the port, its packets, its pages and its CPU, and what an audit finds of all that is wrong.

The order counts: the services are started first, then disturbed, then the port goes back.
"""

from __future__ import annotations

import contextlib
import re

import lab
import pytest
from conftest import cpulist, said, site
from expected import FEED_CPU, FEED_EAL, FEED_PAGES, FEED_PORT, HOUSEKEEPING, ORDERS_CPU

FEED, ORDERS = "lab-feed.service", "lab-orders.service"
VERIFY = "/usr/local/sbin/lowlatency verify"
SECONDS = 45
# Threads of a service: name, CPUs it may run on, CPU it ran on last, policy and priority by chrt.
THREADS = r"""
for pid in $(cat /sys/fs/cgroup/system.slice/$1/cgroup.procs); do
    for task in /proc/$pid/task/*; do
        echo "$(tr ' ' _ <$task/comm) $(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' $task/status) $(sed 's/.*) //' $task/stat | cut -d' ' -f37)"
    done
done
"""
# Packets a second that testpmd told last: received and sent.
RATES = r"journalctl -b -u lab-feed.service -o cat --no-pager -n 60 | grep -oE '(Rx|Tx)-pps: +[0-9]+' | tail -n 2"


def driver(name):
    """What has the port, by sysfs."""
    return lab.run(name, f"basename $(readlink /sys/bus/pci/devices/{FEED_PORT}/driver)").strip()


def main_pid(name, unit):
    return lab.run(name, f"systemctl show --property=MainPID --value {unit}").strip()


def rates(name):
    return {word.split("-")[0]: int(word.split()[-1]) for word in lab.run(name, RATES).splitlines()}


def flows(name):
    return len(rates(name)) == 2 and all(rates(name).values())


def verdict(name):
    """Exit code and words of the host's own audit."""
    shown = lab.guest(name).run(VERIFY)
    return shown.rc, shown.stdout + shown.stderr


def found(name, pattern):
    """The audit finds what matches, and says so with its exit code."""
    code, text = verdict(name)
    assert code == 1 and re.search(pattern, text), f"{code}: {text}"


@pytest.fixture(scope="module")
def feed():
    """Both ends run and have sent each other packets; ended with the module."""
    for name in lab.NAMES:
        lab.run(name, f"systemctl stop {FEED}; systemctl reset-failed {FEED} 2>/dev/null; true")
    # who answers first: the emulated NIC of one that starts under full load may receive nothing for good
    for name in reversed(lab.NAMES):
        lab.run(name, f"systemctl start {FEED}; for second in $(seq 30); do journalctl -u {FEED} -n 3 -o cat | grep -q pps && break; sleep 1; done")
    try:
        for name in lab.NAMES:
            lab.wait(lambda name=name: flows(name), 120, f"packets on {name}: {lab.run(name, f'journalctl -b -u {FEED} -o cat --no-pager -n 30')}")
        yield
    finally:
        for name in lab.NAMES:
            lab.run(name, f"systemctl stop {FEED}; systemctl reset-failed {FEED} 2>/dev/null; true")


# --- the port ----------------------------------------------------------------------------------------------------------


def test_port_belongs_to_user_space(node):
    assert driver(node) == "vfio-pci"
    assert lab.run(node, f"ls /sys/bus/pci/devices/{FEED_PORT}/net 2>/dev/null; true") == ""


def test_port_was_taken_in_this_boot_before_anything_could_give_it_an_address(node):
    shown = lab.run(node, """
systemctl show --property=ExecMainExitTimestampMonotonic --value lowlatency-ports.service
systemctl show --property=ExecMainStartTimestampMonotonic --value systemd-networkd.service
""").split()
    assert 0 < int(shown[0]) < int(shown[1]), shown


def test_only_its_group_may_open_it_and_take_its_pages(node):
    shown = lab.run(node, f"""
stat -c '%U:%G %a' /dev/vfio/$(basename $(readlink /sys/bus/pci/devices/{FEED_PORT}/iommu_group))
stat -f -c %T /mnt/huge-1G; stat -c '%U:%G %a' /mnt/huge-1G
""").split("\n")
    assert shown[:3] == ["root:dpdk 660", "hugetlbfs", "root:dpdk 770"]


# --- both services at once ---------------------------------------------------------------------------------------------


def test_packets_flow_both_ways(feed, node):
    assert min(rates(node).values()) > 100, rates(node)


def test_feed_needs_no_right_of_root(feed, node):
    shown = lab.run(node, f"ps -o user= -o comm= -p {main_pid(node, FEED)}; grep CapEff /proc/{main_pid(node, FEED)}/status")
    assert shown.split() == ["lab", "dpdk-testpmd", "CapEff:", "0000000000000000"]


def test_feed_was_started_with_what_the_plan_says(feed, node):
    environment = lab.run(node, f"tr '\\0' '\\n' </proc/{main_pid(node, FEED)}/environ").splitlines()
    assert f"DPDK_EAL_ARGS={FEED_EAL}" in environment
    assert "unlimited" in lab.run(node, f"grep 'Max locked memory' /proc/{main_pid(node, FEED)}/limits").split()


@pytest.mark.parametrize(("unit", "cpu"), [(FEED, FEED_CPU), (ORDERS, ORDERS_CPU)])
def test_threads_of_a_service_are_on_its_cpu(feed, node, unit, cpu):
    threads = [line.split() for line in lab.run(node, THREADS, unit).splitlines()]
    assert len(threads) >= 2 and {(thread[1], thread[2]) for thread in threads} == {(str(cpu), str(cpu))}, threads


def test_orders_are_scheduled_as_wanted(node):
    shown = lab.run(node, f"chrt -p {main_pid(node, ORDERS)}")
    assert "SCHED_FIFO" in shown and shown.split()[-1] == "10"


def test_feed_has_its_pages_on_the_node_of_its_port(feed, node):
    """By the kernel's own map of the process: huge pages of one node, and no page anywhere else is taken."""
    shown = lab.run(node, f"grep huge /proc/{main_pid(node, FEED)}/numa_maps")
    taken = re.findall(r"\bN(\d+)=(\d+)", shown)
    assert taken and {int(number) for number, _count in taken} == {FEED_PAGES[0]}, shown
    free = {number: lab.run(node, f"cat /sys/devices/system/node/node{number}/hugepages/hugepages-2048kB/free_hugepages").strip() for number in (0, 1)}
    assert free == {0: "64", 1: "128"}


def test_nobody_else_may_run_there(feed, node):
    """All programs but the two services keep to housekeeping CPUs, and so does systemd."""
    shown = lab.run(node, r"""
cd /proc
for process in [0-9]*; do
    [ -n "$(tr -d '\0' <$process/cmdline 2>/dev/null)" ] || continue
    grep -qE 'lab-(feed|orders)' $process/cgroup 2>/dev/null && continue
    echo "$(tr ' ' _ <$process/comm) $(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' $process/status)"
done 2>/dev/null
""")
    lines = [line.split() for line in shown.splitlines() if len(line.split()) == 2]
    assert len(lines) > 8 and [line for line in lines if not cpulist(line[1]) <= HOUSEKEEPING] == []


def test_host_finds_itself_right(feed, node):
    code, text = verdict(node)
    assert code == 0, text


# --- what an audit finds -------------------------------------------------------------------------------------------------


def test_a_service_with_another_mask_is_found(feed):
    pid = main_pid("lab-b", ORDERS)
    lab.run("lab-b", f"taskset -a -p -c 0-1 {pid}")
    found("lab-b", rf"{ORDERS} threads: is 0-1, .*wanted {ORDERS_CPU} .*python3 \({pid}\)")
    lab.run("lab-b", f"systemctl restart {ORDERS}")
    assert verdict("lab-b")[0] == 0


def test_who_is_put_on_the_cpu_of_a_service_is_found(feed):
    lab.run("lab-b", f"systemd-run --quiet --unit=test-stray --property=CPUAffinity={FEED_CPU} sleep 600")
    try:
        found("lab-b", rf"{FEED} CPUs: is sleep \(\d+\)")
    finally:
        lab.run("lab-b", "systemctl stop test-stray")


def test_a_service_that_runs_without_its_bypass_is_found(feed):
    lab.run("lab-b", f"""
mkdir -p /run/systemd/system/{FEED}.d
printf '[Service]\\nExecStart=\\nExecStart=/bin/sleep 600\\n' >/run/systemd/system/{FEED}.d/99-test.conf
systemctl daemon-reload; systemctl restart {FEED}
""")
    try:
        found("lab-b", rf"{FEED} {FEED_PORT}: is not open")
    finally:
        lab.run("lab-b", f"rm -r /run/systemd/system/{FEED}.d; systemctl daemon-reload; systemctl restart {FEED}")


def test_a_service_that_failed_is_told(feed):
    lab.wait(lambda: "dpdk-testpmd" in lab.run("lab-b", f"ps -o comm= -p {main_pid('lab-b', FEED)}; true"), 60, "the feed has started anew")
    lab.run("lab-b", f"systemctl kill --signal=SEGV {FEED}; while systemctl is-active -q {FEED}; do sleep 1; done")
    found("lab-b", rf"{FEED}: is failed \((signal|core-dump)\)")


def test_a_port_that_is_in_use_is_not_given_back(feed):
    process = site("lab-a", dpdk_devices=[])
    assert process.returncode != 0
    message = rf"{FEED_PORT}: goes back to the kernel, but dpdk-testpmd \(process \d+\) has it open; stop that first"
    assert re.search(message, said(process)), said(process)[-1500:]
    assert driver("lab-a") == "vfio-pci"


# --- the way back ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def given_back(feed):
    """lab-b after a run in which the port is no longer user space's."""
    lab.run("lab-b", f"systemctl stop {FEED}; systemctl reset-failed {FEED} 2>/dev/null; true")
    process = site("lab-b", dpdk_devices=[])
    assert process.returncode == 0, said(process)[-2000:]


def test_site_gives_the_port_back(given_back):
    assert driver("lab-b") == "igb"
    assert lab.run("lab-b", f"ls /sys/bus/pci/devices/{FEED_PORT}/net").strip() == "enp130s0"
    assert lab.run("lab-b", f"cat /sys/bus/pci/devices/{FEED_PORT}/driver_override").strip() in ("", "(null)")


# The link of the management NIC goes when the port has its new driver: as where a site names the wrong port.
CUT = rf"""
cat >/run/test-cut <<'X'
while sleep 0.3; do
    case $(readlink /sys/bus/pci/devices/{FEED_PORT}/driver) in
    */vfio-pci) ip link set enp0s16 down ;;
    *) ip link set enp0s16 up ;;
    esac
done
X
systemd-run --quiet --unit=test-cut sh /run/test-cut
"""


@pytest.fixture(scope="module")
def cut_off(given_back):
    """The run that took the port and was cut off by that."""
    lab.run("lab-b", CUT)
    try:
        process = site("lab-b", lowlatency_confirm_seconds=SECONDS)
        with contextlib.suppress(TimeoutError):
            lab.wait(lambda: lab.answers("lab-b") and driver("lab-b") == "igb", 2 * SECONDS + 120, "the port is the kernel's again")
        yield process
    finally:
        lab.wait(lambda: lab.answers("lab-b"), lab.BOOT_TIME_LIMIT, "the host answers")
        lab.run("lab-b", "systemctl stop test-cut; ip link set enp0s16 up; rm -f /run/test-cut")


def test_host_takes_back_a_port_that_cut_it_off(cut_off):
    assert cut_off.returncode != 0
    assert driver("lab-b") == "igb"
    assert "not confirmed, taken back at" in lab.run("lab-b", "/usr/local/sbin/lowlatency status; true")


def test_ordinary_run_takes_it_again(cut_off):
    lab.run("lab-b", "systemctl stop test-cut; ip link set enp0s16 up")
    process = site("lab-b")
    assert process.returncode == 0, said(process)[-2000:]
    assert driver("lab-b") == "vfio-pci"
    code, text = verdict("lab-b")
    assert code == 0, text
