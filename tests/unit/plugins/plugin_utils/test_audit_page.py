# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of the report in a real browser: it loads, filters, complains of nothing, and can be read on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_document import Collected
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_history import compared
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_html import page
from ansible_collections.lowlatency.fleet.tests.unit import fixture_report
from ansible_collections.lowlatency.fleet.tests.unit.fixture_browser import CHROMIUM, Browser, browser
from ansible_collections.lowlatency.fleet.tests.unit.fixture_report import report, setting

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (scripts/setup browser)")

HOSTS = "[...document.querySelectorAll('.heat .row button')].map((e) => e.textContent)"
SETTINGS = "[...document.querySelectorAll('table.settings tbody tr')].map((e) => e.innerText)"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture
def window(chromium: Browser) -> Iterator[Browser]:
    chromium.size(1280, 900)
    chromium.complaints.clear()
    chromium.requests.clear()
    yield chromium
    assert chromium.complaints == []
    assert chromium.requests and all(address.endswith("/audit.html") for address in chromium.requests), "nothing but the page itself is loaded"


def shown(window: Browser, place: Path, text: str, address: str = "") -> None:
    (place / "audit.html").write_text(text, encoding="utf-8")
    window.open(f"file://{place / 'audit.html'}{address}")


def test_all_hosts_are_there_the_worst_first(window: Browser, tmp_path: Path) -> None:
    shown(window, tmp_path, page(report()))
    assert window.get(HOSTS) == ["down", "nopython", "md02", "md01", "og01", "late"]
    assert window.get("document.querySelector('#status').textContent") == "6 of 6 hosts, 4 controls"
    assert window.get("document.querySelectorAll('.heat i.drifted').length") == 1
    assert window.get("document.querySelectorAll('.heat i.error').length") == 1


def test_a_search_and_a_filter_leave_what_is_asked_for(window: Browser, tmp_path: Path) -> None:
    shown(window, tmp_path, page(report()))
    window.type("#q", "EIO")
    window.wait(f"{HOSTS}.join() === 'md02'")
    assert "q=EIO" in window.get("location.hash")
    shown(window, tmp_path, page(report()))
    window.click("#wrong")
    window.wait(f"{HOSTS}.join() === 'down,nopython,md02,md01,late'")
    window.click("#v-error")
    window.wait(f"{HOSTS}.join() === 'down,nopython,md01,late'")


def test_a_view_can_be_sent_as_an_address(window: Browser, tmp_path: Path) -> None:
    shown(window, tmp_path, page(report()), "#v=drifted&f=net&host=md01&s=name")
    assert window.get(HOSTS) == ["md01"]
    rows = window.get(SETTINGS)
    assert len(rows) == 1 and "net.ipv4.tcp_sack" in rows[0]
    assert "Why: without SACK a lost tail waits" in rows[0] and "Fix: a run without --check sets it" in rows[0]


def test_a_host_has_its_settings_its_difference_and_its_cores(window: Browser, tmp_path: Path) -> None:
    shown(window, tmp_path, page(report()))
    window.get("[...document.querySelectorAll('.heat .row button')].find((e) => e.textContent === 'md01').id = 'mine'")
    window.click("#mine")
    window.wait("document.querySelector('#host h2') !== null")
    assert [row.split()[0] for row in window.get(SETTINGS)] == ["drifted", "ok", "ok"]
    assert window.get("document.querySelector('#diffs pre').textContent") == "- a = 0\n+ a = 1\n"
    cores = "document.querySelectorAll('#cores .map rect.thread%s').length"
    assert [window.get(cores % use) for use in ("", ".isolated", ".idle", ".irq", ".housekeeping", ".service")] == [16, 2, 2, 1, 11, 1]
    picture = window.get("document.querySelector('#cores').textContent")
    assert all(words in picture for words in ("socket 1", "node 0", "NIC ens1f0 0000:3b:00.0 sfc", "service feed.service: CPUs 2", "offline: CPUs 16-17"))
    assert "NIC on no node: (no interface) 0000:00:1f.6" in picture and "CPU 2: applications; cores of ens1f0; feed.service" in picture


def test_it_can_be_read_on_a_phone(window: Browser, tmp_path: Path) -> None:
    window.size(375, 700, mobile=True)
    seen = fixture_report.small()
    seen.result("md01", {"settings": [setting("x" * 300, "drifted", current="y" * 300, reason="z" * 300)]})
    seen.problem("md01", "failed", "w" * 300)
    shown(window, tmp_path, page(report(seen)), "#host=md01")
    assert len(window.get(SETTINGS)) == 4
    assert window.get("document.documentElement.scrollWidth") <= 375, "nothing but the tables in their boxes is wider than the screen"
    assert window.get("parseFloat(getComputedStyle(document.querySelector('td.value')).fontSize)") >= 12
    assert window.get("Math.max(...[...document.querySelectorAll('table.settings td')].map((e) => e.getBoundingClientRect().right))") <= 375


def test_hostile_text_stays_text(window: Browser, tmp_path: Path) -> None:
    seen = fixture_report.hostile()
    changes = compared(report(Collected()), report(seen))
    shown(window, tmp_path, page(report(seen, problems=[fixture_report.HOSTILE]), changes))
    window.click(".heat .row button")
    window.wait("document.querySelector('#host h2') !== null")
    assert window.get("document.querySelectorAll('img, iframe, a').length") == 0
    assert window.get("document.querySelectorAll('script').length") == 2
    assert "<img src=x onerror=alert(2)>" in window.get("document.querySelector('#host h2').textContent")
    assert len(window.get(SETTINGS)) == 6


def test_changes_and_waivers_are_shown(window: Browser, tmp_path: Path) -> None:
    old = fixture_report.small()
    old.result("md01", {"settings": [setting("net.ipv4.tcp_sack")]})
    waiver = {"control": "x.*", "hosts": ["md*"], "name": "*", "reason": "agreed", "owner": "ops", "expires": "2026-01-01", "expired": True}
    shown(window, tmp_path, page(report(waivers=[waiver]), compared(report(old), report())))
    assert "new drift (1)" in window.get("document.querySelector('#page').textContent")
    assert "2026-01-01 (expired)" in window.get("document.querySelector('#waivers').textContent")


def test_a_thousand_hosts_are_usable(window: Browser, tmp_path: Path) -> None:
    shown(window, tmp_path, page(report(fixture_report.large())))
    assert window.get("document.querySelector('#status').textContent") == "1000 of 1000 hosts, 90 controls"
    assert window.get("document.querySelectorAll('.heat .row').length") < 100, "only what is in sight is drawn"
    window.get("document.querySelector('.heat').scrollTop = 500 * 22")
    window.wait(f"{HOSTS}.includes('md0474.ny4.example.net')")
    window.type("#q", "md0999")
    window.wait(f"{HOSTS}.join() === 'md0999.ny4.example.net'")
    assert window.memory() < 200 << 20
