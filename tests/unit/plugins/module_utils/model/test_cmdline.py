# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel command line: what is refused and by which rule, whose argument is whose, and what runs, boots and is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.cmdline import (
    ARGUMENTS,
    HUGEPAGES,
    PLANNED,
    PLANNED_KEYS,
    PRESENT,
    SAFETY,
    SIZE_LIMIT,
    TRIAL_MARK,
    CmdlineState,
    Cpus,
    NextBoot,
    Tokens,
    Trial,
    foreign,
    managed,
    next_own,
    plan,
    problems,
    rendered,
    running_own,
    split,
    text_of,
    to_own,
    value_in,
    wanted,
    without,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import (
    DRIFTED,
    ERROR,
    OK,
    UNSUPPORTED,
    Setting,
    SpecError,
    judged,
)
from hypothesis import given
from hypothesis import strategies as st

BASE = ("root=UUID=2f1c", "ro", "console=tty0", "console=ttyS0,115200")
OURS = ("isolcpus=managed_irq,domain,2-3", "nohz_full=2-3")
WHERE = "/etc/default/grub"
PAIRS = "hugepagesz=2M hugepages=0:71 hugepagesz=1G hugepages=0:1"
PAGES = [{"size": "1G", "node": 0, "count": 1, "at": "boot"}, {"size": "2M", "node": 0, "count": 71, "at": "boot"}]


def spec(*, planned: Mapping[str, Any] | None = None, hugepages: list[dict[str, Any]] | None = None, waiver: str = "", **arguments: Any) -> dict[str, Any]:
    """A specification; ``__`` in a name stands for the dot of a module parameter."""
    return {"arguments": {key.replace("__", "."): value for key, value in arguments.items()}, "planned": dict(planned or {}),
            "hugepages": hugepages or [], "security_waiver": waiver}


def problem(key: str, value: object, waiver: str = "") -> str:
    """The one problem with an argument; fails the test when there is none, or more than one."""
    found = problems({"arguments": {key: value}, "security_waiver": waiver})
    assert len(found) == 1, found
    assert key in found[0]
    return found[0]


def accepted(key: str, value: object, waiver: str = "") -> bool:
    return problems({"arguments": {key: value}, "security_waiver": waiver}) == []


def machine(*, boot: Tokens = BASE, owned: Tokens = (), running: Tokens | None = None, **rest: Any) -> CmdlineState:
    """Four cores with two threads each, siblings N and N + 4; nothing isolated yet."""
    siblings = {cpu: frozenset({cpu % 4, cpu % 4 + 4}) for cpu in range(8)}
    cpus = Cpus(frozenset(range(8)), siblings, "GenuineIntel", frozenset({"constant_tsc", "nonstop_tsc", "pdpe1gb"}), "tsc")
    following = NextBoot(boot, owned, "/etc/default/grub.d/80-lowlatency.cfg", None, WHERE)
    state = CmdlineState(boot if running is None else running, following, cpus, "", "", "6.12.9")
    return replace(state, **rest)


def with_cpus(state: CmdlineState, **cpus: Any) -> CmdlineState:
    return replace(state, cpus=replace(state.cpus, **cpus))


def with_boot(state: CmdlineState, **boot: Any) -> CmdlineState:
    return replace(state, boot=replace(state.boot, **boot))


def settings(state: CmdlineState, wish: Mapping[str, Any]) -> dict[str, Setting]:
    """The judged settings by their control; each control is there once."""
    found = [judged(setting) for setting in plan(state, wish).settings]
    by_control = {setting.control: setting for setting in found}
    assert len(by_control) == len(found)
    return by_control


def truths(setting: Setting) -> tuple[str | None, str | None, str | None]:
    return setting.current, setting.persisted, setting.desired


def shown(*tokens: str) -> str | None:
    """How a file of ours with these arguments is shown."""
    return settings(machine(owned=tokens), {})["cmdline.file"].persisted


def refusal(state: CmdlineState, wish: Mapping[str, Any]) -> str:
    with pytest.raises(SpecError) as caught:
        plan(state, wish)
    return str(caught.value)


# --- what is refused on any host --------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["a\nb", "a\n", 'a"b', "a'b", "a b", " a", "$x", "a;b", "a\\b", "a&b", "{a}", "a=b", "a\tb", "`a`", "é"])
def test_what_the_boot_loader_would_read_itself_is_refused(value: str) -> None:
    assert "R9" in problem("iommu", value)
    assert "R9" in problem("some_module.parameter", value)


@pytest.mark.parametrize("value", ["pt", "pt,strict", "a-b_c.d:e/f+g@h%i^j~k", "0x1F"])
def test_ordinary_texts_are_accepted(value: str) -> None:
    assert accepted("iommu", value)


@pytest.mark.parametrize("key", ["isolcpus=2", "a b", "a\nb", 'a"b', "$x", "a;b", ""])
def test_a_name_with_more_than_a_name_in_it_is_refused(key: str) -> None:
    assert "not the name of a kernel argument" in problem(key, "1")


@pytest.mark.parametrize("key", ["nosuchargument", "quiet", "isolcpu", "Intel_idle.max_cstate", "a.b.c", ".b", "a."])
def test_an_argument_that_nobody_knows_is_refused_with_those_that_are_known(key: str) -> None:
    text = problem(key, "1")
    assert "R9" in text and "isolcpus" in text and "MODULE.PARAMETER" in text


@pytest.mark.parametrize("key", ["root", "console", "init", "crashkernel", "ro", "rw", "panic", "module.sig_enforce", "systemd.unit", "systemd.debug_shell",
                                 "rd.break", "lowlatency.trial", "selinux", "BOOT_IMAGE", "pci"])
@pytest.mark.parametrize("value", ["1", True, "a b"])
def test_what_belongs_to_the_installation_is_refused_whatever_its_value(key: str, value: object) -> None:
    assert "belongs to the installation" in problem(key, value) and "R9" in problem(key, value, "SEC-1")


def test_no_argument_is_both_known_and_never_set() -> None:
    assert all("belongs" not in problem(key, "\n") for key in ARGUMENTS)


@pytest.mark.parametrize("key", ["hugepages", "hugepagesz"])
def test_huge_pages_are_not_an_argument_of_this_role(key: str) -> None:
    assert "lowlatency_hugepages" in problem(key, "4")


@pytest.mark.parametrize(("key", "value"), [
    ("mitigations", "off"), ("audit", "0"), ("audit", 0), ("audit", "off"), ("nopti", True), ("nospectre_v2", "present"),
    ("spectre_v2", "off"), ("mce", "off"), ("kvm.nx_huge_pages", "off"), ("nosmep", True), ("init_on_alloc", "0"),
])
def test_a_protection_goes_only_with_a_waiver(key: str, value: object) -> None:
    assert "R18" in problem(key, value) and "security_waiver" in problem(key, value)
    assert accepted(key, value, "SEC-2024-17")


@pytest.mark.parametrize(("key", "value"), [("mitigations", "auto"), ("mitigations", "auto,nosmt"), ("audit", "1"), ("audit", True), ("mce", "ignore_ce"),
                                            ("nopti", False), ("nospectre_v1", None)])
def test_what_keeps_a_protection_needs_no_waiver(key: str, value: object) -> None:
    assert accepted(key, value)


def test_a_waiver_allows_no_wrong_value() -> None:
    assert "takes one of" in problem("mitigations", "of", "SEC-1")
    assert "R9" in problem("spectre_v2", "off;reboot", "SEC-1")


def test_a_planned_value_never_takes_a_protection_away() -> None:
    assert "R18" in problems(spec(planned={"mitigations": "off"}, waiver="SEC-1"))[0]


def test_every_safety_argument_is_known() -> None:
    assert all(key in ARGUMENTS or "." in key for key in SAFETY)


# --- what YAML makes of words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "value", "text"), [
    ("mitigations", False, "off"), ("mitigations", "False", "off"), ("nohz", True, "on"), ("nohz", False, "off"), ("audit", False, "off"),
    ("audit", True, "on"),
    ("pcie_aspm", False, "off"), ("nosoftlockup", True, PRESENT), ("nosoftlockup", "True", PRESENT), ("nosoftlockup", False, None), ("nosmt", True, PRESENT),
    ("nosmt", False, None), ("nosmt", "force", "force"), ("nosmt", "", PRESENT), ("nowatchdog", PRESENT, PRESENT), ("skew_tick", 1, "1"),
    ("skew_tick", "1", "1"),
    ("skew_tick", None, None), ("isolcpus", 2, "2"), ("idle", "poll", "poll"),
])
def test_truth_values_mean_what_the_argument_can_mean_by_them(key: str, value: object, text: str | None) -> None:
    assert text_of(key, value) == text


@pytest.mark.parametrize(("key", "value"), [("skew_tick", True), ("skew_tick", False), ("isolcpus", True), ("mitigations", True), ("pcie_aspm", True),
                                            ("skew_tick", 1.0), ("isolcpus", [2, 3]), ("isolcpus", {"cpus": "2"}), ("iommu", True)])
def test_a_truth_value_or_a_structure_that_means_nothing_is_refused(key: str, value: object) -> None:
    assert "not a value of this argument" in problem(key, value)
    with pytest.raises(SpecError):
        text_of(key, value)


@pytest.mark.parametrize(("key", "value", "rule"), [
    ("skew_tick", 2, "from 0 to 1"), ("skew_tick", -1, "from 0 to 1"), ("skew_tick", "\u0661", "R9"), ("skew_tick", "0x1", "from 0 to 1"),
    ("skew_tick", "", "R9"),
    ("intel_idle.max_cstate", 10, "from 0 to 9"), ("idle", "pol", "poll, halt, nomwait"), ("nosoftlockup", "yes", "takes no value"),
    ("nosmt", "maybe", "force"), ("transparent_hugepage", "off", "always, madvise, never"), ("default_hugepagesz", "4M", "2M, 1G"),
])
def test_a_value_of_the_wrong_kind_is_refused_with_the_right_ones(key: str, value: object, rule: str) -> None:
    assert rule in problem(key, value)


@pytest.mark.parametrize(("key", "value"), [
    ("nvme.poll_queues", 4), ("mlx5_core.debug_mask", "0x1"), ("pcie_aspm.policy", "performance"), ("processor.max_cstate", 1),
])
def test_module_parameters_are_accepted(key: str, value: object) -> None:
    assert accepted(key, value)


@pytest.mark.parametrize(("value", "why"), [("2-", "no CPU, range or stride"), ("3-2", "backwards"), ("", "R9"), ("managed_irq,domain", "no CPU"),
                                            ("managed,2-3", "isolcpus flag 'managed'"), ("all", "isolcpus flag 'all'"), ("2-3,domain", "no CPU")])
def test_an_isolcpus_that_the_kernel_would_not_read_is_refused(value: str, why: str) -> None:
    assert why in problem("isolcpus", value)


@pytest.mark.parametrize("value", ["2-3", "domain,2-3", "managed_irq,domain,2-3", "nohz,managed_irq,domain,2,3", "2-10:2/4"])
def test_isolcpus_takes_the_flags_of_the_kernel(value: str) -> None:
    assert accepted("isolcpus", value)


def test_flags_are_for_isolcpus_alone() -> None:
    assert "no CPU" in problem("nohz_full", "domain,2-3")


@given(st.text(max_size=30), st.one_of(st.text(max_size=30), st.integers(), st.booleans(), st.none(), st.floats(), st.lists(st.integers(), max_size=2)))
def test_nothing_whatever_makes_the_check_itself_fail_or_gets_a_second_argument_in(key: str, value: object) -> None:
    if not problems({"arguments": {key: value}}) and value != PLANNED:
        tokens = rendered(wanted({"arguments": {key: value}}))
        assert tokens == split(" ".join(tokens)) and len(tokens) <= 1
        assert not set("\"'$;\n\\ ") & set("".join(tokens))


@given(st.sampled_from([*ARGUMENTS, "nvme.poll_queues"]), st.text(max_size=12))
def test_no_text_gets_a_second_argument_in(key: str, value: str) -> None:
    if value != PLANNED and not problems({"arguments": {key: value}, "security_waiver": "SEC-1"}):
        assert not set("\"'$;\n\\ ") & set("".join(rendered(wanted({"arguments": {key: value}}))))


# --- sets that must agree ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["nohz_full", "rcu_nocbs"])
def test_another_set_than_isolcpus_is_refused(key: str) -> None:
    (text,) = problems(spec(**{"isolcpus": "managed_irq,domain,2-3,6-7", key: "2-3,6"}))
    assert key in text and "2-3,6-7" in text and "(R5)" in text
    assert problems(spec(**{"isolcpus": "managed_irq,domain,2-3,6-7", key: "6,7,2-3"})) == []


@pytest.mark.parametrize("key", ["irqaffinity", "workqueue.unbound_cpus"])
@pytest.mark.parametrize("isolation", ["isolcpus", "nohz_full"])
def test_housekeeping_that_overlaps_the_isolated_cpus_is_refused(key: str, isolation: str) -> None:
    (text,) = problems(spec(**{isolation: "2-3", key: "0-2"}))
    assert key in text and "CPUs 2 are isolated" in text and "(R7)" in text
    assert problems(spec(**{isolation: "2-3", key: "0-1"})) == []


def test_planned_and_given_sets_are_compared_with_each_other() -> None:
    (text,) = problems(spec(planned={"isolcpus": "2-3"}, isolcpus=PLANNED, nohz_full="2"))
    assert "(R5)" in text


@pytest.mark.parametrize("key", PLANNED_KEYS)
def test_planned_is_for_what_the_partition_plans(key: str) -> None:
    assert accepted(key, PLANNED)


@pytest.mark.parametrize("key", sorted({"skew_tick", "tsc", "mitigations", "nvme.poll_queues", "iommu"}))
def test_planned_is_for_nothing_else(key: str) -> None:
    assert "nothing plans it" in problem(key, PLANNED)


def test_a_planned_value_is_checked_like_any_other() -> None:
    assert "no CPU, range" in problems(spec(planned={"isolcpus": "2-x"}))[0]
    assert problems(spec(planned={"isolcpus": "", "nosmt": False})) == []


def test_huge_pages_are_checked_too() -> None:
    assert "4M" in problems(spec(hugepages=[{"size": "4M", "node": 0, "count": 1, "at": "boot"}]))[0]


def test_every_problem_is_told_at_once() -> None:
    assert len(problems(spec(root="x", skew_tick=7, nosuch="1"))) == 3


# --- what is wanted ---------------------------------------------------------------------------------------------------


def test_arguments_are_written_in_one_order_whatever_the_order_they_were_asked_for() -> None:
    forward = spec(hugepages=PAGES, default_hugepagesz="1G", zz__last=1, nvme__poll_queues=4, skew_tick=1, nohz_full="2-3", isolcpus="2-3")
    backward = {**forward, "arguments": dict(reversed(forward["arguments"].items()))}
    assert list(wanted(forward)) == list(wanted(backward))
    assert list(wanted(forward)) == ["isolcpus", "nohz_full", "skew_tick", "nvme.poll_queues", "zz.last", "default_hugepagesz", HUGEPAGES]


def test_huge_pages_stand_last_as_pairs() -> None:
    found = rendered(wanted(spec(hugepages=PAGES, default_hugepagesz="1G")))
    assert found == ("default_hugepagesz=1G", "hugepagesz=2M", "hugepages=0:71", "hugepagesz=1G", "hugepages=0:1")


def test_planned_takes_the_partitions_value_and_is_left_out_without_one() -> None:
    assert wanted(spec(planned={"isolcpus": "managed_irq,domain,2-3"}, isolcpus=PLANNED, nohz_full=PLANNED)) == {"isolcpus": "managed_irq,domain,2-3"}
    assert wanted(spec(planned={"isolcpus": "2-3"}, isolcpus="1")) == {"isolcpus": "1"}
    assert wanted(spec(planned={"isolcpus": "2-3"})) == {}


def test_a_partition_without_siblings_wants_nosmt_unless_something_else_is_said() -> None:
    assert wanted(spec(planned={"nosmt": True})) == {"nosmt": PRESENT}
    assert wanted(spec(planned={"nosmt": True}, nosmt="force")) == {"nosmt": "force"}
    assert wanted(spec(planned={"nosmt": False}, nosmt=PLANNED)) == {}
    assert rendered(wanted(spec(planned={"nosmt": True}, nosmt=PLANNED))) == ("nosmt",)


def test_what_is_null_or_false_is_not_wanted() -> None:
    assert wanted(spec(skew_tick=None, nosoftlockup=False, nowatchdog=True)) == {"nowatchdog": PRESENT}
    assert wanted({}) == {}


# --- what a command line holds ----------------------------------------------------------------------------------------


def test_blanks_in_double_quotes_hold_an_argument_together() -> None:
    assert split('ro  dyndbg="file a.c +p" "x y"=1\tquiet\n') == ("ro", 'dyndbg="file a.c +p"', '"x y"=1', "quiet")
    assert split("") == ()


def test_every_value_of_a_repeated_argument_is_told_in_order() -> None:
    assert value_in(BASE, "console") == "tty0 ttyS0,115200"
    assert value_in(BASE, "ro") == PRESENT
    assert value_in(BASE, "nosmt") is None
    assert value_in(("nosmt", "nosmt=force"), "nosmt") == f"{PRESENT} force"
    assert value_in(("a=", "a=b=c"), "a") == " b=c"


def test_an_argument_is_not_mistaken_for_one_whose_name_begins_the_same() -> None:
    assert value_in(("nohz_full=2", "nohz=on"), "nohz") == "on"


def test_pairs_of_huge_pages_keep_their_order() -> None:
    tokens = ("hugepagesz=2M", "ro", "hugepages=0:71", "hugepagesz=1G", "hugepages=0:1", "default_hugepagesz=1G")
    assert value_in(tokens, HUGEPAGES) == PAIRS
    assert value_in(("ro",), HUGEPAGES) is None


def test_cpu_lists_are_told_in_their_shortest_form() -> None:
    assert value_in(("nohz_full=3,2,6-7",), "nohz_full") == "2-3,6-7"
    assert value_in(("isolcpus=managed_irq,domain,3,2",), "isolcpus") == "managed_irq,domain,2-3"
    assert value_in(("isolcpus=bogus,3,2",), "isolcpus") == "bogus,3,2"
    assert value_in(("iommu=3,2",), "iommu") == "3,2"


TOKENS = st.lists(st.sampled_from([*BASE, *OURS, "quiet", "nosmt", "hugepagesz=2M", "hugepages=4", "a=1", "a=2"]), max_size=8)


@given(TOKENS, TOKENS)
def test_our_arguments_come_off_a_command_line_as_they_were_put_on(others: list[str], own: list[str]) -> None:
    assert without((*others, *own), own) == tuple(others)


@given(TOKENS, st.dictionaries(st.sampled_from(["isolcpus", "nohz_full", "nosmt", "a.b", HUGEPAGES]), st.sampled_from([PRESENT, "2-3", PAIRS]), max_size=5))
def test_wanted_arguments_come_off_again_too(others: list[str], arguments: dict[str, str]) -> None:
    own = rendered(arguments)
    assert without((*others, *own), own) == tuple(others)


def test_the_last_of_two_equal_arguments_is_ours() -> None:
    assert without(("nosmt", "quiet", "nosmt"), ("nosmt",)) == ("nosmt", "quiet")
    assert without(("quiet",), ("nosmt",)) == ("quiet",)


def test_what_the_file_holds_is_ours_and_the_rest_is_not() -> None:
    boot = NextBoot((*BASE, "nosmt", *OURS, "nosmt"), (*OURS, "nosmt"))
    assert foreign(boot) == (*BASE, "nosmt")
    assert sorted(next_own(boot)) == sorted((*OURS, "nosmt"))


def test_an_argument_left_over_from_a_file_that_is_gone_is_ours() -> None:
    boot = NextBoot((*BASE, "quiet", *OURS), (), said=frozenset({"quiet", "console=tty0"}))
    assert next_own(boot) == OURS
    assert foreign(boot) == (*BASE, "quiet")


def test_without_files_to_look_in_nothing_is_taken_for_a_leftover() -> None:
    boot = NextBoot((*BASE, *OURS), (), said=None)
    assert foreign(boot) == (*BASE, *OURS) and next_own(boot) == ()


def test_what_somebody_says_in_a_file_is_no_leftover() -> None:
    boot = NextBoot((*BASE, *OURS), (), said=frozenset({"nohz_full=2-3"}))
    assert next_own(boot) == ("isolcpus=managed_irq,domain,2-3",)


def test_what_somebody_else_sets_to_the_same_value_is_not_added() -> None:
    state = machine(boot=(*BASE, "nohz_full=3,2", "skew_tick=1"))
    assert to_own(state, {"isolcpus": "2-3", "nohz_full": "2-3", "skew_tick": "1"}) == ("isolcpus=2-3",)
    assert to_own(machine(boot=(*BASE, *PAIRS.split())), {HUGEPAGES: PAIRS}) == ()


def test_ours_stay_ours_when_they_are_wanted_again() -> None:
    state = machine(boot=(*BASE, *OURS), owned=OURS)
    assert to_own(state, wanted(spec(isolcpus="managed_irq,domain,2-3", nohz_full="2-3"))) == OURS


def test_of_the_running_arguments_those_we_manage_and_nobody_else_sets_are_ours() -> None:
    state = machine(boot=(*BASE, "skew_tick=1"), running=(*BASE, "skew_tick=1", "isolcpus=2", "nowatchdog", "quiet", "hugepagesz=2M", "hugepages=4"))
    assert running_own(state, spec(isolcpus="2-3", skew_tick=1, hugepages=PAGES)) == ("isolcpus=2", "hugepagesz=2M", "hugepages=4")


def test_what_was_set_before_stays_managed_until_it_is_gone() -> None:
    state = machine(boot=(*BASE, *OURS, "skew_tick=1"), owned=(*OURS, "hugepagesz=2M", "hugepages=0:4"))
    assert managed(state, spec(nowatchdog=True)) == ["nowatchdog", HUGEPAGES, "isolcpus", "nohz_full"]


# --- three truths -----------------------------------------------------------------------------------------------------


def test_nothing_wanted_and_nothing_ours_is_no_setting_at_all() -> None:
    assert plan(machine(), {}).settings == ()
    assert plan(machine(), spec(skew_tick=None)).settings == ()


def test_what_neither_runs_nor_boots_is_drift() -> None:
    found = settings(machine(), spec(isolcpus="managed_irq,domain,2,6", skew_tick=1))
    assert truths(found["cmdline.isolcpus"]) == (None, None, "managed_irq,domain,2,6")
    assert truths(found["cmdline.skew_tick"]) == (None, None, "1")
    assert truths(found["cmdline.file"]) == (None, None, shown("isolcpus=managed_irq,domain,2,6", "skew_tick=1"))
    assert {setting.state for setting in found.values()} == {DRIFTED}
    assert found["cmdline.isolcpus"].needs_reboot and found["isolation.isolated"].needs_reboot and not found["cmdline.file"].needs_reboot


def test_what_boots_and_does_not_run_yet_waits_for_a_boot() -> None:
    state = machine(boot=(*BASE, "skew_tick=1"), owned=("skew_tick=1",), running=BASE)
    found = settings(state, spec(skew_tick=1))
    assert truths(found["cmdline.skew_tick"]) == (None, "1", "1") and found["cmdline.skew_tick"].waits
    assert found["cmdline.file"].state == OK


def test_what_runs_and_would_not_boot_again_is_drift() -> None:
    found = settings(machine(running=(*BASE, "skew_tick=1")), spec(skew_tick=1))
    assert truths(found["cmdline.skew_tick"]) == ("1", None, "1")
    assert found["cmdline.skew_tick"].state == DRIFTED and not found["cmdline.skew_tick"].waits


def test_what_runs_and_boots_is_right() -> None:
    state = machine(boot=(*BASE, "isolcpus=2,6", "nohz_full=6,2"), owned=("isolcpus=2,6", "nohz_full=6,2"), isolated="2,6", nohz_full="2,6")
    found = settings(state, spec(isolcpus="6,2", nohz_full="2,6"))
    for control in ("cmdline.isolcpus", "cmdline.nohz_full", "isolation.isolated", "isolation.nohz_full"):
        assert found[control].state == OK, found[control]


def test_what_somebody_else_sets_rightly_is_right_and_not_in_our_file() -> None:
    found = settings(machine(boot=(*BASE, "skew_tick=1")), spec(skew_tick=1))
    assert found["cmdline.skew_tick"].state == OK
    assert truths(found["cmdline.file"]) == (None, None, None) and found["cmdline.file"].state == OK


def test_what_is_wanted_no_longer_is_drift_towards_nothing() -> None:
    state = machine(boot=(*BASE, *OURS), owned=OURS, isolated="2-3", nohz_full="2-3")
    found = settings(state, {})
    assert truths(found["cmdline.isolcpus"]) == ("managed_irq,domain,2-3", "managed_irq,domain,2-3", None)
    assert truths(found["isolation.isolated"]) == ("2-3", "2-3", None)
    assert truths(found["cmdline.file"]) == (shown(*OURS), shown(*OURS), None)
    assert {setting.state for setting in found.values()} == {DRIFTED}


def test_what_is_wanted_no_longer_goes_back_to_what_somebody_else_sets() -> None:
    found = settings(machine(boot=("skew_tick=0", "skew_tick=1"), owned=("skew_tick=1",)), {})
    assert found["cmdline.skew_tick"].desired == "0"
    assert truths(settings(machine(boot=("console=tty0",), owned=("nosmt",)), {})["cmdline.nosmt"]) == (None, None, None)


def test_huge_pages_are_one_setting() -> None:
    found = settings(machine(running=(*BASE, *PAIRS.split())), spec(hugepages=PAGES))
    assert truths(found["cmdline.hugepages"]) == (PAIRS, None, PAIRS)
    assert found["cmdline.file"].desired == shown(*PAIRS.split())


def test_a_waiver_is_told_where_it_was_needed() -> None:
    found = settings(machine(), spec(mitigations="off", skew_tick=1, waiver="SEC-7"))
    assert found["cmdline.mitigations"].reason == "allowed by SEC-7" and found["cmdline.skew_tick"].reason == ""


# --- isolation as the kernel has it -----------------------------------------------------------------------------------


def test_the_isolation_of_the_next_boot_is_read_from_its_arguments() -> None:
    state = machine(boot=(*BASE, "isolcpus=managed_irq,domain,2,6", "nohz_full=3,7"), owned=("isolcpus=managed_irq,domain,2,6", "nohz_full=3,7"), running=BASE)
    found = settings(state, spec(isolcpus="managed_irq,domain,1,5", nohz_full="1,5"))
    assert truths(found["isolation.isolated"]) == (None, "2,6", "1,5")
    assert truths(found["isolation.nohz_full"]) == (None, "3,7", "1,5")


def test_isolation_is_asked_after_only_where_it_is_managed() -> None:
    found = settings(machine(), spec(skew_tick=1))
    assert not [control for control in found if control.startswith("isolation.")]


def test_a_kernel_that_does_not_tell_what_it_isolates_is_said_to() -> None:
    found = settings(machine(isolated=None), spec(isolcpus="2,6"))
    assert found["isolation.isolated"].state == UNSUPPORTED and found["isolation.isolated"].desired == "2,6"


def test_an_argument_the_kernel_cannot_read_is_shown_as_it_stands() -> None:
    state = machine(boot=(*BASE, "isolcpus=2,6"), owned=("isolcpus=2,6",), running=(*BASE, "isolcpus=bogus,2"), isolated="")
    assert truths(settings(state, spec(isolcpus="2,6"))["cmdline.isolcpus"]) == ("bogus,2", "2,6", "2,6")
    state = with_boot(machine(), tokens=("isolcpus=bogus,2",), owned=("isolcpus=bogus,2",))
    assert settings(state, spec(isolcpus="2,6"))["isolation.isolated"].persisted == "bogus,2"


def test_isolcpus_without_the_domain_flag_does_not_isolate_from_the_scheduler() -> None:
    argument = "isolcpus=managed_irq,2,6"
    state = machine(boot=(*BASE, argument), owned=(argument,), isolated="")
    assert all(setting.state == OK for setting in settings(state, spec(isolcpus="managed_irq,2,6")).values())


# --- what this machine has no use for ---------------------------------------------------------------------------------


def test_a_kernel_without_the_file_knows_no_nohz_full() -> None:
    found = settings(machine(nohz_full=None), spec(nohz_full="2,6", skew_tick=1))
    assert found["cmdline.nohz_full"].state == UNSUPPORTED and "CONFIG_NO_HZ_FULL" in found["cmdline.nohz_full"].reason
    assert found["cmdline.file"].desired == shown("skew_tick=1") and "isolation.nohz_full" not in found


@pytest.mark.parametrize("flags", [frozenset({"constant_tsc"}), frozenset({"nonstop_tsc"}), frozenset[str]()])
@pytest.mark.parametrize("value", ["reliable", "nowatchdog"])
def test_a_tsc_that_may_stop_is_not_declared_reliable(flags: frozenset[str], value: str) -> None:
    found = settings(with_cpus(machine(), flags=flags), spec(tsc=value))
    assert found["cmdline.tsc"].state == UNSUPPORTED and "constant" in found["cmdline.tsc"].reason and found["cmdline.file"].desired is None


@pytest.mark.parametrize("clocksource", ["hpet", "kvm-clock", ""])
def test_a_tsc_that_is_not_the_clock_is_not_declared_reliable(clocksource: str) -> None:
    found = settings(with_cpus(machine(), clocksource=clocksource), spec(tsc="reliable"))
    assert found["cmdline.tsc"].state == UNSUPPORTED and (clocksource or "unknown") in found["cmdline.tsc"].reason


def test_a_good_tsc_and_harmless_values_are_supported() -> None:
    assert settings(machine(), spec(tsc="reliable"))["cmdline.tsc"].state == DRIFTED
    assert settings(with_cpus(machine(), flags=None), spec(tsc="reliable"))["cmdline.tsc"].state == DRIFTED
    assert settings(with_cpus(machine(), clocksource="hpet"), spec(tsc="unstable"))["cmdline.tsc"].state == DRIFTED


@pytest.mark.parametrize(("vendor", "key", "value", "state"), [
    ("AuthenticAMD", "intel_idle.max_cstate", 0, UNSUPPORTED), ("AuthenticAMD", "intel_pstate", "disable", UNSUPPORTED),
    ("AuthenticAMD", "amd_pstate", "passive", DRIFTED), ("GenuineIntel", "amd_pstate", "passive", UNSUPPORTED),
    ("GenuineIntel", "amd_iommu", "off", UNSUPPORTED),
    ("GenuineIntel", "intel_idle.max_cstate", 0, DRIFTED), ("", "intel_idle.max_cstate", 0, DRIFTED), ("AuthenticAMD", "processor.max_cstate", 1, DRIFTED),
])
def test_a_vendors_argument_is_for_that_vendors_cpus(vendor: str, key: str, value: object, state: str) -> None:
    setting = settings(with_cpus(machine(), vendor=vendor), {"arguments": {key: value}})[f"cmdline.{key}"]
    assert setting.state == state and (state != UNSUPPORTED or vendor in setting.reason)


@pytest.mark.parametrize(("kernel", "state"), [
    ("6.5.13", UNSUPPORTED), ("5.14.0-503.el9", UNSUPPORTED), ("6.6.0", DRIFTED), ("6.10.1", DRIFTED), ("7.0", DRIFTED), ("", DRIFTED),
])
def test_unbound_workqueues_can_be_moved_since_6_6(kernel: str, state: str) -> None:
    setting = settings(machine(kernel=kernel), {"arguments": {"workqueue.unbound_cpus": "0-1"}})["cmdline.workqueue.unbound_cpus"]
    assert setting.state == state and (state != UNSUPPORTED or ("6.6" in setting.reason and kernel in setting.reason))


def test_a_cpu_without_pages_of_a_gigabyte_does_not_get_them_as_default() -> None:
    state = with_cpus(machine(), flags=frozenset({"constant_tsc"}))
    assert settings(state, spec(default_hugepagesz="1G"))["cmdline.default_hugepagesz"].state == UNSUPPORTED
    assert settings(state, spec(default_hugepagesz="2M"))["cmdline.default_hugepagesz"].state == DRIFTED


def test_what_we_set_and_the_machine_has_no_use_for_is_taken_out() -> None:
    state = machine(boot=(*BASE, "nohz_full=2,6"), owned=("nohz_full=2,6",), nohz_full=None)
    found = settings(state, spec(nohz_full="2,6"))
    assert truths(found["cmdline.nohz_full"]) == ("2,6", "2,6", None) and found["cmdline.nohz_full"].state == DRIFTED
    assert found["cmdline.file"].desired is None and found["cmdline.file"].state == DRIFTED


def test_a_set_of_an_argument_that_is_not_supported_is_not_refused() -> None:
    assert settings(machine(nohz_full=None), spec(nohz_full="0-63"))["cmdline.nohz_full"].state == UNSUPPORTED


def test_a_container_has_no_command_line_of_its_own() -> None:
    found = settings(CmdlineState(container="podman"), spec(isolcpus="0-63", skew_tick=1))
    assert {setting.state for setting in found.values()} == {UNSUPPORTED} and set(found) == {"cmdline.isolcpus", "cmdline.skew_tick"}
    assert "podman" in found["cmdline.isolcpus"].reason and found["cmdline.isolcpus"].desired == "0-63"


def test_a_boot_loader_that_is_not_understood_is_an_error() -> None:
    (setting,) = plan(with_boot(machine(), problem="boot loader: lilo is not known"), spec(skew_tick=1)).settings
    assert (setting.control, setting.state, setting.reason) == ("cmdline.loader", ERROR, "boot loader: lilo is not known")


# --- refusals on this host --------------------------------------------------------------------------------------------


def test_a_value_of_somebody_else_is_never_overridden() -> None:
    text = refusal(machine(boot=(*BASE, "skew_tick=0")), spec(skew_tick=1))
    assert "skew_tick" in text and "0 is set by somebody else" in text and WHERE in text and "(R17)" in text


def test_other_huge_pages_of_somebody_else_are_a_conflict() -> None:
    assert "(R17)" in refusal(machine(boot=(*BASE, "hugepages=64")), spec(hugepages=PAGES))


def test_a_leftover_of_ours_is_no_conflict() -> None:
    state = with_boot(machine(boot=(*BASE, "skew_tick=0")), said=frozenset(BASE))
    found = settings(state, spec(skew_tick=1))
    assert truths(found["cmdline.skew_tick"]) == ("0", "0", "1")


@pytest.mark.parametrize("key", ["isolcpus", "nohz_full", "rcu_nocbs"])
def test_the_system_keeps_a_core(key: str) -> None:
    text = refusal(machine(), {"arguments": {key: "0-7"}})
    assert "(R1)" in text and "(R2)" not in text and key in text


@pytest.mark.parametrize("key", ["isolcpus", "nohz_full", "rcu_nocbs"])
def test_cpu_0_stays_with_the_system(key: str) -> None:
    assert "(R2)" in refusal(machine(), {"arguments": {key: "0,4"}})


@pytest.mark.parametrize("key", ["isolcpus", "nohz_full", "rcu_nocbs", "irqaffinity", "workqueue.unbound_cpus"])
def test_a_cpu_that_is_not_there_is_refused(key: str) -> None:
    text = refusal(machine(), {"arguments": {key: "2,6,64"}})
    assert "CPUs 64 are not online" in text and "online are 0-7" in text and "(R3)" in text


def test_housekeeping_may_have_every_cpu_and_cpu_0() -> None:
    assert settings(machine(), {"arguments": {"irqaffinity": "0-7", "workqueue.unbound_cpus": "0"}})["cmdline.irqaffinity"].state == DRIFTED


def test_a_core_is_not_split() -> None:
    text = refusal(machine(), spec(isolcpus="managed_irq,domain,2-3,7"))
    assert "CPUs 2 without 6 split a physical core" in text and text.count("(R4)") == 1


def test_a_core_that_is_split_is_told_of_once_whatever_the_number_of_its_threads() -> None:
    state = with_cpus(machine(), siblings={cpu: frozenset({cpu % 2 + step for step in range(0, 8, 2)}) for cpu in range(8)})
    text = refusal(state, spec(isolcpus="1,3"))
    assert "CPUs 1,3 without 5,7 split" in text and text.count("(R4)") == 1


def test_a_thread_that_is_offline_splits_no_core() -> None:
    state = with_cpus(machine(), online=frozenset(range(7)))
    assert settings(state, spec(isolcpus="3"))["cmdline.isolcpus"].state == DRIFTED


def test_without_siblings_only_the_first_thread_of_a_core_is_named() -> None:
    assert settings(machine(), spec(isolcpus="2-3", nosmt=True))["cmdline.isolcpus"].desired == "2-3"
    text = refusal(machine(), spec(isolcpus="2,6", nosmt=True))
    assert "CPU 6 is a sibling" in text and "name 2 alone" in text and "(R28)" in text


def line_of(size: int) -> CmdlineState:
    """A host on which ``skew_tick=1``, the trial's mark and ``panic=10`` make a command line of ``size`` characters."""
    rest = len(f" skew_tick=1 {TRIAL_MARK}={'0' * 16} panic=10")
    return machine(boot=("x" * (size - rest),))


def test_a_command_line_that_the_kernel_would_cut_off_is_refused() -> None:
    assert settings(line_of(SIZE_LIMIT - 1), spec(skew_tick=1))["cmdline.file"].desired == shown("skew_tick=1")
    text = refusal(line_of(SIZE_LIMIT), spec(skew_tick=1))
    assert f"{SIZE_LIMIT} characters" in text and "(R9)" in text


def test_what_the_boot_loader_adds_by_itself_counts_too() -> None:
    state = line_of(SIZE_LIMIT - 1)
    state = replace(state, running=("BOOT_IMAGE=/boot/vmlinuz-6.12.9-amd64", *state.boot.tokens))
    assert "(R9)" in refusal(state, spec(skew_tick=1))


def test_grubby_holds_huge_pages_of_one_size_only() -> None:
    state = with_boot(machine(), repeats=False)
    assert "at: runtime" in refusal(state, spec(hugepages=PAGES))
    assert settings(state, spec(hugepages=PAGES[:1]))["cmdline.file"].desired == shown("hugepagesz=1G", "hugepages=0:1")


def test_every_refusal_is_told_at_once() -> None:
    text = refusal(machine(boot=(*BASE, "skew_tick=0")), spec(skew_tick=1, isolcpus="0-7"))
    assert "(R17)" in text and "(R1)" in text


def test_another_spelling_of_the_same_argument_is_the_same_argument() -> None:
    assert "(R17)" in refusal(machine(boot=(*BASE, "skew-tick=0")), spec(skew_tick=1))


# --- trials -----------------------------------------------------------------------------------------------------------


def test_an_armed_trial_of_what_is_wanted_waits_for_its_boot() -> None:
    found = settings(machine(trial=Trial("armed", ("skew_tick=1",), "the next boot tries it, once")), spec(skew_tick=1))
    assert truths(found["cmdline.trial"]) == ("armed", "armed", "armed") and found["cmdline.trial"].state == OK
    assert found["cmdline.trial"].reason == "the next boot tries it, once"


@pytest.mark.parametrize(("state", "owned"), [("armed", ("skew_tick=0",)), ("armed", ()), ("booted", ("skew_tick=1",)), ("failed", ("skew_tick=1",))])
def test_every_other_trial_is_drift_until_it_is_over(state: str, owned: Tokens) -> None:
    found = settings(machine(trial=Trial(state, owned, "a story")), spec(skew_tick=1))
    assert truths(found["cmdline.trial"]) == (state, None, None)
    assert found["cmdline.trial"].state == DRIFTED and found["cmdline.trial"].reason == "a story"


def test_a_trial_is_told_even_where_nothing_is_wanted() -> None:
    found = settings(machine(trial=Trial("failed", (), "a story")), {})
    assert set(found) == {"cmdline.file", "cmdline.trial"} and found["cmdline.file"].state == OK


def test_no_trial_is_no_setting() -> None:
    assert "cmdline.trial" not in settings(machine(), spec(skew_tick=1))
