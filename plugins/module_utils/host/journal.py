# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The originals of everything this collection ever wrote on a machine, one JSON object a line.

The first original of a thing counts and is never overwritten; all are on disk before the first write.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable
from typing import Any

from ..model.setting import OwnedFile, Setting
from .files import sync_folder
from .machine import Host

JOURNAL = "/var/lib/lowlatency/journal.jsonl"


class BrokenJournal(Exception):
    """The journal holds a line that is not a record, other than a last one cut short."""


def records(host: Host) -> list[dict[str, Any]]:
    """All records, oldest first. A last line without its newline is a write that was cut short: it does not count."""
    try:
        text = host.read_bytes(JOURNAL).decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    complete = text[: text.rfind("\n") + 1]
    return [_record(line, number) for number, line in enumerate(complete.splitlines(), start=1)]


def _record(line: str, number: int) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(line)
    except ValueError as error:
        raise BrokenJournal(f"{JOURNAL} line {number}: {error}; move the file away to go on without its originals") from error
    key = record.get("key") if isinstance(record, dict) and "kind" in record else None
    if not isinstance(key, list) or not all(isinstance(part, str) for part in key):
        raise BrokenJournal(f"{JOURNAL} line {number}: not a record; move the file away to go on without its originals")
    return record


def remember(host: Host, settings: Iterable[tuple[str, Setting]], files: Iterable[OwnedFile], when: str) -> None:
    """Append the originals not yet known of ``(domain, setting)`` pairs and files; on disk when it returns."""
    known = {(record["kind"], tuple(record["key"])) for record in records(host)}
    wanted = [_setting_record(domain, setting, when) for domain, setting in settings]
    wanted += [_file_record(host, file, when) for file in files]
    lines = []
    for record in wanted:
        identity = (record["kind"], tuple(record["key"]))
        if identity not in known:
            known.add(identity)
            lines.append(json.dumps(record, sort_keys=True) + "\n")
    if lines:
        _append(host, "".join(lines))


def _setting_record(domain: str, setting: Setting, when: str) -> dict[str, Any]:
    return {"kind": "setting", "key": [domain, setting.control, setting.name], "original": setting.current,
            "persisted": setting.persisted, "when": when}


def _file_record(host: Host, file: OwnedFile, when: str) -> dict[str, Any]:
    record: dict[str, Any] = {"kind": "file", "key": [file.path], "original": None, "when": when}
    try:
        status = os.stat(host.path(file.path))
    except FileNotFoundError:
        return record
    record["original"] = base64.b64encode(host.read_bytes(file.path)).decode()
    record.update(mode=status.st_mode & 0o7777, uid=status.st_uid, gid=status.st_gid)
    return record


def _append(host: Host, text: str) -> None:
    path = host.path(JOURNAL)
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+b") as stream:
        stream.truncate(_end_of_last_line(stream.read()))
        stream.seek(0, os.SEEK_END)
        stream.write(text.encode())
        stream.flush()
        os.fsync(stream.fileno())
    sync_folder(folder)


def _end_of_last_line(content: bytes) -> int:
    return content.rfind(b"\n") + 1
