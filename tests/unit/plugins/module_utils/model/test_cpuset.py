# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CPU lists and masks: the kernel's own examples, and that nothing is lost on the way there and back."""

from __future__ import annotations

import re

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.cpuset import (
    CPU_LIMIT,
    CpusetError,
    format_cpulist,
    format_mask,
    parse_cpulist,
    parse_mask,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import SpecError
from hypothesis import given
from hypothesis import strategies as st

CPUS = st.frozensets(st.integers(min_value=0, max_value=9000), max_size=300)


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("", set()),
        ("\n", set()),
        (" \t\n", set()),
        ("0", {0}),
        ("0-3,8\n", {0, 1, 2, 3, 8}),
        ("8,0-3", {0, 1, 2, 3, 8}),
        ("0-1,1-2,2", {0, 1, 2}),
        ("1 3\t5\n7", {1, 3, 5, 7}),
        ("1,,3,", {1, 3}),
        ("007", {7}),
        ("5-5", {5}),
        ("0-10:2/4", {0, 1, 4, 5, 8, 9}),
        ("0-10:4/4", set(range(11))),
        ("2-9:1/3", {2, 5, 8}),
        ("0-3:0/2", set()),
        ("1023-1025", {1023, 1024, 1025}),
    ],
)
def test_lists_are_read_as_the_kernel_reads_them(text: str, cpus: set[int]) -> None:
    assert parse_cpulist(text) == cpus


@pytest.mark.parametrize(
    "text",
    [
        "a", "0-", "-1", "1-2-3", "3-1", "0x3", "1.5", "0 - 3", "0-3:2", "0-3:2/", "0-3:2/0", "0-3:3/2", "5:1/2", "all", "N", "0;1", "\x00", "\ufffd",
        "²", "0-99999999999", "9" * 5000, f"0-{CPU_LIMIT}", str(CPU_LIMIT), "0-7,x",
    ],
)
def test_a_malformed_list_is_refused_with_value_rule_and_remedy(text: str) -> None:
    with pytest.raises(CpusetError) as refusal:
        parse_cpulist(text)
    message = str(refusal.value)
    assert isinstance(refusal.value, SpecError)
    assert repr(text)[:40] in message
    assert len(message) < 400
    assert ";" in message, "the remedy follows the rule"


@pytest.mark.parametrize("value", [3, None, [0, 1], b"0-3", True])
def test_what_is_no_text_is_refused_by_name(value: object) -> None:
    for parse in (parse_cpulist, parse_mask):
        with pytest.raises(CpusetError, match="quotes"):
            parse(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cpus", "text"),
    [(set(), ""), ({0}, "0"), ({2, 3}, "2-3"), ({0, 1, 2, 3, 8}, "0-3,8"), ({1, 3, 5}, "1,3,5"), ({9, 8, 0}, "0,8-9"), (range(512), "0-511")],
)
def test_lists_are_written_as_the_kernel_writes_them(cpus: set[int], text: str) -> None:
    assert format_cpulist(cpus) == text


@pytest.mark.parametrize(
    ("cpus", "nr_cpus", "text"),
    [
        ({0, 1}, 2, "3"),
        (set(), 2, "0"),
        (set(), 12, "000"),
        (range(8), 8, "ff"),
        (range(12), 12, "fff"),
        ({0}, 5, "01"),
        ({0}, 32, "00000001"),
        ({32}, 33, "1,00000000"),
        ({33}, 36, "2,00000000"),
        ({0, 56}, 57, "1000000,00000001"),
        (range(20, 26), 32, "03f00000"),
        ({4, 5, 6, 7, 36, 37, 38, 39}, 64, "000000f0,000000f0"),
        ({3}, 80, "0000,00000000,00000008"),
        ([*range(51, 59), *range(179, 187)], 256, "00000000,00000000,07f80000,00000000,00000000,00000000,07f80000,00000000"),
    ],
)
def test_masks_are_written_as_the_kernel_writes_them(cpus: set[int], nr_cpus: int, text: str) -> None:
    assert format_mask(cpus, nr_cpus) == text
    assert parse_mask(text) == frozenset(cpus)


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("0", set()),
        ("f\n", {0, 1, 2, 3}),
        ("FF", set(range(8))),
        ("00000000,00000000,00000003\n", {0, 1}),
        ("1,0", {32}),
        ("ffffffffffffffff", set(range(64))),
    ],
)
def test_masks_are_read_in_every_width_kernels_print(text: str, cpus: set[int]) -> None:
    assert parse_mask(text) == cpus


@pytest.mark.parametrize("text", ["", "\n", "0x3", "g", "1,,2", ",1", "1,", "1,000000001", "1 2", "-1", "0-3", "\x00", "f" * (CPU_LIMIT // 4 + 1)])
def test_a_malformed_mask_is_refused_and_never_empty(text: str) -> None:
    with pytest.raises(CpusetError):
        parse_mask(text)


@pytest.mark.parametrize(("cpus", "nr_cpus"), [({2}, 2), ({-1}, 2), ({0}, 0), ({0}, -1), ({0}, CPU_LIMIT + 1)])
def test_a_mask_that_cannot_hold_its_cpus_is_refused(cpus: set[int], nr_cpus: int) -> None:
    with pytest.raises(CpusetError):
        format_mask(cpus, nr_cpus)


@pytest.mark.parametrize("cpus", [{-1}, {CPU_LIMIT}])
def test_impossible_cpus_are_not_written_as_a_list(cpus: set[int]) -> None:
    with pytest.raises(CpusetError):
        format_cpulist(cpus)


@given(CPUS)
def test_lists_go_round(cpus: frozenset[int]) -> None:
    text = format_cpulist(cpus)
    assert parse_cpulist(text) == cpus
    assert format_cpulist(parse_cpulist(text)) == text
    assert re.fullmatch(r"(\d+(-\d+)?(,\d+(-\d+)?)*)?", text)


@given(CPUS, st.integers(min_value=1, max_value=9500))
def test_masks_go_round(cpus: frozenset[int], nr_cpus: int) -> None:
    nr_cpus = max(nr_cpus, max(cpus, default=0) + 1)
    text = format_mask(cpus, nr_cpus)
    assert parse_mask(text) == cpus
    leading, *rest = text.split(",")
    assert all(len(group) == 8 for group in rest)
    assert len(rest) == (nr_cpus - 1) // 32
    assert len(leading) == -(-((nr_cpus - 1) % 32 + 1) // 4)


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 40), st.integers(1, 40))
def test_strides_take_the_first_of_each_group(first: int, length: int, used: int, group: int) -> None:
    used = min(used, group)
    expected = {cpu for cpu in range(first, first + length + 1) if (cpu - first) % group < used}
    assert parse_cpulist(f"{first}-{first + length}:{used}/{group}") == expected


@given(st.text(max_size=40))
def test_any_text_is_a_set_or_a_named_refusal(text: str) -> None:
    for parse in (parse_cpulist, parse_mask):
        try:
            assert all(isinstance(cpu, int) for cpu in parse(text))
        except CpusetError as refusal:
            assert str(refusal)
