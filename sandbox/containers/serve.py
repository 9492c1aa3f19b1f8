"""What process 1 of a container does once it is set up: it takes commands, starts them, and tells how they end.

Each comes over a connection of its own (sandbox.containers.orders) and is a child of this process, so that it stands
behind the same walls and has no more rights. From here on nothing is read from the session's files: its code owns
them.
"""

import errno
import fcntl
import gc
import os
import select
import signal
import socket
import subprocess
import termios
from typing import NoReturn

from sandbox import restrict
from sandbox.channel import hear, say
from sandbox.containers.orders import Order, decode
from sandbox.descriptors import close_all_but
from sandbox.process1 import belong, confine, make, run
from sandbox.setup import NOT_FOUND, Setup, TerminalSettings, encode
from sandbox.setup import decode as decode_setup

_TIOCGPTPEER = 0x5441
_TIOCSPTLCK = 0x40045431
_MOST_TASKS = 1024


def become(channel_fd: int) -> NoReturn:
    """Be process 1 of a container. The first descriptor of its set-up is the socket that it takes commands on."""
    run(channel_fd, _live)


def _live(channel: socket.socket) -> int:
    """A child makes the session, in these same namespaces, and ends: the memory that this takes goes with it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        ours.close()
        inside = make(channel)
        # What is left to know. The root directory of this process's parent is the new one as well (pivot_root(2)).
        rest = inside.setup._replace(steps=(), root="", listeners=())
        with open(os.memfd_create("rest", os.MFD_CLOEXEC), "wb") as file:
            file.write(encode(rest))
            file.flush()
            say(theirs, "made", (file.fileno(), inside.fds[0]))
        os._exit(0)
    restrict.load_nothing()
    theirs.close()
    with ours:
        message = hear(ours)
    os.waitpid(pid, 0)
    if message is None:
        # The child has said why.
        return NOT_FOUND
    rest_fd, listener = message[1]
    with open(rest_fd, "rb") as file:
        file.seek(0)
        setup = decode_setup(file.read())
    # Wherever the caller's process stood: a directory that is left open in this way would be outside of the root.
    os.chdir("/")
    belong(setup)
    confine(setup)
    return _serve(setup, channel, socket.socket(fileno=listener))


class _Task:
    """One connection: ``pid`` of its command, 0 before; ``told`` tells why it could not be executed; ``ended`` holds
    its last words until the first ones are said."""

    __slots__ = ("connection", "ended", "pid", "told")

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.pid = 0
        self.told = -1
        self.ended = ""


class _Service:
    """All that process 1 looks after."""

    def __init__(self, setup: Setup, channel: socket.socket, listener: socket.socket, waker: int) -> None:
        self.environment = dict(setup.command.environment)
        self.workdir = setup.command.workdir
        self.channel = channel
        self.listener = listener
        self.tasks: dict[int, _Task] = {}
        self.told: dict[int, _Task] = {}
        self.poll = select.poll()
        for fd in (channel.fileno(), listener.fileno(), waker):
            self.poll.register(fd, select.POLLIN)
        self.idle = False
        self.ending = False
        self.full = False


def _serve(setup: Setup, channel: socket.socket, listener: socket.socket) -> int:
    close_all_but((0, 1, 2, channel.fileno(), listener.fileno()))
    listener.setblocking(False)
    gc.freeze()
    wake, waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    service = _Service(setup, channel, listener, wake)
    say(channel, "serving")
    while True:
        empty = _reap(service)
        if empty and service.ending:
            return 0
        _tell_whether_idle(service, empty and not service.tasks)
        for fd, _ in service.poll.poll():
            if fd == wake:
                os.read(wake, 4096)
            elif fd == listener.fileno():
                _accept(service)
            elif fd == channel.fileno():
                if not _obey_keeper(service):
                    return 0
            elif fd in service.told:
                _tell_start(service, service.told[fd])
            elif fd in service.tasks:
                _obey(service, service.tasks[fd])


def _tell_whether_idle(service: _Service, idle: bool) -> None:
    if idle != service.idle:
        service.idle = idle
        say(service.channel, "idle" if idle else "busy")


def _obey_keeper(service: _Service) -> bool:
    """Do what the keeper says; False when there is nothing left to do."""
    message = hear(service.channel)
    if message is None:
        return False
    if message[0] == "leave":
        # Whoever is waiting to be taken is served; the others find nobody, and start the container again.
        _accept(service)
        return bool(service.tasks) or not _reap(service)
    if message[0] == "end" and not service.ending:
        service.ending = True
        if not service.full:
            service.poll.unregister(service.listener)
        service.listener.close()
        try:
            os.kill(-1, signal.SIGTERM)
            os.kill(-1, signal.SIGCONT)
        except ProcessLookupError:
            pass
    return True


def _accept(service: _Service) -> None:
    while True:
        if len(service.tasks) >= _MOST_TASKS:
            break
        try:
            connection, _ = service.listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in (errno.ECONNABORTED, errno.EINTR):
                continue
            break
        connection.setblocking(False)
        task = _Task(connection)
        service.tasks[connection.fileno()] = task
        service.poll.register(connection, select.POLLIN)
    if service.tasks and not service.full:
        # Who comes now waits until there is room; asking again and again would only take time.
        service.full = True
        service.poll.unregister(service.listener)


def _obey(service: _Service, task: _Task) -> None:
    try:
        message = hear(task.connection)
    except BlockingIOError:
        # It has the number of one that was closed in the same turn.
        return
    if message is None:
        _forget(service, task)
        _signal(task, signal.SIGKILL)
        return
    words, fds = message
    try:
        if words == "exec" and not task.pid:
            _take(service, task, fds)
        elif words.startswith("signal "):
            _signal(task, int(words[7:]))
    finally:
        for fd in fds:
            os.close(fd)


def _take(service: _Service, task: _Task, fds: tuple[int, ...]) -> None:
    with open(fds[0], "rb", closefd=False) as file:
        order = decode(file.read())
    order = order._replace(
        environment=tuple({**service.environment, **dict(order.environment)}.items()),
        workdir=service.workdir if order.workdir is None else order.workdir,
    )
    _say(task, "taken")
    try:
        if order.terminal is None:
            _spawn(task, order, tuple(fds[1 + place] for place in order.places if place is not None))
        else:
            _fork(service, task, order, fds)
    except OSError as error:
        where = "chdir" if error.filename == order.workdir else "exec"
        _say(task, f"unrunnable {error.errno} {where}")
        _say(task, f"exited {NOT_FOUND} 0 0 0 0")
        _forget(service, task)


def _spawn(task: _Task, order: Order, stdio: tuple[int, ...]) -> None:
    """Start a command without a copy of this process (vfork(2)), which spares the time and the memory of one."""
    started = subprocess.Popen(
        order.arguments,
        stdin=stdio[0],
        stdout=stdio[1],
        stderr=stdio[2],
        close_fds=False,
        cwd=order.workdir,
        env=dict(order.environment),
        start_new_session=True,
    )
    # It is buried with all others.
    started.returncode = 0
    task.pid = started.pid
    _say(task, f"started {task.pid}")


def _fork(service: _Service, task: _Task, order: Order, fds: tuple[int, ...]) -> None:
    """Start a command on a terminal of its own."""
    assert order.terminal is not None
    terminal = _open_terminal(order.terminal, task)
    try:
        stdio = tuple(terminal if place is None else fds[1 + place] for place in order.places)
        told, tell = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            pid = os.fork()
        except OSError:
            os.close(told)
            os.close(tell)
            raise
        if pid == 0:
            _execute(order, stdio, terminal, tell)
        os.close(tell)
        task.pid, task.told = pid, told
        service.told[told] = task
        service.poll.register(told, select.POLLIN)
    finally:
        os.close(terminal)


def _open_terminal(settings: TerminalSettings, task: _Task) -> int:
    # This node can't be replaced, as /dev/ptmx can; and the other end is had without a path.
    master = os.open("/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.ioctl(master, _TIOCSPTLCK, b"\0\0\0\0")
        terminal = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        if settings.attributes is not None:
            termios.tcsetattr(terminal, termios.TCSANOW, settings.attributes)
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, settings.size)
        say(task.connection, "terminal", (master,))
    finally:
        os.close(master)
    return terminal


def _execute(order: Order, stdio: tuple[int, ...], terminal: int, tell: int) -> NoReturn:
    try:
        where = "start"
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
            for target, source in enumerate(stdio):
                os.dup2(source, target)
            where = "chdir"
            os.chdir(order.workdir or "/")
            where = "exec"
            environment = dict(order.environment)
            if "/" in order.arguments[0]:
                os.execve(order.arguments[0], order.arguments, environment)
            os.execvpe(order.arguments[0], order.arguments, environment)
        except OSError as error:
            os.write(tell, f"{error.errno} {where}".encode())
        except ValueError:
            os.write(tell, f"{errno.EINVAL:d} {where}".encode())
    finally:
        os._exit(NOT_FOUND)


def _tell_start(service: _Service, task: _Task) -> None:
    """Say that the command runs, or why it doesn't."""
    failure = os.read(task.told, 100).decode()
    service.poll.unregister(task.told)
    del service.told[task.told]
    os.close(task.told)
    task.told = -1
    _say(task, f"unrunnable {failure}" if failure else f"started {task.pid}")
    if task.ended:
        _finish(service, task)


def _reap(service: _Service) -> bool:
    """Bury the dead; True when no process but this one is left."""
    by_pid: dict[int, _Task] = {}
    while True:
        try:
            pid, status, used = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return True
        if pid == 0:
            return False
        by_pid = by_pid or {task.pid: task for task in (*service.tasks.values(), *service.told.values())}
        task = by_pid.get(pid)
        if task is None:
            continue
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        task.ended = f"exited {code} {number} {used.ru_utime:.6f} {used.ru_stime:.6f} {used.ru_maxrss}"
        if task.told < 0:
            _finish(service, task)


def _finish(service: _Service, task: _Task) -> None:
    _say(task, task.ended)
    _forget(service, task)


def _forget(service: _Service, task: _Task) -> None:
    if service.tasks.pop(task.connection.fileno(), None) is not None:
        service.poll.unregister(task.connection)
        task.connection.close()
        if service.full and not service.ending:
            service.full = False
            service.poll.register(service.listener, select.POLLIN)


def _signal(task: _Task, number: int) -> None:
    """Signal the command's process group, while its number can't be another's."""
    if not task.pid or task.ended:
        return
    try:
        os.killpg(task.pid, number)
    except ProcessLookupError:
        # It has not made its group yet.
        os.kill(task.pid, number)


def _say(task: _Task, words: str) -> None:
    try:
        say(task.connection, words)
    except OSError:
        # Whoever asked has gone; the connection's end is found next.
        return
