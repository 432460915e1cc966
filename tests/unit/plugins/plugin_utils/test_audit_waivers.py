# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waivers: what is allowed for whom and until when, and that nothing malformed allows anything."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_document import Collected
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_waivers import Waivers, waivers_in, waivers_of
from ansible_collections.lowlatency.fleet.tests.unit.fixture_report import HOSTILE, report, setting

TODAY = datetime.date(2026, 11, 27)
GOOD = {"control": "vm.*", "hosts": "md*"}


def waivers(*items: Any) -> Waivers:
    return waivers_of(list(items), TODAY, "waivers.yml")


def judged(given: Waivers, *settings: dict[str, Any], host: str = "md01") -> dict[str, Any]:
    seen = Collected()
    seen.result(host, {"settings": list(settings) or [setting("vm.swappiness", "drifted")]})
    return report(seen, waiver_for=given.waiver_for, waivers=given.shown, problems=given.problems)


def test_a_waived_drift_is_its_own_figure_and_never_ok() -> None:
    made = judged(waivers({**GOOD, "reason": "ticket 7", "owner": "ops", "expires": datetime.date(2026, 12, 31)}))
    assert made["totals"]["settings"] == {"ok": 0, "changed": 0, "drifted": 0, "waived": 1, "unsupported": 0, "error": 0}
    assert made["hosts"]["md01"]["verdict"] == "waived"
    told = made["hosts"]["md01"]["settings"][0]
    assert (told["state"], told["verdict"], told["waiver"]["reason"]) == ("drifted", "waived", "ticket 7")
    assert made["waivers"] == [{"control": "vm.*", "hosts": ["md*"], "name": "*", "reason": "ticket 7", "owner": "ops", "expires": "2026-12-31",
                                "expired": False, "used": 1}]


@pytest.mark.parametrize(
    ("waiver", "waived"),
    [(GOOD, True), ({**GOOD, "hosts": ["x*", "md0?"]}, True), ({**GOOD, "hosts": "og*"}, False), ({**GOOD, "hosts": "md"}, False),
     ({**GOOD, "control": "vm.swappiness"}, True), ({**GOOD, "control": "vm"}, False), ({**GOOD, "control": "VM.*"}, False),
     ({**GOOD, "name": "vm.swap*"}, True), ({**GOOD, "name": "ens1f0"}, False),
     ({**GOOD, "expires": "2026-11-27"}, True), ({**GOOD, "expires": datetime.date(2026, 11, 26)}, False)],
)
def test_a_waiver_is_for_what_it_names_until_its_last_day(waiver: dict[str, Any], waived: bool) -> None:
    given = waivers(waiver)
    assert given.problems == []
    assert judged(given)["totals"]["settings"]["waived"] == int(waived)


@pytest.mark.parametrize("state", ["error", "unsupported", "ok", "changed"])
def test_only_drift_is_waived(state: str) -> None:
    assert judged(waivers({"control": "*", "hosts": "*"}), setting("vm.swappiness", state))["totals"]["settings"]["waived"] == 0


def test_an_expired_waiver_is_drift_again_and_is_shown() -> None:
    made = judged(waivers({**GOOD, "expires": "2026-01-01"}))
    assert made["totals"]["settings"]["drifted"] == 1 and made["waivers"][0]["expired"] is True and made["waivers"][0]["used"] == 0


@pytest.mark.parametrize(
    ("item", "words"),
    [("vm.*", "is no mapping"), ({}, "has no control"), ({"control": "vm.*"}, "has no hosts"), ({"hosts": "*"}, "has no control"),
     ({**GOOD, "host": "x"}, "no such key host"), ({**GOOD, "control": 7}, "control is 7"), ({**GOOD, "hosts": [1]}, "hosts is [1]"),
     ({**GOOD, "hosts": {"a": 1}}, "hosts is"), ({**GOOD, "hosts": []}, "has no hosts"),
     ({**GOOD, "expires": "soon"}, "expires is soon"), ({**GOOD, "expires": 2026}, "expires is 2026"), ({**GOOD, "expires": None}, "expires is empty"),
     ({**GOOD, "expires": "2026-02-30"}, "expires is 2026-02-30"), ({**GOOD, "expires": datetime.datetime(2027, 1, 1)}, "expires is 2027"),
     ({**GOOD, "reason": ["x"]}, "reason is"), ({7: 1, **GOOD}, "no such key 7"), (None, "is no mapping")],
)
def test_a_malformed_waiver_is_told_and_waives_nothing_while_others_hold(item: Any, words: str) -> None:
    given = waivers(item, {"control": "net.*", "hosts": "*"})
    assert len(given.problems) == 1 and given.problems[0].startswith("waivers.yml: waiver 1 waives nothing: ") and words in given.problems[0]
    made = judged(given, setting("vm.swappiness", "drifted"), setting("net.x", "drifted"))
    assert (made["totals"]["settings"]["drifted"], made["totals"]["settings"]["waived"]) == (1, 1)
    assert made["problems"] == given.problems


@pytest.mark.parametrize("text", ["[", "a: b", "- {control: '*', hosts: '*'", "x", "!!python/object:os.system {}", HOSTILE, "- &a [*a]", "2026-13-45"])
def test_a_file_that_is_none_waives_nothing_and_is_told(text: str) -> None:
    given = waivers_in(text, TODAY, "w.yml")
    assert given.problems and all("nothing" in problem for problem in given.problems)
    assert judged(given)["totals"]["settings"]["waived"] == 0


def test_a_file_as_people_write_it() -> None:
    given = waivers_in("# allowed for now\n- control: vm.*\n  hosts: [md*, og01]\n  expires: 2026-12-31\n", TODAY, "w.yml")
    assert given.problems == [] and given.shown[0]["expires"] == "2026-12-31"
    assert waivers_in("# none\n", TODAY, "w.yml").problems == []
