"""What tells a process from a later one with its number."""

import os
import subprocess

from sandbox.processes import started


def test_two_processes_are_told_apart_and_one_that_ended_is_none() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        mine, other = started(os.getpid()), started(child.pid)
        assert mine.isdecimal() and other.isdecimal() and int(mine) <= int(other)
        assert (started(os.getpid()), started(child.pid)) == (mine, other)
        child.kill()
        # Nobody has waited for it yet.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert started(child.pid) == ""
    assert started(child.pid) == ""
