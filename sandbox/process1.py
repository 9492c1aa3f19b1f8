"""Process 1 of a session: it sets the session up, starts the command, reaps what is orphaned, and ends it all.
A container's commands come later: see sandbox.containers.serve.

It begins as a copy of the supervisor in namespaces of its own, with every capability there and no id yet. In order:
network, ids, file system, new root, restrictions, command. From the restrictions on it has no more rights than the
command. When it ends, for whatever reason, the kernel kills every other process of the session.
"""

import errno
import fcntl
import os
import resource
import select
import signal
import socket
import warnings
from collections.abc import Callable
from typing import NamedTuple, NoReturn, ParamSpec, TypeVar

from sandbox import netns, restrict, seccomp
from sandbox import syscalls as sys_
from sandbox.channel import hear, say
from sandbox.descriptors import close_all_but
from sandbox.inroot import Opened, open_in
from sandbox.operations import Masked, Operation
from sandbox.setup import NOT_FOUND, Command, Setup, TerminalSettings, decode
from sandbox.spec import HOSTNAME

_SET_UP_FAILED = 125
# os.execvpe imports it, when that is no longer possible.
_LOADED = (warnings,)
_CAPTURE = "leading every port to the proxy with nf_tables (sandboxctl doctor tells what that takes)"

P = ParamSpec("P")
T = TypeVar("T")


class Inside(NamedTuple):
    """A session whose files are in place: what process 1 was told, the descriptors that came with it, the terminal."""

    setup: Setup
    fds: tuple[int, ...]
    terminal: int | None


class _Stage(Exception):
    """Set-up failed at a step that a person can be told of."""

    def __init__(self, step: str, error: OSError) -> None:
        super().__init__(step)
        self.step = step
        self.error = error


def run(channel_fd: int, live: Callable[[socket.socket], int] | None = None) -> NoReturn:
    """Be process 1. Never returns; never lets an exception out into the supervisor's copied stack.

    ``live``: what it does, given the channel; returns the exit code to end with. By default it sets up and runs a
    command.
    """
    code = _SET_UP_FAILED
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = socket.socket(fileno=channel_fd)
    try:
        try:
            _become_quiet(channel_fd)
            code = (live or _run_command)(channel)
        except _Stage as stage:
            number = stage.error.errno or 0
            text = stage.error.strerror or str(stage.error)
            if stage.error.filename:
                text += f": {stage.error.filename}"
            say(channel, f"failed {number} {stage.step}: {text}")
        except Exception as error:  # the supervisor is told and shows it; nothing is lost
            trace = error.__traceback__
            while trace and trace.tb_next:
                trace = trace.tb_next
            where = (
                f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}" if trace else ""
            )
            say(channel, f"failed 0 {type(error).__name__} at {where}: {error}")
    finally:
        os._exit(code)


def _step(name: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return function(*args, **kwargs)
    except OSError as error:
        raise _Stage(name, error) from error


def _become_quiet(channel_fd: int) -> None:
    signal.set_wakeup_fd(-1)
    # What the command is to find. The kernel spares process 1 of a namespace what a signal does by default
    # (pid_namespaces(7)), and there is time for it now.
    for number in range(1, signal.NSIG):
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            try:
                signal.signal(number, signal.SIG_DFL)
            except (OSError, ValueError):
                continue
    os.umask(0o022)
    os.setsid()
    restrict.hide_arguments()
    close_all_but((channel_fd,))
    # The lowest numbers are the command's; nothing else may be opened there.
    while os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC) < 2:
        pass


def _run_command(channel: socket.socket) -> int:
    inside = make(channel)
    confine(inside.setup)
    command = inside.setup.command
    stdio = tuple(inside.terminal if place is None else inside.fds[place] for place in command.stdio)
    keep = (fd for fd in (*stdio, inside.terminal) if fd is not None)
    close_all_but((0, 1, 2, channel.fileno(), *keep))
    return _tend(_start(command, stdio, inside.terminal, channel), channel)


def make(channel: socket.socket) -> Inside:
    """Make the session that the supervisor tells of: network, ids, files, new root."""
    _step("bringing the loopback device up", netns.bring_up)
    message = hear(channel)
    if message is None:
        os._exit(_SET_UP_FAILED)
    setup, fds = _read_setup(message[1])
    if setup.network != "none":
        _step("making every address local", netns.make_all_local)
        listening, sockets = _step("opening the proxy's listeners", netns.listen, setup.listeners)
        _step(_CAPTURE, netns.capture, listening, sockets)
        words = " ".join(f"{entry.role}:{entry.port}:{entry.family}" for entry in listening)
        say(channel, f"listening {words}", tuple(listener.fileno() for listener in sockets))
        for listener in sockets:
            listener.close()
    belong(setup)
    _step("setting the host name", socket.sethostname, HOSTNAME)
    _step("making mounts private", sys_.mount, "", "/", None, sys_.MS_REC | sys_.MS_PRIVATE)
    _build_root(setup.steps, setup.root, fds[setup.first_tree :])
    if setup.terminal:
        # For `_open_terminal`.
        __import__("termios")
    restrict.load_nothing()
    _step("entering the new root", _enter, setup.root)
    terminal = _open_terminal(setup.terminal, channel) if setup.terminal else None
    if setup.window:
        _step("covering the window", _pass_window, setup.window, channel)
    return Inside(setup, fds, terminal)


def belong(setup: Setup) -> None:
    """Be a process of the session's user 0, that ends with its parent and that nobody looks into."""
    _step("taking the session's ids", _take_ids, setup.drop_groups)
    restrict.die_with_parent()
    restrict.forbid_inspection()


def confine(setup: Setup) -> None:
    """Give up what the command must not have."""
    restrict.no_core_dumps()
    restrict.drop_capabilities(file_capabilities=setup.file_capabilities)
    restrict.forbid_new_privileges()
    _step("installing the system call filter", seccomp.install, setup.filter)


def _read_setup(fds: tuple[int, ...]) -> tuple[Setup, tuple[int, ...]]:
    """The set-up, which the supervisor wrote to a file in memory, and the descriptors that came with it."""
    with open(fds[0], "rb") as file:
        return decode(file.read()), fds[1:]


def _build_root(operations: tuple[Operation, ...], root: str, trees: tuple[int, ...]) -> None:
    for operation in operations:
        _step(operation.describe(), operation.execute, root, trees)


def _take_ids(drop_groups: bool) -> None:
    if drop_groups:
        os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _enter(root: str) -> None:
    os.chdir(root)
    # pivot_root(2): with both the same, the old root ends up on top of the new one and is let go of.
    sys_.pivot_root(".", ".")
    sys_.umount2(".", sys_.MNT_DETACH)
    os.chdir("/")


def _pass_window(path: str, channel: socket.socket) -> None:
    """Pass the directory ``path`` out and cover it: what stands in it can be shown elsewhere later."""
    with Opened(open_in("/", path, os.O_PATH | os.O_DIRECTORY)) as window:
        say(channel, "window", (window.fd,))
    Masked(path).execute("/")


def _open_terminal(settings: TerminalSettings, channel: socket.socket) -> int:
    import termios

    master = _step("opening a terminal", os.open, "/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    fcntl.ioctl(master, 0x40045431, b"\0\0\0\0")  # TIOCSPTLCK: unlock the other end
    number = int.from_bytes(fcntl.ioctl(master, 0x80045430, b"\0\0\0\0"), "little")  # TIOCGPTN
    terminal = _step(
        "opening a terminal", os.open, f"/dev/pts/{number}", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
    )
    if settings.attributes is not None:
        termios.tcsetattr(terminal, termios.TCSANOW, settings.attributes)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, settings.size)
    # Process 1 leads the terminal's session, so that the command's process group is not orphaned and can stop.
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
    say(channel, "terminal", (master,))
    os.close(master)
    return terminal


def _start(
    command: Command, stdio: tuple[int | None, ...], terminal: int | None, channel: socket.socket
) -> int:
    """Fork and execute the command; say how that went; return its process id."""
    told, tell = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            _execute(command, stdio, terminal)
        except OSError as error:
            where = "chdir" if error.filename == command.workdir else "exec"
            os.write(tell, f"{error.errno} {where}".encode())
        finally:
            os._exit(NOT_FOUND)
    os.close(tell)
    with open(told, "rb") as pipe:
        failure = pipe.read().decode()
    # Whoever holds a pipe's end keeps it from ending.
    for fd in {fd for fd in (*stdio, terminal) if fd is not None}:
        os.close(fd)
    if not failure:
        say(channel, "started")
        return pid
    number, where = failure.split()
    if where == "chdir":
        raise _Stage(
            f"entering the working directory {command.workdir}",
            OSError(int(number), os.strerror(int(number))),
        )
    say(channel, f"unrunnable {number} {command.arguments[0]}")
    return pid


def _execute(command: Command, stdio: tuple[int | None, ...], terminal: int | None) -> NoReturn:
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.setpgid(0, 0)
    if terminal is not None:
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        os.tcsetpgrp(terminal, os.getpid())
        signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.chdir(command.workdir)
    for target, source in enumerate(stdio):
        assert source is not None
        os.dup2(source, target)
    environment = dict(command.environment)
    if "/" in command.arguments[0]:
        os.execve(command.arguments[0], command.arguments, environment)
    os.execvpe(command.arguments[0], command.arguments, environment)


def _tend(command: int, channel: socket.socket) -> int:
    """Reap, pass signals on, and watch the supervisor until the command ends. Returns the exit code to end with."""
    wake, waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    poll.register(wake, select.POLLIN)
    while True:
        ended = _reap(command, channel)
        if ended is not None:
            return ended
        for fd, _ in poll.poll():
            if fd == wake:
                os.read(wake, 4096)
            elif not _obey(command, channel):
                return _SET_UP_FAILED


def _reap(command: int, channel: socket.socket) -> int | None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
        except ChildProcessError:
            return None
        if pid == 0:
            return None
        if pid != command:
            continue
        if os.WIFSTOPPED(status):
            say(channel, f"stopped {os.WSTOPSIG(status)}")
            continue
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        say(channel, f"exited {code} {number} {used.ru_utime:.6f} {used.ru_stime:.6f} {used.ru_maxrss}")
        return code


def _obey(command: int, channel: socket.socket) -> bool:
    message = hear(channel)
    if message is None:
        return False
    words = message[0].split()
    try:
        if words[0] == "signal":
            os.killpg(command, int(words[1]))
        elif words[0] == "continue":
            os.killpg(command, signal.SIGCONT)
    except OSError as error:
        if error.errno not in (errno.ESRCH, errno.EPERM):
            raise
    return True
