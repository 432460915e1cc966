# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Audit BIOS attributes through a BMC, and set those that are allowed, by the redfish modules of community.general."""

from __future__ import annotations

import json
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.common.parameters import remove_values
from ansible.plugins.action import ActionBase
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.partition import SHARE, SMT_POLICIES
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import (
    ERROR,
    UNSUPPORTED,
    SpecError,
    as_dicts,
)
from ansible_collections.lowlatency.fleet.plugins.plugin_utils import bios_attributes as bios
from ansible_collections.lowlatency.fleet.plugins.plugin_utils import transaction

OPTIONS = {
    "address": {"type": "str", "default": ""},
    "username": {"type": "str", "default": ""},
    "password": {"type": "str", "default": "", "no_log": True},
    "validate_certs": {"type": "bool", "default": True},
    "ca_path": {"type": "path"},
    "timeout": {"type": "int", "default": 20},
    "system": {"type": "str"},
    "vendor": {"type": "str"},
    "wanted": {"type": "dict", "default": {}},
    "smt_policy": {"type": "str", "choices": list(SMT_POLICIES), "default": SHARE},
    "attributes": {"type": "dict", "default": {}},
    "set": {"type": "bool", "default": False},
}
READ, WRITE = "community.general.redfish_info", "community.general.redfish_config"


class BmcFailed(Exception):
    """A BMC gave no answer to judge by; the message says why and what to do."""


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        host = task_vars["inventory_hostname"]
        options = transaction.validated(host, "bios_redfish", OPTIONS, self._task.args)
        try:
            items = bios.wanted_items(options["wanted"], options["smt_policy"])
            result = self._judged(options, items, task_vars)
        except SpecError as error:
            raise AnsibleActionFail(f"{host}: {error}") from None
        except BmcFailed as error:
            result = _result([bios.bmc_setting(ERROR, str(error))])
        # Whatever a BMC or a module says, the password is not in it.
        return remove_values(result, {options["password"]} - {""})

    def _judged(self, options: dict[str, Any], items: dict[str, str], task_vars: dict[str, Any]) -> dict[str, Any]:
        attributes = options["attributes"]
        if not options["address"]:
            return _result([bios.bmc_setting(UNSUPPORTED, "the BMC of this host is not known (bios_redfish_address)")])
        if not items and not attributes:
            return _result([])
        system, answer = self._answer(options, task_vars)
        verdict = bios.judge(answer, items, attributes, may_set=options["set"])
        if not options["set"] or not verdict.to_set or self._task.check_mode:
            return _result(verdict.settings, changed=bool(options["set"] and verdict.to_set))
        try:
            self._execute(WRITE, options, {"category": "Systems", "command": ["SetBiosAttributes"], "bios_attributes": dict(verdict.to_set),
                                           "resource_id": system.rstrip("/").rpartition("/")[2]}, task_vars)
            verdict = bios.judge(self._answer(options, task_vars)[1], items, attributes, may_set=True)
        except BmcFailed as error:
            return _result([*verdict.settings, bios.bmc_setting(ERROR, f"{', '.join(verdict.to_set)} could not be set: {error}")])
        return _result(verdict.settings, changed=True)

    def _answer(self, options: dict[str, Any], task_vars: dict[str, Any]) -> tuple[str, bios.Answer]:
        """The address of the system, and what its BMC says of its BIOS."""
        said = self._execute(READ, options, {"category": ["Systems"], "command": ["GetSystemInventory", "GetBiosAttributes"]}, task_vars)
        facts = said.get("redfish_facts") or {}
        made = dict(_by_system(facts.get("system")))
        found = [(system, values) for system, values in _by_system(facts.get("bios_attribute")) if options.get("system") in (None, system.rpartition("/")[2])]
        if not found:
            why = (facts.get("bios_attribute") or {}).get("msg") or f"it has no system {options.get('system') or ''} with a BIOS"
            raise BmcFailed(bios.failure_words(str(why), options["address"], options.get("ca_path") or ""))
        if len(found) > 1:
            names = ", ".join(system.rpartition("/")[2] for system, _values in found)
            raise BmcFailed(f"the BMC at {options['address']} has several systems ({names}); name that of this host (bios_redfish_system)")
        system, values = found[0]
        vendor = options.get("vendor") or bios.vendor_of(str(made.get(system, {}).get("Manufacturer") or ""))
        if vendor and vendor not in bios.vendors():
            raise SpecError(f"bios vendor {vendor!r}: there are: {', '.join(bios.vendors())}")
        return system, bios.Answer(values, self._pending(options, system, task_vars), vendor)

    def _pending(self, options: dict[str, Any], system: str, task_vars: dict[str, Any]) -> dict[str, Any] | None:
        """What waits for the next boot, where the BMC tells: the settings object of the BIOS (DSP0266, 9.10)."""
        try:
            place = self._get(options, system, task_vars).get("Bios") or {}
            settings = (self._get(options, place["@odata.id"], task_vars).get("@Redfish.Settings") or {}).get("SettingsObject") or {}
            waiting = self._get(options, settings["@odata.id"], task_vars).get("Attributes")
        except (BmcFailed, KeyError, TypeError, AttributeError):
            return None
        return waiting if isinstance(waiting, dict) else None

    def _get(self, options: dict[str, Any], path: str, task_vars: dict[str, Any]) -> dict[str, Any]:
        arguments = {"url": f"https://{options['address']}{path}", "url_username": options["username"], "url_password": options["password"],
                     "force_basic_auth": True, "return_content": True, "headers": {"Accept": "application/json"},
                     **{key: options[key] for key in ("timeout", "validate_certs", "ca_path") if key in options}}
        return json.loads(self._run("ansible.builtin.uri", options, arguments, task_vars).get("content") or "null") or {}

    def _execute(self, module: str, options: dict[str, Any], arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        given = {key: options[key] for key in ("username", "password", "timeout", "validate_certs", "ca_path") if key in options}
        access = {"baseuri": options["address"], **given}
        return self._run(module, options, {**access, **arguments}, task_vars)

    def _run(self, module: str, options: dict[str, Any], arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """The result of a module on the controller; raises ``BmcFailed``."""
        try:
            said = self._execute_module(module_name=module, module_args=arguments, task_vars=task_vars)
        except AnsibleError as error:
            raise BmcFailed(f"{module} cannot be run on the controller: {error}; install the collection community.general") from None
        if said.get("failed") or said.get("unreachable"):
            told = str(said.get("msg") or said.get("module_stderr") or "no reason given")
            raise BmcFailed(bios.failure_words(told, options["address"], options.get("ca_path") or ""))
        return said


def _by_system(answer: Any) -> list[tuple[str, dict[str, Any]]]:
    """``(address of the system, its values)`` of what community.general returns: a list of pairs, the first of which names the system."""
    pairs = (answer or {}).get("entries") if isinstance(answer, dict) else None
    return [(str(pair[0]["system_uri"]), pair[1]) for pair in pairs or [] if isinstance(pair[1], dict)]


def _result(settings: Any, *, changed: bool = False) -> dict[str, Any]:
    """``waiting`` names what is set and comes with the next boot, ``waiting_topology`` what of it changes the CPUs or nodes of the host."""
    waiting = [setting for setting in settings if setting.current != setting.desired == setting.persisted]
    return {"changed": changed, "settings": as_dicts(settings), "reboot_required": bool(waiting),
            "waiting": [setting.name for setting in waiting],
            "waiting_topology": [setting.name for setting in waiting if setting.control.rpartition(".")[2] in bios.TOPOLOGY]}
