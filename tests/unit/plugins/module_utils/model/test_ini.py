# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of sections and key=value lines: what is read of them, and that nothing makes the reading fail."""

from __future__ import annotations

from ansible_collections.lowlatency.fleet.plugins.module_utils.model.ini import entries, joined_lines
from hypothesis import given
from hypothesis import strategies as st


def test_sections_comments_and_repeated_keys() -> None:
    text = "early=1\n# a=b\n; c=d\n[Match]\n OriginalName = eth* \nOriginalName=\n[Link]\nName=a=b\nalone\n=nothing\n[]\nx=1\n"
    assert entries(text) == [("", "early", "1"), ("Match", "OriginalName", "eth*"), ("Match", "OriginalName", ""), ("Link", "Name", "a=b"), ("", "x", "1")]


def test_a_backslash_joins_the_next_line() -> None:
    assert list(joined_lines("a \\\nb\nc\\")) == ["a  b", "c "]
    assert entries("[Link]\nDriver=igb \\\n  ice\n") == [("Link", "Driver", "igb    ice")]


@given(st.text(alphabet=st.characters(codec="utf-8") | st.sampled_from("[]=#;\\\n\r \t")))
def test_any_text_can_be_read(text: str) -> None:
    for section, key, value in entries(text):
        assert key == key.strip() and value == value.strip() and key[:1] not in ("#", ";") and "\n" not in section + key
