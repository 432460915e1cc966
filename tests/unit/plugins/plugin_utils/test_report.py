# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports in plain words, whatever a host says of itself."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.report import (
    STATES,
    WHY,
    counted,
    host_lines,
    printable,
    sentence,
    why,
)
from hypothesis import given
from hypothesis import strategies as st


def setting(state: str = "drifted", **more: Any) -> dict[str, Any]:
    return {"control": "net.ipv4.tcp_sack", "name": "net.ipv4.tcp_sack", "desired": "1", "current": "0", "persisted": "0",
            "state": state, "reason": "", **more}


def test_a_whole_host() -> None:
    lines = list(host_lines("md01", [
        setting("ok"),
        setting("unsupported", name="a", reason="no such key"),
        setting("unsupported", name="b", reason="no such key"),
        setting("error", reason="could not be read: EIO"),
        setting("changed"),
        setting(),
    ]))
    assert lines[0] == "md01: 1 ok, 1 changed, 1 drifted, 2 unsupported, 1 error"
    assert [line.split()[0] for line in lines[1:]] == ["drifted", "set", "error", "not"]
    assert lines[1] == "  drifted  net.ipv4.tcp_sack is 0, wanted 1 (without SACK a lost tail waits for the retransmission timer)"
    assert lines[2] == "  set      net.ipv4.tcp_sack is now 1"
    assert lines[3] == "  error    net.ipv4.tcp_sack: could not be read: EIO"
    assert lines[4] == "  not here no such key: a, b"


def test_a_host_with_nothing_wrong_is_one_line() -> None:
    assert list(host_lines("h", [setting("ok")])) == ["h: 1 ok"]


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"current": "1", "persisted": None}, "is 1, but no file says so for the next boot"),
        ({"current": "1", "persisted": "0"}, "is 1, but will be 0 after the next boot"),
        ({"name": "/etc/x", "desired": "sha256:2", "control": "c", "current": None}, "/etc/x is missing"),
        ({"name": "/etc/x", "desired": "sha256:2", "control": "c", "current": "sha256:1"}, "/etc/x is not as planned"),
        ({"reason": "x is read later"}, "(x is read later; without SACK"),
    ],
)
def test_sentences(more: dict[str, Any], text: str) -> None:
    assert text in sentence(setting(**more))


ESCAPES = "\x1b]0;owned\x07\x1b[2J\r\x9b1m\u202e\u2028\x00\x7f"


def test_a_host_cannot_speak_to_the_terminal() -> None:
    for state in STATES:
        hostile = dict.fromkeys(setting(), ESCAPES) | {"state": state}
        for line in host_lines(ESCAPES, [hostile]):
            assert line.isprintable(), repr(line)
    assert printable(ESCAPES).isprintable() and printable("plain \u00e4") == "plain \u00e4"


VALUES = st.one_of(st.none(), st.text(), st.integers(), st.lists(st.text(), max_size=2))


@given(st.text(), st.lists(st.dictionaries(st.sampled_from(list(setting())), st.one_of(VALUES, st.sampled_from(STATES)))))
def test_whatever_settings_say_every_line_is_one_printable_line(host: str, settings: list[dict[str, Any]]) -> None:
    for line in host_lines(host, settings):
        assert line.isprintable()


def test_all_states_are_counted_in_order() -> None:
    assert counted([setting("error"), setting("ok"), setting("ok")]) == {"ok": 2, "changed": 0, "drifted": 0, "waived": 0, "unsupported": 0, "error": 1}


def test_the_longest_beginning_says_why() -> None:
    assert why("svc.irqbalance") == WHY["svc.irqbalance"] != why("svc.numad") == WHY["svc"]
    assert why("net.ipv4.tcp_keepalive_intvl") == WHY["net.ipv4.tcp_keepalive"]
    assert why("nothing.known") == ""
