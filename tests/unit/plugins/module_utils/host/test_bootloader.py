# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Boot loaders: which one is known, an entry that boots once, a default that changes whole or not at all."""

from __future__ import annotations

import errno
import os
from collections import namedtuple
from pathlib import Path

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import bootloader
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.bootloader import (
    BLS_OWNED,
    BLS_TRIAL,
    DebianGrub,
    Grubby,
    configured_tokens,
    loader_of,
    next_boot,
    next_kernel,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Unreadable
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.programs import ProgramFailed
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.cmdline import TRIAL_ID
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.grub import LoaderError, entries
from ansible_collections.lowlatency.fleet.tests.unit.fixture_boot import (
    CUSTOM_CFG,
    DROP_IN,
    GRUB_CFG,
    NEW,
    OLD,
    RESCUE,
    DebianMachine,
    ElMachine,
    no_space,
)
from ansible_collections.lowlatency.fleet.tests.unit.fixture_grub import HEADER, KERNEL, UBUNTU, body, grubenv
from ansible_collections.lowlatency.fleet.tests.unit.fixture_host import content, tree

OWN = ("isolcpus=managed_irq,domain,2-3,6-7", "skew_tick=1")
EXTRA = ("lowlatency.trial=5f00aa", "panic=10")
LOADER_INFO = "sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
ENOUGH = namedtuple("ENOUGH", "f_bavail f_frsize")


@pytest.fixture
def grub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DebianMachine:
    return DebianMachine(tmp_path, monkeypatch)


@pytest.fixture
def el(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ElMachine:
    return ElMachine(tmp_path, monkeypatch)


def loader_info(name: str) -> bytes:
    """An EFI variable as efivarfs shows it: four bytes of attributes, then UTF-16."""
    return b"\x06\0\0\0" + name.encode("utf-16-le") + b"\0\0"


# --- which boot loader it is ------------------------------------------------------------------------------------------


def test_grub_with_its_folder_of_drop_ins_is_known(grub: DebianMachine) -> None:
    assert isinstance(loader_of(grub.host), DebianGrub)


def test_grubby_with_entry_files_is_known(el: ElMachine) -> None:
    assert isinstance(loader_of(el.host), Grubby)


def test_entry_files_without_grubby_are_not_touched(el: ElMachine) -> None:
    el.files.remove("usr/sbin/grubby")
    with pytest.raises(LoaderError, match="by hand"):
        loader_of(el.host)


@pytest.mark.parametrize("missing", ["etc/default/grub", "usr/sbin/grub-mkconfig"])
def test_what_is_neither_is_not_guessed(grub: DebianMachine, missing: str) -> None:
    grub.files.remove(missing)
    with pytest.raises(LoaderError, match="neither GRUB"):
        loader_of(grub.host)
    assert "neither GRUB" in next_boot(grub.host).problem and next_boot(grub.host).tokens == ()
    with pytest.raises(LoaderError):
        configured_tokens(grub.host)


def test_a_machine_that_something_else_started_is_not_touched(grub: DebianMachine) -> None:
    grub.files.write(LOADER_INFO, loader_info("systemd-boot 252.22"))
    with pytest.raises(LoaderError, match="only GRUB is known"):
        loader_of(grub.host)


def test_what_started_the_machine_is_named(grub: DebianMachine) -> None:
    grub.files.write(LOADER_INFO, loader_info("systemd-boot 252.22"))
    with pytest.raises(LoaderError, match=r"started by systemd-boot 252\.22"):
        loader_of(grub.host)


def test_a_machine_that_says_grub_started_it_is_known(grub: DebianMachine) -> None:
    grub.files.write(LOADER_INFO, loader_info("GRUB 2.12"))
    assert isinstance(loader_of(grub.host), DebianGrub)


# --- GRUB: what boots next --------------------------------------------------------------------------------------------


def test_the_next_boot_is_that_of_the_default_entry(grub: DebianMachine) -> None:
    found = next_boot(grub.host)
    assert found.tokens == grub.tokens() == configured_tokens(grub.host)
    assert (found.owned, found.problem, found.repeats, found.file) == ((), "", True, bootloader.DROP_IN)
    assert "/etc/default/grub" in found.where


def test_the_next_boot_is_what_grub_cfg_says_and_not_what_it_would_be_made_of(grub: DebianMachine) -> None:
    grub.files.write("etc/default/grub", 'GRUB_CMDLINE_LINUX_DEFAULT="splash"\n')
    assert next_boot(grub.host).tokens == grub.tokens() and not grub.ran


def test_a_saved_default_is_followed(grub: DebianMachine) -> None:
    grub.files.write(GRUB_CFG, UBUNTU).write("boot/grub/grubenv", grubenv(saved_entry="gnulinux-advanced-9a>1"))
    assert next_boot(grub.host).tokens == ("root=/dev/mapper/vg-root", "ro", "recovery", "nomodeset", "dis_ucode_ldr")


def test_what_is_said_in_the_files_is_told_word_by_word_without_ours(grub: DebianMachine) -> None:
    grub.files.write("etc/default/grub", "GRUB_CMDLINE_LINUX_DEFAULT=quiet\nGRUB_CMDLINE_LINUX='console=tty0 nosmt'\n")
    grub.files.write("etc/default/grub.d/kdump.cfg", 'GRUB_CMDLINE_LINUX_DEFAULT="$GRUB_CMDLINE_LINUX_DEFAULT crashkernel=384M-:128M"\n')
    grub.files.write("etc/default/grub.d/README", "skew_tick=0\n").write(DROP_IN, 'GRUB_CMDLINE_LINUX_DEFAULT="$GRUB_CMDLINE_LINUX_DEFAULT skew_tick=1"\n')
    said = next_boot(grub.host).said
    assert said is not None and {"quiet", "console=tty0", "nosmt", "crashkernel=384M-:128M"} <= said
    assert not {"skew_tick=1", "skew_tick=0"} & said
    assert next_boot(grub.host).owned == ("skew_tick=1",)


def test_a_grub_cfg_that_cannot_be_read_says_who_could(grub: DebianMachine) -> None:
    grub.files.remove(GRUB_CFG)
    assert "as root" in next_boot(grub.host).problem and "/boot/grub/grub.cfg" in next_boot(grub.host).problem
    with pytest.raises(Unreadable):
        configured_tokens(grub.host)


def test_a_grub_cfg_that_is_not_understood_is_a_problem(grub: DebianMachine) -> None:
    grub.files.write(GRUB_CFG, "menuentry 'A' {\n")
    assert "brace is open" in next_boot(grub.host).problem


# --- GRUB: a boot on trial --------------------------------------------------------------------------------------------


def test_an_armed_trial_is_one_entry_and_a_word_in_the_environment(grub: DebianMachine) -> None:
    before = content(grub.root)
    assert DebianGrub(grub.host).arm(OWN, EXTRA) == grub.tokens(*OWN)
    (entry,) = entries(grub.read(CUSTOM_CFG))
    assert entry.identity == TRIAL_ID and entry.tokens == grub.tokens(*OWN, *EXTRA) and entry.kernel == f"/boot/vmlinuz-{KERNEL}"
    assert grub.environment("boot/grub/grubenv") == {"next_entry": TRIAL_ID}
    assert "grub-reboot lowlatency-trial" in grub.ran
    changed = (CUSTOM_CFG, "boot/grub/grubenv")
    assert content(grub.root, but=changed) == {name: held for name, held in before.items() if name not in changed}


def test_the_entry_is_checked_before_it_stands_where_grub_reads_it(grub: DebianMachine) -> None:
    grub.before = lambda command: seen.append((command, (grub.root / CUSTOM_CFG).exists()))
    seen: list[tuple[str, bool]] = []
    DebianGrub(grub.host).arm(OWN, EXTRA)
    assert [there for command, there in seen if command.startswith("grub-script-check")] == [False]
    assert not (grub.root / "run/lowlatency/grub.cfg").exists()


def test_what_is_ours_already_is_replaced_on_trial(grub: DebianMachine) -> None:
    DebianGrub(grub.host).settle(("skew_tick=1", "nosmt"), None)
    assert DebianGrub(grub.host).arm(("skew_tick=1", "isolcpus=2"), EXTRA) == grub.tokens("skew_tick=1", "isolcpus=2")


def test_an_unfinished_edit_of_somebody_is_tried_too(grub: DebianMachine) -> None:
    grub.files.write("etc/default/grub", 'GRUB_CMDLINE_LINUX_DEFAULT="quiet splash"\n')
    assert DebianGrub(grub.host).arm(OWN, EXTRA) == grub.tokens("splash", *OWN)


def test_a_trial_is_forgotten_without_a_trace(grub: DebianMachine) -> None:
    before = content(grub.root)
    DebianGrub(grub.host).arm(OWN, EXTRA)
    DebianGrub(grub.host).disarm()
    assert content(grub.root) == before


def test_forgetting_what_is_not_there_asks_no_program_and_leaves_what_is_somebody_elses(grub: DebianMachine) -> None:
    grub.files.write(CUSTOM_CFG, "menuentry 'Mine' {\n\tlinux /vmlinuz\n}\n")
    grub.set_environment("boot/grub/grubenv", next_entry="memtest", saved_entry="0")
    before = content(grub.root)
    DebianGrub(grub.host).disarm()
    assert content(grub.root) == before and not grub.ran


def test_an_entry_that_was_booted_once_is_removed_without_asking(grub: DebianMachine) -> None:
    DebianGrub(grub.host).arm(OWN, EXTRA)
    grub.set_environment("boot/grub/grubenv", next_entry="")
    grub.ran.clear()
    DebianGrub(grub.host).disarm()
    assert not (grub.root / CUSTOM_CFG).exists() and not grub.ran


def test_an_entry_is_removed_even_where_the_environment_cannot_be_written(grub: DebianMachine) -> None:
    DebianGrub(grub.host).arm(OWN, EXTRA)
    grub.failing.add("grub-editenv")
    with pytest.raises(ProgramFailed):
        DebianGrub(grub.host).disarm()
    assert not (grub.root / CUSTOM_CFG).exists()


@pytest.mark.parametrize("program", ["grub-mkconfig", "grub-probe", "grub-script-check"])
def test_a_program_that_fails_before_the_entry_is_written_leaves_everything_as_it_was(grub: DebianMachine, program: str) -> None:
    before = content(grub.root)
    grub.failing.add(program)
    with pytest.raises(ProgramFailed, match="it said no"):
        DebianGrub(grub.host).arm(OWN, EXTRA)
    assert content(grub.root) == before


def test_grub_that_does_not_keep_what_it_was_asked_for_is_no_trial(grub: DebianMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grub, "set_environment", lambda name, **variables: None)
    with pytest.raises(LoaderError, match="GRUB's environment says None"):
        DebianGrub(grub.host).arm(OWN, EXTRA)


@pytest.mark.parametrize(("abstraction", "filesystem", "named"), [
    ("lvm", "ext2", "lvm"), ("", "btrfs", "btrfs"), ("", "zfs", "zfs"), ("diskfilter mdraid1x lvm", "xfs", "diskfilter, lvm"),
    ("cryptodisk luks", "ext2", "cryptodisk, luks"),
])
def test_where_grub_could_not_forget_the_entry_there_is_no_trial(grub: DebianMachine, abstraction: str, filesystem: str, named: str) -> None:
    grub.abstraction, grub.filesystem = abstraction, filesystem
    before = content(grub.root)
    with pytest.raises(LoaderError, match="for ever") as caught:
        DebianGrub(grub.host).arm(OWN, EXTRA)
    assert f"on {named}:" in str(caught.value) and content(grub.root) == before


def test_a_custom_cfg_of_somebody_else_is_not_overwritten(grub: DebianMachine) -> None:
    grub.files.write(CUSTOM_CFG, "set superusers=root\n")
    before = content(grub.root)
    with pytest.raises(LoaderError, match="somebody else's"):
        DebianGrub(grub.host).arm(OWN, EXTRA)
    assert content(grub.root) == before


@pytest.mark.parametrize("word", ["custom.cfg", "next_entry"])
def test_a_grub_cfg_that_would_not_boot_the_entry_once_is_refused(grub: DebianMachine, word: str) -> None:
    grub.files.write(GRUB_CFG, grub.read(GRUB_CFG).replace(word, "something"))
    before = content(grub.root)
    with pytest.raises(LoaderError, match="41_custom"):
        DebianGrub(grub.host).arm(OWN, EXTRA)
    assert content(grub.root) == before


def test_a_boot_file_system_that_cannot_be_written_is_found_out_first(grub: DebianMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(grub.root)
    monkeypatch.setattr(bootloader, "unwritable", lambda host, name: f"{name}: read-only file system")
    with pytest.raises(LoaderError, match="read-only file system"):
        DebianGrub(grub.host).arm(OWN, EXTRA)
    monkeypatch.undo()
    assert content(grub.root) == before


def test_a_boot_file_system_without_room_is_found_out_first(grub: DebianMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(grub.root)
    monkeypatch.setattr(os, "statvfs", lambda path: ENOUGH(2, 1024))
    with pytest.raises(LoaderError, match="2048 bytes are free"):
        DebianGrub(grub.host).arm(OWN, EXTRA)
    assert content(grub.root) == before


def test_a_default_that_boots_no_linux_has_nothing_to_try(grub: DebianMachine) -> None:
    grub.files.write(GRUB_CFG, HEADER % "0" + "menuentry 'Firmware' {\n\tfwsetup\n}\n")
    assert "boots no Linux" in next_boot(grub.host).problem


# --- GRUB: the default ------------------------------------------------------------------------------------------------


def test_settled_arguments_are_in_the_drop_in_and_in_the_default_entry(grub: DebianMachine) -> None:
    before = content(grub.root)
    DebianGrub(grub.host).settle(OWN, grub.tokens(*OWN))
    found = next_boot(grub.host)
    assert found.tokens == grub.tokens(*OWN) and found.owned == OWN
    assert grub.read(DROP_IN).splitlines()[1:] == [f'GRUB_CMDLINE_LINUX_DEFAULT="$GRUB_CMDLINE_LINUX_DEFAULT {" ".join(OWN)}"']
    assert grub.read(DROP_IN).startswith("# Owned by lowlatency.fleet")
    assert content(grub.root, but=(DROP_IN, GRUB_CFG)) == {name: held for name, held in before.items() if name not in (DROP_IN, GRUB_CFG)}


def test_grub_cfg_keeps_its_mode(grub: DebianMachine) -> None:
    DebianGrub(grub.host).settle(OWN, None)
    assert tree(grub.root)[GRUB_CFG][0] == "-r--r--r--" and tree(grub.root)[DROP_IN][0] == "-rw-r--r--"


def test_settling_the_same_again_changes_nothing(grub: DebianMachine) -> None:
    DebianGrub(grub.host).settle(OWN, None)
    before = content(grub.root)
    DebianGrub(grub.host).settle(OWN, None)
    assert content(grub.root) == before


def test_settling_nothing_removes_the_drop_in(grub: DebianMachine) -> None:
    before = content(grub.root)
    DebianGrub(grub.host).settle(OWN, None)
    assert (grub.root / DROP_IN).exists()
    DebianGrub(grub.host).settle((), grub.tokens())
    assert content(grub.root) == before


def test_settling_nothing_where_nothing_was_is_nothing(grub: DebianMachine) -> None:
    before = content(grub.root)
    DebianGrub(grub.host).settle((), None)
    assert content(grub.root) == before


@pytest.mark.parametrize("held", [(), ("nosmt",)])
@pytest.mark.parametrize("program", ["grub-mkconfig", "grub-script-check"])
def test_a_program_that_fails_while_settling_leaves_everything_as_it_was(grub: DebianMachine, program: str, held: tuple[str, ...]) -> None:
    DebianGrub(grub.host).settle(held, None)
    before = content(grub.root)
    grub.failing.add(program)
    with pytest.raises(ProgramFailed, match="it said no"):
        DebianGrub(grub.host).settle(OWN, None)
    assert content(grub.root) == before


@pytest.mark.parametrize("held", [(), ("nosmt",)])
def test_a_grub_cfg_that_would_not_be_read_is_not_put_in_place(grub: DebianMachine, monkeypatch: pytest.MonkeyPatch, held: tuple[str, ...]) -> None:
    DebianGrub(grub.host).settle(held, None)
    before = content(grub.root)
    real = grub.program
    monkeypatch.setattr(grub, "program", lambda *command: "menuentry 'A' {\n" if command == ("grub-mkconfig",) else real(*command))
    with pytest.raises(LoaderError, match="brace is open"):
        DebianGrub(grub.host).settle(OWN, None)
    assert content(grub.root) == before


def test_another_command_line_than_was_tried_is_not_settled(grub: DebianMachine) -> None:
    before = content(grub.root)
    grub.files.write("etc/default/grub", 'GRUB_CMDLINE_LINUX_DEFAULT="quiet nomodeset"\n')
    before = content(grub.root)
    with pytest.raises(LoaderError, match="another command line than the one that was tried") as caught:
        DebianGrub(grub.host).settle(OWN, grub.tokens(*OWN))
    assert "nomodeset" in str(caught.value) and content(grub.root) == before


def test_what_was_tried_may_be_settled_in_another_order(grub: DebianMachine) -> None:
    DebianGrub(grub.host).settle(OWN, tuple(reversed(grub.tokens(*OWN))))
    assert next_boot(grub.host).tokens == grub.tokens(*OWN)


def test_a_later_file_that_leaves_our_arguments_out_is_found_out(grub: DebianMachine) -> None:
    grub.files.write("etc/default/grub.d/99-site.cfg", 'GRUB_CMDLINE_LINUX_DEFAULT="quiet"\n')
    before = content(grub.root)
    with pytest.raises(LoaderError, match=r"leaves isolcpus=managed_irq,domain,2-3,6-7 skew_tick=1 out"):
        DebianGrub(grub.host).settle(OWN, None)
    assert content(grub.root) == before


def test_a_later_file_that_leaves_one_of_our_arguments_out_is_found_out(grub: DebianMachine) -> None:
    grub.files.write("etc/default/grub.d/99-site.cfg", 'GRUB_CMDLINE_LINUX_DEFAULT="quiet skew_tick=1"\n')
    with pytest.raises(LoaderError, match="out"):
        DebianGrub(grub.host).settle(OWN, None)


@pytest.mark.parametrize("name", [bootloader.DROP_IN, bootloader.GRUB_CFG, "/run/lowlatency/grub.cfg"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_file_that_cannot_be_written_leaves_everything_as_it_was(grub: DebianMachine, name: str, number: int) -> None:
    before = content(grub.root)
    grub.refused[name] = number
    with pytest.raises(OSError, match=os.strerror(number)):
        DebianGrub(grub.host).settle(OWN, None)
    assert content(grub.root) == before


def test_a_run_that_is_stopped_while_settling_leaves_everything_as_it_was(grub: DebianMachine) -> None:
    def stopped(command: str) -> None:
        raise KeyboardInterrupt

    before = content(grub.root)
    grub.before = stopped
    with pytest.raises(KeyboardInterrupt):
        DebianGrub(grub.host).settle(OWN, None)
    assert content(grub.root) == before


def test_every_file_of_grub_that_is_written_is_told_to_the_journal(grub: DebianMachine) -> None:
    assert {file.path for file in DebianGrub(grub.host).files()} == {bootloader.DROP_IN, bootloader.GRUB_CFG, bootloader.CUSTOM_CFG}


def test_a_menu_with_another_first_entry_is_settled_by_the_default(grub: DebianMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    real = grub.program
    text = HEADER % "1" + f"menuentry 'Old' {{\n{body('5.10', 'nosmt')}}}\nmenuentry 'New' {{\n{body('6.1', 'quiet skew_tick=1')}}}\n"
    monkeypatch.setattr(grub, "program", lambda *command: text if command == ("grub-mkconfig",) else real(*command))
    DebianGrub(grub.host).settle(("skew_tick=1",), grub.tokens("skew_tick=1"))
    assert grub.read(GRUB_CFG) == text


# --- grubby -----------------------------------------------------------------------------------------------------------


def test_the_next_boot_is_that_of_the_saved_entry_with_its_variables(el: ElMachine) -> None:
    el.set_options(NEW, [*el.options(NEW), "skew_tick=1"])
    found = next_boot(el.host)
    assert found.tokens == el.tokens("skew_tick=1") == configured_tokens(el.host)
    assert (found.owned, found.said, found.repeats, found.problem) == ((), None, False, "")
    el.set_environment("boot/grub2/grubenv", saved_entry=OLD)
    assert next_boot(el.host).tokens == el.tokens()


def test_no_entry_at_all_is_no_known_boot_loader(el: ElMachine) -> None:
    for name in (NEW, OLD, RESCUE):
        el.files.remove(el.path(name))
    assert "neither GRUB" in next_boot(el.host).problem


def test_an_armed_trial_is_one_entry_file_and_a_word_in_the_environment(el: ElMachine) -> None:
    before = content(el.root)
    assert Grubby(el.host).arm(OWN, EXTRA) == el.tokens(*OWN)
    name = os.path.basename(BLS_TRIAL)[: -len(".conf")]
    assert el.environment("boot/grub2/grubenv")["next_entry"] == name
    assert tuple(el.options(name))[: len(el.tokens(*OWN, *EXTRA))] == el.tokens(*OWN, *EXTRA)
    assert "title Low-latency trial" in el.read(BLS_TRIAL[1:]) and "linux /vmlinuz-5.14.0-70.el9.x86_64" in el.read(BLS_TRIAL[1:])
    changed = (BLS_TRIAL[1:], "boot/grub2/grubenv")
    assert content(el.root, but=changed) == {name: held for name, held in before.items() if name not in changed}


def test_the_entry_on_trial_is_never_taken_for_the_default(el: ElMachine) -> None:
    Grubby(el.host).arm(OWN, EXTRA)
    el.set_environment("boot/grub2/grubenv", saved_entry=None)
    assert next_boot(el.host).tokens == el.tokens()
    assert BLS_TRIAL in {file.path for file in Grubby(el.host).files()}


def test_an_entry_file_on_trial_is_forgotten_without_a_trace(el: ElMachine) -> None:
    before = content(el.root)
    Grubby(el.host).arm(OWN, EXTRA)
    Grubby(el.host).disarm()
    assert content(el.root) == before


def test_forgetting_what_grubby_never_had_asks_no_program(el: ElMachine) -> None:
    before = content(el.root)
    Grubby(el.host).disarm()
    assert content(el.root) == before and not el.ran


@pytest.mark.parametrize(("abstraction", "filesystem"), [("lvm", "xfs"), ("", "btrfs")])
def test_where_grub2_could_not_forget_the_entry_there_is_no_trial(el: ElMachine, abstraction: str, filesystem: str) -> None:
    el.abstraction, el.filesystem = abstraction, filesystem
    before = content(el.root)
    with pytest.raises(LoaderError, match="for ever"):
        Grubby(el.host).arm(OWN, EXTRA)
    assert content(el.root) == before


def test_a_probe_that_fails_is_no_trial(el: ElMachine) -> None:
    el.failing.add("grub2-probe")
    before = content(el.root)
    with pytest.raises(ProgramFailed):
        Grubby(el.host).arm(OWN, EXTRA)
    assert content(el.root) == before


def test_a_full_boot_file_system_is_no_trial(el: ElMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(el.root)
    no_space(el, BLS_TRIAL)
    with pytest.raises(OSError, match="No space"):
        Grubby(el.host).arm(OWN, EXTRA)
    monkeypatch.setattr(os, "statvfs", lambda path: ENOUGH(1, 1024))
    with pytest.raises(LoaderError, match="1024 bytes are free"):
        Grubby(el.host).arm(OWN, EXTRA)
    assert content(el.root) == before


def test_settled_arguments_are_in_every_entry_but_the_rescue_one(el: ElMachine) -> None:
    rescue = el.read(el.path(RESCUE))
    Grubby(el.host).settle(OWN, el.tokens(*OWN))
    assert next_boot(el.host).tokens[-2:] == ("quiet", *OWN)[-2:] and next_boot(el.host).owned == OWN
    for name in (NEW, OLD):
        assert sorted(el.options(name)) == sorted((*el.OPTIONS, "$kernelopts", *OWN))
    assert el.read(el.path(RESCUE)) == rescue
    assert el.read(BLS_OWNED[1:]).splitlines()[1:] == [" ".join(OWN)]


def test_settling_other_arguments_replaces_ours_and_leaves_the_rest(el: ElMachine) -> None:
    Grubby(el.host).settle(OWN, None)
    Grubby(el.host).settle(("isolcpus=2-3", "nosmt"), None)
    assert sorted(el.options(NEW)) == sorted((*el.OPTIONS, "$kernelopts", "isolcpus=2-3", "nosmt"))
    Grubby(el.host).settle((), None)
    assert el.options(NEW) == [*el.OPTIONS, "$kernelopts"] and next_boot(el.host).owned == ()


def test_a_grubby_that_fails_leaves_everything_as_it_was(el: ElMachine) -> None:
    before = content(el.root)
    el.failing.add("grubby")
    with pytest.raises(ProgramFailed, match="it said no"):
        Grubby(el.host).settle(OWN, None)
    assert content(el.root) == before


def test_a_grubby_that_fails_half_way_leaves_everything_as_it_was(el: ElMachine) -> None:
    Grubby(el.host).settle(OWN, None)
    before = content(el.root)
    el.failing.add("grubby --update-kernel=ALL --args=isolcpus=2-3")
    with pytest.raises(ProgramFailed, match="it said no"):
        Grubby(el.host).settle(("isolcpus=2-3",), None)
    assert any("--remove-args" in command for command in el.ran) and content(el.root) == before


@pytest.mark.parametrize("name", [NEW, OLD])
def test_a_grubby_that_makes_something_else_is_undone(el: ElMachine, name: str) -> None:
    before = content(el.root)
    el.spoil = lambda entry, tokens: [token.replace(",domain", "") for token in tokens] if entry == name else tokens
    with pytest.raises(LoaderError, match=name):
        Grubby(el.host).settle(OWN, None)
    assert content(el.root) == before


def test_a_grubby_that_removes_what_is_not_ours_is_undone(el: ElMachine) -> None:
    Grubby(el.host).settle(("skew_tick=1",), None)
    for name in (NEW, OLD):
        el.set_options(name, ["skew_tick=0", *el.options(name)])
    before = content(el.root)
    with pytest.raises(LoaderError, match="skew_tick=0"):
        Grubby(el.host).settle((), None)
    assert content(el.root) == before


def test_a_record_of_ours_that_cannot_be_written_leaves_everything_as_it_was(el: ElMachine) -> None:
    before = content(el.root)
    no_space(el, BLS_OWNED)
    with pytest.raises(OSError, match="No space"):
        Grubby(el.host).settle(OWN, None)
    assert content(el.root) == before


def test_grubby_settles_nothing_but_what_was_tried(el: ElMachine) -> None:
    el.set_options(NEW, [*el.options(NEW), "nomodeset"])
    with pytest.raises(LoaderError):
        Grubby(el.host).settle(OWN, el.tokens(*OWN))


def test_every_file_of_grubby_that_is_written_is_told_to_the_journal(el: ElMachine) -> None:
    el.files.write("etc/kernel/cmdline", "root=/dev/sda2\n")
    paths = {file.path for file in Grubby(el.host).files()}
    assert paths == {BLS_OWNED, BLS_TRIAL, "/etc/kernel/cmdline", *(f"/{el.path(name)}" for name in (NEW, OLD, RESCUE))}


# --- the kernel of the next boot --------------------------------------------------------------------------------------


def test_the_kernel_of_the_next_boot_is_that_of_the_default_entry(grub: DebianMachine) -> None:
    assert next_kernel(grub.host) == (KERNEL, "")
    grub.files.write(GRUB_CFG, UBUNTU).write("boot/grub/grubenv", grubenv(saved_entry="gnulinux-advanced-9a>1"))
    assert next_kernel(grub.host) == ("6.8.0-31-generic", "")


def test_the_kernel_of_an_entry_of_el_and_of_kernel_install(el: ElMachine) -> None:
    release, why = next_kernel(el.host)
    assert release.endswith(".x86_64") and why == ""
    for name in el.host.names("/boot/loader/entries"):
        text = el.read(f"boot/loader/entries/{name}")
        lines = [line if not line.startswith("linux ") else "linux /0123/6.12.0-1.fc41/linux" for line in text.splitlines()]
        el.files.write(f"boot/loader/entries/{name}", "\n".join(lines) + "\n")
    assert next_kernel(el.host) == ("", "/0123/6.12.0-1.fc41/linux names no kernel release")
    (Path(el.host.root) / "lib/modules/6.12.0-1.fc41").mkdir(parents=True)
    assert next_kernel(el.host) == ("6.12.0-1.fc41", "")


def test_without_a_known_loader_the_link_to_the_kernel_tells_it(grub: DebianMachine) -> None:
    grub.files.remove("etc/default/grub")
    assert next_kernel(grub.host)[0] == "" and "neither GRUB" in next_kernel(grub.host)[1]
    grub.files.link("vmlinuz", "boot/vmlinuz-6.1.0-31-amd64")
    assert next_kernel(grub.host) == ("6.1.0-31-amd64", "")


def test_an_entry_that_boots_a_link(grub: DebianMachine) -> None:
    grub.files.write(GRUB_CFG, HEADER % "0" + "menuentry 'x' {\n\tlinux /boot/vmlinuz root=/dev/sda1\n}\n").link("boot/vmlinuz", "vmlinuz-6.12.1-site")
    assert next_kernel(grub.host) == ("6.12.1-site", "")
