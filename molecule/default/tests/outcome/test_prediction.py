# SPDX-License-Identifier: GPL-3.0-or-later
"""The check-mode run before the first real one said what that run would change: no more and no less, on every host and of every role.

That check mode wrote nothing is what tests/check_mode tells, by the hosts' own tools.
"""

from __future__ import annotations

import json

import pytest

# What only the attempt to write shows: the driver of a virtual NIC refuses what it offers. It is then told as unsupported, by these words.
SHOWN_BY_WRITING = "refuses it"


@pytest.fixture
def runs(node, snapshots):
    """Settings by control and name of the check-mode run, and of the first real run."""
    found = []
    for kind in ("predicted", "done"):
        settings = json.loads((snapshots / f"{node}.{kind}.txt").read_text())
        found.append({(setting["control"], setting["name"]): setting for setting in settings})
        assert len(found[-1]) == len(settings), "a control and a name are one setting"
    return found


def to_be_mended(settings):
    """What a real run has to do something about: neither a finding nor what waits for a boot."""
    return {key for key, setting in settings.items() if setting["state"] == "drifted" and not setting["finding"] and not setting["needs_reboot"]}


def touched(done, predicted):
    """What the real run changed or tried to."""
    return {key for key, setting in done.items()
            if setting["state"] == "changed" or (setting["state"] == "error" and predicted.get(key, {}).get("state") != "error")
            or (setting["state"] == "unsupported" and SHOWN_BY_WRITING in setting["reason"] and predicted.get(key, {}).get("state") == "drifted")}


def test_the_host_was_drifted_when_it_was_looked_at(runs):
    """Without this, a comparison of nothing with nothing would pass."""
    predicted, _done = runs
    assert {"/etc/sysctl.d/80-lowlatency.conf", "/etc/lowlatency/desired.json"} <= {name for _control, name in to_be_mended(predicted)}


def test_what_check_mode_predicted_is_what_the_real_run_changed(runs):
    predicted, done = runs
    assert sorted(to_be_mended(predicted) ^ touched(done, predicted)) == []


def wished(settings):
    """What is wanted, by control and name; findings come and go with what they are about, as that of an irqbalance that runs."""
    return {key: setting["desired"] for key, setting in settings.items() if not setting["finding"]}


def test_both_runs_speak_of_the_same_settings_and_wishes(runs):
    predicted, done = runs
    assert wished(predicted) == wished(done)


def test_what_was_right_or_not_there_stayed_so(runs):
    predicted, done = runs
    others = set(wished(predicted)) - to_be_mended(predicted)
    assert {key: predicted[key]["state"] for key in others} == {key: done[key]["state"] for key in others}
