# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Results in plain words: what is not right on which host, why it matters, and what could not be told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

STATES = ("ok", "changed", "drifted", "waived", "unsupported", "error")

LABELS = {"drifted": "drifted", "waived": "waived", "changed": "set", "error": "error"}

# Why a control matters, by the longest beginning of its id that is listed.
WHY = {
    "bios": "what the firmware decides, no setting of the system takes back",
    "bios.clocksource": "reading a slow clock costs a microsecond each time",
    "bios.energy_performance_preference": "a CPU that saves energy reaches its frequency late",
    "bios.firmware": "latency and its bugs change with the BIOS: all hosts of a kind run the one that was measured",
    "bios.frequency_driver": "who sets the frequency decides how soon it is there",
    "bios.governor": "a CPU that saves energy reaches its frequency late",
    "bios.idle_states": "a CPU in a deep state wakes up late",
    "bios.iommu": "devices given to user space need it, and translation costs others time",
    "bios.machine": "a hypervisor stops CPUs when it likes",
    "bios.memory": "a channel without a module, or a slow one, holds all others up",
    "bios.microcode": "latency and its bugs change with the microcode: all hosts of a kind run the one that was measured",
    "bios.numa": "memory that lies on any node is remote half of the time",
    "bios.pci_slot": "a packet that crosses to another node costs its latency twice",
    "bios.redfish": "what the BIOS is set to decides before the system starts",
    "bios.redfish.bmc": "a BIOS that cannot be asked is not known to be right",
    "bios.smis": "an SMI stops all CPUs, and the kernel does not see it",
    "bios.smt": "two threads of a core share its units and caches, and slow each other down",
    "bios.topology": "nothing is told of a machine that does not describe its CPUs",
    "bios.tsc": "a clock that stops or drifts makes the kernel use a slow one",
    "bios.turbo": "frequency above the nominal one depends on heat and on the other cores",
    "bios.x2apic": "interrupts are sent by a register instead of a memory access",
    "bypass.af_xdp": "the stack passes an interface by that it was not given",
    "bypass.built": "after a boot into a kernel without the module, applications run in the kernel's stack, if at all",
    "bypass.combination": "library, driver and firmware were measured together",
    "bypass.file": "modules that the next boot loads otherwise behave otherwise",
    "bypass.library": "without the library an application runs in the kernel's stack, and nobody notices",
    "bypass.loaded": "without the driver the library falls back to the kernel's stack, and nobody notices",
    "bypass.option": "a module keeps what it was loaded with",
    "bypass.profile": "polling and timers of the stack are in its profile",
    "bypass.signed": "a kernel with Secure Boot or lockdown does not load what nobody signed",
    "bypass.version": "a library refuses a driver of another version",
    "cmdline": "what the kernel is told at boot cannot be told it later",
    "cmdline.file": "the next kernel package would boot without these arguments",
    "cmdline.hugepages": "pages not reserved at boot may not be found later",
    "cmdline.idle": "a CPU in a deep state wakes up late",
    "cmdline.intel_idle": "a CPU in a deep state wakes up late",
    "cmdline.irqaffinity": "interrupts land on application CPUs until somebody moves them",
    "cmdline.isolcpus": "the scheduler puts other threads on application CPUs",
    "cmdline.mitigations": "mitigations cost time in every system call",
    "cmdline.nmi_watchdog": "the watchdog interrupts every CPU and takes a performance counter",
    "cmdline.nohz_full": "the tick interrupts application threads hundreds of times a second",
    "cmdline.nosoftlockup": "the soft lockup detector wakes a thread on every CPU",
    "cmdline.processor": "a CPU in a deep state wakes up late",
    "cmdline.rcu_nocb_poll": "waking up RCU's threads costs application CPUs time",
    "cmdline.rcu_nocbs": "RCU callbacks run on application CPUs",
    "cmdline.skew_tick": "ticks of all CPUs at one moment meet on one lock",
    "cmdline.transparent_hugepage": "pages are merged and moved below the application",
    "cmdline.trial": "a command line on trial is not the default",
    "cmdline.tsc": "the watchdog over the TSC wakes up twice a second",
    "cmdline.workqueue": "kernel work lands on application CPUs",
    "cpu.competitor": "two who set one thing undo each other's work",
    "cpu.energy_perf_bias": "a CPU that saves energy reaches its frequency late",
    "cpu.energy_performance_preference": "a CPU that saves energy reaches its frequency late",
    "cpu.governor": "a CPU that saves energy reaches its frequency late",
    "cpu.idle_state": "a CPU in a deep state wakes up late",
    "cpu.minimum_performance": "a CPU that may slow down has to speed up first",
    "cpu.turbo": "frequency above the nominal one depends on heat and on the other cores",
    "cpu.uncore": "caches and memory controllers that slow down are late for the first packets",
    "isolation.isolated": "the scheduler puts other threads on application CPUs",
    "isolation.nohz_full": "the tick interrupts application threads hundreds of times a second",
    "hugepages": "a pool that is short of pages, or on the wrong node, costs a TLB miss or a remote access a packet",
    "hugepages.elsewhere": "pages on a node where no application runs are memory that nobody has",
    "hugepages.mount": "applications take their huge pages from there",
    "agent": "the host agent sets at boot what Linux has no file for",
    "irq.default_affinity": "interrupts asked for later would land on isolated CPUs",
    "irq.nic_affinity": "an interrupt away from its NIC's node, or on an application's CPU, costs latency on every packet",
    "irq.none_on_isolated": "an interrupt that no affinity keeps away stops the application there",
    "irq.other_devices": "an interrupt on an isolated CPU stops the application there",
    "pci": "a port with the wrong driver is not where the application looks for its packets",
    "pci.access": "an application that may not open its port runs as root, or not at all",
    "service": "an application that is not where it was planned shares its CPU, or waits for remote memory",
    "service.alone": "whoever shares its CPU stops the application at any time",
    "service.bypass": "a service without its bypass pays for the kernel in every packet, and nobody sees it",
    "service.manager": "services that say nothing of CPUs run where the service manager may",
    "service.running": "a service that does not run is in nobody's measurement",
    "net.channels": "more queues than CPUs for their interrupts share them, fewer leave some without work",
    "net.coalesce": "the NIC holds its interrupt back to gather packets, and every one of them waits",
    "net.coalesce.adaptive": "the driver changes its coalescing with the load, so no two measurements are of the same host",
    "net.eee": "a link that sleeps between packets takes microseconds to wake up",
    "net.flow.ntuple": "packets without a rule go to the queue of their hash, and wake up any CPU",
    "net.napi.defer": "interrupts stay off while a timer waits for more packets",
    "net.napi.threaded": "polling in a thread of its own is scheduled like any thread",
    "net.offload.gro": "GRO merges packets: less work for each, but not one by one",
    "net.offload.gso": "large segments keep bulk throughput up",
    "net.offload.lro": "LRO holds packets back on the NIC and merges them beyond repair",
    "net.offload.rx-gro-hw": "the NIC merges packets: less work for each, but not one by one",
    "net.offload.tso": "segmentation offload decides between smooth sending and bulk throughput",
    "net.pause": "a pause frame of one full queue stops the sender of all of them",
    "net.private_flag": "the driver has ways of its own that change latency",
    "net.qdisc": "without fq below it, BBR paces with a timer for each socket; and one queue for all flows lets a bulk one hold the others up",
    "net.ring.rx_tx": "a short ring drops packets in a burst, a long one keeps old packets waiting",
    "net.rps_xps": "packets that change their CPU on the way cost a wake-up and cold caches",
    "net.rss": "which queue, and so which CPU, a packet comes to",
    "nic": "nothing is set of a NIC that cannot be served",
    "irq.competitor": "what moves interrupts behind the plan undoes it",
    "nic.competitor": "two who set one thing undo each other's work",
    "nic.driver": "latency and its bugs change with the driver: all hosts of a kind run the one that was measured",
    "nic.firmware": "latency and its bugs change with the firmware: all hosts of a kind run the one that was measured",
    "nic.numa_node": "a packet that crosses to another node costs its latency twice",
    "nic.pcie_speed": "a slow link holds every packet up and drops them in a burst",
    "nic.pcie_width": "a link with too few lanes drops packets in a burst",
    "route": "nothing is set of a route that cannot be served",
    "route.congctl": "how fast a path recovers and fills is a matter of the path",
    "route.features": "what is agreed with a peer when a connection begins",
    "route.initcwnd": "what does not fit into the first flight waits for a round trip",
    "route.initrwnd": "the peer's first flight is bounded by the window it is shown first",
    "route.quickack": "a peer that waits for our acknowledgement waits up to 40 ms for a delayed one",
    "route.rto_min": "a lost tail waits for the retransmission timer, 200 ms at least by default",
    "socket": "what an application does with its sockets is part of the latency of a host",
    "socket.busy_poll": "without it a read waits for an interrupt and a wake-up",
    "socket.congestion_control": "the algorithm decides how fast a connection sends, and how it answers to loss",
    "socket.cork": "a corked socket holds what is written back, for up to 200 ms",
    "socket.cwnd_at_least": "what does not fit into the window waits for a round trip",
    "socket.edge_triggered": "level-triggered epoll tells again and again of what was not read to its end",
    "socket.keepalive": "a peer that died silently is not noticed while nothing is sent",
    "socket.nodelay": "a small write waits for the acknowledgement of the one before it",
    "socket.receive_buffer": "a small buffer closes the window, a large one hides a reader that is too slow",
    "socket.receive_queue": "what waits for the application is old when it is read",
    "socket.sack": "without it the loss of several packets costs a round trip each",
    "socket.send_buffer": "a small buffer blocks the writer, a large one hides a peer that is too slow",
    "socket.send_queue": "what waits to be sent is old when it arrives",
    "socket.timestamps": "without them round trips are measured once a window, and ports in TIME_WAIT are not used again",
    "socket.user_timeout_ms": "data that nobody acknowledges is sent again for minutes before the connection is given up",
    "svc": "it moves interrupts or pages, or wakes up now and then",
    "svc.irqbalance": "irqbalance moves interrupts behind the plan",
    "sysfs.khugepaged_defrag": "khugepaged moves pages together while the applications wait for them",
    "sysfs.ksm": "merged pages are copied again when they are written to, in the middle of that write",
    "sysfs.transparent_hugepage": "huge pages that the kernel makes by itself are split, moved and cleared when nobody expects it",
    "sysfs.workqueue_cpumask": "unbound work of the kernel runs on any CPU of this mask",
    "sysctl.file": "sysctl values that are in no file are gone after a boot",
    "kernel.watchdog_cpumask": "the watchdog wakes up on each of these CPUs",
    "modules.file": "a congestion control algorithm whose module is not loaded at boot depends on what sets it first",
    "net.core.somaxconn": "connections that come at once are dropped where the queue of a listener is short",
    "net.ipv4.ip_local_port_range": "reconnects need a free port",
    "net.ipv4.tcp_fin_timeout": "sockets whose peer never closes its side stay for this long",
    "net.ipv4.tcp_max_orphans": "sockets that no process holds any more take memory",
    "net.ipv4.tcp_max_syn_backlog": "connections that come at once are dropped where this queue is short",
    "net.ipv4.tcp_orphan_retries": "how long a socket that its process has closed waits for a peer that is gone",
    "sysctl.competitor": "what sets the same key later wins",
    "tcp.small_buffers": "small buffers lose bursts and hold long paths back",
    "kernel.hung_task_timeout_secs": "the check for hung tasks wakes up now and then",
    "kernel.nmi_watchdog": "the watchdog interrupts every CPU and takes a performance counter",
    "kernel.numa_balancing": "page migration stalls the thread that touches the page",
    "kernel.timer_migration": "timers fire on the CPU they were set on",
    "net.core.busy": "a busy-polled socket does not wait for the interrupt",
    "net.core.default_qdisc": "interfaces and queues that come later have this queueing discipline",
    "net.core.netdev_max_backlog": "a short queue drops packets in a burst",
    "net.core.rmem_max": "an application may not ask for more receive buffer than this",
    "net.core.wmem_max": "an application may not ask for more send buffer than this",
    "net.ipv4.tcp_autocorking": "the kernel holds small writes back, TCP_NODELAY or not",
    "net.ipv4.tcp_congestion_control": "how fast a long path recovers and fills",
    "net.ipv4.tcp_dsack": "without duplicate reports a sender cannot undo a needless slow-down",
    "net.ipv4.tcp_keepalive": "how soon a silent peer is found dead",
    "net.ipv4.tcp_mtu_probing": "a path that silently drops large packets stalls the connection",
    "net.ipv4.tcp_no_metrics_save": "old metrics of a destination slow a new connection down",
    "net.ipv4.tcp_notsent_lowat": "data that waits unsent in the kernel can no longer be overtaken",
    "net.ipv4.tcp_retries2": "how long a peer cut with data in flight goes unnoticed",
    "net.ipv4.tcp_rmem": "the receive window is bounded by it",
    "net.ipv4.tcp_sack": "without SACK a lost tail waits for the retransmission timer",
    "net.ipv4.tcp_slow_start_after_idle": "after a pause the window starts small again",
    "net.ipv4.tcp_timestamps": "round trips are measured by them, and tcp_tw_reuse needs them",
    "net.ipv4.tcp_tw_reuse": "rapid reconnects run out of ports",
    "net.ipv4.tcp_window_scaling": "without it no window is larger than 64 KiB",
    "net.ipv4.tcp_wmem": "the send window is bounded by it",
    "tcp.sack_filter": "which connections do without SACK",
    "vm.stat_interval": "statistics are gathered on every CPU at this interval",
    "vm.swappiness": "swapping stalls the thread that touches the page",
    "vm.zone_reclaim_mode": "reclaim on the own node stalls allocations",
}


def why(control: str) -> str:
    """Why a control matters, in a few words; empty where nobody wrote it down."""
    known = [beginning for beginning in WHY if control.startswith(beginning)]
    return WHY[max(known, key=len)] if known else ""


def fix(setting: Mapping[str, Any]) -> str:
    """What to do about a setting that is not right, in a few words."""
    if setting.get("state") == "error":
        return "mend what the reason says, then audit the host again: nobody knows whether this is right"
    if setting.get("finding"):
        return "no run sets this: the reason says who can"
    if setting.get("needs_reboot") and setting.get("current") != setting.get("desired"):
        return "a run without --check writes it, and a boot brings it (lowlatency_reboot_ok allows that)"
    if setting.get("current") == setting.get("desired"):
        return "a run without --check writes it down for the next boot"
    return "a run without --check sets it"


def waiver_text(waiver: Mapping[str, Any]) -> str:
    """A waiver in a few words."""
    parts = [waiver.get("reason"), waiver.get("owner") and f"allowed by {waiver['owner']}", waiver.get("expires") and f"until {waiver['expires']}"]
    return ", ".join(str(part) for part in parts if part)


def counted(settings: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """``{state: number}``, all states, in a fixed order."""
    found = [str(setting.get("state")) for setting in settings]
    return {state: found.count(state) for state in STATES}


def host_lines(host: str, settings: list[Mapping[str, Any]]) -> Iterator[str]:
    """A host's verdict: the count, then what drifted or changed, then what could not be told, then what is not there."""
    counts = counted(settings)
    yield f"{printable(host)}: " + ", ".join(f"{number} {state}" for state, number in counts.items() if number)
    for state in ("drifted", "waived", "changed", "error"):
        for setting in settings:
            if setting.get("state") == state:
                yield f"  {LABELS[state]:<8} {sentence(setting)}"
    waiting = [str(setting.get("name")) for setting in settings
               if setting.get("needs_reboot") and setting.get("state") in ("drifted", "error") and setting.get("current") != setting.get("desired")]
    if waiting:
        yield printable(f"  a reboot is needed for: {', '.join(waiting)}")
    absent: dict[str, list[str]] = {}
    for setting in settings:
        if setting.get("state") == "unsupported":
            absent.setdefault(str(setting.get("reason")), []).append(str(setting.get("name")))
    for reason in sorted(absent):
        yield f"  not here {printable(reason)}: {printable(', '.join(absent[reason]))}"


def sentence(setting: Mapping[str, Any]) -> str:
    """One setting in plain words."""
    name, current, desired, persisted = (setting.get(key) for key in ("name", "current", "desired", "persisted"))
    if setting.get("state") == "error":
        kind = "" if setting.get("control") == name else f" ({setting.get('control')})"
        return printable(f"{name}: {setting.get('reason')}{kind}")
    if setting.get("state") == "changed":
        text = f"{name} is now {_told(desired)}"
    elif str(desired).startswith("sha256:"):
        text = f"{name} is {'missing' if current is None else 'not as planned'}"
    elif current == desired:
        text = f"{name} is {_told(current)}, but {'no file says so for' if persisted is None else f'will be {persisted} after'} the next boot"
    else:
        text = f"{name} is {_told(current)}, wanted {_told(desired)}"
    extra = [part for part in (setting.get("reason"), why(str(setting.get("control"))) if setting.get("state") == "drifted" else "") if part]
    return printable(text + (f" ({'; '.join(map(str, extra))})" if extra else ""))


def _told(value: Any) -> Any:
    return "not set" if value is None else value


def printable(text: str) -> str:
    """Text safe for a terminal: control characters are shown, not obeyed."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
