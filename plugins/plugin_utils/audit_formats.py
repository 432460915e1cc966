# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report in the formats that other tools read: JUnit XML, Markdown and Prometheus' text format. No I/O, and no Ansible.

What hosts say of themselves is text in each of them, never markup.
"""

from __future__ import annotations

import datetime
import html
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_document import (
    CHANGED,
    DRIFTED,
    ERROR,
    HOST_VERDICTS,
    OK,
    UNJUDGED,
    UNREACHABLE,
    UNSUPPORTED,
    VERDICTS,
    WAIVED,
    json_text,
)
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_history import PARTS
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_html import page
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.report import printable, sentence, waiver_text, why

Report = Mapping[str, Any]
Changes = Mapping[str, Any]


def said(setting: Mapping[str, Any]) -> str:
    """A setting of a report in plain words."""
    return sentence({**setting, "state": setting["verdict"]})


def told(host: Mapping[str, Any]) -> str:
    """Why a host was not judged, or not judged whole; empty where it was."""
    if host["problem"]:
        return printable(f"{host['problem']['kind']}: {host['problem']['message']}")
    return "nothing was judged here" if host["verdict"] == UNJUDGED else ""


# --- JUnit ------------------------------------------------------------------------------------------------------------

def junit(report: Report, changes: Changes | None = None) -> str:
    """A test suite for each host, a test case for each setting. Drift fails; what could not be told is an error; waived and unsupported are skipped."""
    counts = {"failures": 0, "errors": 0, "tests": 0, "skipped": 0}
    cases: dict[int, str] = {}
    suites = [_suite(name, host, cases, counts) for name, host in report["hosts"].items()]
    for problem in report["problems"]:
        counts["tests"], counts["errors"] = counts["tests"] + 1, counts["errors"] + 1
        suites.append(f'<testsuite name="report" tests="1" errors="1" failures="0" skipped="0"><testcase classname="report" name="files">'
                      f"<error message={_xml(problem)}/></testcase></testsuite>\n")
    numbers = " ".join(f'{key}="{value}"' for key, value in counts.items())
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="lowlatency.fleet audit" {numbers}>\n{"".join(suites)}</testsuites>\n'


def _suite(name: str, host: Mapping[str, Any], cases: dict[int, str], counts: dict[str, int]) -> str:
    for setting in host["settings"]:
        if id(setting) not in cases:
            cases[id(setting)] = _case(setting)
    problem = told(host)
    lines = [cases[id(setting)] for setting in host["settings"]]
    if problem:
        lines.append(f'<testcase classname="host" name="judged"><error message={_xml(problem)}/></testcase>\n')
    found = host["counts"]
    numbers = {"tests": len(lines), "failures": found[DRIFTED], "errors": found[ERROR] + bool(problem), "skipped": found[WAIVED] + found[UNSUPPORTED]}
    for key, number in numbers.items():
        counts[key] += number
    shown = " ".join(f'{key}="{number}"' for key, number in numbers.items())
    return f"<testsuite name={_xml(name)} {shown}>\n{''.join(lines)}</testsuite>\n"


def _case(setting: Mapping[str, Any]) -> str:
    head = f"<testcase classname={_xml(setting['control'])} name={_xml(setting['name'])}"
    verdict = setting["verdict"]
    if verdict in (OK, CHANGED):
        return f"{head}/>\n"
    if verdict in (WAIVED, UNSUPPORTED):
        message = f"waived: {waiver_text(setting['waiver']) or 'no reason is given'}; {said(setting)}" if verdict == WAIVED else setting["reason"]
        return f"{head}><skipped message={_xml(message)}/></testcase>\n"
    kind = "failure" if verdict == DRIFTED else "error"
    return f"{head}><{kind} type={_xml(verdict)} message={_xml(said(setting))}>{_xml(setting['fix'])[1:-1]}</{kind}></testcase>\n"


def _xml(text: str) -> str:
    """The text as an attribute with its quotes; what XML 1.0 cannot hold is shown by its code."""
    return f'"{html.escape(printable(text))}"'


# --- Markdown ---------------------------------------------------------------------------------------------------------

def markdown(report: Report, changes: Changes | None = None) -> str:
    """A table of the hosts, then for each host that is not right what is not, and why it matters."""
    return "\n".join([*_markdown_head(report), *_markdown_changes(changes), *_markdown_hosts(report), *_markdown_waivers(report)]) + "\n"


def _markdown_head(report: Report) -> Iterator[str]:
    totals = report["totals"]
    yield "# Audit of the fleet"
    yield ""
    yield f"{_md(report['when']['started'])} to {_md(report['when']['ended'])}, mode {_md(report['mode'])}."
    yield ""
    for what in ("hosts", "settings"):
        yield f"- {what}: " + (", ".join(f"{number} {key}" for key, number in totals[what].items() if number) or "none")
    for problem in report["problems"]:
        yield f"- **not usable:** {_md(problem)}"
    yield ""
    yield "| host | verdict | " + " | ".join(VERDICTS) + " |"
    yield "|---|---|" + "---:|" * len(VERDICTS)
    order = {verdict: place for place, verdict in enumerate(HOST_VERDICTS)}
    for name, host in sorted(report["hosts"].items(), key=lambda item: (order[item[1]["verdict"]], item[0])):
        yield f"| {_md(name)} | {host['verdict']} | " + " | ".join(str(host["counts"][verdict] or "") for verdict in VERDICTS) + " |"


def _markdown_changes(changes: Changes | None) -> Iterator[str]:
    if changes is None:
        return
    yield f"\n## Since {_md(changes['since'])}\n"
    if changes["same"]:
        yield "Nothing changed."
    for part, title in PARTS.items():
        yield from (f"- {title}: {_md(line)}" for line in changes[part])


def _markdown_hosts(report: Report) -> Iterator[str]:
    lines: dict[int, str] = {}
    for name, host in report["hosts"].items():
        wrong = [setting for verdict in (DRIFTED, ERROR, WAIVED) for setting in host["settings"] if setting["verdict"] == verdict]
        if not wrong and not told(host):
            continue
        yield f"\n## {_md(name)}\n"
        if told(host):
            yield f"{_md(told(host))}\n"
        if wrong:
            yield "| verdict | control | name | now | wanted | after a boot | why it matters, and what to do |"
            yield "|---|---|---|---|---|---|---|"
        for setting in wrong:
            if id(setting) not in lines:
                lines[id(setting)] = _markdown_line(setting)
            yield lines[id(setting)]


def _markdown_line(setting: Mapping[str, Any]) -> str:
    values = ("not set" if setting[key] is None else setting[key] for key in ("current", "desired", "persisted"))
    waived = f"waived: {waiver_text(setting['waiver'])}" if setting["verdict"] == WAIVED else ""
    advice = "; ".join(part for part in (setting["reason"], why(setting["control"]), waived, setting["fix"]) if part)
    return "| " + " | ".join([setting["verdict"], *map(_md, (setting["control"], setting["name"], *values, advice))]) + " |"


def _markdown_waivers(report: Report) -> Iterator[str]:
    if not report["waivers"]:
        return
    yield "\n## Waivers\n"
    yield "| control | name | hosts | reason | owner | until | waives |"
    yield "|---|---|---|---|---|---|---:|"
    for waiver in report["waivers"]:
        until = f"{waiver['expires'] or ''}{' (expired)' if waiver['expired'] else ''}"
        cells = (waiver["control"], waiver["name"], ", ".join(waiver["hosts"]), waiver["reason"], waiver["owner"], until, str(waiver["used"]))
        yield "| " + " | ".join(map(_md, cells)) + " |"


_MARKUP = str.maketrans({**{mark: f"\\{mark}" for mark in "\\`*_{}[]#+!~$^"}, "|": "&#124;", "&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;"})


def _md(text: str) -> str:
    """The text inside a table, or a line, of Markdown: no markup, no HTML, no links, nobody mentioned."""
    return printable(text).translate(_MARKUP).replace("://", "&#58;//")


# --- Prometheus -------------------------------------------------------------------------------------------------------

def prometheus(report: Report, changes: Changes | None = None) -> str:
    """Gauges for node_exporter's textfile collector; one series a host and verdict, and one for each control that is not right on a host."""
    hosts = report["hosts"].items()
    ended = _seconds(report["when"]["ended"])
    lines = [*_metric("lowlatency_audit_ended_seconds", "When the audit ended, in seconds since 1970.", [("", ended)] if ended is not None else []),
             *_metric("lowlatency_audit_problems", "Files of the report that could not be used.", [("", len(report["problems"]))]),
             *_metric("lowlatency_audit_host_reached", "1 where the host could be reached.",
                      ((f"{{host={_label(name)}}}", int(host["verdict"] != UNREACHABLE)) for name, host in hosts)),
             *_metric("lowlatency_audit_host_judged", "1 where the host was judged whole.",
                      ((f"{{host={_label(name)}}}", int(not told(host))) for name, host in hosts)),
             *_metric("lowlatency_audit_settings", "Settings of the host by verdict.",
                      ((f'{{host={_label(name)},verdict="{verdict}"}}', host["counts"][verdict]) for name, host in hosts for verdict in VERDICTS)),
             *_metric("lowlatency_audit_not_right", "Settings of a control that drifted, are waived or could not be told.",
                      (sample for name, host in hosts for sample in _not_right(name, host)))]
    return "\n".join(lines) + "\n"


def _not_right(name: str, host: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    found: dict[tuple[str, str], int] = {}
    for setting in host["settings"]:
        if setting["verdict"] in (DRIFTED, WAIVED, ERROR):
            key = (_label(setting["control"]), setting["verdict"])
            found[key] = found.get(key, 0) + 1
    for (control, verdict), number in found.items():
        yield f'{{host={_label(name)},control={control},verdict="{verdict}"}}', number


def _metric(name: str, told_of: str, samples: Any) -> Iterator[str]:
    yield f"# HELP {name} {told_of}"
    yield f"# TYPE {name} gauge"
    yield from (f"{name}{labels} {value}" for labels, value in samples)


def _label(text: str) -> str:
    """The text as the value of a label. No two texts become one: a series that is there twice spoils the whole file."""
    return '"' + printable(text.replace("\\", "\\\\")).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _seconds(text: str) -> int | None:
    try:
        return int(datetime.datetime.fromisoformat(text).timestamp())
    except ValueError:
        return None


# --- all of them ------------------------------------------------------------------------------------------------------

def plain_json(report: Report, changes: Changes | None = None) -> str:
    """The document itself; what changed is no part of it."""
    return json_text(report)


FORMATS: dict[str, tuple[str, Callable[[Report, Changes | None], str]]] = {
    "json": ("audit.json", plain_json),
    "junit": ("audit.xml", junit),
    "markdown": ("audit.md", markdown),
    "prometheus": ("audit.prom", prometheus),
    "html": ("audit.html", page),
}
