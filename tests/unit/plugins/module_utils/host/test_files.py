# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files are replaced whole or not at all; one run writes at a time; what could not be written is known beforehand."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils import door
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.files import (
    LOCK,
    SUFFIX,
    Busy,
    locked,
    unwritable,
    write_kernel_file,
    write_whole,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host

NAME = "/etc/sysctl.d/80-lowlatency.conf"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(str(tmp_path))


def lies(host: Host, name: str = NAME) -> Path:
    return Path(host.path(name))


def old(host: Host, content: bytes = b"old\n", mode: int = 0o600) -> Path:
    path = lies(host)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_new_file_has_its_folders_its_bytes_and_its_mode_whatever_the_umask(host: Host) -> None:
    umask = os.umask(0o077)
    try:
        write_whole(host, NAME, b"new\n", 0o644)
    finally:
        os.umask(umask)
    assert lies(host).read_bytes() == b"new\n"
    assert lies(host).stat().st_mode & 0o7777 == 0o644
    assert os.listdir(lies(host).parent) == [lies(host).name]


def test_an_old_file_is_replaced_and_never_written_into(host: Host) -> None:
    path = old(host)
    with path.open("rb") as reader:
        write_whole(host, NAME, b"new\n", 0o755)
        assert reader.read() == b"old\n", "who reads meanwhile reads the old file to its end"
    assert path.read_bytes() == b"new\n" and path.stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize("broken", ["fsync", "fchmod", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_in_the_middle_leaves_the_old_bytes_and_nothing_else(host: Host, monkeypatch: pytest.MonkeyPatch, broken: str, error: Any) -> None:
    path = old(host)

    def fail(*arguments: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, broken, fail)
        with pytest.raises(type(error)):
            write_whole(host, NAME, b"new\n" * 10000, 0o644)
    assert path.read_bytes() == b"old\n" and path.stat().st_mode & 0o7777 == 0o600
    assert os.listdir(path.parent) == [path.name]


def test_content_is_on_disk_before_it_has_the_name(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *arguments, real=real, name=name: (steps.append(name), real(*arguments))[1])
    write_whole(host, NAME, b"new\n", 0o644)
    assert steps == ["fsync", "replace", "fsync"]


def test_a_link_at_the_temporary_name_is_not_followed(host: Host, tmp_path: Path) -> None:
    path = old(host)
    victim = tmp_path / "victim"
    victim.write_text("precious\n")
    Path(str(path) + SUFFIX).symlink_to(victim)
    write_whole(host, NAME, b"new\n", 0o644)
    assert victim.read_text() == "precious\n" and path.read_bytes() == b"new\n" and os.listdir(path.parent) == [path.name]


def test_what_an_earlier_run_left_at_the_temporary_name_does_not_matter(host: Host) -> None:
    path = old(host)
    Path(str(path) + SUFFIX).write_bytes(b"half a file of an earlier run, which was longer\n")
    write_whole(host, NAME, b"new\n", 0o644)
    assert path.read_bytes() == b"new\n" and os.listdir(path.parent) == [path.name]


def test_a_kernel_file_takes_one_write_and_is_never_made(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lies(host, "/proc/sys/vm/swappiness")
    path.parent.mkdir(parents=True)
    with pytest.raises(FileNotFoundError):
        write_kernel_file(host, "/proc/sys/vm/swappiness", "10")
    path.write_text("600000\n")
    counted: list[bytes] = []
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: (counted.append(data), real(descriptor, data))[1])
    write_kernel_file(host, "/proc/sys/vm/swappiness", "10")
    assert counted == [b"10"] and path.read_text() == "10"


# --- what could not be written ----------------------------------------------------------------------------------------


def test_what_can_be_written_has_no_reason(host: Host) -> None:
    assert unwritable(host, NAME) == "", "folders that are missing will be made"
    old(host)
    assert unwritable(host, NAME) == ""


def test_looking_changes_nothing(host: Host, tmp_path: Path) -> None:
    unwritable(host, NAME)
    assert os.listdir(tmp_path) == []


def test_a_folder_in_the_place_of_the_file(host: Host) -> None:
    lies(host).mkdir(parents=True)
    assert "is a directory" in unwritable(host, NAME)


def test_a_file_in_the_place_of_a_folder(host: Host, tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("")
    assert "is not a directory" in unwritable(host, NAME)


def test_a_link_to_nowhere_in_the_place_of_a_folder(host: Host, tmp_path: Path) -> None:
    (tmp_path / "etc").symlink_to("nowhere")
    assert "is not a directory" in unwritable(host, NAME)


def test_a_folder_nobody_may_write(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    lies(host).parent.mkdir(parents=True)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "not writable" in unwritable(host, NAME) and NAME in unwritable(host, NAME)


# --- the lock ---------------------------------------------------------------------------------------------------------


def test_one_run_at_a_time(host: Host) -> None:
    with locked(host):
        with pytest.raises(Busy, match=LOCK), locked(host):
            pytest.fail("two runs at once")
        with pytest.raises(Busy), locked(host):
            pytest.fail("a refused run let go of the lock of the other")
    with locked(host):
        pass


def test_a_holder_that_dies_lets_go(host: Host) -> None:
    lies(host, LOCK).parent.mkdir()
    program = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT), fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program, host.path(LOCK)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(Busy), locked(host):
            pytest.fail("two processes at once")
        holder.kill()
        holder.wait()
        with locked(host):
            pass


HOLD = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT), fcntl.LOCK_EX); print('held', flush=True); sys.stdin.readline()"


def test_who_is_patient_has_the_lock_when_the_other_process_is_done(host: Host) -> None:
    lies(host, LOCK).parent.mkdir()
    with subprocess.Popen([sys.executable, "-c", HOLD, host.path(LOCK)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None and holder.stdout is not None and holder.stdout.readline() == b"held\n"
        threading.Timer(1.2, holder.stdin.close).start()
        begin = time.monotonic()
        with locked(host, 60):
            assert holder.wait() == 0, "the other had not ended"
            assert 1 < time.monotonic() - begin < 30
        with locked(host):
            pass


def test_patience_ends(host: Host) -> None:
    begin = time.monotonic()
    with locked(host), pytest.raises(Busy, match=LOCK), locked(host, 0.7):
        pytest.fail("two runs at once")
    assert 0.7 <= time.monotonic() - begin < 30


def test_patient_processes_take_turns(host: Host, tmp_path: Path) -> None:
    """Each counts on by reading and writing one file: without the lock, or with a lock that two have, counts are lost."""
    zipapp = tmp_path / "lowlatency"
    zipapp.write_bytes(door.program())
    program = ("import sys, time; sys.path.insert(0, sys.argv[1]); from lowlatency.host import files; from lowlatency.host.machine import Host\n"
               "files.LOOK_AGAIN = 0.01\n"
               "for _ in range(10):\n"
               "    with files.locked(Host(sys.argv[2]), 120):\n"
               "        count = int(open(sys.argv[3]).read()); time.sleep(0.003); open(sys.argv[3], 'w').write(str(count + 1))\n")
    counted = tmp_path / "counted"
    counted.write_text("0")
    counting = [subprocess.Popen([sys.executable, "-c", program, str(zipapp), host.root, str(counted)]) for _each in range(5)]
    assert [process.wait() for process in counting] == [0] * 5
    assert counted.read_text() == "50"
