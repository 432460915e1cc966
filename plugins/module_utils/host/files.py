# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing files of a machine whole or not at all; and kernel files, which take one write."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

from .machine import Host

SUFFIX = ".lowlatency-new"
LOCK = "/run/lowlatency.lock"
# How often a run that waits looks whether the lock is free.
LOOK_AGAIN = 0.5


class Busy(OSError):
    """Another run is writing on this host."""


@contextlib.contextmanager
def locked(host: Host, patience: float = 0) -> Iterator[None]:
    """Keep every other run from writing on this machine meanwhile. The kernel lets go when we die.

    Waits ``patience`` seconds for a run that holds it, then raises ``Busy``.
    """
    path = host.path(LOCK)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _take(descriptor, time.monotonic() + patience)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, deadline: float) -> None:
    """Have the lock; raises ``Busy``. Asks again and again: the kernel's own waiting knows no time limit."""
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Busy(f"another run is writing on this host ({LOCK} is held); wait for it to end") from error
        time.sleep(min(left, LOOK_AGAIN))


def write_whole(host: Host, name: str, content: bytes, mode: int) -> None:
    """Replace ``name`` in one step: a reader, or a power cut, sees the old bytes or the new ones. Raises ``OSError``."""
    path = host.path(name)
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    temporary = path + SUFFIX
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)  # of a run that died; were it a link, it would not be followed
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        raise
    sync_folder(folder)


def sync_folder(folder: str) -> None:
    """Make a rename or a creation in ``folder`` last."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_kernel_file(host: Host, name: str, text: str) -> None:
    """Give ``text`` to a file of /proc or /sys in one unbuffered write; raises ``OSError`` with the kernel's errno."""
    # the kernel's files take no notice of O_TRUNC, those of a captured tree would keep the end of what they held
    descriptor = os.open(host.path(name), os.O_WRONLY | os.O_TRUNC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def unwritable(host: Host, name: str) -> str:
    """Why ``name`` could not be written, or nothing. Looks, never tries."""
    folder = os.path.dirname(host.path(name))
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    if not os.path.isdir(folder):
        return f"{name}: {folder} is not a directory"
    if not os.access(folder, os.W_OK):
        return f"{name}: {folder} is not writable (read-only file system, or not root)"
    if os.path.isdir(host.path(name)):
        return f"{name}: is a directory"
    return ""
