# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tunables: what is refused and with which remedy, what boot leaves, and what is said of keys a host has not."""

from __future__ import annotations

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import (
    DRIFTED,
    ERROR,
    OK,
    UNSUPPORTED,
    Setting,
    judged,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.tunables import (
    BUFFER_FLOOR,
    BUFFER_TRIPLES,
    CONGESTION_CONTROL,
    NO_SUCH_TUNABLE,
    OWNED_FILE,
    RANGES,
    Tunable,
    TunablesState,
    assignments,
    at_boot,
    dotted,
    machine_wide,
    plan,
    problems,
    proc_path,
)
from hypothesis import given
from hypothesis import strategies as st

SACK = "net.ipv4.tcp_sack"


def problem(key: str, value: object) -> str:
    """The one problem with a value; fails the test when there is none, or more than one."""
    found = problems({"values": {key: value}})
    assert len(found) == 1, found
    assert key in found[0]
    return found[0]


def accepted(key: str, value: object) -> bool:
    return problems({"values": {key: value}}) == []


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", sorted(RANGES))
def test_a_range_has_two_ends(key: str) -> None:
    low, high = RANGES[key]
    assert accepted(key, low) and accepted(key, str(high))
    for value in (low - 1, high + 1, str(high + 1), "many", "1.5", "1 2", "0x10"):
        assert f"from {low} to {high}" in problem(key, value)


@pytest.mark.parametrize("value", ["--5", "-", "- 5", "+5", "\u0663", "1e3"])
def test_what_only_looks_like_a_number_is_refused_not_crashed_on(value: str) -> None:
    assert "whole number" in problem("vm.swappiness", value)
    assert "whole numbers" in problem("net.ipv4.tcp_rmem", f"{value} 8192 16384")


@given(st.text(max_size=30))
def test_no_value_whatever_makes_the_check_itself_fail(value: str) -> None:
    for key in ("vm.swappiness", "net.ipv4.tcp_rmem", "kernel.core_pattern"):
        assert all(isinstance(text, str) for text in problems({"values": {key: value}}))


@given(st.text(max_size=30))
def test_no_key_whatever_makes_the_check_itself_fail_or_leaves_proc_sys(key: str) -> None:
    if not problems({"values": {key: 1}}):
        path = proc_path(dotted(key))
        assert path.startswith("/proc/sys/") and ".." not in path.split("/") and "" not in path.split("/")[1:]


@pytest.mark.parametrize("key", BUFFER_TRIPLES)
@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        ("4096", "three whole numbers"),
        (4096, "three whole numbers"),
        ("4096 131072", "three whole numbers"),
        ("4096 131072 many", "three whole numbers"),
        ("4095 131072 16777216", f"{BUFFER_FLOOR} <= minimum"),
        ("4096 131072 65536", "default <= maximum"),
        ("8192 4096 65536", "minimum <= default"),
        ("4096 131072 2147483648", "< 2 GiB"),
        ("-1 131072 16777216", f"{BUFFER_FLOOR} <= minimum"),
    ],
)
def test_buffers_are_a_rising_triple(key: str, value: object, remedy: str) -> None:
    assert remedy in problem(key, value)


@given(st.lists(st.integers(BUFFER_FLOOR, 2**31 - 1), min_size=3, max_size=3))
def test_a_triple_is_accepted_exactly_when_it_rises(numbers: list[int]) -> None:
    assert accepted("net.ipv4.tcp_rmem", "  ".join(map(str, numbers))) == (numbers == sorted(numbers))


@pytest.mark.parametrize(("value", "written"), [(True, "write 1"), (False, "write 0")])
def test_a_yaml_boolean_is_no_value(value: bool, written: str) -> None:
    assert written in problem(SACK, value)
    assert written in problem("kernel.unheard_of", value)


@pytest.mark.parametrize("value", ["1\n2", "1\nkernel.core_pattern = |/bin/sh", "", "  \n", None, 1.5, [1], {"a": 1}])
def test_a_value_is_one_line_or_number(value: object) -> None:
    assert "a number or a line of text" in problem("kernel.core_pattern", value)


def test_a_newline_at_the_end_is_what_yaml_blocks_have() -> None:
    assert accepted("kernel.core_pattern", "core\n")


@pytest.mark.parametrize("key", sorted(NO_SUCH_TUNABLE))
def test_removed_keys_are_refused_with_what_is_left(key: str) -> None:
    assert NO_SUCH_TUNABLE[key] in problem(key, 1)
    assert NO_SUCH_TUNABLE[key] in problem(key.replace(".", "/"), 1)


@pytest.mark.parametrize("key", ["tcp_sack", "", ".", "net..tcp_sack", "net.ipv4.", ".net.ipv4", "net/../../etc/passwd", "net.ipv4.a b",
                                 "net.ipv4.conf.*.rp_filter", "net.a=b", "net.a\nb", "a.b\0c"])
def test_a_key_is_a_sysctl_name(key: str) -> None:
    found = problems({"values": {key: 1}})
    assert len(found) == 1 and "write it like net.ipv4.tcp_sack" in found[0]


def test_all_that_is_wrong_is_told_at_once() -> None:
    assert len(problems({"values": {SACK: 2, "vm.swappiness": 201, "vm.stat_interval": 1}})) == 2


def test_one_key_in_two_spellings_is_refused() -> None:
    found = problems({"values": {SACK: 1, "net/ipv4/tcp_sack": 0}})
    assert len(found) == 1
    assert SACK in found[0] and "net/ipv4/tcp_sack" in found[0]


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "form", "path"),
    [
        (SACK, SACK, "/proc/sys/net/ipv4/tcp_sack"),
        ("net/ipv4/tcp_sack", SACK, "/proc/sys/net/ipv4/tcp_sack"),
        ("net/ipv4/conf/eth0.7/rp_filter", "net.ipv4.conf.eth0/7.rp_filter", "/proc/sys/net/ipv4/conf/eth0.7/rp_filter"),
        ("net.ipv4.conf.eth0/7.rp_filter", "net.ipv4.conf.eth0/7.rp_filter", "/proc/sys/net/ipv4/conf/eth0.7/rp_filter"),
        (" vm.swappiness ", "vm.swappiness", "/proc/sys/vm/swappiness"),
    ],
)
def test_keys_with_dots_and_slashes(key: str, form: str, path: str) -> None:
    assert dotted(key) == form
    assert proc_path(dotted(key)) == path


@given(st.lists(st.from_regex(r"[a-z0-9_]+(\.[0-9]+)?", fullmatch=True), min_size=2, max_size=6))
def test_both_spellings_of_a_key_are_one_key(parts: list[str]) -> None:
    slashes = "/".join(parts)
    if "." in slashes and slashes.index(".") < slashes.index("/"):
        return  # a first part with a dot: sysctl reads that as the other spelling
    dots = ".".join(part.replace(".", "/") for part in parts)
    assert dotted(slashes) == dotted(dots) == dots
    assert proc_path(dots) == "/proc/sys/" + slashes


# --- sysctl.d(5) -----------------------------------------------------------------------------------------------------


def test_a_file_is_read_as_sysctl_d_says() -> None:
    text = """
# a comment = 1
; another = 1
  net.ipv4.tcp_sack = 0
net.ipv4.tcp_sack=1
-vm.swappiness = 5
-net.ipv4.conf.all.rp_filter
net.ipv4.conf.*.rp_filter = 2
net/ipv4/conf/eth0.7/rp_filter = 1
net.ipv4.tcp_rmem =   4096\t131072   6291456
nonsense
= 7
"""
    assert assignments(text) == {
        SACK: "1",
        "vm.swappiness": "5",
        "net.ipv4.conf.eth0/7.rp_filter": "1",
        "net.ipv4.tcp_rmem": "4096 131072 6291456",
    }


@given(st.text())
def test_no_file_whatever_stops_the_reading(text: str) -> None:
    assert all(key and "*" not in key for key in assignments(text))


def test_the_later_file_wins_and_is_named() -> None:
    files = [("/usr/lib/sysctl.d/50-default.conf", f"{SACK} = 0\nvm.swappiness = 60"), ("/etc/sysctl.d/99-site.conf", f"{SACK} = 1")]
    assert at_boot(files) == {SACK: ("1", "/etc/sysctl.d/99-site.conf"), "vm.swappiness": ("60", "/usr/lib/sysctl.d/50-default.conf")}


# --- the plan --------------------------------------------------------------------------------------------------------


def one(state: TunablesState, key: str, value: object) -> Setting:
    settings = plan(state, {"values": {key: value}}).settings
    assert len(settings) == 1
    return judged(settings[0])


def own(state: TunablesState, values: dict[str, object]) -> str:
    files = plan(state, {"values": values}).files
    assert [(file.path, file.mode) for file in files] == [(OWNED_FILE, 0o644)]
    return files[0].content.decode()


def having(current: str | None, *files: tuple[str, str], key: str = SACK, **more: object) -> TunablesState:
    return TunablesState({key: Tunable(current)}, files, **more)  # type: ignore[arg-type]


def test_right_now_and_after_boot_is_ok() -> None:
    assert one(having("1\n", (OWNED_FILE, f"{SACK} = 1")), SACK, 1).state == OK


def test_right_now_and_wrong_after_boot_has_drifted() -> None:
    setting = one(having("1\n"), SACK, 1)
    assert (setting.state, setting.current, setting.persisted) == (DRIFTED, "1", None)
    assert not setting.live_drift


def test_wrong_now_and_right_after_boot_has_drifted() -> None:
    setting = one(having("0\n", (OWNED_FILE, f"{SACK} = 1")), SACK, 1)
    assert setting.state == DRIFTED and setting.live_drift


def test_vectors_are_compared_by_their_words() -> None:
    state = having("4096\t131072\t6291456\n", (OWNED_FILE, "net.ipv4.tcp_rmem = 4096 131072  6291456"), key="net.ipv4.tcp_rmem")
    assert one(state, "net.ipv4.tcp_rmem", "4096  131072 6291456 ").state == OK


def test_a_later_file_that_wins_has_drifted_and_is_named() -> None:
    later = "/etc/sysctl.d/99-site.conf"
    setting = one(having("1", (OWNED_FILE, f"{SACK} = 1"), (later, f"{SACK} = 0")), SACK, 1)
    assert (setting.state, setting.persisted) == (DRIFTED, "0")
    assert later in setting.reason and "remove the key there" in setting.reason


def test_a_later_file_that_says_the_same_is_no_drift() -> None:
    assert one(having("1", (OWNED_FILE, f"{SACK} = 1"), ("/etc/sysctl.d/99-site.conf", f"{SACK}=1")), SACK, 1).state == OK


def test_an_earlier_file_is_not_blamed() -> None:
    setting = one(having("0", ("/etc/sysctl.d/10-old.conf", f"{SACK} = 0")), SACK, 1)
    assert setting.state == DRIFTED and setting.reason == ""


def test_keys_a_kernel_has_not_are_told_and_only_named_in_the_file() -> None:
    state = TunablesState({SACK: Tunable("1"), "net.ipv4.tcp_new": Tunable(None, writable=False)})
    settings = {setting.name: setting for setting in plan(state, {"values": {SACK: 1, "net.ipv4.tcp_new": 7}}).settings}
    assert settings["net.ipv4.tcp_new"].state == UNSUPPORTED and "no such key" in settings["net.ipv4.tcp_new"].reason
    text = own(state, {SACK: 1, "net.ipv4.tcp_new": 7})
    assert assignments(text) == {SACK: "1"}
    assert "# net.ipv4.tcp_new = 7" in text and "no such key" in text


def test_in_a_container_the_machine_s_keys_are_not_ours() -> None:
    state = TunablesState({SACK: Tunable("1"), "vm.swappiness": Tunable("60")}, container="podman")
    values: dict[str, object] = {SACK: 1, "vm.swappiness": 10}
    settings = {setting.name: setting for setting in plan(state, {"values": values}).settings}
    assert settings["vm.swappiness"].state == UNSUPPORTED and "podman" in settings["vm.swappiness"].reason
    assert settings[SACK].state == OK
    assert assignments(own(state, values)) == {SACK: "1"}


@pytest.mark.parametrize(("key", "machine"), [("vm.swappiness", True), ("kernel.numa_balancing", True), ("fs.file-max", True),
                                              ("net.core.rmem_max", False), ("kernel.shmmax", False), ("kernel.hostname", False)])
def test_what_belongs_to_the_machine(key: str, machine: bool) -> None:
    assert machine_wide(key) == machine


def test_an_unreadable_key_is_an_error_and_no_drift() -> None:
    state = TunablesState({SACK: Tunable("", unreadable="Permission denied")})
    setting = one(state, SACK, 1)
    assert setting.state == ERROR and "Permission denied" in setting.reason
    assert assignments(own(state, {SACK: 1})) == {SACK: "1"}


def test_a_read_only_key_is_right_or_unsupported() -> None:
    locked = TunablesState({SACK: Tunable("1", writable=False)}, ((OWNED_FILE, f"{SACK} = 1"),))
    assert one(locked, SACK, 1).state == OK
    setting = one(locked, SACK, 0)
    assert setting.state == UNSUPPORTED and setting.current == "1" and "read-only" in setting.reason


def test_a_congestion_control_that_can_be_loaded_may_be_asked_for() -> None:
    state = having("cubic", key=CONGESTION_CONTROL, algorithms=frozenset({"cubic", "bbr"}))
    assert one(state, CONGESTION_CONTROL, "bbr").state == DRIFTED
    setting = one(state, CONGESTION_CONTROL, "bbr3")
    assert setting.state == UNSUPPORTED and "congestion control" in setting.reason


def test_the_owned_file_is_sorted_and_the_same_for_the_same_values() -> None:
    state = TunablesState({SACK: Tunable("1"), "vm.swappiness": Tunable("1")})
    assert own(state, {SACK: 1, "vm.swappiness": 2}) == own(state, {"vm.swappiness": "2 ", "net/ipv4/tcp_sack": "1"})


def test_no_values_want_no_file() -> None:
    assert plan(TunablesState({}), {"values": {}}).files == ()


@given(st.dictionaries(st.sampled_from([SACK, "vm.swappiness", "net.ipv4.conf.eth0/7.rp_filter"]),
                       st.one_of(st.integers(), st.text("abc %|/.-=0123456789 \t", min_size=1)), min_size=1))
def test_what_the_owned_file_says_is_what_was_asked_for(values: dict[str, object]) -> None:
    values = {key: value for key, value in values.items() if not problems({"values": {key: value}})}
    state = TunablesState({key: Tunable("?") for key in values})
    if values:
        assert assignments(own(state, values)) == {key: " ".join(str(value).split()) for key, value in values.items()}
