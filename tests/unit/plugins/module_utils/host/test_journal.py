# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal: the first original counts, a cut last line does not, and what it says can be put back byte for byte."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.journal import (
    JOURNAL,
    BrokenJournal,
    records,
    remember,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import OwnedFile, Setting
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FILE = OwnedFile("c", "/etc/owned", b"new\n")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(str(tmp_path))


def lies(host: Host) -> Path:
    return Path(host.path(JOURNAL))


def setting(current: str | None, name: str = "n", persisted: str | None = None) -> tuple[str, Setting]:
    return "domain", Setting("c", name, "1", current, persisted)


def test_a_machine_never_written_has_no_records(host: Host) -> None:
    assert records(host) == []
    assert not lies(host).exists()


def test_a_setting_is_kept_with_both_values(host: Host) -> None:
    remember(host, [setting("0", persisted="2")], [], "now")
    assert records(host) == [{"kind": "setting", "key": ["domain", "c", "n"], "original": "0", "persisted": "2", "when": "now"}]
    assert lies(host).stat().st_mode & 0o7777 == 0o600, "originals may hold what not everybody may read"


def test_the_first_original_counts_over_runs_and_within_one(host: Host) -> None:
    remember(host, [setting("0"), setting("7")], [], "first")
    remember(host, [setting("5"), setting("6", name="m")], [], "second")
    assert [(record["key"][2], record["original"], record["when"]) for record in records(host)] == [("n", "0", "first"), ("m", "6", "second")]


def test_one_name_in_two_domains_is_two_things(host: Host) -> None:
    remember(host, [("a", Setting("c", "n", "1", "0")), ("b", Setting("c", "n", "1", "2"))], [], "now")
    assert [record["key"][0] for record in records(host)] == ["a", "b"]


def test_nothing_new_touches_no_file(host: Host) -> None:
    remember(host, [setting("0")], [FILE], "first")
    before = lies(host).stat()
    remember(host, [setting("1")], [FILE], "second")
    assert (lies(host).stat().st_mtime_ns, lies(host).stat().st_size) == (before.st_mtime_ns, before.st_size)
    remember(host, [], [], "third")
    assert lies(host).stat().st_mtime_ns == before.st_mtime_ns


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(content=st.binary(max_size=300), mode=st.integers(0o400, 0o777))
def test_a_file_is_kept_byte_for_byte_with_mode_and_owner(tmp_path_factory: pytest.TempPathFactory, content: bytes, mode: int) -> None:
    host = Host(str(tmp_path_factory.mktemp("machine")))
    path = Path(host.path(FILE.path))
    path.parent.mkdir()
    path.write_bytes(content)
    path.chmod(mode | 0o400)
    remember(host, [], [FILE], "now")
    (record,) = records(host)
    assert base64.b64decode(record["original"]) == content
    assert (record["mode"], record["uid"], record["gid"]) == (mode | 0o400, path.stat().st_uid, path.stat().st_gid)


def test_a_file_that_was_not_there_is_kept_as_such(host: Host) -> None:
    remember(host, [], [FILE], "now")
    assert records(host) == [{"kind": "file", "key": ["/etc/owned"], "original": None, "when": "now"}]


@given(cut=st.integers(1, 120))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
def test_a_line_cut_anywhere_does_not_count_and_is_overwritten(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    host = Host(str(tmp_path_factory.mktemp("machine")))
    remember(host, [setting("0")], [], "first")
    whole = lies(host).read_bytes()
    remember(host, [setting("5", name="m")], [], "second")
    lies(host).write_bytes(lies(host).read_bytes()[:max(len(whole), len(lies(host).read_bytes()) - cut)])
    assert [record["key"][2] for record in records(host)] == ["n"]
    remember(host, [setting("6", name="m")], [], "third")
    assert [(record["key"][2], record["original"]) for record in records(host)] == [("n", "0"), ("m", "6")]
    assert lies(host).read_bytes().startswith(whole)


@pytest.mark.parametrize("line", [b"{", b"\xff\xfe", b"[1]", b"{}", b'{"kind": "setting"}', b'{"kind": "setting", "key": "n"}', b""])
def test_a_line_that_is_no_record_is_named(host: Host, line: bytes) -> None:
    remember(host, [setting("0")], [], "now")
    lies(host).write_bytes(lies(host).read_bytes() + line + b"\n")
    with pytest.raises(BrokenJournal, match=rf"{JOURNAL} line 2: .*move the file away"):
        records(host)
    with pytest.raises(BrokenJournal):
        remember(host, [setting("1", name="m")], [], "now")


def test_it_is_on_disk_when_it_returns(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.append(os.readlink(f"/proc/self/fd/{descriptor}")), real(descriptor))[1])
    remember(host, [setting("0")], [], "now")
    assert synced == [str(lies(host)), str(lies(host).parent)]
