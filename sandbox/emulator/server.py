"""Serving: a socket, uvicorn on it, and an end that waits for what is under way."""

import ipaddress
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from sandbox.emulator.app import create_app
from sandbox.emulator.connections import Connection
from sandbox.emulator.gate import Door
from sandbox.errors import HostError, InputError
from sandbox.managed import files, turns
from sandbox.managed.service import Service

_BUSY = 98
_GRACE_S = 5
# The official clients let go of an idle connection after five seconds. A server that does so just then cuts off the
# next request on it.
KEEP_ALIVE_S = 15
_MOST = 1000
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. InputError when the port is taken, HostError when the address can't be had."""
    if not 0 <= port < 1 << 16:
        raise InputError(f"{port} is no port", hint="a port is a number from 0 to 65535")
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except (OSError, OverflowError, UnicodeError) as error:
        raise _unusable(host, port, error) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets take this over: an answer of two writes would wait 40 ms for the client's acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind(address)
        listener.listen(1024)
    except (OSError, OverflowError) as error:
        listener.close()
        if isinstance(error, OSError) and error.errno == _BUSY:
            raise InputError(
                f"port {port} of {host} is taken by another program",
                hint="choose another with --port, or any free one with --port 0",
            ) from error
        raise _unusable(host, port, error) from error
    return listener


def _unusable(host: str, port: int, error: Exception) -> HostError:
    return HostError(
        f"{host}, port {port}, can't be listened on: {error}", hint="choose another --host or --port"
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def door_for(host: str, key: str | None) -> Door:
    """Who gets in at ``host``. InputError when others than this machine would, and no key is demanded.

    On loopback a request has to call us by a name of loopback's: a web page that lets its own name lead here is
    refused by that. Without a key it has to come from the same user: others of the machine reach loopback, too.
    """
    if is_loopback(host):
        return Door(key, tuple(dict.fromkeys((*_LOOPBACK_NAMES, host.lower()))))
    if not key:
        raise InputError(
            f"--host {host} lets other machines in, and anybody could run code here",
            hint="set a key that clients have to send: SANDBOXSH_API_KEY in the environment, or --api-key",
        )
    return Door(key, ())


def url_of(listener: socket.socket, host: str) -> str:
    """Where clients find ``listener``, which listens on ``host``."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}"


def most_connections() -> int:
    """How many connections a server takes when nobody says otherwise: half of what this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else max(1, min(_MOST, soft // 2))


class Server(uvicorn.Server):
    """Ends at the first SIGINT or SIGTERM when what is under way is answered, at once at the second SIGINT.

    ``most``: how many connections it takes.
    """

    def __init__(
        self,
        service: Service,
        door: Door,
        on_stop: Callable[[], None] = lambda: None,
        *,
        most: int | None = None,
    ) -> None:
        config = uvicorn.Config(
            create_app(service, door),
            log_config=None,
            access_log=False,
            http=Connection,
            lifespan="off",
            limit_concurrency=most or most_connections(),
            timeout_graceful_shutdown=_GRACE_S,
            timeout_keep_alive=KEEP_ALIVE_S,
            server_header=False,
        )
        super().__init__(config)
        files.sweep(service)
        turns.take_up(service)
        self.service = service
        self.on_stop = on_stop

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        import threading

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        kept = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in kept.items():
                signal.signal(number, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Streams end by that, and nobody waits for a turn.
        self.service.live.end()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        del frame
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        elif not self.should_exit:
            self.on_stop()
        self.should_exit = True
