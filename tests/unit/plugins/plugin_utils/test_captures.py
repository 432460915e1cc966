# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives of captured machines: unpacked below one folder and nowhere else, whatever they hold."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.action.captures import groups_of
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.plugin_utils import captures
from ansible_collections.lowlatency.fleet.plugins.plugin_utils.captures import Capture, CaptureError


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", content: bytes = b"", mode: int = 0o644) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, target, len(content), mode
    return info, content


def archive(path: Path, entries: Iterable[tuple[tarfile.TarInfo, bytes]], compression: Any = "gz") -> Path:
    with tarfile.open(path, f"w:{compression}") as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return path


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, tarfile.SYMTYPE, target)


def test_a_machine_is_unpacked_with_its_links_and_modes(tmp_path: Path) -> None:
    packed = archive(tmp_path / "md01.tar.gz", [
        entry("./sys", tarfile.DIRTYPE), entry("./proc/irq/9/smp_affinity_list", content=b"0-3\n", mode=0o444), entry("./sys/a/driver/x", content=b"1"),
        link("./sys/class/net/eth0", "../../a"), link("./etc/unit", "/usr/lib/unit"), link("./proc/self/ns/pid", "pid:[4026531836]"),
        link("./etc/null", "/dev/null"), entry("./usr/lib/unit", content=b"U", mode=0o4755), entry("./etc/hard", tarfile.LNKTYPE, "./usr/lib/unit"),
        entry("./dev/pipe", tarfile.FIFOTYPE), entry("./dev/disk", tarfile.BLKTYPE)])
    place = tmp_path / "place"
    assert captures.opened(Capture("md01", str(packed)), str(place)) == str(place)
    host = Host(str(place))
    assert host.read("/sys/class/net/eth0/driver/x") == "1" and host.read("/etc/unit") == "U"
    assert host.link_name("/proc/self/ns/pid") == "pid:[4026531836]" and host.link_name("/etc/null") == "null"
    assert os.readlink(place / "etc/unit") == "../usr/lib/unit", "an absolute link is one of the tree"
    assert (place / "proc/irq/9/smp_affinity_list").stat().st_mode & 0o7777 == 0o444
    assert (place / "usr/lib/unit").stat().st_mode & 0o7777 == 0o755
    assert (place / "etc/hard").read_bytes() == b"U" and not (place / "dev").joinpath("pipe").exists()


@pytest.mark.parametrize(
    ("entries", "words"),
    [([entry("../x", content=b"1")], "outside of the tree"),
     ([entry("sys/../../x", content=b"1")], "outside of the tree"),
     ([entry("/tmp/x", content=b"1")], "outside of the tree"),
     ([link("sys/a", "../../x")], "leads out of the tree"),
     ([link("sys/a", "b/../../../x")], "leads out of the tree"),
     ([link("sys", "/"), entry("sys/x", content=b"1")], "no folder"),
     ([link("sys/a", "."), entry("sys/a/x", content=b"1")], "no folder"),
     ([link("sys/a", "b"), entry("sys/a", content=b"1")], "twice"),
     ([entry("sys/b", content=b"1"), link("sys/b", "c")], "twice"),
     ([entry("sys/a", tarfile.LNKTYPE, "/etc/passwd")], "outside of the tree"),
     ([entry("sys/a", tarfile.LNKTYPE, "../../etc/passwd")], "outside of the tree"),
     ([link("sys/l", "b"), entry("sys/a", tarfile.LNKTYPE, "sys/l")], "cannot be unpacked"),
     ([entry("x", content=b"1")], "neither sys nor proc")],
)
def test_what_leads_out_of_the_tree_is_refused(tmp_path: Path, entries: list[tuple[tarfile.TarInfo, bytes]], words: str) -> None:
    packed, place = archive(tmp_path / "bad.tar.gz", entries), tmp_path / "inner" / "place"
    place.parent.mkdir()
    with pytest.raises(CaptureError, match=words):
        captures.opened(Capture("bad", str(packed)), str(place))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.tar.gz", "inner"] and [path.name for path in place.parent.iterdir()] == ["place"]


def test_links_over_links_stay_inside(tmp_path: Path) -> None:
    """``..`` after another link is taken by name, as no kernel writes it: the way through the link could lead out."""
    packed = archive(tmp_path / "m.tar.gz", [entry("sys/deep/er/x", content=b"1"), link("sys/s", "deep/er"), link("up", "sys/s/../../../outside")])
    with pytest.raises(CaptureError, match="leads out"):
        captures.opened(Capture("m", str(packed)), str(tmp_path / "a"))
    packed = archive(tmp_path / "n.tar.gz", [entry("sys/deep/er/x", content=b"1"), link("top", "sys"), link("sys/s", "../top/../top/deep")])
    place = Path(captures.opened(Capture("n", str(packed)), str(tmp_path / "b")))
    assert (place / "sys/s").resolve() == place.resolve() / "sys/deep"


@pytest.mark.parametrize(("limit", "value", "words"), [("ENTRY_LIMIT", 2, "entries"), ("FILE_LIMIT", 10, "bytes"), ("TOTAL_LIMIT", 4096, "unpacks to more")])
def test_an_archive_of_an_improbable_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, words: str) -> None:
    monkeypatch.setattr(captures, limit, value)
    packed = archive(tmp_path / "big.tar.gz", [entry(f"sys/{number}", content=b"0" * 5000) for number in range(3)])
    with pytest.raises(CaptureError, match=words):
        captures.opened(Capture("big", str(packed)), str(tmp_path / "place"))


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8bcut", bytes(4096)])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.tar.gz").write_bytes(content)
    with pytest.raises(CaptureError, match=r"x\.tar\.gz"):
        captures.opened(Capture("x", str(tmp_path / "x.tar.gz")), str(tmp_path / "place"))


def test_trees_and_archives_of_a_folder_are_found_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "md02" / "sys").mkdir(parents=True)
    (tmp_path / "notes").mkdir()
    for name in ("md01.ny4.example.net.tar.gz", "md03.tgz", "README.md"):
        (tmp_path / name).write_bytes(b"")
    assert [capture.name for capture in captures.found([str(tmp_path)])] == ["md01.ny4.example.net", "md02", "md03"]
    assert [capture.name for capture in captures.found([str(tmp_path / "md02")])] == ["md02"]
    assert [capture.name for capture in captures.found([str(tmp_path / "md03.tgz"), str(tmp_path / "md02")])] == ["md02", "md03"]
    with pytest.raises(CaptureError, match="no captured tree"):
        captures.found([str(tmp_path / "notes")])
    (tmp_path / "md02.tar").write_bytes(b"")
    with pytest.raises(CaptureError, match="is the same host"):
        captures.found([str(tmp_path)])


def test_one_folder_inside_of_an_archive_may_be_the_machine(tmp_path: Path) -> None:
    packed = archive(tmp_path / "a.tar", [entry("machine/proc/version", content=b"1")], compression="")
    assert captures.opened(Capture("a", str(packed)), str(tmp_path / "place")) == str(tmp_path / "place" / "machine")


def test_the_profile_or_the_inventory_says_how_a_capture_is_judged() -> None:
    groups = {"md-gateways": ["md01"], "wan-gateways": ["wan01", "md01"], "all": ["md01", "wan01", "db01"]}
    assert groups_of("wan01", None, groups) == ["captured-wan-gateways"]
    assert groups_of("wan01", "md_gateway", groups) == ["captured-md-gateways"]
    assert groups_of("x", "site_own", {}) == ["captured-md-gateways"]
    with pytest.raises(CaptureError, match="db01: the inventory has no host of this name in md-gateways"):
        groups_of("db01", None, groups)
