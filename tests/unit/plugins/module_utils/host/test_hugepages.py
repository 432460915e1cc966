# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Huge pages on a machine of files: what is read, a kernel that finds too few, mounts by systemd, and the whole transaction."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils import runner
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import hugepages
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.deployment import DESIRED, ENABLED
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.hugepages import (
    PagesMissed,
    read_hugepages,
    write_hugepages,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.journal import JOURNAL
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host, Unreadable
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.programs import ProgramFailed
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.hugepages import (
    MOUNT,
    HugepagesState,
    Mount,
    Node,
    unit_file,
    unit_name,
    unit_text,
    wants_link,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import (
    CHANGED,
    DRIFTED,
    ERROR,
    OK,
    UNSUPPORTED,
    Setting,
    SpecError,
)
from ansible_collections.lowlatency.fleet.tests.unit.fixture_host import Writes, begun, tree, tunable_machine
from ansible_collections.lowlatency.fleet.tests.unit.fixture_machine import NODE

GIB = 1 << 20
PATH = "/dev/hugepages-1G"
SMALL = "/sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages"
LARGE = "/sys/devices/system/node/node1/hugepages/hugepages-1048576kB/nr_hugepages"
PAGES = [{"size": "2M", "node": 1, "count": 256, "at": "runtime"}, {"size": "1G", "node": 1, "count": 4, "at": "boot"}]
MOUNTS = [{"path": PATH, "size": "1G"}]
PART = {"pages": PAGES, "mounts": MOUNTS}
WISH = {"hugepages": {"hugepages": PART}}
MEMINFO = """\
Node {node} MemTotal:       {total} kB
Node {node} MemFree:        {free} kB
Node {node} Active(anon):   999999 kB
Node {node} Active(file):   {file} kB
Node {node} Inactive(file): {file} kB
Node {node} HugePages_Total:     0
"""


@pytest.fixture(autouse=True)
def next_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next boot is as this one: the boot loader has tests of its own."""
    monkeypatch.setattr(hugepages, "configured_tokens", lambda host: tuple(host.read("/proc/cmdline").split()))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two nodes of 16 GiB, 8 free; no huge pages; nothing asked for at boot; the default size mounted by systemd."""
    machine = tunable_machine(tmp_path / "machine")
    for node in (0, 1):
        machine.write(f"{NODE}/node{node}/meminfo", MEMINFO.format(node=node, total=16 * GIB, free=8 * GIB, file=GIB))
        for kib in (2048, GIB):
            machine.write(f"{NODE}/node{node}/hugepages/hugepages-{kib}kB/nr_hugepages", "0\n")
    for kib in (2048, GIB):
        machine.write(f"sys/kernel/mm/hugepages/hugepages-{kib}kB/nr_hugepages", "0\n")
    machine.write("proc/cmdline", "root=/dev/sda1 quiet hugepagesz=1G hugepages=1:4\n")
    machine.write("proc/meminfo", "MemTotal:       33554432 kB\nHugepagesize:       2048 kB\n")
    machine.write("proc/mounts", "sysfs /sys sysfs rw 0 0\nhugetlbfs /dev/hugepages hugetlbfs rw,relatime,pagesize=2M 0 0\n")
    return machine.root


@pytest.fixture(autouse=True)
def writes(monkeypatch: pytest.MonkeyPatch) -> Writes:
    return Writes(monkeypatch)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hugepages, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(hugepages, "PAUSE_SECONDS", 0.001)


@pytest.fixture(autouse=True)
def systemd(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A service manager that mounts what is enabled, as the live one does with start."""
    commands: list[str] = []

    def output_of(*command: str) -> str:
        commands.append(" ".join(word for word in command if not word.startswith("--root=")))
        root = Path(next(word.partition("=")[2] for word in command if word.startswith("--root=")))
        unit = root / "etc/systemd/system" / command[-1]
        assert unit.is_file(), "the unit file is there before systemd is asked"
        link = root / "etc/systemd/system/local-fs.target.wants" / command[-1]
        link.parent.mkdir(exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(f"/etc/systemd/system/{command[-1]}")
        place = next(line.partition("=")[2] for line in unit.read_text().splitlines() if line.startswith("Where="))
        mounts = [line for line in (root / "proc/mounts").read_text().splitlines() if line.split()[1] != place]
        (root / "proc/mounts").write_text("\n".join([*mounts, f"hugetlbfs {place} hugetlbfs rw,relatime,mode=770,pagesize=1024M 0 0"]) + "\n")
        return ""

    monkeypatch.setattr(hugepages, "output_of", output_of)
    return commands


def named(outcome: runner.Outcome, name: str) -> Setting:
    return next(setting for setting in outcome.settings if setting.name == name)


def booted(root: Path) -> Path:
    """The machine after a boot that brought its pages."""
    (root / LARGE[1:]).write_text("4\n")
    return root


# --- reading ----------------------------------------------------------------------------------------------------------


def test_what_is_read(root: Path) -> None:
    (root / SMALL[1:]).write_text("5\n")
    state = read_hugepages(Host(str(root)), PART)
    assert state == HugepagesState(
        nodes={0: Node(16 * GIB, 8 * GIB, 2 * GIB, {"2M": 0, "1G": 0}), 1: Node(16 * GIB, 8 * GIB, 2 * GIB, {"2M": 5, "1G": 0})},
        boot={("1G", 1): 4}, mounts={PATH: Mount()}, sizes=frozenset(("2M", "1G")), default_size="2M")


def test_the_last_of_several_mounts_counts_and_sizes_are_named_by_us(root: Path) -> None:
    with (root / "proc/mounts").open("a") as stream:
        stream.write(f"tmpfs {PATH} tmpfs rw 0 0\nhugetlbfs {PATH} hugetlbfs rw,pagesize=1024M 0 0\n")
    (root / unit_file(PATH)[1:]).write_bytes(b"unit")
    state = read_hugepages(Host(str(root)), {"mounts": [*MOUNTS, {"path": "/dev/hugepages", "size": "2M"}]})
    assert state.mounts == {PATH: Mount("hugetlbfs", "1G", b"unit", False), "/dev/hugepages": Mount("hugetlbfs", "2M")}


def test_what_nobody_asks_for_is_not_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object) -> None:
        raise AssertionError(arguments)

    monkeypatch.setattr(hugepages, "configured_tokens", never)
    assert read_hugepages(Host(str(root)), {"pages": PAGES[:1], "mounts": MOUNTS}).boot is None
    monkeypatch.setattr(Host, "read", never)
    assert read_hugepages(Host(str(root)), {"pages": [], "mounts": []}) == HugepagesState()


@pytest.mark.parametrize("error", [Unreadable("/boot/grub/grub.cfg", "Permission denied"), SpecError("boot loader: not known")])
def test_a_next_boot_that_cannot_be_told_is_said_and_is_no_number(root: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def configured_tokens(host: Host) -> tuple[str, ...]:
        raise error

    runner.apply(begun(booted(root), WISH))
    monkeypatch.setattr(hugepages, "configured_tokens", configured_tokens)
    found = named(runner.audit(begun(root, WISH)), "node1 1G")
    assert (found.state, found.persisted) == (DRIFTED, None), "what the agent keeps does not make a boot bring pages"
    assert str(error) in found.reason


# --- writing ----------------------------------------------------------------------------------------------------------


class Kernel:
    """A kernel that finds some more pages at each time it is asked, up to a limit."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, each: int, limit: int, code: int = 0) -> None:
        self.asked = 0

        def write_kernel_file(host: Host, name: str, text: str) -> None:
            self.asked += 1
            held = int(host.read(name))
            Path(host.path(name)).write_text(f"{max(min(int(text), held + each), limit) if int(text) < held else min(int(text), held + each, limit)}\n")
            if code:
                raise OSError(code, os.strerror(code))

        monkeypatch.setattr(hugepages, "write_kernel_file", write_kernel_file)


def test_pages_are_asked_for_until_they_are_there(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch, each=100, limit=1000, code=errno.ENOMEM)
    write_hugepages(Host(str(root)), HugepagesState(), Setting("hugepages.2M", "node1 2M", "256", "0"))
    assert (root / SMALL[1:]).read_text() == "256\n" and kernel.asked == 3


@pytest.mark.parametrize("code", [0, errno.ENOMEM])
def test_too_few_pages_are_an_error_with_both_figures_and_the_remedy(root: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    kernel = Kernel(monkeypatch, each=100, limit=200, code=code)
    with pytest.raises(PagesMissed, match=r"256 pages asked for, the kernel has 200: .*at: boot and reboot"):
        write_hugepages(Host(str(root)), HugepagesState(), Setting("hugepages.2M", "node1 2M", "256", "0"))
    assert kernel.asked > 2


def test_pages_in_use_cannot_be_returned(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / SMALL[1:]).write_text("300\n")
    Kernel(monkeypatch, each=0, limit=280)
    with pytest.raises(PagesMissed, match="256 pages asked for, the kernel has 280: some are in use; stop"):
        write_hugepages(Host(str(root)), HugepagesState(), Setting("hugepages.2M", "node1 2M", "256", "300"))


def test_any_other_answer_of_the_kernel_is_an_error_at_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch, each=0, limit=0, code=errno.EINVAL)
    with pytest.raises(OSError, match="Invalid argument"):
        write_hugepages(Host(str(root)), HugepagesState(), Setting("hugepages.2M", "node1 2M", "256", "0"))
    assert kernel.asked == 1


@pytest.mark.parametrize(
    ("mount", "current", "verb"),
    [(Mount(), None, "start"), (Mount("hugetlbfs", "1G"), "pagesize=1G", "start"), (Mount("hugetlbfs", "2M"), "pagesize=2M", "restart")],
)
def test_a_live_mount_is_enabled_and_started(monkeypatch: pytest.MonkeyPatch, mount: Mount, current: str | None, verb: str) -> None:
    commands: list[tuple[str, ...]] = []
    monkeypatch.setattr(hugepages, "output_of", lambda *command: (commands.append(command), "")[1])
    write_hugepages(Host(), HugepagesState(mounts={PATH: mount}), Setting(MOUNT, PATH, "pagesize=1G", current))
    unit = "dev-hugepages\\x2d1G.mount"
    assert commands == [("systemctl", "daemon-reload"), ("systemctl", "enable", "--", unit), ("systemctl", verb, "--", unit)]


@pytest.mark.skipif(not shutil.which("systemd-escape"), reason="no systemd-escape to judge by")
@pytest.mark.parametrize("path", ["/dev/hugepages", PATH, "/mnt/huge_1.G:a", "/.huge/.a", "/mnt/a+b@c", "/a-/-b", "/mnt/ä b\\c"])
def test_systemd_itself_names_units_so(path: str) -> None:
    assert unit_name(path) == subprocess.run(["systemd-escape", "--path", "--suffix=mount", path], capture_output=True, text=True, check=True).stdout.strip()


# --- the transaction --------------------------------------------------------------------------------------------------


def test_check_mode_leaves_the_machine_as_it_is(root: Path, writes: Writes, systemd: list[str]) -> None:
    before = tree(root)
    outcome = runner.audit(begun(root, WISH))
    assert outcome.changed and tree(root) == before and writes.done == systemd == []
    assert {setting.name: setting.state for setting in outcome.settings if setting.control.startswith("hugepages.")} == {
        "node1 1G": DRIFTED, "node1 2M": DRIFTED, PATH: DRIFTED, unit_file(PATH): DRIFTED}


def test_the_host_is_what_is_wanted_and_a_second_run_changes_nothing(root: Path, writes: Writes, systemd: list[str]) -> None:
    outcome = runner.apply(begun(booted(root), WISH))
    assert outcome.errors == [] and not outcome.reboot_required
    assert (root / SMALL[1:]).read_text().strip() == "256"
    assert (root / unit_file(PATH)[1:]).read_bytes() == unit_text(PATH, "1G") and (root / wants_link(PATH)[1:]).is_symlink()
    assert systemd == [f"systemctl enable -- {unit_name(PATH)}"]
    assert {named(outcome, name).state for name in ("node1 2M", PATH, unit_file(PATH))} == {CHANGED}
    assert named(outcome, "node1 2M").persisted == "256" and named(outcome, "node1 1G").state == OK
    assert json.loads((root / DESIRED[1:]).read_text())["desired"] == WISH
    before, done = tree(root), list(writes.done)
    again = runner.apply(begun(root, WISH))
    assert not again.changed and {setting.state for setting in again.settings} == {OK}
    assert tree(root) == before and writes.done == done and len(systemd) == 1


def test_pages_at_boot_are_never_written_and_wait(root: Path, writes: Writes) -> None:
    outcome = runner.apply(begun(root, WISH))
    found = named(outcome, "node1 1G")
    assert outcome.errors == [] and outcome.reboot_required
    assert (found.state, found.current, found.persisted, found.reason) == (DRIFTED, "0", "4", "waits for a boot")
    assert LARGE not in writes.done and (root / LARGE[1:]).read_text() == "0\n"
    assert "node1 1G" not in (root / JOURNAL[1:]).read_text(), "the journal has what was written"
    assert not runner.apply(begun(root, WISH)).changed
    assert named(runner.audit(begun(booted(root), WISH)), "node1 1G").state == OK


def test_pages_at_boot_that_the_next_boot_does_not_bring_have_drifted(root: Path) -> None:
    runner.apply(begun(booted(root), WISH))
    (root / "proc/cmdline").write_text("quiet\n")
    found = named(runner.audit(begun(root, WISH)), "node1 1G")
    assert (found.state, found.current, found.persisted) == (DRIFTED, "4", "0")
    assert "says otherwise" in found.reason


def test_pages_at_run_time_last_only_while_the_agent_is_in_force(root: Path) -> None:
    runner.apply(begun(booted(root), WISH))
    (root / ENABLED[1:]).unlink()
    found = named(runner.audit(begun(root, WISH)), "node1 2M")
    assert (found.state, found.current, found.persisted) == (DRIFTED, "256", None)


def test_what_a_node_cannot_spare_is_refused_before_anything(root: Path, writes: Writes, systemd: list[str]) -> None:
    (root / f"{NODE}/node1/meminfo").write_text(MEMINFO.format(node=1, total=16 * GIB, free=GIB, file=GIB // 4))
    for act in (runner.audit, runner.apply):
        with pytest.raises(runner.Refused, match=r"512 MiB more of huge pages on node 1, which can spare 0 MiB now.*\(R8\)"):
            act(begun(root, WISH))
    assert writes.done == systemd == [] and not (root / unit_file(PATH)[1:]).exists()
    (root / SMALL[1:]).write_text("256\n")
    assert runner.apply(begun(root, WISH)).errors == [], "nothing has to be added"


def test_too_few_pages_fail_the_run_with_the_figures_and_stop_nothing_else(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Kernel(monkeypatch, each=100, limit=200)
    outcome = runner.apply(begun(booted(root), WISH))
    assert [(setting.name, setting.state, setting.current) for setting in outcome.errors] == [("node1 2M", ERROR, "200")]
    assert "256 pages asked for, the kernel has 200" in outcome.errors[0].reason
    assert named(outcome, PATH).state == CHANGED


def test_a_mount_that_is_there_and_would_not_last_is_made_to(root: Path, systemd: list[str]) -> None:
    runner.apply(begun(booted(root), WISH))
    (root / wants_link(PATH)[1:]).unlink()
    assert named(runner.audit(begun(root, WISH)), PATH).state == DRIFTED
    outcome = runner.apply(begun(root, WISH))
    assert outcome.errors == [] and named(outcome, PATH).state == CHANGED and (root / wants_link(PATH)[1:]).is_symlink()
    assert len(systemd) == 2 and not runner.audit(begun(root, WISH)).changed


def test_a_mount_of_another_size_is_replaced_by_one_of_ours(root: Path) -> None:
    wish = {"hugepages": {"hugepages": {"mounts": [{"path": "/dev/hugepages", "size": "1G"}]}}}
    assert named(runner.audit(begun(root, wish)), "/dev/hugepages").current == "pagesize=2M"
    outcome = runner.apply(begun(root, wish))
    assert outcome.errors == [] and named(outcome, "/dev/hugepages").current == "pagesize=1G"
    assert not runner.audit(begun(root, wish)).changed


def test_what_systemd_mounts_by_itself_is_right_as_it_is(root: Path, systemd: list[str]) -> None:
    wish = {"hugepages": {"hugepages": {"mounts": [{"path": "/dev/hugepages", "size": "2M"}]}}}
    outcome = runner.apply(begun(root, wish))
    assert named(outcome, "/dev/hugepages").state == OK and systemd == []
    assert not (root / unit_file("/dev/hugepages")[1:]).exists()


def test_a_mount_that_systemd_refuses_is_an_error_with_its_words(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def output_of(*command: str) -> str:
        raise ProgramFailed("systemctl restart: target is busy")

    monkeypatch.setattr(hugepages, "output_of", output_of)
    outcome = runner.apply(begun(booted(root), WISH))
    assert [(setting.name, setting.reason) for setting in outcome.errors] == [(PATH, "systemctl restart: target is busy")]


def test_a_container_leaves_it_all_to_the_machine(root: Path, writes: Writes, systemd: list[str]) -> None:
    (root / "run/.containerenv").write_text("")
    outcome = runner.apply(begun(root, WISH, program=None))
    assert {setting.state for setting in outcome.settings} == {UNSUPPORTED} and len(outcome.settings) == 3
    assert all("(podman)" in setting.reason for setting in outcome.settings)
    assert writes.done == systemd == [] and (root / SMALL[1:]).read_text() == "0\n"


def test_two_parts_agree_or_are_refused_by_name(root: Path) -> None:
    more = {"pages": [PAGES[1], {"size": "2M", "node": 0, "count": 8, "at": "runtime"}], "mounts": MOUNTS}
    outcome = runner.apply(begun(booted(root), {"hugepages": {"hugepages": PART, "site": more}}))
    assert outcome.errors == [] and named(outcome, "node0 2M").current == "8" and named(outcome, "node1 2M").current == "256"
    other = {"pages": [{**PAGES[0], "count": 8}]}
    with pytest.raises(runner.Refused, match="pages 2M 1 count: hugepages wants 256, site wants 8"):
        runner.audit(begun(root, {"hugepages": {"hugepages": PART, "site": other}}))
