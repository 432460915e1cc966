# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Profiles: one readable file for each kind of host, in ``profiles/`` of the collection or wherever a path says."""

from __future__ import annotations

import functools
import os
from typing import Any

import yaml
from ansible.errors import AnsibleError

FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "profiles")
ENDING = ".yml"
# The safe loader; its C form, where PyYAML has it, is ten times as fast.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@functools.cache
def load(name: str) -> dict[str, Any]:
    """``{role: {variable: value}}`` of the profile ``name``, or of the file when ``name`` is a path."""
    path = name if os.sep in name else os.path.join(FOLDER, name + ENDING)
    try:
        with open(path, encoding="utf-8") as stream:
            profile = yaml.load(stream, Loader=LOADER)
    except OSError as error:
        known = sorted(entry[: -len(ENDING)] for entry in os.listdir(FOLDER) if entry.endswith(ENDING))
        raise AnsibleError(f"no profile {name!r} ({error.strerror}); there are: {', '.join(known)}, or give the path of a file of your own") from None
    except yaml.YAMLError as error:
        raise AnsibleError(f"profile {path}: {error}") from None
    if not isinstance(profile, dict) or not all(isinstance(values, dict) for values in profile.values()):
        raise AnsibleError(f"profile {path}: holds no mapping of roles to their values")
    return profile
