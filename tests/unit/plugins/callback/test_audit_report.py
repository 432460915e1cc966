# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report callback: it collects settings of any module and tells failed, unreachable and drifted hosts apart."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.callback.audit_report import CallbackModule
from ansible_collections.lowlatency.fleet.tests.unit.fixture_report import HOSTILE

SETTING = {"control": "c", "name": "n", "desired": "1", "current": "0", "persisted": "0", "state": "drifted", "reason": ""}


class Run:
    """A run of the callback; ``old`` results have the attributes of ansible-core before 2.19."""

    def __init__(self, *, old: bool) -> None:
        self.callback = CallbackModule()
        self.lines: list[str] = []
        self.warnings: list[str] = []
        self.callback._display = SimpleNamespace(display=self.lines.append, warning=self.warnings.append)
        self.old = old

    def result(self, host: str, **result: Any) -> SimpleNamespace:
        named = SimpleNamespace(get_name=lambda: host)
        return SimpleNamespace(_host=named, _result=result) if self.old else SimpleNamespace(host=named, result=result)

    def options(self, **options: Any) -> None:
        everything = ["json", "junit", "markdown", "prometheus", "html"]
        self.callback._plugin_options = {"folder": None, "formats": everything, "waivers": None, "history": None, "fail_on": "never", "progress": 0, **options}

    def ended(self, **stats: Any) -> list[str]:
        self.callback.v2_playbook_on_stats(SimpleNamespace(**stats))
        return self.lines


@pytest.fixture(params=[True, False], ids=["before 2.19", "2.19"])
def run(request: pytest.FixtureRequest) -> Run:
    return Run(old=request.param)


def test_hosts_are_told_in_order_and_apart(run: Run) -> None:
    run.callback.v2_runner_on_ok(run.result("b", settings=[SETTING]))
    run.callback.v2_runner_on_ok(run.result("a", settings=[{**SETTING, "state": "ok"}]))
    run.callback.v2_runner_on_unreachable(run.result("c", msg="no route to host"))
    run.callback.v2_runner_on_failed(run.result("d", msg="d: nothing was written"))
    assert run.ended() == ["a: 1 ok", "b: 1 drifted", "  drifted  n is 0, wanted 1", "c: unreachable: no route to host", "d: failed: d: nothing was written"]


def test_the_last_word_on_a_setting_counts(run: Run) -> None:
    run.callback.v2_runner_on_ok(run.result("a", settings=[SETTING, {**SETTING, "name": "m"}]))
    run.callback.v2_runner_on_ok(run.result("a", settings=[{**SETTING, "state": "ok"}]))
    assert run.ended()[0] == "a: 1 ok, 1 drifted"


def test_a_failed_module_s_settings_are_shown_too(run: Run) -> None:
    run.callback.v2_runner_on_failed(run.result("a", msg="c n: refused", settings=[{**SETTING, "state": "error", "reason": "refused"}]))
    assert run.ended() == ["a: 1 error", "  error    n: refused (c)", "a: failed: c n: refused"]


def test_a_failure_that_is_ignored_is_none(run: Run) -> None:
    run.callback.v2_runner_on_failed(run.result("a", msg="x"), ignore_errors=True)
    assert run.ended() == []


@pytest.mark.parametrize("settings", [None, "text", [1, None], {}])
def test_what_other_modules_return_is_left_alone(run: Run, settings: object) -> None:
    run.callback.v2_runner_on_ok(run.result("a", settings=settings))
    assert "drifted" not in "".join(run.ended())


def test_a_host_cannot_speak_to_the_terminal(run: Run) -> None:
    hostile = "\x1b[2J\r\nok"
    run.callback.v2_runner_on_ok(run.result(hostile, settings=[dict.fromkeys(SETTING, hostile) | {"state": "drifted"}]))
    run.callback.v2_runner_on_unreachable(run.result("z", msg=hostile))
    assert len(run.ended()) == 3 and all(line.isprintable() for line in run.ended())


# --- files ------------------------------------------------------------------------------------------------------------

def test_nothing_is_written_unless_it_is_asked_for(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run.options()
    run.callback.v2_runner_on_ok(run.result("a", settings=[SETTING]))
    run.ended()
    assert list(tmp_path.iterdir()) == []


def test_the_formats_that_are_asked_for_are_written_and_named(run: Run, tmp_path: Path) -> None:
    run.options(folder=str(tmp_path / "out"), formats=["json", "html"])
    run.callback.v2_runner_on_ok(run.result("a", settings=[SETTING]))
    assert run.ended()[-2:] == [f"audit: {tmp_path}/out/audit.json", f"audit: {tmp_path}/out/audit.html"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["audit.html", "audit.json"]
    assert json.loads((tmp_path / "out" / "audit.json").read_text())["hosts"]["a"]["counts"]["drifted"] == 1


def test_a_run_that_judged_nothing_leaves_the_last_report(run: Run, tmp_path: Path) -> None:
    run.options(folder=str(tmp_path), history=str(tmp_path / "history"))
    run.callback.v2_runner_on_ok(run.result("a", ping="pong"))
    assert run.ended() == [] and list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_a_warning_for_each_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run.options(folder=str(tmp_path / "file"), history=str(tmp_path / "file"))
    run.callback.v2_runner_on_ok(run.result("a", settings=[SETTING]))
    assert run.ended() == ["a: 1 drifted", "  drifted  n is 0, wanted 1"]
    assert len(run.warnings) == 6 and all("cannot be" in warning for warning in run.warnings)


def test_all_formats_of_a_hostile_run_are_written(run: Run, tmp_path: Path) -> None:
    run.options(folder=str(tmp_path), history=str(tmp_path / "history"))
    setting = dict.fromkeys(SETTING, HOSTILE) | {"state": "drifted"}
    run.callback.v2_runner_on_ok(run.result(HOSTILE, settings=[setting], diff=[{"before": HOSTILE, "after": ""}]))
    run.callback.v2_runner_on_failed(run.result(HOSTILE, msg=HOSTILE, module_stderr=HOSTILE))
    assert all(line.isprintable() for line in run.ended()) and run.warnings == []
    assert len(list(tmp_path.iterdir())) == 6


def test_a_module_that_crashes_tells_its_last_line(run: Run, tmp_path: Path) -> None:
    run.callback.v2_runner_on_failed(run.result("a", msg="MODULE FAILURE", module_stderr="Traceback\n  File\nZeroDivisionError: division by zero\n"))
    assert run.ended() == ["a: failed: MODULE FAILURE: ZeroDivisionError: division by zero"]


# --- waivers and history ----------------------------------------------------------------------------------------------

def test_waived_drift_is_told_apart_and_a_bad_waiver_is_warned_of(run: Run, tmp_path: Path) -> None:
    (tmp_path / "w.yml").write_text("- {control: c, hosts: a, reason: agreed}\n- {control: c, hosts: b, until: 2020-01-01}\n")
    run.options(waivers=str(tmp_path / "w.yml"), fail_on="drift,error")
    run.callback.v2_runner_on_ok(run.result("a", settings=[SETTING]))
    with pytest.raises(SystemExit) as end:
        run.ended()
    assert run.lines[:2] == ["a: 1 waived", "  waived   n is 0, wanted 1 (agreed)"] and end.value.code == 11
    assert len(run.warnings) == 1 and "waiver 2 waives nothing: no such key until" in run.warnings[0]


def test_what_changed_since_the_last_run_is_told(tmp_path: Path) -> None:
    for state, told in (("ok", None), ("drifted", "  new drift: a: n is 0, wanted 1"), ("drifted", "nothing changed since")):
        run = Run(old=False)
        run.options(history=str(tmp_path), folder=str(tmp_path / "out"), formats=["html"])
        run.callback.v2_runner_on_ok(run.result("a", settings=[{**SETTING, "state": state}]))
        lines = run.ended()
        assert told is None or any(line.startswith(told) for line in lines)
    assert len(list(tmp_path.glob("*.json"))) == 3


def test_a_half_written_last_report_is_warned_of_and_the_one_before_it_counts(run: Run, tmp_path: Path) -> None:
    run.options(history=str(tmp_path))
    run.callback.v2_runner_on_ok(run.result("a", settings=[{**SETTING, "state": "ok"}]))
    run.ended()
    (tmp_path / "29991231T235959Z.json").write_text('{"format": "lowlatency.fl')
    again = Run(old=run.old)
    again.options(history=str(tmp_path))
    again.callback.v2_runner_on_ok(again.result("a", settings=[SETTING]))
    assert any("new drift: a: n is 0" in line for line in again.ended())
    assert len(again.warnings) == 1 and "29991231T235959Z.json: is no whole report" in again.warnings[0]


# --- the end ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(
    ("fail_on", "state", "code"),
    [("drift", "drifted", 10), ("drift", "error", None), ("error", "error", 11), ("error", "drifted", None), ("drift,error", "ok", None),
     ("never", "drifted", None)],
)
def test_the_run_ends_as_asked(run: Run, tmp_path: Path, fail_on: str, state: str, code: int | None) -> None:
    run.options(fail_on=fail_on, folder=str(tmp_path))
    run.callback.v2_runner_on_ok(run.result("a", settings=[{**SETTING, "state": state}]))
    ended = None
    try:
        run.ended(failures={}, dark={})
    except SystemExit as end:
        ended = end.code
    assert ended == code and (tmp_path / "audit.html").exists()


def test_ansible_s_own_exit_code_is_left_where_it_has_one(run: Run) -> None:
    run.options(fail_on="error")
    run.callback.v2_runner_on_unreachable(run.result("a", msg="x"))
    assert run.ended(failures={}, dark={"a": 1})[-1].startswith("audit: fail_on is error: 0 settings drifted, 1 hosts that are unreachable")


def test_a_policy_that_is_none_is_warned_of(run: Run) -> None:
    run.options(fail_on="always")
    run.callback.v2_runner_on_ok(run.result("a", settings=[SETTING]))
    run.ended()
    assert "this run fails on nothing" in run.warnings[0]


def test_a_long_run_says_how_far_it_is(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.options(progress=60)
    run.callback._collected.expect(["a", "b", "c"])
    now = time.monotonic()
    for seconds, host in ((59, "a"), (61, "b"), (62, "c")):
        monkeypatch.setattr(time, "monotonic", lambda seconds=seconds: now + seconds)
        run.callback.v2_runner_on_ok(run.result(host, settings=[SETTING]))
    assert run.lines == ["audit: 2 of 3 hosts judged, 0 failed or unreachable"]
