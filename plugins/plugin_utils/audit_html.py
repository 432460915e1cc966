# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as one page: HTML, CSS and JavaScript in one file that needs nothing else, and may load nothing else. No Ansible.

The page holds the report as data, in which equal texts, settings and machines are there once; its script draws what is looked at.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_core_map import core_map
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_document import HOST_VERDICTS, VERDICTS
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_history import PARTS
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.report import printable, waiver_text

_HERE = Path(__file__).resolve().parent


def page(report: Mapping[str, Any], changes: Mapping[str, Any] | None = None) -> str:
    """The page. Its policy allows exactly this script, so that whatever a host calls itself stays text."""
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("audit_page.css", "audit_page.js"))
    digests = {kind: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for kind, text in (("style", style), ("script", script))}
    policy = f"default-src 'none'; style-src 'sha256-{digests['style']}'; script-src 'sha256-{digests['script']}'; base-uri 'none'; form-action 'none'"
    totals = "; ".join(f"{what}: " + (", ".join(f"{number} {key}" for key, number in report["totals"][what].items() if number) or "none")
                       for what in ("hosts", "settings"))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Audit of the fleet, {_text(report['when']['ended'])}</title>
<style>{style}</style>
</head>
<body>
<h1>Audit of the fleet</h1>
<p>{_text(report['when']['started'])} to {_text(report['when']['ended'])}, mode {_text(report['mode'])}. {_text(totals)}.</p>
<noscript><p>The table needs JavaScript, of this file only; audit.md and audit.json have the same without.</p></noscript>
<main id="page"></main>
<script type="application/json" id="data">{_data(payload(report, changes))}</script>
<script>{script}</script>
</body>
</html>
"""


class _Pool:
    """Values by number, equal ones once."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._known: dict[Any, int] = {}

    def number(self, key: Any, value: Any = None) -> int:
        if key not in self._known:
            self._known[key] = len(self.values)
            self.values.append(key if value is None else value)
        return self._known[key]


def payload(report: Mapping[str, Any], changes: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the script reads: ``texts``; ``rows`` of numbers of texts (-1 for none) and of the verdict; ``hosts`` of numbers of rows; ``machines``."""
    texts, rows, machines = _Pool(), _Pool(), _Pool()
    numbers: dict[int, int] = {}
    hosts = []
    for name, host in report["hosts"].items():
        for setting in host["settings"]:
            if id(setting) not in numbers:
                row = _row(setting, texts)
                numbers[id(setting)] = rows.number(row, list(row))
        machine = host["machine"]
        problem = printable(host["problem"]["message"]) if host["problem"] else ""
        # a host is chosen by its name, so no two may look alike
        hosts.append([printable(name.replace("\\", "\\\\")), HOST_VERDICTS.index(host["verdict"]), problem,
                      [numbers[id(setting)] for setting in host["settings"]],
                      -1 if machine is None else machines.number(json.dumps(machine), machine),
                      [texts.number(_lines(part[key])) for part in host["diffs"] for key in ("header", "before", "after")]])
    return {
        "verdicts": VERDICTS, "host_verdicts": HOST_VERDICTS, "texts": texts.values, "rows": rows.values, "hosts": hosts,
        "machines": [core_map(machine) for machine in machines.values],
        "parts": PARTS, "controls": report["controls"], "problems": list(map(printable, report["problems"])),
        "waivers": [[printable(str(cell)) for cell in _waiver(waiver)] for waiver in report["waivers"]],
        "changes": None if changes is None else {key: list(map(printable, value)) if isinstance(value, list) else value for key, value in changes.items()},
    }


def _row(setting: Mapping[str, Any], texts: _Pool) -> tuple[int, ...]:
    """control, name, current, desired, persisted, reason, fix, waiver (numbers of texts), verdict."""
    told = (setting["control"], setting["name"], setting["current"], setting["desired"], setting["persisted"], setting["reason"] or None,
            setting.get("fix"), waiver_text(setting["waiver"]) or "no reason is given" if "waiver" in setting else None)
    return (*(-1 if text is None else texts.number(printable(text)) for text in told), VERDICTS.index(setting["verdict"]))


def _waiver(waiver: Mapping[str, Any]) -> Iterable[Any]:
    until = f"{waiver['expires'] or ''}{' (expired)' if waiver['expired'] else ''}"
    return (waiver["control"], waiver["name"], ", ".join(waiver["hosts"]), waiver["reason"], waiver["owner"], until, waiver["used"])


def _lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


def _data(value: Any) -> str:
    """JSON in ASCII that no HTML parser takes for markup."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _text(text: str) -> str:
    return html.escape(printable(text))
