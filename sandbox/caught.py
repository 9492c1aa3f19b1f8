"""The signals of the supervisor, for as long as a session runs."""

import os
import signal
from types import FrameType, TracebackType

PASSED_ON = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


class Signals:
    """Collects this process's signals in a pipe for the length of a ``with`` block."""

    def __init__(self) -> None:
        self.read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._before: list[tuple[int, object]] = []
        self._wakeup = -1

    def __enter__(self) -> "Signals":
        for number in (*PASSED_ON, signal.SIGWINCH, signal.SIGCONT):
            self._before.append((number, signal.signal(number, _ignore)))
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        return self

    def take(self) -> list[int]:
        """The signals since the last call."""
        try:
            return list(os.read(self.read, 4096))
        except BlockingIOError:
            return []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before:
            signal.signal(number, handler)  # type: ignore[arg-type]
        os.close(self.read)
        os.close(self._write)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    return
