"""What the kernel tells of processes."""


def started(pid: int) -> str:
    """When the process ``pid`` started, in ticks since boot (proc_pid_stat(5)); empty when it has ended.

    The number and this together are one process's alone for as long as the machine runs.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="surrogateescape") as file:
            state, *rest = file.read().rpartition(")")[2].split()
        # Nobody may come to bury it where the machine's own process 1 is no init.
        return "" if state in "ZX" else rest[18]
    except (OSError, ValueError, IndexError):
        return ""
