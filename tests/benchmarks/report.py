# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the report of a large fleet costs: CPU seconds, memory and bytes, and how long its page takes in a browser.

The results are made up, and go the way of a run's: through the collector, the document and every format. By default most settings are the same on
all hosts, as in a fleet; ``--unlike`` has every value differ from host to host, which is the worst case for memory and for the page.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_document import (
    Collected,
    json_text,
    loaded,
    merged,
)
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_formats import FORMATS
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_history import compared
from ansible_collections.lowlatency.fleet.tests.unit import fixture_report
from ansible_collections.lowlatency.fleet.tests.unit.fixture_browser import CHROMIUM, browser


def unlike(hosts: int, settings: int) -> Collected:
    """A fleet in which no two hosts have a value in common."""
    seen = Collected()
    for number in range(hosts):
        seen.result(f"md{number:04}.ny4.example.net", fixture_report.PREFLIGHT)
        seen.result(f"md{number:04}.ny4.example.net", {"settings": [
            fixture_report.setting(f"net.kind{kind % 90}.control", name=f"item {kind}", current=f"{number}-{kind}", desired=f"{number}-{kind}")
            for kind in range(settings)]})
    return seen


def step(name: str, work: Callable[[], Any], size: Callable[[Any], str] = lambda _made: "") -> Any:
    """Do it, and print a line: CPU seconds, the peak of memory until now, and the size of what came of it."""
    begun = time.process_time()
    made = work()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name:<12} {time.process_time() - begun:6.2f} s   {peak:6.0f} MiB   {size(made)}", flush=True)
    return made


def bytes_of(text: str) -> str:
    return f"{len(text.encode()) / 2**20:.2f} MiB"


def in_browser(text: str) -> None:
    with tempfile.TemporaryDirectory() as place, browser(Path(place)) as window:
        window.size(1400, 1000)
        (Path(place) / "audit.html").write_text(text, encoding="utf-8")
        begun = time.monotonic()
        window.open(f"file://{place}/audit.html")
        print(f"page loaded  {time.monotonic() - begun:6.2f} s   {window.memory() / 2**20:6.0f} MiB   (time on the clock, heap of the script)")
        drawn = window.get("(() => {const t = performance.now(); const q = document.querySelector('#q'); q.value = 'kind7'; "
                           "document.querySelector('#family').dispatchEvent(new Event('change')); return performance.now() - t;})()")
        print(f"searched     {drawn / 1000:6.2f} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--settings", type=int, default=150)
    parser.add_argument("--unlike", action="store_true", help="no two hosts have a value in common")
    options = parser.parse_args()
    print(f"{options.hosts} hosts x {options.settings} settings{', no two alike' if options.unlike else ''}")
    fleet = unlike if options.unlike else fixture_report.large
    seen = step("collected", lambda: fleet(options.hosts, options.settings))
    report = step("document", lambda: fixture_report.report(seen))
    texts = {name: step(name, lambda name=name: FORMATS[name][1](report, None), bytes_of) for name in FORMATS}  # type: ignore[misc]
    again = step("read again", lambda: loaded(texts["json"], "it"))
    both = step("merged", lambda: merged([again])[0])
    step("compared", lambda: compared(report, both), lambda changes: "nothing changed" if changes["same"] else "something changed")
    assert json_text(both) == texts["json"]
    if CHROMIUM:
        in_browser(texts["html"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
