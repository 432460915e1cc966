# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as a document: verdicts that are never mixed, whatever a host returns, and merging that leaves no trace."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_core_map import core_map, machine_of
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_document import (
    FAILED,
    UNREACHABLE,
    Collected,
    ReportError,
    json_text,
    loaded,
    merged,
)
from ansible_collections.lowlatency.fleet.tests.unit.fixture_report import (
    HOSTILE,
    PARTITION,
    PREFLIGHT,
    TOPOLOGY,
    hostile,
    large,
    report,
    setting,
    small,
)


def test_every_host_has_one_verdict_and_no_two_are_mixed() -> None:
    made = report()
    assert {name: host["verdict"] for name, host in made["hosts"].items()} == {
        "down": "unreachable", "late": "unjudged", "md01": "drifted", "md02": "error", "nopython": "failed", "og01": "changed"}
    assert made["totals"]["settings"] == {"ok": 4, "changed": 1, "drifted": 1, "waived": 0, "unsupported": 1, "error": 1}
    assert made["totals"]["hosts"] == {"unreachable": 1, "failed": 1, "error": 1, "drifted": 1, "waived": 0, "changed": 1, "ok": 0, "unjudged": 1}


def test_a_host_that_fails_after_it_was_judged_keeps_what_was_told() -> None:
    seen = small()
    seen.problem("md01", FAILED, "apply: timed out")
    host = report(seen)["hosts"]["md01"]
    assert (host["verdict"], host["counts"]["drifted"], host["problem"]["message"]) == ("failed", 1, "apply: timed out")


@pytest.mark.parametrize("state", ["weird", "", None, 7, "waived"])
def test_a_state_outside_the_contract_is_an_error_not_a_verdict(state: Any) -> None:
    seen = Collected()
    seen.result("a", {"settings": [{"control": "c", "name": "n", "state": state}]})
    told = report(seen)["hosts"]["a"]["settings"][0]
    assert told["verdict"] == "error" and "none of the contract" in told["reason"]


@pytest.mark.parametrize("settings", [[None], [1, "x"], [{}], [{"control": ["a"], "name": {"b": 1}, "state": "ok", "desired": 5}]])
def test_settings_of_any_shape_leave_a_report_that_can_be_read_again(settings: list[Any]) -> None:
    seen = Collected()
    seen.result("a", {"settings": settings, "diff": [None, "x", {"before": 1, "after": None}], "topology": {"cpus_online": 3}})
    text = json_text(report(seen))
    assert json_text(loaded(text, "it")) == text


def test_a_value_that_would_fill_the_report_is_cut_and_says_so() -> None:
    seen = Collected()
    seen.result("a", {"settings": [setting("c", current="x" * 10_000_000)]})
    text = json_text(report(seen))
    assert len(text) < 20_000 and "(10000000 characters)" in text


def test_equal_settings_of_hosts_are_one_object() -> None:
    made = report(large(hosts=3, settings=40))
    one, other = (made["hosts"][f"md000{number}.ny4.example.net"]["settings"] for number in (1, 2))
    assert one[20] is other[20] and one[0] is not other[0]


def test_why_and_what_to_do_are_told() -> None:
    found = {setting["control"]: setting for setting in report()["hosts"]["md01"]["settings"]}
    assert report()["controls"]["net.ipv4.tcp_sack"].startswith("without SACK")
    assert found["net.ipv4.tcp_sack"]["fix"] == "a run without --check sets it" and "fix" not in found["vm.swappiness"]


@pytest.mark.parametrize(
    ("more", "words"),
    [({"finding": True}, "no run sets this"), ({"needs_reboot": True}, "a boot brings it"), ({"current": "1"}, "for the next boot"),
     ({"state": "error"}, "nobody knows")],
)
def test_what_to_do_depends_on_what_is_wrong(more: dict[str, Any], words: str) -> None:
    seen = Collected()
    seen.result("a", {"settings": [{**setting("c", "drifted"), **more}]})
    assert words in report(seen)["hosts"]["a"]["settings"][0]["fix"]


# --- JSON -------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("make", [small, hostile, Collected], ids=lambda make: make.__name__)
def test_a_report_read_again_is_the_same_bytes(make: Any) -> None:
    text = json_text(report(make()))
    assert text.isascii() and json_text(loaded(text, "it")) == text
    assert json.loads(text)["format"] == "lowlatency.fleet.audit"


def test_no_part_of_a_report_is_taken_for_the_whole() -> None:
    text = json_text(report())
    for end in range(0, len(text) - 2, 97):
        with pytest.raises(ReportError, match=r"^half\.json: "):
            loaded(text[:end], "half.json")


@pytest.mark.parametrize(
    ("change", "words"),
    [({"version": 2}, "version 2"), ({"format": "other"}, "no report of this collection"), ({"hosts": []}, "no whole"), ({"hosts": {"a": None}}, "no whole"),
     ({"when": {}}, "no whole report"), ({"waivers": [{}]}, "no whole report"), ({"hosts": {"a": {"problem": {"kind": "x", "message": ""}}}}, "unknown")],
)
def test_what_is_no_report_is_refused_by_name(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ReportError, match=words):
        loaded(json.dumps({**json.loads(json_text(report())), **change}), "it")


def test_a_verdict_in_a_file_is_not_believed_but_made_anew() -> None:
    text = json_text(report()).replace('"verdict": "drifted"', '"verdict": "ok"')
    assert json_text(loaded(text, "it")) == json_text(report())


# --- merged -----------------------------------------------------------------------------------------------------------

def slices() -> list[dict[str, Any]]:
    """The small fleet as two runs over its halves, each read from its JSON."""
    whole = small()
    parts = []
    for odd in (0, 1):
        part = Collected()
        part.hosts = {name: seen for number, (name, seen) in enumerate(whole.hosts.items()) if number % 2 == odd}
        parts.append(loaded(json_text(report(part, when={"started": f"2026-11-27T06:0{odd}:00Z", "ended": f"2026-11-27T06:0{odd + 4}:00Z"})), "it"))
    return parts


def test_slices_merged_are_the_bytes_of_one_run() -> None:
    both, twice = merged(slices())
    assert twice == [] and json_text(both) == json_text(report())
    assert json_text(merged(reversed(slices()))[0]) == json_text(report())


def test_of_a_host_in_two_reports_the_later_one_counts_and_that_is_told() -> None:
    later = Collected()
    later.result("down", {"settings": [setting("vm.swappiness")]})
    both, twice = merged([report(later, when={"started": "2026-11-27T07:00:00Z", "ended": "2026-11-27T07:01:00Z"}), report()])
    assert both["hosts"]["down"]["verdict"] == "ok"
    assert twice == ["down: is in several reports; that of 2026-11-27T07:01:00Z counts"]


def test_a_merge_of_an_audit_and_a_real_run_says_so() -> None:
    assert merged([report(), report(mode="real")])[0]["mode"] == "mixed"
    with pytest.raises(ReportError, match="nothing to merge"):
        merged([])


# --- the machine ------------------------------------------------------------------------------------------------------

def test_the_core_map_shows_each_cpu_with_its_use() -> None:
    shown = core_map(report()["hosts"]["md01"]["machine"])
    (first, second) = shown["sockets"]
    assert [socket["name"] for socket in shown["sockets"]] == ["0", "1"] and [node["name"] for node in second["nodes"]] == ["1"]
    cores = first["nodes"][0]["cores"]
    assert [[thread["cpu"] for thread in core] for core in cores] == [[0, 8], [1, 9], [2, 10], [3, 11]]
    assert [core[0]["use"] for core in cores] == ["housekeeping", "irq", "isolated", "isolated"] and cores[2][1]["use"] == "idle"
    assert cores[2][0]["of"] == ["cores of ens1f0", "feed.service"] and cores[1][0]["of"] == ["interrupts of ens1f0"]
    assert first["nodes"][0]["nics"] == ["ens1f0 0000:3b:00.0 sfc"] and shown["elsewhere"] == ["(no interface) 0000:00:1f.6"]


def test_a_machine_without_a_plan_numa_or_sockets_is_drawn_too() -> None:
    machine = machine_of({"topology": {"cpus_online": "0-2"}})
    assert machine is not None
    (socket,) = core_map(machine)["sockets"]
    assert [[thread["use"] for thread in core] for core in socket["nodes"][0]["cores"]] == [["cpu"], ["cpu"], ["cpu"]]


@pytest.mark.parametrize("topology", [{}, {"cpus_online": HOSTILE}, {"cpus_online": ""}, {"cpus_online": "0-9000"}, {**TOPOLOGY, "nodes": HOSTILE},
                                      {**TOPOLOGY, "nics": [HOSTILE]}, {**TOPOLOGY, "nics": 7}, {**TOPOLOGY, "siblings": {"0": None}}])
def test_what_describes_no_machine_is_left_out(topology: dict[str, Any]) -> None:
    assert machine_of({"topology": topology}) is None


@pytest.mark.parametrize("partition", [HOSTILE, {**PARTITION, "isolated": HOSTILE}, {**PARTITION, "nics": HOSTILE}, {"isolated": 7.5}])
def test_a_plan_that_is_none_is_left_out_with_its_machine(partition: Any) -> None:
    assert machine_of({**PREFLIGHT, "partition": partition}) is None


def test_an_unreachable_host_keeps_the_machine_that_it_showed_before() -> None:
    seen = small()
    seen.problem("md01", UNREACHABLE, "connection lost")
    host = report(seen)["hosts"]["md01"]
    assert host["verdict"] == "unreachable" and host["machine"]["isolated"] == "2-3,10-11"
