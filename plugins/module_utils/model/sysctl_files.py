# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What else sets sysctl keys: files of sysctl.d with their patterns, commands in scripts, tuned and ufw. Pure: no I/O.

Source: sysctl.d(5), sysctl(8), tuned's plugin sysctl, ufw-framework(8).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from .competitors import Competitor
from .ini import joined_lines
from .tuned import TunedUnit

CONTROL = "sysctl.competitor"
_PATTERN = re.compile(r"[*?[]")
_SYSCTL = re.compile(r"(?<![\w./-])(?:/usr)?(?:/s?bin/)?sysctl\s+([^;&|\n]*)")
_ECHO = re.compile(r"\b(?:echo|printf)\s+(?:-\w+\s+)*(\"[^\"]*\"|'[^']*'|[^\s>|]+)\s*>\s*[\"']?/proc/sys/([\w./@:-]+)")
_TUNED_REMEDY = "take it out of the profile's section [sysctl], or say reapply_sysctl = 1 in /etc/tuned/tuned-main.conf"
_TEE = re.compile(r"\btee\b[^;&|\n]*?\s[\"']?/proc/sys/([\w./@:-]+)")


@dataclass(frozen=True)
class Statement:
    """One line of a sysctl.d file: a key or a pattern of keys, and its value; None excludes the key from patterns."""

    key: str
    value: str | None


@dataclass(frozen=True)
class Later:
    """What a boot sets after the files of sysctl.d: the key, the value, who does it, and the remedy."""

    key: str
    value: str
    who: str
    remedy: str


def normalised(value: object) -> str:
    """A value as the kernel prints it, vectors with single blanks."""
    return " ".join(str(value).split())


def dotted(key: str) -> str:
    """A key in the form sysctl(8) prints: ``net/ipv4/conf/eth0.7/rp_filter`` -> ``net.ipv4.conf.eth0/7.rp_filter``."""
    key = key.strip()
    first = next((char for char in key if char in "./"), ".")
    return key.translate(str.maketrans("./", "/.")) if first == "/" else key


def statements(text: str) -> Iterator[Statement]:
    """The lines of a sysctl.d file; ``-`` before an assignment only means that a failure does not matter."""
    for line in map(str.strip, text.splitlines()):
        key, equals, value = line.partition("=")
        name = dotted(key.strip().lstrip("-"))
        if name and line[0] not in "#;" and (equals or line.startswith("-")):
            yield Statement(name, normalised(value) if equals else None)


def assignments(text: str) -> dict[str, str]:
    """Keys and values of a sysctl.d file, without those of patterns."""
    return {line.key: line.value for line in statements(text) if line.value is not None and not _PATTERN.search(line.key)}


def at_boot(files: Iterable[tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """``{key: (value, path)}`` of the keys that are named, from ``(path, text)`` in the order they are read: the last one wins."""
    winners: dict[str, tuple[str, str]] = {}
    for path, text in files:
        winners.update({key: (value, path) for key, value in assignments(text).items()})
    return winners


def value_at_boot(files: Iterable[tuple[str, str]], key: str) -> tuple[str | None, str]:
    """What the files of sysctl.d leave of one key, and which of them: a key that is named, or excluded, is left alone by patterns."""
    named: tuple[str | None, str] | None = None
    by_pattern: dict[str, tuple[str | None, str]] = {}
    for path, text in files:
        for line in statements(text):
            if line.key == key:
                named = (line.value, path)
            elif line.value is not None and _PATTERN.search(line.key) and _fits(line.key, key):
                by_pattern.pop(line.key, None)
                by_pattern[line.key] = (line.value, path)
    return named or next(reversed(by_pattern.values()), (None, ""))


def _fits(pattern: str, key: str) -> bool:
    """As glob(7) matches paths: a star ends at a slash."""
    parts, wanted = pattern.split("."), key.split(".")
    return len(parts) == len(wanted) and all(fnmatchcase(part, name) for name, part in zip(parts, wanted))


def commands(text: str) -> Iterator[tuple[str, str | None]]:
    """``(key, value)`` of the commands of a script, a unit or a crontab; None where the value is not to be seen."""
    if "sysctl" not in text and "/proc/sys/" not in text:
        return
    for line in joined_lines(text):
        line = re.sub(r"(?:^|\s)#.*$", "", line)
        for match in _SYSCTL.finditer(line):
            yield from _words(match.group(1))
        for match in _ECHO.finditer(line):
            yield _key_of(match.group(2)), _literal(match.group(1).strip("\"'"))
        for match in _TEE.finditer(line):
            yield _key_of(match.group(1)), None


def _words(text: str) -> Iterator[tuple[str, str | None]]:
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    for word in words:
        key, equals, value = word.partition("=")
        if equals and not key.startswith("-"):
            yield dotted(key), _literal(value)


def _literal(value: str) -> str | None:
    return None if "$" in value or "`" in value else normalised(value)


def _key_of(path: str) -> str:
    return path.translate(str.maketrans("./", "/."))


def script_competitors(path: str, text: str, how: str, wanted: Mapping[str, str]) -> list[Competitor]:
    """What a script, unit or crontab sets of keys that are wanted otherwise."""
    said = [f"{key} = {'another value' if value is None else value}" for key, value in commands(text) if key in wanted and value != wanted[key]]
    return [Competitor(CONTROL, path, f"{how or 'runs'} sysctl: {', '.join(dict.fromkeys(said))}", "take the command out, or the file away")] if said else []


def file_competitor(path: str, text: str, wanted: Mapping[str, str]) -> list[Competitor]:
    """What a file that only sysctl(8) reads, never a boot, sets of keys that are wanted otherwise."""
    said = [f"{key} = {value}" for key, value in sorted(assignments(text).items()) if wanted.get(key, value) != value]
    return [Competitor(CONTROL, path, f"sysctl -p and sysctl --system set {', '.join(said)}", "take these keys out of it")] if said else []


def tuned_sysctls(units: Iterable[TunedUnit], active: str) -> tuple[list[Later], list[tuple[str, str]]]:
    """What the active profiles set: values that are certain, and ``(key, words)`` of those that tuned computes or sets on a condition."""
    later: list[Later] = []
    uncertain: list[tuple[str, str]] = []
    for unit in units:
        for key, value in unit.options.items() if unit.plugin == "sysctl" and unit.enabled else ():
            value = normalised(value.strip("\"'"))
            if "${" in value or value[:1] in "<>=":
                uncertain.append((dotted(key), value))
            else:
                later.append(Later(dotted(key), value, f"tuned profile {active}", _TUNED_REMEDY))
    return later, uncertain
