# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Join the transaction or run the module."""

from __future__ import annotations

from ansible_collections.lowlatency.fleet.plugins.plugin_utils.transaction import JoinOrRun


class ActionModule(JoinOrRun):
    domain = "bypass_stack"
