# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Interrupts: which queue a name serves, where each vector goes, and what is refused or said of those that cannot move."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.cpuset import format_cpulist, parse_cpulist
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.irq import (
    DEFAULT,
    NIC,
    OTHER,
    QUIET,
    Irq,
    IrqState,
    interrupt_counts,
    plan,
    problems,
    queue_index,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import (
    DRIFTED,
    ERROR,
    OK,
    UNSUPPORTED,
    Setting,
    SpecError,
    judged_live,
)
from hypothesis import given
from hypothesis import strategies as st


def cpus(*numbers: int) -> frozenset[int]:
    return frozenset(numbers)


ALL = frozenset(range(8))
ISOLATING = {"isolated": "4-7", "housekeeping": "0-3"}


def machine(*irqs: Irq, nics: tuple[tuple[int, ...] | None, ...] = (), default: frozenset[int] = ALL, online: frozenset[int] = ALL) -> IrqState:
    return IrqState(irqs, nics, default, online)


def settings(state: IrqState, spec: dict[str, Any]) -> dict[str, Setting]:
    planned = plan(state, spec).settings
    by_name = {setting.name: judged_live(setting, "") for setting in planned}
    assert len(by_name) == len(planned), "every setting has a name of its own"
    return by_name


def refusal(state: IrqState, spec: dict[str, Any]) -> str:
    with pytest.raises(SpecError) as caught:
        plan(state, spec)
    return str(caught.value)


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "queue"),
    [
        ("eth1-TxRx-3", 3),  # igb, ixgbe
        ("eth1", None),  # igb: link and other causes
        ("eth0-rx-3", 3),
        ("eth0-tx-0", 0),
        ("ice-eth0-TxRx-0", 0),
        ("ice-0000:17:00.0:misc", None),
        ("i40e-ens1-TxRx-5", 5),
        ("i40e-0000:3b:00.0:misc", None),
        ("iavf-eth0-TxRx-12", 12),
        ("mlx5_comp3@pci:0000:3b:00.0", 3),
        ("mlx5_comp63@pci:0000:3b:00.1", 63),
        ("mlx5_async0@pci:0000:3b:00.0", None),
        ("mlx5_pages_eq@pci:0000:3b:00.0", None),
        ("virtio2-input.0", 0),
        ("virtio2-output.1", 1),
        ("virtio2-config", None),
        ("ens3f0-fp-7", 7),  # bnx2x
        ("eth0-Tx-Rx-2", 2),  # ena
        ("ena-mgmnt@pci:0000:00:05.0", None),
        ("eth0-rxtx-2", 2),  # vmxnet3
        ("eth0-event-4", 4),  # vmxnet3's last vector: harmless, it only chooses a CPU of the list
        ("enp1s0f0", None),
        ("", None),
    ],
)
def test_the_queue_a_vector_serves(action: str, queue: int | None) -> None:
    assert queue_index(action) == queue


@given(st.text())
def test_any_name_is_read(action: str) -> None:
    queue = queue_index(action)
    assert queue is None or queue >= 0


def test_names_that_repeat_get_their_number() -> None:
    state = machine(Irq(30, "ahci", ALL), Irq(31, "ahci", ALL), Irq(32, "nvme0q1", ALL))
    assert set(state.named()) == {"ahci #30", "ahci #31", "nvme0q1"}


def test_vectors_with_one_name_are_settings_of_their_own() -> None:
    state = machine(Irq(30, "ahci", ALL), Irq(31, "ahci", cpus(0)), nics=())
    found = settings(state, ISOLATING)
    assert found["ahci #30"].state == DRIFTED and found["ahci #31"].state == OK


# --- NIC vectors -----------------------------------------------------------------------------------------------------


def queues(count: int, first: int = 40, name: str = "eth1") -> list[Irq]:
    return [Irq(first, name, ALL), *(Irq(first + 1 + queue, f"{name}-TxRx-{queue}", ALL) for queue in range(count))]


def test_queues_go_round_over_the_cpus_and_the_link_vector_on_the_first() -> None:
    irqs = queues(5)
    found = settings(machine(*irqs, nics=(tuple(irq.number for irq in irqs),)), {"nics": [{"interface": "eth1", "cpus": "1-3"}]})
    assert {name: setting.desired for name, setting in found.items()} == {
        "eth1": "1", "eth1-TxRx-0": "1", "eth1-TxRx-1": "2", "eth1-TxRx-2": "3", "eth1-TxRx-3": "1", "eth1-TxRx-4": "2",
    }
    assert {setting.control for setting in found.values()} == {NIC}


@given(st.integers(1, 40), st.sets(st.integers(0, 200), min_size=1, max_size=20))
def test_every_queue_has_one_planned_cpu_and_none_has_one_more_than_another(count: int, chosen: set[int]) -> None:
    irqs = queues(count)[1:]
    state = machine(*irqs, nics=(tuple(irq.number for irq in irqs),), online=frozenset(range(201)))
    placed = [setting.desired for setting in plan(state, {"nics": [{"interface": "eth1", "cpus": ",".join(map(str, sorted(chosen)))}]}).settings]
    assert len(placed) == count
    loads = [placed.count(str(cpu)) for cpu in chosen]
    assert sum(loads) == count and max(loads) - min(loads) <= 1


def test_vectors_nobody_asked_for_are_left_out() -> None:
    state = machine(Irq(41, "eth1-TxRx-0", ALL), nics=((40, 41, 42),))
    assert set(settings(state, {"nics": [{"interface": "eth1", "cpus": "1"}]})) == {"eth1-TxRx-0"}


def test_a_virtual_nic_has_no_vectors() -> None:
    assert settings(machine(nics=((),)), {"nics": [{"interface": "bond0", "cpus": "1"}]}) == {}


def test_a_vector_that_already_is_in_place_is_right_and_says_when_it_is_not_yet_there() -> None:
    state = machine(Irq(41, "eth1-TxRx-0", cpus(1), effective=cpus(5)), nics=((41,),))
    setting = settings(state, {"nics": [{"interface": "eth1", "cpus": "1"}]})["eth1-TxRx-0"]
    assert setting.state == OK and "CPU 5 until its next interrupt" in setting.reason


def test_an_immovable_vector_is_unsupported_unless_it_is_where_it_belongs() -> None:
    wrong = machine(Irq(41, "eth1-TxRx-0", cpus(5), immovable="managed by the kernel"), nics=((41,),))
    setting = settings(wrong, {"nics": [{"interface": "eth1", "cpus": "1"}]})["eth1-TxRx-0"]
    assert (setting.state, setting.reason, setting.current, setting.desired) == (UNSUPPORTED, "managed by the kernel", "5", "1")
    right = machine(Irq(41, "eth1-TxRx-0", cpus(1), immovable="managed by the kernel"), nics=((41,),))
    assert settings(right, {"nics": [{"interface": "eth1", "cpus": "1"}]})["eth1-TxRx-0"].state == OK


def test_an_affinity_that_could_not_be_read_is_an_error() -> None:
    state = machine(Irq(41, "eth1-TxRx-0", cpus()), nics=((41,),))
    assert settings(state, {"nics": [{"interface": "eth1", "cpus": "1"}]})["eth1-TxRx-0"].state == ERROR


# --- all others ------------------------------------------------------------------------------------------------------


def test_others_leave_the_isolated_cpus_and_stay_where_they_may() -> None:
    state = machine(Irq(9, "acpi", ALL), Irq(10, "rtc0", cpus(6)), Irq(11, "nvme0q1", cpus(2, 5)), Irq(12, "i8042", cpus(1)))
    found = settings(state, ISOLATING)
    assert {name: (found[name].desired, found[name].state) for name in ("acpi", "rtc0", "nvme0q1", "i8042")} == {
        "acpi": ("0-3", DRIFTED), "rtc0": ("0-3", DRIFTED), "nvme0q1": ("2", DRIFTED), "i8042": ("1", OK),
    }
    assert {setting.control for setting in found.values()} == {OTHER, DEFAULT}


def test_other_immovable_interrupts_are_named_and_fail_nothing() -> None:
    found = settings(machine(Irq(9, "nvme0q7", cpus(6), immovable="managed by the kernel")), ISOLATING)
    assert found["nvme0q7"].state == UNSUPPORTED and found["nvme0q7"].current == "6"


def test_new_interrupts_get_the_housekeeping_cpus() -> None:
    found = settings(machine(), ISOLATING)["default_smp_affinity"]
    assert (found.control, found.current, found.desired, found.state) == (DEFAULT, "0-7", "0-3", DRIFTED)
    found = settings(machine(default=cpus(0, 1, 2, 3)), ISOLATING)["default_smp_affinity"]
    assert found.state == OK


def test_the_default_mask_is_judged_by_the_cpus_there_are() -> None:
    """The kernel shows bits of CPUs that are not there."""
    found = settings(machine(default=frozenset(range(4)) | frozenset(range(64, 128))), ISOLATING)["default_smp_affinity"]
    assert found.state == OK


def test_without_isolated_cpus_others_are_left_alone() -> None:
    assert settings(machine(Irq(9, "acpi", ALL)), {"isolated": "", "housekeeping": "0-7", "nics": []}) == {}


def test_a_nic_vector_is_judged_once() -> None:
    state = machine(Irq(41, "eth1-TxRx-0", ALL), Irq(9, "acpi", ALL), nics=((41,),))
    found = settings(state, {**ISOLATING, "nics": [{"interface": "eth1", "cpus": "2"}]})
    assert {name: setting.control for name, setting in found.items()} == {"eth1-TxRx-0": NIC, "acpi": OTHER, "default_smp_affinity": DEFAULT}


def test_more_than_64_cpus() -> None:
    online = frozenset(range(256))
    state = machine(Irq(9, "acpi", online), Irq(41, "eth1-TxRx-9", online), nics=((41,),), online=online, default=online)
    spec = {"isolated": "8-127,136-255", "housekeeping": "0-7,128-135", "nics": [{"interface": "eth1", "cpus": "4-7,132-135"}]}
    assert problems(spec) == []
    assert {name: setting.desired for name, setting in settings(state, spec).items()} == {
        "eth1-TxRx-9": "5", "acpi": "0-7,128-135", "default_smp_affinity": "0-7,128-135",
    }


def test_offline_housekeeping_cpus_are_left_out() -> None:
    found = settings(machine(Irq(9, "acpi", ALL), online=ALL - {3}), ISOLATING)
    assert found["acpi"].desired == "0-2"
    assert found["default_smp_affinity"].desired == "0-2"


def test_a_container_has_no_interrupts_of_its_own() -> None:
    found = plan(IrqState(without="interrupts belong to the machine"), {**ISOLATING, "nics": [{"interface": "x", "cpus": "77"}]}).settings
    assert [(setting.state, setting.reason) for setting in found] == [(UNSUPPORTED, "interrupts belong to the machine")]


# --- refusals --------------------------------------------------------------------------------------------------------


def test_cpus_that_are_not_online_are_refused() -> None:
    message = refusal(machine(), {"isolated": "6-9", "housekeeping": "0-3"})
    assert "CPUs 8-9 are not online" in message and "online are 0-7" in message and "(R3)" in message
    message = refusal(machine(nics=((),)), {"nics": [{"interface": "eth1", "cpus": "12"}]})
    assert "CPUs 12 are not online" in message


def test_housekeeping_cpus_none_of_which_is_online_are_refused() -> None:
    assert "(R1)" in refusal(machine(online=cpus(4, 5, 6, 7)), ISOLATING)


def test_a_nic_that_is_not_there_is_an_error_of_it_alone() -> None:
    """It refuses no other: the interrupts of all that is there are placed."""
    state = machine(*queues(1), Irq(9, "acpi", ALL), nics=(None, (40, 41)))
    found = settings(state, {**ISOLATING, "nics": [{"pci": "0000:99:00.0", "cpus": "1"}, {"interface": "eth1", "cpus": "2"}]})
    missing = found.pop("0000:99:00.0")
    assert (missing.control, missing.state, missing.reason) == ("nic", ERROR, "no such NIC on this host")
    assert {name: setting.desired for name, setting in found.items()} == {
        "eth1": "2", "eth1-TxRx-0": "2", "acpi": "0-3", "default_smp_affinity": "0-3"}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"isolated": "2-5", "housekeeping": "0-3"}, ["CPUs 2-3", "(R7)"]),
        ({"isolated": "4-7"}, ["housekeeping"]),
        ({**ISOLATING, "nics": [{"interface": "eth1", "cpus": "3-4"}]}, ["NIC eth1", "isolated CPUs 4", "(R7)"]),
        ({"isolated": "4-"}, ["isolated"]),
        ({"housekeeping": "x"}, ["housekeeping"]),
        ({"nics": [{"interface": "eth1", "cpus": "3-1"}]}, ["NIC eth1 cpus"]),
        ({"nics": [{"cpus": "1"}]}, ["give interface, pci or mac"]),
    ],
)
def test_what_is_wrong_on_any_host(spec: dict[str, Any], words: list[str]) -> None:
    found = "; ".join(problems(spec))
    assert found
    for word in words:
        assert word in found


@pytest.mark.parametrize("spec", [{}, ISOLATING, {"nics": []}, {"isolated": None, "housekeeping": None, "nics": None}])
def test_what_is_right_has_no_problems(spec: dict[str, Any]) -> None:
    assert problems(spec) == []


# --- transmit queues --------------------------------------------------------------------------------------------------


def steered(queues_: dict[int, frozenset[int]], spec: dict[str, Any], cpulist: str, online: frozenset[int] = ALL) -> dict[str, Setting]:
    state = IrqState((), ((),), online, online, xps=(("eth1", queues_),))
    found = settings(state, {**spec, "nics": [{"interface": "eth1", "cpus": cpulist}]})
    return {name: setting for name, setting in found.items() if setting.control == "net.rps_xps"}


def test_each_transmit_queue_is_for_the_cpu_of_its_interrupt_and_its_share_of_the_isolated_ones() -> None:
    found = steered(dict.fromkeys(range(3), cpus(0)), ISOLATING, "2-3")
    assert {name: (setting.current, setting.desired) for name, setting in found.items()} == {
        "eth1.tx-0.xps_cpus": ("0", "2,4,7"), "eth1.tx-1.xps_cpus": ("0", "3,5"), "eth1.tx-2.xps_cpus": ("0", "2,6")}
    assert {setting.state for setting in found.values()} == {DRIFTED}


def test_a_transmit_queue_that_is_right_stays() -> None:
    assert steered({0: cpus(2, 4, 5, 6, 7)}, ISOLATING, "2")["eth1.tx-0.xps_cpus"].state == OK


def test_without_isolated_cpus_a_queue_is_for_the_cpu_of_its_interrupt() -> None:
    found = steered({0: cpus(), 1: cpus(3)}, {}, "2-3")
    assert {name: setting.desired for name, setting in found.items()} == {"eth1.tx-0.xps_cpus": "2", "eth1.tx-1.xps_cpus": "3"}


def test_a_nic_without_planned_cpus_keeps_its_transmit_queues() -> None:
    assert steered({0: cpus(0)}, ISOLATING, "") == {} == steered({}, ISOLATING, "2")


@given(st.integers(1, 40), st.sets(st.integers(0, 63), min_size=1, max_size=20), st.sets(st.integers(64, 200), max_size=60))
def test_every_isolated_cpu_is_in_exactly_one_queue_and_every_queue_has_the_cpu_of_its_interrupt(count: int, chosen: set[int], isolated: set[int]) -> None:
    irqs = queues(count)[1:]
    online = frozenset(range(201))
    state = IrqState(tuple(irqs), (tuple(irq.number for irq in irqs),), online, online, xps=(("eth1", dict.fromkeys(range(count), cpus())),))
    spec = {"isolated": format_cpulist(isolated), "housekeeping": "0-63", "nics": [{"interface": "eth1", "cpus": format_cpulist(chosen)}]}
    found = {setting.name: parse_cpulist(setting.desired or "") for setting in plan(state, spec).settings if setting.control in ("net.rps_xps", NIC)}
    masks = [found[f"eth1.tx-{queue}.xps_cpus"] for queue in range(count)]
    assert all(found[f"eth1-TxRx-{queue}"] == masks[queue] - isolated for queue in range(count))
    shares = [sorted(mask & isolated) for mask in masks]
    assert sorted(cpu for share in shares for cpu in share) == sorted(isolated)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


# --- watching ---------------------------------------------------------------------------------------------------------

# Of a virtual machine with three CPUs of which CPU 1 is offline; the kernel's own layout.
INTERRUPTS = """\
           CPU0       CPU2
  0:         30          0   IO-APIC   2-edge      timer
  1:          0          9   IO-APIC   1-edge      i8042
 24:      33101       1234   PCI-MSIX-0000:00:03.0   0-edge      virtio0-config
 25:          0    4294967295   PCI-MSIX-0000:00:03.0   1-edge      virtio0-input.0
130:          1          0   none-edge
NMI:          0          0   Non-maskable interrupts
LOC:   10297133    9384211   Local timer interrupts
ERR:          0
MIS:          0
"""


def test_counts_are_those_of_devices_by_the_cpus_named_in_the_head() -> None:
    assert interrupt_counts(INTERRUPTS) == {
        0: {0: 30, 2: 0}, 1: {0: 0, 2: 9}, 24: {0: 33101, 2: 1234}, 25: {0: 0, 2: 4294967295}, 130: {0: 1, 2: 0}}


@pytest.mark.parametrize(
    "line",
    ["", "\n", " 40:", " 40:  1", " 40:  1  x  y", " 40  1  2  x", "4x:  1  2  x", " 40:  1  -2  x", " \u00b2:  1  2", " 40: \u00b2  2", ":  1  2"],
)
def test_a_line_of_another_form_is_left_out(line: str) -> None:
    assert interrupt_counts(f"           CPU0       CPU2\n{line}\n 41:  5  6  PCI-MSI  eth0\n") == {41: {0: 5, 2: 6}}


@given(st.text(alphabet="CPU0123456789 :\n\u00b2x"))
def test_whatever_the_text_is_counts_are_numbers(text: str) -> None:
    assert all(count >= 0 for counts in interrupt_counts(text).values() for count in counts.values())


def quiet(counted: dict[int, dict[int, int]] | None, spec: dict[str, Any] | None = None) -> list[Setting]:
    state = IrqState((Irq(9, "acpi", cpus(0)), Irq(41, "eth1-TxRx-0", cpus(1))), (), ALL, ALL, counted=counted)
    return [setting for setting in plan(state, ISOLATING if spec is None else spec).settings if setting.control == QUIET]


def test_what_came_to_isolated_cpus_while_the_host_was_watched_is_a_finding() -> None:
    [setting] = quiet({9: {0: 7, 4: 1, 6: 2}, 41: {1: 100, 5: 0}, 77: {7: 3}})
    assert (setting.state, setting.finding, setting.desired) == (DRIFTED, True, "no device interrupts")
    assert setting.current == "acpi: 3 on CPUs 4,6; 77: 3 on CPUs 7"
    assert "managed_irq" in setting.reason
    assert not setting.live_drift, "nothing is written for it"


@pytest.mark.parametrize("counted", [{}, {9: {0: 7}}, {9: {4: 0}}, {9: {4: -5}}], ids=["nothing", "elsewhere", "none", "counted anew"])
def test_quiet_isolated_cpus_are_right(counted: dict[int, dict[int, int]]) -> None:
    [setting] = quiet(counted)
    assert (setting.state, setting.current, setting.reason) == (OK, "no device interrupts", "")


def test_a_host_that_was_not_watched_or_isolates_nothing_has_no_such_finding() -> None:
    assert quiet(None) == [] == quiet({9: {4: 1}}, {})
