"""Stay with a running session until it ends: carry its bytes, pass signals on, watch the time and the way out."""

import gc
import os
import select
import signal
import time
from typing import TYPE_CHECKING, NamedTuple

from sandbox.caught import PASSED_ON, Signals
from sandbox.channel import hear, say
from sandbox.egress import Egress
from sandbox.errors import SetupError
from sandbox.launch import Running
from sandbox.netns import Listening
from sandbox.setup import NOT_FOUND, NOT_RUNNABLE
from sandbox.stdio import Pump, Stdio

if TYPE_CHECKING:
    from sandbox.terminal import Raw

TIMED_OUT = 124
_GRACE_S = 5.0
_ENOENT = 2
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Outcome(NamedTuple):
    """How the command ended. ``code``: as a shell gives it (128+n for signal n); ``max_rss_kib`` of the largest
    process; ``start_s``: until the command ran; ``wall_s``: from then to its end."""

    code: int
    signal: int
    timed_out: bool
    user_s: float
    system_s: float
    max_rss_kib: int
    start_s: float
    wall_s: float


class _Watch:
    """The state of one session between two turns of the loop."""

    def __init__(
        self, running: Running, stdio: Stdio, egress: Egress, signals: Signals, begun: float
    ) -> None:
        self.running = running
        self.stdio = stdio
        self.egress = egress
        self.signals = signals
        self.pumps: list[Pump] = list(stdio.pumps)
        self.raw: Raw | None = None
        self.master = -1
        self.begun = begun
        self.started_at = 0.0
        self.ended_at = 0.0
        self.words: list[str] | None = None
        self.unrunnable: tuple[int, str] | None = None
        self.timed_out = False
        self.interrupted = False
        self.deadline: float | None = None
        self.channel_open = True
        self.gone = False


def supervise(
    running: Running,
    stdio: Stdio,
    egress: Egress,
    signals: Signals,
    *,
    timeout_s: float | None,
    begun: float,
) -> tuple[Outcome, str]:
    """Return how the command ended, and a message for the user when it could not be run at all (or "").

    ``begun``: time.monotonic() when the start began. SetupError when the set-up failed.
    """
    gc.enable()
    watch = _Watch(running, stdio, egress, signals, begun)
    for fd in stdio.close_after:
        os.close(fd)
    try:
        while not watch.gone or any(pump.source != 0 for pump in watch.pumps):
            _turn(watch, timeout_s)
    finally:
        if watch.raw is not None:
            watch.raw.leave()
        for pump in watch.pumps:
            pump.close()
        if watch.master >= 0:
            os.close(watch.master)
    return _outcome(watch)


def _turn(watch: _Watch, timeout_s: float | None) -> None:
    poll = select.poll()
    poll.register(watch.signals.read, select.POLLIN)
    if watch.channel_open:
        poll.register(watch.running.channel, select.POLLIN)
    if not watch.gone:
        poll.register(watch.running.pidfd, select.POLLIN)
        for fd in watch.egress.waiting_fds():
            poll.register(fd, select.POLLIN)
        control = watch.egress.control_fd()
        if control is not None:
            poll.register(control, select.POLLIN)
    sources, targets = _register_pumps(watch, poll)
    # Nothing in the session can write any more: what is not there now, never comes. Its end need not show, for
    # a write end may have been passed on to somebody outside.
    written = watch.gone
    ready = dict(poll.poll(0 if written and not targets else _wait_ms(watch)))
    for number in watch.signals.take():
        _pass_on(watch, number)
    if watch.channel_open and watch.running.channel.fileno() in ready:
        _listen_to_process1(watch, timeout_s)
    if not watch.gone:
        _look_after_egress(watch, ready)
        if watch.running.pidfd in ready and not watch.channel_open:
            watch.gone = True
    _move(watch, sources, targets, ready)
    if written:
        for fd, pump in sources.items():
            if fd not in ready and pump in watch.pumps:
                watch.pumps.remove(pump)
                pump.close()
    _keep_time(watch)


def _register_pumps(watch: _Watch, poll: select.poll) -> tuple[dict[int, Pump], dict[int, Pump]]:
    sources: dict[int, Pump] = {}
    targets: dict[int, Pump] = {}
    events: dict[int, int] = {}
    for pump in watch.pumps:
        if pump.pending:
            assert isinstance(pump.target, int)
            targets[pump.target] = pump
            events[pump.target] = events.get(pump.target, 0) | select.POLLOUT
        else:
            sources[pump.source] = pump
            events[pump.source] = events.get(pump.source, 0) | select.POLLIN
    for fd, wanted in events.items():
        poll.register(fd, wanted)
    return sources, targets


def _move(watch: _Watch, sources: dict[int, Pump], targets: dict[int, Pump], ready: dict[int, int]) -> None:
    # A terminal is one pump's source and another's target: that it can be written says nothing about reading.
    for fd, pump in targets.items():
        if ready.get(fd, 0) & ~select.POLLIN:
            pump.drain()
    for fd, pump in sources.items():
        if ready.get(fd, 0) & ~select.POLLOUT:
            pump.fill()
    for pump in [pump for pump in watch.pumps if pump.ended and not pump.pending]:
        watch.pumps.remove(pump)
        pump.close()


def _wait_ms(watch: _Watch) -> int | None:
    if watch.deadline is None:
        return None
    return max(0, int((watch.deadline - time.monotonic()) * 1000) + 1)


def _keep_time(watch: _Watch) -> None:
    if watch.deadline is None or watch.gone or time.monotonic() < watch.deadline:
        return
    if not watch.timed_out:
        watch.timed_out = True
        watch.deadline = time.monotonic() + _GRACE_S
        _tell(watch, f"signal {signal.SIGTERM:d}")
        _tell(watch, "continue")
    else:
        watch.deadline = None
        watch.running.kill()


def _tell(watch: _Watch, message: str) -> None:
    try:
        say(watch.running.channel, message)
    except OSError:
        # Process 1 is about to be found gone.
        return


def _pass_on(watch: _Watch, number: int) -> None:
    if number == signal.SIGWINCH:
        if watch.master >= 0 and watch.stdio.terminal is not None:
            from sandbox.terminal import copy_size

            copy_size(watch.stdio.terminal, watch.master)
    elif number == signal.SIGCONT:
        if watch.raw is None:
            _tell(watch, "continue")
        elif watch.raw.active:
            watch.raw.leave()
            watch.raw.enter()
    elif number in PASSED_ON:
        if not watch.started_at and number in _ENDING:
            # Process 1 passes the first one on as soon as there is a command; somebody who insists waits no longer.
            if watch.interrupted:
                watch.running.kill()
                name = signal.Signals(number).name
                raise SetupError(f"interrupted by {name} while the session was being set up")
            watch.interrupted = True
        _tell(watch, f"signal {number}")


def _look_after_egress(watch: _Watch, ready: dict[int, int]) -> None:
    control = watch.egress.control_fd()
    if control is not None and control in ready:
        watch.egress.bury()
    elif any(fd in ready for fd in watch.egress.waiting_fds()):
        watch.egress.start()


def _listen_to_process1(watch: _Watch, timeout_s: float | None) -> None:
    message = hear(watch.running.channel)
    if message is None:
        watch.channel_open = False
        if watch.words is None:
            watch.running.kill()
            watch.gone = True
        return
    words = message[0].split(" ")
    if words[0] == "listening":
        watch.egress.take([_listening(word) for word in words[1:]], message[1])
    elif words[0] == "terminal":
        _join_terminal(watch, message[1][0])
    elif words[0] == "started":
        watch.started_at = time.monotonic()
        if timeout_s is not None:
            watch.deadline = watch.started_at + timeout_s
    elif words[0] == "stopped":
        _suspend(watch)
    elif words[0] == "exited":
        watch.words = words[1:]
        watch.ended_at = time.monotonic()
    elif words[0] == "unrunnable":
        watch.unrunnable = (int(words[1]), " ".join(words[2:]))
    elif words[0] == "failed":
        raise SetupError(f"setting up the session failed: {' '.join(words[2:])}")


def _listening(word: str) -> Listening:
    role, port, family = word.split(":")
    return Listening(role, int(port), int(family))


def _join_terminal(watch: _Watch, master: int) -> None:
    watch.master = master
    os.set_blocking(master, False)
    outer = watch.stdio.terminal
    assert outer is not None
    # Output goes where the user's terminal is; its descriptor 1 or 2 may be a pipe.
    watch.pumps.append(Pump(master, outer, ()))
    if watch.stdio.typed:
        from sandbox.terminal import Raw

        watch.raw = Raw(0)
        watch.raw.enter()
        watch.pumps.append(Pump(0, master, ()))


def _suspend(watch: _Watch) -> None:
    """The command stopped, as after ^Z: stop as well, and let it go on when the user's shell says so.

    Without the user's keys a command that stops has stopped itself, and only itself: the time limit still holds.
    """
    if watch.raw is not None:
        from sandbox.terminal import copy_size

        watch.raw.suspend()
        copy_size(0, watch.master)
        _tell(watch, "continue")


def _outcome(watch: _Watch) -> tuple[Outcome, str]:
    now = watch.ended_at or time.monotonic()
    started = watch.started_at or now
    start_s, wall_s = started - watch.begun, now - started
    if watch.words is None:
        code = TIMED_OUT if watch.timed_out else 128 + signal.SIGKILL
        return Outcome(code, signal.SIGKILL, watch.timed_out, 0.0, 0.0, 0, start_s, wall_s), ""
    code, number = int(watch.words[0]), int(watch.words[1])
    message = ""
    if watch.unrunnable is not None:
        error, program = watch.unrunnable
        code = NOT_FOUND if error == _ENOENT else NOT_RUNNABLE
        why = "not found in the session" if error == _ENOENT else f"can't be run: {os.strerror(error)}"
        message = f"{program}: {why}"
    elif watch.timed_out:
        code = TIMED_OUT
    elif number:
        code = 128 + number
    user, system, rss = watch.words[2:5]
    return (
        Outcome(code, number, watch.timed_out, float(user), float(system), int(rss), start_s, wall_s),
        message,
    )
