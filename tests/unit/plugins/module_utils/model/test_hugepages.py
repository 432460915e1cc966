# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Huge pages: what a need comes to, what a node is spared, what the kernel reads from its command line, and the plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.hugepages import (
    ELSEWHERE,
    MOUNT_FILE,
    SIZE_KIB,
    HugepagesState,
    Mount,
    Node,
    boot_tokens,
    pages_of,
    pages_per_node,
    per_node_boot,
    plan,
    problems,
    size_of,
    unit_name,
    unit_text,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import (
    DRIFTED,
    OK,
    UNSUPPORTED,
    Setting,
    SpecError,
    judged,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.topology import Memory, Topology
from hypothesis import given
from hypothesis import strategies as st

GIB = 1 << 20
# Node 2 has CPUs and no memory, node 3 memory and no CPUs.
MACHINE = Topology(
    online=frozenset(range(6)), nodes={0: frozenset((0, 1)), 1: frozenset((2, 3)), 2: frozenset((4, 5)), 3: frozenset()},
    memory={0: Memory(10 * GIB), 1: Memory(20 * GIB), 2: Memory(0), 3: Memory(5 * GIB)}, memory_nodes=frozenset((0, 1, 3)))


def pages(*needs: dict[str, Any], nics: tuple[int, ...] = (1,), able: bool = True) -> list[tuple[str, int, int, str]]:
    return [(page["size"], page["node"], page["count"], page["at"]) for page in pages_per_node(needs, nics, MACHINE, able)]


# --- needs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("need", "expected"),
    [
        ({"size": "2M", "count": 64}, [("2M", 1, 64, "runtime")]),
        ({"size": "1G", "count": 8}, [("1G", 1, 8, "boot")]),
        ({"size": "1G", "count": "8", "node": "0", "at": "runtime"}, [("1G", 0, 8, "runtime")]),
        ({"size": "2M", "count": 1, "node": "all"}, [("2M", 0, 1, "runtime"), ("2M", 1, 1, "runtime"), ("2M", 3, 1, "runtime")]),
        ({"size": "2M", "count": 0, "node": 3, "at": "boot"}, [("2M", 3, 0, "boot")]),
        # 64000 x (2048 + 256) = 147,456,000 bytes
        ({"size": "2M", "buffers": 64000, "buffer_bytes": 2048}, [("2M", 1, 71, "runtime")]),
        ({"size": "1G", "buffers": 64000, "buffer_bytes": 2048}, [("1G", 1, 1, "boot")]),
        ({"size": "2M", "buffers": 1024, "buffer_bytes": 2048, "overhead_bytes": 0}, [("2M", 1, 1, "runtime")]),
        ({"size": "2M", "buffers": 1024, "buffer_bytes": 2048, "overhead_bytes": 1}, [("2M", 1, 2, "runtime")]),
    ],
)
def test_what_a_need_comes_to(need: dict[str, Any], expected: list[tuple[str, int, int, str]]) -> None:
    assert pages(need) == expected


def test_needs_for_one_size_and_node_add_up_and_one_at_boot_takes_all_along() -> None:
    needs = ({"size": "1G", "count": 1}, {"size": "2M", "count": 3, "node": 0}, {"size": "2M", "count": 4, "at": "boot", "node": 0}, {"size": "2M", "count": 5})
    assert pages(*needs) == [("2M", 0, 7, "boot"), ("2M", 1, 5, "runtime"), ("1G", 1, 1, "boot")]


def test_pages_for_the_nics_are_on_each_of_their_nodes_once() -> None:
    assert pages({"size": "2M", "count": 3}, nics=(1, 0, 1)) == [("2M", 0, 3, "runtime"), ("2M", 1, 3, "runtime")]


def test_a_kernel_without_pages_per_node_at_boot_gets_them_at_run_time() -> None:
    assert pages({"size": "1G", "count": 2}, able=False) == [("1G", 1, 2, "runtime")]


def test_four_fifths_of_a_node_are_the_limit() -> None:
    assert pages({"size": "1G", "count": 8, "node": 0}) == [("1G", 0, 8, "boot")]
    with pytest.raises(SpecError, match=r"8194 MiB of huge pages on node 0, which has 10240 MiB .* no more than 8192 MiB there \(R8\)$"):
        pages({"size": "1G", "count": 8, "node": 0}, {"size": "2M", "count": 1, "node": 0})


@pytest.mark.parametrize(
    ("need", "words"),
    [
        ({"size": "2MB", "count": 1}, "'2MB'.*2M and 1G"),
        ({"size": "2048kB", "count": 1}, "'2048kB'.*2M and 1G"),
        ({"count": 1}, "size None"),
        ({"size": "2M"}, "says no amount; give count, or buffers and buffer_bytes"),
        ({"size": "2M", "buffers": 4}, "says no amount"),
        ({"size": "2M", "buffer_bytes": 4}, "says no amount"),
        ({"size": "2M", "count": 1, "buffers": 4}, "both count and buffers"),
        ({"size": "2M", "count": 1, "overhead_bytes": 4}, "both count and overhead_bytes"),
        ({"size": "2M", "count": -1}, "count -1; give a whole number of at least 0"),
        ({"size": "2M", "count": True}, "count True"),
        ({"size": "2M", "count": 1.5}, "count 1.5"),
        ({"size": "2M", "count": "many"}, "count 'many'"),
        ({"size": "2M", "buffers": 0, "buffer_bytes": 2048}, "buffers 0; give a whole number of at least 1"),
        ({"size": "2M", "buffers": 1, "buffer_bytes": 0}, "buffer_bytes 0"),
        ({"size": "2M", "buffers": 1, "buffer_bytes": 1, "overhead_bytes": -1}, "overhead_bytes -1"),
        ({"size": "2M", "count": 1, "at": "once"}, "at 'once'.*boot or at runtime"),
        ({"size": "2M", "count": 1, "node": 7}, "node 7 is no node of this host; the nodes with memory are: 0, 1, 3"),
        ({"size": "2M", "count": 1, "node": 2}, "node 2 has no memory of this host; the nodes"),
        ({"size": "2M", "count": 1, "node": "every"}, "node 'every'; give nic, all, or a whole number"),
        ({"size": "2M", "count": 1, "nodes": 0}, "no such key nodes; there are: size, count"),
        ("2M", "'2M' is no mapping"),
    ],
)
def test_a_need_that_cannot_be_is_refused(need: Any, words: str) -> None:
    with pytest.raises(SpecError, match=rf"^hugepages: .*{words}.*\(R8\)$"):
        pages(need)


def test_pages_for_nics_where_none_is_known_are_refused() -> None:
    with pytest.raises(SpecError, match=r"name the node .*\(R8\)$"):
        pages({"size": "2M", "count": 1}, nics=())
    with pytest.raises(SpecError, match=r"memory of no node.*\(R8\)$"):
        pages_per_node([{"size": "2M", "count": 1, "node": "all"}], (), Topology(online=frozenset((0,))))


def test_no_need_asks_nothing_of_the_machine() -> None:
    assert pages_per_node([], (), Topology(online=frozenset((0,)))) == []


@pytest.mark.parametrize(
    ("release", "able"),
    [("6.12.0-5-amd64", True), ("5.16.0", True), ("5.15.0-92-generic", False), ("5.10.0-28-amd64", False), ("4.18.0-553.el8_10.x86_64", False),
     ("5.14.0-427.el9_4.x86_64", True), ("5.14.0-1.el9", True), ("5.14.0-1.el90", False), ("6.12.0-55.el10", True), ("10.0", True), ("", True), ("x", True)],
)
def test_which_kernels_take_pages_per_node(release: str, able: bool) -> None:
    assert per_node_boot(release) is able


# --- the command line -------------------------------------------------------------------------------------------------


def page(size: str, node: int, count: int, at: str = "boot") -> dict[str, Any]:
    return {"size": size, "node": node, "count": count, "at": at}


def test_the_arguments_of_pages_at_boot() -> None:
    wanted = [page("1G", 1, 8), page("2M", 1, 256), page("2M", 0, 64), page("2M", 2, 9, "runtime"), page("1G", 0, 0)]
    assert boot_tokens(wanted) == ("hugepagesz=2M", "hugepages=0:64,1:256", "hugepagesz=1G", "hugepages=1:8")
    assert boot_tokens([page("2M", 0, 1, "runtime")]) == boot_tokens([]) == ()


WANTED = st.dictionaries(st.tuples(st.sampled_from(["2M", "1G"]), st.integers(0, 1023)), st.integers(1, 10**9), max_size=8)


@given(WANTED, st.lists(st.sampled_from(["quiet", "hugepagesz", "ro", "default_hugepagesz=1G", "root=/dev/sda1"]), max_size=3, unique=True))
def test_the_kernel_reads_what_was_asked_for(wanted: dict[tuple[str, int], int], others: list[str]) -> None:
    tokens = boot_tokens([page(size, node, count) for (size, node), count in wanted.items()])
    assert pages_of([*others, *tokens]) == wanted


@given(st.lists(st.one_of(st.text(max_size=12), st.builds(lambda key, value: f"{key}={value}", st.sampled_from(
    ["hugepages", "hugepagesz", "default_hugepagesz"]), st.text("0129:,-MGKx ²", max_size=8))), max_size=8))
def test_no_command_line_is_too_strange(tokens: list[str]) -> None:
    for (size, _node), count in pages_of(tokens).items():
        assert size in SIZE_KIB and count >= 0


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", {}),
        ("hugepages=64", {("2M", None): 64}),
        ("hugepages=0:64,1:256", {("2M", 0): 64, ("2M", 1): 256}),
        ("default_hugepagesz=1G hugepages=4", {("1G", None): 4}),
        ("hugepages=4 default_hugepagesz=1G", {("1G", None): 4}),
        ("hugepagesz=1G hugepages=4 hugepagesz=2M hugepages=0:5", {("1G", None): 4, ("2M", 0): 5}),
        ("hugepagesz=2048K hugepages=7 hugepagesz=1024M hugepages=1:1", {("2M", None): 7, ("1G", 1): 1}),
        # a size counts once: the pair that comes later is ignored
        ("hugepagesz=2M hugepages=1 hugepagesz=2M hugepages=2", {("2M", None): 1}),
        ("hugepagesz=2M hugepages=1 hugepages=2", {("2M", None): 1}),
        ("default_hugepagesz=2M hugepagesz=2M hugepages=3", {("2M", None): 3}),
        ("default_hugepagesz=2M hugepages=1 hugepagesz=2M hugepages=3", {("2M", None): 1}),
        ("default_hugepagesz=1G default_hugepagesz=2M hugepages=3", {}),
        # a count before every size is that of the default size, and wins over its pair
        ("hugepages=4 hugepagesz=2M hugepages=0:5", {("2M", None): 4}),
        ("hugepages=4 hugepagesz=1G hugepages=2", {("2M", None): 4, ("1G", None): 2}),
        # what follows a size that is none is ignored, once
        ("hugepagesz=3M hugepages=4", {}),
        ("hugepagesz=2M hugepagesz=3M hugepages=4 hugepages=5", {("2M", None): 5}),
        ("hugepagesz= hugepages=4", {}),
        ("hugepagesz=1G hugepages=0:1,x", {}),
        ("hugepagesz=1G hugepages=0:1,5", {}),
        ("hugepagesz=1G hugepages=0:1:2", {}),
        ("hugepagesz=1G hugepages=-4", {}),
        ("hugepagesz=1G hugepages=x hugepages=4", {("1G", None): 4}),
        ('"hugepagesz=1G" hugepages="1:4"', {("1G", 1): 4}),
        ("quiet -- hugepages=4", {}),
    ],
)
def test_a_command_line_is_read_as_the_kernel_reads_it(line: str, expected: dict[tuple[str, int | None], int]) -> None:
    assert pages_of(line.split()) == expected


def test_the_kernel_spells_sizes_in_several_ways() -> None:
    assert [size_of(text) for text in ("2M", "2048K", "2097152", "1024M", "1G", "16M", "")] == ["2M", "2M", "2M", "1G", "1G", "16M", ""]


# --- the specification ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"pages": [{"size": "2M", "node": 0}]}, "size, node and count belong here"),
        ({"pages": ["2M"]}, "belong here"),
        ({"pages": [page("4M", 0, 1)]}, "'4M'; pages come in 2M and 1G"),
        ({"pages": [page("2M", -1, 1)]}, "node -1; give a whole number"),
        ({"pages": [page("2M", 0, -1)]}, "count -1; give a whole number"),
        ({"pages": [{**page("2M", 0, 1), "count": True}]}, "count True"),
        ({"pages": [{**page("2M", 0, 1), "count": "1²"}]}, "count '1²'"),
        ({"pages": [page("2M", 0, 1, "later")]}, "at 'later'"),
        ({"pages": [{**page("2M", 0, 1), "sizes": 1}]}, "no such key sizes"),
        ({"pages": [page("2M", 0, 1), page("2M", 0, 2)]}, "node0 2M: is there twice"),
        ({"mounts": [{"path": "/mnt/a"}]}, "path and size belong here"),
        ({"mounts": [{"path": "/mnt/a", "size": "1GB"}]}, "'1GB'"),
        ({"mounts": [{"path": "/mnt/a", "size": "1G", "mode": 1}]}, "no such key mode"),
        ({"mounts": [{"path": "/mnt/a", "size": "1G", "group": "no group"}]}, "'no group' is no name of a group"),
        ({"mounts": [{"path": "/mnt/a", "size": "1G"}, {"path": "/mnt/a", "size": "2M"}]}, "/mnt/a: is there twice"),
        *(({"mounts": [{"path": path, "size": "1G"}]}, "absolute path of letters") for path in ("mnt/a", "", "/mnt/a b", "/mnt/a\n", "/mnt/'a'", "/mnt/%i", 5)),
        *(({"mounts": [{"path": path, "size": "1G"}]}, "takes detours; write it as /[^/]") for path in ("/mnt/a/", "/mnt//a", "/mnt/../a", "//mnt/a")),
        *(({"mounts": [{"path": path, "size": "1G"}]}, "folder of the system")
          for path in ("/", "/dev", "/dev/shm", "/etc", "/etc/huge", "/usr", "/boot", "/boot/efi", "/var", "/home", "/proc", "/sys/fs", "/run", "/mnt")),
    ],
)
def test_what_is_wrong_on_any_host(spec: dict[str, Any], words: str) -> None:
    found = problems(spec)
    assert len(found) == 1
    with pytest.raises(ValueError, match=words):
        raise ValueError(found[0])


def test_what_is_right_on_some_host() -> None:
    mounts = [{"path": path, "size": "1G"} for path in ("/dev/hugepages", "/dev/hugepages-1G", "/mnt/huge1G", "/hugepages", "/run/huge", "/var/lib/huge")]
    assert problems({"pages": [page("2M", 0, 1), page("2M", 1, 1), {"size": "1G", "node": "0", "count": "4"}], "mounts": mounts}) == []
    assert problems({}) == problems({"pages": None, "mounts": None}) == []


# --- the plan ---------------------------------------------------------------------------------------------------------

PLENTY = Node(32 * GIB, 16 * GIB, 4 * GIB, {"2M": 10, "1G": 2})
STATE = HugepagesState({0: PLENTY, 1: PLENTY}, {}, sizes=frozenset(("2M", "1G")), default_size="2M")


def one(state: HugepagesState, **spec: Any) -> Setting:
    settings = [setting for setting in plan(state, {key: [value] for key, value in spec.items()}).settings if setting.control != ELSEWHERE]
    assert len(settings) == 1
    return settings[0]


def test_pages_where_none_are_planned_are_findings() -> None:
    settings = plan(STATE, {"pages": [page("2M", 1, 10, "runtime")]}).settings
    assert [(setting.name, setting.current) for setting in settings if setting.control == ELSEWHERE] == [("node0 2M", "10")]
    assert all(setting.finding and judged(setting).state == DRIFTED for setting in settings if setting.control == ELSEWHERE)
    none = replace(STATE, nodes={0: replace(PLENTY, pages={"2M": 0}), 1: PLENTY})
    assert [setting.name for setting in plan(none, {"pages": [page("2M", 1, 10, "runtime")]}).settings] == ["node1 2M"]


def test_a_mount_for_a_group_is_one_of_ours() -> None:
    wanted = {"mounts": [{"path": "/dev/hugepages", "size": "2M", "group": "dpdk"}]}
    there = replace(STATE, mounts={"/dev/hugepages": Mount("hugetlbfs", "2M")})
    found = plan(there, wanted)
    assert [(setting.desired, setting.current) for setting in found.settings] == [("pagesize=2M group=dpdk", "pagesize=2M")]
    assert b"Options=pagesize=2M,mode=0770,gid=dpdk\n" in found.files[0].content
    unit = found.files[0].content
    right = replace(STATE, mounts={"/dev/hugepages": Mount("hugetlbfs", "2M", unit, enabled=True, group="dpdk")})
    assert judged(plan(right, wanted).settings[0]).state == OK


def test_pages_at_run_time_are_kept_by_the_agent() -> None:
    assert one(STATE, pages=page("2M", 1, 64, "runtime")) == Setting("hugepages.2M", "node1 2M", "64", "10")


@pytest.mark.parametrize(
    ("boot", "persisted"),
    [({}, "0"), ({("1G", 1): 4}, "4"), ({("1G", 0): 4}, "0"), ({("2M", 1): 4}, "0"), ({("1G", None): 8}, "4"), ({("1G", None): 7}, "3"), (None, None)],
)
def test_pages_at_boot_last_as_the_next_command_line_says(boot: Any, persisted: str | None) -> None:
    setting = one(replace(STATE, boot=boot, boot_unknown="no boot loader"), pages=page("1G", 1, 4))
    assert (setting.current, setting.desired, setting.persisted, setting.needs_reboot) == ("2", "4", persisted, True)
    assert ("says otherwise" in setting.reason) == (persisted not in ("4", None)) and ("no boot loader" in setting.reason) == (persisted is None)


def test_a_count_without_nodes_is_spread_over_those_with_memory_lowest_first() -> None:
    state = replace(STATE, nodes={0: PLENTY, 1: replace(PLENTY, total_kib=0), 2: PLENTY}, boot={("1G", None): 5})
    spec = {"pages": [page("1G", node, 0) for node in (0, 1, 2)]}
    assert [setting.persisted for setting in plan(state, spec).settings] == ["3", "0", "2"]


def test_large_pages_are_written_first_and_mounts_last() -> None:
    spec = {"pages": [page("2M", 0, 1, "runtime"), page("1G", 1, 1), page("1G", 0, 1)], "mounts": [{"path": "/mnt/a", "size": "1G"}]}
    assert [setting.name for setting in plan(STATE, spec).settings] == ["node0 1G", "node1 1G", "node0 2M", "node1 2M", "/mnt/a"]


def test_what_a_node_can_spare_now_is_the_limit_for_what_is_added() -> None:
    # 0.8 x (1 + 1 GiB) - 10 GiB / 10 = 614.4 MiB: 307 pages of 2M
    tight = replace(STATE, nodes={0: Node(10 * GIB, GIB, GIB, {"2M": 100, "1G": 5})})
    assert one(tight, pages=page("2M", 0, 407, "runtime")).desired == "407"
    with pytest.raises(SpecError, match=r"616 MiB more of huge pages on node 0, which can spare 614 MiB now \(1024 MiB free, .*\(R8\)$"):
        plan(tight, {"pages": [page("2M", 0, 408, "runtime")]})
    assert one(tight, pages=page("1G", 0, 6)).needs_reboot, "a boot has all of the memory"


def test_the_reserve_of_a_large_node_is_two_gib() -> None:
    large = replace(STATE, nodes={0: Node(100 * GIB, 10 * GIB, 0, {"1G": 0})})
    assert one(large, pages=page("1G", 0, 6, "runtime")).desired == "6"
    with pytest.raises(SpecError, match="can spare 6144 MiB"):
        plan(large, {"pages": [page("1G", 0, 7, "runtime")]})


@pytest.mark.parametrize("count", [0, 99, 100])
def test_nothing_to_add_is_never_refused(count: int) -> None:
    full = replace(STATE, nodes={0: Node(GIB, 0, 0, {"2M": 100})})
    assert one(full, pages=page("2M", 0, count, "runtime")).desired == str(count)


def test_pages_beyond_a_node_of_this_host_are_refused() -> None:
    with pytest.raises(SpecError, match=r"at most four fifths.*\(R8\)$"):
        plan(STATE, {"pages": [page("1G", 0, 26)]})
    with pytest.raises(SpecError, match=r"node 5 is no node of this host; its nodes are: 0, 1 \(R8\)$"):
        plan(STATE, {"pages": [page("1G", 5, 1)]})


def test_what_this_host_has_not_is_unsupported() -> None:
    small = replace(STATE, nodes={0: replace(PLENTY, pages={"2M": 0})}, sizes=frozenset(("2M",)))
    assert one(small, pages=page("1G", 0, 1)).state == UNSUPPORTED
    assert "no pages of 1G" in one(small, pages=page("1G", 0, 1)).reason
    assert one(small, pages=page("2M", 0, 1, "runtime")).state != UNSUPPORTED
    assert "no NUMA nodes" in one(replace(STATE, nodes={}), pages=page("2M", 0, 1)).reason
    assert "no pages of 1G" in one(small, mounts={"path": "/mnt/a", "size": "1G"}).reason
    assert one(replace(STATE, without="no systemd"), mounts={"path": "/mnt/a", "size": "1G"}).reason == "no systemd"
    assert plan(small, {"mounts": [{"path": "/mnt/a", "size": "1G"}]}).files == ()


def test_in_a_container_all_of_it_belongs_to_the_machine() -> None:
    found = plan(HugepagesState(container="podman"), {"pages": [page("1G", 7, 10**9)], "mounts": [{"path": "/mnt/a", "size": "1G"}]})
    assert found.files == () and [setting.state for setting in found.settings] == [UNSUPPORTED, UNSUPPORTED]
    assert all("belongs to the machine, not to this container (podman)" in setting.reason for setting in found.settings)


RIGHT = Mount("hugetlbfs", "1G", unit_text("/mnt/a", "1G"), enabled=True)


@pytest.mark.parametrize(
    ("mount", "current", "persisted"),
    [
        (Mount(), None, "not mounted"),
        (RIGHT, "pagesize=1G", "pagesize=1G"),
        (replace(RIGHT, filesystem="", size=""), None, "pagesize=1G"),
        (replace(RIGHT, size="2M"), "pagesize=2M", "pagesize=1G"),
        (replace(RIGHT, enabled=False), "pagesize=1G", "not mounted"),
        (replace(RIGHT, unit=None), "pagesize=1G", "not mounted"),
        (replace(RIGHT, unit=unit_text("/mnt/a", "2M")), "pagesize=1G", "not mounted"),
    ],
)
def test_a_mount_lasts_by_its_unit(mount: Mount, current: str | None, persisted: str) -> None:
    found = plan(replace(STATE, mounts={"/mnt/a": mount}), {"mounts": [{"path": "/mnt/a", "size": "1G"}]})
    assert [(setting.current, setting.desired, setting.persisted) for setting in found.settings] == [(current, "pagesize=1G", persisted)]
    assert [(file.control, file.path, file.content) for file in found.files] == [(MOUNT_FILE, "/etc/systemd/system/mnt-a.mount", RIGHT.unit)]


@pytest.mark.parametrize(
    ("mount", "size", "ours"),
    [(Mount("hugetlbfs", "2M"), "2M", False), (Mount("hugetlbfs", "2M"), "1G", True), (Mount(), "2M", True), (Mount("hugetlbfs", "1G"), "1G", True),
     (Mount("hugetlbfs", "2M", unit_text("/dev/hugepages", "1G"), True), "2M", True)],
)
def test_what_systemd_mounts_itself_needs_no_unit_of_ours(mount: Mount, size: str, ours: bool) -> None:
    found = plan(replace(STATE, mounts={"/dev/hugepages": mount}), {"mounts": [{"path": "/dev/hugepages", "size": size}]})
    assert len(found.files) == ours
    assert found.settings[0].persisted == ("not mounted" if ours else f"pagesize={size}")


def test_another_file_system_is_never_hidden() -> None:
    with pytest.raises(SpecError, match=r"ext4 is mounted there, .*choose another path"):
        plan(replace(STATE, mounts={"/mnt/a": Mount("ext4")}), {"mounts": [{"path": "/mnt/a", "size": "1G"}]})


@pytest.mark.parametrize(
    ("path", "unit"),
    [("/dev/hugepages", "dev-hugepages.mount"), ("/dev/hugepages-1G", "dev-hugepages\\x2d1G.mount"), ("/mnt/huge_1.G:a", "mnt-huge_1.G:a.mount"),
     ("/.huge/.a", "\\x2ehuge-.a.mount"), ("/mnt/a+b@c", "mnt-a\\x2bb\\x40c.mount")],
)
def test_units_are_named_as_systemd_names_them(path: str, unit: str) -> None:
    assert unit_name(path) == unit


def test_the_unit_of_a_mount() -> None:
    lines = unit_text("/dev/hugepages-1G", "1G").decode().splitlines()
    assert lines[0] == "# Owned by lowlatency.fleet: rewritten as a whole."
    assert {"What=hugetlbfs", "Where=/dev/hugepages-1G", "Type=hugetlbfs", "Options=pagesize=1G,mode=0770", "WantedBy=local-fs.target"} <= set(lines)
