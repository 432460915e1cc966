# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine seen as a file tree: the live one at ``/`` or a captured one below any folder.

Reads only. Nothing here writes, and nothing here starts a program.
"""

from __future__ import annotations

import errno
import os

_LINK_LIMIT = 40  # as the kernel's MAXSYMLINKS
_ATTRIBUTE_LIMIT = 1 << 20
_PAGE = 4096


class Unreadable(Exception):
    """A file that should tell something could not be read; says which and why."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path = path
        self.why = why


class Host:
    """The files of one machine. ``root`` is ``/`` for the live one, a folder for another one.

    ``captured`` says that these files are all there is: no program, no kernel and no service manager can be asked about the machine, and nothing
    is ever written there.
    """

    def __init__(self, root: str = "/", *, captured: bool = False) -> None:
        self.root = os.path.abspath(root)
        self.captured = captured
        self._folders: dict[str, str] = {}

    @property
    def live(self) -> bool:
        """Whether this is the machine we run on (programs and system calls speak of it)."""
        return self.root == "/"

    @property
    def has_configuration(self) -> bool:
        """Whether the tree has the configuration of its machine, and not only what its kernel showed; a capture of ours says so."""
        return self.exists("/capture.txt") or self.is_dir("/etc/systemd")

    def path(self, name: str) -> str:
        """Where the absolute ``name`` of the machine lies for us."""
        return name if self.live else os.path.join(self.root, name.lstrip("/"))

    def followed(self, name: str) -> str:
        """Where ``name`` lies for us once its symbolic links are followed, without ever leaving ``root``.

        A captured tree keeps the links of its machine: an absolute one means that machine, not ours. Raises ``OSError``
        when the links form a loop.
        """
        return name if self.live else self.root + self._without_links("/" + name.strip("/"))

    def _without_links(self, name: str, links: int = 0) -> str:
        """The machine's own name of ``name``. Folders are remembered: thousands of files lie in a few of them."""
        folder, last = os.path.split(name)
        if last == "":
            return folder.rstrip("/")
        if folder not in self._folders:
            self._folders[folder] = self._without_links(folder, links)
        near = self._folders[folder]
        if last in (".", ".."):
            return near if last == "." else os.path.dirname(near).rstrip("/")
        try:
            target = os.readlink(f"{self.root}{near}/{last}")
        except OSError:
            return f"{near}/{last}"
        if links == _LINK_LIMIT:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
        return self._without_links(os.path.join(near + "/", target.rstrip("/") or "/"), links + 1)

    def exists(self, name: str) -> bool:
        try:
            return os.path.exists(self.followed(name))
        except OSError:
            return False

    def is_dir(self, name: str) -> bool:
        try:
            return os.path.isdir(self.followed(name))
        except OSError:
            return False

    def attribute(self, name: str, limit: int = _ATTRIBUTE_LIMIT) -> str:
        """The text of a small kernel file without the NUL bytes some captures pad it with; raises ``OSError``.

        Reads whole pages until ``limit`` bytes at most, and does not wait where a captured tree has a pipe.
        """
        descriptor = os.open(self.followed(name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            data = chunk = os.read(descriptor, _PAGE)
            # The kernel hands out lists longer than a page one page at a time.
            while len(chunk) == _PAGE and len(data) < limit:
                chunk = os.read(descriptor, _PAGE)
                data += chunk
        finally:
            os.close(descriptor)
        return data.replace(b"\0", b"").decode("utf-8", "replace")

    def read(self, name: str) -> str:
        """The text of a file; raises ``Unreadable`` when it is absent, forbidden, or the kernel refuses."""
        try:
            return self.read_bytes(name).decode("utf-8", "replace")
        except OSError as error:
            raise Unreadable(name, error.strerror or str(error)) from error

    def read_bytes(self, name: str) -> bytes:
        """The bytes of a file; raises ``OSError``."""
        with open(self.followed(name), "rb") as stream:
            return stream.read()

    def content_and_mode(self, name: str) -> tuple[bytes | None, int]:
        """The bytes of a file and its permission bits; None and 0 when there is none to be read."""
        try:
            with open(self.followed(name), "rb") as stream:
                return stream.read(), os.fstat(stream.fileno()).st_mode & 0o7777
        except OSError:
            return None, 0

    def read_if_there(self, name: str) -> str | None:
        """The stripped text of a file, or None when it cannot be read for whatever reason."""
        try:
            return self.read(name).strip()
        except Unreadable:
            return None

    def names(self, name: str) -> list[str]:
        """Sorted names in a folder; empty when it is absent or forbidden."""
        try:
            return sorted(os.listdir(self.followed(name)))
        except OSError:
            return []

    def link_name(self, name: str) -> str | None:
        """Last part of what a symbolic link points to (``driver`` -> ``igb``), or None."""
        try:
            folder, last = os.path.split(name.rstrip("/"))
            return os.path.basename(os.readlink(os.path.join(self.followed(folder), last)))
        except OSError:
            return None
