# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The transaction on one host: read all, plan all, refuse as a whole or journal, write in order, read back.

The one place that knows check mode. It touches no file itself and knows nothing of Ansible.
"""

from __future__ import annotations

import datetime
import hashlib
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from . import confirmed
from .domains import DOMAINS, Domain
from .host import deployment, journal
from .host.files import locked, unwritable, write_whole
from .host.machine import Host, Unreadable
from .host.programs import ProgramFailed
from .model.setting import (
    CHANGED,
    DRIFTED,
    ERROR,
    OK,
    UNSUPPORTED,
    OwnedFile,
    Plan,
    Setting,
    SpecError,
    Unsupported,
    after_writing,
    judged,
    judged_live,
    merged_spec,
    unsupported,
    without_items,
)

# {domain: {part: specification}}: what several roles want of one domain is kept apart, so that one of them can be run alone.
Desired = Mapping[str, Mapping[str, Mapping[str, Any]]]


# What a transaction may do about the next boot: nothing (the host agent), make what runs the default, or have a boot tried.
KEEP, SETTLE, TRY = "keep", "settle", "try"
TRIAL_SECONDS = 600
# How long a run of the controller waits for the host agent, which writes by itself when a NIC appears.
PATIENCE = 60


class Refused(Exception):
    """The transaction cannot be right; nothing has been written."""


@dataclass(frozen=True)
class Survey:
    """One domain of one host: what is, what is wanted, and what is wrong with the wish itself.

    ``lasting`` has the settings that the write itself makes last.
    """

    domain: Domain
    spec: Mapping[str, Any] = field(default_factory=dict)
    state: Any = None
    settings: tuple[Setting, ...] = ()
    files: tuple[OwnedFile, ...] = ()
    problem: str = ""
    lasting: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class Outcome:
    """What every module returns; ``contents`` holds the bytes of owned files before and after, for the diff.

    ``armed`` says that the next boot tries what this transaction wants, ``unconfirmed`` is the identity of a network change that the
    host takes back by itself unless it is confirmed.
    """

    settings: tuple[Setting, ...]
    changed: bool
    contents: tuple[tuple[str, bytes | None, bytes], ...] = ()
    armed: bool = False
    unconfirmed: str = ""

    @property
    def errors(self) -> list[Setting]:
        """Settings that could not be read, or that the host did not keep."""
        return [setting for setting in self.settings if setting.state == ERROR]

    @property
    def reboot_required(self) -> bool:
        """Whether a setting waits for the next boot."""
        return any(setting.waits for setting in self.settings)

    @property
    def reboot_reasons(self) -> list[str]:
        """What waits for the next boot, in words."""
        return [f"{setting.subject} is {setting.current or 'not set'}, wanted {setting.desired or 'not set'}" for setting in self.settings if setting.waits]


@dataclass(frozen=True)
class Transaction:
    """What is wanted of a host by ``documents`` on top of what it keeps; ``program`` is the host agent, None inside of it.

    ``boot`` says what it may do about the next boot, ``trial_seconds`` how long a boot on trial waits to be
    confirmed, ``confirm_seconds`` how long a network change does (0: it does not wait).
    """

    host: Host
    documents: Desired
    program: bytes | None = None
    kept: Desired = field(default_factory=dict)
    boot: str = KEEP
    trial_seconds: int = TRIAL_SECONDS
    confirm_seconds: int = 0

    @property
    def desired(self) -> dict[str, dict[str, Any]]:
        """All the host is to keep: a part that comes again replaces the one of its name."""
        names = sorted({*self.kept, *self.documents})
        return {name: {**self.kept.get(name, {}), **self.documents.get(name, {})} for name in names}


def now() -> str:
    """This moment, as it is written into records."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def begin(host: Host, documents: Desired, program: bytes | None = None, boot: str = KEEP, trial_seconds: int = TRIAL_SECONDS,
          confirm_seconds: int = 0) -> Transaction:
    """A transaction on what the host already keeps; raises ``Refused`` for an unknown domain or a wish wrong on any host."""
    problems = [f"no domain {name!r}; there are: {', '.join(DOMAINS)}" for name in documents if name not in DOMAINS]
    for name, parts in documents.items():
        problems += [f"{name} ({part}): {problem}" for part, spec in sorted(parts.items())
                     if name in DOMAINS for problem in DOMAINS[name].problems(spec)]
    if problems:
        raise Refused("; ".join(problems))
    return Transaction(host, documents, program, deployment.kept(host), boot, trial_seconds, confirm_seconds)


def audit(transaction: Transaction) -> Outcome:
    """What is, against what is wanted. Writes nothing. Raises ``Refused`` where the wish cannot be right on this host."""
    surveys = _surveyed(transaction)
    _refuse(problem for problem in (survey.problem for survey in surveys) if problem)
    return _audited(transaction, surveys)


def verify(transaction: Transaction) -> Outcome:
    """As ``audit``, but a wish that cannot be right is one more error: the rest is still judged."""
    return _audited(transaction, [_told(survey) for survey in _surveyed(transaction)])


def _audited(transaction: Transaction, surveys: list[Survey]) -> Outcome:
    settings = tuple(_as_captured(transaction.host, setting) for survey in surveys for setting in _with_files(transaction.host, survey))
    return Outcome(settings, any(_to_mend(setting) for setting in settings), _contents(transaction.host, surveys))


def _as_captured(host: Host, setting: Setting) -> Setting:
    """A setting as a captured tree can tell it: no watch is seen at work there, and without /etc nothing of what is kept in files."""
    if not host.captured:
        return setting
    if setting.state == OK and setting.control in deployment.WATCHES:
        return unsupported(setting.control, setting.name, setting.desired, "a captured tree does not tell whether it is active; a boot starts it")
    if not host.has_configuration and setting.state in (OK, DRIFTED) and (setting.control.startswith("agent.") or str(setting.desired).startswith("sha256:")):
        return unsupported(setting.control, setting.name, setting.desired, "a captured tree without /etc does not tell")
    return setting


def apply(transaction: Transaction, when: str = "") -> Outcome:
    """Make the host what is wanted; raises ``Refused``, before anything is written, where that cannot be right."""
    if transaction.host.captured:
        raise Refused(f"{transaction.host.root} is a captured tree, which is only audited; use check mode")
    with locked(transaction.host, PATIENCE):
        # whoever held the lock may have changed it since it was read
        transaction = replace(transaction, kept=deployment.kept(transaction.host))
        surveys = _surveyed(transaction)
        _refuse([survey.problem for survey in surveys if survey.problem])
        _refuse([f"{setting.subject}: {setting.reason}" for survey in surveys for setting in survey.settings
                 if setting.state == ERROR and not survey.domain.each_alone])
        return _applied(transaction, surveys, when)


def begin_kept(host: Host, names: Collection[str] = ()) -> Transaction:
    """A transaction of what the host keeps, or only of the domains of ``names``; raises ``Refused`` where it keeps nothing."""
    desired = deployment.kept(host)
    if not desired:
        raise Refused("this host keeps no desired state; run the playbook of its host role first")
    return begin(host, {name: parts for name, parts in desired.items() if not names or name in names})


def apply_kept(host: Host, names: Collection[str] = (), patience: float = 0, when: str = "") -> Outcome:
    """Make the host what it keeps by the time no other run writes; raises ``Busy`` after ``patience`` seconds.

    What cannot be right is an error beside the rest: at boot, half of it is better than none.
    """
    with locked(host, patience):
        confirmed.end_of_an_earlier_boot(host, when or now())
        transaction = begin_kept(host, names)
        return _applied(transaction, [_told(survey) for survey in _surveyed(transaction)], when)


def _applied(transaction: Transaction, surveys: list[Survey], when: str) -> Outcome:
    host = transaction.host
    before = tuple(setting for survey in surveys for setting in _with_files(host, survey))
    files = [file for survey in surveys for file in survey.files if _held(host, file) != _wanted(file)]
    contents = _contents(host, surveys)
    if not any(_to_mend(setting) for setting in before):
        return Outcome(before, changed=False)
    _refuse([problem for problem in (unwritable(host, file.path) for file in files) if problem])
    when = when or now()
    try:
        journal.remember(host, [(survey.domain.name, setting) for survey in surveys for setting in _at_risk(survey)], files, when)
    except OSError as error:
        raise Refused(f"{journal.JOURNAL}: {error.strerror}; without a record of the originals nothing is changed, make it writable") from error
    unconfirmed, unserved = _countdown(transaction, surveys, when), _unserved(surveys)
    refusals: dict[tuple[str, str], Exception] = {}
    for survey in surveys:
        # what an earlier domain did (a stopped irqbalance, a NIC that was reset) shows only now
        fresh = _surveyed_domain(transaction, survey.domain, unserved)
        # what an earlier domain took away (the interrupt of a queue that is no more) is not missed
        gone = set() if fresh.problem else {setting.key for setting in survey.settings} - {setting.key for setting in fresh.settings}
        before = tuple(setting for setting in before if setting.key not in gone)
        fresh = _told(fresh)
        journal.remember(host, [(survey.domain.name, setting) for setting in _at_risk(fresh)], (), when)
        _write(host, fresh, refusals)
        if survey.domain.resets and _to_write(fresh):
            _write(host, _told(_surveyed_domain(transaction, survey.domain)), refusals)
    after = replace(transaction, kept=deployment.kept(host))
    settings = tuple(_verdicts(host, before, _surveyed(after), refusals))
    if transaction.boot == KEEP or not any(DOMAINS[name].boot for name in transaction.documents):
        return Outcome(settings, any(setting.state == CHANGED for setting in settings), contents, unconfirmed=unconfirmed)
    armed, failure = _stepped_to_boot(after, settings, when)
    settings = (*_verdicts(host, before, _surveyed(after), refusals), *failure)
    return Outcome(settings, armed or any(setting.state == CHANGED for setting in settings), contents, armed, unconfirmed)


def _countdown(transaction: Transaction, surveys: list[Survey], when: str) -> str:
    """The identity of the network change that is about to be written, if it has to be confirmed; empty otherwise."""
    network = [(survey.domain, survey.spec, survey.settings) for survey in surveys if survey.domain.network and _to_write(survey)]
    if not network or not transaction.confirm_seconds or transaction.program is None:
        return ""
    try:
        return confirmed.arm(transaction.host, transaction.program, network, transaction.confirm_seconds, when)
    except (OSError, ProgramFailed) as error:
        raise Refused(f"network settings are not changed, because nothing would take them back if they cut the host off: {error}") from error


def _stepped_to_boot(transaction: Transaction, settings: tuple[Setting, ...], when: str) -> tuple[bool, tuple[Setting, ...]]:
    """What waits for a boot is tried by the next one, what runs is made to stay: whether a boot was armed, and what went wrong.

    A boot is tried only where everything else is right.
    """
    waits, failed = any(setting.waits for setting in settings), any(setting.state == ERROR for setting in settings)
    tries = waits and transaction.boot == TRY and not failed
    armed = False
    for domain in DOMAINS.values():
        if domain.boot is None or domain.name not in transaction.documents:
            continue
        survey = _surveyed_domain(transaction, domain)
        drifted = [(domain.name, setting) for setting in survey.settings if setting.state == DRIFTED]
        if not drifted:
            continue
        try:
            if waits and not tries:
                domain.boot.tidy(transaction.host, survey.state)
                continue
            journal.remember(transaction.host, drifted, domain.boot.files(transaction.host, survey.state), when)
            if tries:
                domain.boot.arm(transaction.host, survey.state, survey.spec, transaction.trial_seconds, when)
                armed = True
            else:
                domain.boot.settle(transaction.host, survey.state, survey.spec)
        except (OSError, ProgramFailed, SpecError, Unreadable) as error:
            return False, (Setting(f"{domain.name}.boot", "the next boot", None, state=ERROR, reason=f"{error}; it boots as before"),)
    return armed, ()


def _verdicts(host: Host, before: tuple[Setting, ...], surveys: list[Survey], refusals: Mapping[tuple[str, str], Exception]) -> Iterator[Setting]:
    """Every setting as the host holds it now, and those that were there before and are gone."""
    known = {setting.key: setting for setting in before}
    lost = {survey.domain.name: survey.problem for survey in surveys if survey.problem}
    for survey in surveys:
        for setting in _with_files(host, _told(survey)):
            earlier = known.pop(setting.key, None)
            waits = setting.state == DRIFTED and (survey.domain.boot is not None or setting.needs_reboot)
            yield (replace(setting, reason=setting.reason or "waits for a boot") if waits and not setting.finding
                   else _verdict(earlier, setting, refusals.get(setting.key)))
    for setting in known.values():
        if setting.state == DRIFTED and setting.desired is None and setting.key not in refusals:
            yield replace(setting, state=CHANGED, current=None, persisted=None, reason="", needs_reboot=False)
            continue
        if setting.finding:
            continue
        why = f"could not be read back: {'; '.join(lost.values()) or 'it is gone'}"
        yield replace(setting, state=ERROR, reason=str(refusals[setting.key]) if setting.desired is None and setting.key in refusals else why)


def _write(host: Host, survey: Survey, refusals: dict[tuple[str, str], Exception]) -> None:
    """Write what drifted of one domain; a refusal of one setting stops no other."""
    for file in survey.files if survey.domain.files_first else ():
        _write_file(host, file, refusals)
    for batch in _batches(survey.domain, [setting for setting in _to_write(survey) if setting.key not in refusals]):
        if len(batch) == 1 or not _written_at_once(host, survey, batch):
            for setting in batch:
                try:
                    survey.domain.write(host, survey.state, setting)
                except (OSError, ProgramFailed, Unsupported) as error:
                    refusals[setting.key] = error
    for file in () if survey.domain.files_first else survey.files:
        _write_file(host, file, refusals)


def _batches(domain: Domain, settings: Iterable[Setting]) -> list[list[Setting]]:
    """Settings that are written at once, in the order of the plan: neighbours only."""
    if domain.batches is None:
        return [[setting] for setting in settings]
    return [list(group) for _key, group in itertools.groupby(settings, domain.batches.key)]


def _written_at_once(host: Host, survey: Survey, batch: list[Setting]) -> bool:
    """Whether a batch could be written as one; where it could not, each setting of it is tried alone."""
    try:
        survey.domain.batches.write(host, survey.state, batch)  # type: ignore[union-attr]
    except (OSError, ProgramFailed, Unsupported):
        return False
    return True


def _to_write(survey: Survey) -> list[Setting]:
    """What drifted live; and what is only wrong after boot, where the write itself mends that. What only a boot brings is never written."""
    if survey.domain.boot:
        return []
    return [setting for setting in survey.settings
            if not setting.needs_reboot and not setting.finding
            and (setting.live_drift or (setting.key in survey.lasting and setting.state == DRIFTED))]


def _to_mend(setting: Setting) -> bool:
    """Whether a real run has something to do about it."""
    return setting.state == DRIFTED and not setting.finding


def _at_risk(survey: Survey) -> list[Setting]:
    """What will be written, and what that may undo: their originals are journaled."""
    to_write = _to_write(survey)
    return [setting for setting in survey.settings if not setting.finding] if survey.domain.resets and to_write else to_write


def _write_file(host: Host, file: OwnedFile, refusals: dict[tuple[str, str], Exception]) -> None:
    if _held(host, file) != _wanted(file):
        try:
            write_whole(host, file.path, file.content, file.mode)
        except OSError as error:
            refusals[(file.control, file.path)] = error


def _verdict(before: Setting | None, after: Setting, refusal: Exception | None) -> Setting:
    if isinstance(refusal, Unsupported) and after.state == DRIFTED:
        return replace(after, state=UNSUPPORTED, reason=str(refusal))
    drifted = before if before is not None and before.state == DRIFTED else replace(after, state=after.state if after.state == OK else DRIFTED)
    return after_writing(drifted, after, str(refusal) if refusal else "")


def _surveyed(transaction: Transaction) -> list[Survey]:
    """Every domain of the documents in the order of the registry, and the host agent last."""
    surveys = [_surveyed_domain(transaction, domain) for name, domain in DOMAINS.items() if name in transaction.documents]
    return [*surveys, *([_surveyed_domain(transaction, AGENT, _unserved(surveys))] if transaction.program is not None else [])]


def _unserved(surveys: Iterable[Survey]) -> dict[str, frozenset[str]]:
    """What could not be served at all of each domain whose items stand alone, by their names in the documents: a wish that was an error is not
    tried again at every boot."""
    return {survey.domain.name: frozenset(setting.name for setting in survey.settings if setting.state == ERROR)
            for survey in surveys if survey.domain.each_alone}


def _surveyed_domain(transaction: Transaction, domain: Domain, unserved: Mapping[str, frozenset[str]] = MappingProxyType({})) -> Survey:
    host, desired = transaction.host, transaction.desired
    if domain is AGENT:
        lasting = {name: without_items({name: parts}, transaction.kept, unserved.get(name, frozenset()))[name] for name, parts in desired.items()}
        parts: Mapping[str, Mapping[str, Any]] = {"all": {"program": transaction.program, "desired": lasting}}
    else:
        parts = desired.get(domain.name, {})
    kept = transaction.kept.get(domain.name, {}) if deployment.in_force(host) else {}
    return _with_persistence(host, _survey(host, domain, parts), kept, possible=deployment.impossible(host) == "")


def _survey(host: Host, domain: Domain, parts: Mapping[str, Mapping[str, Any]]) -> Survey:
    try:
        spec = merged_spec({part: dict(spec) for part, spec in parts.items()})
        problems = domain.problems(spec)
        if problems:
            return Survey(domain, problem=f"{domain.name}: {'; '.join(problems)}")
        state = domain.read(host, spec)
        plan = domain.plan(state, spec)
    except (SpecError, ProgramFailed, Unreadable, OSError) as error:
        if host.captured and not isinstance(error, SpecError):
            return Survey(domain, settings=(unsupported(domain.name, "all", None, f"a captured tree does not tell ({error})"),))
        return Survey(domain, problem=f"{domain.name}: {error}")
    return Survey(domain, spec, state, plan.settings, plan.files, lasting=_lasting(domain, plan))


def _lasting(domain: Domain, plan: Plan) -> frozenset[tuple[str, str]]:
    """What the write itself makes last: all of such a domain; of one that the agent keeps, what its plan knows the next boot of."""
    by_plan = domain.persistence == "agent"
    return frozenset(setting.key for setting in plan.settings if domain.persistence == "write" or (by_plan and setting.persisted is not None))


def _with_persistence(host: Host, survey: Survey, kept: Mapping[str, Mapping[str, Any]], *, possible: bool) -> Survey:
    """The survey judged; for what the agent sets at boot, the persisted value is what its kept specification leads to."""
    if host.captured and not host.has_configuration and not survey.problem:
        return replace(survey, settings=tuple(judged_live(setting, "a captured tree without /etc does not tell what lasts") for setting in survey.settings))
    if survey.domain.persistence != "agent" or survey.problem:
        return replace(survey, settings=tuple(judged(setting) for setting in survey.settings))
    if not possible:
        return replace(survey, settings=tuple(
            judged(setting) if setting.needs_reboot else judged_live(setting, "until the next boot only: nothing can run the agent")
            for setting in survey.settings))
    boot = _kept_values(host, survey, kept)
    told = (setting if setting.persisted is not None or setting.needs_reboot else replace(setting, persisted=boot.get(setting.key))
            for setting in survey.settings)
    return replace(survey, settings=tuple(judged(setting) for setting in told))


def _kept_values(host: Host, survey: Survey, kept: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], str | None]:
    if not kept:
        return {}
    try:
        spec = merged_spec({part: dict(spec) for part, spec in kept.items()})
        # a state answers the specification it was read for: the kept one may name other NICs
        plan: Plan = survey.domain.plan(survey.state if spec == survey.spec else survey.domain.read(host, spec), spec)
    except (SpecError, ProgramFailed, Unreadable, OSError):
        return {}
    return {setting.key: setting.desired for setting in plan.settings}


def _told(survey: Survey) -> Survey:
    """A survey whose problem is told as an error among its settings."""
    if not survey.problem:
        return survey
    return replace(survey, settings=(Setting(survey.domain.name, "all", None, state=ERROR, reason=survey.problem),), problem="")


def _with_files(host: Host, survey: Survey) -> tuple[Setting, ...]:
    return survey.settings + tuple(_file_setting(host, file) for file in survey.files)


def _file_setting(host: Host, file: OwnedFile) -> Setting:
    held, desired = _held(host, file), _wanted(file)
    return Setting(file.control, file.path, desired, held, held, state=OK if held == desired else DRIFTED)


def _held(host: Host, file: OwnedFile) -> str | None:
    """What the host has of a file, in one word to compare and to show; None when it has none."""
    content, mode = host.content_and_mode(file.path)
    return None if content is None else _shown(content, mode)


def _wanted(file: OwnedFile) -> str:
    return _shown(file.content, file.mode)


def _shown(content: bytes, mode: int) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()[:12]} {mode:04o}"


def _contents(host: Host, surveys: Iterable[Survey]) -> tuple[tuple[str, bytes | None, bytes], ...]:
    held = ((file.path, host.content_and_mode(file.path)[0], file.content) for survey in surveys for file in survey.files)
    return tuple(entry for entry in held if entry[1] != entry[2])


def _refuse(problems: Iterable[str]) -> None:
    found = list(problems)
    if found:
        raise Refused("; ".join(found))


AGENT = Domain("agent", {}, lambda spec: [], deployment.read, deployment.plan, deployment.write, persistence="write", files_first=True)
