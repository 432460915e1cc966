# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One host at a time: put images in their place, run the module, reboot where that is allowed, look again. None after a failure."""

from __future__ import annotations

import contextlib
import fcntl
import os

from ansible import constants as C
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.lowlatency.fleet.plugins.module_utils.model import nic_firmware, nic_update
from ansible_collections.lowlatency.fleet.plugins.module_utils.update_door import UPDATE_OPTIONS
from ansible_collections.lowlatency.fleet.plugins.plugin_utils import site_files, transaction


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        host = task_vars["inventory_hostname"]
        spec = transaction.validated(host, "nic_update", UPDATE_OPTIONS, self._task.args)
        problems = [*nic_firmware.problems(spec), *nic_update.image_problems(spec["images"])]
        if problems:
            raise AnsibleActionFail(f"{host}: nic_update: {'; '.join(problems)}")
        if not spec["reload"] and not (spec["flash"] and spec["maintenance"]):
            why = "flashing is allowed, but this is no maintenance run" if spec["flash"] else "neither flashing nor loading drivers is allowed"
            return {"changed": False, "skipped": True, "skip_reason": why}
        if self._task.check_mode:
            return transaction.run_module(self, "nic_update", self._on_host(spec), task_vars)
        with one_at_a_time() as place:
            failed = read(place)
            if failed:
                return {"changed": False, "failed": True, "msg": f"{host}: left alone, since {failed} failed before it in this run"}
            keep(place, host)  # whatever ends this host without a verdict ends the run for those after it
            result = self._updated(host, spec, task_vars)
            if not result.get("failed") and not result.get("unreachable"):
                keep(place, "")
            return result

    def _updated(self, host, spec, task_vars):
        local = {placed(image): self._local(host, image) for image in spec["images"]} if spec["flash"] and spec["maintenance"] else {}
        arguments = self._on_host(spec)
        result = transaction.run_module(self, "nic_update", arguments, task_vars)
        if result.get("needed") and not result.get("failed"):
            for image in result["needed"]:
                put = self._put(local[image["file"]], image, task_vars)
                if put.get("failed") or put.get("unreachable"):
                    return {**put, "msg": f"{host}: {image['file']}: {put.get('msg', 'unreachable')}; nothing was flashed"}
            result = transaction.run_module(self, "nic_update", arguments, task_vars)
        if result.get("failed") or result.get("unreachable") or not result.get("reboot_required"):
            return result
        if not spec["reboot_ok"] or self._connection.transport == "local":
            return result
        return self._booted(host, spec, arguments, result, task_vars)

    def _booted(self, host, spec, arguments, result, task_vars):
        """Reboot for firmware that waits for it, and look whether it runs."""
        rebooted = transaction._reboot(self, spec["reboot_timeout"], task_vars)
        if rebooted.get("failed") or rebooted.get("unreachable") or not rebooted.get("rebooted"):
            return {**result, "failed": True, "rebooted": bool(rebooted.get("rebooted")),
                    "msg": f"{host}: firmware was flashed, but the reboot went wrong: {rebooted.get('msg', 'unreachable')}"}
        after = transaction.run_module(self, "nic_update", {**arguments, "verify": True}, task_vars)
        return {**after, "changed": True, "rebooted": True, "done": [*result.get("done", []), *after.get("done", [])]}

    def _local(self, host, image):
        """Where an image comes from: an address, or a file of the controller, whose checksum is compared here already."""
        return image["file"] if nic_update.is_url(image["file"]) else site_files.checked(self, f"{host}: image", image, "nothing was flashed")

    def _put(self, source, image, task_vars):
        """Put an image where the tools and the kernel find it."""
        folder = self._execute_module(module_name="ansible.builtin.file", task_vars=task_vars,
                                      module_args={"path": nic_update.IMAGES, "state": "directory", "mode": "0755"})
        if folder.get("failed") or folder.get("unreachable"):
            return folder
        if nic_update.is_url(source):
            return self._execute_module(module_name="ansible.builtin.get_url", task_vars=task_vars, module_args={
                "url": source, "dest": image["file"], "checksum": f"sha256:{image['sha256']}", "mode": "0644"})
        task = self._task.copy()
        task.args = {"src": source, "dest": image["file"], "mode": "0644"}
        copy = self._shared_loader_obj.action_loader.get(
            "ansible.builtin.copy", task=task, connection=self._connection, play_context=self._play_context, loader=self._loader,
            templar=self._templar, shared_loader_obj=self._shared_loader_obj)
        return copy.run(task_vars=task_vars)

    @staticmethod
    def _on_host(spec):
        """The module's arguments: each image is where it is put on the host."""
        return {**spec, "images": [{**image, "file": placed(image)} for image in spec["images"]]}


def placed(image):
    return nic_update.placed(nic_update.IMAGES, image)


@contextlib.contextmanager
def one_at_a_time():
    """No two hosts of one run at once, whatever the strategy. Gives the file that names the host that failed."""
    folder = os.path.join(C.DEFAULT_LOCAL_TMP, "lowlatency")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with open(os.path.join(folder, "nic_update.lock"), "a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield os.path.join(folder, "nic_update.failed")


def read(place):
    try:
        with open(place, encoding="utf-8") as stream:
            return stream.read()
    except FileNotFoundError:
        return ""


def keep(place, host):
    with open(place, "w", encoding="utf-8") as stream:
        stream.write(host)
