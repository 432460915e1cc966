# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of reports: written whole or not at all, read with a message instead of a crash, kept by date and compared."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_document import (
    CHANGED,
    DRIFTED,
    ERROR,
    FAILED,
    OK,
    UNJUDGED,
    UNREACHABLE,
    WAIVED,
    ReportError,
    json_text,
    loaded,
)
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.report import printable, sentence

_NAME = re.compile(r"\d{8}T\d{6}Z(-\d+)?\.json")

# What a comparison tells, in this order.
PARTS = {
    "new_drift": "new drift", "fixed": "no longer drifted", "waived": "waived since then", "untold": "drifted then, not known now",
    "new_errors": "new errors", "errors_gone": "errors gone", "come": "hosts that are new", "gone": "hosts that are gone",
}


def written_whole(path: Path, text: str) -> None:
    """Write a file so that nobody ever sees half of it. Raises ``ReportError`` where the folder cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o666 & ~_umask())
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
    except OSError as error:
        raise ReportError(f"{path}: cannot be written ({error.strerror}); give a folder that this user may write") from None


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def report_at(path: Path) -> dict[str, Any]:
    """The report of a JSON file; raises ``ReportError``."""
    return loaded(text_at(path), str(path))


def text_at(path: Path) -> str:
    """The text of a file; raises ``ReportError``."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ReportError(f"{path}: is no text ({error.reason} at byte {error.start}); make it again") from None
    except OSError as error:
        raise ReportError(f"{path}: cannot be read ({error.strerror})") from None


# --- kept by date -----------------------------------------------------------------------------------------------------

def kept(folder: Path, report: Mapping[str, Any]) -> Path:
    """Keep a report under its date; a second one of the same second gets a number. Returns the path."""
    stem = re.sub(r"[-:]", "", report["when"]["ended"])
    path, number = folder / f"{stem}.json", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}-{number}.json"
    written_whole(path, json_text(report))
    return path


def kept_paths(folder: Path) -> list[Path]:
    """The reports of a folder, oldest first; other files are none of them."""
    try:
        found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ReportError(f"{folder}: cannot be read ({error.strerror})") from None
    return sorted(found, key=lambda path: (path.name[:16], int(path.stem[17:] or 1)))


def last_of(paths: Iterable[Path]) -> tuple[dict[str, Any] | None, list[str]]:
    """The last report that can be read, and in words what is wrong with those after it."""
    problems = []
    for path in reversed(list(paths)):
        try:
            return report_at(path), problems
        except ReportError as error:
            problems.append(str(error))
    return None, problems


# --- compared ---------------------------------------------------------------------------------------------------------

def compared(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """What changed: ``{since, until, same, **PARTS}``, each part a list of lines, sorted.

    Drift is gone only where the new report says that it is right: a host or a setting that nobody could judge is told apart.
    """
    changes: dict[str, list[str]] = {part: [] for part in PARTS}
    for host in sorted({*old["hosts"], *new["hosts"]}):
        before, after = old["hosts"].get(host), new["hosts"].get(host)
        if before is None or after is None:
            there = after or before
            changes["come" if before is None else "gone"].append(f"{host}: {there['verdict']}, {there['counts'][DRIFTED]} drifted")
        else:
            _compare_host(host, before, after, changes)
    return {"since": old["when"]["ended"], "until": new["when"]["ended"], "same": not any(changes.values()), **changes}


def _compare_host(host: str, before: Mapping[str, Any], after: Mapping[str, Any], changes: dict[str, list[str]]) -> None:
    was = {(setting["control"], setting["name"]): setting for setting in before["settings"]}
    now = {(setting["control"], setting["name"]): setting for setting in after["settings"]}
    for key in [*now, *(key for key in was if key not in now)]:
        part = _part(was[key]["verdict"] if key in was else None, now[key]["verdict"] if key in now else None)
        if part:
            changes[part].append(f"{host}: {_told(now.get(key) or was[key], key in now)}")
    problems = [f"{host}: {side['verdict']}: {(side['problem'] or {}).get('message', 'nothing was judged')}"
                if side["verdict"] in (UNREACHABLE, FAILED, UNJUDGED) else "" for side in (before, after)]
    if problems[0] != problems[1]:
        changes["new_errors"] += [problems[1]] if problems[1] else []
        changes["errors_gone"] += [problems[0]] if problems[0] and not problems[1] else []


def _part(was: str | None, now: str | None) -> str:
    """The part of a comparison that a setting belongs to, by its verdicts; empty for none."""
    if was == now:
        return ""
    if now == DRIFTED:
        return "new_drift"
    if now == WAIVED:
        return "waived"
    if now == ERROR:
        return "new_errors"
    if was in (DRIFTED, WAIVED):
        return "fixed" if now in (OK, CHANGED) else "untold"
    if was == ERROR:
        return "errors_gone" if now is not None else "untold"
    return ""


def _told(setting: Mapping[str, Any], there: bool) -> str:
    text = sentence({**setting, "state": setting["verdict"]}) if setting["verdict"] not in (OK, CHANGED) else f"{setting['name']} is {setting['current']}"
    return text if there else f"{text} (no longer in the report)"


def change_lines(changes: Mapping[str, Any]) -> Iterator[str]:
    """A comparison as lines of text, safe for a terminal."""
    if changes["same"]:
        yield f"nothing changed since {changes['since']}"
        return
    yield f"since {changes['since']}:"
    for part, title in PARTS.items():
        for line in changes[part]:
            yield f"  {title}: {printable(line)}"
