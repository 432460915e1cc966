# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The formats for other tools: each is read by a reader of its own here, with what a hostile host says in it."""

from __future__ import annotations

import json
import re
import time
import xml.etree.ElementTree as ET

import pytest
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_document import Collected
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_formats import FORMATS, junit, markdown, prometheus
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_history import compared
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_html import page, payload
from ansible_collections.lowlatency.fleet.tests.unit.fixture_report import HOSTILE, hostile, large, report, setting

SAMPLE = re.compile(r'(\w+)(?:\{((?:\w+="(?:[^"\\\n]|\\["\\n])*",?)+)\})? (\d+)')
WAIVER = {"control": "vm.*", "hosts": ["og*"], "name": "*", "reason": "agreed", "owner": "ops", "expires": "2027-01-01", "expired": False}


def waived() -> Collected:
    seen = Collected()
    seen.result("og01", {"settings": [setting("vm.swappiness", "drifted")]})
    return seen


# --- JUnit ------------------------------------------------------------------------------------------------------------

def test_junit_tells_drift_from_errors() -> None:
    root = ET.fromstring(junit(report(problems=["w.yml: cannot be read"])))
    assert {key: root.get(key) for key in ("tests", "failures", "errors", "skipped")} == {"tests": "12", "failures": "1", "errors": "5", "skipped": "1"}
    assert len(root.findall(".//testcase")) == 12 and len(root.findall(".//failure")) == 1 and len(root.findall(".//error")) == 5
    suites = {suite.get("name"): suite for suite in root}
    failure = suites["md01"].find("testcase[@name='net.ipv4.tcp_sack']/failure")
    assert failure is not None and "is 0, wanted 1" in str(failure.get("message"))
    unreachable = suites["down"].find("testcase/error")
    assert unreachable is not None and unreachable.get("message") == "unreachable: no route to host"
    for suite in root:
        assert int(str(suite.get("tests"))) == len(suite), suite.get("name")


def test_waived_drift_is_skipped_in_junit_with_its_reason() -> None:
    root = ET.fromstring(junit(report(waived(), waiver_for=lambda host, row: WAIVER, waivers=[WAIVER])))
    skipped = root.find(".//skipped")
    assert skipped is not None and root.get("failures") == "0"
    assert str(skipped.get("message")).startswith("waived: agreed, allowed by ops, until 2027-01-01; vm.swappiness is 0, wanted 1")


def test_xml_cannot_be_broken_by_a_host() -> None:
    root = ET.fromstring(junit(report(hostile(), problems=[HOSTILE])))
    assert root[0].get("name") == HOSTILE.translate({ord(char): repr(char)[1:-1] for char in HOSTILE if not char.isprintable()})
    assert len(root.findall(".//testcase")) == 8


# --- Markdown ---------------------------------------------------------------------------------------------------------

def test_markdown_has_the_worst_hosts_first_and_what_to_do() -> None:
    text = markdown(report(waivers=[WAIVER]), compared(report(Collected()), report()))
    hosts = re.findall(r"^\| (\w+) \| (?!verdict)(\w+) \|", text, re.MULTILINE)[:6]
    assert hosts == [("down", "unreachable"), ("nopython", "failed"), ("md02", "error"), ("md01", "drifted"), ("og01", "changed"), ("late", "unjudged")]
    assert "| drifted | net.ipv4.tcp\\_sack | net.ipv4.tcp\\_sack | 0 | 1 | 0 | without SACK" in text
    assert "hosts that are new: md01: drifted, 1 drifted" in text and "| vm.\\* | \\* | og\\* | agreed | ops | 2027-01-01 | 0 |" in text


def test_markdown_of_a_hostile_host_is_text_in_its_cells() -> None:
    text = markdown(report(hostile(), problems=[HOSTILE]), compared(report(Collected()), report(hostile())))
    assert "<" not in text and not re.search(r"(?<!\\)[\[\]`]", text) and "@all" not in text and "\x1b" not in text and "://" not in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in tables} == {8, 9} and len(text.splitlines()) < 40


# --- Prometheus -------------------------------------------------------------------------------------------------------

def samples(text: str) -> dict[tuple[str, str], int]:
    """All series of the text format; fails for a line that is none, and for a series that is there twice."""
    found: dict[tuple[str, str], int] = {}
    for line in text.rstrip("\n").split("\n"):
        if not line.startswith("# "):
            match = SAMPLE.fullmatch(line)
            assert match, line
            assert (match[1], match[2]) not in found
            found[match[1], match[2]] = int(match[3])
    return found


def test_prometheus_tells_each_verdict_and_who_was_not_judged() -> None:
    found = samples(prometheus(report()))
    assert found["lowlatency_audit_settings", 'host="md01",verdict="drifted"'] == 1
    assert found["lowlatency_audit_settings", 'host="md01",verdict="error"'] == 0
    assert [found["lowlatency_audit_host_reached", f'host="{host}"'] for host in ("down", "nopython", "md01")] == [0, 1, 1]
    assert [found["lowlatency_audit_host_judged", f'host="{host}"'] for host in ("down", "nopython", "late", "md01")] == [0, 0, 0, 1]
    assert found["lowlatency_audit_not_right", 'host="md02",control="vm.swappiness",verdict="error"'] == 1
    assert found["lowlatency_audit_ended_seconds", None] == 1795759500  # type: ignore[index]


def test_labels_cannot_be_broken_by_a_host() -> None:
    text = prometheus(report(hostile()))
    assert len(samples(text)) > 8 and "\x1b" not in text and "\r" not in text


def test_hosts_whose_names_look_alike_are_series_of_their_own() -> None:
    seen = Collected()
    for host in ("a\x1b", "a\\x1b", 'a"', "a\\"):
        seen.result(host, {"settings": [setting("c", "drifted")]})
    assert len([key for key in samples(prometheus(report(seen))) if key[0] == "lowlatency_audit_not_right"]) == 4
    assert len({host[0] for host in payload(report(seen), None)["hosts"]}) == 4


# --- the page ---------------------------------------------------------------------------------------------------------

def test_the_page_needs_nothing_else_and_runs_nothing_else() -> None:
    text = page(report(hostile()))
    assert text.count("<script") == 2 and text.count("</script>") == 2 and "alert(1)</script>" not in text
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy and policy[1].startswith("default-src 'none'; style-src 'sha256-") and "unsafe" not in policy[1]
    assert not re.search(r"(src|href)=[\"']?(https?:|//)", text)


def test_equal_hosts_cost_the_page_little() -> None:
    def size(hosts: int) -> int:
        seen = Collected()
        for number in range(hosts):
            seen.result(f"host{number:04}", {"settings": [setting(f"control{kind}") for kind in range(150)]})
        return len(page(report(seen)))
    assert (size(110) - size(10)) / 100 < 150 * 6, "bytes a host: a number for each setting"


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_can_tell_of_an_empty_and_of_a_hostile_report(name: str) -> None:
    for seen in (Collected(), hostile()):
        text = FORMATS[name][1](report(seen), None)
        text.encode("utf-8")
        assert not set(text) & set("\x00\x07\x1b\r\u202e\u2028")
    data = re.search(r'id="data">(.*?)</script>', page(report()))
    assert data and len(json.loads(data[1])["hosts"]) == 6


def test_the_report_of_a_thousand_hosts_is_made_in_seconds() -> None:
    begun = time.process_time()
    made = report(large())
    sizes = {name: len(render(made, None)) for name, (_file, render) in FORMATS.items()}
    assert made["totals"]["settings"]["ok"] == 149_500 and made["totals"]["hosts"]["drifted"] == 50
    assert time.process_time() - begun < 20
    assert sizes["html"] < 3_000_000 and sizes["prometheus"] < 1_000_000 and sizes["json"] < 50_000_000
