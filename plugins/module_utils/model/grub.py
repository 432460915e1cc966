# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What GRUB's own files say: menu entries of grub.cfg, boot loader specification entries, grubenv. Pure: no I/O.

Source: the GRUB manual (menuentry, submenu, default, grubenv), the Boot Loader Specification, grub-mkconfig's 00_header.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from .setting import SpecError

_LINUX = re.compile(r"^\s*(linux|linux16|linuxefi)\s+(\S+)\s*(.*?)\s*$")
_ENV_HEADER = "# GRUB Environment Block"


class LoaderError(SpecError):
    """A boot loader's configuration that this collection does not understand, or must not touch."""


@dataclass(frozen=True)
class Entry:
    """One menu entry: ``lines`` are those between its braces; a submenu has ``children`` instead."""

    title: str
    identity: str
    lines: tuple[str, ...] = ()
    children: tuple[Entry, ...] = ()
    unrestricted: bool = False

    @property
    def kernel(self) -> str:
        """The kernel's file, as GRUB sees it; empty for an entry that boots no Linux."""
        return next((match[2] for match in map(_LINUX.match, self.lines) if match), "")

    @property
    def tokens(self) -> tuple[str, ...]:
        """The kernel's arguments, as they stand there."""
        return next((tuple(match[3].split()) for match in map(_LINUX.match, self.lines) if match), ())

    def with_tokens(self, tokens: Sequence[str]) -> Entry:
        """The same entry with other arguments for the kernel; where it has several kernel lines, each keeps what only it has."""
        lines = []
        for line in self.lines:
            match = _LINUX.match(line)
            lines.append(f"\t{match[1]}\t{match[2]} {' '.join(self._changed(match[3].split(), tokens))}" if match else line)
        return replace(self, lines=tuple(lines))

    def _changed(self, line: Sequence[str], tokens: Sequence[str]) -> Sequence[str]:
        if tuple(line) == self.tokens:
            return tokens
        kept = [token for token in line if token in tokens or token not in self.tokens]
        return [*kept, *(token for token in tokens if token not in self.tokens)]


def entries(text: str) -> tuple[Entry, ...]:
    """The menu of a grub.cfg, submenus with their children; raises ``LoaderError``."""
    stack: list[tuple[list[str] | None, list[Entry], list[str]]] = [(None, [], [])]
    for line in text.splitlines():
        words = _words(line)
        if words and words[0] in ("menuentry", "submenu") and words[-1] == "{":
            stack.append((words, [], []))
        elif words and words[-1] == "{":
            stack.append((None, [], []))
        elif words == ["}"] and len(stack) > 1:
            header, children, lines = stack.pop()
            if header is not None:
                stack[-1][1].append(_entry(header, children, lines))
        else:
            stack[-1][2].append(line)
    if len(stack) != 1:
        raise LoaderError("grub.cfg: a brace is open at its end; run update-grub by hand and look at what it says")
    return tuple(stack[0][1])


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return []


def _entry(header: Sequence[str], children: Iterable[Entry], lines: Iterable[str]) -> Entry:
    after = next((number + 1 for number, word in enumerate(header) if word in ("$menuentry_id_option", "--id")), 0)
    title = header[1] if len(header) > 2 else ""
    return Entry(title, header[after] if 0 < after < len(header) - 1 else title, tuple(lines), tuple(children), "--unrestricted" in header)


def environment(text: str) -> dict[str, str]:
    """The variables of a grubenv file."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {name: value for name, equals, value in (line.partition("=") for line in lines) if equals}


def default_choice(text: str, variables: Mapping[str, str]) -> str:
    """What ``set default`` of a grub.cfg comes to when no entry is asked for once."""
    found = re.findall(r'^\s*set default="?([^"\n]*)"?\s*$', text, re.MULTILINE)
    chosen = next((value for value in found if "next_entry" not in value), "0")
    match = re.fullmatch(r"\$\{?(\w+)\}?", chosen)
    return (variables.get(match[1], "") if match else chosen) or "0"


def chosen_entry(menu: Sequence[Entry], choice: str) -> Entry:
    """The entry that ``choice`` means: a number, an id or a title, with ``>`` into submenus; GRUB takes the first for what it does not find.

    Raises ``LoaderError`` when that entry boots no Linux.
    """
    here, rest = choice.partition(">")[::2]
    found = next((entry for number, entry in enumerate(menu) if here in (entry.identity, entry.title) or here == str(number)), None)
    if found is None and menu:
        found, rest = menu[0], ""
    if found is not None and found.children:
        return chosen_entry(found.children, rest or "0")
    if found is None or not found.kernel:
        raise LoaderError(f"the entry that boots by default ({choice}) boots no Linux kernel; choose another default")
    return found


def trial_config(entry: Entry, identity: str, tokens: Sequence[str]) -> str:
    """A custom.cfg with one entry that boots as ``entry`` does, but for its arguments."""
    options = f"--id {identity}" + (" --unrestricted" if entry.unrestricted else "")
    body = "\n".join(entry.with_tokens(tokens).lines)
    return (f"# Owned by lowlatency.fleet: an entry that is booted once, on trial. It goes when the trial is over.\n"
            f"menuentry 'Low-latency trial' {options} {{\n{body}\n}}\n")


# --- Boot Loader Specification ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BlsEntry:
    """One file of /boot/loader/entries: its ``name`` without ``.conf``, and its lines as ``(key, value)``."""

    name: str
    lines: tuple[tuple[str, str], ...]

    def value(self, key: str) -> str:
        """The value of a key, empty where the entry has none."""
        return next((value for known, value in self.lines if known == key), "")

    def tokens(self, variables: Mapping[str, str]) -> tuple[str, ...]:
        """The kernel's arguments, with the variables of grubenv (``$kernelopts``, ``$tuned_params``) in their places."""
        expanded = re.sub(r"\$\{?(\w+)\}?", lambda match: variables.get(match[1], ""), self.value("options"))
        return tuple(expanded.split())

    def text(self, **changed: str) -> str:
        """The file with other values for some keys."""
        return "".join(f"{key} {changed.get(key, value)}".rstrip() + "\n" for key, value in self.lines)


def bls_entry(name: str, text: str) -> BlsEntry:
    """One entry file; comments and blank lines are left out."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    return BlsEntry(name, tuple((line.split(None, 1)[0], (line.split(None, 1)[1:] or [""])[0]) for line in lines))


def chosen_bls(found: Sequence[BlsEntry], choice: str) -> BlsEntry:
    """The entry that ``saved_entry`` means (its file name, title or number), the newest where it means none. Raises ``LoaderError``."""
    ordered = sorted(found, key=lambda entry: _version(entry.name), reverse=True)
    for number, entry in enumerate(ordered):
        if choice in (entry.name, entry.value("title"), str(number)):
            return entry
    if not ordered:
        raise LoaderError("/boot/loader/entries: holds no entry; reinstall the kernel package")
    return ordered[0]


def _version(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts file names as rpm and GRUB do: part by part, numbers by their value and above words."""
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in re.findall(r"\d+|[a-zA-Z]+", name)]
