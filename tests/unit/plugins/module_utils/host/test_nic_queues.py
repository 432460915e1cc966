# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""RPS, RFS, XPS and NAPI as files of interfaces."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.nic_queues import (
    cpus_of,
    napi_values,
    queue_values,
    write_napi,
    write_queue,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.cpuset import CpusetError
from ansible_collections.lowlatency.fleet.tests.unit.fixture_machine import FixtureMachine

QUEUES = "sys/class/net/eth0/queues"


@pytest.fixture
def machine(tmp_path: Path) -> FixtureMachine:
    """Two receive queues and two transmit queues."""
    made = FixtureMachine(tmp_path).lists("0-39", possible="0-63")
    for queue in (0, 1):
        made.write(f"{QUEUES}/rx-{queue}/rps_cpus", "00000000,00000000\n").write(f"{QUEUES}/rx-{queue}/rps_flow_cnt", f"{queue * 4096}\n")
        made.write(f"{QUEUES}/tx-{queue}/xps_cpus", "00000000,00000003\n")
    for name, value in (("napi_defer_hard_irqs", "2"), ("gro_flush_timeout", "20000"), ("threaded", "1"), ("mtu", "1500")):
        made.write(f"sys/class/net/eth0/{name}", value + "\n")
    return made


def host(machine: FixtureMachine) -> Host:
    return Host(str(machine.root))


def test_receive_queues_and_what_they_steer(machine: FixtureMachine) -> None:
    machine.write(f"{QUEUES}/rx-1/rps_cpus", "00000001,8000000f\n")
    assert queue_values(host(machine), "eth0") == {
        ("rx-0", "rps_cpus"): "", ("rx-0", "rps_flow_cnt"): "0", ("rx-1", "rps_cpus"): "0-3,31-32", ("rx-1", "rps_flow_cnt"): "4096"}


def test_a_file_that_cannot_be_read_is_left_out(machine: FixtureMachine) -> None:
    machine.remove(f"{QUEUES}/rx-0/rps_flow_cnt").write(f"{QUEUES}/rx-1/rps_cpus", "garbage\n")
    assert set(queue_values(host(machine), "eth0")) == {("rx-0", "rps_cpus"), ("rx-1", "rps_flow_cnt")}
    assert queue_values(host(machine), "eth9") == {}


@pytest.mark.parametrize(("text", "cpus"), [("0", ""), ("3", "0-1"), ("00000001,00000000", "32"), (None, None), ("", None), ("xyz", None)])
def test_masks_become_lists(text: str | None, cpus: str | None) -> None:
    assert cpus_of(text) == cpus


def test_how_napi_is_polled(machine: FixtureMachine) -> None:
    assert napi_values(host(machine), "eth0") == {"napi_defer_hard_irqs": "2", "gro_flush_timeout": "20000", "threaded": "1"}
    machine.remove("sys/class/net/eth0/threaded")
    assert set(napi_values(host(machine), "eth0")) == {"napi_defer_hard_irqs", "gro_flush_timeout"}
    assert napi_values(host(machine), "eth9") == {}


@pytest.mark.parametrize(
    ("queue", "file", "value", "text"),
    [("rx-0", "rps_cpus", "", "00000000,00000000"), ("rx-1", "rps_cpus", "0,33", "00000002,00000001"), ("tx-1", "xps_cpus", "4-7", "00000000,000000f0"),
     ("rx-0", "rps_flow_cnt", "0", "0"), ("rx-0", "rps_flow_cnt", "32768", "32768")],
)
def test_cpus_are_written_as_a_mask_as_wide_as_the_machine_and_numbers_as_they_are(
        machine: FixtureMachine, queue: str, file: str, value: str, text: str) -> None:
    write_queue(host(machine), "eth0", queue, file, value)
    assert (machine.root / QUEUES / queue / file).read_text() == text
    if file == "rps_cpus":
        assert queue_values(host(machine), "eth0")[queue, file] == value


def test_a_cpu_that_is_not_possible_here_is_refused_by_name(machine: FixtureMachine) -> None:
    with pytest.raises(CpusetError, match="CPU 64"):
        write_queue(host(machine), "eth0", "rx-0", "rps_cpus", "64")
    assert (machine.root / QUEUES / "rx-0/rps_cpus").read_text() == "00000000,00000000\n"


def test_a_queue_that_is_gone_is_an_error(machine: FixtureMachine) -> None:
    with pytest.raises(FileNotFoundError):
        write_queue(host(machine), "eth0", "rx-7", "rps_cpus", "1")
    with pytest.raises(FileNotFoundError):
        write_napi(host(machine), "eth9", "threaded", "0")


def test_napi_is_written(machine: FixtureMachine) -> None:
    write_napi(host(machine), "eth0", "napi_defer_hard_irqs", "0")
    assert napi_values(host(machine), "eth0")["napi_defer_hard_irqs"] == "0"
