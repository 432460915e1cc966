# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints, at the end of a run, what is not right on each host, in plain words, and writes the report in the formats that are asked for."""

from __future__ import annotations

DOCUMENTATION = r"""
name: audit_report
type: notification
short_description: What is not right for low latency, in plain words and as files
version_added: "0.1.0"
author: contributors to lowlatency.fleet (@lowlatency-fleet)
description:
  - Collects the settings that every module of this collection returns and prints, at the end of the run, the verdict on each host.
  - What drifted, what changed, what could not be told and what a host does not have are never mixed. An unreachable host is neither.
  - Writes no file unless O(folder) or O(history) is set. Files are written whole or not at all.
requirements:
  - enable in configuration, as the ansible.cfg of this collection does
options:
  folder:
    description: Where the report is written, as C(audit.json), C(audit.xml), C(audit.md), C(audit.prom) and C(audit.html). Not set means nowhere.
    type: path
    ini: [{section: audit_report, key: folder}]
    env: [{name: LOWLATENCY_AUDIT_FOLDER}]
  formats:
    description: Which formats are written into O(folder).
    type: list
    elements: str
    choices: [json, junit, markdown, prometheus, html]
    default: [json, junit, markdown, prometheus, html]
    ini: [{section: audit_report, key: formats}]
    env: [{name: LOWLATENCY_AUDIT_FORMATS}]
  waivers:
    description: A YAML file of drift that is allowed. What it waives is a figure of its own, and never counts as ok.
    type: path
    ini: [{section: audit_report, key: waivers}]
    env: [{name: LOWLATENCY_AUDIT_WAIVERS}]
  history:
    description: A folder in which every report is kept by its date; what changed since the last one is told. Not set means nothing is kept.
    type: path
    ini: [{section: audit_report, key: history}]
    env: [{name: LOWLATENCY_AUDIT_HISTORY}]
  fail_on:
    description:
      - V(drift), V(error), V(drift,error) or V(never). Where Ansible itself would end with 0, the run ends with 10 for drift and with 11 for what could
        not be told, after everything else has been written. Playbooks that come later on the same command line are not run then.
      - Callbacks that are enabled after this one do not hear of the end of such a run, so enable it last. Where that is no way (AWX), judge the JSON by
        C(scripts/report verdict).
    type: str
    default: never
    ini: [{section: audit_report, key: fail_on}]
    env: [{name: LOWLATENCY_AUDIT_FAIL_ON}]
  progress:
    description: Seconds after which a run that goes on says how many hosts are judged; 0 means it does not.
    type: int
    default: 60
    ini: [{section: audit_report, key: progress}]
    env: [{name: LOWLATENCY_AUDIT_PROGRESS}]
"""

import contextlib
import datetime
import time
from pathlib import Path

from ansible import context
from ansible.errors import AnsibleError
from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import action_loader, filter_loader, lookup_loader
from ansible_collections.lowlatency.fleet.plugins.module_utils.domains import DOMAINS
from ansible_collections.lowlatency.fleet.plugins.plugin_utils import profiles
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_command import (
    RIGHT,
    WRONG,
    policies_of,
    verdict_of,
    waivers_at,
)
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_document import (
    CHECK,
    FAILED,
    MIXED,
    REAL,
    UNREACHABLE,
    WAIVED,
    Collected,
    ReportError,
    document,
)
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_formats import FORMATS
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_history import (
    change_lines,
    compared,
    kept,
    kept_paths,
    last_of,
    written_whole,
)
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_waivers import Waivers
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.report import host_lines, printable, waiver_text

# Exit codes that ansible-playbook itself has for nothing.
DRIFT_EXIT = 10
ERROR_EXIT = 11


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "lowlatency.fleet.audit_report"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self):
        super().__init__()
        self._collected = Collected()
        self._started = _now()
        self._told_at = time.monotonic()
        self._modes = set()

    def v2_playbook_on_play_start(self, play):
        """Load once, in the process that forks a worker for every task, what each worker would load again."""
        profile = play.get_vars().get("lowlatency_profile")
        if isinstance(profile, str) and "{" not in profile:
            with contextlib.suppress(AnsibleError):
                profiles.load(profile)
            for name in ("preflight", "apply", *DOMAINS):
                action_loader.get(f"lowlatency.fleet.{name}", class_only=True)
            lookup_loader.get("lowlatency.fleet.profile", class_only=True)
            filter_loader.get("combine")
        if profile is not None:
            self._collected.expect(_hosts_of(play))

    def v2_runner_on_ok(self, result):
        self._collect(result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._collect(result)
        if not ignore_errors:
            self._collected.problem(_host(result), FAILED, _message(_result(result)))

    def v2_runner_on_unreachable(self, result):
        self._collected.problem(_host(result), UNREACHABLE, _result(result).get("msg", ""))

    def v2_playbook_on_stats(self, stats):
        when = {"started": self._started, "ended": _now()}
        waivers = self._waivers(when["ended"])
        modes = self._modes or {CHECK if context.CLIARGS.get("check") else REAL}
        mode = next(iter(modes)) if len(modes) == 1 else MIXED
        report = document(self._collected, when, mode, waivers.waiver_for, waivers.shown, waivers.problems)
        self._show(report)
        if any(seen.answered or seen.problem for seen in self._collected.hosts.values()):  # else it was no audit: the last report stays
            changes = self._changes(report)
            self._write(report, changes)
        self._end(report, stats)

    def _collect(self, result):
        self._collected.result(_host(result), _result(result))
        if isinstance(_result(result).get("settings"), list):
            self._modes.add(CHECK if _is_check(result) else REAL)
        seconds = self._option("progress", 0)
        if seconds and time.monotonic() - self._told_at >= seconds:
            self._told_at = time.monotonic()
            hosts = self._collected.hosts.values()
            judged, failed = sum(seen.answered for seen in hosts), sum(seen.problem is not None for seen in hosts)
            self._display.display(f"audit: {judged} of {len(hosts)} hosts judged, {failed} failed or unreachable")

    def _waivers(self, ended):
        path = self._option("waivers")
        return waivers_at(Path(path), ended) if path else Waivers([], [])

    def _show(self, report):
        for name, host in report["hosts"].items():
            seen = self._collected.hosts[name]
            for line in host_lines(name, [_shown(setting) for setting in host["settings"]]) if seen.answered else ():
                self._display.display(line)
            if seen.problem:
                self._display.display(printable(f"{name}: {seen.problem['kind']}: {seen.problem['message']}"))
        for problem in report["problems"]:
            self._display.warning(printable(problem))

    def _changes(self, report):
        """What changed since the last report that was kept, told; the report is kept now. None without history."""
        folder, changes = self._option("history"), None
        if not folder:
            return None
        try:
            old, problems = last_of(kept_paths(Path(folder)))
            for problem in problems:
                self._display.warning(printable(problem))
            if old is not None:
                changes = compared(old, report)
                for line in change_lines(changes):
                    self._display.display(line)
            kept(Path(folder), report)
        except ReportError as error:
            self._display.warning(printable(str(error)))
        return changes

    def _write(self, report, changes):
        folder = self._option("folder")
        for name in self._option("formats", []) if folder else ():
            try:
                file, rendered = FORMATS[name]
                written_whole(Path(folder) / file, rendered(report, changes))
                self._display.display(printable(f"audit: {Path(folder) / file}"))
            except ReportError as error:
                self._display.warning(printable(str(error)))

    def _end(self, report, stats):
        """End the run with an exit code of our own, where that is asked for and Ansible has none: its own codes say more."""
        try:
            code, line = verdict_of(report, policies_of(self._option("fail_on", "never")))
        except ReportError as error:
            self._display.warning(printable(f"{error}; this run fails on nothing"))
            return
        if code != RIGHT:
            self._display.display(f"audit: fail_on is {self._option('fail_on')}: {line}")
            if not getattr(stats, "failures", None) and not getattr(stats, "dark", None):
                raise SystemExit(DRIFT_EXIT if code == WRONG else ERROR_EXIT)

    def _option(self, name, without=None):
        """An option, or what stands for it where nobody loaded the options."""
        try:
            return self.get_option(name)
        except KeyError:
            return without


def _shown(setting):
    """A setting of the report as the lines at the end tell it."""
    waiver = setting.get("waiver")
    reason = "; ".join(part for part in (setting["reason"], waiver_text(waiver) if waiver else "") if part)
    return {**setting, "state": setting["verdict"], "reason": reason} if setting["verdict"] == WAIVED else setting


def _is_check(result):
    """Whether the task wrote nothing: it may say so itself, or its play, whatever the command line says."""
    fields = getattr(result, "task_fields", None) or getattr(result, "_task_fields", None) or {}
    asked = fields.get("check_mode")
    return bool(context.CLIARGS.get("check")) if asked is None else asked is True


def _hosts_of(play):
    """The names of all hosts of a play, of those too that the run may never get to; nothing where Ansible does not tell."""
    try:
        inventory = play.get_variable_manager()._inventory
        return [host.get_name() for host in inventory.get_hosts(play.hosts, ignore_restrictions=True)]
    except (AttributeError, AnsibleError, TypeError):
        return []


def _message(result):
    """Why a task failed: its message, and where a module crashed, the last line of what it said."""
    message = str(result.get("msg", ""))
    said = str(result.get("module_stderr") or result.get("exception") or "").strip().splitlines()
    return f"{message}: {said[-1]}" if said and said[-1] not in message and result.get("module_stderr") else message


def _now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _host(result):
    host = result.host if hasattr(result, "host") else result._host
    return host.get_name()


def _result(result):
    return result.result if hasattr(result, "result") else result._result
