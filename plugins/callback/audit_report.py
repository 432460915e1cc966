# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints, at the end of a run, what is not right on each host, in plain words."""

from __future__ import annotations

DOCUMENTATION = r"""
name: audit_report
type: notification
short_description: What is not right for low latency, in plain words
version_added: "0.1.0"
author: contributors to lowlatency.fleet (@lowlatency-fleet)
description:
  - Collects the settings that every module of this collection returns and prints, at the end of the run, the verdict on each host.
  - What drifted, what changed, what could not be told and what a host does not have are never mixed. An unreachable host is neither.
requirements:
  - enable in configuration, as the ansible.cfg of this collection does
options: {}
"""

import contextlib

from ansible.errors import AnsibleError
from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import action_loader, filter_loader, lookup_loader
from ansible_collections.lowlatency.fleet.plugins.module_utils.domains import DOMAINS
from ansible_collections.lowlatency.fleet.plugins.plugin_utils import profiles
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.report import host_lines, printable


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "lowlatency.fleet.audit_report"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self):
        super().__init__()
        self._settings = {}
        self._problems = {}

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

    def v2_runner_on_ok(self, result):
        self._collect(result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._collect(result)
        if not ignore_errors:
            self._problems[_host(result)] = f"failed: {_result(result).get('msg', '')}"

    def v2_runner_on_unreachable(self, result):
        self._problems[_host(result)] = f"unreachable: {_result(result).get('msg', '')}"

    def v2_playbook_on_stats(self, stats):
        for host in sorted({*self._settings, *self._problems}):
            for line in host_lines(host, list(self._settings.get(host, {}).values())) if host in self._settings else ():
                self._display.display(line)
            if host in self._problems:
                self._display.display(printable(f"{host}: {self._problems[host]}"))

    def _collect(self, result):
        settings = _result(result).get("settings")
        if isinstance(settings, list):
            known = self._settings.setdefault(_host(result), {})
            known.update({(setting.get("control"), setting.get("name")): setting for setting in settings if isinstance(setting, dict)})


def _host(result):
    host = result.host if hasattr(result, "host") else result._host
    return host.get_name()


def _result(result):
    return result.result if hasattr(result, "result") else result._result
