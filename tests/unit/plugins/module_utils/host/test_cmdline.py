# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of a machine: read, tried, settled and tidied up, and a machine that is as before when any of it fails."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import bootloader, cmdline, trial
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.bootloader import BLS_TRIAL, next_boot
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Unreadable
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.programs import ProgramFailed
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.cmdline import (
    TRIAL_ID,
    CmdlineState,
    Cpus,
    Trial,
    plan,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.grub import LoaderError, entries
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import OK, Setting, judged
from ansible_collections.lowlatency.fleet.tests.unit.fixture_boot import (
    BOOT_ID,
    CUSTOM_CFG,
    DROP_IN,
    GRUB_CFG,
    NEW,
    BootMachine,
    DebianMachine,
    ElMachine,
)
from ansible_collections.lowlatency.fleet.tests.unit.fixture_host import content

SPEC = {"arguments": {"isolcpus": "managed_irq,domain,2-3,6-7", "skew_tick": 1}}
OWN = ("isolcpus=managed_irq,domain,2-3,6-7", "skew_tick=1")
LESS = {"arguments": {"skew_tick": 1}}
NOW = "2024-05-01T10:00:00Z"
RECORD, TIMER, SERVICE, ENABLED = (name[1:] for name in (trial.RECORD, trial.TIMER, trial.SERVICE, trial.ENABLED))
CPU = "sys/devices/system/cpu"


@pytest.fixture
def grub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DebianMachine:
    return DebianMachine(tmp_path, monkeypatch)


@pytest.fixture
def el(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ElMachine:
    return ElMachine(tmp_path, monkeypatch)


@pytest.fixture(params=[DebianMachine, ElMachine], ids=["grub", "grubby"])
def either(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DebianMachine | ElMachine:
    found: DebianMachine | ElMachine = request.param(tmp_path, monkeypatch)
    return found


def state_of(machine: BootMachine, spec: dict[str, Any] | None = None) -> CmdlineState:
    return cmdline.read_cmdline(machine.host, SPEC if spec is None else spec)


def arm(machine: BootMachine, spec: dict[str, Any] | None = None) -> None:
    cmdline.arm(machine.host, state_of(machine, spec), SPEC if spec is None else spec, 300, NOW)


def settle(machine: BootMachine, spec: dict[str, Any] | None = None) -> None:
    cmdline.settle(machine.host, state_of(machine, spec), SPEC if spec is None else spec)


def boot(machine: DebianMachine | ElMachine, boot_id: str = "a later boot") -> None:
    """Boot as the boot loader would: the entry that is asked for once, else the default."""
    name = "boot/grub/grubenv" if isinstance(machine, DebianMachine) else "boot/grub2/grubenv"
    asked = machine.environment(name).get("next_entry", "")
    tokens = next_boot(machine.host).tokens
    if TRIAL_ID in asked:
        tokens = entries(machine.read(CUSTOM_CFG))[0].tokens if isinstance(machine, DebianMachine) else tuple(machine.options(asked))
    machine.set_environment(name, next_entry=None)
    machine.running(*tokens)
    machine.files.write("proc/sys/kernel/random/boot_id", boot_id + "\n")


# --- reading ----------------------------------------------------------------------------------------------------------


def test_what_runs_what_boots_and_what_the_kernel_made_of_it_are_read(grub: DebianMachine) -> None:
    grub.running(*grub.tokens('dyndbg="file a.c +p"', "isolcpus=2,6"))
    grub.files.write(f"{CPU}/isolated", "2,6\n").write(f"{CPU}/nohz_full", "3,7\n")
    state = state_of(grub)
    assert state.running == ("BOOT_IMAGE=/boot/vmlinuz", *grub.tokens('dyndbg="file a.c +p"', "isolcpus=2,6"))
    assert state.boot.tokens == grub.tokens()
    assert (state.isolated, state.nohz_full, state.kernel, state.trial, state.container) == ("2,6", "3,7", "6.12.9-amd64", Trial(), "")
    siblings = {cpu: frozenset({cpu % 4, cpu % 4 + 4}) for cpu in range(8)}
    assert state.cpus == Cpus(frozenset(range(8)), siblings, "GenuineIntel", frozenset({"fpu", "constant_tsc", "nonstop_tsc", "pdpe1gb"}), "tsc")


@pytest.mark.parametrize(("text", "told"), [("\n", ""), ("(null)\n", ""), ("3,2\n", "2-3"), (None, None), ("2-\n", None)])
def test_a_set_that_the_kernel_does_not_have_is_not_an_empty_one(grub: DebianMachine, text: str | None, told: str | None) -> None:
    grub.files.remove(f"{CPU}/nohz_full")
    if text is not None:
        grub.files.write(f"{CPU}/nohz_full", text)
    assert state_of(grub).nohz_full == told


def test_siblings_are_read_from_older_kernels_too(grub: DebianMachine) -> None:
    for cpu in range(8):
        grub.files.remove(f"{CPU}/cpu{cpu}/topology/core_cpus_list")
    grub.files.write(f"{CPU}/cpu2/topology/thread_siblings_list", "2,6\n")
    siblings = state_of(grub).cpus.siblings
    assert siblings[2] == {2, 6} and siblings[3] == {3}


def test_a_processor_that_tells_no_flags_is_not_one_without_any(grub: DebianMachine) -> None:
    grub.files.write("proc/cpuinfo", "processor\t: 0\nCPU implementer\t: 0x41\n")
    assert state_of(grub).cpus.flags is None and state_of(grub).cpus.vendor == ""


def test_a_container_has_no_command_line_to_read(grub: DebianMachine) -> None:
    grub.files.write("run/.containerenv", "").remove("proc/cmdline")
    assert state_of(grub) == CmdlineState(container="podman")


def test_a_machine_without_a_command_line_is_an_error(grub: DebianMachine) -> None:
    grub.files.remove("proc/cmdline")
    with pytest.raises(Unreadable, match="/proc/cmdline"):
        state_of(grub)


def test_an_unknown_boot_loader_is_a_problem_and_no_error(grub: DebianMachine) -> None:
    grub.files.remove("usr/sbin/grub-mkconfig")
    assert "neither GRUB" in state_of(grub).boot.problem


def test_no_single_argument_is_ever_written(grub: DebianMachine) -> None:
    before = content(grub.root)
    with pytest.raises(NotImplementedError):
        cmdline.write_cmdline(grub.host, state_of(grub), Setting("cmdline.skew_tick", "skew_tick", "1"))
    assert content(grub.root) == before


# --- the whole way ----------------------------------------------------------------------------------------------------


def test_a_command_line_is_tried_once_and_then_kept(either: DebianMachine | ElMachine) -> None:
    default = next_boot(either.host).tokens
    arm(either)
    assert state_of(either).trial.state == "armed" and next_boot(either.host).tokens == default
    boot(either)
    state = state_of(either)
    assert state.trial.state == "booted" and set(OWN) < set(state.running) and next_boot(either.host).tokens == default
    settle(either)
    assert sorted(next_boot(either.host).tokens) == sorted((*default, *OWN)) and next_boot(either.host).owned == OWN
    assert state_of(either).trial == Trial()
    assert not [name for name in (RECORD, TIMER, SERVICE, ENABLED, CUSTOM_CFG, BLS_TRIAL[1:]) if os.path.lexists(either.root / name)]
    boot(either, "one more boot")
    either.files.write(f"{CPU}/isolated", "2-3,6-7\n")
    assert {judged(setting).state for setting in plan(state_of(either), SPEC).settings} == {OK}


def test_a_trial_that_fails_leaves_the_default_and_a_record_of_it(either: DebianMachine | ElMachine) -> None:
    before = content(either.root)
    arm(either)
    boot(either)
    boot(either, "the boot after")
    state = state_of(either)
    assert state.trial.state == "failed" and not set(OWN) & set(state.running)
    cmdline.tidy(either.host, state)
    ignored = (RECORD, "proc/cmdline", "proc/sys/kernel/random/boot_id")
    assert content(either.root, but=ignored) == {name: held for name, held in before.items() if name not in ignored}
    assert state_of(either).trial.state == "failed"


@pytest.mark.parametrize("booted", [False, True])
def test_a_trial_that_did_not_fail_is_not_tidied_away(grub: DebianMachine, booted: bool) -> None:
    arm(grub)
    if booted:
        boot(grub)
    before = content(grub.root)
    cmdline.tidy(grub.host, state_of(grub))
    assert content(grub.root) == before


def test_a_second_trial_takes_the_place_of_the_first(either: DebianMachine | ElMachine) -> None:
    arm(either, LESS)
    first = trial.record(either.host)
    arm(either)
    second = trial.record(either.host)
    assert first is not None and second is not None and second.own == OWN and first.own == ("skew_tick=1",)
    boot(either)
    assert state_of(either).trial.state == "booted" and set(OWN) < set(state_of(either).running)


def test_what_is_wanted_no_longer_goes_by_a_trial_too(either: DebianMachine | ElMachine) -> None:
    default = next_boot(either.host).tokens
    arm(either)
    boot(either)
    settle(either)
    nothing: dict[str, Any] = {"arguments": {}}
    arm(either, nothing)
    boot(either, "a third boot")
    assert not set(OWN) & set(state_of(either).running) and set(OWN) < set(next_boot(either.host).tokens)
    settle(either, nothing)
    assert next_boot(either.host).tokens == default and next_boot(either.host).owned == ()


def test_the_record_holds_the_whole_command_line_that_is_tried(either: DebianMachine | ElMachine) -> None:
    arm(either)
    known = trial.record(either.host)
    assert known is not None and known.tokens == either.tokens(*OWN) and known.own == OWN
    assert (known.seconds, known.when, known.armed_in) == (300, NOW, BOOT_ID)


def test_what_somebody_else_sets_rightly_is_not_set_again(grub: DebianMachine) -> None:
    grub.files.write("etc/default/grub", 'GRUB_CMDLINE_LINUX_DEFAULT="quiet skew_tick=1"\n')
    grub.update_grub()
    grub.running(*grub.tokens("skew_tick=1"))
    arm(grub)
    assert entries(grub.read(CUSTOM_CFG))[0].tokens.count("skew_tick=1") == 1


# --- what runs now becomes the default first --------------------------------------------------------------------------


def test_what_runs_and_was_never_settled_becomes_the_way_back(grub: DebianMachine) -> None:
    grub.running(*grub.tokens("skew_tick=1"))
    arm(grub)
    assert next_boot(grub.host).tokens == grub.tokens("skew_tick=1") and next_boot(grub.host).owned == ("skew_tick=1",)
    assert entries(grub.read(CUSTOM_CFG))[0].tokens[: len(grub.tokens()) + 2] == grub.tokens(*OWN)


def test_a_default_that_never_ran_is_made_what_runs(grub: DebianMachine) -> None:
    bootloader.DebianGrub(grub.host).settle(("isolcpus=1,5",), None)
    arm(grub)
    assert next_boot(grub.host).tokens == grub.tokens() and not (grub.root / DROP_IN).exists()


def test_a_default_that_runs_is_left_alone(grub: DebianMachine) -> None:
    before = {name: (grub.root / name).stat().st_ino for name in (GRUB_CFG, "etc/default/grub")}
    arm(grub)
    assert {name: (grub.root / name).stat().st_ino for name in before} == before


# --- when arming fails ------------------------------------------------------------------------------------------------


GRUB_FAILURES = ("grub-mkconfig", "grub-script-check", "grub-reboot", "grub-probe", "grub-editenv list")
EVERY_FILE = (trial.RECORD, trial.SERVICE, trial.TIMER, bootloader.CUSTOM_CFG, "/run/lowlatency/grub.cfg")


@pytest.mark.parametrize("failing", GRUB_FAILURES)
def test_a_program_of_grub_that_fails_leaves_the_machine_as_it_was(grub: DebianMachine, failing: str) -> None:
    before = content(grub.root)
    grub.failing.add(failing)
    with pytest.raises(ProgramFailed, match="it said no"):
        arm(grub)
    assert any(command.startswith(failing) for command in grub.ran) and content(grub.root) == before


@pytest.mark.parametrize("failing", ["grub2-probe", "grub2-reboot"])
def test_a_program_beside_grubby_that_fails_leaves_the_machine_as_it_was(el: ElMachine, failing: str) -> None:
    before = content(el.root)
    el.failing.add(failing)
    with pytest.raises(ProgramFailed, match="it said no"):
        arm(el)
    assert any(command.startswith(failing) for command in el.ran) and content(el.root) == before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("name", EVERY_FILE)
def test_a_file_that_cannot_be_written_leaves_the_machine_as_it_was(grub: DebianMachine, name: str, number: int) -> None:
    before = content(grub.root)
    grub.refused[name] = number
    with pytest.raises(OSError, match=os.strerror(number)):
        arm(grub)
    assert content(grub.root) == before


@pytest.mark.parametrize("name", [trial.RECORD, trial.SERVICE, trial.TIMER, BLS_TRIAL])
def test_a_file_beside_grubby_that_cannot_be_written_leaves_the_machine_as_it_was(el: ElMachine, name: str) -> None:
    before = content(el.root)
    el.refused[name] = errno.ENOSPC
    with pytest.raises(OSError, match="No space"):
        arm(el)
    assert content(el.root) == before


def test_a_boot_volume_that_grub_cannot_write_leaves_the_machine_as_it_was(either: DebianMachine | ElMachine) -> None:
    before = content(either.root)
    either.abstraction = "lvm"
    with pytest.raises(LoaderError, match="for ever"):
        arm(either)
    assert content(either.root) == before


def test_a_custom_cfg_of_somebody_else_is_still_there_when_arming_fails(grub: DebianMachine) -> None:
    grub.files.write(CUSTOM_CFG, "set superusers=root\n")
    before = content(grub.root)
    with pytest.raises(LoaderError, match="somebody else's"):
        arm(grub)
    assert content(grub.root) == before


def test_a_grub_cfg_that_reads_no_custom_cfg_leaves_the_machine_as_it_was(grub: DebianMachine) -> None:
    grub.files.write(GRUB_CFG, grub.read(GRUB_CFG).replace("custom.cfg", "something"))
    before = content(grub.root)
    with pytest.raises(LoaderError, match="41_custom"):
        arm(grub)
    assert content(grub.root) == before


def test_an_environment_that_does_not_say_so_leaves_the_machine_as_it_was(grub: DebianMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(grub.root)
    monkeypatch.setattr(grub, "set_environment", lambda name, **variables: None)
    with pytest.raises(LoaderError, match="environment says"):
        arm(grub)
    assert content(grub.root) == before


@pytest.mark.parametrize("program", GRUB_FAILURES)
def test_a_run_that_is_stopped_leaves_the_machine_as_it_was(grub: DebianMachine, program: str) -> None:
    def stopped(command: str) -> None:
        if command.startswith(program):
            raise KeyboardInterrupt

    before = content(grub.root)
    grub.before = stopped
    with pytest.raises(KeyboardInterrupt):
        arm(grub)
    assert content(grub.root) == before


def test_the_watch_is_set_up_before_the_entry_can_boot(either: DebianMachine | ElMachine) -> None:
    seen: list[bool] = []

    def look(command: str) -> None:
        if "reboot" in command:
            seen.append(all(os.path.lexists(either.root / name) for name in (RECORD, TIMER, SERVICE, ENABLED)))

    either.before = look
    arm(either)
    assert seen == [True]


def test_an_earlier_trial_cannot_boot_any_more_before_anything_else_is_done(grub: DebianMachine) -> None:
    arm(grub, LESS)
    seen: list[tuple[str, bool]] = []
    grub.before = lambda command: seen.append((grub.environment("boot/grub/grubenv").get("next_entry", ""), (grub.root / CUSTOM_CFG).exists()))
    arm(grub)
    assert seen[:2] == [(TRIAL_ID, False), ("", False)]


def test_what_runs_unconfirmed_is_never_made_the_default_by_another_trial(grub: DebianMachine) -> None:
    arm(grub)
    boot(grub)
    assert state_of(grub).trial.state == "booted"
    before = (grub.root / GRUB_CFG.lstrip("/")).read_bytes()
    arm(grub, LESS)
    assert (grub.root / GRUB_CFG.lstrip("/")).read_bytes() == before
    assert not (grub.root / DROP_IN.lstrip("/")).exists()


# --- when settling fails ----------------------------------------------------------------------------------------------


def on_trial(machine: DebianMachine | ElMachine) -> dict[str, bytes]:
    arm(machine)
    boot(machine)
    return content(machine.root)


@pytest.mark.parametrize("failing", ["grub-mkconfig", "grub-script-check"])
def test_a_program_that_fails_while_settling_leaves_the_trial_as_it_was(grub: DebianMachine, failing: str) -> None:
    before = on_trial(grub)
    grub.failing.add(failing)
    with pytest.raises(ProgramFailed, match="it said no"):
        settle(grub)
    assert content(grub.root) == before and state_of(grub).trial.state == "booted"


def test_a_grubby_that_fails_while_settling_leaves_the_trial_as_it_was(el: ElMachine) -> None:
    before = on_trial(el)
    el.failing.add("grubby")
    with pytest.raises(ProgramFailed, match="it said no"):
        settle(el)
    assert content(el.root) == before and state_of(el).trial.state == "booted"


@pytest.mark.parametrize("name", [bootloader.DROP_IN, bootloader.GRUB_CFG, "/run/lowlatency/grub.cfg"])
def test_a_file_that_cannot_be_written_while_settling_leaves_the_trial_as_it_was(grub: DebianMachine, name: str) -> None:
    before = on_trial(grub)
    grub.refused[name] = errno.ENOSPC
    with pytest.raises(OSError, match="No space"):
        settle(grub)
    assert content(grub.root) == before


def test_an_edit_after_the_trial_is_not_settled_with_it(grub: DebianMachine) -> None:
    on_trial(grub)
    grub.files.write("etc/default/grub", 'GRUB_CMDLINE_LINUX_DEFAULT="quiet nomodeset"\n')
    before = content(grub.root)
    with pytest.raises(LoaderError, match="the one that was tried"):
        settle(grub)
    assert content(grub.root) == before


def test_what_was_not_tried_is_settled_without_a_comparison(grub: DebianMachine) -> None:
    settle(grub)
    assert next_boot(grub.host).tokens == grub.tokens(*OWN) and next_boot(grub.host).owned == OWN


def test_settling_what_is_settled_writes_nothing_and_asks_no_program(either: DebianMachine | ElMachine) -> None:
    settle(either)
    before = content(either.root)
    either.ran.clear()
    settle(either)
    assert content(either.root) == before and not either.ran


def test_a_leftover_of_a_drop_in_that_is_gone_is_settled_away(grub: DebianMachine) -> None:
    settle(grub)
    grub.files.remove(DROP_IN)
    settle(grub, {"arguments": {}})
    assert next_boot(grub.host).tokens == grub.tokens()


def test_every_file_that_is_written_is_told_to_the_journal(either: DebianMachine | ElMachine) -> None:
    before = content(either.root)
    told = {file.path[1:] for file in cmdline.boot_files(either.host, state_of(either))}
    seen: set[str] = set()
    for step in (lambda: arm(either), lambda: boot(either), lambda: settle(either)):
        step()
        after = content(either.root)
        seen |= {name for name in {*before, *after} if before.get(name) != after.get(name)}
    known = {RECORD, ENABLED, "boot/grub/grubenv", "boot/grub2/grubenv", "proc/cmdline", "proc/sys/kernel/random/boot_id"}
    assert seen <= told | known
    assert {TIMER, SERVICE} <= told and (GRUB_CFG in told or f"boot/loader/entries/{NEW}.conf" in told)
