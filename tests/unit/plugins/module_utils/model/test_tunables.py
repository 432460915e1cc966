# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tunables: what is refused and with which remedy, what boot leaves, and what is said of keys a host has not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.competitors import Competitor
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import (
    DRIFTED,
    ERROR,
    OK,
    UNSUPPORTED,
    Setting,
    SpecError,
    judged,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.sysctl_files import (
    Later,
    assignments,
    at_boot,
    dotted,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.tunables import (
    BUFFER_FLOOR,
    CONGESTION_CONTROL,
    MODULES_FILE,
    NO_SUCH_TUNABLE,
    OWNED_FILE,
    RANGES,
    Tunable,
    TunablesState,
    machine_wide,
    plan,
    problems,
    proc_path,
    wanted,
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


@pytest.mark.parametrize("key", ["net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"])
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
        ("4096 131072 2147483648", "maximum <= 2147483647"),
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
    with pytest.raises(SpecError, match="bbr3: this kernel has no such congestion control algorithm, nor a module for it; it has bbr, cubic"):
        one(state, CONGESTION_CONTROL, "bbr3")
    inside = having("cubic", key=CONGESTION_CONTROL, algorithms=frozenset({"cubic"}), container="podman")
    setting = one(inside, CONGESTION_CONTROL, "bbr")
    assert setting.state == UNSUPPORTED and "congestion control" in setting.reason


def module_file(algorithm: str, **state: Any) -> list[bytes]:
    files = plan(having("cubic", key=CONGESTION_CONTROL, algorithms=frozenset({"cubic", "bbr"}), **state), {"values": {CONGESTION_CONTROL: algorithm}}).files
    return [file.content for file in files if file.path == MODULES_FILE]


def test_the_module_of_an_algorithm_is_loaded_by_one_owned_file_at_boot() -> None:
    assert [text.splitlines()[1:] for text in module_file("bbr", modules=frozenset({"bbr"}))] == [[b"tcp_bbr"]]
    assert module_file("bbr") == [], "it is built in"
    assert module_file("bbr", modules=frozenset({"bbr"}), container="podman") == []
    assert [text.splitlines()[1:] for text in module_file("cubic", module_file="tcp_bbr")] == [[]], "no longer needed"


WATCHDOG = "kernel.watchdog_cpumask"


def test_a_set_of_cpus_is_compared_as_a_set() -> None:
    state = TunablesState({WATCHDOG: Tunable("0-1,4-5")}, ((OWNED_FILE, f"{WATCHDOG} = 0,1,4,5"),))
    for value in ("5,4,0-1", "planned"):
        setting = judged(plan(state, {"values": {WATCHDOG: value}, "housekeeping": "0-1,4-5"}).settings[0])
        assert (setting.state, setting.desired, setting.persisted) == (OK, "0-1,4-5", "0-1,4-5")


@pytest.mark.parametrize(("value", "remedy"), [("planned", "give housekeeping"), ("5-2", "5-2"), ("many", "many")])
def test_a_set_of_cpus_that_is_none_is_refused(value: str, remedy: str) -> None:
    assert remedy in problem(WATCHDOG, value)


@pytest.mark.parametrize(("key", "value", "remedy"), [
    ("net.ipv4.ip_local_port_range", "15000", "two whole numbers belong here (first and last in ports)"),
    ("net.ipv4.ip_local_port_range", "60999 15000", "first <= last"), ("net.ipv4.ip_local_port_range", "1 65536", "last <= 65535"),
    ("net.ipv4.tcp_mem", "1 2", "three whole numbers belong here (low, pressure and high in pages)"), ("net.ipv4.udp_mem", "3 2 4", "low <= pressure <= high")])
def test_other_vectors_rise_too(key: str, value: str, remedy: str) -> None:
    assert remedy in problem(key, value)
    assert accepted("net.ipv4.ip_local_port_range", "15000\t60999") and accepted("net.ipv4.udp_mem", "1 1 2")


def test_what_the_site_says_wins_over_the_profile() -> None:
    setting = plan(having("0"), {"values": {SACK: 0}, "overrides": {"net/ipv4/tcp_sack": 1}}).settings[0]
    assert setting.desired == "1"
    assert problems({"values": {SACK: 0}, "overrides": {SACK: 7}}) == [f"tunable {SACK}: 7: the kernel takes a whole number from 0 to 1; choose one"]


def test_what_a_boot_sets_later_is_what_stays() -> None:
    ours = ((OWNED_FILE, f"{SACK} = 1"),)
    late = Later(SACK, "0", "ufw (/etc/ufw/sysctl.conf)", "take the key out of it")
    setting = one(TunablesState({SACK: Tunable("1")}, ours, later=(late,)), SACK, 1)
    assert (setting.state, setting.persisted) == (DRIFTED, "0")
    assert setting.reason == "ufw (/etc/ufw/sysctl.conf) sets it after the files of sysctl.d; take the key out of it"
    assert one(TunablesState({SACK: Tunable("1")}, ours, later=(replace(late, value="1"),)), SACK, 1).state == OK


def test_what_else_sets_a_key_is_a_finding() -> None:
    found = Competitor("sysctl.competitor", "/etc/rc.local", "runs sysctl: net.ipv4.tcp_sack = 0", "take the command out")
    settings = plan(TunablesState({SACK: Tunable("1")}, competitors=(found,)), {"values": {SACK: 1}}).settings
    assert [(setting.name, setting.finding, setting.state) for setting in settings[1:]] == [("/etc/rc.local", True, DRIFTED)]


def test_a_pattern_that_sorts_later_does_not_undo_a_key_that_is_named() -> None:
    files = ((OWNED_FILE, f"{SACK} = 1"), ("/etc/sysctl.d/99-all.conf", "net.ipv4.tcp_* = 0"))
    assert one(TunablesState({SACK: Tunable("1")}, files), SACK, 1).state == OK


PATHS = {"paths": [{"bandwidth": "10gbit", "round_trip_ms": 50}, {"bandwidth": "1gbit", "round_trip_ms": 80.5}]}
WIDE = {"net.core.rmem_max": 67108864, "net.core.wmem_max": 268435456, "net.ipv4.tcp_rmem": "4096 262144 67108864", "net.ipv4.tcp_wmem": "4096 65536 67108864"}


def test_paths_raise_maxima_to_twice_bandwidth_x_delay() -> None:
    assert wanted({"values": WIDE, **PATHS}) == {"net.core.rmem_max": "125000000", "net.core.wmem_max": "268435456",
                                                 "net.ipv4.tcp_rmem": "4096 262144 125000000", "net.ipv4.tcp_wmem": "4096 65536 125000000"}
    assert wanted({"values": WIDE})["net.core.rmem_max"] == "67108864"


@pytest.mark.parametrize(("spec", "remedy"), [
    ({"values": WIDE, "overrides": {"net.core.rmem_max": 124999999}, **PATHS}, "at most 124999999 bytes, the paths need 125000000"),
    ({"values": WIDE, "overrides": {"net.ipv4.tcp_rmem": "4096 131072 16777216"}, **PATHS}, "R11"),
    ({"values": {"net.core.rmem_max": 67108864}, **PATHS}, "net.core.wmem_max, net.ipv4.tcp_rmem, net.ipv4.tcp_wmem must be among the values"),
    ({"values": WIDE, "paths": [{"bandwidth": "400gbit", "round_trip_ms": 100}]}, "several connections"),
    ({"values": WIDE, "paths": [{"bandwidth": "10", "round_trip_ms": 100}]}, "write them like 10gbit"),
    ({"values": WIDE, "paths": [{"bandwidth": "10gbit", "round_trip_ms": 0}]}, "and 67.5"),
    ({"values": WIDE, "small_buffers": True, **PATHS}, "a long path (paths) needs large ones"),
    ({"values": {}, "small_buffers": True, "traffic": "wan"}, "never on hosts that carry wan"),
    ({"values": {}, "small_buffers": True, "traffic": "bulk"}, "R30"),
    ({"values": {}, "overrides": {"net.core.rmem_default": 16384}, "small_buffers": True}, "small_buffers says 8192"),
    ({"values": {"net.core.rmem_default": 8192}, "traffic": "market_data"}, "or say small_buffers: true (R30)"),
    ({"values": {"net.ipv4.tcp_rmem": "4096 8192 16384"}, "traffic": "bulk"}, "too small for hosts that carry bulk; raise it (R30)"),
    ({"values": {"net.ipv4.tcp_rmem": "4096 8192 6291456"}, "traffic": "wan"}, "R30"),
    ({"values": {SACK: 0}, "traffic": "wan"}, "R14"),
    ({"values": {}, "traffic": "mixed"}, "there are market_data, orders"),
])
def test_values_that_are_wrong_together_are_refused(spec: dict[str, Any], remedy: str) -> None:
    found = problems(spec)
    assert len(found) == 1 and remedy in found[0], found


def test_small_buffers_are_set_by_name_and_their_cost_is_told() -> None:
    state = TunablesState({key: Tunable("212992") for key in ("net.core.rmem_default", "net.core.wmem_default", "net.ipv4.tcp_rmem")})
    spec = {"values": {"net.ipv4.tcp_rmem": "4096 131072 16777216"}, "small_buffers": True, "traffic": "orders"}
    assert problems(spec) == [] and problems({**spec, "traffic": "market_data"}) == []
    settings = {setting.name: setting for setting in plan(state, spec).settings}
    assert {name: setting.desired for name, setting in settings.items() if not setting.finding} == {
        "net.core.rmem_default": "8192", "net.core.wmem_default": "8192", "net.ipv4.tcp_rmem": "4096 8192 16384"}
    assert settings["small buffers"].state == DRIFTED and "6 datagrams of 200 bytes instead of 166" in settings["small buffers"].reason


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
