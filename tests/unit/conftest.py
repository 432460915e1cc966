# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes this clone importable under its collection name, ansible_collections.lowlatency.fleet, as Ansible itself does."""

from __future__ import annotations

import sys
from pathlib import Path

from ansible.utils.collection_loader import _collection_finder


def install_collection_finder() -> None:
    """Point Ansible's importer at a folder that holds a link to this clone, unless it already knows the clone."""
    clone = Path(__file__).resolve().parents[2]
    if clone.parts[-3:] == ("ansible_collections", "lowlatency", "fleet"):
        place = clone.parents[2]
    else:
        place = clone / ".cache" / "tests"
        link = place / "ansible_collections" / "lowlatency" / "fleet"
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(clone)
    sys.path.insert(0, str(place))  # for processes that tests start with this path
    _collection_finder._AnsibleCollectionFinder(paths=[str(place)])._install()


install_collection_finder()
