# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters: each is its model function, documented, with errors as Ansible shows them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.lowlatency.fleet.plugins.filter.cpuset import FilterModule

FOLDER = Path(__file__).resolve().parents[4] / "plugins" / "filter"
FILTERS: dict[str, Callable[..., Any]] = FilterModule().filters()
TOPOLOGY = {"cpus_online": "0-7", "nodes": {"0": "0-7"}, "nics": [{"pci": "0000:01:00.0", "queues": 2}]}


@pytest.mark.parametrize(
    ("name", "args", "value"),
    [
        ("cpulist_to_mask", ("20-25", 32), "03f00000"),
        ("cpulist_to_mask", ("33", "36"), "2,00000000"),
        ("cpulist_to_mask", ("", 8), "00"),
        ("mask_to_cpulist", ("03f00000",), "20-25"),
        ("mask_to_cpulist", ("2,00000000",), "33"),
        ("mask_to_cpulist", ("0",), ""),
        ("cpulist_union", ("0-3", "2-8", "10"), "0-8,10"),
        ("cpulist_union", ("3,2",), "2-3"),
        ("cpulist_minus", ("0-31", "20-25"), "0-19,26-31"),
        ("cpulist_minus", ("0-3", "0", "3-9"), "1-2"),
        ("cpulist_minus", ("0-3", ""), "0-3"),
    ],
)
def test_values(name: str, args: tuple[Any, ...], value: str) -> None:
    assert FILTERS[name](*args) == value


def test_core_partition() -> None:
    found = FILTERS["core_partition"](TOPOLOGY, {"nics": [{"pci": "0000:01:00.0", "application_cores": 4}]})
    assert (found["housekeeping"], found["isolated"], found["isolcpus"]) == ("0-3", "4-7", "managed_irq,domain,4-7")
    assert found["nics"]["0000:01:00.0"] == {"node": 0, "cores": "4-7", "irq_cpus": "2-3", "irq_masks": ["04", "08"], "queue_cpus": [2, 3]}
    assert all(isinstance(reason, str) for reason in found["reasons"])


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("cpulist_to_mask", ("4-2", 8), "runs backwards"),
        ("cpulist_to_mask", (["4"], 8), "must be text"),
        ("cpulist_to_mask", ("9", 8), "CPU 9"),
        ("cpulist_to_mask", ("1", "eight"), "eight"),
        ("cpulist_to_mask", ("1", None), "int"),
        ("mask_to_cpulist", ("0xf",), "no 0x"),
        ("mask_to_cpulist", ("",), "mask"),
        ("cpulist_union", ("0", "x"), "'x'"),
        ("cpulist_minus", ("0", 3), "must be text"),
        ("core_partition", ({}, {}), "cpus_online is missing"),
        ("core_partition", (TOPOLOGY, {"cores": 4}), "unknown cores"),
        ("core_partition", (TOPOLOGY, {"application_cpulist": "0-3"}), r"remove CPU 0, or set allow_cpu0 \(R2\)"),
    ],
)
def test_errors_carry_the_message(name: str, args: tuple[Any, ...], words: str) -> None:
    with pytest.raises(AnsibleFilterError, match=words):
        FILTERS[name](*args)


def test_in_a_template() -> None:
    templar = Templar(loader=DataLoader(), variables={"topology": TOPOLOGY, "cores": "3"})
    for name, door in FILTERS.items():
        templar.environment.filters[name] = door
    text = "{{ (topology | core_partition({'application_cores': cores})).isolated | cpulist_to_mask(8) }}"
    assert templar.template(_trusted(text)) == "1c"


def _trusted(text: str) -> str:
    """The text as a template that may be evaluated; from ansible-core 2.19 on that has to be said."""
    try:
        from ansible.template import trust_as_template
    except ImportError:
        return text
    return trust_as_template(text)


def test_every_filter_is_documented() -> None:
    assert set(FILTERS) <= {path.stem for path in FOLDER.glob("*.yml")}


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_documentation_tells_the_same_arguments(name: str) -> None:
    text = yaml.safe_load((FOLDER / f"{name}.yml").read_text(encoding="utf-8"))
    assert set(text) == {"DOCUMENTATION", "EXAMPLES", "RETURN"}
    documented = text["DOCUMENTATION"]
    assert documented["name"] == name
    code = FILTERS[name].__wrapped__.__code__
    names = code.co_varnames[1:code.co_argcount + bool(code.co_flags & 0x04)]
    assert [option for option in documented["options"] if option != "_input"] == list(names)
    assert documented.get("positional", "").replace(" ", "").split(",") == (list(names) or [""])


def test_documented_defaults_are_those_of_the_intent() -> None:
    from ansible_collections.lowlatency.fleet.plugins.module_utils.model.partition import Intent, NicIntent

    text = yaml.safe_load((FOLDER / "core_partition.yml").read_text(encoding="utf-8"))
    options = text["DOCUMENTATION"]["options"]["intent"]["suboptions"]
    nic = options["nics"]["suboptions"]
    assert {key: option.get("default") for key, option in options.items()} == {**vars(Intent()), "nics": []}
    assert {key: option.get("default") for key, option in nic.items()} == {**vars(NicIntent("")), "pci": None}
