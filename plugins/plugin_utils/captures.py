# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Captured machines on the controller: which there are, and archives of them unpacked without a way out of their folder."""

from __future__ import annotations

import gzip
import os
import posixpath
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any

ENDINGS = (".tar.gz", ".tgz", ".tar")
# Of one archive: a host's files are some thousand small ones.
ENTRY_LIMIT = 300_000
FILE_LIMIT = 16 << 20
TOTAL_LIMIT = 256 << 20
_CHUNK = 1 << 16
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class CaptureError(ValueError):
    """A capture that cannot be used: which, why, and the remedy."""


@dataclass(frozen=True)
class Capture:
    """A machine by its name, and the folder or archive that it is in."""

    name: str
    path: str

    @property
    def is_archive(self) -> bool:
        return not os.path.isdir(self.path)


def found(paths: Iterable[str]) -> list[Capture]:
    """The captures of some paths, by name: each path is a tree, an archive, or a folder of both. Raises ``CaptureError``."""
    captures: dict[str, Capture] = {}
    for path in paths:
        there = list(_captures_in(os.path.abspath(path)))
        if not there:
            raise CaptureError(f"{path}: no captured tree (a folder with sys and proc) and no archive ({', '.join(ENDINGS)}) is there; "
                               "make one with scripts/capture")
        for capture in there:
            if not _NAME.fullmatch(capture.name):
                raise CaptureError(f"{capture.path}: {capture.name!r} cannot be the name of a host; rename it to the host's name in the inventory")
            if capture.name in captures:
                raise CaptureError(f"{capture.path}: {captures[capture.name].path} is the same host; leave one of the two out")
            captures[capture.name] = capture
    return [captures[name] for name in sorted(captures)]


def _captures_in(path: str) -> Iterator[Capture]:
    if is_tree(path):
        yield Capture(os.path.basename(path), path)
        return
    if os.path.isfile(path):
        yield from _archive(path)
        return
    for name in sorted(os.listdir(path)) if os.path.isdir(path) else ():
        below = os.path.join(path, name)
        if is_tree(below):
            yield Capture(name, below)
        elif os.path.isfile(below):
            yield from _archive(below)


def _archive(path: str) -> Iterator[Capture]:
    name = os.path.basename(path)
    ending = next((ending for ending in ENDINGS if name.endswith(ending)), "")
    if ending:
        yield Capture(name[: -len(ending)], path)


def is_tree(path: str) -> bool:
    """Whether a folder looks like the root of a machine."""
    return os.path.isdir(os.path.join(path, "sys")) or os.path.isdir(os.path.join(path, "proc"))


def opened(capture: Capture, place: str) -> str:
    """The folder with the machine's sys and proc; an archive is unpacked to a new folder ``place``. Raises ``CaptureError``."""
    if not capture.is_archive:
        return capture.path
    try:
        unpack(capture.path, place)
    except (OSError, EOFError, tarfile.TarError, gzip.BadGzipFile) as error:
        raise CaptureError(f"{capture.path}: cannot be unpacked ({error}); capture the host again") from error
    if is_tree(place):
        return place
    inside = [os.path.join(place, name) for name in os.listdir(place)]
    if len(inside) == 1 and not os.path.islink(inside[0]) and is_tree(inside[0]):
        return inside[0]
    raise CaptureError(f"{capture.path}: holds neither sys nor proc; make it with scripts/capture")


class _Limited:
    """A stream that ends with an error after so many bytes: an archive may be far larger than its file."""

    def __init__(self, stream: IO[bytes], path: str) -> None:
        self.stream, self.path, self.left = stream, path, TOTAL_LIMIT

    def read(self, size: int = -1) -> bytes:
        data = self.stream.read(min(size, self.left + 1) if size >= 0 else self.left + 1)
        self.left -= len(data)
        if self.left < 0:
            raise CaptureError(f"{self.path}: unpacks to more than {TOTAL_LIMIT >> 20} MiB, which no capture does; it is not unpacked further")
        return data


def unpack(archive: str, place: str) -> None:
    """Unpack folders, files and links below ``place``, which is made. Raises ``CaptureError``, ``OSError`` or ``tarfile.TarError``.

    No name and no link leads out of it: an absolute link of the machine is made a relative one inside of the tree. Owners, special
    files and set-user-ID bits are left out. What is read is bounded.
    """
    os.makedirs(place, mode=0o700)
    with open(archive, "rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        stream: Any = _Limited(gzip.open(raw) if packed else raw, archive)  # noqa: SIM115
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for number, member in enumerate(tar):
                if number >= ENTRY_LIMIT:
                    raise CaptureError(f"{archive}: has more than {ENTRY_LIMIT} entries, which no capture has")
                _unpack_member(archive, tar, member, place)


def _unpack_member(archive: str, tar: tarfile.TarFile, member: tarfile.TarInfo, place: str) -> None:
    name = posixpath.normpath(member.name)
    if name == ".":
        return
    if name.startswith(("/", "../")) or name == ".." or "\0" in name:
        raise CaptureError(f"{archive}: {member.name!r} lies outside of the tree; it is not unpacked")
    path = os.path.join(place, name)
    _make_folders(archive, place, posixpath.dirname(name))
    if member.isdir():
        _make_folders(archive, place, name)
    elif os.path.lexists(path):
        raise CaptureError(f"{archive}: {member.name!r} is there twice; it is not unpacked")
    elif member.issym():
        os.symlink(inside(archive, name, member.linkname), path)
    elif member.isreg() or member.islnk():
        _write(archive, tar, member, place, path)


def inside(archive: str, name: str, target: str) -> str:
    """The text of a link ``name`` that leads to ``target``, relative and free of ``..`` but at its beginning; raises ``CaptureError`` for one that leads out.

    So a chain of such links stays inside as well.
    """
    folder = posixpath.dirname(name)
    meant = posixpath.normpath(target.lstrip("/") if target.startswith("/") else posixpath.join(folder, target))
    if meant == ".." or meant.startswith("../") or "\0" in target or not target:
        raise CaptureError(f"{archive}: the link {name!r} leads out of the tree, to {target!r}; it is not unpacked")
    return posixpath.relpath(meant, folder or ".")


def _make_folders(archive: str, place: str, name: str) -> None:
    """Make folders below ``place``; raises ``CaptureError`` where something else stands in their place, such as a link."""
    path = place
    for part in name.split("/") if name else ():
        path = os.path.join(path, part)
        if os.path.islink(path) or (os.path.lexists(path) and not os.path.isdir(path)):
            raise CaptureError(f"{archive}: {name!r} goes through something that is no folder; it is not unpacked")
        if not os.path.isdir(path):
            os.mkdir(path, 0o755)


def _write(archive: str, tar: tarfile.TarFile, member: tarfile.TarInfo, place: str, path: str) -> None:
    """One file, or the copy of one that a hard link names; the permission bits stay, and its owner can read it."""
    if member.size > FILE_LIMIT:
        raise CaptureError(f"{archive}: {member.name!r} has {member.size} bytes, more than the {FILE_LIMIT >> 20} MiB that a file of a capture may have")
    if member.islnk():
        first = posixpath.normpath(member.linkname)
        if first.startswith(("/", "..")):
            raise CaptureError(f"{archive}: {member.name!r} is {member.linkname!r}, which lies outside of the tree; it is not unpacked")
        _make_folders(archive, place, posixpath.dirname(first))
        source: Any = open(os.open(os.path.join(place, first), os.O_RDONLY | os.O_NOFOLLOW), "rb")  # noqa: SIM115
    else:
        source = tar.extractfile(member)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with source, os.fdopen(descriptor, "wb") as target:
        for chunk in iter(lambda: source.read(_CHUNK), b""):
            target.write(chunk)
        os.fchmod(target.fileno(), member.mode & 0o777 | 0o400)
