# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The transaction on the controller: roles join, the apply role takes. One file a host, gone with the run.

It lies in the run's own temporary folder, so that no fact cache, earlier run or other play can leak into it.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from typing import Any

from ansible import constants as C
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.plugins.connection import ConnectionBase
from ansible_collections.lowlatency.fleet.plugins.module_utils.confirmed import SECONDS
from ansible_collections.lowlatency.fleet.plugins.module_utils.domains import DOMAINS
from ansible_collections.lowlatency.fleet.plugins.module_utils.door import BOOT_OPTIONS, extra_options
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import options_given

VARIABLE = "lowlatency_transaction"
_BETWEEN_TRIES = 2
# A host that says nothing for a minute is gone.
_KEEP_ALIVE = "-o ServerAliveInterval=10 -o ServerAliveCountMax=6"


# After a boot: everything has started, so that what the host agent sets is set and every NIC has its driver.
_SETTLED = "timeout 300 systemctl is-system-running --wait >/dev/null 2>&1; udevadm settle --timeout=60; true"


class JoinOrRun(ActionBase):
    """The task of a domain: joins the open transaction, or runs the module of its name at once."""

    domain = ""

    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        host = task_vars["inventory_hostname"]
        domain = DOMAINS[self.domain]
        spec = validated(host, domain.name, {**domain.options, **extra_options(domain.name)}, self._task.args)
        spec = {option: value for option, value in spec.items() if option in domain.options}
        problems = domain.problems(spec)
        if problems:
            raise AnsibleActionFail(f"{host}: {domain.name}: {'; '.join(problems)}")
        if not is_open(self._templar, task_vars):
            return run_and_boot(self, domain.name, dict(self._task.args), task_vars) if domain.boot else run_module(
                self, domain.name, dict(self._task.args), task_vars)
        part = self._task._role.get_name().rpartition(".")[2] if self._task._role else "site"
        join(host, domain.name, part, spec)
        return {"changed": False, "msg": f"{domain.name} joined the transaction as {part}"}


def run_module(action: ActionBase, name: str, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
    """Run a module of this collection, and confirm the network change it made; the message of a failure names the host."""
    notice_silence(action._connection)
    seconds = arguments.get("confirm_seconds", SECONDS)
    try:
        result = action._execute_module(module_name=f"lowlatency.fleet.{name}", module_args=arguments, task_vars=task_vars)
    except AnsibleConnectionFailure as error:
        if name != "apply" and not (name in DOMAINS and DOMAINS[name].network):
            raise
        raise AnsibleConnectionFailure(f"{error} (where this run was changing the network, the host takes that back {seconds} s later)") from None
    if result.get("failed") and "msg" in result:
        result["msg"] = f"{task_vars['inventory_hostname']}: {result['msg']}"
    return _network_confirmed(action, result, seconds, task_vars) if result.get("unconfirmed") else result


def notice_silence(connection: Any) -> None:
    """Have ssh give up a connection whose host says nothing any more, unless the site says itself when. Without it, ssh waits for ever.

    It works for connections that are opened after it, so the first task of a play has to call it.
    """
    if connection.transport != "ssh":
        return
    said = " ".join(str(connection.get_option(option) or "") for option in ("ssh_args", "ssh_common_args", "ssh_extra_args"))
    if "ServerAliveInterval" not in said:
        connection.set_option("ssh_extra_args", f"{connection.get_option('ssh_extra_args') or ''} {_KEEP_ALIVE}".strip())


def _network_confirmed(action: ActionBase, result: dict[str, Any], seconds: int, task_vars: dict[str, Any]) -> dict[str, Any]:
    """Reach the host over a new connection and tell it that its network change may stay; failed where that was not possible in time."""
    host, deadline, answer = task_vars["inventory_hostname"], time.monotonic() + int(seconds), {"msg": "no time"}
    while time.monotonic() < deadline:
        try:
            if type(action._connection).reset is not ConnectionBase.reset:  # that of a connection without one only warns
                action._connection.reset()
            answer = action._execute_module(module_name="lowlatency.fleet.confirm", module_args={"identity": result["unconfirmed"]}, task_vars=task_vars)
            if not answer.get("unreachable"):
                break
        except AnsibleConnectionFailure as error:
            answer = {"failed": True, "msg": str(error)}
        time.sleep(_BETWEEN_TRIES)
    if not answer.get("failed") and not answer.get("unreachable"):
        return result
    said = f"{result['msg']}; " if result.get("failed") and "msg" in result else f"{host}: "
    return {**result, "failed": True, "msg": f"{said}its network change was not confirmed ({answer.get('msg', 'unreachable')}); "
                                             f"the host takes it back by itself {seconds} s after it was made"}


def run_and_boot(action: ActionBase, name: str, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
    """Run a module that may arm a trial boot; if it did, reboot the host, once, and run it again to confirm what came up."""
    host = task_vars["inventory_hostname"]
    waiting = arguments.pop("bios_waiting", None) or []
    boot = validated(host, name, BOOT_OPTIONS, {option: arguments.pop(option) for option in BOOT_OPTIONS if option in arguments})
    if was_booted(host):
        boot["reboot_ok"] = False  # once in a run
    if boot["reboot_ok"] and action._connection.transport == "local" and not action._task.check_mode:
        return {"failed": True, "msg": f"{host}: reboot_ok over a local connection would reboot the controller itself; run it from another machine"}
    tried = run_module(action, name, {**arguments, "reboot_ok": boot["reboot_ok"], "trial_seconds": boot["trial_seconds"]}, task_vars)
    if tried.get("failed") or tried.get("unreachable"):
        return tried
    if not tried.get("armed"):
        return _booted_for_bios(action, name, arguments, boot, tried, waiting, task_vars) if waiting else tried
    rebooted = _reboot(action, boot["reboot_timeout"], task_vars)
    _mark_booted(host)
    if not rebooted.get("rebooted"):
        return {**tried, "failed": True, "rebooted": False,
                "msg": f"{host}: could not be rebooted ({rebooted.get('msg', 'unreachable')}); its next boot tries the new command line, once"}
    if rebooted.get("failed") or rebooted.get("unreachable"):
        why = f"{host}: did not come back within {boot['reboot_timeout']} s of the reboot into its trial ({rebooted.get('msg', 'unreachable')}); "
        return {**tried, "failed": True, "rebooted": True,
                "msg": why + "a trial that is up and not confirmed goes back by itself, one that hangs needs its console"}
    return _confirmed(host, tried, run_module(action, name, {**arguments, "reboot_ok": False}, task_vars))


def _booted_for_bios(action: ActionBase, name: str, arguments: dict[str, Any], boot: dict[str, Any], tried: dict[str, Any], waiting: list[str],
                     task_vars: dict[str, Any]) -> dict[str, Any]:
    """The boot of this run, where nothing but settings of the BIOS waits for it; they are told where none is allowed."""
    if action._task.check_mode or was_booted(task_vars["inventory_hostname"]):
        return tried
    if not boot["reboot_ok"]:
        return {**tried, "reboot_required": True, "reboot_reasons": [*tried.get("reboot_reasons", []), *(f"{what} is set and waits" for what in waiting)]}
    failure = boot_for_bios(action, boot["reboot_timeout"], waiting, task_vars)
    if failure:
        return {**tried, "failed": True, "msg": failure}
    return {**_confirmed(task_vars["inventory_hostname"], tried, run_module(action, name, {**arguments, "reboot_ok": False}, task_vars))}


def boot_for_bios(action: ActionBase, timeout: int, waiting: list[str], task_vars: dict[str, Any]) -> str:
    """Boot a host for what is set in its BIOS and waits; why it did not come back, or nothing."""
    host = task_vars["inventory_hostname"]
    if action._connection.transport == "local":
        return f"{host}: reboot_ok over a local connection would reboot the controller itself; run it from another machine"
    notice_silence(action._connection)
    rebooted = _reboot(action, timeout, task_vars)
    if rebooted.get("failed") or rebooted.get("unreachable") or not rebooted.get("rebooted"):
        why = rebooted.get("msg", "unreachable")
        return f"{host}: did not come back within {timeout} s of the reboot for {', '.join(waiting)} ({why}); look at its console"
    _mark_booted(host)
    return ""


def _confirmed(host: str, tried: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """One result of the two executions around the boot; failed where the boot did not bring what was wanted."""
    first = {(setting["control"], setting["name"]): setting["state"] for setting in tried["settings"]}
    for setting in after.get("settings") or []:
        if setting["state"] == "ok" and first.get((setting["control"], setting["name"])) == "changed":
            setting["state"] = "changed"
    merged = {**after, "changed": True, "rebooted": True}
    if "diff" in tried:
        merged["diff"] = [*tried["diff"], *after.get("diff", [])]
    if not after.get("failed") and after.get("reboot_required"):
        story = next((setting["reason"] for setting in after["settings"] if setting["control"] == "cmdline.trial"), "the boot did not bring it")
        merged.update(failed=True, msg=f"{host}: the new command line was not made the default: {story}; {'; '.join(after['reboot_reasons'])}")
    return merged


def _reboot(action: ActionBase, timeout: int, task_vars: dict[str, Any]) -> dict[str, Any]:
    """Reboot by Ansible's own action, which waits for another boot and for a host that has settled."""
    task = action._task.copy()
    task.args = {"reboot_timeout": timeout, "reboot_command": "systemctl reboot", "test_command": _SETTLED}
    reboot = action._shared_loader_obj.action_loader.get(
        "ansible.builtin.reboot", task=task, connection=action._connection, play_context=action._play_context,
        loader=action._loader, templar=action._templar, shared_loader_obj=action._shared_loader_obj)
    return reboot.run(task_vars=task_vars)


def validated(host: str, what: str, options: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments as the specification has them, without those left out; fails with all that is wrong."""
    result = ArgumentSpecValidator(dict(options)).validate(dict(arguments))
    if result.error_messages:
        raise AnsibleActionFail(f"{host}: {what}: {'; '.join(result.error_messages)}")
    return options_given(json.loads(json.dumps(result.validated_parameters)))


def is_open(templar: Any, task_vars: dict[str, Any]) -> bool:
    """Whether tasks of this play join (``lowlatency_transaction`` is true)."""
    return boolean(templar.template(task_vars.get(VARIABLE, False)), strict=False)


def was_booted(host: str) -> bool:
    """Whether this run booted the host already: it boots no host twice."""
    return os.path.exists(f"{_path(host)}.booted")


def _mark_booted(host: str) -> None:
    os.makedirs(os.path.dirname(_path(host)), mode=0o700, exist_ok=True)
    with open(f"{_path(host)}.booted", "w", encoding="utf-8"):
        pass


def begin(host: str) -> None:
    """Open an empty transaction for a host, whatever was there before."""
    os.makedirs(os.path.dirname(_path(host)), mode=0o700, exist_ok=True)
    _keep(host, {})


def join(host: str, domain: str, part: str, spec: dict[str, Any]) -> None:
    """Add one specification; a part that joins again replaces itself."""
    documents = _open(host)
    documents.setdefault(domain, {})[part] = spec
    _keep(host, documents)


def take(host: str) -> dict[str, Any]:
    """The documents of a host; the transaction is closed with it."""
    documents = _open(host)
    os.unlink(_path(host))
    return documents


def _open(host: str) -> dict[str, Any]:
    try:
        with open(_path(host), encoding="utf-8") as stream:
            return json.load(stream)
    except FileNotFoundError:
        raise AnsibleActionFail(f"{host}: no transaction is open; the role lowlatency.fleet.preflight has to run first in this play") from None


def _keep(host: str, documents: dict[str, Any]) -> None:
    with open(_path(host), "w", encoding="utf-8") as stream:
        json.dump(documents, stream, sort_keys=True)


def _path(host: str) -> str:
    return os.path.join(C.DEFAULT_LOCAL_TMP, "lowlatency", hashlib.sha256(host.encode()).hexdigest() + ".json")
