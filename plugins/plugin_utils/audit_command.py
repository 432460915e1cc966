# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done with reports after a run: merged, compared, shown in other formats, and judged for CI by an exit code. Needs no Ansible."""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_document import (
    DRIFTED,
    UNTOLD,
    ReportError,
    Row,
    assembled,
    entry,
    json_text,
    merged,
)
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_formats import FORMATS, said, told
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_history import (
    change_lines,
    compared,
    kept_paths,
    last_of,
    report_at,
    text_at,
    written_whole,
)
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_waivers import Waivers, waivers_in
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.report import printable

# Exit codes: everything is right, or allowed; something is wrong; it could not be told, or the command itself failed.
RIGHT, WRONG, NOT_TOLD = 0, 1, 2
NEVER, DRIFT, ERROR = POLICIES = ("never", "drift", "error")


def verdict_of(report: Mapping[str, Any], fail_on: Iterable[str]) -> tuple[int, str]:
    """The exit code of a report, and why, in a line. What could not be told comes first: the picture is not whole without it."""
    policies = set(fail_on)
    hosts, settings = report["totals"]["hosts"], report["totals"]["settings"]
    untold = {f"hosts that are {verdict}": hosts[verdict] for verdict in UNTOLD if verdict != "error" and hosts[verdict]}
    if settings["error"]:
        untold["settings that could not be told"] = settings["error"]
    if report["problems"]:
        untold["files that are not usable"] = len(report["problems"])
    if not report["hosts"]:
        untold["hosts in the report"] = 0
    line = ", ".join([f"{settings[DRIFTED]} settings drifted", *(f"{number} {what}" for what, number in untold.items())])
    if ERROR in policies and untold:
        return NOT_TOLD, line
    return (WRONG if DRIFT in policies and settings[DRIFTED] else RIGHT), line


def policies_of(text: str) -> tuple[str, ...]:
    """The policies of a text such as ``drift,error``; raises ``ReportError``."""
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    unknown = [part for part in found if part not in POLICIES]
    if unknown or not found or (NEVER in found and len(found) > 1):
        raise ReportError(f"fail_on is {text!r:.80}; give {NEVER}, or one or both of {DRIFT},{ERROR}")
    return found


def waived_anew(report: Mapping[str, Any], waivers: Waivers) -> dict[str, Any]:
    """The report judged by these waivers, in place of those it was made with."""
    hosts = {}
    for name, host in report["hosts"].items():
        rows = [Row(*(setting[key] for key in Row._fields)) for setting in host["settings"]]
        hosts[name] = {**host, "settings": [entry(row, waivers.waiver_for(name, row) if row.state == DRIFTED else None) for row in rows]}
    return assembled(hosts, report["when"], report["mode"], waivers.shown, waivers.problems)


def waivers_at(path: Path, ended: str) -> Waivers:
    """The waivers of a file, judged on the day on which the report ended. A file that cannot be read is a problem of the report."""
    try:
        today = datetime.datetime.fromisoformat(ended).date()
    except ValueError:
        today = datetime.datetime.now(datetime.timezone.utc).date()
    try:
        return waivers_in(text_at(path), today, path.name)
    except ReportError as error:
        return Waivers([], [f"{error}; it waives nothing"])


# --- the commands -----------------------------------------------------------------------------------------------------

def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except ReportError as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        return NOT_TOLD
    except BrokenPipeError:
        sys.stderr.close()
        return NOT_TOLD


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="report", description="Reports of audits: merge, compare, render, verdict.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    merge = commands.add_parser("merge", help="one report of several: job slices, controllers")
    merge.add_argument("reports", nargs="+", type=Path)
    compare = commands.add_parser("compare", help="what changed: of two reports, or of the last two in a folder of history")
    compare.add_argument("reports", nargs="+", type=Path, metavar="OLD NEW | FOLDER")
    render = commands.add_parser("render", help="a report in another format")
    render.add_argument("report", type=Path)
    render.add_argument("--to", choices=sorted(FORMATS), required=True)
    render.add_argument("--since", type=Path, help="an earlier report: what changed since then is shown")
    render.add_argument("--waivers", type=Path, help="judge by these waivers, not by those of the run")
    verdict = commands.add_parser("verdict", help="exit code 0: right or allowed, 1: drifted, 2: could not be told")
    verdict.add_argument("report", type=Path)
    verdict.add_argument("--fail-on", default=f"{DRIFT},{ERROR}", help="never, drift, error, or drift,error (the default)")
    verdict.add_argument("--quiet", action="store_true", help="only the exit code")
    for command, function in ((merge, _merge), (compare, _compare), (render, _render), (verdict, _verdict)):
        command.set_defaults(command=function)
    for command in (merge, render):
        command.add_argument("-o", "--output", type=Path, help="the file to write, whole or not at all; without it, standard output")
    return parser


def _put(text: str, output: Path | None) -> None:
    if output is None:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        written_whole(output, text)


def _merge(options: argparse.Namespace) -> int:
    report, twice = merged([report_at(path) for path in options.reports])
    for line in twice:
        print(printable(line), file=sys.stderr)
    _put(json_text(report), options.output)
    return RIGHT


def _compare(options: argparse.Namespace) -> int:
    if len(options.reports) == 1 and options.reports[0].is_dir():
        paths = kept_paths(options.reports[0])
        new, problems = last_of(paths)
        old, older = last_of(paths[:-1 - len(problems)])
        problems += older
    elif len(options.reports) == 2:
        (old, new), problems = map(report_at, options.reports), []
    else:
        raise ReportError("compare takes an old and a new report, or one folder of them")
    for problem in problems:
        print(printable(problem), file=sys.stderr)
    if old is None or new is None:
        raise ReportError(f"{options.reports[0]}: holds fewer than two reports that can be read; run the audit twice with history")
    for line in change_lines(compared(old, new)):
        print(line)
    return RIGHT


def _render(options: argparse.Namespace) -> int:
    report = report_at(options.report)
    if options.waivers:
        report = waived_anew(report, waivers_at(options.waivers, report["when"]["ended"]))
    changes = compared(report_at(options.since), report) if options.since else None
    _put(FORMATS[options.to][1](report, changes), options.output)
    return RIGHT


def _verdict(options: argparse.Namespace) -> int:
    policies = policies_of(options.fail_on)
    report = report_at(options.report)
    code, line = verdict_of(report, policies)
    if not options.quiet:
        print(line)
        for name, host in report["hosts"].items():
            if told(host):
                print(printable(f"  {name}: {told(host)}"))
            for setting in host["settings"]:
                if setting["verdict"] in (DRIFTED, "error"):
                    print(f"  {printable(name)}: {said(setting)}")
    return code


if __name__ == "__main__":
    sys.exit(main())
