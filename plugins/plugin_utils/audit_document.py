# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as one document: what every host said of its settings, what could not be told of it, and what is allowed to be as it is.

No I/O, and no Ansible. Equal settings of several hosts are one object, which nobody changes: a fleet says the same of itself again and again.
``document`` tells the shape; everything but the hosts, ``when``, ``mode`` and the waivers follows from the hosts, so that reports can be merged.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_core_map import machine_of
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.report import fix, why

FORMAT, VERSION = "lowlatency.fleet.audit", 1

OK, CHANGED, DRIFTED, WAIVED, UNSUPPORTED, ERROR = VERDICTS = ("ok", "changed", "drifted", "waived", "unsupported", "error")
UNREACHABLE, FAILED, UNJUDGED = "unreachable", "failed", "unjudged"
# The verdict on a host is the first of these that is true of it.
HOST_VERDICTS = (UNREACHABLE, FAILED, ERROR, DRIFTED, WAIVED, CHANGED, OK, UNJUDGED)
# Of such a host, or setting, nobody knows whether it is right.
UNTOLD = (UNREACHABLE, FAILED, ERROR, UNJUDGED)
CHECK, REAL, MIXED = "check", "real", "mixed"

# No value of a host may fill the report, and the disk: what is longer is cut, and says so.
LONGEST, LONGEST_DIFF = 8192, 131072

Entry = dict[str, Any]
Waiver = Mapping[str, Any]
WaiverFor = Callable[[str, "Row"], "Waiver | None"]


class ReportError(ValueError):
    """A report, or a file for one, that cannot be used; names the file or value and the remedy."""


class Row(NamedTuple):
    """A setting as its module returned it, as text; None means there is none."""

    control: str
    name: str
    desired: str | None
    current: str | None
    persisted: str | None
    state: str
    reason: str
    needs_reboot: bool
    finding: bool


@dataclass
class Seen:
    """What was heard of one host: settings by (control, name), the problem ``{kind, message}``, diffs, and the machine."""

    settings: dict[tuple[str, str], Row] = field(default_factory=dict)
    problem: dict[str, str] | None = None
    diffs: list[dict[str, str]] = field(default_factory=list)
    machine: dict[str, Any] | None = None
    answered: bool = False


class Collected:
    """What a run heard, host by host. Whatever a module returned is taken as text; nothing of it is trusted."""

    def __init__(self) -> None:
        self.hosts: dict[str, Seen] = {}
        self._rows: dict[Row, Row] = {}

    def expect(self, hosts: Iterable[str]) -> None:
        """Hosts that the run is about: they are in the report, whatever becomes of them."""
        for host in hosts:
            self._seen(host)

    def result(self, host: str, result: Mapping[str, Any]) -> None:
        """A result of any module: its settings, its diff, and the topology and plan of the host, if it has them. The last word counts."""
        settings, differences = result.get("settings"), result.get("diff")
        if isinstance(settings, list):
            seen = self._seen(host)
            seen.answered = True
            for row in (self.row(setting) for setting in settings if isinstance(setting, Mapping)):
                seen.settings[row.control, row.name] = row
        if isinstance(settings, list) and differences:
            parts = differences if isinstance(differences, list) else [differences]
            self._seen(host).diffs += [_diff(part) for part in parts if isinstance(part, Mapping) and part.get("before") != part.get("after")]
        machine = machine_of(result) if isinstance(result.get("topology"), Mapping) else None
        if machine:
            self._seen(host).machine = machine

    def problem(self, host: str, kind: str, message: Any) -> None:
        """What kept a host from being judged, or judged whole: ``unreachable`` or ``failed``."""
        self._seen(host).problem = {"kind": kind, "message": _cut(_text(message) or "", LONGEST)}

    def row(self, setting: Mapping[str, Any]) -> Row:
        """The setting as a row, the one object for all that are equal."""
        texts = {key: _cut(_text(setting.get(key)), LONGEST) for key in Row._fields[:7]}
        row = Row(**{**texts, **{key: texts[key] or "" for key in ("control", "name", "state", "reason")}},
                  needs_reboot=setting.get("needs_reboot") is True, finding=setting.get("finding") is True)
        if row.state not in VERDICTS or row.state == WAIVED:
            row = row._replace(state=ERROR, reason=f"the module returned the state {row.state[:80]!r}, which is none of the contract; update the collection")
        return self._rows.setdefault(row, row)

    def _seen(self, host: str) -> Seen:
        return self.hosts.setdefault(str(host), Seen())


def document(collected: Collected, when: Mapping[str, str], mode: str, waiver_for: WaiverFor = lambda host, row: None,
             waivers: Iterable[Waiver] = (), problems: Iterable[str] = ()) -> dict[str, Any]:
    """The report of a run; ``when`` has ``started`` and ``ended`` (UTC, ISO 8601). docs/report.md tells the shape."""
    entries: dict[Any, Entry] = {}
    hosts = {}
    for name, seen in collected.hosts.items():
        settings = []
        for row in seen.settings.values():
            waiver = waiver_for(name, row) if row.state == DRIFTED else None
            settings.append(entries.setdefault((row, id(waiver)), entry(row, waiver)))
        hosts[name] = {"problem": seen.problem, "settings": settings, "diffs": seen.diffs, "machine": seen.machine}
    return assembled(hosts, when, mode, waivers, problems)


def entry(row: Row, waiver: Waiver | None) -> Entry:
    """The setting in the report: what was returned, the verdict, and for what is not right what to do."""
    verdict = WAIVED if waiver is not None and row.state == DRIFTED else row.state
    shown: Entry = {**row._asdict(), "verdict": verdict}
    if verdict in (DRIFTED, WAIVED, ERROR):
        shown["fix"] = fix(shown)
    if verdict == WAIVED and waiver is not None:
        shown["waiver"] = dict(waiver)
    return shown


def assembled(hosts: Mapping[str, Mapping[str, Any]], when: Mapping[str, str], mode: str, waivers: Iterable[Waiver], problems: Iterable[str]) -> dict[str, Any]:
    """The document of such hosts, in the one order, with all that follows from them."""
    judged = {name: _judged(hosts[name]) for name in sorted(hosts)}
    used: dict[str, int] = {}
    for host in judged.values():
        for setting in host["settings"]:
            if "waiver" in setting:
                used[_key(setting["waiver"])] = used.get(_key(setting["waiver"]), 0) + 1
    known = {_key(waiver): waiver for waiver in waivers}
    controls = sorted({setting["control"] for host in judged.values() for setting in host["settings"]})
    verdicts = [host["verdict"] for host in judged.values()]
    return {
        "format": FORMAT, "version": VERSION,
        "when": {"started": when.get("started", ""), "ended": when.get("ended", "")},
        "mode": mode,
        "totals": {"hosts": {verdict: verdicts.count(verdict) for verdict in HOST_VERDICTS},
                   "settings": {verdict: sum(host["counts"][verdict] for host in judged.values()) for verdict in VERDICTS}},
        "controls": {control: why(control) for control in controls},
        "waivers": [{**known[key], "used": used.get(key, 0)} for key in sorted(known)],
        "problems": sorted(set(problems)),
        "hosts": judged,
    }


def _judged(host: Mapping[str, Any]) -> dict[str, Any]:
    found = [setting["verdict"] for setting in host["settings"]]
    counts = {verdict: found.count(verdict) for verdict in VERDICTS}
    problem = host["problem"]
    verdict = problem["kind"] if problem else next((verdict for verdict in HOST_VERDICTS if counts.get(verdict)), OK if found else UNJUDGED)
    return {"verdict": verdict, "counts": counts, "problem": problem, "settings": host["settings"], "diffs": host["diffs"], "machine": host["machine"]}


def _key(waiver: Waiver) -> str:
    return json.dumps({key: value for key, value in waiver.items() if key != "used"}, sort_keys=True)


def merged(documents: Iterable[Mapping[str, Any]]) -> tuple[dict[str, Any], list[str]]:
    """One document of several, and in words which hosts were in more than one; of these the report that ended last counts, as a whole."""
    parts = sorted(documents, key=lambda part: (part["when"]["ended"], part["when"]["started"]))
    if not parts:
        raise ReportError("nothing to merge; name at least one report")
    hosts: dict[str, Any] = {}
    twice: list[str] = []
    for part in parts:
        twice += [f"{host}: is in several reports; that of {part['when']['ended']} counts" for host in part["hosts"] if host in hosts]
        hosts.update(part["hosts"])
    when = {"started": min(part["when"]["started"] for part in parts), "ended": max(part["when"]["ended"] for part in parts)}
    modes = {part["mode"] for part in parts}
    waivers = [{key: value for key, value in waiver.items() if key != "used"} for part in parts for waiver in part["waivers"]]
    problems = [problem for part in parts for problem in part["problems"]]
    return assembled(hosts, when, modes.pop() if len(modes) == 1 else MIXED, waivers, problems), twice


# --- JSON -------------------------------------------------------------------------------------------------------------

def json_text(report: Mapping[str, Any]) -> str:
    """The document as JSON in ASCII, a line for each setting: two reports can be compared by ``diff``."""
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in report.items() if key != "hosts"]
    texts: dict[int, str] = {}
    hosts = ",\n".join(_host_text(name, host, texts) for name, host in report["hosts"].items())
    return "{\n" + ",\n".join([*lines, f'"hosts": {{\n{hosts}\n}}' if hosts else '"hosts": {}']) + "\n}\n"


def _host_text(name: str, host: Mapping[str, Any], texts: dict[int, str]) -> str:
    for setting in host["settings"]:
        if id(setting) not in texts:
            texts[id(setting)] = json.dumps(setting)
    head = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in host.items() if key != "settings")
    settings = ",\n".join(f"  {texts[id(setting)]}" for setting in host["settings"])
    return f"{json.dumps(name)}: {{\n{head},\n" + (f' "settings": [\n{settings}\n ]\n}}' if settings else ' "settings": []\n}')


def loaded(text: str, source: str) -> dict[str, Any]:
    """The document of a JSON text, checked and judged anew; raises ``ReportError``, which names ``source``."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{source}: is no whole report ({error}); it was cut off, or is something else: make it again") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ReportError(f"{source}: is no report of this collection; its format is not {FORMAT}")
    if data.get("version") != VERSION:
        raise ReportError(f"{source}: has version {data.get('version')!s:.20} of the format, and {VERSION} is known; update the collection")
    try:
        rows = Collected()
        pool: dict[Any, Entry] = {}
        hosts = {name: _loaded_host(host, rows, pool) for name, host in data["hosts"].items()}
        return assembled(hosts, {key: str(data["when"][key]) for key in ("started", "ended")}, str(data["mode"]),
                         map(_loaded_waiver, data["waivers"]), map(str, data["problems"]))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ReportError(f"{source}: is no whole report ({type(error).__name__}: {error}); make it again") from None


def _loaded_host(host: Mapping[str, Any], rows: Collected, pool: dict[Any, Entry]) -> dict[str, Any]:
    problem = host["problem"]
    if problem is not None and problem["kind"] not in (UNREACHABLE, FAILED):
        raise ReportError(f"the problem {str(problem['kind'])[:80]!r} is unknown")
    return {
        "problem": None if problem is None else {"kind": problem["kind"], "message": str(problem["message"])},
        "settings": list(_loaded_settings(host["settings"], rows, pool)),
        "diffs": [_diff(part) for part in host["diffs"]],
        "machine": machine_of(host) if host["machine"] else None,
    }


def _loaded_settings(settings: Iterable[Mapping[str, Any]], rows: Collected, pool: dict[Any, Entry]) -> Iterator[Entry]:
    for setting in settings:
        row, waiver = rows.row(setting), _loaded_waiver(setting["waiver"]) if setting.get("waiver") else None
        key = (row, _key(waiver) if waiver else None)
        if key not in pool:
            pool[key] = entry(row, waiver)
        yield pool[key]


def _loaded_waiver(waiver: Mapping[str, Any]) -> dict[str, Any]:
    return {"control": str(waiver["control"]), "hosts": [str(host) for host in waiver["hosts"]],
            **{key: str(waiver[key]) for key in ("name", "reason", "owner")},
            "expires": None if waiver["expires"] is None else str(waiver["expires"]), "expired": waiver["expired"] is True}


def _diff(part: Mapping[str, Any]) -> dict[str, str]:
    header = part.get("header") or part.get("after_header") or part.get("before_header")
    return {"header": _cut(_text(header) or "", LONGEST), **{key: _cut(_text(part.get(key)) or "", LONGEST_DIFF) for key in ("before", "after")}}


def _text(value: Any) -> str | None:
    """The value as plain text, of no other class: what a host sent may carry more."""
    return None if value is None else "".join(str(value))


def _cut(text: Any, longest: int) -> Any:
    return text if text is None or len(text) <= longest else f"{text[:longest]}... ({len(text)} characters)"
