# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Profiles: known names, paths, and files that are none; and the lookup that reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.errors import AnsibleError, AnsibleLookupError
from ansible_collections.lowlatency.fleet.plugins.lookup.profile import LookupModule
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.profiles import FOLDER, load

KNOWN = sorted(path.stem for path in Path(FOLDER).glob("*.yml"))


def test_an_unknown_profile_names_those_there_are() -> None:
    with pytest.raises(AnsibleError) as caught:
        load("md_gatewy")
    for name in ("md_gatewy", *KNOWN):
        assert name in str(caught.value)
    assert {"md_gateway", "wan_gateway"} <= set(KNOWN)


def test_a_path_is_a_profile_of_the_site(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text("tcp_tuning:\n  sysctl:\n    vm.swappiness: 1\n")
    assert load(str(path)) == {"tcp_tuning": {"sysctl": {"vm.swappiness": 1}}}


@pytest.mark.parametrize("text", ["", "- a\n", "tcp_tuning: 5\n", "a: [\n", "text"])
def test_a_file_that_is_no_profile_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.yml"
    path.write_text(text)
    with pytest.raises(AnsibleError, match=r"broken\.yml"):
        load(str(path))


def test_a_name_does_not_leave_the_folder() -> None:
    for name in ("", ".", "..", "*"):
        with pytest.raises(AnsibleError, match="there are"):
            load(name)


def test_the_lookup_gives_the_values_of_a_role() -> None:
    lookup = LookupModule()
    assert lookup.run(["md_gateway", "tcp_tuning"]) == [load("md_gateway")["tcp_tuning"]]
    assert lookup.run(["md_gateway", "no_such_role"]) == [{}]
    for terms in ([], ["md_gateway"], ["a", "b", "c"]):
        with pytest.raises(AnsibleLookupError, match="two names"):
            lookup.run(terms)
