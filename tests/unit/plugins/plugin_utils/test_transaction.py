# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The transaction on the controller: begin, join, take, and nothing that leaks from one to the next."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.lowlatency.fleet.plugins.module_utils.domains import DOMAINS
from ansible_collections.lowlatency.fleet.plugins.plugin_utils import transaction


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(transaction.C, "DEFAULT_LOCAL_TMP", str(tmp_path))
    return tmp_path


def test_what_joined_is_taken_once() -> None:
    transaction.begin("h")
    transaction.join("h", "tunables", "tcp_tuning", {"values": {"a.b": 1}})
    transaction.join("h", "tunables", "kernel_tunables", {"values": {"c.d": 2}})
    transaction.join("h", "units", "noisy_services", {"removed": ["x"]})
    assert transaction.take("h") == {
        "tunables": {"tcp_tuning": {"values": {"a.b": 1}}, "kernel_tunables": {"values": {"c.d": 2}}},
        "units": {"noisy_services": {"removed": ["x"]}},
    }
    with pytest.raises(AnsibleActionFail):
        transaction.take("h")


def test_a_part_that_joins_again_replaces_itself() -> None:
    transaction.begin("h")
    transaction.join("h", "units", "a", {"removed": ["x"]})
    transaction.join("h", "units", "a", {"removed": ["y"]})
    assert transaction.take("h") == {"units": {"a": {"removed": ["y"]}}}


def test_nothing_of_an_earlier_transaction_is_left_after_begin() -> None:
    transaction.begin("h")
    transaction.join("h", "units", "a", {"removed": ["x"]})
    transaction.begin("h")
    assert transaction.take("h") == {}


def test_hosts_do_not_see_each_other_whatever_their_names() -> None:
    names = ["h", "H", "../h", "h/../x", "h" * 300, "\u00e4"]
    for name in names:
        transaction.begin(name)
        transaction.join(name, "units", "a", {"removed": [name]})
    assert [transaction.take(name) for name in names] == [{"units": {"a": {"removed": [name]}}} for name in names]


def test_everything_lies_in_the_run_s_own_folder(place: Path) -> None:
    transaction.begin("../../h")
    assert [entry.name for entry in place.iterdir()] == ["lowlatency"]
    assert len(os.listdir(place / "lowlatency")) == 1
    assert (place / "lowlatency").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("act", [transaction.take, lambda host: transaction.join(host, "units", "a", {})])
def test_without_begin_the_remedy_is_named(act: object) -> None:
    with pytest.raises(AnsibleActionFail, match=r"h: no transaction is open; the role lowlatency\.fleet\.preflight has to run first"):
        act("h")  # type: ignore[operator]


def test_arguments_are_validated_as_the_module_would() -> None:
    """What is left out has its default; what has none, such as irq_cpus and rules, stays out."""
    asked = {"nics": [{"interface": "eth0", "management": "yes", "rings": {"rx": "max"}}], "required": "rings.rx,eee"}
    spec = transaction.validated("h", "ethtool", DOMAINS["ethtool"].options, asked)
    assert spec == {"required": ["rings.rx", "eee"],
                    "nics": [{"interface": "eth0", "management": True, "rings": {"rx": "max"}, "only_these_rules": False}]}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({}, "nics"), ({"nics": [{}]}, "interface, pci, mac"), ({"nics": [], "featurs": {}}, "featurs"),
     ({"nics": [{"interface": "e", "management": "maybe"}]}, "management")],
)
def test_wrong_arguments_name_host_and_domain(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(AnsibleActionFail, match=f"h: ethtool: .*{words}"):
        transaction.validated("h", "ethtool", DOMAINS["ethtool"].options, arguments)
