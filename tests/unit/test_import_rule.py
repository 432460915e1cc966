# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The import rule of docs/architecture.md, read from the source: who may know whom."""

from __future__ import annotations

import ast
import pkgutil
import sys
import sysconfig
from pathlib import Path

import pytest

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
UTILS = PLUGINS / "module_utils"

# What each part of module_utils may import of module_utils. All of them run on a managed host, or from the agent's
# zipapp, where there is the standard library only.
ALLOWED = {
    "model": {"model"},
    "host": {"model", "host"},
    "domains": {"model", "host"},
    "confirmed": {"model", "host", "domains"},
    "runner": {"model", "host", "domains", "confirmed"},
    "agent": {"model", "host", "domains", "confirmed", "runner"},
    "updater": {"model", "host"},
}

# Python 3.9 has no list of its own.
FOLDERS = [sysconfig.get_path("stdlib"), str(Path(sysconfig.get_path("stdlib")) / "lib-dynload")]
STDLIB = set(getattr(sys, "stdlib_module_names", ())) or {module.name for module in pkgutil.iter_modules(FOLDERS)} | set(sys.builtin_module_names)


def imported(source: str, where: tuple[str, ...]) -> set[str]:
    """The absolute names of all modules a file imports; ``where`` is the package of the file, below ``plugins``."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module or "")
            names |= {f"{node.module}.{alias.name}" for alias in node.names if (node.module or "").endswith("plugins")}
        elif isinstance(node, ast.ImportFrom):
            base = (*where[:len(where) - node.level + 1], *([node.module] if node.module else []))
            names |= {".".join(("plugins", *base))} if node.module else {".".join(("plugins", *base, alias.name)) for alias in node.names}
    return names


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    return imported(path.read_text(encoding="utf-8"), path.relative_to(PLUGINS).parent.parts)


def shown(path: Path) -> str:
    return str(path.relative_to(PLUGINS))


def part_of(path: Path) -> str:
    """The part of module_utils a file belongs to: its folder, or its own name."""
    return path.relative_to(UTILS).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", [path for path in files(UTILS) if part_of(path) in ALLOWED], ids=shown)
def test_each_part_knows_only_the_parts_below_it(path: Path) -> None:
    allowed = ALLOWED[part_of(path)]
    for name in imports_of(path):
        if name.startswith("plugins."):
            assert name.split(".")[1] == "module_utils" and name.split(".")[2] in allowed, f"{shown(path)} imports {name}"
        else:
            assert name.split(".")[0] in STDLIB, f"{shown(path)} imports {name}, which is not in the standard library"


@pytest.mark.parametrize("path", files(UTILS), ids=shown)
def test_imports_inside_module_utils_are_relative(path: Path) -> None:
    assert [name for name in imports_of(path) if name.startswith("ansible_collections")] == []


@pytest.mark.parametrize("path", files(PLUGINS), ids=shown)
def test_nothing_imports_a_module(path: Path) -> None:
    assert [name for name in imports_of(path) if ".plugins.modules." in f".{name}."] == []


def test_the_rule_looks_at_something() -> None:
    seen = {part_of(path) for path in files(UTILS)}
    assert {"model", "host"} <= seen


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("import os.path", {"os.path"}),
        ("from .cpuset import x", {"plugins.module_utils.model.cpuset"}),
        ("from . import cpuset", {"plugins.module_utils.model.cpuset"}),
        ("from ..host.machine import Host", {"plugins.module_utils.host.machine"}),
        ("from .. import host", {"plugins.module_utils.host"}),
        ("from ...modules import apply", {"plugins.modules"}),
        ("def f():\n    import yaml", {"yaml"}),
        ("from ansible_collections.a.b.plugins import modules", {"ansible_collections.a.b.plugins", "ansible_collections.a.b.plugins.modules"}),
    ],
)
def test_how_imports_are_read(line: str, names: set[str]) -> None:
    assert imported(line, ("module_utils", "model")) == names
