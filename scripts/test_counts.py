# SPDX-License-Identifier: GPL-3.0-or-later
"""Sums the JUnit results of this clone's last test run: "N passed, N failed, N skipped". Exit code 1 if a test failed or none ran."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

RESULTS = Path(__file__).resolve().parent.parent / ".cache" / "results"


def counts(folder: Path) -> tuple[int, int, int]:
    """(passed, failed, skipped) of every result file in a folder; an error counts as failed."""
    total = failed = skipped = 0
    for path in sorted(folder.glob("*.xml")):
        for suite in ElementTree.parse(path).getroot().iter("testsuite"):
            total += int(suite.get("tests", 0))
            failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            skipped += int(suite.get("skipped", 0))
    return total - failed - skipped, failed, skipped


def main() -> int:
    passed, failed, skipped = counts(RESULTS)
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return int(failed > 0 or passed == 0)


if __name__ == "__main__":
    sys.exit(main())
