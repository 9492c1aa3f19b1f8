"""What a container uses of the machine: its processes, seen from the host, what it wrote, and what it sent."""

import json
import os
import stat

import psutil

from sandbox.containers.spec import Process
from sandbox.inroot import Opened

_DEEPEST = 200
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def processes(process1: int) -> tuple[Process, ...]:
    """The processes of the container whose process 1 is that of the host; none when it is gone."""
    found = []
    for each in _family(process1):
        try:
            with each.oneshot():
                times = each.cpu_times()
                command = " ".join(each.cmdline()) or f"[{each.name()}]"
                inner = _inner(each.pid)
                parent = _inner(each.ppid()) if each.pid != process1 else 0
                cpu_s = times.user + times.system
                found.append(Process(each.pid, inner, parent, command, cpu_s, each.memory_info().rss))
        except (psutil.Error, OSError):
            continue
    return tuple(sorted(found, key=lambda process: process.pid))


def _family(process1: int) -> list[psutil.Process]:
    """All are descendants of process 1: what loses its parent becomes its child."""
    try:
        top = psutil.Process(process1)
        return [top, *top.children(recursive=True)]
    except psutil.Error:
        return []


def _inner(pid: int) -> int:
    """The number of a process in the innermost process-id namespace that it is in (proc_pid_status(5))."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
    raise OSError(f"process {pid} has no number")


def cpu_and_memory(process1: int) -> tuple[float, int]:
    """Processor time of all that ran in the container so far, in seconds, and proportional memory in bytes of those
    that may be looked into (only root may look into process 1)."""
    cpu_s, memory = 0.0, 0
    for each in _family(process1):
        try:
            cpu_s += sum(each.cpu_times()[:4])
            memory += _proportional(each.pid)
        except (psutil.Error, OSError):
            continue
    return round(cpu_s, 2), memory


def _proportional(pid: int) -> int:
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def disk(*trees: str) -> int:
    """What the files of these directories take on disk, in bytes; what can't be read is left out, and what lies below
    _DEEPEST directories."""
    seen: set[tuple[int, int]] = set()
    return sum(_disk(os.open(tree, _FOLDER), seen, 0) for tree in trees if os.path.isdir(tree))


def _disk(folder: int, seen: set[tuple[int, int]], depth: int) -> int:
    total = 0
    with Opened(folder), os.scandir(folder) as entries:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode) and depth < _DEEPEST:
                    total += _disk(os.open(entry.name, _FOLDER, dir_fd=folder), seen, depth + 1)
                elif status.st_nlink > 1:
                    if (status.st_dev, status.st_ino) in seen:
                        continue
                    seen.add((status.st_dev, status.st_ino))
            except OSError:
                continue
            total += status.st_blocks * 512
    return total


def traffic(log: str) -> tuple[int, int]:
    """Bytes sent and received, as the egress log at the path ``log`` has them."""
    sent = received = 0
    try:
        with open(log, "rb") as file:
            for line in file:
                try:
                    record = json.loads(line)
                    sent, received = sent + int(record["sent"]), received + int(record["received"])
                except (ValueError, KeyError, TypeError):
                    continue
    except FileNotFoundError:
        pass
    return sent, received
