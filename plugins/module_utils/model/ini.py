# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of sections and ``key=value`` lines as tuned, NetworkManager and systemd read them; what is no such line is left out. Pure: no I/O.

Source: tuned.conf(5), nm-settings-keyfile(5), systemd.syntax(7).
"""

from __future__ import annotations

from collections.abc import Iterator

Entry = tuple[str, str, str]


def joined_lines(text: str) -> Iterator[str]:
    """The lines of a text, those that end with a backslash together with the next."""
    pending = ""
    for line in text.splitlines():
        if line.endswith("\\"):
            pending += line[:-1] + " "
        else:
            yield pending + line
            pending = ""
    if pending:
        yield pending


def entries(text: str) -> list[Entry]:
    """``(section, key, value)`` in the order of the text; keys may repeat, and what precedes the first section has the section ``""``."""
    found, section = [], ""
    for line in joined_lines(text):
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1].strip()
        elif "=" in line and line[0] not in "#;=":
            key, _equals, value = line.partition("=")
            found.append((section, key.strip(), value.strip()))
    return found
