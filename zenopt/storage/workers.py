"""Who runs a trial: the identity of a worker process, whether it is alive, and its signs of life for others."""

from __future__ import annotations

import functools
import os
import socket
import subprocess
import sys
from dataclasses import dataclass

WORKER_KEY = "worker"
"""Trial user attribute that names the worker running the trial (``host:pid:start``)."""


_HIDDEN = "hidden"
_FIRST_NAMESPACE = "4026531836"


@dataclass(frozen=True)
class Worker:
    """Identity of a worker process.

    Args:
        host:
            Where process ids mean something, see :func:`host_name`.
        pid:
            Process id on that machine.
        start:
            When the process started, in the machine's own units: a process that was given the same id later
            differs in it.
    """

    host: str
    pid: int
    start: str

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}:{self.start}"

    @classmethod
    def parse(cls, text: object) -> Worker | None:
        """Return the worker written as ``host:pid:start``, or None where ``text`` is no such thing."""
        if not isinstance(text, str):
            return None
        parts = text.rsplit(":", 2)
        if len(parts) != 3 or not parts[1].isdigit():
            return None
        return cls(parts[0], int(parts[1]), parts[2])

    @property
    def is_here(self) -> bool:
        """Whether the worker runs, or ran, where this process can see its process id."""
        return self.host == host_name()

    @property
    def is_of_this_machine(self) -> bool:
        """Whether the worker ran on a machine of this one's name, in this boot or an earlier one."""
        return self.boot is not None and self.host.split("/")[0] == host_name().split("/")[0]

    @property
    def boot(self) -> str | None:
        """Id of the machine's boot during which the worker ran, where it is known."""
        parts = self.host.split("/")
        return parts[1] if len(parts) > 1 else None

    def is_alive_here(self) -> bool:
        """Whether the process still runs; meaningful only where :attr:`is_here`."""
        return process_start(self.pid) in (self.start, _HIDDEN)


def current_worker() -> Worker:
    """Return the identity of this process."""
    return _worker_of(os.getpid())


@functools.lru_cache(maxsize=8)
def _worker_of(pid: int) -> Worker:
    return Worker(host_name(), pid, process_start(pid) or "0")


@functools.lru_cache(maxsize=1)
def host_name() -> str:
    """Return the name under which this process's process ids mean something.

    The name of the machine alone does not do: cloned machines share it. On Linux the id of the boot is added,
    and in a container its process-id namespace. So after a reboot the workers of before are "elsewhere", like
    those of any other machine.
    """
    host = socket.gethostname().replace(":", "-").replace("/", "-") or "localhost"
    boot = boot_id()
    if boot is None:
        return host
    try:
        # "pid:[4026531836]"; the first namespace has the same number on every Linux.
        namespace = os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        namespace = _FIRST_NAMESPACE
    return f"{host}/{boot}" if namespace == _FIRST_NAMESPACE else f"{host}/{boot}/{namespace}"


@functools.lru_cache(maxsize=1)
def boot_id() -> str | None:
    """Return what tells this boot of this machine from every other, or None where the system has no such thing."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read(8)
    except OSError:
        return None


def process_start(pid: int) -> str | None:
    """Return when the process ``pid`` of this machine started, or None where there is no such process.

    A zombie counts as gone: it can finish nothing any more.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            # The command name, in parentheses, may hold spaces and parentheses itself.
            fields = file.read().rpartition(")")[2].split()
    except (FileNotFoundError, PermissionError):
        return _process_start_without_proc(pid)
    except ProcessLookupError:
        return None
    # Clock ticks since the boot, which the host name tells.
    return None if fields[0] in ("Z", "X") else fields[19]


def _process_start_without_proc(pid: int) -> str | None:
    if sys.platform.startswith("linux"):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass
        # There, but not shown: another user's (hidepid), or no /proc at all.
        return _HIDDEN
    if os.name == "nt":
        query = f"(Get-Process -Id {pid}).StartTime.ToFileTimeUtc()"
        command = ["powershell", "-NoProfile", "-Command", query]
    else:
        command = ["ps", "-o", "lstart=", "-p", str(pid)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    started = "-".join(result.stdout.split()).replace(":", ".")
    return started or None
