# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking sockets of other processes for their options, through a copy of the descriptor. Reads options and nothing else.

The process is neither stopped nor traced. While the copy exists, some microseconds, a close() of the process does not end its connection:
the close of the copy does. So only where a site allows it.

Source: pidfd_open(2), pidfd_getfd(2) (Linux 5.6), getsockopt(2), tcp(7), socket(7). ctypes, since Python has no pidfd_getfd, and since its socket objects
may change the blocking mode, which the copy shares with the process.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
from collections.abc import Iterator, Mapping

from ..model.sockets import BUSY_POLL, CORK, KEEPALIVE, NODELAY, USER_TIMEOUT

# The same on all architectures that Ansible and systemd run on, but Alpha (asm-generic/unistd.h).
PIDFD_OPEN, PIDFD_GETFD = 434, 438
SO_BUSY_POLL, TCP_USER_TIMEOUT = 46, 18
OPTIONS = {
    KEEPALIVE: (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
    NODELAY: (socket.IPPROTO_TCP, socket.TCP_NODELAY),
    CORK: (socket.IPPROTO_TCP, socket.TCP_CORK),
    BUSY_POLL: (socket.SOL_SOCKET, SO_BUSY_POLL),
    USER_TIMEOUT: (socket.IPPROTO_TCP, TCP_USER_TIMEOUT),
}

_LIBRARY = ctypes.CDLL(None, use_errno=True)
_LIBRARY.syscall.restype = ctypes.c_long


def ask_sockets(holders: Mapping[int, tuple[int, int]]) -> tuple[dict[int, dict[str, int]], str]:
    """The options of sockets, by their inodes, and why some could not be asked, if so; ``holders`` is ``{inode: (process, descriptor)}``.

    A socket that was closed meanwhile is left out, as is an option that the kernel has not.
    """
    found: dict[int, dict[str, int]] = {}
    refused = ""
    by_process: dict[int, dict[int, int]] = {}
    for inode, (process, descriptor) in holders.items():
        by_process.setdefault(process, {})[inode] = descriptor
    for process, descriptors in by_process.items():
        try:
            with _descriptor_of(PIDFD_OPEN, process, 0) as handle:
                for inode, descriptor in descriptors.items():
                    try:
                        found[inode] = _answers(handle, descriptor, inode)
                    except OSError as error:
                        refused = _why(error) or refused
        except OSError as error:
            refused = _why(error) or refused
    return {inode: answers for inode, answers in found.items() if answers}, refused


def _answers(handle: int, descriptor: int, inode: int) -> dict[str, int]:
    """The options of one socket; none where the descriptor is another file's by now."""
    with _descriptor_of(PIDFD_GETFD, handle, descriptor, 0) as copy:
        if os.fstat(copy).st_ino != inode:
            return {}
        told = {name: _option(copy, *option) for name, option in OPTIONS.items()}
    return {name: value for name, value in told.items() if value is not None}


def _option(descriptor: int, level: int, name: int) -> int | None:
    value, size = ctypes.c_int(), ctypes.c_uint(ctypes.sizeof(ctypes.c_int))
    failed = _LIBRARY.getsockopt(descriptor, level, name, ctypes.byref(value), ctypes.byref(size))
    return None if failed else value.value


@contextlib.contextmanager
def _descriptor_of(number: int, *arguments: int) -> Iterator[int]:
    """The descriptor that a system call returns, closed at the end."""
    descriptor = _system_call(number, *arguments)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _system_call(number: int, *arguments: int) -> int:
    result: int = _LIBRARY.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _why(error: OSError) -> str:
    """Why a socket could not be asked; nothing for one that is gone."""
    if error.errno in (errno.ESRCH, errno.EBADF):
        return ""
    if error.errno == errno.ENOSYS:
        return "this kernel has no pidfd_getfd (Linux 5.6 has)"
    return f"pidfd_getfd: {error.strerror} (it needs root, and Yama or another security module may forbid it)"
