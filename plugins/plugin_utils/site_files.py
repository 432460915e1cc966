# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that the site gives on the controller: found as Ansible finds them, and used by their checksum only."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase


def checked(action: ActionBase, who: str, source: Mapping[str, Any], undone: str) -> str:
    """The path of ``source['file']``; fails where it is not there, or its sha256 is not ``source['sha256']``. ``undone`` says what then was not done."""
    try:
        path = str(action._find_needle("files", source["file"]))
        with open(path, "rb") as stream:
            held = hashlib.sha256(stream.read()).hexdigest()
    except (AnsibleError, OSError) as error:
        raise AnsibleActionFail(f"{who} {source['file']}: {error}") from None
    if held != source["sha256"]:
        raise AnsibleActionFail(f"{who} {source['file']}: its sha256 is {held}, wanted {source['sha256']}; {undone}")
    return path
