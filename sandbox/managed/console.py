"""A command in a session with the streams of whoever asked: what is typed goes in, what it says comes out."""

import os
import select
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from types import FrameType, MappingProxyType

from sandbox import terminal
from sandbox.containers.collecting import MOST_PIECES
from sandbox.containers.execution import DYING_S, Exec, Given, StoppedError, pipe
from sandbox.containers.spec import Size
from sandbox.managed import machines
from sandbox.managed.service import Service

_CHUNK = 65536
TIMED_OUT, STOPPED = 124, 125


def run(
    service: Service,
    identifier: str,
    command: Sequence[str],
    *,
    environment: Mapping[str, str] = MappingProxyType({}),
    workdir: str | None = None,
    timeout_s: float | None = None,
    streams: tuple[int, int, int] = (0, 1, 2),
) -> tuple[int, str]:
    """Run ``command`` to its end with the caller's descriptors ``streams``; its exit code, and why it could not be run
    (or ""). It has a terminal when the caller has one for input and output. Refused as machines.run."""
    stdin, stdout, _ = streams
    if os.isatty(stdin) and os.isatty(stdout):
        return _on_terminal(service, identifier, command, environment, workdir, timeout_s, (stdin, stdout))
    return _on_pipes(service, identifier, command, environment, workdir, timeout_s, streams)


def _on_terminal(
    service: Service,
    identifier: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    workdir: str | None,
    timeout_s: float | None,
    streams: tuple[int, int],
) -> tuple[int, str]:
    stdin, stdout = streams
    told = {"TERM": os.environ.get("TERM", "dumb"), **environment}
    settings = terminal.settings(stdin, reading=True)

    def begin(given: Given) -> Exec:
        return service.live.containers.exec(
            identifier, command, environment=told, workdir=workdir, given=given, terminal=settings
        )

    with machines.began(service, identifier, lambda: begin(Given())) as running, ExitStack() as stack:
        late = False
        if running.terminal >= 0:
            _follow_size(stack, running, stdin)
            stack.enter_context(terminal.Raw(stdin))
            late = _carry(running, [(stdin, running.terminal), (running.terminal, stdout)], timeout_s)
        return _ended(running, timeout_s if late else None)


def _follow_size(stack: ExitStack, running: Exec, stdin: int) -> None:
    def resize(_: int, __: FrameType | None) -> None:
        size = os.get_terminal_size(stdin)
        with suppress(OSError):
            running.resize(Size(size.lines, size.columns))

    before = signal.signal(signal.SIGWINCH, resize)
    stack.callback(signal.signal, signal.SIGWINCH, before)


def _on_pipes(
    service: Service,
    identifier: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    workdir: str | None,
    timeout_s: float | None,
    streams: tuple[int, int, int],
) -> tuple[int, str]:
    with ExitStack() as stack:
        (in_read, in_write), (out_read, out_write), (err_read, err_write) = (pipe() for _ in range(3))
        ours, theirs = [in_write, out_read, err_read], [in_read, out_write, err_write]
        stack.callback(_close_all, ours)
        stack.callback(_close_all, theirs)
        for fd in ours:
            os.set_blocking(fd, False)

        def begin() -> Exec:
            return service.live.containers.exec(
                identifier,
                command,
                environment=environment,
                workdir=workdir,
                given=Given(in_read, out_write, err_write),
            )

        with machines.began(service, identifier, begin) as running:
            _close_all(theirs)

            def hang_up() -> None:
                ours.remove(in_write)
                os.close(in_write)

            pairs = [(streams[0], in_write), (out_read, streams[1]), (err_read, streams[2])]
            late = _carry(running, pairs, timeout_s, hang_up)
            return _ended(running, timeout_s if late else None)


def _carry(
    running: Exec,
    pairs: list[tuple[int, int]],
    timeout_s: float | None,
    hang_up: Callable[[], None] = lambda: None,
) -> bool:
    """Carry bytes from the first to the second of each pair until the command has ended and what it wrote is out. The
    first pair is its input: at its end ``hang_up`` tells the command so. Whether its time was over first."""
    timed_out = False
    (source, feed), outputs = pairs[0], dict(pairs[1:])
    pending = b""
    reading = True
    deadline = None if timeout_s is None else _now() + timeout_s
    while True:
        poll = select.poll()
        poll.register(running.fileno(), select.POLLIN)
        for fd in outputs:
            poll.register(fd, select.POLLIN)
        if pending:
            poll.register(feed, select.POLLOUT)
        elif reading:
            poll.register(source, select.POLLIN)
        left = None if deadline is None else max(0.0, deadline - _now()) * 1000
        ready = {fd for fd, _ in poll.poll(left)}
        late = deadline is not None and _now() >= deadline
        if late:
            timed_out = True
            running.kill()
            # From then on it has ended in any case.
            deadline = _now() + DYING_S
        for fd in [fd for fd in outputs if fd in ready]:
            if not _pass_on(fd, outputs[fd]):
                del outputs[fd]
        if pending and feed in ready:
            pending = _fed(feed, pending)
        elif reading and not pending and source in ready:
            pending = os.read(source, _CHUNK)
            if not pending:
                reading = False
                hang_up()
        if (running.fileno() in ready or late) and _over(running):
            for fd, target in outputs.items():
                for _ in range(MOST_PIECES):
                    if not _pass_on(fd, target, waiting=False):
                        break
            return timed_out


def _close_all(fds: list[int]) -> None:
    while fds:
        os.close(fds.pop())


def _now() -> float:
    import time

    return time.monotonic()


def _over(running: Exec) -> bool:
    try:
        return running.poll() is not None
    except StoppedError:
        return True


def _pass_on(source: int, target: int, *, waiting: bool = True) -> bool:
    """One piece; False at the end, or when nothing is there and nobody is ``waiting`` for more."""
    try:
        data = os.read(source, _CHUNK)
    except BlockingIOError:
        return waiting
    except OSError:
        # What is left of a terminal whose last user has gone (EIO).
        return False
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]
    return bool(data)


def _fed(feed: int, pending: bytes) -> bytes:
    try:
        return pending[os.write(feed, pending) :]
    except BlockingIOError:
        return pending
    except OSError:
        return b""


def _ended(running: Exec, limit_s: float | None) -> tuple[int, str]:
    """``limit_s``: the time limit that ended it, if one did."""
    ended = running.ended
    if limit_s is not None:
        return TIMED_OUT, f"the time limit ended the command after {limit_s:g} s"
    if ended is None:
        return STOPPED, "the session was stopped"
    return ended.code, ended.message
