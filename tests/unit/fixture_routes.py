# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Captured routes of many kinds, as iproute2 of two Debian releases shows them, and a program that answers with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import routes as host_routes
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.programs import ProgramFailed
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.routes import (
    Found,
    Route,
    RoutesState,
    entry_problems,
    selected,
)

_CAPTURED: dict[str, dict[str, dict[str, str]]] = yaml.safe_load((Path(__file__).parent / "data/routes.yml").read_text(encoding="utf-8"))
VERSIONS = tuple(_CAPTURED)


class Shown:
    """``ip`` as a script of answers: what it shows by default is captured, what it is told is written down."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, version: str = VERSIONS[0]) -> None:
        self.version, self.asked, self.changes = version, 0, []  # type: tuple[str, int, list[str]]  # type: ignore[misc]
        self.replaced: dict[str, str] = {}
        monkeypatch.setattr(host_routes, "output_of", self.output_of)

    def output_of(self, *command: str) -> str:
        if "change" in command:
            self.changes.append(" ".join(command))
            return ""
        self.asked += 1
        family, table = next(word[1:] for word in command if word in ("-4", "-6")), command[command.index("table") + 1]
        shown = _CAPTURED[self.version].get(f"{family} {table}")
        if shown is None:
            raise ProgramFailed(f"ip: exit code 2: Error: ipv{family}: FIB table does not exist.\nDump terminated")
        text = shown["json"] if "-j" in command else "".join(f"{line[1:]}\n" for line in shown["text"].splitlines())
        for old, new in self.replaced.items():
            text = text.replace(old, new)
        return text


def captured(monkeypatch: pytest.MonkeyPatch, version: str, family: int, table: str = "main") -> tuple[Route, ...]:
    """The captured routes of a family and table."""
    Shown(monkeypatch, version)
    return host_routes.routes(family, table, ())


def state_of(spec: dict[str, Any], routes: tuple[Route, ...], protected: dict[str, str] | None = None) -> RoutesState:
    """What a specification selects of some routes."""
    return RoutesState(tuple(Found() if entry_problems(entry) else Found(selected(entry, routes), routes) for entry in spec["routes"]), protected or {})
