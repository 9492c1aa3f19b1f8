"""Closing all descriptors but some, in a child."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("keep", [(1,), (0, 1, 2), (1, 7), (1, 5, 6, 9), (1, 1000)])
def test_what_is_kept_stays_and_nothing_else(keep: tuple[int, ...]) -> None:
    script = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from sandbox.descriptors import close_all_but
for fd in range(3, 12): os.dup2(0, fd)
os.dup2(0, 1000)
close_all_but({keep!r})
left = []
for fd in range(1100):
    try: os.fstat(fd); left.append(fd)
    except OSError: pass
os.write(1, repr(tuple(left)).encode())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True
    )
    assert done.stdout.decode() == repr(keep)


def test_closed_standard_streams_are_held() -> None:
    script = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from sandbox.descriptors import hold_standard_streams
os.close(0); os.close(2)
hold_standard_streams()
os.write(1, (os.readlink('/proc/self/fd/0') + os.readlink('/proc/self/fd/2')).encode())
"""
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"/dev/null/dev/null"
    assert os.path.exists("/dev/null")
