# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports as files: whole or not at all, kept by date, compared; and the commands with their exit codes."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.plugin_utils import audit_history
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_command import main, policies_of, verdict_of
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_document import (
    UNREACHABLE,
    Collected,
    ReportError,
    json_text,
)
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_history import (
    PARTS,
    change_lines,
    compared,
    kept,
    kept_paths,
    last_of,
    written_whole,
)
from ansible_collections.lowlatency.fleet.tests.unit.fixture_report import (
    HOSTILE,
    WHEN,
    hostile,
    report,
    setting,
    small,
)

REPOSITORY = Path(__file__).resolve().parents[4]


def one(host: str, *settings: dict[str, Any]) -> dict[str, Any]:
    seen = Collected()
    seen.expect([host])
    if settings:
        seen.result(host, {"settings": list(settings)})
    return report(seen)


def told(changes: dict[str, Any]) -> dict[str, list[str]]:
    return {part: changes[part] for part in PARTS if changes[part]}


# --- compared ---------------------------------------------------------------------------------------------------------

def test_nothing_changed_between_equal_reports() -> None:
    changes = compared(report(), report())
    assert changes["same"] and list(change_lines(changes)) == ["nothing changed since 2026-11-27T06:05:00Z"]


@pytest.mark.parametrize(
    ("was", "now", "part"),
    [("ok", "drifted", "new_drift"), ("error", "drifted", "new_drift"), ("unsupported", "drifted", "new_drift"), (None, "drifted", "new_drift"),
     ("drifted", "ok", "fixed"), ("drifted", "changed", "fixed"), ("drifted", "unsupported", "untold"), ("drifted", None, "untold"),
     ("drifted", "error", "new_errors"), ("ok", "error", "new_errors"), ("error", "ok", "errors_gone"), ("error", None, "untold"),
     ("ok", "unsupported", ""), ("ok", None, ""), (None, "ok", "")],
)
def test_drift_and_errors_come_and_go_apart(was: str | None, now: str | None, part: str) -> None:
    other = setting("other")
    old, new = (one("a", other, *([setting("vm.swappiness", state)] if state else [])) for state in (was, now))
    assert list(told(compared(old, new))) == ([part] if part else [])


def test_drift_of_a_host_that_cannot_be_reached_is_not_fixed() -> None:
    seen = Collected()
    seen.problem("a", UNREACHABLE, "no route")
    changes = told(compared(one("a", setting("vm.swappiness", "drifted")), report(seen)))
    assert list(changes) == ["untold", "new_errors"] and changes["new_errors"] == ["a: unreachable: no route"]
    assert "no longer in the report" in changes["untold"][0]


def test_hosts_come_and_go() -> None:
    changes = told(compared(one("a", setting("vm.swappiness", "drifted")), one("b")))
    assert changes == {"come": ["b: unjudged, 0 drifted"], "gone": ["a: drifted, 1 drifted"]}


def test_waived_drift_is_not_fixed_and_an_expired_waiver_is_new_drift() -> None:
    seen = Collected()
    seen.result("a", {"settings": [setting("vm.swappiness", "drifted")]})
    waiver = {"control": "*", "hosts": ["*"], "name": "*", "reason": "agreed", "owner": "", "expires": None, "expired": False}
    waived = report(seen, waiver_for=lambda host, row: waiver, waivers=[waiver])
    assert list(told(compared(report(seen), waived))) == ["waived"]
    assert list(told(compared(waived, report(seen)))) == ["new_drift"]


def test_a_comparison_cannot_speak_to_the_terminal() -> None:
    lines = list(change_lines(compared(report(Collected()), report(hostile()))))
    assert len(lines) == 2 and all(line.isprintable() for line in lines)


# --- files ------------------------------------------------------------------------------------------------------------

def test_a_file_is_written_whole_or_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "audit.json"
    written_whole(path, "one\n")

    def full(_descriptor: int) -> None:
        assert path.read_text() == "one\n", "nothing is there before the whole is written"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(audit_history.os, "fsync", full)
    with pytest.raises(ReportError, match=r"cannot be written \(No space left on device\)"):
        written_whole(path, "two\n")
    assert path.read_text() == "one\n" and os.listdir(path.parent) == ["audit.json"]


def test_others_may_read_what_is_written(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        written_whole(tmp_path / "audit.prom", "x\n")
        assert (tmp_path / "audit.prom").stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(before)


def test_reports_are_kept_by_date_and_a_half_written_one_is_told(tmp_path: Path) -> None:
    first = kept(tmp_path, report())
    second = kept(tmp_path, report())
    assert [path.name for path in kept_paths(tmp_path)] == ["20261127T060500Z.json", "20261127T060500Z-2.json"] == [first.name, second.name]
    (tmp_path / "20261128T060500Z.json").write_text(json_text(report())[:500])
    (tmp_path / "20261129T060500Z.json").write_bytes(b"\xff\xfe")
    (tmp_path / "notes.txt").write_text("mine")
    found, problems = last_of(kept_paths(tmp_path))
    assert found is not None and json_text(found) == json_text(report())
    assert len(problems) == 2 and "is no text" in problems[0] and "20261128T060500Z.json: is no whole report" in problems[1]


def test_a_folder_without_reports_has_no_last_one(tmp_path: Path) -> None:
    assert last_of(kept_paths(tmp_path / "none")) == (None, [])


# --- commands ---------------------------------------------------------------------------------------------------------

@pytest.fixture
def small_file(tmp_path: Path) -> Path:
    path = tmp_path / "audit.json"
    path.write_text(json_text(report()))
    return path


@pytest.mark.parametrize(
    ("state", "policy", "code"),
    [("ok", "drift,error", 0), ("drifted", "drift,error", 1), ("drifted", "error", 0), ("drifted", "never", 0), ("error", "drift,error", 2),
     ("error", "drift", 0), ("error", "never", 0), ("unsupported", "drift,error", 0), ("changed", "drift,error", 0)],
)
def test_the_exit_code_follows_the_policy(state: str, policy: str, code: int) -> None:
    assert verdict_of(one("a", setting("vm.swappiness", state)), policies_of(policy))[0] == code


@pytest.mark.parametrize("seen", ["unreachable", "failed", "unjudged", "nothing", "waivers"])
def test_what_could_not_be_told_is_never_right(seen: str) -> None:
    made = Collected()
    if seen in ("unreachable", "failed"):
        made.problem("a", seen, "x")
    elif seen != "nothing":
        made.expect(["a"])
    if seen == "waivers":
        made.result("a", {"settings": [setting("c")]})
    assert verdict_of(report(made, problems=["bad"] if seen == "waivers" else []), ("drift", "error"))[0] == 2


@pytest.mark.parametrize("text", ["", "drift,never", "drifts", "drift;error"])
def test_a_policy_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ReportError, match="give never, or one or both of drift,error"):
        policies_of(text)


def test_verdict_tells_why(small_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verdict", str(small_file)]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1 settings drifted, 1 hosts that are unreachable, 1 hosts that are failed")
    assert "  down: unreachable: no route to host" in lines and any(line.startswith("  md01: net.ipv4.tcp_sack is 0, wanted 1") for line in lines)
    assert main(["verdict", "--quiet", "--fail-on", "drift", str(small_file)]) == 1 and capsys.readouterr().out == ""
    assert main(["verdict", "--fail-on", "never", str(small_file)]) == 0


@pytest.mark.parametrize("arguments", [["verdict", "--fail-on", "never"], ["merge"], ["render", "--to", "html"]])
def test_a_report_that_is_not_whole_ends_with_2_and_one_line(arguments: list[str], small_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_file.write_text(json_text(report())[:-30])
    assert main([*arguments, str(small_file)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith(f"error: {small_file}: is no whole report") and said.err.count("\n") == 1
    assert main([*arguments, str(small_file) + "x"]) == 2


def test_merge_writes_the_bytes_of_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = small()
    for number, names in enumerate((("md01", "down"), ("md02", "og01", "nopython", "late"))):
        part = Collected()
        part.hosts = {name: whole.hosts[name] for name in names}
        (tmp_path / f"{number}.json").write_text(json_text(report(part)))
    assert main(["merge", "-o", str(tmp_path / "all.json"), str(tmp_path / "1.json"), str(tmp_path / "0.json")]) == 0
    assert (tmp_path / "all.json").read_text() == json_text(report())
    assert main(["merge", str(tmp_path / "all.json"), str(tmp_path / "0.json")]) == 0
    assert "md01: is in several reports" in capsys.readouterr().err


def test_compare_takes_two_reports_or_a_folder(tmp_path: Path, small_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = tmp_path / "history"
    fixed = small()
    fixed.result("md01", {"settings": [setting("net.ipv4.tcp_sack")]})
    kept(history, report())
    assert main(["compare", str(history)]) == 2
    assert "holds fewer than two reports" in capsys.readouterr().err
    (history / "20261128T000000Z.json").write_text("{")
    newer = kept(history, report(fixed, when={**WHEN, "ended": "2026-11-28T06:05:00Z"}))
    (history / "20261129T000000Z.json").write_text("")
    assert main(["compare", str(history)]) == 0
    said = capsys.readouterr()
    assert said.out == "since 2026-11-27T06:05:00Z:\n  no longer drifted: md01: net.ipv4.tcp_sack is 1\n" and said.err.count("is no whole report") == 2
    assert main(["compare", str(small_file), str(newer)]) == 0 and capsys.readouterr().out == said.out
    assert main(["compare", str(small_file)]) == 2


def test_render_judges_by_other_waivers_and_shows_what_changed(tmp_path: Path, small_file: Path) -> None:
    (tmp_path / "waivers.yml").write_text("- {control: net.*, hosts: md01, expires: 2026-11-27}\n- {control: net.*}\n")
    out = tmp_path / "out.md"
    assert main(["render", "--to", "markdown", "--waivers", str(tmp_path / "waivers.yml"), "--since", str(small_file), "-o", str(out), str(small_file)]) == 0
    text = out.read_text()
    assert "| md01 | waived |" in text and "waiver 2 waives nothing" in text and "- waived since then: md01" in text
    assert main(["render", "--to", "json", "--waivers", str(tmp_path / "none.yml"), "-o", str(out), str(small_file)]) == 0
    assert "none.yml: cannot be read (No such file or directory); it waives nothing" in out.read_text()


@pytest.mark.parametrize("way", ["script", "clone", "installed"])
def test_the_command_works_from_a_clone_and_from_an_installed_collection(way: str, small_file: Path, tmp_path: Path) -> None:
    if way == "script":
        (tmp_path / "report").symlink_to(REPOSITORY / "scripts" / "report")
        command = [str(tmp_path / "report")]
    elif way == "clone":
        command = [sys.executable, "-S", str(REPOSITORY / "scripts" / "report_command.py")]  # -S: no Ansible, no PyYAML, nothing but Python
    else:
        link = tmp_path / "ansible_collections" / "lowlatency" / "fleet"
        link.parent.mkdir(parents=True)
        link.symlink_to(REPOSITORY)
        command = [sys.executable, "-S", "-m", "ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_command"]
    done = subprocess.run([*command, "verdict", "--fail-on", "drift", str(small_file)], cwd=tmp_path, capture_output=True, text=True, check=False,
                          env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"})
    assert (done.returncode, done.stderr) == (1, ""), done
    assert "net.ipv4.tcp_sack is 0, wanted 1" in done.stdout


def test_what_a_hostile_report_says_on_the_terminal_is_printable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.json").write_text(json_text(report(hostile())))
    main(["verdict", str(tmp_path / "a.json")])
    assert all(line.isprintable() for line in capsys.readouterr().out.split("\n")[:-1])


def test_compared_reports_are_left_as_they_were() -> None:
    old, new = report(), report(hostile())
    before = copy.deepcopy((old, new))
    compared(old, new)
    assert (old, new) == before and HOSTILE in new["hosts"]
