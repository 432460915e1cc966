# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts module executions for the benchmark: one byte for each, appended to a file by whichever process runs it.

Every module, of a task, of a loop's item or called by an action plugin, goes to its host through one method. Wrapping it
before the workers are forked counts them all; an action plugin that stays on the controller never calls it.
"""

from __future__ import annotations

DOCUMENTATION = r"""
name: count_modules
type: aggregate
short_description: Counts module executions
description:
  - Appends one byte to the file named by E(BENCH_MODULE_COUNT) for each module execution.
requirements:
  - E(BENCH_MODULE_COUNT) in the environment
options: {}
"""

import functools
import os

from ansible.plugins.action import ActionBase
from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "count_modules"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self):
        super().__init__()
        ActionBase._execute_module = counted(ActionBase._execute_module, os.environ["BENCH_MODULE_COUNT"])


def counted(method, path):
    """The method with a byte appended to ``path`` at each call; appending is atomic, so that processes need no lock."""

    @functools.wraps(method)
    def wrapper(*args, **kwargs):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, b".")
        finally:
            os.close(descriptor)
        return method(*args, **kwargs)

    return wrapper
