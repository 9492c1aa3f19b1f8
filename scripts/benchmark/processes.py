"""Processes whose time is taken, with as little of our own around them as there can be."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from time import perf_counter

from benchmark.rounds import Failed


def wall_ms(argv: tuple[str, ...], environment: Mapping[str, str]) -> float:
    """Milliseconds from starting ``argv`` until it has ended. Raises Failed when it ends with another code than 0."""
    said = os.memfd_create("stderr", os.MFD_CLOEXEC)
    try:
        silent = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1)]
        actions = (*silent, (os.POSIX_SPAWN_DUP2, said, 2))
        begun = perf_counter()
        pid = os.posix_spawnp(argv[0], argv, environment, file_actions=actions)
        _, status = os.waitpid(pid, 0)
        took = (perf_counter() - begun) * 1000
        if status:
            complaint = os.pread(said, 1 << 20, 0).decode(errors="replace")
            code = os.waitstatus_to_exitcode(status)
            raise Failed(_last(complaint, f"{argv[0]} ends with code {code}"))
    finally:
        os.close(said)
    return took


def output(argv: Sequence[str], environment: Mapping[str, str], timeout_s: float = 60) -> str:
    """What ``argv`` prints. Raises Failed when it can't be run, takes too long, or ends with another code than 0."""
    try:
        process = subprocess.Popen(
            argv,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    except OSError as error:
        raise Failed(f"{argv[0]}: {error.strerror}") from error
    with process:
        try:
            printed, complaint = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            _, complaint = process.communicate()
            raise Failed(_last(complaint, f"did not end within {timeout_s:.0f} s")) from None
        finally:
            # Some leave a process behind them, which would go on beside the next measurement.
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
    if process.returncode:
        raise Failed(_last(complaint, f"it ends with code {process.returncode}"))
    return printed


def _last(complaint: str, otherwise: str) -> str:
    words = complaint.strip().splitlines()
    return words[-1][:160] if words else otherwise
