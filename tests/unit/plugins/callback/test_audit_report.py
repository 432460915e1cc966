# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report callback: it collects settings of any module and tells failed, unreachable and drifted hosts apart."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.callback.audit_report import CallbackModule

SETTING = {"control": "c", "name": "n", "desired": "1", "current": "0", "persisted": "0", "state": "drifted", "reason": ""}


class Run:
    """A run of the callback; ``old`` results have the attributes of ansible-core before 2.19."""

    def __init__(self, *, old: bool) -> None:
        self.callback = CallbackModule()
        self.lines: list[str] = []
        self.callback._display = SimpleNamespace(display=self.lines.append)
        self.old = old

    def result(self, host: str, **result: Any) -> SimpleNamespace:
        named = SimpleNamespace(get_name=lambda: host)
        return SimpleNamespace(_host=named, _result=result) if self.old else SimpleNamespace(host=named, result=result)

    def ended(self) -> list[str]:
        self.callback.v2_playbook_on_stats(None)
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
