# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine seen as a file tree: the live one at ``/`` or a captured one below any folder.

Reads only. Nothing here writes, and nothing here starts a program.
"""

from __future__ import annotations

import os


class Unreadable(Exception):
    """A file that should tell something could not be read; says which and why."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path = path
        self.why = why


class Host:
    """The files of one machine. ``root`` is ``/`` for the live one, a folder for a captured one."""

    def __init__(self, root: str = "/") -> None:
        self.root = os.path.abspath(root)

    @property
    def live(self) -> bool:
        """Whether this is the machine we run on (programs and system calls speak of it)."""
        return self.root == "/"

    def path(self, name: str) -> str:
        """Where the absolute ``name`` of the machine lies for us."""
        return name if self.live else os.path.join(self.root, name.lstrip("/"))

    def exists(self, name: str) -> bool:
        return os.path.exists(self.path(name))

    def is_dir(self, name: str) -> bool:
        return os.path.isdir(self.path(name))

    def read(self, name: str) -> str:
        """The text of a file; raises ``Unreadable`` when it is absent, forbidden, or the kernel refuses."""
        try:
            return self.read_bytes(name).decode("utf-8", "replace")
        except OSError as error:
            raise Unreadable(name, error.strerror or str(error)) from error

    def read_bytes(self, name: str) -> bytes:
        """The bytes of a file; raises ``OSError``."""
        with open(self.path(name), "rb") as stream:
            return stream.read()

    def read_if_there(self, name: str) -> str | None:
        """The stripped text of a file, or None when it cannot be read for whatever reason."""
        try:
            return self.read(name).strip()
        except Unreadable:
            return None

    def names(self, name: str) -> list[str]:
        """Sorted names in a folder; empty when it is absent or forbidden."""
        try:
            return sorted(os.listdir(self.path(name)))
        except OSError:
            return []

    def link_name(self, name: str) -> str | None:
        """Last part of what a symbolic link points to (``driver`` -> ``igb``), or None."""
        try:
            return os.path.basename(os.readlink(self.path(name)))
        except OSError:
            return None
