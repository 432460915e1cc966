# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an audit of market data gateways costs: with this collection, with hand-written tasks, and beside ``ansible -m ping``.

All three run one after the other, with the same Ansible, against the same hosts: inventory names whose connection is local,
so that this machine is controller and hosts at once. Both playbooks run with ``--check --diff`` and write nothing; both take
their settings from profiles/md_gateway.yml. handwritten.yml says what it does and what it leaves out. What a connection to
another machine would cost comes on top, once for each module execution.

CPU seconds are user and system time of everything a run starts, controller and hosts, as ``wait4`` tells them: workers wait
for the programs they start, and Ansible for its workers, so nothing escapes. (Tried with a module that burns three seconds
of CPU on each host: a run on one host cost 3.2 s more than ``ping``, a run on four hosts 12.6 s more.) They vary far less
than wall time on a machine with other work, but still by some ten per cent: compare runs of one call, not of two.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
NET = Path("/sys/class/net")
GROUP = "md-gateways"
PING, OURS, BY_HAND = "ping", "collection", "handwritten"
AUDIT = ("--check", "--diff")


class Failed(Exception):
    """A run that proves nothing."""


@dataclass(frozen=True)
class Cost:
    """What one run, or the median of several, cost in total."""

    cpu_seconds: float
    wall_seconds: float
    modules: float
    peak_rss_mib: float


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    hosts: int
    what: str
    cost: Cost

    def as_dict(self) -> dict[str, Any]:
        """Total and for each host."""
        each = {f"{name}_per_host": value / self.hosts for name, value in asdict(self.cost).items() if name != "peak_rss_mib"}
        return {"hosts": self.hosts, "what": self.what, **asdict(self.cost), **each}


def main(arguments: Sequence[str] | None = None) -> int:
    options = parsed(arguments)
    try:
        rows = list(measured(options))
    except Failed as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print_table(rows)
    print_ratios(rows)
    if options.json:
        document = {"rows": [row.as_dict() for row in rows], "ratios": ratios(rows)}
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="CPU seconds and module executions of an audit, beside hand-written tasks and ping.")
    parser.add_argument("--hosts", type=counts, default=[1, 5, 20], metavar="N,N,...", help="numbers of hosts (1,5,20)")
    parser.add_argument("--repeat", type=positive, default=1, metavar="N", help="runs of each, of which the median counts (1)")
    parser.add_argument("--forks", type=positive, default=5, metavar="N", help="hosts at once (5)")
    parser.add_argument("--skip", action="append", default=[], choices=(PING, OURS, BY_HAND), help="leave one of the three out")
    parser.add_argument("--interface", default="", help="interface that is taken for the NIC (one with a PCI device, if any)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE too")
    return parser.parse_args(arguments)


def counts(text: str) -> list[int]:
    return [positive(part) for part in text.split(",")]


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def measured(options: argparse.Namespace) -> Iterator[Row]:
    """All runs, told on standard error as they come."""
    interface = options.interface or discovered_interface()
    commands = {what: command for what, command in commands_of().items() if what not in options.skip}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for number in options.hosts:
            inventory = Path(folder) / f"hosts-{number}.json"
            inventory.write_text(json.dumps(inventory_of(number, interface)), encoding="utf-8")
            for what, command in commands.items():
                costs = [run([*command, "-i", str(inventory)], environment(what, options.forks, folder)) for _round in range(options.repeat)]
                yield told(Row(number, what, median(costs)))


def commands_of() -> dict[str, list[str]]:
    playbook = program("ansible-playbook")
    return {
        PING: [program("ansible"), GROUP, "-m", "ansible.builtin.ping"],
        OURS: [playbook, "playbooks/md_gateways.yml", *AUDIT],
        BY_HAND: [playbook, str((HERE / "handwritten.yml").relative_to(ROOT)), *AUDIT],
    }


def program(name: str) -> str:
    """Ansible beside this very Python, or on PATH."""
    found = shutil.which(name, path=os.path.dirname(sys.executable)) or shutil.which(name)
    if found is None:
        raise Failed(f"no {name} beside {sys.executable} or on PATH; run make setup first")
    return found


def environment(what: str, forks: int, folder: str) -> dict[str, str]:
    """The clone's own ansible.cfg, and the counter beside what it enables; ad-hoc commands load no callbacks unasked."""
    report = ["lowlatency.fleet.audit_report"] if what == OURS else []
    return {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_FORKS": str(forks),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callbacks"),
        "ANSIBLE_CALLBACKS_ENABLED": ",".join([*report, "count_modules"]),
        "ANSIBLE_LOAD_CALLBACK_PLUGINS": "1",
        "BENCH_MODULE_COUNT": str(Path(folder) / "modules"),
    }


def inventory_of(number: int, interface: str) -> dict[str, Any]:
    """``number`` names for this machine. The last two variables are what hand-written tasks have to be told."""
    variables = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "lowlatency_nics": [{"interface": interface, "carries": "market_data", "management": True}],
        "lowlatency_application_cores": 0,
        "nic_irq_cpus": "0",
        "nic_irq_paths": [msi_irqs(interface)],
        # Check mode needs no root, and without root there is none to become.
        **({"ansible_user": "root"} if os.geteuid() == 0 else {"ansible_become": False}),
    }
    hosts: dict[str, Any] = {f"md{index:02}": {} for index in range(1, number + 1)}
    return {"all": {"children": {GROUP: {"hosts": hosts, "vars": variables}}}}


def discovered_interface() -> str:
    """An interface with interrupts of its own, or the next best."""
    names = sorted(path.name for path in NET.iterdir() if path.name != "lo") if NET.is_dir() else []
    if not names:
        raise Failed(f"no network interface but lo in {NET}")
    return min(names, key=lambda name: not os.path.isdir(msi_irqs(name)))


def msi_irqs(interface: str) -> str:
    """Folder of an interface's interrupts. The interface's device is the PCI function, or its child (virtio)."""
    device = (NET / interface / "device").resolve()
    function = device.parent if (device / "subsystem").resolve().name == "virtio" else device
    return str(function / "msi_irqs")


def run(command: Sequence[str], variables: dict[str, str]) -> Cost:
    """One run, which has to succeed on every host."""
    counter = Path(variables["BENCH_MODULE_COUNT"])
    counter.write_bytes(b"")
    with tempfile.TemporaryFile() as output:
        start = time.monotonic()
        process = subprocess.Popen(command, cwd=ROOT, env=variables, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        _pid, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            text = output.read().decode("utf-8", "replace")
            raise Failed(f"{' '.join(command)}: exit code {process.returncode}\n{text[-4000:]}")
    return Cost(usage.ru_utime + usage.ru_stime, wall, counter.stat().st_size, usage.ru_maxrss / 1024)


def median(costs: Iterable[Cost]) -> Cost:
    columns = zip(*(asdict(cost).values() for cost in costs))
    return Cost(*(statistics.median(column) for column in columns))


def told(row: Row) -> Row:
    print(f"bench: {row.what} on {row.hosts}: {row.cost.cpu_seconds:.1f} s CPU, {row.cost.wall_seconds:.0f} s", file=sys.stderr, flush=True)
    return row


def print_table(rows: Iterable[Row]) -> None:
    print(f"{'hosts':>5}  {'what':<12}{'CPU s/host':>11}{'modules/host':>14}{'wall s/host':>13}{'CPU s':>9}{'peak MiB':>10}")
    for row in rows:
        cost = row.cost
        print(f"{row.hosts:>5}  {row.what:<12}{cost.cpu_seconds / row.hosts:>11.2f}{cost.modules / row.hosts:>14.1f}"
              f"{cost.wall_seconds / row.hosts:>13.2f}{cost.cpu_seconds:>9.1f}{cost.peak_rss_mib:>10.0f}")


def ratios(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """For each number of hosts: the collection against ping, hand-written tasks against the collection."""
    by_number: dict[int, dict[str, Cost]] = {}
    for row in rows:
        by_number.setdefault(row.hosts, {})[row.what] = row.cost
    found: list[dict[str, Any]] = []
    for number, costs in by_number.items():
        for upper, lower in ((OURS, PING), (BY_HAND, OURS)):
            if upper in costs and lower in costs:
                found.append({"hosts": number, "of": upper, "to": lower, "cpu": costs[upper].cpu_seconds / costs[lower].cpu_seconds,
                              "modules": costs[upper].modules / max(costs[lower].modules, 1)})
    return found


def print_ratios(rows: Iterable[Row]) -> None:
    print()
    for ratio in ratios(rows):
        print(f"{ratio['hosts']:>5}  {ratio['of']} : {ratio['to']:<12}{ratio['cpu']:>7.1f} x CPU{ratio['modules']:>8.1f} x modules")


if __name__ == "__main__":
    sys.exit(main())
