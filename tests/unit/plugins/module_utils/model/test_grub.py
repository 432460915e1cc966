# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GRUB's files: which entry boots, what it boots with, and that an entry made of it differs in nothing else."""

from __future__ import annotations

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.grub import (
    BlsEntry,
    Entry,
    LoaderError,
    bls_entry,
    chosen_bls,
    chosen_entry,
    default_choice,
    entries,
    environment,
    trial_config,
)
from ansible_collections.lowlatency.fleet.tests.unit.fixture_grub import (
    ADVANCED,
    CLOUD_IMAGE,
    HEADER,
    KERNEL,
    OLD_KERNEL,
    ROOT,
    SIMPLE,
    UBUNTU,
    body,
    debian,
    grubenv,
)
from hypothesis import given
from hypothesis import strategies as st

MENU = entries(debian("quiet skew_tick=1"))


def boots(choice: str) -> str:
    """The title of the entry that a choice means in Debian's menu."""
    return chosen_entry(MENU, choice).title


def titles(menu: tuple[Entry, ...]) -> list[str]:
    return [entry.title for entry in menu]


# --- the menu ---------------------------------------------------------------------------------------------------------


def test_the_menu_is_read_with_its_submenu_and_without_functions_and_comments() -> None:
    assert titles(MENU) == ["Debian GNU/Linux", "Advanced options for Debian GNU/Linux", "UEFI Firmware Settings", "Somebody's memory test"]
    assert [entry.identity for entry in MENU] == [SIMPLE, ADVANCED, "uefi-firmware", "memtest"]
    assert titles(MENU[1].children) == [f"Debian GNU/Linux, with Linux {kernel}{mode}" for kernel in (KERNEL, OLD_KERNEL) for mode in ("", " (recovery mode)")]
    assert MENU[1].lines == () and not MENU[0].children


def test_the_lines_of_an_entry_are_its_own() -> None:
    assert MENU[0].lines == tuple(body(KERNEL, "quiet skew_tick=1").splitlines())
    assert [line for entry in MENU for line in entry.lines if "savedefault" in line or "gfxpayload" in line] == []


def test_kernel_and_arguments_are_told_apart() -> None:
    assert MENU[0].kernel == f"/boot/vmlinuz-{KERNEL}"
    assert MENU[0].tokens == (f"root={ROOT}", "ro", "quiet", "skew_tick=1")
    assert MENU[1].children[3].tokens == (f"root={ROOT}", "ro", "single")
    assert (MENU[3].kernel, MENU[3].tokens) == ("/boot/memtest86+x64.bin", ("console=ttyS0",))


def test_an_entry_that_starts_no_linux_has_no_kernel() -> None:
    assert MENU[2].kernel == "" and MENU[2].tokens == ()


def test_who_may_boot_an_entry_is_kept() -> None:
    assert [entry.unrestricted for entry in MENU] == [False, False, False, True]
    assert entries(UBUNTU)[0].unrestricted


def test_ubuntus_menu_is_read_too() -> None:
    menu = entries(UBUNTU)
    assert titles(menu) == ["Ubuntu", "Advanced options for Ubuntu", "Somebody's memory test"]
    assert menu[0].tokens == ("root=/dev/mapper/vg-root", "ro", "quiet", "splash", "$vt_handoff")
    assert menu[0].kernel == "/vmlinuz-6.8.0-31-generic"
    assert len(menu[1].children) == 2


def test_an_entry_without_an_id_is_known_by_its_title() -> None:
    (entry,) = entries("menuentry 'Plain' {\n\tlinuxefi /vmlinuz a=1\n}\n")
    assert (entry.identity, entry.kernel, entry.tokens) == ("Plain", "/vmlinuz", ("a=1",))


def test_a_quote_inside_a_title_is_read_as_grub_writes_it() -> None:
    (entry,) = entries("menuentry 'Joe'\\''s Linux' --class gnu $menuentry_id_option 'joe' {\n\tlinux /vmlinuz\n}\n")
    assert (entry.title, entry.identity, entry.tokens) == ("Joe's Linux", "joe", ())


@pytest.mark.parametrize("text", ["menuentry 'A' {\n\tlinux /vmlinuz a\n", "function load_video {\n", debian().replace("\tfwsetup\n}\n", "\tfwsetup\n", 1)])
def test_an_open_brace_is_refused(text: str) -> None:
    with pytest.raises(LoaderError, match="brace is open"):
        entries(text)


def test_a_file_without_a_menu_has_no_entries() -> None:
    assert entries("") == () and entries("set timeout=5\n}\n") == ()


@given(st.text(alphabet="menuentry 'a'\"{}\n\t#linux /x", max_size=80))
def test_no_text_whatever_makes_the_reading_itself_fail(text: str) -> None:
    try:
        assert all(isinstance(entry, Entry) for entry in entries(text))
    except LoaderError:
        pass


# --- what boots by default --------------------------------------------------------------------------------------------


def test_the_default_is_the_one_for_when_no_entry_is_asked_for_once() -> None:
    assert default_choice(debian(default="1>2"), {"next_entry": "memtest"}) == "1>2"
    assert default_choice(debian(default="Debian GNU/Linux"), {}) == "Debian GNU/Linux"


def test_a_saved_default_is_looked_up_in_the_environment() -> None:
    assert default_choice(UBUNTU, {"saved_entry": "gnulinux-advanced-9a>1"}) == "gnulinux-advanced-9a>1"
    assert default_choice(UBUNTU.replace("${saved_entry}", "$saved_entry"), {"saved_entry": "2"}) == "2"


@pytest.mark.parametrize("variables", [{}, {"saved_entry": ""}])
def test_a_default_that_was_never_saved_is_the_first(variables: dict[str, str]) -> None:
    assert default_choice(UBUNTU, variables) == "0"


def test_a_file_that_sets_no_default_boots_the_first() -> None:
    assert default_choice("menuentry 'A' {\n}\n", {"saved_entry": "3"}) == "0"
    assert default_choice("set default=2\n", {}) == "2"


@pytest.mark.parametrize(("choice", "title"), [
    ("0", "Debian GNU/Linux"), ("3", "Somebody's memory test"), ("memtest", "Somebody's memory test"), ("Somebody's memory test", "Somebody's memory test"),
    ("1>0", f"Debian GNU/Linux, with Linux {KERNEL}"), ("1>2", f"Debian GNU/Linux, with Linux {OLD_KERNEL}"),
    (f"{ADVANCED}>gnulinux-{OLD_KERNEL}-advanced-2f1c7c8e", f"Debian GNU/Linux, with Linux {OLD_KERNEL}"),
    (f"Advanced options for Debian GNU/Linux>Debian GNU/Linux, with Linux {OLD_KERNEL} (recovery mode)",
     f"Debian GNU/Linux, with Linux {OLD_KERNEL} (recovery mode)"),
    ("1", f"Debian GNU/Linux, with Linux {KERNEL}"),
])
def test_an_entry_is_named_by_number_id_or_title(choice: str, title: str) -> None:
    assert boots(choice) == title


@pytest.mark.parametrize("choice", ["9", "no such entry", "", "no such menu>2", "-1"])
def test_what_is_not_found_is_the_first(choice: str) -> None:
    assert boots(choice) == "Debian GNU/Linux"


def test_what_a_submenu_does_not_have_is_its_first() -> None:
    assert boots("1>9") == f"Debian GNU/Linux, with Linux {KERNEL}"


@pytest.mark.parametrize("choice", ["2", "uefi-firmware"])
def test_a_default_that_boots_no_linux_is_refused_by_name(choice: str) -> None:
    with pytest.raises(LoaderError, match="boots no Linux") as caught:
        chosen_entry(MENU, choice)
    assert choice in str(caught.value)


def test_a_menu_of_nothing_boots_nothing() -> None:
    with pytest.raises(LoaderError):
        chosen_entry((), "0")


# --- an entry on trial ------------------------------------------------------------------------------------------------


def test_other_arguments_change_one_line_and_no_other() -> None:
    changed = MENU[0].with_tokens(("root=x", "isolcpus=2-3"))
    assert changed.tokens == ("root=x", "isolcpus=2-3") and changed.kernel == MENU[0].kernel
    assert (changed.title, changed.identity) == (MENU[0].title, MENU[0].identity)
    differing = [(old, new) for old, new in zip(MENU[0].lines, changed.lines) if old != new]
    assert len(changed.lines) == len(MENU[0].lines) and len(differing) == 1
    assert differing[0][1] == f"\tlinux\t/boot/vmlinuz-{KERNEL} root=x isolcpus=2-3"


def test_the_way_a_kernel_is_loaded_stays() -> None:
    assert MENU[3].with_tokens(("a",)).lines == ("\tlinux16\t/boot/memtest86+x64.bin a",)


def test_the_entry_on_trial_is_read_back_as_what_it_was_made_of() -> None:
    tokens = (*MENU[0].tokens, "isolcpus=2-3", "lowlatency.trial=5f", "panic=10")
    (entry,) = entries(trial_config(MENU[0], "lowlatency-trial", tokens))
    assert entry.identity == "lowlatency-trial" and entry.tokens == tokens and entry.kernel == MENU[0].kernel
    assert entry.lines == MENU[0].with_tokens(tokens).lines
    assert not entry.unrestricted


def test_an_entry_that_everybody_may_boot_stays_so_on_trial() -> None:
    (entry,) = entries(trial_config(entries(UBUNTU)[0], "lowlatency-trial", ("ro",)))
    assert entry.unrestricted and entry.identity == "lowlatency-trial"


def test_an_entry_of_a_submenu_can_be_tried() -> None:
    (entry,) = entries(trial_config(chosen_entry(MENU, "1>2"), "lowlatency-trial", ("ro",)))
    assert entry.kernel == f"/boot/vmlinuz-{OLD_KERNEL}" and entry.tokens == ("ro",)


def test_the_entry_on_trial_says_whose_it_is() -> None:
    assert trial_config(MENU[0], "lowlatency-trial", ()).startswith("# Owned by lowlatency.fleet")


def test_arguments_that_a_shell_would_read_are_kept() -> None:
    menu = entries(HEADER % "0" + "menuentry 'A' {\n\tlinux /vmlinuz dyndbg=\\\"file a.c +p\\\" path=C:\\\\x ro\n}\n")
    assert menu[0].tokens == ('dyndbg=\\"file', "a.c", '+p\\"', "path=C:\\\\x", "ro")
    assert entries(trial_config(menu[0], "t", menu[0].tokens))[0].tokens == menu[0].tokens


def test_an_entry_with_two_kernel_lines_keeps_the_root_of_each_or_is_refused() -> None:
    try:
        entry = chosen_entry(entries(CLOUD_IMAGE), "0")
        changed = entry.with_tokens((*entry.tokens, "isolcpus=2-3"))
    except LoaderError:
        return
    lines = [line for line in changed.lines if "linux\t" in line]
    assert "root=LABEL=cloudimg-rootfs" in lines[0] and "root=PARTUUID=7f-01" in lines[1]


# --- grubenv ----------------------------------------------------------------------------------------------------------


def test_the_environment_is_read_without_its_filling() -> None:
    assert environment(grubenv(saved_entry="1>2", kernelopts="root=/dev/sda2 ro a=b", next_entry="")) == {
        "saved_entry": "1>2", "kernelopts": "root=/dev/sda2 ro a=b", "next_entry": ""}


def test_an_empty_environment_holds_nothing() -> None:
    assert environment(grubenv()) == {} and environment("") == {} and environment("torn") == {}


# --- boot loader specification ----------------------------------------------------------------------------------------

MACHINE_ID = "5ee0c3e3f5d64f1f9b1a0b7b6c3b2f10"
BLS_TEXT = """\
# a comment
title Rocky Linux (5.14.0-70.el9.x86_64) 9.0
version 5.14.0-70.el9.x86_64
linux /vmlinuz-5.14.0-70.el9.x86_64
initrd /initramfs-5.14.0-70.el9.x86_64.img $tuned_initrd

options root=/dev/mapper/rl-root ro $kernelopts crashkernel=1G-4G:192M ${tuned_params}
grub_users $grub_users
grub_arg --unrestricted
grub_class
"""


def bls(version: str, title: str = "") -> BlsEntry:
    return bls_entry(f"{MACHINE_ID}-{version}", f"title {title or version}\nlinux /vmlinuz-{version}\noptions ro\n")


def test_an_entry_file_is_read_key_by_key() -> None:
    entry = bls_entry("a", BLS_TEXT)
    assert entry.value("title") == "Rocky Linux (5.14.0-70.el9.x86_64) 9.0"
    assert entry.value("initrd") == "/initramfs-5.14.0-70.el9.x86_64.img $tuned_initrd"
    assert entry.value("grub_class") == "" and entry.value("devicetree") == ""


def test_variables_are_put_in_their_places() -> None:
    entry = bls_entry("a", BLS_TEXT)
    assert entry.tokens({"kernelopts": "quiet a=1", "tuned_params": "skew_tick=1"}) == (
        "root=/dev/mapper/rl-root", "ro", "quiet", "a=1", "crashkernel=1G-4G:192M", "skew_tick=1")
    assert entry.tokens({}) == ("root=/dev/mapper/rl-root", "ro", "crashkernel=1G-4G:192M")


def test_an_entry_file_is_written_as_it_was_but_for_what_changed() -> None:
    entry = bls_entry("a", BLS_TEXT)
    assert bls_entry("a", entry.text()) == entry
    lines = [line for line in BLS_TEXT.splitlines() if line and not line.startswith("#")]
    assert entry.text().splitlines() == lines
    changed = entry.text(title="On trial", options="ro a=1").splitlines()
    assert [line for line in changed if line not in lines] == ["title On trial", "options ro a=1"] and len(changed) == len(lines)


def test_an_entry_without_arguments_has_none() -> None:
    assert bls_entry("a", "title A\nlinux /vmlinuz\n").tokens({}) == ()


NEW, OLD, RESCUE = bls("5.14.0-70.el9.x86_64", "New"), bls("5.14.0-9.el9.x86_64", "Old"), bls_entry(f"{MACHINE_ID}-0-rescue", "title Rescue\noptions single\n")


@pytest.mark.parametrize(("choice", "entry"), [
    (OLD.name, OLD), ("Old", OLD), ("1", OLD), ("0", NEW), ("2", RESCUE), ("Rescue", RESCUE), ("", NEW), ("gone", NEW),
])
@pytest.mark.parametrize("found", [(OLD, RESCUE, NEW), (NEW, OLD, RESCUE), (RESCUE, NEW, OLD)])
def test_an_entry_file_is_named_by_name_title_or_number_and_the_newest_otherwise(choice: str, entry: BlsEntry, found: tuple[BlsEntry, ...]) -> None:
    assert chosen_bls(found, choice) is entry


def test_versions_are_compared_as_numbers() -> None:
    found = [bls(version) for version in ("4.18.0-553.el8", "5.14.0-9.el9", "5.14.0-70.el9", "6.9.1-100.fc40", "6.10.0-1.fc41")]
    assert [chosen_bls(found[:end], "").name for end in range(1, 6)] == [entry.name for entry in found]


def test_an_update_of_a_kernel_is_newer_than_the_kernel() -> None:
    found = [bls("4.18.0-553.el8_10.x86_64"), bls("4.18.0-553.5.1.el8_10.x86_64")]
    assert chosen_bls(found, "") is found[1]


def test_no_entry_file_at_all_is_refused() -> None:
    with pytest.raises(LoaderError, match="holds no entry"):
        chosen_bls((), "0")
